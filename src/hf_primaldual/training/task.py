"""What a comparison of attentions trains on, whatever its kind: series, texts or images."""

import copy
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow.compute as pc
import torch
from datasets import DatasetDict
from torch.utils.data import Sampler
from transformers import EvalPrediction, PreTrainedConfig, PreTrainedModel

from hf_primaldual.data.splits import class_names, column_of
from hf_primaldual.hub.scores import compute_accuracy_and_loss

from .arguments import AttentionArguments

# The column with the place of a training example in its split, which a stopped run names.
EXAMPLE_ID = "example_id"

Collate = Callable[[list[Mapping[str, Any]]], dict[str, torch.Tensor]]


@dataclass(kw_only=True)
class Task:
    """
    A task, ready to be trained on: of classification, but for [`LanguageTask`]. A kind of task names its model class.

    Args:
        splits (`DatasetDict`):
            `train`, `validation` and `test`, with a `labels` column, a `ClassLabel`, or a `List` of it where an
            example has several labels.
        source (`dict`):
            What `results.json` keeps of the data: `name`, `source`, `sha256`, `licence` and more.
        processor:
            The tokenizer, feature extractor or image processor that is saved with the model.
        collate, collate_train (`Callable`):
            Turn a list of examples into a batch for the model, the second with augmentation where the task has one.
        lengths (`tuple[int, int]`):
            Tokens of the shortest and of the longest example as the model sees them.
        model_args (`AttentionArguments`):
            The settings of the model.
        data_fields (`dict`):
            The fields of the model's configuration that follow from the data.
        settings (`dict`):
            Settings of the task that a resumed run must share and the card tells of: plain values.
        train_sampler (`Callable`):
            Makes the sampler of a training set that is not drawn once an epoch in random order.
        compute_loss (`Callable`):
            Trainer's `compute_loss_func`, for targets that are not class indices, and for weights of classes.
        class_weight (`torch.Tensor`):
            The weight of each class in the validation and test losses; shape `(classes,)`.
    """

    kind: ClassVar[str]
    """The task's name in results and cards, such as `time-series-classification`."""

    model_class: ClassVar[type[PreTrainedModel]]

    reduce_logits: ClassVar[Callable | None] = None
    """Trainer's `preprocess_logits_for_metrics`, where logits are too many to be kept."""

    splits: DatasetDict
    source: dict[str, Any]
    processor: Any
    collate: Collate
    lengths: tuple[int, int]
    model_args: AttentionArguments
    data_fields: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    collate_train: Collate | None = None
    train_sampler: Callable[[Any], Sampler] | None = None
    compute_loss: Callable | None = None
    class_weight: torch.Tensor | None = None

    @property
    def class_names(self) -> list[str]:
        """In the order of their indices; none where there are no classes."""
        return class_names(self.splits["test"].features["labels"])

    @property
    def sizes(self) -> dict[str, int | None]:
        """Number of examples of each split, whole ones where they are in windows; None for a stream."""
        return {name: self._size(split) for name, split in self.splits.items()}

    @staticmethod
    def _size(split: Any) -> int | None:
        if not hasattr(split, "__len__"):
            return None
        return len(pc.unique(column_of(split, "recording"))) if "recording" in split.column_names else len(split)

    def config(self, attention: str, **changes: Any) -> PreTrainedConfig:
        """The configuration of the model that learns this task with `attention`; `changes` go over the settings."""
        labels = {}
        if names := self.class_names:
            labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
        return self.model_class.config_class(
            **labels,
            **self.data_fields,
            **self.model_args.config_fields(attention, **changes),
        )

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """Trainer's `compute_metrics`, with `accuracy` and `loss`."""
        return compute_accuracy_and_loss(prediction, self.class_weight)

    def measured(self, config: PreTrainedConfig, tokens: int) -> PreTrainedConfig:
        """A copy of the configuration for inputs of `tokens` tokens, without dropout of the attention maps."""
        config = copy.deepcopy(config)
        self.set_tokens(config, tokens)
        # torch has no fused attention on a CPU for maps with dropout: the baseline is at its best without.
        config.attention_probs_dropout_prob = 0.0
        return config

    def set_tokens(self, config: PreTrainedConfig, tokens: int) -> None:
        """Makes a configuration one for inputs of `tokens` tokens, here of sequences."""
        config.max_position_embeddings = tokens

    def measuring_batch(self, batch: int, tokens: int) -> dict[str, torch.Tensor]:
        """`batch` real examples brought to `tokens` tokens, with labels."""
        examples = list(itertools.islice(self.splits["validation"], batch))
        return self.collate([self.stretched(examples[index % len(examples)], tokens) for index in range(batch)])

    def stretched(self, example: Mapping[str, Any], tokens: int) -> Mapping[str, Any]:
        """An example brought to `tokens` tokens; here as it is, for tasks that do so with a batch."""
        return example


def with_ids(splits: DatasetDict) -> DatasetDict:
    """The splits, with an `EXAMPLE_ID` column in `train`."""
    train = splits["train"]
    if hasattr(train, "__len__"):
        train = train.add_column(EXAMPLE_ID, list(range(len(train))))
    else:
        train = train.map(lambda example, index: {EXAMPLE_ID: index}, with_indices=True)
    return type(splits)({**splits, "train": train})
