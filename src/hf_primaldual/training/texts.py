"""Sequences of tokens as a task: texts by a tokenizer, pairs of documents, and tokens that are there already."""

import functools
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerBase

from hf_primaldual import (
    PrimalDualTextConfig,
    PrimalDualTextForDocumentMatching,
    PrimalDualTextForSequenceClassification,
)
from hf_primaldual.data.splits import column_of, cut_validation, draw, problem

from .samplers import LengthSampler
from .task import Task, with_ids
from .text_arguments import TextDataArguments, TextModelArguments, TextTrainingArguments
from .text_sources import TextSource, digest, load_source

# Prefixes of the inputs of a text, or of both texts of a pair.
_PREFIXES = ("", "pair_")


@dataclass
class TextCollator:
    """
    Stacks examples of `input_ids`, of `pair_input_ids` where there are pairs, and of `labels` into a batch for the
    model. Shorter ones are filled up to the longest of the batch; where none is, there is no mask.
    """

    pad_token_id: int | None

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = {"labels": torch.tensor([int(example["labels"]) for example in examples])}
        for prefix in _PREFIXES:
            if f"{prefix}input_ids" in examples[0]:
                batch |= self._stack([example[f"{prefix}input_ids"] for example in examples], prefix)
        return batch

    def _stack(self, rows: list[np.ndarray], prefix: str) -> dict[str, torch.Tensor]:
        lengths = np.array([len(row) for row in rows])
        mask = np.arange(lengths.max()) < lengths[:, None]
        input_ids = np.full(mask.shape, self.pad_token_id or 0, np.int64)
        input_ids[mask] = np.concatenate(rows)
        stacked = {f"{prefix}input_ids": torch.from_numpy(input_ids)}
        if not mask.all():
            stacked[f"{prefix}attention_mask"] = torch.from_numpy(mask.astype(np.int64))
        return stacked


@dataclass(kw_only=True)
class TextTask(Task):
    """A task of Long Range Arena, or of any texts with classes."""

    model_args: TextModelArguments
    positions: int

    kind = "text-classification"
    model_class = PrimalDualTextForSequenceClassification

    def config(self, attention: str, **changes: Any) -> PrimalDualTextConfig:
        """See `Task`."""
        return PrimalDualTextConfig(
            vocab_size=len(self.processor),
            pad_token_id=self.processor.pad_token_id,
            max_position_embeddings=self.positions,
            **self.labels,
            **self.model_args.config_fields(attention, **changes),
        )

    def measuring_batch(self, batch: int, tokens: int) -> dict[str, torch.Tensor]:
        """See `Task`: validation examples, each repeated until it has `tokens` tokens."""
        validation = self.splits["validation"]
        examples = []
        for index in range(batch):
            example = validation[index % len(validation)]
            repeated = {name: np.resize(example[name], tokens) for name in example if name.endswith("input_ids")}
            examples.append({**repeated, "labels": example["labels"]})
        return self.collate(examples)


class MatchingTask(TextTask):
    """A task of pairs of documents, each encoded by itself, such as Long Range Arena's Retrieval."""

    kind = "document-matching"
    model_class = PrimalDualTextForDocumentMatching


