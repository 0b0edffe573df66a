"""
Times whole models against each other, interleaved in one run, and prints medians and the ratios of named pairs.

    python scripts/benchmark_models.py text
    python scripts/benchmark_models.py text --tokens 4096 --batch 4 --threads 2 --output results
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from transformers import HfArgumentParser, NystromformerConfig, NystromformerForSequenceClassification, PreTrainedModel

from hf_primaldual import PrimalDualTextConfig, PrimalDualTextForSequenceClassification
from hf_primaldual.measure import count_parameters, environment, interleaved, median_of_ratios, ratio_of_medians

LANDMARKS = 64


@dataclass
class BenchmarkArguments:
    """What is timed: by default a training step, which is forward, backward and AdamW's update, without dropout."""

    tokens: list[int] = field(default_factory=lambda: [1024, 4096], metadata={"help": "Lengths."})
    width: int = field(default=64, metadata={"help": "Width of the tokens."})
    heads: int = field(default=2, metadata={"help": "Heads."})
    layers: int = field(default=2, metadata={"help": "Layers."})
    intermediate: int = field(default=128, metadata={"help": "Width inside the feed-forward blocks."})
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
    """Models of one kind, by name; what they are all fed with; and of whom a ratio to whom is of interest."""

    models: dict[str, Callable[[BenchmarkArguments, int], PreTrainedModel]]
    inputs: Callable[[BenchmarkArguments, int], dict[str, torch.Tensor]]
    pairs: list[tuple[str, str]]


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


def time_length(family: Family, tokens: int, args: BenchmarkArguments) -> tuple[list[dict], list[dict]]:
    """Rows of the models, and rows of the pairs."""
    torch.manual_seed(0)
    inputs = family.inputs(args, tokens)
    models = {
        name: make(args, tokens).to(args.device, getattr(torch, args.dtype)) for name, make in family.models.items()
    }
    timings = interleaved(
        {name: make_call(model, inputs, args.inference) for name, model in models.items()}, rounds=args.rounds
    )
    rows = [
        {"tokens": tokens, "model": name, "parameters": count_parameters(models[name]), "ms": timing.milliseconds()}
        for name, timing in timings.items()
    ]
    pairs = [
        {
            "tokens": tokens,
            "model": model,
            "baseline": baseline,
            "ratio": ratio_of_medians(timings, model, baseline),
            "median_of_ratios": median_of_ratios(timings, model, baseline),
        }
        for model, baseline in family.pairs
    ]
    return rows, pairs


def print_length(rows: list[dict], pairs: list[dict]) -> None:
    for row in rows:
        ms = row["ms"]
        print(
            f"{row['tokens']:>7}  {row['model']:<14}  {row['parameters']:>10}  {ms['median']:>10.2f}  "
            f"{ms['q1']:>9.2f} to {ms['q3']:.2f}"
        )
    for pair in pairs:
        print(
            f"{pair['tokens']:>7}  {pair['model']} / {pair['baseline']}: {pair['ratio']:.3f} "
            f"(round by round {pair['median_of_ratios']:.3f})",
            flush=True,
        )


def main() -> None:
    parser = HfArgumentParser(BenchmarkArguments)
    parser.add_argument("family", choices=sorted(FAMILIES), help="Whose models.")
    args, positional = parser.parse_args_into_dataclasses()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    what = "inference" if args.inference else "training step"
    print(
        f"{positional.family}: {what}, batch {args.batch}, {args.layers} layers, width {args.width}, {args.heads} "
        f"heads, FFN {args.intermediate}, {args.attn_implementation}, {args.dtype}, {torch.get_num_threads()} threads"
    )
    print(f"{'tokens':>7}  {'model':<14}  {'parameters':>10}  {'median ms':>10}  {'quartiles ms':>20}")
    rows, pairs = [], []
    for tokens in args.tokens:
        found = time_length(FAMILIES[positional.family], tokens, args)
        print_length(*found)
        rows += found[0]
        pairs += found[1]
    if args.output is not None:
        save(positional.family, args, rows, pairs)


def save(family: str, args: BenchmarkArguments, rows: list[dict], pairs: list[dict]) -> None:
    settings = {key: value for key, value in asdict(args).items() if key != "output"}
    results = {"settings": {"family": family, **settings}, "rows": rows, "pairs": pairs} | environment()
    machine = results["hardware"]["accelerator"] or results["hardware"]["processor"]
    mode = "inference" if args.inference else "training"
    name = f"models-{family}-{mode}-{args.width}x{args.heads}-batch{args.batch} {machine} torch {torch.__version__}"
    path = Path(args.output) / (re.sub(r"[^A-Za-z0-9.+]+", "-", name).strip("-").lower() + ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
