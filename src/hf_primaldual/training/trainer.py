"""Trainer with what a long run needs: a stop at a loss that is no number, averaged weights, a full disk named."""

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_model, save_model
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Sampler
from transformers import EvalPrediction, PreTrainedConfig, Trainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_primaldual.data.splits import column_of
from hf_primaldual.data.windows import vote

from .arguments import ComparisonArguments
from .task import EXAMPLE_ID, Task

_AVERAGE_FILE = "average.safetensors"
# A write failed for want of space if less than this is left. A file system keeps some blocks back.
_FULL = 2**20


def build_trainer(
    task: Task, config: PreTrainedConfig, args: ComparisonArguments, seed: int, folder: Path, **changes: Any
) -> "ComparisonTrainer":
    """The trainer of one run; `changes` go over its arguments, and a `model_init` takes the place of its model."""
    name = f"{config.attention}-{seed}"
    if "tensorboard" in args.report_to:
        # By default it would write into the folder of the run, which is cleared when all runs have ended.
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(Path(args.output_dir) / "logs" / name)
    model_init = changes.pop("model_init", None)
    # What goes to the Hub is the checkpoint of all runs together, at the end, and not Trainer's of each.
    run = {"output_dir": str(folder), "seed": seed, "run_name": f"{task.source['name']}-{name}", "push_to_hub": False}
    trainer = ComparisonTrainer(
        model=None if model_init else task.model_class(config),
        model_init=model_init,
        args=replace(args, **(run | changes)),
        train_dataset=task.splits["train"],
        eval_dataset=task.splits["validation"],
        data_collator=task.collate,
        train_collate=task.collate_train,
        train_sampler=task.train_sampler,
        compute_loss_func=task.compute_loss,
        processing_class=task.processor,
        compute_metrics=task.compute_metrics,
        preprocess_logits_for_metrics=task.reduce_logits,
    )
    trainer.pop_callback(PrinterCallback if args.disable_tqdm else ProgressCallback)
    if not args.disable_tqdm:
        trainer.add_callback(_RunProgress())
    return trainer


def voted(recordings: np.ndarray, prediction: EvalPrediction) -> EvalPrediction:
    """The prediction of whole texts or series from that of their windows: the mean of the windows' probabilities."""
    logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    logits = torch.as_tensor(logits).double()
    _, first = np.unique(pd.factorize(recordings)[0], return_index=True)
    is_single = prediction.label_ids.ndim == 1
    # Away from 0 and 1, whose logits are infinite.
    scores = vote(recordings, logits.softmax(-1) if is_single else logits.sigmoid())[1].clip(1e-12, 1 - 1e-12)
    return EvalPrediction(np.log(scores) if is_single else np.log(scores / (1 - scores)), prediction.label_ids[first])


def _with_ids(collate: Callable[[list[dict[str, Any]]], dict[str, Any]], examples: list[dict]) -> dict[str, Any]:
    """A batch, and beside it the `example_id` of each example that has one."""
    ids = [int(example[EXAMPLE_ID]) for example in examples if EXAMPLE_ID in example]
    batch = collate(examples)
    return {**batch, "example_ids": ids} if ids else batch


