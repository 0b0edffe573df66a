"""
Times attention layers against softmax on the same back-end, interleaved in one run.

    python scripts/benchmarks/attention.py
    python scripts/benchmarks/attention.py --tokens 197 --width 192 --heads 3 --batch 8 --inference
    python scripts/benchmarks/attention.py --causal --attentions bn bn+sh --tokens 1024 4096 16384 --output results
    python scripts/benchmarks/attention.py --output results
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from timing import time_rows
from transformers.hf_argparser import HfArg

from hf_primaldual import PrimalDualAttention, PrimalDualConfig
from hf_primaldual.measure import if_it_fits, inference, peak_memory, training_step
from hf_primaldual.measure.arguments import TimingArguments
from hf_primaldual.modeling.causal_attention_primal_dual import PrimalDualCausalAttention

BASELINE = "softmax"


@dataclass
class LayerArguments(TimingArguments):
    """What is timed: by default forward and backward."""

    tokens: list[int] = HfArg(default_factory=lambda: [1024, 4096], help="Lengths.")
    attentions: list[str] = HfArg(
        default_factory=lambda: ["bn", "sh", "bn+sh", "sh:256", "linear", "linear-bn", "sparse:local"],
        help="Presets; `sh:256` has 256 points per head, `sparse:local` that pattern, `sparse@flex_attention` that "
        "back-end.",
    )
    width: int = HfArg(default=128, help="Width of the tokens.")
    heads: int = HfArg(default=8, help="Heads.")
    causal: bool = HfArg(default=False, help="Layers of a decoder.")
    compiled: bool = HfArg(default=False, help="Compiled by torch.")
    name: str | None = HfArg(default=None, help="Start of the files' names in the place of attention.")
    fill: int = HfArg(default=0, help="Tokens of a whole batch, which then has as many rows as that gives.")


def make_layer(name: str, args: LayerArguments) -> PrimalDualAttention:
    name, _, back_end = name.partition("@")
    attention, _, option = name.partition(":")
    options = {"head_points": int(option)} if option.isdigit() else {"sparse_pattern": option.split("+")}
    config = PrimalDualConfig(
        attention=attention,
        hidden_size=args.width,
        num_attention_heads=args.heads,
        attn_implementation=back_end or args.attn_implementation,
        **(options if option else {}),
    )
    layer = (PrimalDualCausalAttention if args.causal else PrimalDualAttention)(config).to(**args.place)
    return torch.compile(layer) if args.compiled else layer


def main(argv: list[str] | None = None) -> Path | None:
    args = LayerArguments.parse(argv)
    call_of, rows = inference if args.inference else training_step, []
    for tokens in args.tokens:
        batch = args.fill // tokens or args.batch
        shape = (batch, tokens, args.width)
        inputs = {"hidden_states": torch.randn(shape, **args.place, requires_grad=not args.inference)}
        calls = {name: call_of(make_layer(name, args), inputs) for name in (BASELINE, *args.attentions)}
        timed = time_rows(calls, BASELINE, args.rounds, {"tokens": tokens, "batch": batch})
        if args.device != "cpu":
            for row in timed:
                row["peak_memory"] = if_it_fits(partial(peak_memory, calls[row["attention"]], args.device)).result
        rows += timed
    kind = args.name or ("causal" if args.causal else "attention")
    kind += "-compiled" * args.compiled
    return args.save(f"{kind}-{args.mode}-{args.width}x{args.heads}", rows, leave_out=("name",))


if __name__ == "__main__":
    main()
