"""From runs over seeds to the summary of `results.json`, and the folder that they are written to."""

import shlex
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def claim_output_folder(folder: Path, overwrite: bool) -> Path:
    """
    Creates the folder of a run, or takes an empty one; with `overwrite` the unfinished runs in it are cleared, while a
    finished checkpoint stays until the new one replaces it.

    Raises:
        FileExistsError: when the folder holds something and `overwrite` is off.
        PermissionError, NotADirectoryError: when nothing can be written there.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"`output_dir` must be a folder, {folder} is a file.")
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise FileExistsError(
            f"`output_dir` {folder} holds another run; name a new folder, or pass --overwrite to replace it."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except PermissionError as error:
        raise PermissionError(f"`output_dir` {folder} cannot be written to; name another folder.") from error
    shutil.rmtree(folder / "runs", ignore_errors=True)
    return folder


def of_attention(runs: list[dict[str, Any]], attention: str) -> list[dict[str, Any]]:
    """The runs of one attention, in the order of their seeds."""
    return sorted((run for run in runs if run["attention"] == attention), key=lambda run: run["seed"])


def release(runs: list[dict[str, Any]], attention: str) -> dict[str, Any]:
    """Marks the run whose weights are kept, the best on validation by accuracy, then by loss, and returns it."""
    best = max(of_attention(runs, attention), key=lambda run: (run["validation_accuracy"], -run["validation_loss"]))
    for run in runs:
        run["released"] = run is best
    return best


def summarize(runs: list[dict[str, Any]], attention: str) -> dict[str, Any]:
    """Mean and sample deviation over seeds."""
    accuracies = [run["test_accuracy"] for run in of_attention(runs, attention)]
    return {
        "seeds": len(accuracies),
        "test_accuracy_mean": statistics.fmean(accuracies),
        "test_accuracy_std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "validation_accuracy_mean": statistics.fmean(
            run["validation_accuracy"] for run in of_attention(runs, attention)
        ),
    }


def compare(runs: list[dict[str, Any]], attention: str, baseline: str) -> dict[str, Any]:
    """Test accuracy of the attention minus that of the baseline, paired by seed."""
    pairs = zip(of_attention(runs, attention), of_attention(runs, baseline), strict=True)
    differences = [ours["test_accuracy"] - theirs["test_accuracy"] for ours, theirs in pairs]
    return {
        "difference_mean": statistics.fmean(differences),
        "difference_std": statistics.stdev(differences) if len(differences) > 1 else None,
        "pairs": len(differences),
    }


def command_line(argv: list[str] | None = None) -> str:
    """The command that this process runs, as a person would type it."""
    arguments = sys.argv[1:] if argv is None else argv
    return shlex.join(["python", f"scripts/{Path(sys.argv[0]).name}", *arguments])


def format_table(results: Mapping[str, Any]) -> str:
    """The results of a comparison for a terminal."""
    rows = [("attention", "seeds", "test accuracy", "parameters", "tokens", "FLOPs", "inference", "training step")]
    for name in (results["baseline"], results["attention"]):
        summary = results["summary"][name]
        deviation = summary["test_accuracy_std"]
        accuracy = f"{100 * summary['test_accuracy_mean']:.2f} %"
        accuracy += "" if deviation is None else f" ± {100 * deviation:.2f}"
        for index, point in enumerate(results["efficiency"]):
            head = (name, str(summary["seeds"]), accuracy) if index == 0 else ("", "", "")
            cost = point[name]
            rows.append(
                (
                    *head,
                    f"{cost['parameters']:,}",
                    f"{point['batch']} x {point['tokens']}",
                    f"{cost['forward_flops'] / 1e6:,.0f} M",
                    f"{cost['inference_ms']['median']:.2f} ms",
                    f"{cost['train_step_ms']['median']:.2f} ms",
                )
            )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n" + "\n".join(lines)


__all__ = [
    "claim_output_folder",
    "command_line",
    "compare",
    "format_table",
    "of_attention",
    "release",
    "summarize",
]
