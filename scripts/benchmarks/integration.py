"""
Times the attentions inside an unmodified BERT against transformers' own sdpa, interleaved in one run, in inference.

    python scripts/benchmarks/integration.py
    python scripts/benchmarks/integration.py --tokens 128 512 --padded --output results
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from timing import time_rows
from transformers import BertConfig, BertModel
from transformers.hf_argparser import HfArg

import hf_primaldual.integration
from hf_primaldual.measure import inference, training_step
from hf_primaldual.measure.arguments import TimingArguments

BASELINE = "sdpa"


@dataclass
class IntegrationArguments(TimingArguments):
    """What is timed; by default the sizes of MiniLM."""

    tokens: list[int] = HfArg(default_factory=lambda: [512], help="Lengths.")
    attentions: list[str] = HfArg(
        default_factory=lambda: list(hf_primaldual.integration.ATTENTIONS), help="Names for `attn_implementation`."
    )
    width: int = HfArg(default=384, help="Width of the tokens.")
    layers: int = HfArg(default=6, help="Layers.")
    heads: int = HfArg(default=12, help="Heads.")
    batch: int = HfArg(default=4, help="Sequences in a batch.")
    padded: bool = HfArg(default=False, help="Half of the sequences end a quarter before the others.")
    inference: bool = HfArg(default=True, help="Forward only, without gradients.")


def main(argv: list[str] | None = None) -> Path | None:
    args = IntegrationArguments.parse(argv)
    call_of, rows = inference if args.inference else training_step, []
    for tokens in args.tokens:
        config = BertConfig(
            hidden_size=args.width,
            num_hidden_layers=args.layers,
            num_attention_heads=args.heads,
            intermediate_size=4 * args.width,
            max_position_embeddings=max(512, tokens),
        )
        mask = torch.ones(args.batch, tokens, dtype=torch.long, device=args.device)
        if args.padded:
            mask[::2, tokens * 3 // 4 :] = 0
        ids = torch.randint(config.vocab_size, (args.batch, tokens), device=args.device)
        calls = {}
        for name in (BASELINE, *args.attentions):
            model = BertModel._from_config(config, attn_implementation=name).to(**args.place)
            model.train(not args.inference)
            calls[name] = call_of(model, {"input_ids": ids, "attention_mask": mask})
        rows += time_rows(calls, BASELINE, args.rounds, {"tokens": tokens})
    return args.save(f"integration-bert-{args.width}x{args.heads}", rows)


if __name__ == "__main__":
    main()
