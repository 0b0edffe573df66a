"""From runs over seeds to the summary of `results.json`: means, differences to a baseline, and what is released."""

import statistics
from collections.abc import Mapping
from typing import Any

from .results import SIGNIFICANCE_LEVEL, validation_rank


def of_attention(runs: list[dict[str, Any]], attention: str) -> list[dict[str, Any]]:
    """The runs of one attention, in the order of their seeds."""
    return sorted((run for run in runs if run["attention"] == attention), key=lambda run: run["seed"])


def release(runs: list[dict[str, Any]], attentions: list[str], task: str) -> dict[str, Any]:
    """
    Marks the run whose weights are kept and returns it: the best run on validation, by accuracy, then by loss, of the
    attention that is the best on validation, by mean accuracy over seeds, then by mean loss; of equal ones, the first.
    Of language models the loss alone counts.
    """
    best, *others = sorted(attentions, key=lambda name: validation_rank(summarize(runs, name), task), reverse=True)
    chosen, *rivals = of_attention(runs, best)
    if others or rivals:
        chosen = max((chosen, *rivals), key=lambda run: validation_rank(summarize([run], best), task))
    for run in runs:
        run["released"] = run is chosen
    return chosen


def summarize(runs: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Mean and sample deviation over seeds, of an attention or of the baseline."""
    own = of_attention(runs, name)

    def mean(key: str) -> float | None:
        values = [run[key] for run in own]
        return None if None in values else statistics.fmean(values)

    accuracies = [run["test_accuracy"] for run in own]
    return {
        "seeds": len(own),
        "test_accuracy_mean": mean("test_accuracy"),
        "test_accuracy_std": statistics.stdev(accuracies) if len(own) > 1 and None not in accuracies else None,
        "validation_accuracy_mean": mean("validation_accuracy"),
        "validation_loss_mean": mean("validation_loss"),
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
