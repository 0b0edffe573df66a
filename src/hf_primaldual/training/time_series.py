"""Time series as a task: a feature extractor fitted on the training set, and the model that learns them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Array2D, DatasetDict
from transformers.hf_argparser import HfArg

from hf_primaldual import PrimalDualTimeSeriesFeatureExtractor, PrimalDualTimeSeriesForSequenceClassification
from hf_primaldual.data import describe_source, load_uea
from hf_primaldual.data.series import series_arrays, series_problems
from hf_primaldual.data.splits import column_of, cut_validation, with_classes

from .arguments import AttentionArguments, ComparisonArguments
from .settings import refuse_below_one
from .task import Task, with_ids


@dataclass
class SeriesDataArguments:
    """Which series are trained on."""

    dataset: str = HfArg(default="JapaneseVowels", help="Name of the task in the UEA archive.")
    data_folder: str | None = HfArg(default=None, help="Folder of .ts files. Default: in the installed aeon wheel.")
    validation_share: float = HfArg(default=0.2, help="Share of the training set that is cut out by class.")
    max_steps_per_series: int | None = HfArg(default=None, help="Positions. Default: those of the longest series.")
    missing_values: str = HfArg(default="error", help="error, or mean: the channel's training mean.")

    def __post_init__(self):
        refuse_below_one(self, "max_steps_per_series")
        if self.missing_values not in ("error", "mean"):
            raise ValueError(f"`missing_values` must be error or mean, got {self.missing_values!r}.")


@dataclass
class SeriesModelArguments(AttentionArguments):
    """The model of a series: its attentions, and the encoder of the paper's smaller UEA set-up."""

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
    """The paper's UEA settings as defaults."""

    output_dir: str = HfArg(default="outputs/time-series", help="Folder of this run and no other.")
    optimizer: str = HfArg(default="radam", help="radam, the paper's; or trainer, for that of --optim.")
    learning_rate: float = HfArg(default=1e-3, help="Peak learning rate.")
    max_grad_norm: float = HfArg(default=4.0, help="Gradients are clipped to this norm.")
    num_train_epochs: float = HfArg(default=40, help="Epochs of each run.")
    per_device_train_batch_size: int = HfArg(default=16, help="Series per step.")
    per_device_eval_batch_size: int = HfArg(default=128, help="Series per evaluation step.")
    lr_scheduler_type: str = HfArg(default="cosine", help="Schedule of the learning rate.")


class SeriesTask(Task):
    """A task of the UEA archive, or of the same shape."""

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


Loader = Callable[[SeriesDataArguments], tuple[DatasetDict, dict[str, Any]]]


def series_task(
    data_args: SeriesDataArguments,
    model_args: SeriesModelArguments,
    args: SeriesTrainingArguments | None = None,
    sources: Mapping[str, Loader] | None = None,
) -> SeriesTask:
    """
    The task that the arguments name: its series, and a feature extractor fitted on the training set.

    `sources` are more data sets than those of the archive, by the names that `--dataset` has for them.
    """
    splits, source = (sources or {}).get(data_args.dataset, _from_archive)(data_args)
    return prepare_series(
        splits,
        source,
        model_args,
        data_args.max_steps_per_series,
        data_args.validation_share,
        data_args.missing_values,
        where={name: f"{data_args.dataset}_{name.upper()}.ts" for name in splits},
    )


def _from_archive(args: SeriesDataArguments) -> tuple[DatasetDict, dict[str, Any]]:
    return load_uea(args.dataset, args.data_folder), describe_source(args.dataset, args.data_folder)


def prepare_series(
    splits: DatasetDict,
    source: dict[str, Any],
    model_args: SeriesModelArguments,
    max_steps_per_series: int | None = None,
    validation_share: float = 0.2,
    missing_values: str = "error",
    where: Mapping[str, str] | None = None,
) -> SeriesTask:
    """
    The task of series: `splits` are `train`, `test` and, or else it is cut out of `train`, `validation`, of
    `past_values`, lists (time, channels), and `labels`, a `ClassLabel`. `where` is what errors call a split.
    """
    columns = {name: column_of(split, "past_values") for name, split in splits.items()}
    channels = next((len(steps[0]) for steps in columns["train"] if steps.is_valid and len(steps)), 1)
    problems = []
    for name, column in columns.items():
        problems += series_problems(column, channels, missing_values, (where or {}).get(name, f"the {name} set"))
    splits = with_classes(splits, where=where, problems=problems)
    counts = np.concatenate([pc.list_value_length(column).to_numpy() for column in columns.values()])
    lengths = (int(counts.min()), int(counts.max()))
    positions = max_steps_per_series or lengths[1]
    if positions < lengths[1]:
        raise ValueError(f"`max_steps_per_series` must be at least {lengths[1]}, the longest series, got {positions}.")
    settings = {"max_position_embeddings": positions, "missing_values": missing_values}
    if "validation" not in splits:
        splits = cut_validation(splits, validation_share)
        settings["validation_share"] = validation_share
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
    )


def _collate(feature_extractor: PrimalDualTimeSeriesFeatureExtractor, examples: list[dict]) -> dict[str, torch.Tensor]:
    batch = feature_extractor([example["past_values"] for example in examples], return_tensors="pt")
    return {**batch, "labels": torch.tensor([int(example["labels"]) for example in examples])}


def _with_nans(values: list[list[float | None]]) -> dict[str, np.ndarray]:
    return {"past_values": np.array(values, dtype=np.float64)}
