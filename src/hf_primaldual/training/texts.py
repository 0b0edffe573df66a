"""Sequences of tokens as a task: texts by a tokenizer, pairs of documents, and tokens that are there already."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, DatasetDict
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerBase
from transformers.hf_argparser import HfArg

from hf_primaldual import PrimalDualTextForDocumentMatching, PrimalDualTextForSequenceClassification
from hf_primaldual.data.files import digest
from hf_primaldual.data.label_sets import check_labels_of_train
from hf_primaldual.data.splits import class_names, column_of, cut_shares, draw, problem, refuse
from hf_primaldual.data.windows import cut_texts

from .arguments import AttentionArguments, ComparisonArguments
from .samplers import LengthSampler
from .task import Task, with_ids
from .text_sources import Loader, TextDataArguments, TextSource, load_source

# Prefixes of the inputs of a text, or of both texts of a pair.
_PREFIXES = ("", "pair_")


@dataclass
class TextModelArguments(AttentionArguments):
    """The model of a sequence: its attentions, and the encoder of the paper's Long Range Arena set-up."""

    hidden_size: int = HfArg(default=64, help="Width.")
    num_hidden_layers: int = HfArg(default=2, help="Layers.")
    num_attention_heads: int = HfArg(default=2, help="Heads.")
    intermediate_size: int = HfArg(default=128, help="Width inside the feed-forward blocks.")
    hidden_dropout_prob: float = HfArg(default=0.1, help="Dropout of sublayers and classifier.")
    attention_probs_dropout_prob: float = HfArg(default=0.0, help="Dropout of attention maps; slow on a CPU.")
    norm_position: str = HfArg(default="pre", help="Norm before (pre) or after (post) a sublayer.")
    pooling: str = HfArg(default="mean", help="Input of the classifier, mean or cls.")
    prepend_cls: bool = HfArg(default=False, help="Put a learned token in front, for pooling cls.")
    initializer_range: float = HfArg(default=0.02, help="Deviation of the initial weights.")


@dataclass
class TextTrainingArguments(ComparisonArguments):
    """Our defaults: AdamW, a short warm-up, texts of like length in a batch."""

    output_dir: str = HfArg(default="outputs/text", help="Folder of this run and no other.")
    learning_rate: float = HfArg(default=1e-3, help="Peak learning rate.")
    num_train_epochs: float = HfArg(default=10, help="Epochs of each run.")
    per_device_train_batch_size: int = HfArg(default=32, help="Examples per step.")
    per_device_eval_batch_size: int = HfArg(default=128, help="Examples per evaluation step.")
    lr_scheduler_type: str = HfArg(default="cosine", help="Schedule of the learning rate.")
    warmup_steps: float = HfArg(default=0.05, help="Steps of the warm-up; below 1, a share of all.")
    group_by_length: bool = HfArg(default=True, help="Make batches of examples of like length, to pad little.")


class TextTask(Task):
    """A task of Long Range Arena, or of any texts with classes."""

    kind = "text-classification"
    model_class = PrimalDualTextForSequenceClassification

    def stretched(self, example: Mapping[str, Any], tokens: int) -> dict[str, Any]:
        """See `Task`: the tokens, repeated until there are `tokens` of them."""
        repeated = {name: np.resize(example[name], tokens) for name in example if name.endswith("input_ids")}
        return {**example, **repeated}


class MatchingTask(TextTask):
    """A task of pairs of documents, each encoded by itself, such as Long Range Arena's Retrieval."""

    kind = "document-matching"
    model_class = PrimalDualTextForDocumentMatching


def text_task(
    data_args: TextDataArguments,
    model_args: TextModelArguments,
    args: TextTrainingArguments | None = None,
    sources: Mapping[str, Loader] | None = None,
) -> TextTask:
    """
    The task that the arguments name, with the tokenizer that goes into its checkpoint.

    The sets to test and to choose on are the source's, or cut out of its training set. Of larger splits examples are
    drawn class by class. A longer text than `max_tokens` is cut, or with `too_long="window"` made into windows, which
    `recording` numbers by their text; tokens that are there already never are. With `args.group_by_length` the
    examples of a step are of like length.

    `sources` are more tasks than those of Long Range Arena, by the names that `--task` has for them.
    """
    source = load_source(data_args, sources)
    splits = source.splits.select_columns([*source.columns, "labels"])
    settings = {"subset_seed": data_args.subset_seed}
    shares = {"test": data_args.test_share, "validation": data_args.validation_share}
    settings |= {f"{name}_share": share for name, share in shares.items() if name not in splits}
    splits = cut_shares(splits, shares)
    for name, split in splits.items():
        splits[name] = draw(split, getattr(data_args, f"{name}_size"), seed=data_args.subset_seed)
    data_fields, labels = {}, splits["train"].features["labels"]
    if not isinstance(labels, ClassLabel):
        check_labels_of_train(splits)
        if args is not None and args.label_smoothing_factor:
            raise ValueError("`label_smoothing_factor` is for texts of one class each, these have several labels.")
        data_fields["problem_type"] = "multi_label_classification"
    described = {"licence": None, **source.described}
    if "sha256" not in described:
        described["sha256"] = {name: digest(split) for name, split in splits.items()}
    described["majority_share"] = majority_share(splits)

    tokenizer = tokenizer_of(source, data_args)
    limit = data_args.max_tokens or source.max_tokens
    splits = _with_tokens(splits, source, tokenizer, limit, data_args)
    lengths = _lengths(splits)
    if lengths[1] > limit:
        advice = "as no example may be cut here" if source.has_tokens else "or `too_long` cut or window"
        raise ValueError(f"`max_tokens` must be at least {lengths[1]}, {advice}, got {limit}.")
    positions = data_args.max_tokens or lengths[1]
    tokenizer.model_max_length = positions
    sampler = None
    if args is not None and args.group_by_length and lengths[0] < lengths[1]:
        batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        sampler = partial(LengthSampler, batch=batch)
    settings |= {
        "group_by_length": sampler is not None,
        "max_position_embeddings": positions,
        "tokenizer": type(tokenizer).__name__,
    }
    if data_args.too_long == "window":
        every = f", one every {data_args.stride}" if data_args.stride else ""
        settings["windows"] = f"of {limit} tokens{every}, which vote on their text"
    task_class = MatchingTask if len(source.columns) == 2 else TextTask
    return task_class(
        splits=with_ids(splits.remove_columns("shortest")).with_format("numpy"),
        source={**described, "length": list(lengths)},
        processor=tokenizer,
        collate=partial(_collate, tokenizer.pad_token_id or 0, len(class_names(labels))),
        lengths=lengths,
        model_args=model_args,
        data_fields={
            **data_fields,
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "max_position_embeddings": positions,
        },
        settings=settings,
        train_sampler=sampler,
    )


