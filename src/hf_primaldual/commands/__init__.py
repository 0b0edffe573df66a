"""The commands of the console script `hf-primaldual`, which the programs of scripts/ run too."""

import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers.debug_utils import DebugOption

from .. import __version__
from ..modeling.keywords_primal_dual import nearest_to

PROGRAM = "hf-primaldual"
# The module, the function in it, and what it does.
COMMANDS = {
    "train-series": ("train", "train_series", "Train classifiers of time series, your own or of the UEA archive."),
    "train-text": ("train", "train_text", "Train classifiers of texts, your own or of Long Range Arena."),
    "train-language": ("train", "train_language", "Train language models of texts, by tokens or bytes."),
    "train-images": ("train", "train_images", "Train classifiers of images, your own or of the Hub."),
    "convert": ("convert", "main", "Put an attention into a ViT, DeiT, DINOv2, BERT or RoBERTa with its weights."),
    "distill": (
        "distill",
        "main",
        "Make a checkpoint's attention cheaper, and teach it by the original, without labels.",
    ),
    "measure": ("measure", "main", "Measure operations, memory and time of models."),
    "publish": ("publish", "main", "Check a checkpoint folder and publish it on the Hub."),
    "card": ("card", "main", "Write the card of a checkpoint folder again."),
}
_OPTIONS = f"""COMMAND --help lists what a command takes, --debug shows where an error came from, {PROGRAM} --version
prints the version."""
# What somebody who runs a command can put right. All else is a fault of ours, and shows where.
_MISTAKES = (ValueError, TypeError, OSError, ImportError, FloatingPointError, StrictDataclassError)


def main(argv: list[str] | None = None) -> None:
    """The console script."""
    argv = sys.argv[1:] if argv is None else argv
    name, *rest = argv or ["--help"]
    if name in ("-h", "--help"):
        listed = "\n".join(f"  {name:<16}{does}" for name, (*_, does) in COMMANDS.items())
        print(f"usage: {PROGRAM} COMMAND [--help] [--debug] ...\n\n{listed}\n\n{_OPTIONS}")
    elif name == "--version":
        print(__version__)
    else:
        run(lambda *args: _find(name)(*args), rest, f"{PROGRAM} {name}")


def run(command: Callable[..., Any], argv: list[str] | None = None, prog: str | None = None) -> None:
    """
    Runs a command as a program: what is wrong with its flags or its data is told in one sentence and exit code 2, with
    `--debug` after the traceback.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    # `--debug underflow_overflow` is Trainer's.
    ours = [
        place
        for place, word in enumerate(argv)
        if word == "--debug" and argv[place + 1 : place + 2] not in [[option.value] for option in DebugOption]
    ]
    arguments = [word for place, word in enumerate(argv) if place not in ours]
    try:
        command(arguments) if prog is None else command(arguments, prog)
    except _MISTAKES as error:
        if ours:
            traceback.print_exc()
        # A configuration is checked by a library, which says so before it says what is wrong.
        said = error.__cause__ if isinstance(error, StrictDataclassError) and error.__cause__ else error
        name = prog or Path(sys.argv[0]).name
        print(f"{name}: error: {' '.join(str(said).split())}", file=sys.stderr)
        sys.exit(2)


def _find(name: str) -> Callable[..., Any]:
    """A command of the table."""
    if name not in COMMANDS:
        raise ValueError(
            f"no such command, the nearest is {nearest_to(name, COMMANDS, cutoff=0.0)}; --help lists them."
        )
    module, function, _ = COMMANDS[name]
    try:
        return getattr(importlib.import_module(f"{__name__}.{module}"), function)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error}; `pip install 'hf_primaldual[train]'` brings what {name} needs."
        ) from error
