"""How the estimator of time series trains: by transformers' Trainer as it is, leaving nothing behind but a model."""

import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from joblib import effective_n_jobs
from sklearn.model_selection import train_test_split
from transformers import (
    BatchFeature,
    EarlyStoppingCallback,
    PreTrainedModel,
    Trainer,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.utils import logging

from .modeling.feature_extraction_primal_dual import PrimalDualTimeSeriesFeatureExtractor
from .training.losses import weighted_cross_entropy

EVALUATION_BATCH = 256
# A training is looked at so often, at most.
_EVALUATIONS = 40


def hold_out(targets: np.ndarray, classes: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows that are trained on, and those that are held out, of each class a share."""
    rows, counts = np.arange(len(targets)), np.bincount(targets)
    if not share:
        return rows, rows[:0]
    if alone := classes[counts == 1].tolist():
        raise ValueError(
            f"`validation_share` = {share} holds out examples of each class, and `y` has one sample alone of "
            f"{len(alone)} of its {len(classes)} classes, such as {alone[0]!r}: bring more, leave the class out, or "
            "set `validation_share=0`."
        )
    size = np.clip(round(len(rows) * share), len(classes), len(rows) - len(classes))
    return tuple(train_test_split(rows, test_size=int(size), stratify=targets, random_state=seed))


def standardize(
    series: Sequence[np.ndarray], feature_extractor: PrimalDualTimeSeriesFeatureExtractor, positions: int
) -> list[np.ndarray]:
    """What the model is shown of series (time, channels), each as long as it is."""
    longest = max(map(len, series))
    if longest > positions:
        raise ValueError(
            f"`X` has a series of {longest} steps, and the model has positions for {positions}: cut it, or train with "
            f"`model_config={{'max_position_embeddings': {longest}}}`."
        )
    return feature_extractor(series, padding=False)["past_values"]


def collate(feature_extractor: PrimalDualTimeSeriesFeatureExtractor, examples: list[dict]) -> BatchFeature:
    """A batch of what is standardized, padded and masked where lengths differ."""
    differ = len({len(example["past_values"]) for example in examples}) > 1
    return feature_extractor.pad(examples, return_attention_mask=differ, return_tensors="pt")


def copy_weights(source: PreTrainedModel, target: PreTrainedModel) -> None:
    """Starts a model where another one is."""
    try:
        target.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise ValueError(
            "`warm_start` goes on from the weights that there are, which a model of these parameters has not: "
            f"{' '.join(str(error).split())}"
        ) from error


def train_quietly(
    model: PreTrainedModel,
    feature_extractor: PrimalDualTimeSeriesFeatureExtractor,
    train: list[dict],
    held_out: list[dict],
    settings: dict[str, Any],
    patience: int,
    class_weights: torch.Tensor | None,
) -> TrainerState:
    """
    Trains a model in place, and prints nothing.

    Args:
        held_out: Examples that are not trained on. If there are any, the weights are left at those that had the
            smallest loss on them.
        settings: Fields of `TrainingArguments`, `max_steps` among them.
        patience: The training ends after so many evaluations without a smaller loss.
        class_weights: The weight of each class in the loss, on average 1 over the training set.

    Raises:
        ValueError: a loss is not finite.
    """
    eval_steps = min(max(settings["max_steps"] // _EVALUATIONS, 10), settings["max_steps"])
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "output_dir": folder,
            "per_device_eval_batch_size": EVALUATION_BATCH,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.1,
            "logging_steps": eval_steps,
            "save_strategy": "no",
            "dataloader_pin_memory": torch.cuda.is_available(),
            "report_to": "none",
            "log_level": "error",
            **(_keeping_the_best(eval_steps) if held_out else {}),
            **settings,
        }
        args = TrainingArguments(**settings)
        trainer = Trainer(
            model,
            args,
            data_collator=partial(collate, feature_extractor),
            train_dataset=train,
            eval_dataset=held_out or None,
            compute_loss_func=None
            if class_weights is None
            else partial(weighted_cross_entropy, class_weights, label_smoothing=args.label_smoothing_factor),
            callbacks=[EarlyStoppingCallback(patience)] if held_out else [],
        )
        trainer.pop_callback(PrinterCallback if args.disable_tqdm else ProgressCallback)
        if not args.disable_tqdm:
            trainer.add_callback(_Bar())
        trainer.train()
    logged = trainer.state.log_history
    broken = [entry for entry in logged for name in ("loss", "eval_loss") if not np.isfinite(entry.get(name, 0.0))]
    if broken:
        raise ValueError(
            f"the loss became infinite or NaN by step {broken[0]['step']}; lower `learning_rate`, now "
            f"{args.learning_rate:g}."
        )
    return trainer.state


def _keeping_the_best(eval_steps: int) -> dict[str, Any]:
    return {
        "eval_strategy": "steps",
        "eval_steps": eval_steps,
        "save_strategy": "best",
        "save_total_limit": 1,
        "save_only_model": True,
        "load_best_model_at_end": True,
        "metric_for_best_model": "loss",
    }


class _Bar(ProgressCallback):
    """One bar for the whole training, with the last losses; Trainer's prints a line for each."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.training_bar is not None:
            self.training_bar.set_postfix({name: logs[name] for name in ("loss", "eval_loss") if name in logs})

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
        """Evaluations are short: no bar of their own."""


def still_falling(state: TrainerState, classes: int) -> bool:
    """
    Whether the steps were over before the loss had settled: it was smallest at the end, and a tenth or more of its
    whole fall was in the second half. The loss is that on what is held out, where there is any.
    """
    history = state.log_history
    name = "eval_loss" if any("eval_loss" in entry for entry in history) else "loss"
    # Before the first step all classes are alike.
    losses = np.array([np.log(classes), *(entry[name] for entry in history if name in entry)])
    is_last = state.global_step == state.max_steps and losses.argmin() >= 0.9 * (len(losses) - 1)
    late_fall = losses[: (len(losses) + 1) // 2].min() - losses.min()
    return bool(is_last and late_fall > 0.1 * (losses.max() - losses.min()))


@contextmanager
def as_it_was() -> Iterator[None]:
    """Leaves random numbers and the logging of transformers as they were."""
    python, numbers, verbosity = random.getstate(), np.random.get_state(), logging.get_verbosity()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())), without_bars():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)
        logging.set_verbosity(verbosity)


@contextmanager
def without_bars() -> Iterator[None]:
    """Without transformers' own bars, of files and tensors."""
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


@contextmanager
def threads(n_jobs: int | None) -> Iterator[None]:
    """With so many threads of torch, counted as scikit-learn counts `n_jobs`."""
    before = torch.get_num_threads()
    torch.set_num_threads(effective_n_jobs(n_jobs))
    try:
        yield
    finally:
        torch.set_num_threads(before)


__all__ = [
    "as_it_was",
    "collate",
    "hold_out",
    "standardize",
    "still_falling",
    "threads",
    "train_quietly",
    "without_bars",
]
