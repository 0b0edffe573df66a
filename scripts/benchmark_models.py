"""
Times whole models against each other, interleaved in one run, and prints medians and the ratios of named pairs.

    python scripts/benchmark_models.py text
    python scripts/benchmark_models.py text --tokens 4096 --batch 4 --threads 2 --output results
    python scripts/benchmark_models.py vit --image_size 224 384 512 --batch 8 --inference --threads 2 --output results

The text models have the shape of Long Range Arena's, the vision transformers that of DeiT-tiny/16.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
from transformers import (
    HfArgumentParser,
    NystromformerConfig,
    NystromformerForSequenceClassification,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)

from hf_primaldual import (
    PrimalDualTextConfig,
    PrimalDualTextForSequenceClassification,
    PrimalDualViTConfig,
    PrimalDualViTForImageClassification,
)
from hf_primaldual.measure import count_parameters, interleaved, median_of_ratios, ratio_of_medians, save_results

LANDMARKS = 64


@dataclass
class BenchmarkArguments:
    """What is timed: by default a training step, which is forward, backward and AdamW's update, without dropout."""

    tokens: list[int] = field(default_factory=lambda: [1024, 4096], metadata={"help": "Lengths of texts."})
    image_size: list[int] = field(default_factory=lambda: [224], metadata={"help": "Sides of images in pixels."})
    width: int = field(default=64, metadata={"help": "Width of a text's tokens."})
    heads: int = field(default=2, metadata={"help": "Heads of the text models."})
    layers: int = field(default=2, metadata={"help": "Layers of the text models."})
    intermediate: int = field(default=128, metadata={"help": "Width inside their feed-forward blocks."})
    batch: int = field(default=1, metadata={"help": "Rows."})
    inference: bool = field(default=False, metadata={"help": "Forward only, without gradients."})
    attn_implementation: str = field(default="sdpa", metadata={"help": "Back-end of the models that have a choice."})
    threads: int | None = field(default=None, metadata={"help": "Threads on a CPU; torch's own choice by default."})
    device: str = field(default="cpu", metadata={"help": "cpu or cuda."})
    dtype: str = field(default="float32", metadata={"help": "float32, bfloat16 or float16."})
    rounds: int = field(default=15, metadata={"help": "Timed calls of each model."})
    output: str | None = field(
        default=None, metadata={"help": "Folder for a JSON file named by processor and torch's version."}
    )


@dataclass(frozen=True)
class Family:
    """
    Models of one kind, by name; what they are all fed with; of whom a ratio to whom is of interest; and which argument
    holds the sizes to time them at.
    """

    models: dict[str, Callable[[BenchmarkArguments, int], PreTrainedModel]]
    inputs: Callable[[BenchmarkArguments, int], dict[str, torch.Tensor]]
    pairs: list[tuple[str, str]]
    sizes: str


def text_model(**attention) -> Callable[[BenchmarkArguments, int], PreTrainedModel]:
    def make(args: BenchmarkArguments, tokens: int) -> PreTrainedModel:
        config = PrimalDualTextConfig(
            max_position_embeddings=tokens,
            hidden_size=args.width,
            num_attention_heads=args.heads,
            num_hidden_layers=args.layers,
            intermediate_size=args.intermediate,
            hidden_dropout_prob=0.0,
            attn_implementation=args.attn_implementation,
            **attention,
        )
        return PrimalDualTextForSequenceClassification(config)

    return make


