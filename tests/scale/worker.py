"""
One of two processes: `torchrun --standalone --nproc_per_node 2 -m tests.scale.worker FOLDER JOB [JOB]`.

What process `r` found lies in `FOLDER/JOB-r.pt` after the job.
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
from transformers.trainer_utils import SaveStrategy
from transformers.utils.logging import disable_progress_bar

from hf_primaldual import PrimalDualTimeSeriesForSequenceClassification

from .jobs import (
    BATCH_NORM,
    BATCH_OF_EACH,
    CASES,
    load_task,
    make_model,
    make_trainer,
    train_and_record,
)

RANK = int(os.environ["RANK"])


def compare(folder: Path) -> dict:
    """Every case under DDP and under FSDP2, batch norm under DDP, an evaluation, and who sees what of an epoch."""
    task = load_task()
    found = {"ddp": {}, "fsdp2": {}}
    for name, fields in CASES.items():
        unlabelled = name == "unlabelled"
        trainer, found["ddp"][name] = train_and_record(
            task, make_model(task, fields), folder / "ddp", BATCH_OF_EACH, unlabelled=unlabelled
        )
        found["wrapper"] = type(trainer.model_wrapped).__name__

        # Trainer shards by settings alone on GPUs (`fsdp=True`). On a CPU Accelerate would train with DDP instead, so
        # the model is sharded when it is loaded, which is transformers' own way to FSDP2.
        start = folder / "start" / name
        model = PrimalDualTimeSeriesForSequenceClassification.from_pretrained(
            start, distributed_config=DistributedConfig(fsdp_size=2)
        )
        trainer, found["fsdp2"][name] = train_and_record(
            task, model, folder / "fsdp2", BATCH_OF_EACH, unlabelled=unlabelled
        )
        found["shares"] = {name: tensor.to_local().numel() for name, tensor in model.named_parameters()}
        if name == "learned beta":
            trainer.save_model(str(folder / "saved-by-fsdp2"))
            found["fsdp2 logits"] = trainer.predict(task.splits["test"]).predictions

    _, found["batch norm"] = train_and_record(task, make_model(task, BATCH_NORM), folder / "bn", BATCH_OF_EACH)

    # 370 series in batches of 2 x 7 leave 6 over.
    evaluated = make_trainer(task, make_model(task, CASES["bn+sh"]), folder / "eval", 7).predict(task.splits["test"])
    found["evaluation"] = {"logits": evaluated.predictions, "labels": evaluated.label_ids, **evaluated.metrics}

    # 216 series: in batches of 2 x 12, and in batches of 2 x 7, which leave 6 over.
    for batch in (12, 7):
        trainer = make_trainer(
            task, make_model(task, CASES["softmax"]), folder / "epoch", batch, max_steps=-1, num_train_epochs=1
        )
        trainer.train()
        found[f"epoch in batches of {batch}"] = trainer.seen
    trainer = make_trainer(
        task,
        make_model(task, CASES["softmax"]),
        folder / "stream",
        12,
        train=task.splits["train"].with_format(None).to_iterable_dataset(num_shards=6),
        max_steps=9,
    )
    trainer.train()
    found["streamed epoch"] = trainer.seen
    return found


class Fail(TrainerCallback):
    """Lets process 1 die or hang at its second step, and notes when."""

    def __init__(self, note: Path, fail):
        self.note, self.fail = note, fail

    def on_step_begin(self, args, state, control, **kwargs):
        if RANK == 1 and state.global_step == 1:
            self.note.write_text(str(time.time()))
            self.fail()


def fail(folder: Path, way, **arguments) -> None:
    task = load_task()
    trainer = make_trainer(
        task, make_model(task, CASES["bn"]), folder / "failing", BATCH_OF_EACH, max_steps=1000, **arguments
    )
    trainer.add_callback(Fail(folder / "failed-at", way))
    trainer.train()


def die(folder: Path) -> None:
    fail(folder, lambda: os.kill(os.getpid(), signal.SIGKILL))


def hang(folder: Path) -> None:
    fail(folder, lambda: time.sleep(600), ddp_timeout=3)


def fail_saving(folder: Path) -> dict:
    """The second checkpoint fails in process 1, which writes its random states, then in process 0: its weights."""
    task, found = load_task(), {}
    for failing, method in ((1, "_save_rng_state"), (0, "_save")):
        trainer = make_trainer(task, make_model(task, CASES["bn"]), folder / f"failing-{failing}", BATCH_OF_EACH)
        trainer.args.save_strategy, trainer.args.save_steps = SaveStrategy.STEPS, 1
        # With a best model Trainer has a barrier between the weights and the rest.
        trainer.add_callback(SetBest())
        write = getattr(trainer, method)

        def fail(*arguments, write=write, trainer=trainer, failing=failing):
            if trainer.state.global_step == 2 and failing == RANK:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(*arguments)

        setattr(trainer, method, fail)
        started = time.time()
        try:
            trainer.train()
        except OSError as error:
            found[failing] = {"error": str(error), "seconds": time.time() - started}
    return found


class SetBest(TrainerCallback):
    """Tells Trainer that there is a best model."""

    def on_step_end(self, args, state, control, **kwargs):
        state.best_global_step = 1


if __name__ == "__main__":
    disable_progress_bar()
    torch.set_num_threads(1)
    folder, jobs = Path(sys.argv[1]), {"compare": compare, "die": die, "hang": hang, "fail_saving": fail_saving}
    for job in sys.argv[2:]:
        torch.save(jobs[job](folder), folder / f"{job}-{RANK}.pt")
    # Threads of gloo that still run when a process ends may abort it.
    torch.distributed.destroy_process_group()
