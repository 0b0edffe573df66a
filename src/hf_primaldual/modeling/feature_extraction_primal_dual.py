"""Raw series in, standardized and padded batches with their mask out."""

import inspect
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature

from .keywords_primal_dual import refuse_near_misses, unexpected


class PrimalDualTimeSeriesFeatureExtractor(SequenceFeatureExtractor):
    r"""
    Standardizes each channel by the training set's mean and standard deviation, pads on the right, and masks.

    Args:
        feature_size (`int`, *optional*, defaults to 1):
            Channels of the series.
        sampling_rate (`int`, *optional*, defaults to 1):
            Steps per unit of time; kept for the reader, nothing is resampled.
        padding_value (`float`, *optional*, defaults to 0.0):
            What padded steps hold. The models mask them.
        mean, std (`list[float]`, *optional*):
            Per channel, in the units of the data, as [`~PrimalDualTimeSeriesFeatureExtractor.fit`] finds them. Without
            them values pass as they are.
        missing_values (`str`, *optional*, defaults to `"error"`):
            What becomes of a NaN: `"error"`, or `"mean"`, the channel's training mean.

    Raises:
        TypeError: for an unknown keyword, with the nearest one that is known.
        ValueError: for no channel, `mean` and `std` of another length than `feature_size`, a `mean` not finite,
            a `std` that is not positive, or an unknown `missing_values` or `padding_side`.
    """

    model_input_names = ["past_values", "attention_mask"]

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = 1,
        padding_value: float = 0.0,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        missing_values: str = "error",
        **kwargs: Any,
    ):
        for name in kwargs:
            if not self._knows(name):
                raise TypeError(f"{type(self).__name__} got {unexpected(name, self._fields())}")
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)
        if feature_size < 1:
            raise ValueError(f"`feature_size` must be a number of channels, at least 1, got {feature_size}.")
        if self.padding_side not in ("left", "right"):
            raise ValueError(f"`padding_side` must be 'left' or 'right', got {self.padding_side!r}.")
        if missing_values not in ("error", "mean"):
            raise ValueError(f"`missing_values` must be 'error' or 'mean', got {missing_values!r}.")
        if (mean is None) != (std is None):
            raise ValueError("`mean` and `std` go together; give both or neither.")
        if mean is not None:
            mean, std = [float(value) for value in mean], [float(value) for value in std]
            if not len(mean) == len(std) == feature_size:
                raise ValueError(
                    f"`mean` and `std` must hold one entry for each of the {feature_size} channels, got {len(mean)} "
                    f"and {len(std)}."
                )
            if not np.isfinite(mean).all():
                raise ValueError(f"`mean` must be finite, got {mean}.")
            if not all(0 < deviation < np.inf for deviation in std):
                raise ValueError(f"`std` must be positive and finite, got {std}.")
        self.mean, self.std, self.missing_values = mean, std, missing_values

    @classmethod
    def _fields(cls) -> list[str]:
        return [*inspect.signature(cls.__init__).parameters, "padding_side", "return_attention_mask"]

    @classmethod
    def _knows(cls, name: str) -> bool:
        """Whether a name is a field, or one that transformers writes beside them."""
        return name in (*cls._fields(), "auto_map", "feature_extractor_type", "processor_class") or name[0] == "_"

    @classmethod
    def from_dict(cls, feature_extractor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Entries of other programs stay as attributes; one that is nearly a field is refused."""
        foreign = {name: value for name, value in feature_extractor_dict.items() if not cls._knows(name)}
        refuse_near_misses(cls, (*foreign, *kwargs), cls._knows, cls._fields())
        known = {name: value for name, value in feature_extractor_dict.items() if name not in foreign}
        result = super().from_dict(known, **kwargs)
        vars(result[0] if isinstance(result, tuple) else result).update(foreign)
        return result

    def fit(self, series: Iterable) -> "PrimalDualTimeSeriesFeatureExtractor":
        """
        Takes the mean and the standard deviation of each channel over all steps of the training series; missing values
        do not count, and a constant channel is only centred.

        Args:
            series (iterable of arrays of shape `(time, channels)`): the training set, and it alone.

        Returns:
            This feature extractor.

        Raises:
            ValueError: for no series at all, a series of another shape, an infinite value, a channel that has no
                value at all, or whose deviation is infinite.
        """
        steps = np.concatenate(self._checked(series, "series", may_miss=True))
        empty = np.flatnonzero(np.isnan(steps).all(axis=0))
        if len(empty):
            raise ValueError(f"`series` must have a value in every channel, got none in channels {empty.tolist()}.")
        # From the least value on: the differences of a constant channel are exact zeros.
        least = np.nanmin(steps, axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            mean, std = least + np.nanmean(steps - least, axis=0), np.nanstd(steps - least, axis=0)
        if not np.isfinite([mean, std]).all():
            raise ValueError(f"`series` must have a finite mean and deviation, got {mean.tolist()}, {std.tolist()}.")
        self.mean, self.std = mean.tolist(), np.where(std > 0, std, 1.0).tolist()
        return self

    def __call__(self, past_values: Any, **kwargs: Any) -> BatchFeature:
        """
        Args:
            past_values: one series, an array of shape `(time, channels)`, or a list or an array of several, `(batch,
                time, channels)`; univariate ones may leave the channels out.
            kwargs: those of [`~PrimalDualTimeSeriesFeatureExtractor.pad`].

        Returns:
            `BatchFeature` with `past_values` of shape `(batch, time, channels)`, float32, and `attention_mask` of
            shape `(batch, time)`.

        Raises:
            ValueError: for no series at all, a series of no steps or of another number of channels, a value that is
                infinite, or missing while `missing_values="error"`; it names the series and the step.
        """
        batch = [past_values] if self.is_single(past_values) else past_values
        batch = self._checked(batch, "past_values", may_miss=self.missing_values == "mean")
        # All series at once: one call for each would take longer than its arithmetic.
        values = np.concatenate(batch)
        missing = np.isnan(values)
        if self.mean is not None:
            values = (values - np.asarray(self.mean)) / np.asarray(self.std)
        # Standardized, the training mean is zero.
        with np.errstate(over="ignore"):
            values = np.where(missing, 0.0, values).astype(np.float32)
        standardized = np.split(values, np.cumsum([len(series) for series in batch])[:-1])
        return self.pad({"past_values": standardized}, **kwargs)

    def pad(
        self,
        processed_features: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """
        Pads what `__call__` has standardized already: what `DataCollatorWithPadding` and so Trainer asks for.

        Args:
            processed_features: a list of dictionaries, or a dictionary of lists, with `past_values` of shape `(time,
                channels)`, where univariate ones may leave the channels out; other entries, such as labels, pass.
            padding, max_length, truncation, pad_to_multiple_of, return_attention_mask, return_tensors: as for
                `SequenceFeatureExtractor.pad`, which takes ten times as long.

        Returns:
            As `__call__`, with the other entries.

        Raises:
            ValueError: for no series at all, a series of no steps or of another number of channels, or a value that is
                missing or infinite.
        """
        if isinstance(processed_features, list | tuple):
            names = processed_features[0] if processed_features else ()
            processed_features = {name: [features[name] for features in processed_features] for name in names}
        features = dict(processed_features)
        series = self._checked(features.pop("past_values", ()), "past_values", may_miss=False)
        masks = features.pop("attention_mask", None) or [np.ones(len(values)) for values in series]
        if truncation and max_length is None:
            raise ValueError("`max_length` must be given with `truncation`, got None.")
        multiple = pad_to_multiple_of or 1
        if max_length is not None:
            max_length = math.ceil(max_length / multiple) * multiple
        if truncation:
            series, masks = [values[:max_length] for values in series], [mask[:max_length] for mask in masks]
        strategy = self._get_padding_strategies(padding, max_length)
        if strategy == "do_not_pad":
            padded = [values.astype(np.float32) for values in series]
            mask = [np.asarray(mask, np.int32) for mask in masks]
        else:
            length = math.ceil(max(map(len, series)) / multiple) * multiple
            if strategy == "max_length":
                length = max(length, max_length)
            padded = np.full((len(series), length, self.feature_size), self.padding_value, np.float32)
            mask = np.zeros((len(series), length), np.int32)
            for row, values in enumerate(series):
                steps = slice(length - len(values), None) if self.padding_side == "left" else slice(len(values))
                padded[row, steps], mask[row, steps] = values, masks[row]
        features["past_values"] = padded
        if return_attention_mask if return_attention_mask is not None else self.return_attention_mask:
            features["attention_mask"] = mask
        return BatchFeature(features, tensor_type=return_tensors)

    def is_single(self, past_values: Any) -> bool:
        """Whether this is one series; else it is several of them, or none at all."""
        if not hasattr(past_values, "__len__"):
            raise ValueError(f"`past_values` must be an array or a list of series, got {type(past_values).__name__}.")
        depth, first = 0, past_values
        while isinstance(first, list | tuple):
            depth, first = depth + 1, first[0] if first else None
        depth += getattr(first, "ndim", 0)
        # With one channel, numbers in a row are a series, and so is a column of them.
        is_column = depth == 2 and self.feature_size == 1 and all(len(step) == 1 for step in past_values)
        return len(past_values) > 0 and (depth == 1 or is_column or (depth == 2 and self.feature_size > 1))

    def _checked(self, series: Iterable, name: str, may_miss: bool) -> list[np.ndarray]:
        """The series as arrays `(time, channels)`, one at least, their values finite or, if they may be, missing."""
        checked = [self._as_array(values, index) for index, values in enumerate(series)]
        if not checked:
            raise ValueError(f"`{name}` must hold at least one series, got none.")
        # All at once: one call for each would take longer.
        if np.isfinite(np.concatenate(checked)).all():
            return checked
        for index, values in enumerate(checked):
            wrong = np.isinf(values) if may_miss else ~np.isfinite(values)
            for step in np.flatnonzero(wrong.any(axis=1)):
                message = f"Series {index} must be finite, got {values[step].tolist()} at step {step}"
                if np.isnan(values[step]).any():
                    message += "; clean a missing value (NaN), or set `missing_values='mean'`"
                raise ValueError(f"{message}.")
        return checked

    def _as_array(self, series: Any, index: int) -> np.ndarray:
        """A series as `(time, channels)`, in float64: near a large offset float32 has no room for the values."""
        if isinstance(series, np.ma.MaskedArray):
            # What is masked is missing.
            series = np.ma.filled(series.astype(np.float64), np.nan)
        try:
            if np.iscomplexobj(series):
                raise TypeError("complex numbers have two parts, which are two channels")
            values = np.asarray(series, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Series {index} must be numbers of shape (time, channels), with {self.feature_size} channels at each "
                f"step: {error}"
            ) from error
        if values.ndim == 1 and self.feature_size == 1:
            values = values[:, None]
        if values.ndim != 2 or values.shape[1] != self.feature_size or len(values) == 0:
            raise ValueError(
                f"Series {index} must have shape (time, channels) with at least one step and {self.feature_size} "
                f"channels, got {values.shape}."
            )
        return values


PrimalDualTimeSeriesFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")


__all__ = ["PrimalDualTimeSeriesFeatureExtractor"]
