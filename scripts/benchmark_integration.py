"""
Times the attentions inside an unmodified BERT against transformers' own sdpa, interleaved in one run.

    python scripts/benchmark_integration.py
    python scripts/benchmark_integration.py --tokens 128 512 --padded --output results
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
from transformers import BertConfig, BertModel, HfArgumentParser

import hf_primaldual.integration
from hf_primaldual.measure import interleaved, median_of_ratios, ratio_of_medians, save_results

BASELINE = "sdpa"


@dataclass
class BenchmarkArguments:
    """What is timed; by default the sizes of MiniLM."""

    tokens: list[int] = field(default_factory=lambda: [512], metadata={"help": "Lengths."})
    attentions: list[str] = field(
        default_factory=lambda: list(hf_primaldual.integration.ATTENTIONS),
        metadata={"help": "Names for `attn_implementation`."},
    )
    width: int = field(default=384, metadata={"help": "Width of the tokens."})
    layers: int = field(default=6, metadata={"help": "Layers."})
    heads: int = field(default=12, metadata={"help": "Heads."})
    batch: int = field(default=4, metadata={"help": "Sequences in a batch."})
    padded: bool = field(default=False, metadata={"help": "Half of the sequences end a quarter before the others."})
    threads: int | None = field(default=None, metadata={"help": "Threads of torch."})
    rounds: int = field(default=20, metadata={"help": "Timed calls of each."})
    output: str | None = field(
        default=None, metadata={"help": "Folder for a JSON file named by processor and torch's version."}
    )


def make_call(name: str, tokens: int, args: BenchmarkArguments) -> Callable[[], None]:
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=args.width,
        num_hidden_layers=args.layers,
        num_attention_heads=args.heads,
        intermediate_size=4 * args.width,
        max_position_embeddings=max(512, tokens),
    )
    model = BertModel._from_config(config, attn_implementation=name).eval()
    mask = torch.ones(args.batch, tokens, dtype=torch.long)
    if args.padded:
        mask[::2, tokens * 3 // 4 :] = 0
    inputs = {"input_ids": torch.randint(config.vocab_size, (args.batch, tokens)), "attention_mask": mask}

    def infer():
        with torch.inference_mode():
            model(**inputs)

    return infer


def main() -> None:
    args = HfArgumentParser(BenchmarkArguments, allow_abbrev=False).parse_args_into_dataclasses()[0]
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    rows = []
    print(f"inference, BERT of width {args.width}, {args.layers} layers, {args.heads} heads, batch {args.batch}")
    print(f"{'tokens':>7}  {'attention':<18}  {'median ms':>10}  {'ratio':>6}  {'by round':>8}")
    for tokens in args.tokens:
        calls = {name: make_call(name, tokens, args) for name in (BASELINE, *args.attentions)}
        timings = interleaved(calls, rounds=args.rounds)
        for name, timing in timings.items():
            ratio, by_round = (f(timings, name, BASELINE) for f in (ratio_of_medians, median_of_ratios))
            ms = timing.milliseconds()
            rows.append({"tokens": tokens, "attention": name, "ms": ms, "ratio": ratio, "median_of_ratios": by_round})
            print(f"{tokens:>7}  {name:<18}  {ms['median']:>10.2f}  {ratio:>6.3f}  {by_round:>8.3f}", flush=True)
    if args.output is not None:
        save(args, rows)


def save(args: BenchmarkArguments, rows: list[dict]) -> None:
    settings = {key: value for key, value in asdict(args).items() if key != "output"}
    name = f"integration-bert-{args.width}x{args.heads}"
    print(f"written: {save_results(args.output, name, {'settings': settings, 'rows': rows})}")


if __name__ == "__main__":
    main()
