"""What the classifier of time series is given: rows, arrays, lists, tables or files, as series and their classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from datasets import ClassLabel, Dataset
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from .data.series import read_series, series_arrays
from .data.splits import column_of


def series_and_classes(estimator: BaseEstimator, X, y) -> tuple[Sequence[np.ndarray], np.ndarray]:
    """The series to train on, each `(time, channels)`, and the class of each, which `X` may hold if `y` is `None`."""
    X = _unpacked(X)
    if _is_flat(X, estimator.layout):
        _check_has_classes(estimator, y is not None)
        X, y = validate_data(estimator, X, y, **_numbers(estimator))
        series = X[:, :, None]
    else:
        # A fit before may have been of rows, whose length scikit-learn holds on to.
        for name in ("n_features_in_", "feature_names_in_"):
            vars(estimator).pop(name, None)
        by_id = isinstance(y, pd.Series) and "id_column" in (estimator.layout or {})
        split = _table(estimator, X, y if by_id else None, may_lack_labels=by_id)
        series = series_arrays(split)
        if by_id or y is None:
            _check_has_classes(estimator, "labels" in split.column_names)
            feature, y = split.features["labels"], column_of(split, "labels").to_pandas().to_numpy()
            y = np.array(feature.names)[y] if isinstance(feature, ClassLabel) else y
    y = check_array(column_or_1d(y, warn=True), ensure_2d=False, dtype=None)
    check_consistent_length(series, y)
    check_classification_targets(y)
    return series, y


def series_to_classify(estimator: BaseEstimator, X) -> Sequence[np.ndarray]:
    """Series, each `(time, channels)`, of as many channels as the fitted classifier's model has."""
    X = _unpacked(X)
    if flat := _is_flat(X, estimator.layout):
        series = validate_data(estimator, X, reset=False, **_numbers(estimator))[:, :, None]
    else:
        series = series_arrays(_table(estimator, X, None, may_lack_labels=True))
    channels, expected = series[0].shape[1], estimator.feature_extractor_.feature_size
    if channels != expected:
        hint = ""
        if flat:
            hint = "; rows are univariate series: one series with channels is `X[None]`"
        elif {len(values) for values in series} == {expected}:
            hint = "; it looks like (channels, time): set `channels_first=True`"
        raise ValueError(f"`X` has series of {channels} channels, and the model was fitted on {expected}{hint}.")
    return series


def _unpacked(X):
    return list(X) if isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1 else X


def _numbers(estimator: BaseEstimator) -> dict[str, Any]:
    return {"dtype": np.float64, "ensure_all_finite": "allow-nan" if estimator.missing_values == "mean" else True}


def _table(estimator: BaseEstimator, X, y, may_lack_labels: bool) -> Dataset:
    layout = {"channels_first": estimator.channels_first, **(estimator.layout or {})}
    return read_series(X, y, may_lack_labels=may_lack_labels, **layout)


def _check_has_classes(estimator: BaseEstimator, given: bool) -> None:
    if not given:
        # The words that scikit-learn's checks look for.
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is None, and `X` holds no classes."
        )


def _is_flat(X, layout: dict[str, Any] | None) -> bool:
    """Whether X is rows of numbers, each a univariate series: what scikit-learn itself checks."""
    if isinstance(X, pd.DataFrame):
        return layout is None and X.index.nlevels == 1 and all(map(pd.api.types.is_numeric_dtype, X.dtypes))
    if hasattr(X, "ndim"):
        return X.ndim < 3
    if hasattr(X, "__arrow_c_stream__") or not (isinstance(X, list | tuple) or hasattr(X, "__array__")):
        return False
    try:
        return np.asarray(X).ndim < 3
    except ValueError:
        # Of several lengths.
        return False
