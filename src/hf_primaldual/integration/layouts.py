"""How a family lays out its tokens: which are kept apart in front, and the grid that the others fill."""

import functools
import inspect
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.configuration_utils import PreTrainedConfig

from ..modeling.configuration_primal_dual_models import pair
from ..modeling.downsampling_primal_dual import downsample, pool_tokens
from ..modeling.transforms_primal_dual import check_grid
from .settings import ATTENTIONS, given


def _image_grid(config: PreTrainedConfig, shape: tuple[int, ...] | None = None) -> tuple[int, ...]:
    sides = pair(config.image_size) if shape is None else shape[-2:]
    return tuple(image // patch for image, patch in zip(sides, pair(config.patch_size), strict=True))


def _video_grid(config: PreTrainedConfig, shape: tuple[int, ...] | None = None) -> tuple[int, ...]:
    # (batch, frames, channels, height, width)
    frames, *sides = (config.num_frames, *pair(config.image_size)) if shape is None else (shape[1], *shape[-2:])
    tubelet = config.tubelet_size
    in_time, *patch = tubelet if isinstance(tubelet, list | tuple) else (tubelet, *pair(config.patch_size))
    return (frames // in_time, *(side // length for side, length in zip(sides, patch, strict=True)))


def _spectrogram_grid(config: PreTrainedConfig, shape: tuple[int, ...]) -> tuple[int, ...]:
    # (batch, times, frequencies)
    sides = (shape[2], config.frequency_stride), (shape[1], config.time_stride)
    return tuple((length - config.patch_size) // stride + 1 for length, stride in sides)


class Layout(NamedTuple):
    """
    How the tokens of a family lie.

    `prefix` is how many stand in front, or what the configuration says of it; `grid` takes the configuration and the
    shape of the model's input, and is `None` for a sequence. A model that is not `open` swallows what it does not
    know, instead of handing it to its attention: its images must be as large as its configuration says.
    """

    prefix: int | Callable[[PreTrainedConfig], int] = 0
    grid: Callable[..., tuple[int, ...]] | None = _image_grid
    open: bool = True


# By `model_type`. tests/integration/test_layouts.py looks where each patch of an input goes.
LAYOUTS = {
    "aimv2_vision_model": Layout(open=False),
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
    "dpt": Layout(1, open=False),
    "git_vision_model": Layout(1),
    "idefics2_vision": Layout(open=False),
    "idefics3_vision": Layout(open=False),
    "ijepa": Layout(),
    "instructblip_vision_model": Layout(1),
    "instructblipvideo_vision_model": Layout(1),
    "internvl_vision": Layout(1, open=False),
    "janus_vision_model": Layout(),
    "kosmos_2_vision_model": Layout(1),
    "metaclip_2_vision_model": Layout(1),
    "mlcd_vision_model": Layout(1),
    "ovis2_vision": Layout(open=False),
    "owlv2_vision_model": Layout(1),
    "owlvit_vision_model": Layout(1),
    "patchtst": Layout(lambda config: int(config.use_cls_token or False), None),
    "pixio": Layout(lambda config: config.n_cls_tokens),
    "qianfan_ocr_vision": Layout(1),
    "siglip_vision_model": Layout(open=False),
    "smolvlm_vision": Layout(open=False),
    "tipsv2_vision_model": Layout(lambda config: 1 + config.num_register_tokens),
    "videomae": Layout(0, _video_grid, open=False),
    "vit": Layout(1),
    "vit_msn": Layout(1),
    "vivit": Layout(1, _video_grid),
}


# Their names, of which one is the first argument of a model's forward.
INPUTS = ("pixel_values", "input_values")


def watch_inputs(model: PreTrainedModel) -> None:
    """Has a model, or those in it, read the grid of its tokens from its input: the innermost that take it."""
    found = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
    watched = {id(part.config) for part in found if "primal_dual_watch" in vars(part)}
    for part in reversed(found):
        layout = LAYOUTS.get(part.config.model_type)
        if layout is None or layout.grid is None or id(part.config) in watched:
            continue
        _, first, *others = inspect.signature(type(part).forward).parameters.values()
        if first.name in INPUTS:
            is_open = layout.open and any(parameter.kind is parameter.VAR_KEYWORD for parameter in others)
            part.register_forward_pre_hook(_hand_grid_on if is_open else _check_input, with_kwargs=True)
            part.primal_dual_watch = True
            watched.add(id(part.config))


def _input_grid(model: PreTrainedModel, args: tuple, kwargs: dict) -> tuple[int, ...] | None:
    """The grid of a model's input, `None` where nobody would ask for it."""
    states = args[0] if args else next((kwargs[name] for name in INPUTS if name in kwargs), None)
    if states is None or "sh" not in ATTENTIONS.get(model.config._attn_implementation, ""):
        return None
    return LAYOUTS[model.config.model_type].grid(model.config, tuple(states.shape))


def _flat(grid: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """What somebody may say who knows better: the frames of a video one below another, and all tokens in a row."""
    return (math.prod(grid[:-1]), grid[-1]), (1, math.prod(grid))


def _hand_grid_on(model: PreTrainedModel, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    """
    A forward pre-hook: the grid travels with the call, down to the attention, so that calls of different images do not
    meet, not even those that are recomputed in the backward.
    """
    grid = _input_grid(model, args, kwargs)
    return None if grid is None else (args, {"primal_dual_grid": grid, **kwargs})


def _check_input(model: PreTrainedModel, args: tuple, kwargs: dict) -> None:
    grid = _input_grid(model, args, kwargs)
    expected = given(model.config, "grid_size") or LAYOUTS[model.config.model_type].grid(model.config)
    if grid is not None and tuple(expected) not in (grid, *_flat(grid)):
        raise ValueError(
            f"`primal_dual['grid_size']` must be set to the height and width in patches, {list(grid)}: the input of "
            f"{type(model).__name__} does not fill the grid {list(expected)}, and can't hand its own to its layers."
        )


def check_places(layer: nn.Module) -> None:
    """
    Raises:
        ValueError: for a layer that sees the patches of several images, each of a grid of its own, one after another.
    """
    if _packs(type(layer)):
        raise ValueError(
            f"{type(layer).__name__} sees the patches of several images one after another, in an order of their own, "
            "which Attention-SH can't average: use `primal_dual_bn`, or `attn_implementation='sdpa'`."
        )


@torch.compiler.assume_constant_result
def _packs(layer_class: type[nn.Module]) -> bool:
    return "cu_seqlens" in _arguments(layer_class)


@functools.cache
def _arguments(layer_class: type[nn.Module]) -> tuple[str, ...]:
    return tuple(inspect.signature(layer_class.forward).parameters)


def _unknown_places(config: PreTrainedConfig) -> str | None:
    """Why the tokens of a model lie on no grid at all, whatever is given."""
    if config.model_type == "vit_mae":
        return "sees a random choice of patches in random order"
    if config.model_type == "siglip2_vision_model":
        return "sees images that have a grid each"
    if config.model_type == "patchtst" and config.channel_attention:
        return "attends along time and across channels by one layer, `channel_attention`"
    return None


# What the fields of a configuration are called whose tokens are not simply a text, a sound or a series. A sound may
# have frames; a video has images, too.
HINTS = (
    "backbone",
    "crop",
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


def token_layout(
    config: PreTrainedConfig, tokens: int, input_grid: tuple[int, ...] | None = None
) -> tuple[int, tuple[int, ...] | None]:
    """
    How many tokens in front are kept apart, and the grid that the others fill row by row: height and width, and before
    them the frames of a video.

    Text, sound and time series have no grid, and no tokens in front unless the settings or the family say so. What
    splits an image into patches has a grid: that of the settings, or of the model's input.

    Args:
        config (`PreTrainedConfig`): that of the attention layer; `num_prefix_tokens` and `grid_size` of its
            `primal_dual` go before what is known of the family.
        tokens (`int`): how many there are in all.
        input_grid (`tuple[int, ...]`, *optional*): that of the model's input, where it was read.

    Raises:
        ValueError: when neither the settings nor the family say how the tokens lie, or the grid holds another number
            of them, or the settings' is not that of the input.
    """
    prefix, grid = given(config, "num_prefix_tokens"), given(config, "grid_size")
    layout = LAYOUTS.get(config.model_type)
    if why := _unknown_places(config):
        raise ValueError(
            f"A {config.model_type!r} model {why}, so that its tokens have no places in which Attention-SH could "
            "average them: use `primal_dual_bn`, or `attn_implementation='sdpa'`."
        )
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
        if input_grid is not None and tuple(grid) not in _flat(input_grid):
            raise ValueError(
                f"`primal_dual['grid_size']` is {list(grid)}, but the input's grid is {list(input_grid)}; leave it "
                "out, and the grid is read from each input."
            )
        return prefix, tuple(grid)
    if layout.grid is None:
        return prefix, None
    if input_grid is None and not layout.open:
        input_grid = layout.grid(config)
    if input_grid is None or math.prod(input_grid) != tokens - prefix:
        known = "is not known" if input_grid is None else f"of the model's input, {list(input_grid)}, they do not fill"
        raise ValueError(
            f"`primal_dual['grid_size']` must be set to the height and width in patches: a layer of this "
            f"{config.model_type!r} model sees {tokens} tokens, {prefix} of them in front of the patches, whose grid "
            f"{known}."
        )
    return prefix, input_grid


def pool_frames(
    states: torch.Tensor, mask: torch.Tensor | None, prefix: int, frames: int, **how
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """As `pool_tokens`, each frame of a video alone."""
    if frames == 1:
        return pool_tokens(states, mask, prefix=prefix, **how)
    each = states[:, prefix:].unflatten(1, (frames, -1)).flatten(0, 1)
    valid = None if mask is None else mask[:, prefix:].unflatten(1, (frames, -1)).flatten(0, 1)
    pooled, kept = downsample(each, valid, **how)
    pooled = torch.cat((states[:, :prefix], pooled.unflatten(0, (-1, frames)).flatten(1, 2)), dim=1)
    if kept is None:
        return pooled, None
    in_front = kept.new_ones(len(states), prefix) if mask is None else mask[:, :prefix]
    return pooled, torch.cat((in_front, kept.unflatten(0, (-1, frames)).flatten(1, 2)), dim=1)


__all__ = ["HINTS", "INPUTS", "LAYOUTS", "check_places", "pool_frames", "token_layout", "watch_inputs"]
