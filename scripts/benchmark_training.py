"""
Times the training of a recipe on a CPU: what share of a step its data take, how long a first epoch takes, and two
processes against one, each in a process of its own, interleaved.

    python scripts/benchmark_training.py time-series scripts/configs/japanese_vowels.yaml
    python scripts/benchmark_training.py time-series scripts/configs/japanese_vowels.yaml --global_batch 8 32 128 \
        --output results
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from sources import IMAGE_SOURCES, TEXT_SOURCES
from transformers import HfArgumentParser

from hf_primaldual.measure import save_results
from hf_primaldual.training.arguments import (
    SeriesDataArguments,
    SeriesModelArguments,
    SeriesTrainingArguments,
    parse_arguments,
)
from hf_primaldual.training.images import (
    ImageDataArguments,
    ImageModelArguments,
    ImageTrainingArguments,
    image_task,
)
from hf_primaldual.training.speed import measure_training
from hf_primaldual.training.task import Task
from hf_primaldual.training.texts import TextDataArguments, TextModelArguments, TextTrainingArguments, text_task
from hf_primaldual.training.time_series import series_task

ROOT = Path(__file__).parents[1]


class Kind(NamedTuple):
    """The arguments of a training script, and what makes its task of them."""

    arguments: tuple[type, type, type]
    make: Callable[..., Task]


KINDS = {
    "time-series": Kind(
        (SeriesDataArguments, SeriesModelArguments, SeriesTrainingArguments),
        lambda data_args, model_args, args: series_task(data_args, model_args),
    ),
    "text": Kind(
        (TextDataArguments, TextModelArguments, TextTrainingArguments), partial(text_task, sources=TEXT_SOURCES)
    ),
    "image": Kind(
        (ImageDataArguments, ImageModelArguments, ImageTrainingArguments), partial(image_task, sources=IMAGE_SOURCES)
    ),
}


class Setup(NamedTuple):
    """Processes, threads of each, and the share of the global batch that they train on together."""

    processes: int
    threads: int
    share: float = 1


SETUPS = {
    "one process": Setup(1, 1),
    "one process, two threads": Setup(1, 2),
    "two processes": Setup(2, 1),
    # What two processes would take for a step if they had nothing to tell each other.
    "one process, half the batch": Setup(1, 1, 0.5),
}


@dataclass
class BenchmarkArguments:
    """What is timed, and how often."""

    attention: str = field(default="bn+sh", metadata={"help": "The attention of the model."})
    global_batch: list[int] | None = field(
        default=None, metadata={"help": "Examples of a step, all processes together. Default: the recipe's."}
    )
    steps: int = field(default=100, metadata={"help": "Steps of each run, at least; and at least two epochs."})
    rounds: int = field(default=5, metadata={"help": "Runs of each set-up."})
    output: str | None = field(
        default=None, metadata={"help": "Folder for a JSON file named by processor and torch's version."}
    )
    worker: str | None = field(default=None, metadata={"help": "File for one run's figures; this program sets it."})


def read_recipe(kind: Kind, recipe: str, *flags: str) -> tuple:
    """The arguments of a recipe, trained on a CPU."""
    return parse_arguments(*kind.arguments, argv=[recipe, "--use_cpu", "true", *flags])


def work(kind: Kind, recipe: str, args: BenchmarkArguments) -> None:
    """One run of one set-up, in a process started for it."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    batch = args.global_batch[0] // int(os.environ.get("WORLD_SIZE", "1"))
    with tempfile.TemporaryDirectory() as folder:
        data_args, model_args, training_args = read_recipe(
            kind, recipe, "--per_device_train_batch_size", str(batch), "--output_dir", folder
        )
        task = kind.make(data_args, model_args, training_args)
        figures = measure_training(task, task.config(args.attention), training_args, args.steps, Path(folder))
    if training_args.should_save:
        Path(args.worker).write_text(json.dumps(figures), encoding="utf-8")