def majority_share(splits: DatasetDict) -> float:
    """The share of the test set that is of training's most frequent class: what is right without looking."""
    counts = {}
    for name in ("train", "test"):
        # Of several labels, their combination.
        labels = column_of(splits[name], "labels").to_pylist()
        counts[name] = Counter(tuple(label) if isinstance(label, list) else label for label in labels)
    most_frequent, _ = counts["train"].most_common(1)[0]
    return counts["test"][most_frequent] / len(splits["test"])


def _collate(pad_token_id: int, classes: int, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """
    A batch filled up to its longest example; where none is shorter, there is no mask. Of several labels an example,
    `labels` are zeros and ones (batch, classes).
    """
    if np.ndim(examples[0]["labels"]):
        batch = {"labels": torch.zeros(len(examples), classes)}
        for row, example in zip(batch["labels"], examples, strict=True):
            row[example["labels"].tolist()] = 1.0
    else:
        batch = {"labels": torch.tensor([int(example["labels"]) for example in examples])}
    for prefix in _PREFIXES:
        rows = [example[f"{prefix}input_ids"] for example in examples if f"{prefix}input_ids" in example]
        if rows:
            lengths = np.array([len(row) for row in rows])
            mask = np.arange(lengths.max()) < lengths[:, None]
            input_ids = np.full(mask.shape, pad_token_id, np.int64)
            input_ids[mask] = np.concatenate(rows)
            batch[f"{prefix}input_ids"] = torch.from_numpy(input_ids)
            if not mask.all():
                batch[f"{prefix}attention_mask"] = torch.from_numpy(mask.astype(np.int64))
    return batch


def tokenizer_of(source: TextSource, args: TextDataArguments) -> PreTrainedTokenizerBase:
    """The tokenizer that the arguments name, by default of bytes; of tokens that are there already, their own."""
    if source.tokenizer is None:
        return ByT5Tokenizer() if args.tokenizer is None else AutoTokenizer.from_pretrained(args.tokenizer)
    if args.tokenizer is not None:
        raise ValueError(f"`tokenizer` must be left out for {args.task}, which has tokens, got {args.tokenizer!r}.")
    return source.tokenizer


def _with_tokens(
    splits: DatasetDict, source: TextSource, tokenizer: PreTrainedTokenizerBase, limit: int, args: TextDataArguments
) -> DatasetDict:
    """
    `input_ids` and with pairs `pair_input_ids`; `length` and `shortest` count those of the longer and shorter. Of
    windows, `recording` is the number of their text.
    """
    windows = args.too_long == "window"
    if windows and (source.has_tokens or len(source.columns) == 2):
        raise ValueError("`too_long` must be cut or refuse for pairs of texts and tasks of tokens, got 'window'.")
    options = {"truncation": True, "max_length": limit} if args.too_long == "cut" else {}

    def encode(batch: dict[str, list], numbers: list[int]) -> dict[str, list]:
        rows = {}
        if windows:
            rows["input_ids"], places = cut_texts(batch[source.columns[0]], tokenizer, limit, args.stride)
            rows["labels"] = [batch["labels"][place] for place in places]
            rows["recording"] = [numbers[place] for place in places]
        else:
            for column, prefix in zip(source.columns, _PREFIXES, strict=False):
                texts = batch[column]
                rows[f"{prefix}input_ids"] = texts if source.has_tokens else tokenizer(texts, **options)["input_ids"]
        lengths = [[len(ids) for ids in rows[f"{prefix}input_ids"]] for prefix in _PREFIXES[: len(source.columns)]]
        rows["length"] = [max(pair) for pair in zip(*lengths, strict=True)]
        rows["shortest"] = [min(pair) for pair in zip(*lengths, strict=True)]
        return rows

    names, labels = splits["train"].column_names, splits["train"].features["labels"]
    others = names if windows else [name for name in names if name not in ("labels", "input_ids")]
    encoded = splits.map(encode, batched=True, with_indices=True, remove_columns=others)
    return encoded.cast_column("labels", labels) if windows else encoded


def _lengths(splits: DatasetDict) -> tuple[int, int]:
    """Tokens of the shortest and of the longest text."""
    problems = []
    for name, split in splits.items():
        rows = np.flatnonzero(column_of(split, "shortest").to_numpy() == 0)
        problems += problem(f"the {name} set", rows, len(split), "examples have no token")
    refuse(problems)
    return (
        int(min(column_of(split, "shortest").to_numpy().min() for split in splits.values())),
        int(max(column_of(split, "length").to_numpy().max() for split in splits.values())),
    )
