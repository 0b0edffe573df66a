"""One training run of a time-series classifier, and the comparison of an attention with its baseline over seeds."""

import copy
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import DatasetDict
from transformers import PrinterCallback, ProgressCallback, Trainer, set_seed

from hf_primaldual import (
    PrimalDualTimeSeriesConfig,
    PrimalDualTimeSeriesFeatureExtractor,
    PrimalDualTimeSeriesForSequenceClassification,
)

from .arguments import SeriesDataArguments, SeriesModelArguments, SeriesTrainingArguments
from .callbacks import RunProgress
from .metrics import compute_accuracy


@dataclass
class SeriesCollator:
    """Standardizes, pads and stacks examples of a `past_values` and a `labels` column into a batch for the model."""

    feature_extractor: PrimalDualTimeSeriesFeatureExtractor

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = self.feature_extractor([example["past_values"] for example in examples], return_tensors="pt")
        return {**batch, "labels": torch.tensor([example["labels"] for example in examples])}


@dataclass
class PreparedSeries:
    """Splits `train`, `validation` and `test`, and the feature extractor fitted on `train`."""

    splits: DatasetDict
    feature_extractor: PrimalDualTimeSeriesFeatureExtractor
    channels: int
    lengths: tuple[int, int]

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of the labels."""
        return self.splits["train"].features["labels"].names


def prepare_series(splits: DatasetDict, validation_share: float, seed: int = 0) -> PreparedSeries:
    """
    Cuts a validation set out of the training set, class by class, and fits the feature extractor on what remains.

    Args:
        splits: `train` and `test` as `load_uea` gives them.
        validation_share: between 0 and 1.
        seed: of the cut; the same for every run, so that runs can be compared on it.

    Raises:
        ValueError: for a share that leaves a class without a series on either side.
    """
    classes = splits["train"].features["labels"].num_classes
    validation = round(len(splits["train"]) * validation_share)
    if not classes <= validation <= len(splits["train"]) - classes:
        raise ValueError(
            f"`validation_share` must leave at least one of the {len(splits['train'])} training series for each of "
            f"the {classes} classes on both sides, got {validation_share}."
        )
    cut = splits["train"].train_test_split(test_size=validation, stratify_by_column="labels", seed=seed)
    splits = DatasetDict(train=cut["train"], validation=cut["test"], test=splits["test"]).with_format("numpy")
    series = [example["past_values"] for example in splits["train"]]
    lengths = [len(values) for split in splits.values() for values in split.with_format("arrow")["past_values"]]
    has_missing = any(np.isnan(values).any() for values in series)
    feature_extractor = PrimalDualTimeSeriesFeatureExtractor(
        feature_size=series[0].shape[1], missing_values="mean" if has_missing else "error"
    ).fit(series)
    return PreparedSeries(splits, feature_extractor, series[0].shape[1], (min(lengths), max(lengths)))


def build_config(
    attention: str, data: PreparedSeries, data_args: SeriesDataArguments, model_args: SeriesModelArguments
) -> PrimalDualTimeSeriesConfig:
    """The configuration of the model that learns `data` with `attention`."""
    return PrimalDualTimeSeriesConfig(
        num_channels=data.channels,
        max_position_embeddings=data_args.max_steps_per_series or data.lengths[1],
        id2label=dict(enumerate(data.class_names)),
        label2id={name: index for index, name in enumerate(data.class_names)},
        **model_args.config_fields(attention),
    )


def train_run(
    config: PrimalDualTimeSeriesConfig, data: PreparedSeries, args: SeriesTrainingArguments, seed: int, folder: Path
) -> tuple[PrimalDualTimeSeriesForSequenceClassification, dict[str, Any]]:
    """
    Trains one model, keeps the best epoch on validation, then reads the test set once.

    Args:
        folder: where Trainer writes its checkpoints; removed when the run has ended well.

    Returns:
        The model, and the run's entry for `results.json`.
    """
    set_seed(seed)
    args = replace(args, output_dir=str(folder), seed=seed)
    model = PrimalDualTimeSeriesForSequenceClassification(config)
    optimizer = (torch.optim.RAdam, {"lr": args.learning_rate, "weight_decay": args.weight_decay})
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=data.splits["train"],
        eval_dataset=data.splits["validation"],
        data_collator=SeriesCollator(data.feature_extractor),
        processing_class=data.feature_extractor,
        compute_metrics=compute_accuracy,
        optimizer_cls_and_kwargs=optimizer if args.optimizer == "radam" else None,
    )
    trainer.pop_callback(PrinterCallback if args.disable_tqdm else ProgressCallback)
    if not args.disable_tqdm:
        trainer.add_callback(RunProgress(f"{config.attention}, seed {seed}"))
    trained = trainer.train()
    validation = trainer.evaluate(metric_key_prefix="validation")
    test = trainer.evaluate(data.splits["test"], metric_key_prefix="test")
    run = {
        "attention": config.attention,
        "seed": seed,
        "best_epoch": _best_epoch(trainer),
        "epochs": args.num_train_epochs,
        "validation_accuracy": validation["validation_accuracy"],
        "validation_loss": validation["validation_loss"],
        "test_accuracy": test["test_accuracy"],
        "test_loss": test["test_loss"],
        "train_seconds": round(trained.metrics["train_runtime"], 2),
        "released": False,
    }
    shutil.rmtree(folder)
    return model, run


def _best_epoch(trainer: Trainer) -> float:
    """The epoch whose weights the model now has: the best on validation, or the last if none was to be chosen."""
    state = trainer.state
    evaluations = [entry for entry in state.log_history if f"eval_{trainer.args.metric_for_best_model}" in entry]
    if state.best_metric is None or not evaluations:
        return state.epoch
    return next(entry["epoch"] for entry in evaluations if entry["step"] == state.best_global_step)


def count_by_split(data: PreparedSeries) -> dict[str, int]:
    """Number of series in `train`, `validation` and `test`."""
    return {name: len(split) for name, split in data.splits.items()}


def models_for_measuring(
    configs: dict[str, PrimalDualTimeSeriesConfig], tokens: int, device: torch.device
) -> dict[str, PrimalDualTimeSeriesForSequenceClassification]:
    """
    Models of the same shape with positions for `tokens` steps: what they cost does not depend on their weights.

    Their attention maps have no dropout, for which torch has no fused attention on a CPU: the baseline is at its best.
    """
    models = {}
    for name, config in configs.items():
        longer = copy.deepcopy(config)
        longer.max_position_embeddings = tokens
        longer.attention_probs_dropout_prob = 0.0
        models[name] = PrimalDualTimeSeriesForSequenceClassification(longer).to(device)
    return models


def batch_for_measuring(
    data: PreparedSeries, batch: int, tokens: int, device: torch.device
) -> dict[str, torch.Tensor]:
    """`batch` validation series, each repeated until it has `tokens` steps."""
    examples = [data.splits["validation"][index % len(data.splits["validation"])] for index in range(batch)]
    series = [np.resize(example["past_values"], (tokens, data.channels)) for example in examples]
    labels = torch.tensor([int(example["labels"]) for example in examples])
    inputs = data.feature_extractor(series, return_attention_mask=False, return_tensors="pt")
    return {name: tensor.to(device) for name, tensor in {**inputs, "labels": labels}.items()}


def describe_settings(
    data_args: SeriesDataArguments,
    model_args: SeriesModelArguments,
    args: SeriesTrainingArguments,
    config: PrimalDualTimeSeriesConfig,
) -> dict[str, Any]:
    """What the card tells of a run's settings."""
    model = asdict(model_args)
    if "downsampled" in config.choices.training_set:
        model |= {"head_scales": config.resolved_head_scales(), "head_points": config.resolved_head_points()}
    return {
        **model,
        "max_position_embeddings": config.max_position_embeddings,
        "validation_share": data_args.validation_share,
        "selection": f"validation {args.metric_for_best_model}, once per {args.eval_strategy}",
        "seeds": args.seeds,
        "num_train_epochs": args.num_train_epochs,
        "train_batch_size": args.train_batch_size * args.world_size * args.gradient_accumulation_steps,
        "optimizer": args.optimizer if args.optimizer != "trainer" else str(args.optim),
        "learning_rate": args.learning_rate,
        "lr_scheduler_type": str(args.lr_scheduler_type),
        "warmup_steps": args.warmup_steps,
        "weight_decay": args.weight_decay,
        "max_grad_norm": args.max_grad_norm,
        "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
        "processes": args.world_size,
    }


__all__ = [
    "PreparedSeries",
    "SeriesCollator",
    "batch_for_measuring",
    "build_config",
    "count_by_split",
    "describe_settings",
    "models_for_measuring",
    "prepare_series",
    "train_run",
]
