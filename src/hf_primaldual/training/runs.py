"""From runs over seeds to the summary of `results.json`, and the folder that they are written to."""

import contextlib
import json
import shlex
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import sort_checkpoints

from ..hub.checks import without_places
from ..hub.results import SIGNIFICANCE_LEVEL, validation_rank, write_atomically

# What a run writes into its folder before anything else, and a comparison into its own.
BEGUN, SETTINGS = "begun.json", "settings.json"


def claim_output_folder(folder: Path, overwrite: bool, settings: dict[str, Any] | None = None) -> None:
    """
    Takes a new or empty folder for runs and writes their `settings` into it, for `check_resumed`. With `overwrite` the
    unfinished runs in it are cleared, while a finished checkpoint stays until the new one replaces it. Nothing else is
    removed.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"`output_dir` must be a folder, {folder} is a file.")
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise FileExistsError(
            f"`output_dir` {folder} holds another run; pass --resume_from_checkpoint to go on with it, "
            "--overwrite to replace it, or name a new folder."
        )
    if (folder / "runs").is_symlink():
        raise FileExistsError(f"`output_dir`: {folder / 'runs'} is a link, whose runs are not removed; move it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except PermissionError as error:
        raise PermissionError(f"`output_dir` {folder} cannot be written to; name another folder.") from error
    clear_runs(folder)
    if settings is not None:
        write_atomically(folder / SETTINGS, json.dumps(settings, indent=2) + "\n")


def check_resumed(folder: Path, settings: dict[str, Any]) -> None:
    """Raises `ValueError` where the runs of a folder were begun with other settings."""
    begun, asked = json.loads((folder / SETTINGS).read_text(encoding="utf-8")), json.loads(json.dumps(settings))
    compared = (begun.keys() | asked.keys()) - {"command"}
    if differing := sorted(key for key in compared if begun.get(key) != asked.get(key)):
        raise ValueError(
            f"`resume_from_checkpoint`: the run in {folder} was begun with other settings of {', '.join(differing)}; "
            "pass the same, or name a new folder."
        )


def is_own_run(folder: Path) -> bool:
    """Whether a folder is one that `train_run` made, or empty. A link is not."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    inside = {path.name for path in folder.iterdir()}
    return not inside or bool(inside & {BEGUN, "run.json"})


def own_runs(folder: Path) -> list[Path]:
    """The runs in `folder/runs`, where others may write too, as TensorBoard does."""
    return [path for path in folder.glob("runs/*") if is_own_run(path)]


def clear_runs(folder: Path) -> None:
    """Removes `own_runs`, and `folder/runs` if nobody else's are left there."""
    for run in own_runs(folder):
        shutil.rmtree(run)
    # What is not empty stays.
    with contextlib.suppress(OSError):
        (folder / "runs").rmdir()


def last_checkpoint(run: Path) -> Path | None:
    """
    The newest whole checkpoint in the folder of a run, None where there is none. Trainer writes `trainer_state.json`
    last: without it, or with half of it, a checkpoint is what a process left that died while it was saving.
    """
    for checkpoint in map(Path, reversed(sort_checkpoints(str(run)))):
        # An empty or half a file is no JSON.
        with contextlib.suppress(FileNotFoundError, ValueError):
            TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
            return checkpoint
    return None


def of_attention(runs: list[dict[str, Any]], attention: str) -> list[dict[str, Any]]:
    """The runs of one attention, in the order of their seeds."""
    return sorted((run for run in runs if run["attention"] == attention), key=lambda run: run["seed"])


def release(runs: list[dict[str, Any]], attentions: list[str]) -> dict[str, Any]:
    """
    Marks the run whose weights are kept and returns it: the best run on validation, by accuracy, then by loss, of the
    attention that is the best on validation, by mean accuracy over seeds, then by mean loss; of equal ones, the first.
    """
    best = max(attentions, key=lambda name: validation_rank(summarize(runs, name)))
    chosen = max(of_attention(runs, best), key=lambda run: (run["validation_accuracy"], -run["validation_loss"]))
    for run in runs:
        run["released"] = run is chosen
    return chosen


def summarize(runs: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Mean and sample deviation over seeds, of an attention or of the baseline."""
    own = of_attention(runs, name)
    accuracies = [run["test_accuracy"] for run in own]
    return {
        "seeds": len(own),
        "test_accuracy_mean": statistics.fmean(accuracies),
        "test_accuracy_std": statistics.stdev(accuracies) if len(own) > 1 else None,
        "validation_accuracy_mean": statistics.fmean(run["validation_accuracy"] for run in own),
        "validation_loss_mean": statistics.fmean(run["validation_loss"] for run in own),
    }


def compare(runs: list[dict[str, Any]], attentions: list[str], baseline: str) -> dict[str, dict[str, Any]]:
    """
    Test accuracy of each attention minus that of the baseline, paired by seed, as `comparisons` of `results.json`.

    The test is a paired two-sided t-test over seeds, its p-values adjusted by Holm's method over the attentions. There
    is none, and the p-values are None, for a single pair, and for differences that are all equal: without variance no
    p-value means anything, be the difference zero or not.
    """
    comparisons = {name: _paired(runs, name, baseline) for name in attentions}
    tested = {name: entry["p_value"] for name, entry in comparisons.items() if entry["p_value"] is not None}
    adjusted = holm(tested)
    for name, entry in comparisons.items():
        entry["p_value_adjusted"] = adjusted.get(name)
        entry["significant"] = name in adjusted and adjusted[name] < SIGNIFICANCE_LEVEL
    return comparisons


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p-values adjusted for there being several, by Holm's step-down method (Holm, 1979)."""
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return adjusted


def _paired(runs: list[dict[str, Any]], attention: str, baseline: str) -> dict[str, Any]:
    accuracies = [[run["test_accuracy"] for run in of_attention(runs, name)] for name in (attention, baseline)]
    seeds, expected = ([run["seed"] for run in of_attention(runs, name)] for name in (attention, baseline))
    if seeds != expected or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"`runs` must hold every seed once for {attention!r} and for {baseline!r}, got {seeds} and {expected}."
        )
    # Rounded: 0.3 - 0.2 and 0.2 - 0.1 are the same difference.
    differences = [round(ours - theirs, 12) for ours, theirs in zip(*accuracies, strict=True)]
    p_value = None
    if len(set(differences)) > 1:
        # Slow to import, and needed by nobody else here.
        from scipy.stats import ttest_rel

        p_value = float(ttest_rel(*accuracies).pvalue)
    return {
        "difference_mean": statistics.fmean(differences),
        "difference_std": statistics.stdev(differences) if len(differences) > 1 else None,
        "pairs": len(differences),
        "p_value": p_value,
    }


def command_line(argv: list[str] | None = None, prog: str | None = None) -> str:
    """The command that this process runs, as a person would type it and others may read it: without the Hub's token,
    and of files elsewhere on this machine with their names alone. The program is by default that of the process."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    shown = []
    while arguments:
        name, equals, value = arguments.pop(0).partition("=")
        if name.startswith("--") and name.endswith("token"):
            if not equals and arguments and not arguments[0].startswith("--"):
                arguments.pop(0)
            continue
        shown.append(f"{without_places(name)}{equals}{without_places(value)}")
    if prog is not None:
        return shlex.join([*prog.split(), *shown])
    # Of the program's place no more than what lies in `scripts`.
    *folders, program = Path(sys.argv[0]).resolve().parts
    inner = folders[len(folders) - folders[::-1].index("scripts") :] if "scripts" in folders else []
    return shlex.join(["python", "/".join(["scripts", *inner, program]), *shown])
