"""The pipeline that classifies raw series."""

from transformers.pipelines.base import GenericTensor, Pipeline


class TimeSeriesClassificationPipeline(Pipeline):
    """
    Classifies raw series: `pipeline("time-series-classification", model=folder, trust_remote_code=True)(series)`.

    A series is an array of shape `(time, channels)` in the units of the training data. The answer is a list of
    `{"label", "score"}`, best first, of which `top_k` are kept (default: all); a list of series gives a list of those.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = True
    _load_tokenizer = False

    def _sanitize_parameters(self, top_k: int | None = None):
        if top_k is not None and top_k < 1:
            raise ValueError(f"`top_k` must be at least 1, got {top_k}.")
        return {}, {}, {"top_k": top_k}

    def preprocess(self, series) -> dict[str, GenericTensor]:
        return self.feature_extractor([series], return_tensors="pt")

    def _forward(self, model_inputs):
        return self.model(**model_inputs)

    def postprocess(self, model_outputs, top_k: int | None = None) -> list[dict]:
        scores = model_outputs["logits"][0].float().softmax(-1)
        best = scores.argsort(descending=True, stable=True)[:top_k]
        return [{"label": self.model.config.id2label[i], "score": scores[i].item()} for i in best.tolist()]


__all__ = ["TimeSeriesClassificationPipeline"]
