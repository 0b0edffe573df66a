"""What the tests of the modeling core are parametrized over: one row for each preset, and the masks."""

from typing import NamedTuple

import pytest
import torch

from tests.reference import naive

# Of tests/conftest.py, which asks torch itself, once and when the first test of them runs.
needs_compiler = pytest.mark.usefixtures("compiler")
needs_flex = pytest.mark.usefixtures("flex_attention")

HEADS, WIDTH = 4, 24

# Doubling after every two heads, by the number of heads.
DEFAULT_SCALES = {1: [2], 2: [1, 2], 3: [1, 1, 2], 4: [1, 1, 2, 2], 6: [1, 1, 2, 2, 4, 4], 8: [1, 1, 2, 2, 4, 4, 8, 8]}


class PresetCase(NamedTuple):
    """
    How a preset is tested: its three choices, of which `tests/reference/naive.py` has to be told, and fields of the
    configuration to test it with, by a readable id.
    """

    kernel: str
    transforms: tuple[str, ...]
    training_set: str
    settings: dict[str, dict]


ALL_LEARNED = {"bn_beta_learnable": True, "bn_beta": 0.7, "bn_scaling_learnable": True, "bn_scaling": 0.6}
BN = {
    "default": {},
    "beta0": {"bn_beta": 0.0},
    "learned": {"bn_beta_learnable": True, "bn_beta": 0.7},
    "learned-recentre": {"bn_beta_learnable": True, "bn_beta": 0.7, "bn_scaling": False},
    "learned-power": {"bn_scaling_learnable": True, "bn_scaling": 0.6},
    "no-qkv-bias": {"qkv_bias": False},
}

SH = {
    "default": {},
    "scattered": {"head_scales": [4, 1, 2, 1]},
    "ragged": {"head_scales": [5, 3, 5, 10]},
    "longer-than-sequence": {"head_scales": [1, 2000, 2, 2000]},
    "stride": {"head_scales": [4, 1, 3, 2000], "sampling": "stride"},
    "random": {"head_scales": [4, 1, 3, 2000], "sampling": "random", "sampling_seed": 3},
    "conv": {"head_scales": [4, 1, 3, 4], "sampling": "conv"},
    "points63": {"head_points": 63},
    "points-listed": {"head_points": [7, 2000, 1, 10]},
    "points-random": {"head_points": [7, 2000, 1, 10], "sampling": "random"},
}

BN_SH = {
    "default": {},
    "beta0": {"bn_beta": 0.0},
    "scattered-recentre": {"head_scales": [4, 1, 2, 1], "bn_scaling": False},
    "scattered-learned": {"head_scales": [4, 1, 2, 1], "bn_beta_learnable": True, "bn_beta": 0.7},
    "random": {"head_scales": [4, 1, 3, 2], "sampling": "random"},
    "conv": {"head_scales": [2, 1, 3, 2], "sampling": "conv"},
    "all-learned": {"head_scales": [4, 1, 2, 1], **ALL_LEARNED},
    "points-listed-learned": {"head_points": [7, 2000, 3, 10], "bn_beta_learnable": True},
    "points63": {"head_points": 63},
}

LINEAR = {"default": {}, "relu": {"feature_map": "relu"}, "sigmoid": {"feature_map": "sigmoid"}}
LINEAR_BN = {
    "default": {},
    "half-sigmoid": {"bn_beta": 0.5, "feature_map": "sigmoid"},
    "learned": ALL_LEARNED,
    "conv1d-first": {"transforms": ["conv1d", "bn"]},
}
LINEAR_SH = {
    "default": {},
    "scattered": {"head_scales": [4, 1, 2, 1]},
    "random": {"head_scales": [4, 1, 3, 2000], "sampling": "random"},
    "points-listed": {"head_points": [7, 2000, 1, 10]},
}
LINEAR_BN_SH = {
    "default": {},
    "learned": {"head_scales": [4, 1, 2, 1], "bn_beta_learnable": True, "bn_beta": 0.7},
    "conv": {"head_scales": [2, 1, 3, 2], "sampling": "conv"},
    "points-listed-learned": {"head_points": [7, 2000, 3, 10], "bn_beta_learnable": True},
    "conv1d-first": {"transforms": ["conv1d", "bn"], "head_scales": [4, 1, 2, 1]},
}


def _sparse(*parts: str, window: int = 6, stride: int = 5, **fields) -> dict:
    return {"sparse_pattern": list(parts), "sparse_window": window, "sparse_stride": stride, **fields}