def nystromformer(args: BenchmarkArguments, tokens: int) -> PreTrainedModel:
    if tokens % LANDMARKS:
        raise ValueError(f"`tokens` must be a multiple of Nystromformer's {LANDMARKS} landmarks, got {tokens}.")
    config = NystromformerConfig(
        vocab_size=PrimalDualTextConfig.vocab_size,
        max_position_embeddings=tokens,
        # Its landmarks are means over segments of exactly this length.
        segment_means_seq_len=tokens,
        num_landmarks=LANDMARKS,
        hidden_size=args.width,
        num_attention_heads=args.heads,
        num_hidden_layers=args.layers,
        intermediate_size=args.intermediate,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return NystromformerForSequenceClassification(config)


def text_inputs(args: BenchmarkArguments, tokens: int) -> dict[str, torch.Tensor]:
    return {
        "input_ids": torch.randint(1, PrimalDualTextConfig.vocab_size, (args.batch, tokens), device=args.device),
        "labels": torch.arange(args.batch, device=args.device) % 2,
    }


def transformers_vit(args: BenchmarkArguments, image_size: int) -> PreTrainedModel:
    tiny = PrimalDualViTConfig()
    config = ViTConfig(
        image_size=image_size,
        hidden_size=tiny.hidden_size,
        num_attention_heads=tiny.num_attention_heads,
        num_hidden_layers=tiny.num_hidden_layers,
        intermediate_size=tiny.intermediate_size,
        num_labels=1000,
        attn_implementation=args.attn_implementation,
    )
    return ViTForImageClassification(config)


def vit_model(**attention) -> Callable[[BenchmarkArguments, int], PreTrainedModel]:
    def make(args: BenchmarkArguments, image_size: int) -> PreTrainedModel:
        config = PrimalDualViTConfig(
            image_size=image_size, num_labels=1000, attn_implementation=args.attn_implementation, **attention
        )
        return PrimalDualViTForImageClassification(config)

    return make


def image_inputs(args: BenchmarkArguments, image_size: int) -> dict[str, torch.Tensor]:
    return {
        "pixel_values": torch.randn(
            args.batch, 3, image_size, image_size, device=args.device, dtype=getattr(torch, args.dtype)
        ),
        "labels": torch.arange(args.batch, device=args.device),
    }


FAMILIES = {
    "text": Family(
        models={
            "softmax": text_model(attention="softmax"),
            # The factors are those of two heads.
            "bn+sh": text_model(attention="bn+sh", head_scales=[2, 4]),
            "bn+sh:256": text_model(attention="bn+sh", head_points=256),
            "linear": text_model(attention="linear"),
            "nystromformer": nystromformer,
        },
        inputs=text_inputs,
        pairs=[
            ("bn+sh", "softmax"),
            ("bn+sh:256", "softmax"),
            ("linear", "softmax"),
            ("nystromformer", "softmax"),
            ("bn+sh:256", "nystromformer"),
        ],
        sizes="tokens",
    ),
    "vit": Family(
        models={
            "transformers' ViT": transformers_vit,
            "softmax": vit_model(attention="softmax"),
            "bn": vit_model(attention="bn"),
            "bn+sh": vit_model(attention="bn+sh", head_scales=[2, 2, 2]),
        },
        inputs=image_inputs,
        pairs=[(name, "transformers' ViT") for name in ("softmax", "bn", "bn+sh")],
        sizes="image_size",
    ),
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


def time_size(family: Family, size: int, args: BenchmarkArguments) -> tuple[list[dict], list[dict]]:
    """Rows of the models, and rows of the pairs."""
    torch.manual_seed(0)
    inputs = family.inputs(args, size)
    models = {
        name: make(args, size).to(args.device, getattr(torch, args.dtype)) for name, make in family.models.items()
    }
    timings = interleaved(
        {name: make_call(model, inputs, args.inference) for name, model in models.items()}, rounds=args.rounds
    )
    rows = [
        {family.sizes: size, "model": name, "parameters": count_parameters(models[name]), "ms": timing.milliseconds()}
        for name, timing in timings.items()
    ]
    pairs = [
        {
            family.sizes: size,
            "model": model,
            "baseline": baseline,
            "ratio": ratio_of_medians(timings, model, baseline),
            "median_of_ratios": median_of_ratios(timings, model, baseline),
        }
        for model, baseline in family.pairs
    ]
    return rows, pairs


def print_size(size: int, rows: list[dict], pairs: list[dict]) -> None:
    for row in rows:
        ms = row["ms"]
        print(
            f"{size:>10}  {row['model']:<17}  {row['parameters']:>10}  {ms['median']:>10.2f}  "
            f"{ms['q1']:>9.2f} to {ms['q3']:.2f}"
        )
    for pair in pairs:
        print(
            f"{size:>10}  {pair['model']} / {pair['baseline']}: {pair['ratio']:.3f} "
            f"(round by round {pair['median_of_ratios']:.3f})",
            flush=True,
        )


def main() -> None:
    parser = HfArgumentParser(BenchmarkArguments)
    parser.add_argument("family", choices=sorted(FAMILIES), help="Whose models.")
    args, positional = parser.parse_args_into_dataclasses()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    family = FAMILIES[positional.family]
    what = "inference" if args.inference else "training step"
    print(
        f"{positional.family}: {what}, batch {args.batch}, {args.attn_implementation}, {args.dtype}, "
        f"{torch.get_num_threads()} threads"
    )
    print(f"{family.sizes:>10}  {'model':<17}  {'parameters':>10}  {'median ms':>10}  {'quartiles ms':>20}")
    rows, pairs = [], []
    for size in getattr(args, family.sizes):
        found = time_size(family, size, args)
        print_size(size, *found)
        rows += found[0]
        pairs += found[1]
    if args.output is not None:
        save(positional.family, args, rows, pairs)


def save(family: str, args: BenchmarkArguments, rows: list[dict], pairs: list[dict]) -> None:
    settings = {key: value for key, value in asdict(args).items() if key != "output"}
    mode = "inference" if args.inference else "training"
    results = {"settings": {"family": family, **settings}, "rows": rows, "pairs": pairs}
    print(f"written: {save_results(args.output, f'models-{family}-{mode}-batch{args.batch}', results)}")


if __name__ == "__main__":
    main()
