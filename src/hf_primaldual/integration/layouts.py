"""How a family lays out its tokens: which are kept apart in front, and the grid that the others fill."""

from collections.abc import Callable
from typing import NamedTuple

from transformers.configuration_utils import PreTrainedConfig

from ..modeling.configuration_primal_dual_models import pair
from ..modeling.transforms_primal_dual import check_grid
from .settings import given


def _image_grid(config: PreTrainedConfig) -> tuple[int, ...]:
    sides = zip(pair(config.image_size), pair(config.patch_size), strict=True)
    return tuple(image // patch for image, patch in sides)


def _spectrogram_grid(config: PreTrainedConfig) -> tuple[int, ...]:
    sides = (config.num_mel_bins, config.frequency_stride), (config.max_length, config.time_stride)
    return tuple((length - config.patch_size) // stride + 1 for length, stride in sides)


class Layout(NamedTuple):
    """Tokens in front, as a number or what the configuration says, and the grid, `None` for a sequence."""

    prefix: int | Callable[[PreTrainedConfig], int] = 0
    grid: Callable[[PreTrainedConfig], tuple[int, ...]] | None = _image_grid


# By `model_type`. tests/integration/test_layouts.py looks where each patch of an input goes.
LAYOUTS = {
    "aimv2_vision_model": Layout(),
    "altclip_vision_model": Layout(1),
    "audio-spectrogram-transformer": Layout(2, _spectrogram_grid),
    "beit": Layout(1),
    "blip_2_vision_model": Layout(1),
    "chinese_clip_vision_model": Layout(1),
    "clip_vision_model": Layout(1),
    "clipseg_vision_model": Layout(1),
    "deit": Layout(2),
    "dinov2": Layout(1),
    "dinov2_with_registers": Layout(lambda config: 1 + config.num_register_tokens),
    "dinov3_vit": Layout(lambda config: 1 + config.num_register_tokens),
    "ijepa": Layout(),
    "instructblip_vision_model": Layout(1),
    "internvl_vision": Layout(1),
    "janus_vision_model": Layout(),
    "metaclip_2_vision_model": Layout(1),
    "owlv2_vision_model": Layout(1),
    "owlvit_vision_model": Layout(1),
    "patchtst": Layout(lambda config: int(config.use_cls_token or False), None),
    "pixio": Layout(lambda config: config.n_cls_tokens),
    "siglip_vision_model": Layout(),
    "vit": Layout(1),
    "vit_msn": Layout(1),
}

# What the fields of a configuration are called whose tokens are not simply a text, a sound or a series.
HINTS = (
    "backbone",
    "crop",
    "frame",
    "grid",
    "image",
    "num_channels",
    "patch",
    "pixel",
    "register",
    "tubelet",
    "use_cls",
    "video",
    "visual",
)


def _hints(config: PreTrainedConfig) -> list[str]:
    return [name for name, value in vars(config).items() if value and any(hint in name for hint in HINTS)]


def token_layout(config: PreTrainedConfig, tokens: int) -> tuple[int, tuple[int, int] | None]:
    """
    How many tokens in front are kept apart, and the height and width of the grid that the others fill row by row.

    Text, sound and time series have no grid, and no tokens in front unless the settings or the family say so. What
    splits an image into patches has a grid: the settings', or that of the configuration's image size.

    Args:
        config (`PreTrainedConfig`): that of the attention layer; `num_prefix_tokens` and `grid_size` of its
            `primal_dual` go before what is known of the family.
        tokens (`int`): how many there are in all.

    Raises:
        ValueError: when neither the settings nor the family say how the tokens lie, or the grid holds another number
            of them.
    """
    prefix, grid = given(config, "num_prefix_tokens"), given(config, "grid_size")
    layout = LAYOUTS.get(config.model_type)
    if layout is None and (prefix is None or grid is None) and (hints := _hints(config)):
        raise ValueError(
            "`primal_dual['num_prefix_tokens']` and `primal_dual['grid_size']` must be set for a "
            f"{config.model_type!r} model: it has {', '.join(hints[:3])}, and neither the tokens in front (CLS, "
            "registers), which must not be downsampled, nor the grid of the others are known. For a sequence of n "
            "tokens the grid is [1, n]."
        )
    layout = layout or Layout(0, None)
    if prefix is None:
        prefix = layout.prefix(config) if callable(layout.prefix) else layout.prefix
    if grid is not None:
        check_grid(tuple(grid), prefix, tokens)
        return prefix, tuple(grid)
    if layout.grid is None:
        return prefix, None
    height, width = layout.grid(config)
    if height * width != tokens - prefix:
        raise ValueError(
            f"`primal_dual['grid_size']` must be set to the height and width in patches: {tokens} tokens, {prefix} of "
            f"them in front of the patches, do not fill the configuration's grid {height, width}, and those of an "
            "image of another size may lie in any."
        )
    return prefix, (height, width)


__all__ = ["HINTS", "LAYOUTS", "token_layout"]
