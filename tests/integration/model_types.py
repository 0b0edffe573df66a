"""
What becomes of each `model_type` of transformers that dispatches its attention, tried on a tiny model of it.

    python -m tests.integration.model_types [TYPE ...]

writes the table of docs/families.md in some minutes, or the rows of some types. Of a sample of them test_families.py
asks whether it still holds.
"""

import inspect
import re
import sys
from collections.abc import Callable

import torch
import transformers
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hf_primaldual import apply
from hf_primaldual.hub.markdown import markdown_table, replace_between
from hf_primaldual.integration.dispatch import has_dispatch
from hf_primaldual.integration.layouts import INPUTS, LAYOUTS
from tests.integration.families import DOCUMENT, SCALES
from tests.integration.reference import register_naive
from tests.integration.tiny import class_of, output_of, smallest


def _short(error: Exception) -> str:
    """What an error says, without the advice."""
    told = re.sub(r"^`(model|attn_implementation='\w+')`:? (would have )?", "", str(error))
    return re.split(r"; |, but |, which |\. |: use |, whose |, so that | for a '", told)[0].strip(" .\n")


def register_formulas(inputs: dict[str, torch.Tensor], **choices) -> str:
    """The naive attention, of which each layer is given the grid of its tokens, under a name that is returned."""

    def formulas(module, query, key, value, attention_mask, **kwargs):
        how, layout = {}, LAYOUTS.get(module.config.model_type)
        if layout is not None and "scales" in choices:
            how["prefix"] = layout.prefix(module.config) if callable(layout.prefix) else layout.prefix
            images = next((inputs[name] for name in INPUTS if name in inputs), None)
            how["grid"] = layout.grid and layout.grid(module.config, tuple(images.shape))
        naive = AttentionInterface()[register_naive(**choices, **how)]
        return naive(module, query, key, value, attention_mask, **kwargs)

    AttentionInterface.register("formulas", formulas)
    AttentionMaskInterface.register("formulas", sdpa_mask)
    return "formulas"


def _tried(build: Callable, inputs: dict | None, why: str, attention: str, **settings) -> str:
    """Whether an attention works, runs, or why it does not; without inputs there is a reason `why`."""
    model = build()
    before = None if inputs is None else output_of(model, inputs)
    try:
        apply(model, attention, bn_eps=0.1, **settings)
        if inputs is None:
            return f"not tried: {why}"
        after = output_of(model, inputs)
    except ValueError as error:
        return _short(error)
    except Exception as error:
        return f"CRASHES: {type(error).__name__} {_short(error)}"
    apply(model, "softmax")
    if torch.equal(before, after) or not torch.allclose(output_of(model, inputs), before, rtol=1e-3, atol=1e-4):
        return "WRONG"
    scales = {"scales": settings["head_scales"]} if settings else {}
    try:
        model.set_attn_implementation(register_formulas(inputs, statistics=(1.0, 1, 0.1), **scales))
        expected = output_of(model, inputs)
    except Exception as error:
        print(type(model).__name__, "is not compared:", type(error).__name__, str(error)[:150])
        return "runs"
    return "works" if (expected - after).abs().max() < 1e-3 * after.abs().max() else "WRONG"


@torch.no_grad()
def row(model_type: str) -> tuple[str, str, str, str] | None:
    """Type, class, and what becomes of bn and of bn+sh; `None` for one that does not dispatch."""
    model_class = class_of(model_type)
    if model_class is None:
        return None
    build, inputs, why = smallest(model_class)
    if build is None:
        cells = [f"not tried: {why}"] * 2
        return (model_type, f"`{model_class.__name__}`", *cells) if _may_dispatch(model_class) else None
    if not has_dispatch(build()):
        return None
    bn, both = _tried(build, inputs, why, "bn"), _tried(build, inputs, why, "bn+sh", head_scales=SCALES)
    return model_type, f"`{model_class.__name__}`", bn, both


def _may_dispatch(model_class: type[PreTrainedModel]) -> bool:
    return "ALL_ATTENTION_FUNCTIONS" in inspect.getsource(inspect.getmodule(model_class))


def table(rows) -> str:
    return markdown_table(("`model_type`", "Class", "`bn`", "`bn+sh`"), rows)


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    # Of each type, or of some that are given.
    written = DOCUMENT.read_text().splitlines() if sys.argv[1:] else []
    lines = {
        line.split(" ")[1]: line
        for line in written
        if line.startswith(tuple(f"| {one} | `" for one in CONFIG_MAPPING))
    }
    for model_type in sys.argv[1:] or CONFIG_MAPPING:
        lines.pop(model_type, None)
        if found := row(model_type):
            lines[model_type] = table([found]).splitlines()[-1]
    rows = "\n".join((*table([]).splitlines(), *(lines[model_type] for model_type in sorted(lines))))
    DOCUMENT.write_text(replace_between(DOCUMENT.read_text(), "model types", rows))
