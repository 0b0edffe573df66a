"""The tables of docs/conversion.md, from the results file of scripts/run_conversion.py."""

import re
import statistics
from collections.abc import Mapping
from typing import Any

ARM_NAMES = {
    "softmax": "`softmax`, fine-tuned",
    "converted": "`{attention}` at once, fine-tuned",
    "annealed": "`{attention}` annealed, fine-tuned",
    "recentred": "`{attention}` without the scaling, annealed, fine-tuned",
}


def summarize_arms(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By arm, of the runs that read the test set: mean and sample deviation, and the difference to softmax by seed."""
    read = [run for run in runs if run["test_accuracy"] is not None]
    by_arm = {
        arm: {run["seed"]: run for run in read if run["arm"] == arm}
        for arm in dict.fromkeys(run["arm"] for run in read)
    }
    summary = {}
    for arm, of_arm in by_arm.items():
        mean, deviation = _mean_and_deviation([run["test_accuracy"] for run in of_arm.values()])
        shared = [seed for seed in of_arm if seed in by_arm.get("softmax", {})]
        summary[arm] = {
            "seeds": len(of_arm),
            "learning_rate": next(iter(of_arm.values()))["learning_rate"],
            "validation_accuracy_mean": statistics.fmean(run["validation_accuracy"] for run in of_arm.values()),
            "test_accuracy_mean": mean,
            "test_accuracy_std": deviation,
        }
        if shared and arm != "softmax":
            pairs = [of_arm[seed]["test_accuracy"] - by_arm["softmax"][seed]["test_accuracy"] for seed in shared]
            mean, deviation = _mean_and_deviation(pairs)
            summary[arm] |= {"difference_mean": mean, "difference_std": deviation}
    return summary


def _mean_and_deviation(values: list[float]) -> tuple[float, float | None]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def accuracy_table(accuracy: Mapping[str, Any]) -> str:
    """Test accuracies in percent, and the difference to softmax in points, paired by seed."""
    attention = accuracy["settings"]["attention"]
    rows = [
        "| model | learning rate | validation | test | seeds | to `softmax`, points |",
        "|---|---|---|---|---|---|",
    ]
    for name, probed in accuracy["before"].items():
        label = f"`{name}`" if name in ("softmax", attention) else f"`{attention}`, {name}"
        test = "not read" if probed["test_accuracy"] is None else f"{100 * probed['test_accuracy']:.1f} %"
        rows.append(
            f"| {label}, frozen, linear classifier | | {100 * probed['validation_accuracy']:.1f} % | {test} | | |"
        )
    for arm, summary in accuracy["summary"].items():
        label = ARM_NAMES[arm].format(attention=attention)
        test = _percent(summary["test_accuracy_mean"], summary["test_accuracy_std"]) + " %"
        difference = ""
        if "difference_mean" in summary:
            difference = _percent(summary["difference_mean"], summary["difference_std"], sign="+")
        rows.append(
            f"| {label} | {summary['learning_rate']:g} | {100 * summary['validation_accuracy_mean']:.1f} % | {test} "
            f"| {summary['seeds']} | {difference} |"
        )
    return "\n".join(rows)


def _percent(mean: float, deviation: float | None, sign: str = "") -> str:
    text = f"{100 * mean:{sign}.1f}"
    return text if deviation is None else f"{text} ± {100 * deviation:.1f}"


def time_table(time: Mapping[str, Any]) -> str:
    """Milliseconds of forward and backward, and the ratio to softmax."""
    rows = [
        "| tokens | documents | attention | median ms | quartiles ms | to `softmax` |",
        "|---|---|---|---|---|---|",
    ]
    for row in time["rows"]:
        ms = row["ms"]
        rows.append(
            f"| {row['tokens']} | {row['batch']} | `{row['attention']}` | {ms['median']:,.0f} "
            f"| {ms['q1']:,.0f} to {ms['q3']:,.0f} | {row['ratio']:.2f} |"
        )
    return "\n".join(rows)


def insert_tables(text: str, results: Mapping[str, Any]) -> str:
    """The text with what stands between `<!-- accuracy -->`, or `<!-- time -->`, and `<!-- end -->` replaced."""
    for name, render in (("accuracy", accuracy_table), ("time", time_table)):
        if name in results:
            text = re.sub(
                rf"(<!-- {name} -->\n).*?(<!-- end -->)",
                lambda match, table=render(results[name]): f"{match[1]}{table}\n{match[2]}",
                text,
                flags=re.DOTALL,
            )
    return text


__all__ = ["accuracy_table", "insert_tables", "summarize_arms", "time_table"]
