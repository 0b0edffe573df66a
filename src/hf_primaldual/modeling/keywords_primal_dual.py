"""Keywords of a forward that nobody here knows are errors: ignored, they would change what somebody expects."""

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any

# Those that no signature names: transformers' decorators, its Trainer and its back-ends know them.
KEYWORDS = (
    "kernel_options",
    "num_items_in_batch",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "use_cache",
)
PACKED = ("cu_seq_lens", "max_length_", "seq_idx")


def nearest_to(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that `name` may have been meant for, if one is near."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


def unexpected(name: str, known: Iterable[str]) -> str:
    """What an error says of a keyword that is not known."""
    near = nearest_to(name, known)
    return f"an unexpected keyword argument `{name}`" + ("." if near is None else f"; did you mean `{near}`?")


def refuse_near_misses(owner: type, names: Iterable[str], known: Callable[[str], bool], fields: list[str]) -> None:
    """
    Args:
        owner: whose saved entries or keywords these are; what other programs add to them passes.
        known: whether a name is one of its own.
        fields: the names of its fields.

    Raises:
        TypeError: for a name that is not known but is nearly a field: ignored, it would change what is computed.
    """
    for name in names:
        if not known(name) and nearest_to(name, fields, cutoff=0.8):
            raise TypeError(f"{owner.__name__} got {unexpected(name, fields)}")


def check_keywords(module: Any, kwargs: dict) -> None:
    """
    Args:
        module: whose forward was given the keywords.
        kwargs: those that its signature does not name. One that is `None` asks for nothing.

    Raises:
        TypeError: for an unknown keyword, with the nearest one that is known.
    """
    for name, value in kwargs.items():
        if value is None or name in KEYWORDS:
            continue
        what = unexpected(name, [*inspect.signature(module.forward).parameters, *KEYWORDS])
        if name.startswith(PACKED):
            what = f"`{name}`: packed sequences would attend to each other; pass each as a row of its own, padded."
        raise TypeError(f"{type(module).__name__} got {what}")


__all__ = ["KEYWORDS", "check_keywords", "nearest_to", "refuse_near_misses", "unexpected"]
