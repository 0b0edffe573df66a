"""What a comparison does with each model: try it, measure all that work in turn, train them on the same batches."""

import tempfile
import time
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed

from hf_primaldual.measure import is_out_of_memory, make_inputs, measure_together

from .models import Build, Shape
from .tasks import Task


def measure(
    models: dict[str, Build], shape: Shape, batch: int, device: str, dtype: str, rounds: int
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """
    The costs of the models that work, by name, and the errors of the others: one that cannot be built, or whose first
    training step fails, is a result too, and the others go on. `dtype` bfloat16 is mixed precision.
    """
    working, failed, inputs = {}, {}, {}
    torch.manual_seed(0)
    # Mixed precision as Trainer's `bf16` has it.
    with torch.autocast(device, getattr(torch, dtype), enabled=dtype != "float32"):
        for name, build in models.items():
            try:
                model = build(shape).to(device).train()
                # The same for all: the sizes are those of the configurations.
                inputs = make_inputs(model, batch=batch)
                model(**inputs).loss.backward()
            # Whatever a rival raises belongs in the table.
            except Exception as error:
                failed[name] = describe(error)
            else:
                model.zero_grad(set_to_none=True)
                working[name] = model
        rows = measure_together(working, inputs, rounds=rounds) if working else {}
    failed |= {name: "does not fit into memory" for name, row in rows.items() if "does_not_fit" in row}
    return {name: row for name, row in rows.items() if name not in failed}, failed


def describe(error: Exception) -> str:
    """One line for a table."""
    text = " ".join(str(error).split())
    return "does not fit into memory" if is_out_of_memory(error) else f"{type(error).__name__}: {text[:160]}"


def train(build: Build, shape: Shape, task: Task, seed: int, evaluate: str, **options) -> dict[str, Any]:
    """
    Trains one model on one seed's batches, all classes in turns, and reads the split `evaluate` once, after the last
    step. AdamW's rate has a warm-up of a tenth of the steps and a cosine decay; `options` go to `TrainingArguments`.
    `loss` is its mean over the first and the last fifth of the training.
    """
    set_seed(seed)
    model = build(shape)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            train_sampling_strategy="sequential",
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            max_grad_norm=1.0,
            save_strategy="no",
            logging_steps=0.2,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            seed=seed,
            **options,
        )
        count = arguments.max_steps * arguments.per_device_train_batch_size
        rows = in_turns(np.asarray(task.train["labels"][:]), count, seed)
        trainer = Trainer(model, arguments, train_dataset=task.train.select(rows))
        trainer.remove_callback(PrinterCallback)
        start = time.perf_counter()
        output = trainer.train()
        seconds = time.perf_counter() - start
        predicted = trainer.predict(getattr(task, evaluate))
    logits = predicted.predictions[0] if isinstance(predicted.predictions, tuple) else predicted.predictions
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "seed": seed,
        "steps": output.global_step,
        "accuracy": float((np.asarray(logits).argmax(-1) == predicted.label_ids).mean()),
        "loss": {"first": losses[0], "last": losses[-1]},
        "seconds": seconds,
    }


def in_turns(labels: np.ndarray, count: int, seed: int) -> list[int]:
    """
    The rows of a training: every class once, in a drawn order, then every class again. Each class's rows are shuffled,
    and again when all have been seen. With few rows in a step, whatever class came last would otherwise steer it.
    """
    random = np.random.default_rng(seed)
    rows_of = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    waiting: list[list[int]] = [[] for _ in rows_of]
    order: list[int] = []
    while len(order) < count:
        for place in random.permutation(len(rows_of)):
            if not waiting[place]:
                waiting[place] = random.permutation(rows_of[place]).tolist()
            order.append(waiting[place].pop())
    return order[:count]
