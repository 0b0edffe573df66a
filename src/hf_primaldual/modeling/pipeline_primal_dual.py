"""The pipeline that classifies raw series."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.pipelines.base import GenericTensor, Pipeline
from transformers.utils import ModelOutput

# What turns logits of shape (labels,) into scores.
_FUNCTIONS = {"softmax": lambda logits: logits.softmax(-1), "sigmoid": torch.sigmoid, "none": lambda logits: logits}


class TimeSeriesClassificationPipeline(Pipeline):
    """
    Classifies raw series: `pipeline("time-series-classification", model=folder)(series)`.

    A series is an array, a tensor, a DataFrame or nested lists of shape `(time, channels)` in the units of the
    training data, or the path of one: `.csv` or `.parquet` with a row a step and a column a channel, `.npy`, or
    `.npz` with one array a series. The answer is a list of `{"label", "score"}`, best first, of which `top_k` are
    kept (default: all). Several series, in a list or an array `(series, time, channels)`, give a list of those.
    `function_to_apply` turns logits into scores: "softmax", "sigmoid" or "none". By default, as for texts, it is
    none for a regression, sigmoid for one label or several at once, else softmax.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = True
    _load_tokenizer = False

    def __call__(self, series: Any, **kwargs: Any) -> Any:
        series = _as_arrays(series)
        if not isinstance(series, list | tuple) and not hasattr(series, "ndim"):
            # A generator or a data set.
            return super().__call__(series, **kwargs)
        if not len(series):
            raise ValueError("`series` must hold at least one series, got none.")
        if self.feature_extractor.is_single(series):
            return super().__call__([series], **kwargs)[0]
        return super().__call__([_as_arrays(values) for values in series], **kwargs)

    def _sanitize_parameters(
        self, top_k: int | None = None, function_to_apply: str | None = None
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if top_k is not None and not (isinstance(top_k, int) and top_k >= 1):
            raise ValueError(f"`top_k` must be at least 1, got {top_k!r}.")
        if function_to_apply not in (None, *_FUNCTIONS):
            raise ValueError(f"`function_to_apply` must be of {', '.join(_FUNCTIONS)}, got {function_to_apply!r}.")
        given = {"top_k": top_k, "function_to_apply": function_to_apply}
        return {}, {}, {name: value for name, value in given.items() if value is not None}

    def preprocess(self, series: Any) -> dict[str, GenericTensor]:
        return self.feature_extractor([series], return_tensors="pt")

    def _forward(self, model_inputs: dict[str, GenericTensor]) -> ModelOutput:
        return self.model(**model_inputs)

    def postprocess(
        self, model_outputs: ModelOutput, top_k: int | None = None, function_to_apply: str | None = None
    ) -> list[dict[str, Any]]:
        config = self.model.config
        if function_to_apply is None and config.problem_type == "regression":
            function_to_apply = "none"
        elif function_to_apply is None:
            several = config.problem_type == "multi_label_classification" or config.num_labels == 1
            function_to_apply = "sigmoid" if several else "softmax"
        scores = _FUNCTIONS[function_to_apply](model_outputs["logits"][0].float())
        best = scores.argsort(descending=True, stable=True)[:top_k]
        return [{"label": config.id2label[i], "score": scores[i].item()} for i in best.tolist()]


def _as_arrays(series: Any) -> Any:
    """What a path or a DataFrame holds, as an array or a list of arrays; anything else as it is."""
    if isinstance(series, str | os.PathLike):
        series = _read(Path(series))
    return series.to_numpy() if hasattr(series, "to_numpy") else series


def _read(path: Path) -> Any:
    if path.suffix in (".npy", ".npz"):
        arrays = np.load(path)
        return arrays if path.suffix == ".npy" else list(arrays.values())
    try:
        # Only here: a checkpoint's code needs no more than torch, transformers and NumPy.
        import pandas as pd
    except ImportError as error:
        raise ImportError(f"{path} is read by pandas, which is not installed.") from error
    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    if path.suffix not in readers:
        raise ValueError(f"`series` must be a path that ends in .npy, .npz, .csv or .parquet, got {str(path)!r}.")
    return readers[path.suffix](path)


__all__ = ["TimeSeriesClassificationPipeline"]
