"""
Measures what models cost: operations, parameters, memory, latency and throughput, in inference and in training.

    hf-primaldual measure --model outputs/demo/primal-dual-japanesevowels-bn-sh --tokens 29 1024
    hf-primaldual measure --attention softmax bn+sh --tokens 1024 4096 --output results
    hf-primaldual measure --compare results/one.json results/other.json

Models named together are timed in turn. Without `--model` they are text classifiers of Long Range Arena's shape.
"""

from dataclasses import dataclass

import pandas as pd
import torch
from transformers import PreTrainedModel
from transformers.hf_argparser import HfArg

from .. import PrimalDualTextForSequenceClassification
from ..measure import compare, load_model, make_inputs, measure_together
from ..measure.arguments import TimingArguments
from ..measure.figures import text_config

# What is printed of a row: the column's name, and its unit.
COLUMNS = {
    "parameters": ("parameters", 1),
    "forward_flops": ("M FLOPs", 1e6),
    "inference_ms.median": ("ms", 1),
    "inference_per_second": ("rows/s", 1),
    "inference_peak_bytes": ("peak MiB", 2**20),
    "train_step_flops": ("step M FLOPs", 1e6),
    "train_step_ms.median": ("step ms", 1),
    "activation_bytes": ("kept MiB", 2**20),
    "peak_memory_bytes": ("step peak MiB", 2**20),
}


@dataclass
class MeasureArguments(TimingArguments):
    """What is measured."""

    model: list[str] | None = HfArg(default=None, help="Folders or repositories of checkpoints.")
    attention: list[str] = HfArg(
        default_factory=lambda: ["softmax", "bn", "sh", "bn+sh"], help="Presets, if no model is named."
    )
    tokens: list[int] | None = HfArg(default=None, help="Lengths of texts or series.")
    width: int = HfArg(default=128, help="Width of the presets' models.")
    heads: int = HfArg(default=8, help="Their heads.")
    layers: int = HfArg(default=2, help="Their layers; the feed-forward block is twice as wide.")
    trust_remote_code: bool = HfArg(default=False, help="Run the code that a checkpoint carries.")
    name: str = HfArg(default="measured", help="Start of the files' names.")
    compare: list[str] | None = HfArg(default=None, help="Two such files: prints the ratios, no more.")
    allow_other_versions: bool = HfArg(default=False, help="Compare across machines and versions.")


def make_models(args: MeasureArguments, tokens: int | None) -> dict[str, PreTrainedModel]:
    if args.model is not None:
        load = {"attn_implementation": args.attn_implementation, "trust_remote_code": args.trust_remote_code}
        models = {name: load_model(name, **load) for name in args.model}
    else:
        shape = {"num_attention_heads": args.heads, "num_hidden_layers": args.layers}
        configs = {
            name: text_config(name, args.width, tokens, args.attn_implementation, **shape) for name in args.attention
        }
        models = {name: PrimalDualTextForSequenceClassification(config) for name, config in configs.items()}
    return {name: model.to(**args.place) for name, model in models.items()}


def measure_size(args: MeasureArguments, tokens: int | None) -> list[dict]:
    torch.manual_seed(0)
    models = make_models(args, tokens)
    inputs = make_inputs(next(iter(models.values())), tokens, args.batch)
    about = {"attn_implementation": args.attn_implementation, "batch": args.batch}
    if tokens is not None:
        about["tokens"] = tokens
    measured = measure_together(models, inputs, not args.inference, args.rounds)
    return [{"model": name, **about, **row} for name, row in measured.items()]


def print_rows(rows: list[dict]) -> None:
    table = pd.json_normalize(rows)
    shown = table.filter(["tokens", "model", "does_not_fit"])
    for key, (name, unit) in COLUMNS.items():
        if key in table:
            shown[name] = table[key] / unit
    print(shown.to_string(index=False, float_format="{:,.2f}".format, na_rep=""), flush=True)


def print_comparison(args: MeasureArguments) -> None:
    if len(args.compare) != 2:
        raise ValueError(f"`compare` must name two files, got {len(args.compare)}.")
    paired, alone = compare(*args.compare, allow_other_versions=args.allow_other_versions)
    for row in paired:
        print(*(f"{key} {value:.3f}" if isinstance(value, float) else value for key, value in row.items()), sep="  ")
    for about in alone:
        print(f"only in one file: {about}")


def main(argv: list[str] | None = None, prog: str | None = None) -> None:
    args = MeasureArguments.parse(argv, prog)
    if args.compare is not None:
        print_comparison(args)
        return
    rows = []
    for tokens in args.tokens or ([None] if args.model else [1024, 4096]):
        rows += (found := measure_size(args, tokens))
        print_rows(found)
    args.save(args.name, rows, leave_out=("name", "compare", "allow_other_versions", "trust_remote_code"))
