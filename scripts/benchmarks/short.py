"""
Times whole models on short inputs against the same models with softmax on sdpa, interleaved in one run. A training
step is forward, backward and AdamW's update, without dropout.

    python scripts/benchmarks/short.py --inference --threads 1
    python scripts/benchmarks/short.py --cases series-8x29 image-1x224 --threads 2 --output results
"""

import timeit
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timing import time_rows
from transformers import PreTrainedModel
from transformers.hf_argparser import HfArg

from hf_primaldual import (
    PrimalDualTextConfig,
    PrimalDualTextForSequenceClassification,
    PrimalDualTimeSeriesConfig,
    PrimalDualTimeSeriesForSequenceClassification,
    PrimalDualViTConfig,
    PrimalDualViTForImageClassification,
)
from hf_primaldual.measure import inference, make_inputs, training_step
from hf_primaldual.measure.arguments import TimingArguments

BASELINE = "softmax"
FAMILIES = {
    # The model of `make demo`.
    "series": (PrimalDualTimeSeriesForSequenceClassification, PrimalDualTimeSeriesConfig, {"num_channels": 12}),
    # Long Range Arena's, with the heads of the paper's larger models.
    "text": (
        PrimalDualTextForSequenceClassification,
        PrimalDualTextConfig,
        {"hidden_size": 128, "num_attention_heads": 8, "intermediate_size": 256},
    ),
    # DeiT-tiny/16.
    "image": (PrimalDualViTForImageClassification, PrimalDualViTConfig, {"num_labels": 1000}),
}
# Families with batch and length in steps, tokens or pixels. In a padded batch every second row ends a quarter earlier.
CASES = ("series-8x29", "series-8x29-padded", "series-8x128", "series-1x512", "series-1x1024", "text-1x512",
         "text-1x1024", "image-1x224", "image-8x224")  # fmt: skip


@dataclass
class ShortArguments(TimingArguments):
    """What is timed: by default training steps."""

    cases: list[str] = HfArg(default_factory=lambda: list(CASES), help="Family, batch and length of each case.")
    attentions: list[str] = HfArg(default_factory=lambda: ["bn", "sh", "bn+sh"], help="Presets; of images not sh.")
    rounds: int = HfArg(default=25, help="Timed calls of each, at least.")
    seconds: float = HfArg(default=15.0, help="How long a case is timed, at least: short calls are noisy.")


def make_model(family: str, length: int, attention: str, args: ShortArguments) -> PreTrainedModel:
    model_class, config_class, fields = FAMILIES[family]
    fields = {**fields, "attention": attention, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    if family == "image":
        fields |= {"image_size": length, **({"head_scales": [2, 2, 2]} if "sh" in attention else {})}
    else:
        fields["max_position_embeddings"] = length
    config = config_class(**fields, attn_implementation=args.attn_implementation)
    return model_class(config).to(**args.place).train(not args.inference)


def make_call(model: PreTrainedModel, inputs: Mapping[str, torch.Tensor], args: ShortArguments) -> Callable[[], Any]:
    if args.inference:
        return inference(model, inputs)
    return training_step(model, inputs, torch.optim.AdamW(model.parameters(), lr=1e-4))


def main(argv: list[str] | None = None) -> Path | None:
    args = ShortArguments.parse(argv)
    rows = []
    for case in args.cases:
        family, size, *padded = case.split("-")
        batch, length = map(int, size.split("x"))
        names = [name for name in args.attentions if (family, name) != ("image", "sh")]
        models = {name: make_model(family, length, name, args) for name in (BASELINE, *names)}
        inputs = make_inputs(models[BASELINE], None if family == "image" else length, batch)
        if padded:
            inputs["attention_mask"] = torch.ones(batch, length, dtype=torch.long)
            inputs["attention_mask"][::2, length * 3 // 4 :] = 0
        calls = {name: make_call(model, inputs, args) for name, model in models.items()}
        once = min(timeit.repeat(calls[BASELINE], number=1, repeat=3))
        rounds = max(args.rounds, int(args.seconds / once / len(calls)))
        about = {"model": "-".join([family, *padded]), "batch": batch, "tokens": length}
        rows += time_rows(calls, BASELINE, rounds, about)
    return args.save(f"short-{args.mode}-{torch.get_num_threads()}", rows, leave_out=("batch",))


if __name__ == "__main__":
    main()
