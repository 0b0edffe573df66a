"""Keywords of a forward that nobody here knows are errors: ignored, they would change what somebody expects."""

import difflib
import inspect

from torch import nn

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


def check_keywords(module: nn.Module, kwargs: dict) -> None:
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
        hint = "."
        if name.startswith(PACKED):
            hint = ": packed sequences would attend to each other; pass each as a row of its own, padded."
        elif nearest := difflib.get_close_matches(name, [*inspect.signature(module.forward).parameters, *KEYWORDS], 1):
            hint = f"; did you mean `{nearest[0]}`?"
        raise TypeError(f"{type(module).__name__} got an unexpected keyword argument `{name}`{hint}")


__all__ = ["KEYWORDS", "check_keywords"]
