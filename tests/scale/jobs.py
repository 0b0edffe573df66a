"""What one process and two processes both do on real series, so that what they find can be compared."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from transformers import set_seed

from hf_primaldual.hub.scores import compute_accuracy_and_loss
from hf_primaldual.training.arguments import ComparisonArguments
from hf_primaldual.training.task import EXAMPLE_ID
from hf_primaldual.training.time_series import SeriesDataArguments, SeriesModelArguments, SeriesTask, series_task
from hf_primaldual.training.trainer import ComparisonTrainer

ROOT = Path(__file__).parents[2]
# Odd, so that neither the batch of a process nor the set is a round number.
BATCH_OF_ONE, BATCH_OF_EACH = 10, 5
CASES = {
    "softmax": {"attention": "softmax"},
    "sparse-bn+sh": {"attention": "sparse-bn+sh", "sparse_window": 8, "sparse_stride": 4},
    "learned beta": {"attention": "bn+sh", "bn_beta_learnable": True},
    # A mean over each process's own labels would weigh the processes wrongly.
    "unlabelled": {"attention": "linear-bn+sh"},
}
# Plain SGD on a CPU: Adam would blow the rounding of gradients near zero up to whole steps.
SETTINGS = {"max_steps": 3, "use_cpu": True, "optim": "sgd", "learning_rate": 0.02, "max_grad_norm": 1.0}
SETTINGS |= {"disable_tqdm": True, "logging_strategy": "steps", "logging_steps": 1}
SETTINGS |= {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}


def two_processes(*arguments: str) -> subprocess.CompletedProcess:
    """Runs a program twice, as a user does, and waits for its end; after ten minutes it ends them."""
    command = ["bash", "scripts/launch/two_cpu_processes.sh", *map(str, arguments)]
    environment = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes) as process:
        try:
            stdout, stderr = process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            process.terminate()
            raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def load_task() -> SeriesTask:
    """JapaneseVowels, series of 7 to 29 steps: 216 to train, 370 to test; a small model without dropout."""
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "initializer_range": 0.05}
    return series_task(SeriesDataArguments(), SeriesModelArguments(dropout=0.0, norm_type="layer", **shape))


def make_model(task: SeriesTask, fields: dict[str, Any]):
    """The model of a case, the same in every process."""
    set_seed(0)
    return task.model_class(task.config(**fields))


def partly_labelled(collate, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A batch without the label of every third series."""
    batch = collate(examples)
    unlabelled = torch.tensor([int(example[EXAMPLE_ID]) % 3 == 0 for example in examples])
    return {**batch, "labels": batch["labels"].masked_fill(unlabelled, -100)}


class RecordingTrainer(ComparisonTrainer):
    """The trainer of the scripts, which keeps the series of each step of this process, and its gradients, clipped."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen: list[list[int]] = []
        self.gradients: list[dict[str, torch.Tensor]] = []

    def training_step(self, model, inputs, num_items_in_batch=None):
        self.seen.append(inputs["example_ids"])
        return super().training_step(model, inputs, num_items_in_batch)

    def create_optimizer(self, *args, **kwargs):
        optimizer = super().create_optimizer(*args, **kwargs)

        def keep(*_):
            self.gradients.append({name: whole(weight.grad) for name, weight in self.model.named_parameters()})

        optimizer.register_step_pre_hook(keep)
        return optimizer


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of a tensor, put together where it is sharded."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def make_trainer(
    task: SeriesTask, model, folder: Path, batch: int, train=None, unlabelled: bool = False, **arguments
) -> RecordingTrainer:
    """A trainer of `SETTINGS`, but for the `arguments`."""
    sizes = {"per_device_train_batch_size": batch, "per_device_eval_batch_size": batch}
    return RecordingTrainer(
        model=model,
        args=ComparisonArguments(str(folder), **(SETTINGS | sizes | arguments)),
        train_dataset=task.splits["train"] if train is None else train,
        eval_dataset=task.splits["test"],
        data_collator=task.collate,
        train_collate=partial(partly_labelled, task.collate) if unlabelled else None,
        processing_class=task.processor,
        compute_metrics=compute_accuracy_and_loss,
    )


def train_and_record(task: SeriesTask, model, folder: Path, batch: int, **options) -> tuple[RecordingTrainer, dict]:
    """A few steps: the trainer, and losses, norms of the gradients, the gradients and the weights at the end."""
    trainer = make_trainer(task, model, folder, batch, **options)
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    return trainer, {
        "losses": [entry["loss"] for entry in log],
        "norms": [entry["grad_norm"] for entry in log],
        "gradients": trainer.gradients,
        "weights": {name: whole(tensor) for name, tensor in trainer.model.state_dict().items()},
        "seen": trainer.seen,
    }