SPARSE = {
    "default": {},
    "local": _sparse("local"),
    "strided": _sparse("strided"),
    "fixed": _sparse("fixed"),
    "fixed-local": _sparse("fixed", "local", window=9, stride=8),
    "all-parts": _sparse("strided", "fixed", "local", window=2, stride=7),
    "stride1": _sparse("strided", stride=1),
    "longer-than-sequence": _sparse("local", "fixed", window=5000, stride=3000),
    "no-qkv-bias": _sparse("local", qkv_bias=False),
}
SPARSE_BN = {
    "default": {},
    "learned": _sparse("local", "strided", bn_beta_learnable=True, bn_beta=0.7),
    "recentre": _sparse("fixed", bn_scaling=False),
}
SPARSE_SH = {
    "default": {},
    "scattered": _sparse("local", "strided", window=12, stride=9, head_scales=[4, 1, 2, 1]),
    "local": _sparse("local", window=12, head_scales=[4, 1, 3, 2000]),
    "strided": _sparse("strided", stride=6, head_scales=[4, 1, 3, 2]),
    "fixed": _sparse("fixed", stride=6, head_scales=[4, 1, 3, 2]),
    "random": _sparse("local", "fixed", head_scales=[4, 1, 3, 2], sampling="random"),
    "conv": _sparse("local", head_scales=[2, 1, 3, 2], sampling="conv"),
}
SPARSE_BN_SH = {
    "default": {},
    "scattered-learned": _sparse("local", "strided", window=12, stride=9, head_scales=[4, 1, 2, 1]) | ALL_LEARNED,
    "stride": _sparse("fixed", head_scales=[5, 3, 5, 10], sampling="stride"),
}

CONV1D = {
    "default": {},
    "bn-first": {"transforms": ["bn", "conv1d"], "bn_beta": 0.5},
    "linear": {"kernel": "linear"},
    "downsampled": {"training_set": "downsampled", "head_scales": [4, 1, 2, 1]},
    "downsampled-points": {"training_set": "downsampled", "head_points": [7, 2000, 1, 10]},
    "sparse": {"training_set": "sparse", **_sparse("local", "strided")},
}
CONV2D = {
    "default": {},
    "kernel5": {"conv_kernel_size": 5},
    "linear": {"kernel": "linear"},
    "downsampled": {"training_set": "downsampled", "head_scales": [4, 1, 2, 1]},
}
CONV2D_BN = {
    "default": {},
    "learned": {"bn_beta_learnable": True, "bn_beta": 0.7},
    "bn-first": {"transforms": ["bn", "conv2d"]},
    "all-of-them": {"transforms": ["conv1d", "bn", "conv2d"], "training_set": "sparse+downsampled"}
    | _sparse("local", "fixed", head_scales=[4, 1, 2, 1]),
}

# Each preset's three choices are written out and not read from the package, which a test compares with them.
PRESET_CASES = {
    "softmax": PresetCase("softmax", (), "all", settings={"default": {}, "no-qkv-bias": {"qkv_bias": False}}),
    "bn": PresetCase("softmax", ("bn",), "all", settings=BN),
    "sh": PresetCase("softmax", (), "downsampled", settings=SH),
    "bn+sh": PresetCase("softmax", ("bn",), "downsampled", settings=BN_SH),
    "linear": PresetCase("linear", (), "all", settings=LINEAR),
    "linear-bn": PresetCase("linear", ("bn",), "all", settings=LINEAR_BN),
    "linear-sh": PresetCase("linear", (), "downsampled", settings=LINEAR_SH),
    "linear-bn+sh": PresetCase("linear", ("bn",), "downsampled", settings=LINEAR_BN_SH),
    "sparse": PresetCase("softmax", (), "sparse", settings=SPARSE),
    "sparse-bn": PresetCase("softmax", ("bn",), "sparse", settings=SPARSE_BN),
    "sparse-sh": PresetCase("softmax", (), "sparse+downsampled", settings=SPARSE_SH),
    "sparse-bn+sh": PresetCase("softmax", ("bn",), "sparse+downsampled", settings=SPARSE_BN_SH),
    "conv1d": PresetCase("softmax", ("conv1d",), "all", settings=CONV1D),
    "conv2d": PresetCase("softmax", ("conv2d",), "all", settings=CONV2D),
    "conv2d+bn": PresetCase("softmax", ("conv2d", "bn"), "all", settings=CONV2D_BN),
}

# Of each kernel, transform and training set one preset: where presets do not differ, but these three may.
EACH_CHOICE = ("bn+sh", "linear-bn+sh", "sparse-bn+sh", "conv1d", "conv2d+bn")


