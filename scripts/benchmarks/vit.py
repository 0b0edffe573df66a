"""
Times vision transformers of DeiT-tiny/16's shape against transformers' own ViT, interleaved in one run. A training
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
    "bn+sh": {"attention": "bn+sh", "head_scales": [2, 2, 2]},
}


@dataclass
class ViTArguments(TimingArguments):
    """What is timed."""

    image_size: list[int] = HfArg(default_factory=lambda: [224], help="Sides of images in pixels.")


def make_models(image_size: int, args: ViTArguments) -> dict[str, PreTrainedModel]:
    common = {"image_size": image_size, "num_labels": LABELS, "attn_implementation": args.attn_implementation}
    sizes = ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size")
    tiny = PrimalDualViTConfig()
    theirs = ViTConfig(**common, **{name: getattr(tiny, name) for name in sizes})
    models = {BASELINE: ViTForImageClassification(theirs)}
    for name, fields in OURS.items():
        models[name] = PrimalDualViTForImageClassification(PrimalDualViTConfig(**common, **fields))
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
    return args.save(f"vit-{args.mode}-batch{args.batch}", rows)


if __name__ == "__main__":
    main()
