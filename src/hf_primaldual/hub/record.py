"""What a checkpoint is checked with: inputs that are drawn, and what the model made of them when it was saved."""

from collections.abc import Mapping
from typing import Any

import numpy as np

RECORD = "check.safetensors"
"""
Two inputs that are drawn from the configuration alone, as `input.NAME`, and what they gave: `logits`, or of an encoder
without a head `last_hidden_state`.
"""
OUTPUTS = ("logits", "last_hidden_state")
_LONGEST = 48
# Of the two rows of a batch, and of the second text of a pair: of unequal lengths, so that masks are checked too.
_SHARES, _PAIR_SHARES = (1.0, 0.6), (0.4, 0.8)


def draw_inputs(config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """
    Two synthetic inputs for the model of a configuration, the same whenever and wherever they are drawn. They follow
    from `config.json` and from nothing else, so that no example of anybody's data can be among them. By the names of
    the model's arguments: token ids and masks (2, tokens), with those of a second text where documents are matched;
    series (2, steps, channels) of mean 0 and deviation 1, and their mask; or pixels (2, channels, height, width).
    """
    # The older generator's numbers are fixed for good, and those of `uniform` are the same on every processor.
    random = np.random.RandomState(0)
    family = config.get("model_type")
    if family == "primal_dual_vit":
        height, width = (size, size) if isinstance(size := config["image_size"], int) else size
        return {"pixel_values": _standard(random, (2, config["num_channels"], height, width))}
    if family not in ("primal_dual_text", "primal_dual_time_series"):
        raise ValueError(
            f"'model_type' of config.json must be of a family of hf_primaldual, not {family!r}; "
            "another model of transformers is published by its own `push_to_hub`"
        )
    longest = min(config["max_position_embeddings"], _LONGEST)
    mask = _mask(longest, _SHARES)
    if family == "primal_dual_time_series":
        series = _standard(random, (*mask.shape, config["num_channels"]))
        return {"past_values": series * mask[..., None].astype(np.float32), "attention_mask": mask}
    inputs = {"input_ids": _tokens(random, config, mask), "attention_mask": mask}
    if "PrimalDualTextForDocumentMatching" in (config.get("architectures") or ()):
        mask = _mask(longest, _PAIR_SHARES)
        inputs |= {"pair_input_ids": _tokens(random, config, mask), "pair_attention_mask": mask}
    return inputs


def _standard(random: np.random.RandomState, shape: tuple[int, ...]) -> np.ndarray:
    return random.uniform(-(3**0.5), 3**0.5, shape).astype(np.float32)


def _tokens(random: np.random.RandomState, config: Mapping[str, Any], mask: np.ndarray) -> np.ndarray:
    tokens = random.randint(config["vocab_size"], size=mask.shape, dtype=np.int64)
    return np.where(mask == 1, tokens, config.get("pad_token_id") or 0)


def _mask(longest: int, shares: tuple[float, float]) -> np.ndarray:
    lengths = [max(1, round(share * longest)) for share in shares]
    return (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