class ComparisonTrainer(Trainer):
    """
    Trainer that stops at a loss that is not finite, with the step and the ids of the batch, before a checkpoint can
    hold what came of it. Its checkpoints count once they have `trainer_state.json`, which is written last.

    Args:
        args (`ComparisonArguments`):
            With its `ema_decay` an exponential average of the weights is kept, updated after every step; evaluations
            and what is loaded at the end are its weights. Checkpoints hold both.
        train_collate (`Callable`):
            The collator of the training set where it augments; by default the one of all sets.
        train_sampler (`Callable`):
            Makes the sampler of a training set that is drawn otherwise than once in random order.

    Raises:
        FloatingPointError: from `train`, at a loss that is not finite.
        OSError: from `train`, when the disk is full; the checkpoint before stays.
    """

    def __init__(
        self,
        *args,
        train_collate: Callable | None = None,
        train_sampler: Callable[[Any], Sampler] | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self._train_collate = partial(_with_ids, train_collate or self.data_collator)
        self._train_sampler = train_sampler
        self._logged_at = 0.0
        self.average = None
        if self.args.ema_decay is not None:
            self.begin_average()
            self.add_callback(_UpdateAverage(self))

    @staticmethod
    def get_optimizer_cls_and_kwargs(args, model=None):
        """Trainer's, and RAdam, which has no name in `optim`."""
        if args.optimizer == "radam":
            return torch.optim.RAdam, {"lr": args.learning_rate, "weight_decay": args.weight_decay}
        return Trainer.get_optimizer_cls_and_kwargs(args, model)

    def get_train_dataloader(self):
        """The loader of the training set, with its own collator."""
        evaluation, self.data_collator = self.data_collator, self._train_collate
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = evaluation

    def _get_train_sampler(self, train_dataset=None):
        if self._train_sampler is None:
            return super()._get_train_sampler(train_dataset)
        return self._train_sampler(self.train_dataset if train_dataset is None else train_dataset)

    def training_step(self, model, inputs, num_items_in_batch=None):
        """One step; see the class for what it raises."""
        ids = inputs.pop("example_ids", "unknown")
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1} of process "
                f"{self.args.process_index}, on the training examples with the ids {ids}; look at them, lower "
                f"`learning_rate`, now {self._get_learning_rate():g}, or `max_grad_norm`, now "
                f"{self.args.max_grad_norm:g}. The last whole checkpoint is kept in {self.args.output_dir}."
            )
        return loss

    def train(self, *args, **kwargs):
        """Trainer's."""
        self._logged_at = time.perf_counter()
        return super().train(*args, **kwargs)

    def log(self, logs, start_time=None) -> None:
        """Trainer's, with the seconds of training so far, those before a resumption included, as `elapsed`."""
        if self.is_in_train:
            before, self._logged_at = self._logged_at, time.perf_counter()
            logs = {**logs, "elapsed": self.elapsed() + self._logged_at - before}
        super().log(logs, start_time)

    def elapsed(self) -> float:
        """Seconds of training up to the last entry of the log."""
        return max((entry.get("elapsed", 0.0) for entry in self.state.log_history), default=0.0)

    def _save_checkpoint(self, model, trial) -> None:
        folder = Path(self._get_output_dir(trial=trial))
        checkpoint = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
        except Exception as error:
            # torch, safetensors and Python each have an error of their own for a full disk.
            full = getattr(error, "errno", None) == errno.ENOSPC or shutil.disk_usage(folder).free < _FULL
            shutil.rmtree(checkpoint, ignore_errors=True)
            if not full:
                raise
            raise OSError(
                errno.ENOSPC,
                f"the disk is full: checkpoint {checkpoint.name} could not be written by process "
                f"{self.args.process_index} and was removed. What was there before is kept; make room in "
                f"{folder} and start again with --resume_from_checkpoint",
            ) from error

    def _save_rng_state(self, output_dir) -> None:
        super()._save_rng_state(output_dir)
        # Each process has written its part before the first writes `trainer_state.json`.
        self.accelerator.wait_for_everyone()

    def save_model(self, output_dir=None, _internal_call=False) -> None:
        """Trainer's; a checkpoint holds the averaged weights too."""
        super().save_model(output_dir, _internal_call)
        if _internal_call and self.average is not None and self.args.should_save:
            save_model(self.average, str(Path(output_dir) / _AVERAGE_FILE))

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_average(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        self._load_average(self.state.best_model_checkpoint)

    def _load_average(self, checkpoint: str) -> None:
        if self.average is not None:
            load_model(self.average, Path(checkpoint) / _AVERAGE_FILE)

    def begin_average(self) -> None:
        """Starts averaging from the weights that the model has."""
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(self.args.ema_decay))

    def keep_average(self) -> None:
        """Makes the averaged weights those of the model, for good."""
        if self.average is not None:
            self.model.load_state_dict(self.average.module.state_dict())
            self.average = None

    def evaluation_loop(self, dataloader, *args, **kwargs):
        """Trainer's, on the averaged weights where there are some; windows vote on the `recording` they are of."""
        data, of_windows = dataloader.dataset, self.compute_metrics
        if of_windows is not None and "recording" in (getattr(data, "column_names", None) or ()):
            recordings = column_of(data, "recording").to_numpy(zero_copy_only=False)
            if len(np.unique(recordings)) < len(recordings):
                self.compute_metrics = lambda prediction: of_windows(voted(recordings, prediction))
        try:
            with self._averaged():
                return super().evaluation_loop(dataloader, *args, **kwargs)
        finally:
            self.compute_metrics = of_windows

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        pairs = [] if self.average is None else list(zip(self.model.parameters(), self.average.module.parameters()))
        for ours, averaged in pairs:
            ours.data, averaged.data = averaged.data, ours.data
        try:
            yield
        finally:
            for ours, averaged in pairs:
                ours.data, averaged.data = averaged.data, ours.data


class _UpdateAverage(TrainerCallback):
    def __init__(self, trainer: ComparisonTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        # Each trial of a search has a model of its own. A resumed run has loaded its average already.
        if state.global_step == 0:
            self.trainer.begin_average()

    def on_step_end(self, args, state, control, **kwargs):
        self.trainer.average.update_parameters(self.trainer.model)


class _RunProgress(ProgressCallback):
    """One bar for each run, with its name and the last figures at its end, instead of a printed line per epoch."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.training_bar is not None:
            self.training_bar.set_description(args.run_name)
            # Of training, of the evaluation after it, and what Trainer adds at the end.
            figures = {name: value for entry in state.log_history[-3:] for name, value in entry.items()}
            shown = ("loss", "eval_loss", "eval_accuracy")
            self.training_bar.set_postfix({name: figures[name] for name in shown if name in figures})

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
        """Evaluations are short: no bar of their own."""
