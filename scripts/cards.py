"""What the programs over committed cards share: which cards, and the training that each records."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sources import IMAGE_SOURCES, TEXT_SOURCES
from transformers.hf_argparser import HfArg

from hf_primaldual.commands.train import KINDS
from hf_primaldual.hub.results import TASKS, load_results
from hf_primaldual.training.task import Task

ROOT = Path(__file__).parents[1]
# The kind of task of each training program, and the data of this repository that it knows.
PROGRAMS = {
    "scripts/run_time_series_classification.py": ("time-series", None),
    "scripts/run_sequence_classification.py": ("text", TEXT_SOURCES),
    "scripts/run_language_modeling.py": ("language", TEXT_SOURCES),
    "scripts/run_image_classification.py": ("image", IMAGE_SOURCES),
}


@dataclass
class CardsArguments:
    """Which cards."""

    names: list[str] | None = HfArg(default=None, help="Folders of --cards. Default: all that were trained.")
    cards: str = HfArg(default=str(ROOT / "model_cards"), help="Folder of the cards.")

    def folders(self) -> list[Path]:
        """Encoders without a head are left out: they were converted, by the command of their cards."""
        trained = (path for path in Path(self.cards).glob("*/results.json") if load_results(path)["task"] in TASKS)
        return [Path(self.cards, name) for name in self.names or sorted(path.parent.name for path in trained)]


def recorded_arguments(results: dict[str, Any]) -> tuple[str, Any, tuple]:
    """The kind of task, the data that it knows by name, and the arguments of the command that results record."""
    _, program, *flags = shlex.split(results["command"])
    kind, sources = PROGRAMS[program]
    return kind, sources, KINDS[kind].parse(flags)


def recorded_training(results: dict[str, Any]) -> tuple[Task, Any, Any]:
    """The task, and the arguments of model and training, of the command that results record, on as many threads."""
    kind, sources, arguments = recorded_arguments(results)
    _, model_args, args = arguments
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    return KINDS[kind].task(*arguments, sources), model_args, args
