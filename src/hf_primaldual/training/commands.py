"""The kinds of task by name, and the training that a program or a console command runs on one."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .comparison import run_comparison
from .images import ImageDataArguments, ImageModelArguments, ImageTrainingArguments, image_task
from .settings import parse_arguments
from .task import Task
from .texts import TextDataArguments, TextModelArguments, TextTrainingArguments, text_task
from .time_series import SeriesDataArguments, SeriesModelArguments, SeriesTrainingArguments, series_task


class Kind(NamedTuple):
    """The dataclasses of a kind's flags, for data, model and training, and what makes its task of them."""

    arguments: tuple[type, type, type]
    task: Callable[..., Task]

    def parse(self, argv: list[str] | None) -> tuple:
        """The arguments that flags or a YAML file give."""
        return parse_arguments(*self.arguments, argv=argv)


KINDS = {
    "time-series": Kind((SeriesDataArguments, SeriesModelArguments, SeriesTrainingArguments), series_task),
    "text": Kind((TextDataArguments, TextModelArguments, TextTrainingArguments), text_task),
    "image": Kind((ImageDataArguments, ImageModelArguments, ImageTrainingArguments), image_task),
}


def train(kind: str, argv: list[str] | None = None, sources: Mapping[str, Any] | None = None) -> Path:
    """
    Trains what the flags `argv` say on a task of `KINDS`, see `run_comparison`. `sources` are more data sets by name,
    as the kind's task takes them.
    """
    arguments = KINDS[kind].parse(argv)
    task = KINDS[kind].task(*arguments, sources)
    return run_comparison(task, *arguments[1:], argv)
