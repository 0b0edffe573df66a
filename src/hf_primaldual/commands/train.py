"""Trains attentions of the paper and their baseline on series, texts or images: the kinds of task by name."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..training.comparison import run_comparison
from ..training.images import ImageDataArguments, ImageModelArguments, ImageTrainingArguments, image_task
from ..training.language import LanguageDataArguments, LanguageTrainingArguments, language_task
from ..training.settings import parse_arguments
from ..training.task import Task
from ..training.texts import TextDataArguments, TextModelArguments, TextTrainingArguments, text_task
from ..training.time_series import SeriesDataArguments, SeriesModelArguments, SeriesTrainingArguments, series_task


class Kind(NamedTuple):
    """The dataclasses of a kind's flags, for data, model and training, and what makes its task of them."""

    arguments: tuple[type, type, type]
    task: Callable[..., Task]

    def parse(self, argv: list[str] | None, prog: str | None = None) -> tuple:
        """The arguments that flags or a YAML file give."""
        return parse_arguments(*self.arguments, argv=argv, prog=prog)


KINDS = {
    "time-series": Kind((SeriesDataArguments, SeriesModelArguments, SeriesTrainingArguments), series_task),
    "text": Kind((TextDataArguments, TextModelArguments, TextTrainingArguments), text_task),
    "language": Kind((LanguageDataArguments, TextModelArguments, LanguageTrainingArguments), language_task),
    "image": Kind((ImageDataArguments, ImageModelArguments, ImageTrainingArguments), image_task),
}


def train(
    kind: str, argv: list[str] | None = None, prog: str | None = None, sources: Mapping[str, Any] | None = None
) -> Path:
    """
    Trains what the flags `argv` say on a task of `KINDS`, see `run_comparison`. `sources` are more data sets by name,
    as the kind's task takes them; `prog` is what the program is called.
    """
    arguments = KINDS[kind].parse(argv, prog)
    task = KINDS[kind].task(*arguments, sources)
    return run_comparison(task, *arguments[1:], argv, prog)


train_series, train_text, train_language, train_images = (partial(train, kind) for kind in KINDS)
