"""A language model of texts as a task: blocks of tokens, each of which is predicted from those before it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from transformers.hf_argparser import HfArg

from hf_primaldual import PrimalDualTextForCausalLM
from hf_primaldual.data.files import digest
from hf_primaldual.data.splits import cut_shares, refuse
from hf_primaldual.hub.results import LANGUAGE
from hf_primaldual.hub.scores import compute_token_accuracy_and_loss, token_losses_and_hits

from .arguments import ComparisonArguments
from .sources import refuse_given
from .task import Task, with_ids
from .text_sources import Loader, TextDataArguments, load_source
from .texts import TextModelArguments, tokenizer_of


@dataclass
class LanguageDataArguments(TextDataArguments):
    """Which texts are trained on."""

    with_labels: ClassVar[bool] = False

    max_tokens: int = HfArg(default=256, help="Tokens of a block, which are the model's positions.")
    train_size: int | None = HfArg(default=None, help="Texts to train on, drawn at random.")
    validation_size: int | None = HfArg(default=None, help="Texts of the validation set.")
    test_size: int | None = HfArg(default=None, help="Texts of the test set.")

    def __post_init__(self):
        super().__post_init__()
        of_classes = ("text_pair_column", "label_column", "label_separator", "classes", "too_long", "stride")
        refuse_given(self, of_classes, "classifiers of texts")
        if self.max_tokens < 2:
            raise ValueError(f"`max_tokens` must be at least 2, a token and the next one, got {self.max_tokens}.")


@dataclass
class LanguageTrainingArguments(ComparisonArguments):
    """Our defaults: AdamW and a short warm-up."""

    output_dir: str = HfArg(default="outputs/language", help="Folder of this run and no other.")
    learning_rate: float = HfArg(default=2e-3, help="Peak learning rate.")
    num_train_epochs: float = HfArg(default=3, help="Epochs of each run.")
    per_device_train_batch_size: int = HfArg(default=16, help="Blocks per step.")
    per_device_eval_batch_size: int = HfArg(default=32, help="Blocks per evaluation step.")
    lr_scheduler_type: str = HfArg(default="cosine", help="Schedule of the learning rate.")
    warmup_steps: float = HfArg(default=0.05, help="Steps of the warm-up; below 1, a share of all.")

    def __post_init__(self):
        super().__post_init__()
        if self.label_smoothing_factor:
            # Trainer shifts the labels of its own language models alone.
            raise ValueError(
                f"`label_smoothing_factor` is for classifiers, and must be 0 here, got {self.label_smoothing_factor}."
            )


class LanguageTask(Task):
    """Texts in blocks of equal length. The accuracy is that of the next token, the loss its cross-entropy in nats."""

    kind = LANGUAGE
    model_class = PrimalDualTextForCausalLM
    class_names = ()
    reduce_logits = staticmethod(token_losses_and_hits)
    compute_metrics = staticmethod(compute_token_accuracy_and_loss)

    def measured(self, config: PreTrainedConfig, tokens: int) -> PreTrainedConfig:
        """See `Task`; without a cache, as it is trained."""
        config = super().measured(config, tokens)
        config.use_cache = False
        return config

    def stretched(self, example: Mapping[str, Any], tokens: int) -> dict[str, Any]:
        """See `Task`: the tokens, repeated until there are `tokens` of them."""
        return {"input_ids": np.resize(example["input_ids"], tokens)}


def language_task(
    data_args: LanguageDataArguments,
    model_args: TextModelArguments,
    args: LanguageTrainingArguments | None = None,
    sources: Mapping[str, Loader] | None = None,
) -> LanguageTask:
    """
    The task that the arguments name, with the tokenizer that goes into its checkpoint.

    The sets to test and to choose on are the source's, or cut out of its training set, text by text. The texts of a
    set follow one another, each with the end-of-text token behind it, and are cut into blocks of `max_tokens`; what is
    left at the end of every thousand texts is dropped.

    `sources` are more tasks than those of Long Range Arena, by the names that `--task` has for them.
    """
    source = load_source(data_args, sources)
    if source.has_tokens or len(source.columns) > 1:
        raise ValueError(f"`task` must be one of single texts for a language model, got {data_args.task!r}.")
    shares = {"test": data_args.test_share, "validation": data_args.validation_share}
    settings = {"subset_seed": data_args.subset_seed}
    settings |= {f"{name}_share": share for name, share in shares.items() if name not in source.splits}
    splits = cut_shares(source.splits, shares, cut=_cut)
    for name, split in splits.items():
        size = getattr(data_args, f"{name}_size") or len(split)
        if size < len(split):
            splits[name] = split.shuffle(seed=data_args.subset_seed).select(range(size))
        settings[f"{name}_texts"] = len(splits[name])
    described = {"licence": None, **source.described}
    if "sha256" not in described:
        described["sha256"] = {name: digest(split) for name, split in splits.items()}

    tokenizer, length = tokenizer_of(source, data_args), data_args.max_tokens
    if tokenizer.eos_token_id is None:
        raise ValueError(f"`tokenizer` must have an end-of-text token (`eos_token`), {data_args.tokenizer} has none.")
    splits = _in_blocks(splits, tokenizer, length)
    tokenizer.model_max_length = length
    return LanguageTask(
        splits=with_ids(splits).with_format("numpy"),
        source={**described, "length": [length, length], "vocabulary": len(tokenizer)},
        processor=tokenizer,
        collate=_collate,
        lengths=(length, length),
        model_args=model_args,
        data_fields={
            "is_decoder": True,
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "max_position_embeddings": length,
        },
        settings={**settings, "max_position_embeddings": length, "tokenizer": type(tokenizer).__name__},
    )


def _cut(split: Dataset, what: str, test_size: int, seed: int) -> DatasetDict:
    """Two parts of a split at random; `cut_shares` cuts by class otherwise."""
    if not 0 < test_size < len(split):
        raise ValueError(f"{what} must leave texts on both sides of the cut, of {len(split)}.")
    return split.train_test_split(test_size, seed=seed)


def _in_blocks(splits: DatasetDict, tokenizer: PreTrainedTokenizerBase, length: int) -> DatasetDict:
    """`input_ids` of `length` tokens each, in place of the texts."""
    (column,) = splits["train"].column_names

    def encode(batch: dict[str, list]) -> dict[str, list]:
        texts = tokenizer(batch[column], add_special_tokens=False)["input_ids"]
        tokens = [token for text in texts for token in (*text, tokenizer.eos_token_id)]
        return {"input_ids": [tokens[end - length : end] for end in range(length, len(tokens) + 1, length)]}

    blocks = splits.map(encode, batched=True, remove_columns=column)
    refuse([f"the {name} set has fewer than {length} tokens" for name, split in blocks.items() if not len(split)])
    return blocks


def _collate(examples: list[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    input_ids = torch.from_numpy(np.stack([example["input_ids"] for example in examples]))
    return {"input_ids": input_ids, "labels": input_ids}
