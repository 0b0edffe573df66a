"""Whether the choices of an attention layer agree with each other."""

import math
from collections.abc import Iterable
from typing import Any

from .downsampling_primal_dual import SAMPLINGS
from .kernels_primal_dual import KERNELS
from .sparse_primal_dual import SPARSE_PARTS
from .training_sets_primal_dual import TRAINING_SETS
from .transforms_primal_dual import CONV2D_READINGS, TRANSFORMS, map_shape


def check_per_head(name: str, values: Any, num_heads: int) -> list[int]:
    """The values as a list, of which each head has one, a whole number of at least 1."""
    if len(values) != num_heads:
        raise ValueError(
            f"`{name}` must hold one entry for each of the {num_heads} heads, got {len(values)}: {list(values)}."
        )
    if any(value < 1 for value in values):
        raise ValueError(f"`{name}` must hold integers of at least 1, got {list(values)}.")
    return list(values)


def check_name(field: str, value: str, allowed: Iterable[str]) -> None:
    """Refuses a value of a field that is none of those allowed."""
    if value not in allowed:
        raise ValueError(f"`{field}` must be one of {', '.join(allowed)}, got {value!r}.")


def check_attention(config: Any) -> None:
    """
    Args:
        config: a [`PrimalDualConfig`].

    Raises:
        ValueError: when fields contradict each other, or hold what they cannot.
    """
    if config.hidden_size < 1 or config.num_attention_heads < 1 or config.hidden_size % config.num_attention_heads:
        raise ValueError(
            f"`hidden_size` ({config.hidden_size}) must be a positive multiple of `num_attention_heads` "
            f"({config.num_attention_heads})."
        )
    kernel, transforms, training_set = config.choices
    check_name("kernel", kernel, KERNELS)
    for name in transforms:
        # `file.Class` is a transform from outside of this package, which whoever builds the layer looks up.
        if "." not in name:
            check_name("transforms", name, TRANSFORMS)
    check_name("training_set", training_set, TRAINING_SETS)
    _check_downsampling(config, training_set)
    _check_sparsity(config, kernel, training_set)
    _check_convolutions(config, transforms, training_set)
    if not 0 < config.bn_eps < math.inf:
        raise ValueError(f"`bn_eps` must be positive and finite, got {config.bn_eps}.")
    if not math.isfinite(config.bn_beta):
        raise ValueError(f"`bn_beta` must be a finite number, got {config.bn_beta}.")
    if not 0 <= config.bn_scaling <= 1:
        raise ValueError(f"`bn_scaling` must be true, false or a number from 0 to 1, got {config.bn_scaling}.")
    if config.num_prefix_tokens < 0:
        raise ValueError(f"`num_prefix_tokens` must be at least 0, got {config.num_prefix_tokens}.")
    if config.grid_size is not None and (len(config.grid_size) != 2 or min(config.grid_size) < 1):
        raise ValueError(
            f"`grid_size` must hold the height and width in patches, both at least 1, got {list(config.grid_size)}."
        )


def _check_downsampling(config: Any, training_set: str) -> None:
    if "downsampled" not in training_set:
        for name in ("head_scales", "head_points"):
            if getattr(config, name) is not None:
                raise ValueError(
                    f"`{name}` is for the presets with sh; `attention={config.attention!r}` with "
                    f"`training_set={training_set!r}` downsamples no keys, got {getattr(config, name)}."
                )
    if config.head_scales is not None and config.head_points is not None:
        raise ValueError(
            f"`head_scales` ({config.head_scales}) and `head_points` ({config.head_points}) exclude each other; "
            "give one."
        )
    config.resolved_head_scales()
    config.resolved_head_points()
    check_name("sampling", config.sampling, SAMPLINGS)
    if config.sampling == "conv" and config.head_points is not None:
        raise ValueError(
            f"`sampling='conv'` has a filter of one length for each scale, which `head_points` "
            f"({config.head_points}) does not give its windows; use `head_scales`."
        )


def _check_sparsity(config: Any, kernel: str, training_set: str) -> None:
    if "sparse" not in training_set:
        return
    if kernel == "linear":
        raise ValueError(
            f"`kernel='linear'` sums over all keys once for every query, which `training_set={training_set!r}`, a "
            "subset for each, does not allow; use one or the other."
        )
    if config.head_points is not None:
        raise ValueError(
            f"`head_points` ({config.head_points}) gives points without a fixed place, from which "
            f"`training_set={training_set!r}` could not measure its window; use `head_scales`."
        )
    if not config.sparse_pattern:
        raise ValueError(f"`sparse_pattern` must name at least one of {', '.join(SPARSE_PARTS)}, got none.")
    for name in config.sparse_pattern:
        check_name("sparse_pattern", name, SPARSE_PARTS)
    if config.sparse_window < 0 or config.sparse_stride < 1:
        raise ValueError(
            f"`sparse_window` ({config.sparse_window}) must be at least 0 and `sparse_stride` "
            f"({config.sparse_stride}) at least 1, or some query would be left with no key."
        )


def _check_convolutions(config: Any, transforms: tuple[str, ...], training_set: str) -> None:
    check_name("conv2d_reading", config.conv2d_reading, CONV2D_READINGS)
    if config.conv_kernel_size < 1 or config.conv_kernel_size % 2 == 0:
        raise ValueError(f"`conv_kernel_size` must be odd and positive, got {config.conv_kernel_size}.")
    if "conv2d" not in transforms:
        return
    if config.conv2d_reading == "vector":
        map_shape(config.head_dim)
        return
    if "downsampled" in training_set:
        raise ValueError(
            f"`conv2d_reading='grid'` convolves over the grid of patches, which the keys of "
            f"`training_set={training_set!r}` no longer form; use 'vector'."
        )
    if config.grid_size is None:
        raise ValueError("`conv2d_reading='grid'` needs `grid_size`, the height and width in patches, got None.")


__all__ = ["check_attention", "check_name", "check_per_head"]
