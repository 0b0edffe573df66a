"""Small vision models and batches for the tests."""

import torch

from hf_primaldual import PrimalDualViTConfig, PrimalDualViTForImageClassification
from tests.modeling.series import stirred

CHANNELS, LABELS, SIZE, PATCH = 3, 4, 40, 8


def small_config(**fields) -> PrimalDualViTConfig:
    """Five by five patches, which most factors leave ragged."""
    fields = {
        "image_size": SIZE,
        "patch_size": PATCH,
        "num_channels": CHANNELS,
        "hidden_size": 16,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "intermediate_size": 32,
        "num_labels": LABELS,
        **fields,
    }
    return PrimalDualViTConfig(**fields)


def small_model(implementation: str = "sdpa", **fields) -> PrimalDualViTForImageClassification:
    """A classifier with weights large enough for its parts to matter."""
    config = small_config(**{"initializer_range": 0.2, **fields})
    config._attn_implementation = implementation
    return stirred(PrimalDualViTForImageClassification(config))


def image_batch(batch: int = 3, height: int = SIZE, width: int = SIZE) -> dict[str, torch.Tensor]:
    """Random images with labels."""
    return {"pixel_values": torch.randn(batch, CHANNELS, height, width), "labels": torch.arange(batch) % LABELS}
