"""What the tests of the modeling core are parametrized over: one row for each preset, and the masks."""

import os
import shutil
from typing import NamedTuple

import pytest
import torch

needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler"
)

HEADS, WIDTH = 4, 24

# Doubling after every two heads, by the number of heads.
DEFAULT_SCALES = {
    1: [2],
    2: [1, 2],
    3: [1, 1, 2],
    4: [1, 1, 2, 2],
    6: [1, 1, 2, 2, 4, 4],
    8: [1, 1, 2, 2, 4, 4, 8, 8],
}


class PresetCase(NamedTuple):
    """
    How a preset is tested: the terms that `tests/reference/naive.py` has to be told of, and fields of the
    configuration to test it with, by a readable id.
    """

    terms: tuple[str, ...]
    settings: dict[str, dict]


BN = {
    "default": {},
    "beta0": {"bn_beta": 0.0},
    "half": {"bn_beta": 0.5},
    "recentre": {"bn_scaling": False},
    "learned": {"bn_beta_learnable": True, "bn_beta": 0.7},
    "learned-recentre": {"bn_beta_learnable": True, "bn_beta": 0.7, "bn_scaling": False},
    "no-qkv-bias": {"qkv_bias": False},
}

SH = {
    "default": {},
    "one-scale": {"head_scales": [3, 3, 3, 3]},
    "scattered": {"head_scales": [4, 1, 2, 1]},
    "ragged": {"head_scales": [5, 3, 5, 10]},
    "longer-than-sequence": {"head_scales": [1, 2000, 2, 2000]},
    "stride": {"head_scales": [4, 1, 3, 2000], "sampling": "stride"},
    "points5": {"head_points": 5},
    "points63": {"head_points": 63},
    "points-listed": {"head_points": [7, 2000, 1, 10]},
    "points-stride": {"head_points": [7, 2000, 1, 10], "sampling": "stride"},
}

BN_SH = {
    "default": {},
    "beta0": {"bn_beta": 0.0},
    "scattered-recentre": {"head_scales": [4, 1, 2, 1], "bn_scaling": False},
    "scattered-learned": {"head_scales": [4, 1, 2, 1], "bn_beta_learnable": True, "bn_beta": 0.7},
    "ragged-half": {"head_scales": [5, 3, 5, 10], "bn_beta": 0.5},
    "stride": {"head_scales": [4, 1, 3, 2], "sampling": "stride"},
    "points-listed-learned": {"head_points": [7, 2000, 3, 10], "bn_beta_learnable": True},
    "points63": {"head_points": 63},
}

PRESET_CASES = {
    "softmax": PresetCase(terms=(), settings={"default": {}, "no-qkv-bias": {"qkv_bias": False}}),
    "bn": PresetCase(terms=("bn",), settings=BN),
    "sh": PresetCase(terms=("sh",), settings=SH),
    "bn+sh": PresetCase(terms=("bn", "sh"), settings=BN_SH),
}


def all_settings(*ids: str):
    """Parameters `(preset, fields)` for every preset and setting, or those settings whose id is among `ids`."""
    return [
        pytest.param(preset, fields, id=f"{preset}-{name}")
        for preset, case in PRESET_CASES.items()
        for name, fields in case.settings.items()
        if not ids or name in ids
    ]


def reference_choices(config, betas) -> dict:
    """The arguments with which `naive.attention_layer` computes the attention that `config` describes."""
    terms = PRESET_CASES[config.attention].terms
    choices = {}
    if "bn" in terms:
        choices["bn"] = (betas, config.bn_scaling, config.bn_eps)
    if "sh" in terms:
        heads = config.num_attention_heads
        if config.head_points is None:
            choices["scales"] = config.head_scales or DEFAULT_SCALES[heads]
        else:
            points = config.head_points
            choices["points"] = [points] * heads if isinstance(points, int) else points
        choices["sampling"] = config.sampling
    return choices


def right_padding(batch: int, tokens: int) -> torch.Tensor:
    """Rows of random lengths, the first one without padding, as booleans."""
    lengths = torch.randint(1, tokens + 1, (batch,))
    lengths[0] = tokens
    return torch.arange(tokens) < lengths.unsqueeze(1)


def holes(batch: int, tokens: int) -> torch.Tensor:
    """Rows with a third of their tokens missing at random places, first and last ones included, as booleans."""
    mask = torch.rand(batch, tokens) < 0.67
    if tokens > 4:
        # A whole window of the smaller scales is empty in one row, and both ends are missing in another.
        mask[0, :4] = False
        mask[1, 0] = mask[1, -1] = False
    mask[:, tokens // 2 + tokens // 4] = True
    return mask


MASKS = {"unmasked": lambda batch, tokens: None, "padded": right_padding, "holes": holes}
