"""Time series as a task: a feature extractor fitted on the training set, and the model that learns them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Array2D
from transformers.hf_argparser import HfArg

from hf_primaldual import PrimalDualTimeSeriesFeatureExtractor, PrimalDualTimeSeriesForSequenceClassification
from hf_primaldual.data import class_weights, series_arrays, series_dataset
from hf_primaldual.data.splits import column_of

from .arguments import AttentionArguments, ComparisonArguments
from .losses import weighted_cross_entropy
from .series_sources import Loader, SeriesDataArguments, series_source
from .task import Task, with_ids


@dataclass
class SeriesModelArguments(AttentionArguments):
    """The model: its attentions, and the encoder of the paper's smaller UEA set-up."""

    hidden_size: int = HfArg(default=64, help="Width.")
    num_hidden_layers: int = HfArg(default=3, help="Layers.")
    num_attention_heads: int = HfArg(default=8, help="Heads.")
    intermediate_size: int = HfArg(default=256, help="Width inside the feed-forward blocks.")
    dropout: float = HfArg(default=0.1, help="Dropout of attention maps, sublayers and classifier.")
    norm_type: str = HfArg(default="batch", help="Norm between sublayers, batch or layer.")
    norm_position: str = HfArg(default="post", help="Norm after (post) or before (pre) a sublayer.")
    pooling: str = HfArg(default="flatten", help="Input of the classifier, flatten or mean.")
    initializer_range: float = HfArg(default=0.02, help="Deviation of the initial weights.")


@dataclass
class SeriesTrainingArguments(ComparisonArguments):
    """The training, with the paper's UEA settings as defaults."""

    output_dir: str = HfArg(default="outputs/time-series", help="Folder of this run and no other.")
    optimizer: str = HfArg(default="radam", help="radam, the paper's; or trainer, for that of --optim.")
    learning_rate: float = HfArg(default=1e-3, help="Peak learning rate.")
    max_grad_norm: float = HfArg(default=4.0, help="Gradients are clipped to this norm.")
    num_train_epochs: float = HfArg(default=40, help="Epochs of each run.")
    per_device_train_batch_size: int = HfArg(default=16, help="Series per step.")
    per_device_eval_batch_size: int = HfArg(default=128, help="Series per evaluation step.")
    lr_scheduler_type: str = HfArg(default="cosine", help="Schedule of the learning rate.")


class SeriesTask(Task):
    """Series, of the UEA archive or anybody's."""

    kind = "time-series-classification"
    model_class = PrimalDualTimeSeriesForSequenceClassification

    def stretched(self, example: Mapping[str, Any], tokens: int) -> dict[str, Any]:
        """See `Task`: the series, repeated until it has `tokens` steps."""
        return {**example, "past_values": np.resize(example["past_values"], (tokens, self.processor.feature_size))}

    def measuring_batch(self, batch: int, tokens: int) -> dict[str, torch.Tensor]:
        """See `Task`; nothing is padded."""
        inputs = super().measuring_batch(batch, tokens)
        del inputs["attention_mask"]
        return inputs


def series_task(
    data_args: SeriesDataArguments,
    model_args: SeriesModelArguments,
    args: SeriesTrainingArguments | None = None,
    sources: Mapping[str, Loader] | None = None,
) -> SeriesTask:
    """The task that the arguments name; see `series_source`."""
    splits, source = series_source(data_args, sources)
    task = prepare_series(
        splits,
        source,
        model_args,
        data_args.max_steps_per_series,
        missing_values=data_args.missing_values,
        weights=data_args.class_weights,
        label_smoothing=args.label_smoothing_factor if args else 0.0,
        validation_share=data_args.validation_share,
        test_share=data_args.test_share,
        window=data_args.window,
        stride=data_args.stride,
        too_long=data_args.too_long,
        **data_args.layout,
    )
    task.settings |= data_args.settings
    return task


def prepare_series(
    data: Any,
    source: dict[str, Any],
    model_args: SeriesModelArguments,
    max_steps: int | None = None,
    *,
    missing_values: str = "error",
    validation_share: float = 0.2,
    weights: str | None = None,
    label_smoothing: float = 0.0,
    **reading: Any,
) -> SeriesTask:
    """
    The task of series that `series_dataset` reads from `data`, with a feature extractor fitted on the training set.

    `max_steps` are the positions of the model, by default those of the longest series; `weights` may be `"balanced"`;
    `reading` are further arguments of `series_dataset`, which must give a test set.
    """
    shares = {"validation_share": validation_share}
    splits = series_dataset(data, max_steps=max_steps, missing_values=missing_values, **shares, **reading)
    columns = {name: column_of(split, "past_values") for name, split in splits.items()}
    counts = np.concatenate([pc.list_value_length(column).to_numpy() for column in columns.values()])
    lengths = (int(counts.min()), int(counts.max()))
    channels = len(columns["train"][0][0])
    positions = max_steps or lengths[1]
    settings = {"max_position_embeddings": positions, "missing_values": missing_values}
    if not (isinstance(data, Mapping) and "validation" in data):
        settings |= shares
    if "group" in splits["train"].column_names:
        groups = {name: len(column_of(split, "group").unique()) for name, split in splits.items()}
        settings["groups"] = ", ".join(f"{name} {count}" for name, count in groups.items())
    if reading.get("window") is not None or reading.get("too_long") == "window":
        windows = ", ".join(f"{name} {len(split)}" for name, split in splits.items())
        settings["windows"] = f"{windows}, which vote on their series"
    else:
        # Rows of one name are no windows.
        splits = splits.remove_columns("recording")
    class_weight = torch.tensor(class_weights(splits["train"]), dtype=torch.float32) if weights else None
    if any(column.flatten().flatten().null_count for column in columns.values()):
        # An array of `datasets` has NaN where something is missing, and no nulls.
        splits = splits.map(_with_nans, input_columns="past_values")
    # As lists of lists, numbers would be turned into arrays one by one, which takes longer than a small model's step;
    # and `datasets` makes arrays of float32, before anything is centred, where it is not told otherwise.
    splits = with_ids(splits).cast_column("past_values", Array2D((None, channels), "float64"))
    splits = splits.with_format("numpy", columns=["past_values"], output_all_columns=True, dtype=np.float64)
    feature_extractor = PrimalDualTimeSeriesFeatureExtractor(feature_size=channels, missing_values=missing_values)
    feature_extractor.fit(series_arrays(splits["train"]))
    return SeriesTask(
        splits=splits,
        source={**source, "channels": channels, "length": list(lengths)},
        processor=feature_extractor,
        collate=partial(_collate, feature_extractor),
        lengths=lengths,
        model_args=model_args,
        data_fields={"num_channels": channels, "max_position_embeddings": positions},
        settings=settings,
        class_weight=class_weight,
        compute_loss=None
        if class_weight is None
        else partial(weighted_cross_entropy, class_weight, label_smoothing=label_smoothing),
    )


def _collate(feature_extractor: PrimalDualTimeSeriesFeatureExtractor, examples: list[dict]) -> dict[str, torch.Tensor]:
    batch = feature_extractor([example["past_values"] for example in examples], return_tensors="pt")
    return {**batch, "labels": torch.tensor([int(example["labels"]) for example in examples])}


def _with_nans(values: list[list[float | None]]) -> dict[str, np.ndarray]:
    return {"past_values": np.array(values, dtype=np.float64)}
