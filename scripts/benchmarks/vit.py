"""
Times vision transformers of DeiT's shapes against transformers' own ViT, interleaved in one run. A training
step is forward, backward and AdamW's update, without dropout.

    python scripts/benchmarks/vit.py
    python scripts/benchmarks/vit.py --image_size 224 384 512 --batch 8 --inference --threads 2 --output results
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from timing import time_rows
from transformers import PreTrainedModel, ViTConfig, ViTForImageClassification
from transformers.hf_argparser import HfArg

from hf_primaldual import PrimalDualViTConfig, PrimalDualViTForImageClassification
from hf_primaldual.measure import count_parameters, inference, training_step
from hf_primaldual.measure.arguments import TimingArguments

BASELINE = "transformers' ViT"
LABELS = 1000
OURS = {
    "softmax": {"attention": "softmax"},
    "bn": {"attention": "bn"},
    "bn+sh": {"attention": "bn+sh"},
}
SIZES = {"tiny": (192, 3), "small": (384, 6)}


@dataclass
class ViTArguments(TimingArguments):
    """What is timed."""

    image_size: list[int] = HfArg(default_factory=lambda: [224], help="Sides of images in pixels.")
    size: str = HfArg(default="tiny", help="DeiT-tiny/16, or small.")


def make_models(image_size: int, args: ViTArguments) -> dict[str, PreTrainedModel]:
    width, heads = SIZES[args.size]
    common = {
        "image_size": image_size,
        "num_labels": LABELS,
        "attn_implementation": args.attn_implementation,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_hidden_layers": 12,
        "intermediate_size": 4 * width,
    }
    models = {BASELINE: ViTForImageClassification(ViTConfig(**common))}
    for name, fields in OURS.items():
        scales = {"head_scales": [2] * heads} if name == "bn+sh" else {}
        models[name] = PrimalDualViTForImageClassification(PrimalDualViTConfig(**common, **fields, **scales))
    return {name: model.to(**args.place).train(not args.inference) for name, model in models.items()}


def main(argv: list[str] | None = None) -> Path | None:
    args = ViTArguments.parse(argv)
    rows = []
    for image_size in args.image_size:
        inputs = {
            "pixel_values": torch.randn(args.batch, 3, image_size, image_size, **args.place),
            "labels": torch.arange(args.batch, device=args.device),
        }
        models, calls = make_models(image_size, args), {}
        for name, model in models.items():
            if args.inference:
                calls[name] = inference(model, inputs)
            else:
                calls[name] = training_step(model, inputs, torch.optim.AdamW(model.parameters(), lr=1e-4))
        timed = time_rows(calls, BASELINE, args.rounds, {"image_size": image_size, "batch": args.batch}, "model")
        rows += [row | {"parameters": count_parameters(models[row["model"]])} for row in timed]
    kind = "vit" if args.size == "tiny" else f"vit-{args.size}"
    return args.save(f"{kind}-{args.mode}-batch{args.batch}", rows)


if __name__ == "__main__":
    main()
