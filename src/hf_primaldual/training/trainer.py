"""Trainer with what a long run needs: whole checkpoints, a stop at a loss that is no number, averaged weights."""

import errno
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

from .checkpoints import seal, together
from .task import EXAMPLE_ID

AVERAGE_FILE = "average.safetensors"
# A write failed for want of space if less than this is left. A file system keeps some blocks back.
_FULL = 2**20


class WithIds:
    """
    A collator that keeps the `example_id` of each example beside its batch, as a list under `example_ids`.

    Examples without one, as those of an evaluation, pass as they are.
    """

    def __init__(self, collate: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]):
        self.collate = collate

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        ids = [int(example[EXAMPLE_ID]) for example in examples if EXAMPLE_ID in example]
        batch = self.collate(examples)
        return {**batch, "example_ids": ids} if ids else batch


class ComparisonTrainer(Trainer):
    """
    Trainer whose checkpoints are whole or do not count (`training.checkpoints`), and which stops at a loss that is not
    finite, with the step and the ids of the batch, before a checkpoint can hold what came of it.

    Args:
        train_collate: the collator of the training set where it augments; by default the one of all sets.
        train_sampler: makes the sampler of a training set that is drawn otherwise than once in random order.
        ema_decay: keeps an exponential average of the weights, updated after every step; evaluations and what is
            loaded at the end are its weights. Checkpoints hold both.

    Raises:
        FloatingPointError: from `train`, at a loss that is not finite.
        OSError: from `train`, when the disk is full, or a checkpoint could not be written by another process; the last
            whole checkpoint stays.
    """

    def __init__(
        self,
        *args,
        train_collate: Callable | None = None,
        train_sampler: Callable[[Any], Sampler] | None = None,
        ema_decay: float | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        # Rotation waits until the new checkpoint is sealed: see `_save_checkpoint`.
        self._checkpoints_kept, self.args.save_total_limit = self.args.save_total_limit, None
        self._train_collate = WithIds(train_collate or self.data_collator)
        self._train_sampler = train_sampler
        self._begun = self._elapsed_before = 0.0
        self.add_callback(_Clock(self))
        self.average = None
        if ema_decay is not None:
            self.add_callback(_UpdateAverage(self))
            self._ema_decay = ema_decay
            self.begin_average()

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
        ids = inputs.pop("example_ids", None)
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            examples = "unknown ids" if ids is None else f"the ids {ids}"
            raise FloatingPointError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1} of process "
                f"{self.args.process_index}, on the training examples of {examples}; look at them, lower "
                f"`learning_rate`, now {self._get_learning_rate():g}, or `max_grad_norm`, now "
                f"{self.args.max_grad_norm:g}. The last whole checkpoint is kept in {self.args.output_dir}."
            )
        return loss

    def compute_loss(self, model, inputs, *args, **kwargs):
        """Trainer's; a loss that wants to see the batch, as distillation does, is shown it."""
        if hasattr(self.compute_loss_func, "see"):
            self.compute_loss_func.see(inputs, model.training)
        return super().compute_loss(model, inputs, *args, **kwargs)

    def _save_checkpoint(self, model, trial) -> None:
        folder = Path(self._get_output_dir(trial=trial))
        checkpoint = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        try:
            # Every process writes a file of its own.
            with together(f"checkpoint {checkpoint.name} could not be written"), self._naming_a_full_disk(checkpoint):
                super()._save_checkpoint(model, trial)
                if self.args.should_save and self.average is not None:
                    save_file(self.average.state_dict(), checkpoint / AVERAGE_FILE)
            with together(f"checkpoint {checkpoint.name} could not be sealed"), self._naming_a_full_disk(checkpoint):
                if self.args.should_save:
                    seal(checkpoint)
        except Exception:
            if self.args.should_save:
                shutil.rmtree(checkpoint, ignore_errors=True)
            raise
        if self.args.should_save:
            rotate_checkpoints(str(folder), self._checkpoints_kept, self.state.best_model_checkpoint)

    def save_model(self, output_dir=None, _internal_call=False) -> None:
        """Trainer's. It comes before a barrier, where nobody may wait for a process that failed to write."""
        with together(f"the model could not be written to {output_dir or self.args.output_dir}"):
            super().save_model(output_dir, _internal_call)

    @contextmanager
    def _naming_a_full_disk(self, checkpoint: Path) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # torch, safetensors and Python each have an error of their own for a full disk.
            number, free = getattr(error, "errno", None), shutil.disk_usage(checkpoint.parent).free
            # The error of another process has been named there.
            if number == errno.ECANCELED or (number != errno.ENOSPC and free >= _FULL):
                raise
            raise OSError(
                errno.ENOSPC,
                f"the disk is full: checkpoint {checkpoint.name} could not be written by process "
                f"{self.args.process_index} and was removed. What was there before is kept; make room in "
                f"{checkpoint.parent} and start again with --resume",
            ) from error

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.average is not None:
            self.average.load_state_dict(load_file(Path(resume_from_checkpoint) / AVERAGE_FILE))

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if self.average is not None:
            self.average.load_state_dict(load_file(Path(self.state.best_model_checkpoint) / AVERAGE_FILE))

    def log(self, logs, start_time=None) -> None:
        """Trainer's, with the seconds of training so far, those before a resumption included, as `elapsed`."""
        super().log({**logs, "elapsed": round(self.elapsed(), 2)} if self.is_in_train else logs, start_time)

    def elapsed(self) -> float:
        """Seconds of training so far; once it has ended, those that it took."""
        if self.is_in_train:
            return self._elapsed_before + time.perf_counter() - self._begun
        return max((entry.get("elapsed", 0.0) for entry in self.state.log_history), default=0.0)

    def evaluation_loop(self, *args, **kwargs):
        """Trainer's, on the averaged weights where there are some."""
        with self._averaged():
            return super().evaluation_loop(*args, **kwargs)

    def begin_average(self) -> None:
        """Starts averaging from the weights that the model has."""
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(self._ema_decay))

    def keep_average(self) -> None:
        """Makes the averaged weights those of the model, for good."""
        if self.average is not None:
            self.model.load_state_dict(self.average.module.state_dict())
            self.average = None

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        if self.average is None:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        pairs = zip(self.model.parameters(), self.average.module.parameters(), strict=True)
        for ours, averaged in pairs:
            ours.data, averaged.data = averaged.data, ours.data


class _Clock(TrainerCallback):
    def __init__(self, trainer: ComparisonTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        # A resumed run finds in its log how long it had trained when it was stopped.
        self.trainer._elapsed_before = max((entry.get("elapsed", 0.0) for entry in state.log_history), default=0.0)
        self.trainer._begun = time.perf_counter()


class _UpdateAverage(TrainerCallback):
    def __init__(self, trainer: ComparisonTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        # Each trial of a search has a model of its own. A resumed run has loaded its average already.
        if state.global_step == 0:
            self.trainer.begin_average()

    def on_step_end(self, args, state, control, **kwargs):
        if self.trainer.average is not None:
            self.trainer.average.update_parameters(self.trainer.model)


__all__ = ["AVERAGE_FILE", "ComparisonTrainer", "WithIds"]
