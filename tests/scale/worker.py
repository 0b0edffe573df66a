"""
One of two processes: `torchrun --standalone --nproc_per_node 2 -m tests.scale.worker FOLDER JOB [JOB]`.

What process `r` found lies in `FOLDER/compare-r.pt` after `compare`. The other jobs end both processes.
"""

import errno
import os
import signal
import sys
import time
from pathlib import Path

import torch
from transformers import TrainerCallback
from transformers.distributed import DistributedConfig
from transformers.utils.logging import disable_progress_bar

from .jobs import BATCH_NORM, BATCH_OF_EACH, CASES, load_task, make_model, make_trainer, train_and_record

RANK = int(os.environ["RANK"])


def compare(task, folder: Path) -> None:
    """Every case under DDP and under FSDP2, batch norm under DDP, an evaluation, and who sees what of an epoch."""
    found = {"ddp": {}, "fsdp2": {}}
    for name, fields in CASES.items():
        unlabelled = name == "unlabelled"
        model = make_model(task, fields)
        trainer, found["ddp"][name] = train_and_record(task, model, folder, BATCH_OF_EACH, unlabelled=unlabelled)
        found["wrapper"] = type(trainer.model_wrapped).__name__

        # Trainer shards by settings alone on GPUs (`fsdp=True`). On a CPU Accelerate would train with DDP instead, so
        # the model is sharded when it is loaded, which is transformers' own way to FSDP2.
        start = folder / "start" / name
        model = task.model_class.from_pretrained(start, distributed_config=DistributedConfig(fsdp_size=2))
        trainer, found["fsdp2"][name] = train_and_record(task, model, folder, BATCH_OF_EACH, unlabelled=unlabelled)
        found["shares"] = {name: tensor.to_local().numel() for name, tensor in model.named_parameters()}
        if name == "learned beta":
            trainer.save_model(str(folder / "saved-by-fsdp2"))
            found["fsdp2 logits"] = trainer.predict(task.splits["test"]).predictions

    found["batch norm"] = train_and_record(task, make_model(task, BATCH_NORM), folder, BATCH_OF_EACH)[1]

    # 370 series in batches of 2 x 7 leave 6 over.
    model = make_model(task, CASES["learned beta"])
    evaluated = make_trainer(task, model, folder, 7).predict(task.splits["test"])
    found["evaluation"] = {"logits": evaluated.predictions, "labels": evaluated.label_ids, **evaluated.metrics}

    # 216 series: in batches of 2 x 7, which leave 6 over, and as a stream of 9 batches of 2 x 12.
    stream = task.splits["train"].with_format(None).to_iterable_dataset(num_shards=6)
    runs = {"epoch": (7, {"max_steps": -1, "num_train_epochs": 1}), "stream": (12, {"train": stream, "max_steps": 9})}
    for name, (batch, settings) in runs.items():
        trainer = make_trainer(task, make_model(task, CASES["softmax"]), folder, batch, **settings)
        trainer.train()
        found[name] = trainer.seen
    torch.save(found, folder / f"compare-{RANK}.pt")


class AtSecondStep(TrainerCallback):
    """Lets process 1 do something at its second step, and notes when."""

    def __init__(self, note: Path, what):
        self.note, self.what = note, what

    def on_step_begin(self, args, state, control, **kwargs):
        if RANK == 1 and state.global_step == 1:
            self.note.write_text(str(time.time()))
            self.what()


def die(task, folder: Path) -> None:
    train_on(task, folder, lambda: os.kill(os.getpid(), signal.SIGKILL))


def hang(task, folder: Path) -> None:
    train_on(task, folder, lambda: time.sleep(600), ddp_timeout=3)


def train_on(task, folder: Path, what, **arguments) -> None:
    trainer = make_trainer(task, make_model(task, BATCH_NORM), folder, BATCH_OF_EACH, max_steps=1000, **arguments)
    trainer.add_callback(AtSecondStep(folder / "failed-at", what))
    trainer.train()


def fail_saving(task, folder: Path, failing: int, method: str) -> None:
    """The second checkpoint fails in one process."""
    settings = {"save_strategy": "steps", "save_steps": 1}
    trainer = make_trainer(task, make_model(task, BATCH_NORM), folder / "run", BATCH_OF_EACH, **settings)
    write = getattr(trainer, method)

    def fail(*arguments):
        if trainer.state.global_step == 2 and failing == RANK:
            (folder / "failed-at").write_text(str(time.time()))
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*arguments)

    setattr(trainer, method, fail)
    trainer.train()


JOBS = {
    "compare": compare,
    "die": die,
    "hang": hang,
    # Its random states are what process 1 writes, and the weights what process 0 does.
    "fail-saving-1": lambda *args: fail_saving(*args, 1, "_save_rng_state"),
    "fail-saving-0": lambda *args: fail_saving(*args, 0, "_save"),
}

if __name__ == "__main__":
    disable_progress_bar()
    torch.set_num_threads(1)
    task = load_task()
    for job in sys.argv[2:]:
        JOBS[job](task, Path(sys.argv[1]))