def choices_of(preset: str, fields: dict | None = None) -> tuple[str, tuple[str, ...], str]:
    """Kernel, transforms and training set of a preset, where no field replaces them."""
    case, fields = PRESET_CASES[preset], fields or {}
    return tuple(fields.get(name) or getattr(case, name) for name in ("kernel", "transforms", "training_set"))


def uses(choice: str, preset: str, fields: dict | None = None) -> bool:
    """Whether one of the three choices is, or holds, `choice`."""
    kernel, transforms, training_set = choices_of(preset, fields)
    return choice in (kernel, *transforms, *training_set.split("+"))


def all_settings(*ids: str, without: tuple[str, ...] = ()):
    """
    Parameters `(preset, fields)` for every preset and setting, or those whose ids end in one of `ids`; `without`
    leaves out those that use one of these choices.
    """
    return [
        pytest.param(preset, fields, id=f"{preset}-{name}")
        for preset, case in PRESET_CASES.items()
        for name, fields in case.settings.items()
        if (not ids or f"{preset}-{name}".endswith(ids)) and not any(uses(each, preset, fields) for each in without)
    ]


FEATURE_MAPS = {"elu+1": naive.elu_plus_one, "relu": torch.relu, "sigmoid": torch.sigmoid}


def reference_choices(config, choices: tuple, leaves: dict[str, torch.Tensor], grid_size=None) -> dict:
    """
    The arguments with which `naive.attention_layer` computes the attention of these choices that `config` describes;
    `leaves` are the layer's parameters by their names, `grid_size` that of a call.
    """
    kernel, transforms, training_set = choices
    grid_size = grid_size or config.grid_size
    choices = {"transforms": [_transform(config, leaves, grid_size, *place) for place in enumerate(transforms)]}
    if kernel == "linear":
        choices["phi"] = FEATURE_MAPS[config.feature_map]
    if "sparse" in training_set:
        choices["pattern"] = (config.sparse_pattern, config.sparse_window, config.sparse_stride)
    choices["prefix"], choices["grid_size"] = config.num_prefix_tokens, grid_size
    if "downsampled" in training_set:
        heads = config.num_attention_heads
        if config.head_points is None:
            choices["scales"] = config.head_scales or DEFAULT_SCALES[heads]
        else:
            points = config.head_points
            choices["points"] = [points] * heads if isinstance(points, int) else points
        prefix = "training_set.filters."
        filters = {int(name.removeprefix(prefix)): leaf for name, leaf in leaves.items() if name.startswith(prefix)}
        choices["sampling"] = {"sampling": config.sampling, "seed": config.sampling_seed, "filters": filters}
    return choices


def _transform(config, leaves, grid_size, place: int, name: str) -> tuple[str, tuple]:
    """A link of the chain as `naive.attention_layer` takes it: each filter without the axis of its input channels."""
    if name == "bn":
        of_heads = {"beta": config.bn_beta, "scaling": config.bn_scaling}
        betas, scalings = (
            leaves.get(f"transforms.{place}.{name}", [value] * config.num_attention_heads)
            for name, value in of_heads.items()
        )
        return "bn", (betas, scalings, config.bn_eps)
    filters = leaves[f"transforms.{place}.weight"].squeeze(1)
    if name == "conv2d" and config.conv2d_reading == "grid":
        return "grid", (filters, grid_size, config.num_prefix_tokens)
    return name, (filters,)


def right_padding(batch: int, tokens: int) -> torch.Tensor:
    """Rows of random lengths, the first one without padding, as booleans."""
    lengths = torch.randint(1, tokens + 1, (batch,))
    lengths[0] = tokens
    return torch.arange(tokens) < lengths.unsqueeze(1)


def left_padding(batch: int, tokens: int) -> torch.Tensor:
    """The same with the padding in front."""
    return right_padding(batch, tokens).flip(1)


def holes(batch: int, tokens: int) -> torch.Tensor:
    """Rows with a third of their tokens missing at random places, first and last ones included, as booleans."""
    mask = torch.rand(batch, tokens) < 0.67
    if tokens > 4:
        # A whole window of the smaller scales is empty in one row, and both ends are missing in another.
        mask[0, :4] = False
        mask[1, 0] = mask[1, -1] = False
    mask[:, tokens // 2 + tokens // 4] = True
    return mask


MASKS = {"unmasked": lambda batch, tokens: None, "right": right_padding, "left": left_padding, "holes": holes}
