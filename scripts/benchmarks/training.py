"""
Times the training of a recipe on a CPU: what share of a step its data take, how long a first epoch takes, and two
processes against one, each in a process of its own, interleaved.

    python scripts/benchmarks/training.py time-series scripts/configs/japanese_vowels.yaml
    python scripts/benchmarks/training.py time-series scripts/configs/japanese_vowels.yaml --global_batch 8 32 128 \
        --output results
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import paths  # noqa: F401
import torch
from sources import IMAGE_SOURCES, TEXT_SOURCES
from transformers import HfArgumentParser, PreTrainedConfig, TrainerCallback
from transformers.hf_argparser import HfArg

from hf_primaldual.commands.train import KINDS
from hf_primaldual.measure import save_results
from hf_primaldual.training.arguments import ComparisonArguments
from hf_primaldual.training.task import Task
from hf_primaldual.training.trainer import build_trainer

ROOT = Path(__file__).parents[2]
SOURCES = {"text": TEXT_SOURCES, "language": TEXT_SOURCES, "image": IMAGE_SOURCES}
# Steps that are not counted: memory is being allocated, and DDP sorts its buckets.
WARMUP = 5
# Processes, threads of each, and the share of the global batch that they train on together.
SETUPS = {
    "one process": (1, 1, 1),
    "one process, two threads": (1, 2, 1),
    "two processes": (2, 1, 1),
    # What two processes would take for a step if they had nothing to tell each other.
    "one process, half the batch": (1, 1, 0.5),
}
# Throughput of the same global batch: more is better.
RATIOS = {
    "two processes / one": "two processes",
    "two threads / one": "one process, two threads",
    "two processes / one, without communication": "one process, half the batch",
}


@dataclass
class BenchmarkArguments:
    """What is timed, and how often."""

    attention: str = HfArg(default="bn+sh", help="The attention of the model.")
    global_batch: list[int] | None = HfArg(
        default=None, help="Examples of a step, all processes together. Default: the recipe's."
    )
    steps: int = HfArg(default=100, help="Steps of each run, at least; and at least two epochs.")
    rounds: int = HfArg(default=5, help="Runs of each set-up.")
    output: str | None = HfArg(default=None, help="Folder for JSON and CSV, named by the machine.")
    worker: str | None = HfArg(default=None, help="File for one run's figures; this program sets it.")


class StepClock(TrainerCallback):
    """Notes when the steps of a training begin and end, and when its first epoch ends, in seconds."""

    def __init__(self):
        self.begins, self.ends, self.first_epoch = [], [], None

    def on_step_begin(self, args, state, control, **kwargs):
        self.begins.append(time.perf_counter())

    def on_step_end(self, args, state, control, **kwargs):
        self.ends.append(time.perf_counter())

    def on_epoch_end(self, args, state, control, **kwargs):
        self.first_epoch = self.first_epoch or time.perf_counter()


def measure_training(
    task: Task, config: PreTrainedConfig, args: ComparisonArguments, steps: int, folder: Path
) -> dict[str, float]:
    """
    Trains for at least `steps` steps and at least two epochs, without evaluations and checkpoints.

    Returns:
        `step_seconds`, the median; `data_share`, the part of all steps in which no step was running, since it waited
        for its batch; `examples_per_second` of all processes; `first_epoch_seconds`, from building the trainer to the
        end of the first epoch, once data and imports are there; and `steps`, how many were counted.
    """
    batch = args.per_device_train_batch_size * args.world_size
    epochs = max(2, math.ceil(steps / math.ceil(task.sizes["train"] / batch)))
    start = time.perf_counter()
    silent = {"eval_strategy": "no", "save_strategy": "no", "logging_strategy": "no", "report_to": []}
    silent |= {"load_best_model_at_end": False, "num_train_epochs": epochs}
    trainer = build_trainer(task, config, replace(args, disable_tqdm=True), seed=0, folder=folder, **silent)
    clock = StepClock()
    trainer.add_callback(clock)
    trainer.train()
    seconds = np.diff(clock.ends[WARMUP:])
    if not len(seconds):
        raise ValueError(f"`steps` must leave some after {WARMUP + 1} of warm-up, got {len(clock.ends)} in all.")
    waits = np.subtract(clock.begins[WARMUP + 1 :], clock.ends[WARMUP:-1])
    step = float(np.median(seconds))
    return {
        "step_seconds": step,
        "data_share": float(waits.sum() / seconds.sum()),
        "examples_per_second": batch / step,
        "first_epoch_seconds": clock.first_epoch - start,
        "steps": len(seconds),
    }


def work(kind: str, recipe: str, args: BenchmarkArguments) -> None:
    """One run of one set-up, in a process started for it."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    batch = args.global_batch[0] // int(os.environ.get("WORLD_SIZE", "1"))
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--use_cpu", "true", "--per_device_train_batch_size", str(batch), "--output_dir", folder]
        arguments = KINDS[kind].parse([recipe, *flags])
        task = KINDS[kind].task(*arguments, SOURCES.get(kind))
        figures = measure_training(task, task.config(args.attention), arguments[-1], args.steps, Path(folder))
    if arguments[-1].should_save:
        Path(args.worker).write_text(json.dumps(figures), encoding="utf-8")


