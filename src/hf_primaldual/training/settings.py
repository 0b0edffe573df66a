"""Settings of a script from a YAML file and from flags, with the checks of the flags."""

import argparse
import dataclasses
import json
import sys
import typing
from collections.abc import Iterable
from types import NoneType
from typing import Any

import yaml
from transformers.hf_argparser import string_to_bool

from hf_primaldual.flags import Parser
from hf_primaldual.modeling.keywords_primal_dual import nearest_to

# What a comparison sets for each of its runs, and nobody else.
OF_A_RUN = ("run_name", "seed")


def parse_arguments(*dataclass_types: type, argv: list[str] | None = None, prog: str | None = None) -> tuple:
    """Reads flags, and before them the settings of a YAML file if the first argument is one: `run.yaml --seeds 0`."""
    argv = sys.argv[1:] if argv is None else argv
    parser = Parser(*dataclass_types, prog=prog, usage="%(prog)s [settings.yaml] [--flag value ...] [--debug]")
    if argv and argv[0].endswith((".yaml", ".yml")):
        parser.set_defaults(**typed_settings(_read_settings(argv[0]), dataclass_types, argv[0]))
        argv = argv[1:]
    unread = parser.parse_known_args(argv)[1]
    # Behind an unknown flag come its values.
    unknown = [*_flags(unread), *(name for name in _flags(argv) if name in OF_A_RUN)]
    refuse_unknown(unknown or unread, names_of(*dataclass_types), "the command line")
    return parser.parse_args_into_dataclasses(argv)


def _flags(words: list[str]) -> list[str]:
    return [word.partition("=")[0][2:].replace("-", "_") for word in words if word.startswith("--")]


def names_of(*types: type) -> set[str]:
    """The names of the settings of dataclasses that a user may set."""
    return {field.name for kind in types for field in dataclasses.fields(kind)} - set(OF_A_RUN)


def refuse_unknown(names: Iterable[Any], known: Iterable[str], where: str) -> None:
    """Raises a `ValueError` for names that are not known, with the nearest known one of each."""
    known = sorted(known)
    unknown = [str(name) for name in names if name not in known]
    if unknown:
        listed = [f"{name} (the nearest known is {nearest_to(name, known, cutoff=0.0)})" for name in unknown]
        raise ValueError(f"{where} has {', '.join(listed)}, unknown here; --help lists what is known.")


def refuse_below_one(arguments: Any, *names: str) -> None:
    """Raises a `ValueError` for a setting of these names that is given and below 1."""
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")


class _Loader(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, of which YAML would keep the last."""

    def construct_mapping(self, node, deep=False):
        names = [key.value for key, _ in node.value]
        if twice := [name for name in names if names.count(name) > 1]:
            raise yaml.MarkedYAMLError(problem=f"{twice[0]!r} is set twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def _read_settings(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            settings = yaml.load(file, _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(settings, dict | None):
        raise ValueError(f"{path} must hold a mapping, `name: value` on each line, got {settings!r}.")
    return settings or {}


def mapping(name: str, value: Any) -> dict:
    """A setting that is a mapping in a YAML file, and JSON as a flag."""
    try:
        read = json.loads(value) if isinstance(value, str) else {} if value is None else value
    except json.JSONDecodeError as error:
        raise ValueError(f"`{name}` must be a mapping, as a flag in JSON, got {value!r}: {error}.") from error
    if not isinstance(read, dict):
        raise ValueError(f"`{name}` must be a mapping, as a flag in JSON, got {value!r}.")
    return read


def typed_settings(settings: dict[str, Any], types: Iterable[type], where: str, but: Iterable[str] = ()) -> dict:
    """
    Settings that are no flags, such as those of a file, with the types and the checks of the flags of their names.
    `types` are the dataclasses that have them; `where` names them in errors; those of `but` may not be set.
    """
    refuse_unknown(settings, names_of(*types).difference(but), where)
    # A flag that is on comes with one that turns it off, under the same name.
    flags = {action.dest: action for action in reversed(Parser(*types)._actions)}
    hints = {name: hint for kind in types for name, hint in typing.get_type_hints(kind).items()}
    return {name: _typed(value, flags[name], hints[name], where) for name, value in settings.items()}


def _typed(value: Any, flag: argparse.Action, hint: Any, where: str) -> Any:
    """A value as if it, or each item of a list, had been written behind the flag."""
    kinds = {typing.get_origin(kind) or kind for kind in (hint, *typing.get_args(hint))}
    if (value is None and NoneType in kinds) or (isinstance(value, dict) and dict in kinds):
        return value
    is_list = list in kinds and isinstance(value, list)
    items = value if is_list else [value]
    plain = (int, float, str, bool) if flag.type is string_to_bool else (int, float, str)
    try:
        if not all(isinstance(item, plain) and isinstance(item, bool) <= (bool in plain) for item in items):
            raise TypeError("no value of a flag")
        items = [flag.type(str(item)) for item in items]
        if flag.choices and not set(items) <= set(flag.choices):
            raise ValueError("no choice")
    except (TypeError, ValueError, argparse.ArgumentTypeError) as error:
        nouns = {int: "a whole number", float: "a number", str: "text", string_to_bool: "true or false"}
        right = f"one of {', '.join(map(str, flag.choices))}" if flag.choices else nouns.get(flag.type, f"{hint}")
        right = f"a list, each {right}" if flag.nargs == "+" else right
        right += " or a mapping" * (dict in kinds) + " or null" * (NoneType in kinds)
        raise ValueError(f"{where}: `{flag.dest}` must be {right}, got {value!r}.") from error
    return items if is_list or flag.nargs == "+" else items[0]