def text_task(
    data_args: TextDataArguments, model_args: TextModelArguments, args: TextTrainingArguments | None = None
) -> TextTask:
    """
    The task that the arguments name, with the tokenizer that goes into its checkpoint.

    The validation set is the source's, or cut out of its training set. Of larger splits examples are drawn class by
    class. A text is cut after `max_tokens`; tokens that are there already never are. With `args.group_by_length` the
    examples of a step are of like length.

    Raises:
        ModuleNotFoundError, FileNotFoundError, ValueError: see `load_source`, `cut_validation` and `draw`.
        ValueError: for texts without a token, a tokenizer beside tokens that are there already, or `max_tokens` below
            their number.
    """
    source = load_source(data_args)
    splits = source.splits.select_columns([*source.columns, "labels"])
    settings = {"subset_seed": data_args.subset_seed}
    if "validation" not in splits:
        splits = cut_validation(splits, data_args.validation_share)
        settings["validation_share"] = data_args.validation_share
    sizes = {"train": data_args.train_size, "validation": data_args.validation_size, "test": data_args.test_size}
    splits = DatasetDict(
        {name: draw(split, sizes[name], seed=data_args.subset_seed) for name, split in splits.items()}
    )
    tokenizer = _tokenizer(source, data_args)
    limit = data_args.max_tokens or source.max_tokens
    prepared = _with_tokens(splits, source, tokenizer, limit)
    problems = []
    for name, split in prepared.items():
        rows = np.flatnonzero(column_of(split, "shortest").to_numpy() == 0)
        problems += problem(f"the {name} set", rows, len(split), "examples have no token")
    if problems:
        raise ValueError(f"the data cannot be trained on: {'; '.join(problems)}.")
    longest = int(max(column_of(split, "length").to_numpy().max() for split in prepared.values()))
    lengths = (int(min(column_of(split, "shortest").to_numpy().min() for split in prepared.values())), longest)
    if longest > limit:
        raise ValueError(f"`max_tokens` must be at least {longest}, as no example may be cut here, got {limit}.")
    positions = data_args.max_tokens or longest
    tokenizer.model_max_length = positions
    sha256 = source.described.get("sha256") or {name: digest(split) for name, split in splits.items()}
    share, sampler = majority_share(prepared), None
    if args is not None and args.group_by_length and lengths[0] < longest:
        batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        sampler = functools.partial(_by_length, batch=batch)
    settings["group_by_length"] = sampler is not None
    task_class = MatchingTask if len(source.columns) == 2 else TextTask
    return task_class(
        splits=with_ids(prepared.remove_columns("shortest")).with_format("numpy"),
        class_names=prepared["train"].features["labels"].names,
        source={**source.described, "sha256": sha256, "length": list(lengths), "majority_share": share},
        processor=tokenizer,
        collate=TextCollator(tokenizer.pad_token_id),
        lengths=lengths,
        train_sampler=sampler,
        settings={**settings, "max_position_embeddings": positions, "tokenizer": type(tokenizer).__name__},
        model_args=model_args,
        positions=positions,
    )


def majority_share(splits: DatasetDict) -> float:
    """The share of the test set that is of training's most frequent class: what is right without looking."""
    most_frequent, _ = Counter(splits["train"]["labels"]).most_common(1)[0]
    return Counter(splits["test"]["labels"])[most_frequent] / len(splits["test"])


def _by_length(train: Dataset, batch: int) -> LengthSampler:
    return LengthSampler(column_of(train, "length").to_numpy(), batch)


def _tokenizer(source: TextSource, args: TextDataArguments) -> PreTrainedTokenizerBase:
    if source.tokenizer is not None:
        if args.tokenizer is not None:
            raise ValueError(
                f"`tokenizer` must be left out for {args.task}, which has tokens, got {args.tokenizer!r}."
            )
        return source.tokenizer
    return ByT5Tokenizer() if args.tokenizer is None else AutoTokenizer.from_pretrained(args.tokenizer)


def _with_tokens(
    splits: DatasetDict, source: TextSource, tokenizer: PreTrainedTokenizerBase, limit: int
) -> DatasetDict:
    """`input_ids` and with pairs `pair_input_ids`; `length` and `shortest` count those of the longer and shorter."""

    def encode(batch: dict[str, list]) -> dict[str, list]:
        rows = {}
        for column, prefix in zip(source.columns, _PREFIXES, strict=False):
            if source.has_tokens:
                rows[f"{prefix}input_ids"] = batch[column]
            else:
                encoded = tokenizer(batch[column], truncation=True, max_length=limit)
                rows[f"{prefix}input_ids"] = encoded["input_ids"]
        lengths = [[len(ids) for ids in column] for column in rows.values()]
        rows["length"] = [max(pair) for pair in zip(*lengths, strict=True)]
        rows["shortest"] = [min(pair) for pair in zip(*lengths, strict=True)]
        return rows

    others = [name for name in splits["train"].column_names if name not in ("labels", "input_ids")]
    return splits.map(encode, batched=True, remove_columns=others)


__all__ = ["MatchingTask", "TextCollator", "TextTask", "majority_share", "text_task"]