def run_setup(name: str, kind: str, recipe: str, args: BenchmarkArguments, batch: int) -> dict[str, float]:
    """Starts the processes of a set-up and reads what they found."""
    processes, threads, share = SETUPS[name]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        flags = {
            "attention": args.attention,
            "steps": args.steps,
            "worker": file,
            "global_batch": round(batch * share),
        }
        launcher = [sys.executable]
        if processes > 1:
            launcher = ["bash", str(ROOT / "scripts" / "launch" / "two_cpu_processes.sh")]
        command = [*launcher, __file__, kind, recipe, *(f"--{flag}={value}" for flag, value in flags.items())]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHON": sys.executable}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True)
        if ended.returncode:
            raise RuntimeError(f"{name} ended with {ended.returncode}:\n{ended.stderr}")
        return json.loads(file.read_text(encoding="utf-8"))


def time_batch(kind: str, recipe: str, args: BenchmarkArguments, batch: int) -> tuple[list[dict], list[dict]]:
    """Rows of the set-ups at one global batch, and the ratios of interest. Prints them."""
    found, order, rows = {name: [] for name in SETUPS}, list(SETUPS), []
    for _ in range(args.rounds):
        for name in order:
            found[name].append(run_setup(name, kind, recipe, args, batch))
        order.reverse()
    for name, runs in found.items():
        medians = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        rows.append({"global_batch": batch, "setup": name, **medians})
        print(
            f"batch {batch}  {name:<28}  {1e3 * medians['step_seconds']:.2f} ms a step, "
            f"{medians['examples_per_second']:.0f} examples/s, {100 * medians['data_share']:.1f} % waiting, "
            f"first epoch {medians['first_epoch_seconds']:.2f} s"
        )
    seconds = {row["setup"]: row["step_seconds"] for row in rows}
    ratios = [
        {"global_batch": batch, "throughput": name, "ratio": seconds["one process"] / seconds[setup]}
        for name, setup in RATIOS.items()
    ]
    for ratio in ratios:
        print(f"batch {batch}  throughput, {ratio['throughput']}: {ratio['ratio']:.3f}", flush=True)
    return rows, ratios


def main(argv: list[str] | None = None) -> None:
    parser = HfArgumentParser(BenchmarkArguments, allow_abbrev=False)
    parser.add_argument("kind", choices=sorted(KINDS), help="Kind of the task.")
    parser.add_argument("recipe", help="A file of scripts/configs.")
    args, named = parser.parse_args_into_dataclasses(argv)
    if args.worker is not None:
        work(named.kind, named.recipe, args)
        return
    if args.global_batch is None:
        args.global_batch = [
            KINDS[named.kind].parse([named.recipe, "--use_cpu", "true"])[2].per_device_train_batch_size
        ]
    rows, ratios = [], []
    for batch in args.global_batch:
        found = time_batch(named.kind, named.recipe, args, batch)
        rows += found[0]
        ratios += found[1]
    if args.output is not None:
        settings = {key: value for key, value in asdict(args).items() if key not in ("output", "worker")}
        results = {"settings": {"recipe": named.recipe, **settings}, "rows": rows, "ratios": ratios}
        name = f"training-{Path(named.recipe).stem}-{args.attention}"
        print(f"written: {save_results(args.output, name, results)}")


if __name__ == "__main__":
    main()
