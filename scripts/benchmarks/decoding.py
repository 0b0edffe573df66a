"""
Times a language model's next token where thousands are cached, by attention, interleaved in one run.

    python scripts/benchmarks/decoding.py
    python scripts/benchmarks/decoding.py --tokens 4096 16384 --threads 2 --output results
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from timing import time_rows
from transformers import DynamicCache
from transformers.hf_argparser import HfArg

from hf_primaldual import PrimalDualTextConfig, PrimalDualTextForCausalLM
from hf_primaldual.measure.arguments import TimingArguments

BASELINE = "softmax"


@dataclass
class DecodingArguments(TimingArguments):
    """What is timed."""

    tokens: list[int] = HfArg(default_factory=lambda: [4096], help="Keys in the cache.")
    attentions: list[str] = HfArg(default_factory=lambda: ["bn", "sh", "bn+sh"], help="Presets.")
    width: int = HfArg(default=128, help="Width of the tokens.")
    heads: int = HfArg(default=8, help="Heads.")
    layers: int = HfArg(default=4, help="Layers.")


def next_token(attention: str, tokens: int, args: DecodingArguments) -> Callable[[], None]:
    """A call that decodes one token; the cache grows by it."""
    config = PrimalDualTextConfig(
        attention=attention,
        is_decoder=True,
        hidden_size=args.width,
        num_attention_heads=args.heads,
        num_hidden_layers=args.layers,
        intermediate_size=4 * args.width,
        max_position_embeddings=2 * tokens,
    )
    model = PrimalDualTextForCausalLM(config).to(**args.place).eval()
    cache, ids = DynamicCache(config=config), torch.randint(1, config.vocab_size, (args.batch, tokens))

    @torch.no_grad()
    def call(ids=ids[:, :1].to(args.device)):
        model(ids, cache=cache)

    call(ids.to(args.device))
    return call


def main(argv: list[str] | None = None) -> Path | None:
    args = DecodingArguments.parse(argv)
    rows = []
    for tokens in args.tokens:
        calls = {name: next_token(name, tokens, args) for name in (BASELINE, *args.attentions)}
        rows += time_rows(calls, BASELINE, args.rounds, {"tokens": tokens})
    return args.save(f"decoding-{args.width}x{args.heads}", rows)


if __name__ == "__main__":
    main()
