"""The flags of a command: help that shows its own first, in groups, and errors in one sentence."""

import dataclasses
from argparse import Action
from typing import NoReturn

from transformers import HfArgumentParser, TrainingArguments

_TRAINERS = "Trainer's own flags, those of transformers.TrainingArguments"


class Parser(HfArgumentParser):
    """
    transformers' parser of dataclasses, each of which becomes a group of the help: its own flags, and those it gives
    another default. What a dataclass leaves as Trainer has it comes last. No flag may be abbreviated.

    Args:
        dataclass_types (`type`): The dataclasses.
        options: Those of `argparse.ArgumentParser`.
    """

    def __init__(self, *dataclass_types: type, **options):
        self._group_of, self._made = {}, {}
        for kind in dataclass_types:
            title = (kind.__doc__ or kind.__name__).strip().partition("\n")[0].rstrip(".")
            for field in dataclasses.fields(kind):
                owner = next(one for one in kind.__mro__ if field.name in vars(one).get("__annotations__", ()))
                self._group_of[field.name] = _TRAINERS if issubclass(TrainingArguments, owner) else title
        # An abbreviation would be taken for whatever begins like it.
        super().__init__(dataclass_types, allow_abbrev=False, **options)

    def add_argument(self, *names: str, **options) -> Action:
        """argparse's, in the group of the dataclass whose field it is."""
        title = self._group_of.get(options.get("dest", names[0].lstrip("-")))
        if title is None:
            return super().add_argument(*names, **options)
        if title not in self._made:
            self._made[title] = self.add_argument_group(title)
        return self._made[title].add_argument(*names, **options)

    def error(self, message: str) -> NoReturn:
        """argparse's, without the list of all flags in front."""
        self.exit(2, f"{self.prog}: error: {message}; --help lists what is known.\n")
