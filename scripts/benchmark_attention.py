"""
Times attention layers against softmax on the same back-end, interleaved in one run, and prints medians.

    python scripts/benchmark_attention.py
    python scripts/benchmark_attention.py --tokens 197 --width 192 --heads 3 --batch 8 --inference
    python scripts/benchmark_attention.py --output results
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
from transformers import HfArgumentParser

from hf_primaldual import PrimalDualAttention, PrimalDualConfig
from hf_primaldual.measure import Timing, interleaved, ratio_of_medians, save_results, those_that_fit

BASELINE = "softmax"


@dataclass
class BenchmarkArguments:
    """What is timed."""

    tokens: list[int] = field(default_factory=lambda: [1024, 4096], metadata={"help": "Lengths."})
    attentions: list[str] = field(
        default_factory=lambda: ["bn", "sh", "bn+sh", "sh:256", "linear", "linear-bn", "sparse:local"],
        metadata={"help": "Presets beside softmax; `sh:256` has 256 points per head, `sparse:local` that pattern."},
    )
    width: int = field(default=128, metadata={"help": "Width of the tokens."})
    heads: int = field(default=8, metadata={"help": "Heads."})
    batch: int = field(default=1, metadata={"help": "Rows."})
    inference: bool = field(default=False, metadata={"help": "Forward only, without gradients."})
    attn_implementation: str = field(default="sdpa", metadata={"help": "Back-end of every layer."})
    device: str = field(default="cpu", metadata={"help": "cpu or cuda."})
    dtype: str = field(default="float32", metadata={"help": "float32, bfloat16 or float16."})
    rounds: int = field(default=15, metadata={"help": "Timed calls of each layer."})
    output: str | None = field(
        default=None, metadata={"help": "Folder for a JSON file named by processor and torch's version."}
    )


def make_layer(name: str, args: BenchmarkArguments) -> PrimalDualAttention:
    attention, _, option = name.partition(":")
    options = {"head_points": int(option)} if option.isdigit() else {"sparse_pattern": option.split("+")}
    config = PrimalDualConfig(
        attention=attention,
        hidden_size=args.width,
        num_attention_heads=args.heads,
        attn_implementation=args.attn_implementation,
        **(options if option else {}),
    )
    return PrimalDualAttention(config).to(args.device, getattr(torch, args.dtype))


def make_call(layer: PrimalDualAttention, hidden_states: torch.Tensor, inference: bool) -> Callable[[], None]:
    cotangent = torch.randn_like(hidden_states)

    def infer():
        with torch.inference_mode():
            layer(hidden_states)

    def step():
        layer.zero_grad(set_to_none=True)
        hidden_states.grad = None
        layer(hidden_states)[0].backward(cotangent)

    return infer if inference else step


def time_length(tokens: int, args: BenchmarkArguments) -> tuple[dict[str, Timing], dict[str, str]]:
    """Times of the layers that fit into memory, and why the others do not."""
    torch.manual_seed(0)
    hidden_states = torch.randn(
        args.batch,
        tokens,
        args.width,
        device=args.device,
        dtype=getattr(torch, args.dtype),
        requires_grad=not args.inference,
    )
    names = [BASELINE, *args.attentions]
    calls = {name: make_call(make_layer(name, args), hidden_states, args.inference) for name in names}
    calls, too_large = those_that_fit(calls)
    return interleaved(calls, rounds=args.rounds) if calls else {}, too_large


def main() -> None:
    args = HfArgumentParser(BenchmarkArguments, allow_abbrev=False).parse_args_into_dataclasses()[0]
    rows = []
    what = "inference" if args.inference else "forward and backward"
    print(
        f"{what}, batch {args.batch}, width {args.width}, {args.heads} heads, {args.attn_implementation}, {args.dtype}"
    )
    print(f"{'tokens':>7}  {'attention':<10}  {'median ms':>10}  {'quartiles ms':>20}  {'ratio':>6}")
    for tokens in args.tokens:
        timings, too_large = time_length(tokens, args)
        for name, reason in too_large.items():
            rows.append({"tokens": tokens, "attention": name, "does_not_fit": reason})
            print(f"{tokens:>7}  {name:<10}  does not fit: {reason}", flush=True)
        for name, timing in timings.items():
            ratio = ratio_of_medians(timings, name, BASELINE) if BASELINE in timings else None
            milliseconds = timing.milliseconds()
            rows.append({"tokens": tokens, "attention": name, "ms": milliseconds, "ratio": ratio})
            quartiles = f"{milliseconds['q1']:.2f} to {milliseconds['q3']:.2f}"
            shown = "-" if ratio is None else f"{ratio:.3f}"
            print(f"{tokens:>7}  {name:<10}  {milliseconds['median']:>10.2f}  {quartiles:>20}  {shown:>6}", flush=True)
    if args.output is not None:
        save(args, rows)


def save(args: BenchmarkArguments, rows: list[dict]) -> None:
    settings = {key: value for key, value in asdict(args).items() if key != "output"}
    mode = "inference" if args.inference else "training"
    name = f"attention-{mode}-{args.width}x{args.heads}"
    print(f"written: {save_results(args.output, name, {'settings': settings, 'rows': rows})}")


if __name__ == "__main__":
    main()
