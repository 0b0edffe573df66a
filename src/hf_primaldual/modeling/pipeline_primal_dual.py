"""The pipeline that classifies raw series."""

import torch
from transformers.pipelines.base import GenericTensor, Pipeline

# What turns logits of shape (labels,) into scores.
_FUNCTIONS = {"softmax": lambda logits: logits.softmax(-1), "sigmoid": torch.sigmoid, "none": lambda logits: logits}


class TimeSeriesClassificationPipeline(Pipeline):
    """
    Classifies raw series: `pipeline("time-series-classification", model=folder)(series)`.

    A series is an array, a tensor or nested lists of shape `(time, channels)` in the units of the training data. The
    answer is a list of `{"label", "score"}`, best first, of which `top_k` are kept (default: all). Several series, in
    a list or an array, give a list of those. `function_to_apply` turns logits into scores: "softmax", "sigmoid" or
    "none". By default, as for texts, it is none for a regression, sigmoid for one label or several at once, else
    softmax.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = True
    _load_tokenizer = False

    def __call__(self, series, **kwargs):
        if not isinstance(series, list | tuple) and not hasattr(series, "ndim"):
            # A generator or a data set.
            return super().__call__(series, **kwargs)
        if not len(series):
            raise ValueError("`series` must hold at least one series, got none.")
        if self.feature_extractor.is_single(series):
            return super().__call__([series], **kwargs)[0]
        return super().__call__(list(series), **kwargs)

    def _sanitize_parameters(self, top_k: int | None = None, function_to_apply: str | None = None):
        if top_k is not None and not (isinstance(top_k, int) and top_k >= 1):
            raise ValueError(f"`top_k` must be at least 1, got {top_k!r}.")
        if function_to_apply not in (None, *_FUNCTIONS):
            raise ValueError(f"`function_to_apply` must be of {', '.join(_FUNCTIONS)}, got {function_to_apply!r}.")
        given = {"top_k": top_k, "function_to_apply": function_to_apply}
        return {}, {}, {name: value for name, value in given.items() if value is not None}

    def preprocess(self, series) -> dict[str, GenericTensor]:
        return self.feature_extractor([series], return_tensors="pt")

    def _forward(self, model_inputs):
        return self.model(**model_inputs)

    def postprocess(self, model_outputs, top_k: int | None = None, function_to_apply: str | None = None) -> list[dict]:
        config = self.model.config
        if function_to_apply is None and config.problem_type == "regression":
            function_to_apply = "none"
        elif function_to_apply is None:
            several = config.problem_type == "multi_label_classification" or config.num_labels == 1
            function_to_apply = "sigmoid" if several else "softmax"
        scores = _FUNCTIONS[function_to_apply](model_outputs["logits"][0].float())
        best = scores.argsort(descending=True, stable=True)[:top_k]
        return [{"label": config.id2label[i], "score": scores[i].item()} for i in best.tolist()]


__all__ = ["TimeSeriesClassificationPipeline"]
