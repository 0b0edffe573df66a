"""
One of two processes: `torchrun --standalone --nproc_per_node 2 -m tests.scale.worker FOLDER JOB [JOB]`.

What process `r` found lies in `FOLDER/compare-r.pt` after `compare`. The other jobs end both processes.
"""

import errno
import os
import sys
import time
from pathlib import Path

import torch
from transformers.distributed import DistributedConfig
from transformers.utils.logging import disable_progress_bar

from .jobs import BATCH_OF_EACH, CASES, load_task, make_model, make_trainer, train_and_record

RANK = int(os.environ["RANK"])


def compare(task, folder: Path) -> None:
    """Every case under DDP and under FSDP2, an evaluation, and who sees what of an epoch."""
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


def fail_saving(task, folder: Path) -> None:
    """The second checkpoint fails in process 1, whose part of it are its random states."""
    settings = {"save_strategy": "steps", "save_steps": 1}
    trainer = make_trainer(task, make_model(task, CASES["softmax"]), folder / "run", BATCH_OF_EACH, **settings)

    def write(checkpoint, write=trainer._save_rng_state):
        if trainer.state.global_step == 2 and RANK == 1:
            # Time for the other process to make the checkpoint count, which it must not.
            time.sleep(2)
            (folder / "counted").write_text(str(Path(checkpoint, "trainer_state.json").exists()))
            (folder / "failed-at").write_text(str(time.time()))
            raise OSError(errno.ENOSPC, "No space left on device")
        write(checkpoint)

    trainer._save_rng_state = write
    trainer.train()


def hang(task, folder: Path) -> None:
    """Process 1 hangs at its second step."""
    model = make_model(task, CASES["softmax"])
    trainer = make_trainer(task, model, folder, BATCH_OF_EACH, max_steps=1000, ddp_timeout=3)

    def step(*arguments, step=trainer.training_step):
        if trainer.state.global_step == 1 and RANK == 1:
            (folder / "failed-at").write_text(str(time.time()))
            time.sleep(600)
        return step(*arguments)

    trainer.training_step = step
    trainer.train()


if __name__ == "__main__":
    disable_progress_bar()
    torch.set_num_threads(1)
    task, jobs = load_task(), {"compare": compare, "fail_saving": fail_saving, "hang": hang}
    for job in sys.argv[2:]:
        jobs[job](task, Path(sys.argv[1]))
