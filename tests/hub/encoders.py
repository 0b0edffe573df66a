"""Small encoders without a head, converted from checkpoints, and what was measured of them."""

import numpy as np
import torch
from sklearn.neighbors import KNeighborsClassifier
from transformers import BertConfig, BertModel, ByT5Tokenizer, Dinov2Config, Dinov2Model, ViTImageProcessor

from hf_primaldual import convert
from hf_primaldual.hub.schema import SCHEMA_VERSION
from hf_primaldual.measure import environment
from hf_primaldual.measure.flops import count_flops
from hf_primaldual.measure.latency import inference, interleaved

LONGEST = 64
_SIZES = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
_SCALES = [[1, 2], [4, 1]]
_LABELS = np.arange(8) % 2


def encoder(task: str):
    """A model, the same with another attention, what makes their inputs, and a batch of these."""
    if task == "feature-extraction":
        original = BertModel(
            BertConfig(vocab_size=384, max_position_embeddings=LONGEST, intermediate_size=8, **_SIZES)
        )
        tokens = torch.randint(3, 259, (8, 24))
        batch, processor = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}, ByT5Tokenizer()
    else:
        original = Dinov2Model(Dinov2Config(image_size=28, patch_size=7, **_SIZES))
        processor = ViTImageProcessor(size={"height": 28, "width": 28})
        batch = {"pixel_values": torch.randn(8, 3, 28, 28)}
    converted = convert(original.eval(), "sh", head_scales=_SCALES)
    return original, converted, processor, batch


def measured(task: str) -> tuple:
    """A converted model, what makes its inputs, and the results of a small measurement."""
    original, converted, processor, batch = encoder(task)
    models = {"original": original, "converted": converted}
    with torch.no_grad():
        embeddings = {name: model(**batch).last_hidden_state.mean(dim=1) for name, model in models.items()}
    timings = interleaved({name: inference(model, batch) for name, model in models.items()}, rounds=2, warmup=1)
    scores = {name: {"validation": None, "test": nearest(each)} for name, each in embeddings.items()}
    drawn = {"name": "drawn", "source": "torch's generator", "sha256": {"all": "0" * 64}, "licence": None}
    size = {"tokens": 24} if task == "feature-extraction" else {"tokens": 17, "image_size": [28, 28]}
    results = {
        "schema": SCHEMA_VERSION,
        "command": "python -m pytest tests/hub/test_encoders.py",
        "date": "2026-11-27",
        "model_name": "small-sh",
        "task": task,
        "attention": "sh",
        "license": "mit",
        "original": {**drawn, "name": "small"},
        "head_scales": _SCALES,
        "cost": (1 + 1 / 2 + 1 / 4 + 1) / 4 if task == "feature-extraction" else (1 + 1 / 4 + 1 / 16 + 1) / 4,
        "embedding": "mean",
        "parameters": converted.num_parameters(),
        "calibration": {
            "inputs": {**drawn, "examples": 8, "subset": "all of them"},
            "settings": {"budget": 0.7},
            "predicted_change": 0.25,
            "seconds": 1.5,
        },
        "distillation": {
            "teacher": "the original",
            "inputs": {**drawn, "examples": 4},
            "settings": {"learning_rate": 1e-4},
            "steps": 3,
            "seconds": 2.5,
        },
        "dataset": {**drawn, "train": 4, "validation": None, "test": 4, "classes": 2},
        "settings": {"neighbours": 1, "max_position_embeddings": LONGEST},
        "evaluations": [
            {
                **size,
                "cosine": torch.cosine_similarity(*embeddings.values()).mean().item(),
                "probes": [{"kind": "nearest neighbour", **scores}],
            }
        ],
        "efficiency": [
            {
                **size,
                "batch": 8,
                "attention_share": 0.125,
                **{
                    name: {"forward_flops": count_flops(model, **batch), "inference_ms": timings[name].milliseconds()}
                    for name, model in models.items()
                },
            }
        ],
        **environment(),
    }
    return converted, processor, results


def nearest(embeddings: torch.Tensor) -> float:
    """The accuracy on the second half of them."""
    probe = KNeighborsClassifier(1).fit(embeddings[:4].numpy(), _LABELS[:4])
    return float(probe.score(embeddings[4:].numpy(), _LABELS[4:]))
