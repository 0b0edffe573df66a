"""
Times vision transformers of DeiT-tiny/16's shape against transformers' own ViT, interleaved in one run, and prints
medians and ratios.

    python scripts/benchmark_vit.py
    python scripts/benchmark_vit.py --image_size 224 384 512 --batch 8 --inference --threads 2 --output results
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
from transformers import HfArgumentParser, PreTrainedModel, ViTConfig, ViTForImageClassification

from hf_primaldual import PrimalDualViTConfig, PrimalDualViTForImageClassification
from hf_primaldual.measure import count_parameters, interleaved, median_of_ratios, ratio_of_medians, save_results

BASELINE = "transformers' ViT"
LABELS = 1000


@dataclass
class BenchmarkArguments:
    """What is timed: by default a training step, which is forward, backward and AdamW's update, without dropout."""

    image_size: list[int] = field(default_factory=lambda: [224], metadata={"help": "Sides of images in pixels."})
    batch: int = field(default=1, metadata={"help": "Images."})
    inference: bool = field(default=False, metadata={"help": "Forward only, without gradients."})
    attn_implementation: str = field(default="sdpa", metadata={"help": "Back-end of every model."})
    threads: int | None = field(default=None, metadata={"help": "Threads on a CPU; torch's own choice by default."})
    device: str = field(default="cpu", metadata={"help": "cpu or cuda."})
    dtype: str = field(default="float32", metadata={"help": "float32, bfloat16 or float16."})
    rounds: int = field(default=15, metadata={"help": "Timed calls of each model."})
    output: str | None = field(
        default=None, metadata={"help": "Folder for JSON and CSV named by processor and torch's version."}
    )


def transformers_vit(image_size: int, attn_implementation: str) -> PreTrainedModel:
    tiny = PrimalDualViTConfig()
    config = ViTConfig(
        image_size=image_size,
        hidden_size=tiny.hidden_size,
        num_attention_heads=tiny.num_attention_heads,
        num_hidden_layers=tiny.num_hidden_layers,
        intermediate_size=tiny.intermediate_size,
        num_labels=LABELS,
        attn_implementation=attn_implementation,
    )
    return ViTForImageClassification(config)


def ours(**attention) -> Callable[[int, str], PreTrainedModel]:
    def make(image_size: int, attn_implementation: str) -> PreTrainedModel:
        config = PrimalDualViTConfig(
            image_size=image_size, num_labels=LABELS, attn_implementation=attn_implementation, **attention
        )
        return PrimalDualViTForImageClassification(config)

    return make


MODELS: dict[str, Callable[[int, str], PreTrainedModel]] = {
    BASELINE: transformers_vit,
    "softmax": ours(attention="softmax"),
    "bn": ours(attention="bn"),
    "bn+sh": ours(attention="bn+sh", head_scales=[2, 2, 2]),
}


def make_call(model: PreTrainedModel, inputs: dict[str, torch.Tensor], inference: bool) -> Callable[[], None]:
    if inference:
        model.eval()
        without_labels = {name: tensor for name, tensor in inputs.items() if name != "labels"}

        def infer():
            with torch.inference_mode():
                model(**without_labels)

        return infer

    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step():
        optimizer.zero_grad()
        model(**inputs).loss.backward()
        optimizer.step()

    return step


def time_size(image_size: int, args: BenchmarkArguments) -> list[dict]:
    """A row for each model."""
    torch.manual_seed(0)
    dtype = getattr(torch, args.dtype)
    inputs = {
        "pixel_values": torch.randn(args.batch, 3, image_size, image_size, device=args.device, dtype=dtype),
        "labels": torch.arange(args.batch, device=args.device),
    }
    models = {name: make(image_size, args.attn_implementation).to(args.device, dtype) for name, make in MODELS.items()}
    calls = {name: make_call(model, inputs, args.inference) for name, model in models.items()}
    timings = interleaved(calls, rounds=args.rounds)
    return [
        {
            "model": name,
            "image_size": image_size,
            "batch": args.batch,
            "parameters": count_parameters(models[name]),
            "ms": timing.milliseconds(),
            "ratio": ratio_of_medians(timings, name, BASELINE),
            "median_of_ratios": median_of_ratios(timings, name, BASELINE),
        }
        for name, timing in timings.items()
    ]


def main() -> None:
    args = HfArgumentParser(BenchmarkArguments, allow_abbrev=False).parse_args_into_dataclasses()[0]
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    mode = "inference" if args.inference else "training"
    print(f"{mode}, batch {args.batch}, {args.attn_implementation}, {args.dtype}, {torch.get_num_threads()} threads")
    print(f"{'pixels':>7}  {'model':<17}  {'parameters':>10}  {'median ms':>10}  {'quartiles ms':>20}  {'ratio':>6}")
    rows = []
    for image_size in args.image_size:
        for row in time_size(image_size, args):
            ms = row["ms"]
            quartiles = f"{ms['q1']:.2f} to {ms['q3']:.2f}"
            print(
                f"{image_size:>7}  {row['model']:<17}  {row['parameters']:>10}  {ms['median']:>10.2f}  "
                f"{quartiles:>20}  {row['ratio']:>6.3f}",
                flush=True,
            )
            rows.append(row)
    if args.output is not None:
        settings = {key: value for key, value in asdict(args).items() if key != "output"}
        path = save_results(args.output, f"vit-{mode}-batch{args.batch}", {"settings": settings, "rows": rows})
        print(f"written: {path}")


if __name__ == "__main__":
    main()