def run_setup(setup: Setup, positional: list[str], args: BenchmarkArguments, batch: int) -> dict[str, float]:
    """Starts the processes of a set-up and reads what they found."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        flags = [*positional, "--attention", args.attention, "--steps", str(args.steps), "--worker", str(file)]
        flags += ["--global_batch", str(round(batch * setup.share))]
        launcher = [sys.executable]
        if setup.processes > 1:
            launcher = ["bash", str(ROOT / "scripts" / "launch" / "two_cpu_processes.sh")]
        environment = {"OMP_NUM_THREADS": str(setup.threads), "PYTHON": sys.executable}
        ended = subprocess.run(
            [*launcher, __file__, *flags], env=os.environ | environment, capture_output=True, text=True
        )
        if ended.returncode:
            raise RuntimeError(f"{setup} ended with {ended.returncode}:\n{ended.stderr}")
        return json.loads(file.read_text(encoding="utf-8"))


def time_batch(positional: list[str], args: BenchmarkArguments, batch: int) -> dict:
    """Rows of the set-ups at one global batch, and the ratios of interest."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SETUPS}
    order = list(SETUPS)
    for _ in range(args.rounds):
        for name in order:
            found[name].append(run_setup(SETUPS[name], positional, args, batch))
        order.reverse()
    rows = [
        {"global_batch": batch, "setup": name, **{key: statistics.median(run[key] for run in runs) for key in runs[0]}}
        for name, runs in found.items()
    ]
    seconds = {row["setup"]: row["step_seconds"] for row in rows}
    ratios = {
        # Throughput of the same global batch: more is better.
        "two processes / one": seconds["one process"] / seconds["two processes"],
        "two threads / one": seconds["one process"] / seconds["one process, two threads"],
        "two processes / one, without communication": (
            seconds["one process"] / seconds["one process, half the batch"]
        ),
    }
    return {
        "rows": rows,
        "ratios": [{"global_batch": batch, "throughput": key, "ratio": ratios[key]} for key in ratios],
    }


def print_batch(found: dict) -> None:
    for row in found["rows"]:
        print(
            f"{row['global_batch']:>6}  {row['setup']:<28}  {1e3 * row['step_seconds']:>9.2f}  "
            f"{row['examples_per_second']:>10.0f}  {100 * row['data_share']:>8.1f} %  "
            f"{row['first_epoch_seconds']:>8.2f}"
        )
    for ratio in found["ratios"]:
        print(f"{ratio['global_batch']:>6}  throughput, {ratio['throughput']}: {ratio['ratio']:.3f}", flush=True)


def main() -> None:
    parser = HfArgumentParser(BenchmarkArguments, allow_abbrev=False)
    parser.add_argument("kind", choices=sorted(KINDS), help="Kind of the task.")
    parser.add_argument("recipe", help="A file of scripts/configs.")
    args, positional = parser.parse_args_into_dataclasses()
    kind = KINDS[positional.kind]
    if args.worker is not None:
        work(kind, positional.recipe, args)
        return
    if args.global_batch is None:
        args.global_batch = [read_recipe(kind, positional.recipe)[2].per_device_train_batch_size]
    print(f"{positional.recipe}, {args.attention}: medians of {args.rounds} interleaved runs")
    print(f"{'batch':>6}  {'set-up':<28}  {'ms a step':>9}  {'examples/s':>10}  {'waiting':>10}  {'epoch s':>8}")
    rows, ratios = [], []
    for batch in args.global_batch:
        found = time_batch([positional.kind, positional.recipe], args, batch)
        print_batch(found)
        rows += found["rows"]
        ratios += found["ratios"]
    if args.output is not None:
        settings = {key: value for key, value in asdict(args).items() if key not in ("output", "worker")}
        results = {"settings": {"recipe": positional.recipe, **settings}, "rows": rows, "ratios": ratios}
        name = f"training-{Path(positional.recipe).stem}-{args.attention}"
        print(f"written: {save_results(args.output, name, results)}")


if __name__ == "__main__":
    main()
