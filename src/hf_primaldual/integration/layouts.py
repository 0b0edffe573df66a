"""How a family lays out its tokens: which are kept apart in front, and the grid that the others fill."""

from transformers.configuration_utils import PreTrainedConfig

from ..modeling.configuration_primal_dual_models import pair
from ..modeling.transforms_primal_dual import check_grid
from .settings import Settings

# Tokens in front of the patches, by `model_type`: a number, or what the configuration says.
PREFIX_TOKENS = {
    "aimv2_vision_model": lambda config: 0,
    "altclip_vision_model": lambda config: 1,
    "blip_2_vision_model": lambda config: 1,
    "chinese_clip_vision_model": lambda config: 1,
    "clip_vision_model": lambda config: 1,
    "deit": lambda config: 2,
    "dinov2": lambda config: 1,
    "dinov2_with_registers": lambda config: 1 + config.num_register_tokens,
    "dinov3_vit": lambda config: 1 + config.num_register_tokens,
    "ijepa": lambda config: 0,
    "metaclip_2_vision_model": lambda config: 1,
    "patchtst": lambda config: int(config.use_cls_token or False),
    "pixio": lambda config: config.n_cls_tokens,
    "siglip_vision_model": lambda config: 0,
    "vit": lambda config: 1,
    "vit_msn": lambda config: 1,
}


def _configured_grid(config: PreTrainedConfig) -> tuple[int, int] | None:
    image_size = getattr(config, "image_size", None)
    if image_size is None:
        return None
    return tuple(image // patch for image, patch in zip(pair(image_size), pair(config.patch_size), strict=True))


def token_layout(config: PreTrainedConfig, tokens: int, settings: Settings) -> tuple[int, tuple[int, int] | None]:
    """
    How many tokens in front are kept apart, and the height and width of the grid that the others fill row by row.

    Text and time series have no grid, and no tokens in front unless the settings or the family say so. What splits an
    image into patches has a grid: the settings', or that of the configuration's image size, or in an image of another
    size (`interpolate_pos_encoding`) a square one.

    Args:
        config (`PreTrainedConfig`): that of the attention layer.
        tokens (`int`): how many there are in all.
        settings ([`Settings`]): `prefix_tokens` and `grid_size` go before what is known of the family.

    Raises:
        ValueError: when neither the settings nor the family say how the tokens lie, or the settings' grid holds
            another number of them.
    """
    family = config.model_type
    # Whoever has patches and is not in the table has tokens in places that we can't know (YOLOS has some at the end).
    is_patched = getattr(config, "patch_size", None) is not None
    prefix = settings.prefix_tokens
    if prefix is None:
        if is_patched and family not in PREFIX_TOKENS:
            raise ValueError(
                f"`primal_dual['prefix_tokens']` must be set for a {family!r} model, in which the number of tokens "
                "in front of the patches (CLS, registers), which must not be downsampled, is not known."
            )
        prefix = PREFIX_TOKENS[family](config) if family in PREFIX_TOKENS else 0
    if settings.grid_size is not None:
        check_grid(tuple(settings.grid_size), prefix, tokens)
        return prefix, tuple(settings.grid_size)
    if not is_patched:
        return prefix, None
    patches = tokens - prefix
    grid = _configured_grid(config)
    if grid is not None and grid[0] * grid[1] == patches:
        return prefix, grid
    side = round(max(patches, 0) ** 0.5)
    if side < 1 or side * side != patches:
        raise ValueError(
            f"`primal_dual['grid_size']` must be set to the height and width in patches: {tokens} tokens, {prefix} of "
            f"them in front of the patches, are neither the configuration's grid {grid} nor a square one."
        )
    return prefix, (side, side)
