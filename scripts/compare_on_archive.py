"""
Compares softmax attention, Attention-BN, Attention-SH and both by one recipe, the estimator's defaults, with each
other and with MiniRocket over the series sets of the aeon wheel: ranks, Wilcoxon signed-rank tests with Holm's
correction, and a critical difference diagram.

    make archive
    .peers/aeon/bin/python scripts/compare_on_archive.py --sets GunPoint --resamples 1 --output outputs/archive

A set's first resample is its published split; the others draw as many series of each class again from all of them. How
keys are normalized (beta 1, beta 0.5, or recentred alone) is chosen by the loss on a held-out share of the training
set, and the test set is read once, by what was chosen. Fits that the output has are not made again.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from scipy.stats import rankdata, wilcoxon
from sklearn.model_selection import train_test_split

from hf_primaldual.data import load_uea, series_arrays
from hf_primaldual.estimator import PrimalDualTimeSeriesClassifier
from hf_primaldual.hub.markdown import markdown_table
from hf_primaldual.hub.results import write_atomically
from hf_primaldual.hub.summary import holm
from hf_primaldual.measure import environment

SETS = (
    "JapaneseVowels",
    "BasicMotions",
    "ArrowHead",
    "GunPoint",
    "ItalyPowerDemand",
    "ACSF1",
    "OSULeaf",
    "PickupGestureWiimoteZ",
)
NORMALIZATIONS = {"beta 1": {}, "beta 0.5": {"bn_beta": 0.5}, "recentred": {"bn_scaling": False}}
ATTENTIONS = {"softmax": {"": {}}, "bn": NORMALIZATIONS, "sh": {"": {}}, "bn+sh": NORMALIZATIONS}
ROCKET = "MiniRocket"


def resampled(name: str, resample: int, longest: int) -> tuple[list, np.ndarray, list, np.ndarray]:
    """Series and classes of the training and the test set; of series longer than `longest` steps their averages."""
    splits = load_uea(name)
    series = [shortened(values, longest) for split in ("train", "test") for values in series_arrays(splits[split])]
    classes = np.concatenate([splits[split]["labels"] for split in ("train", "test")])
    rows, size = np.arange(len(series)), len(splits["train"])
    train, test = rows[:size], rows[size:]
    if resample:
        train, test = train_test_split(rows, train_size=size, stratify=classes, random_state=resample)
    return [series[row] for row in train], classes[train], [series[row] for row in test], classes[test]


def shortened(values: np.ndarray, longest: int) -> np.ndarray:
    """`(time, channels)`, by averages of as many steps as it takes to have at most `longest`."""
    steps = -(-len(values) // longest)
    return np.stack([part.mean(axis=0) for part in np.split(values, range(steps, len(values), steps))])


def fit(name: str, resample: int, method: str, longest: int) -> dict:
    """One method on one resample of a set."""
    torch.set_num_threads(1)
    series, classes, test, expected = resampled(name, resample, longest)
    started = time.perf_counter()
    if method == ROCKET:
        from aeon.classification.convolution_based import MiniRocketClassifier

        # Of one length, as it wants them: the last step is held.
        steps = max(map(len, (*series, *test)))
        series, test = (
            [np.pad(values, ((0, steps - len(values)), (0, 0)), mode="edge").T for values in part]
            for part in (series, test)
        )
        best, chosen = MiniRocketClassifier(random_state=resample).fit(np.stack(series), classes), ""
        test = np.stack(test)
    else:
        fitted = {}
        for chosen, fields in ATTENTIONS[method].items():
            classifier = PrimalDualTimeSeriesClassifier(method, model_config=fields, random_state=resample)
            classifier.fit(series, classes)
            loss = min(entry["eval_loss"] for entry in classifier.history_ if "eval_loss" in entry)
            fitted[chosen] = (loss, classifier)
        chosen = min(fitted, key=lambda name: fitted[name][0])
        best = fitted[chosen][1]
    seconds = time.perf_counter() - started
    accuracy = float(np.mean(best.predict(test) == expected))
    return {
        "set": name,
        "resample": resample,
        "method": method,
        "chosen": chosen,
        "test_accuracy": accuracy,
        "fit_seconds": seconds,
    }


def summary(results: dict) -> str:
    """Mean accuracies of each set, ranks, and tests against softmax, as Markdown."""
    rows = results["rows"]
    methods, sets = ([*dict.fromkeys(row[key] for row in rows)] for key in ("method", "set"))
    scores = table_of(rows, sets, methods)
    ranks = np.mean([rankdata(-row) for row in scores], axis=0)
    cells = [
        [name, *(f"**{100 * value:.1f}**" if value == max(row) else f"{100 * value:.1f}" for value in row)]
        for name, row in zip(sets, scores, strict=True)
    ]
    cells.append(["mean rank", *(f"{rank:.2f}" for rank in ranks)])
    baseline = scores[:, methods.index("softmax")]
    others = [name for name in ATTENTIONS if name != "softmax"]
    p_values = {}
    for name in others:
        differences = scores[:, methods.index(name)] - baseline
        p_values[name] = float(wilcoxon(differences).pvalue) if differences.any() else 1.0
    adjusted = holm(p_values)
    tests = ", ".join(f"{name} {adjusted[name]:.2g}" for name in others)
    versions, seconds = results["versions"], sum(row["fit_seconds"] for row in rows)
    return (
        f"Test accuracy in percent, mean over {len({row['resample'] for row in rows})} resamples, the published split "
        f"first; series of more than {results['longest']} steps are averaged down. The estimator's defaults; beta 1, "
        "beta 0.5 or recentring alone chosen on validation. "
        f"{results['hardware']['processor']}, torch {versions['torch']}, {seconds / 3600:.1f} hours of one core.\n\n"
        f"{markdown_table(['set', *methods], cells)}\n\n"
        f"Wilcoxon signed-rank tests against softmax over {len(sets)} sets, p adjusted by Holm: {tests}.\n\n"
        "![Critical difference diagram](archive.png)\n\n"
        "A bar joins methods whose ranks do not differ at 5 % (Wilcoxon, two-sided, corrected for their number).\n"
    )


def table_of(rows: list[dict], sets: list[str], methods: list[str]) -> np.ndarray:
    """Mean test accuracy over resamples, `(sets, methods)`."""
    found = {(row["set"], row["method"]): [] for row in rows}
    for row in rows:
        found[row["set"], row["method"]].append(row["test_accuracy"])
    return np.array([[np.mean(found[name, method]) for method in methods] for name in sets])


def save(file: Path, rows: list[dict], longest: int) -> dict:
    results = {"longest": longest, "rows": rows, **environment()}
    write_atomically(file, json.dumps(results, indent=1) + "\n")
    return results


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS, help="Sets of the aeon wheel.")
    parser.add_argument("--resamples", type=int, default=5, help="How often each set is split.")
    parser.add_argument("--longest", type=int, default=128, help="Steps; longer series are averaged down to them.")
    parser.add_argument("--processes", type=int, default=2, help="Fits at once, with a thread each.")
    parser.add_argument("--output", type=Path, required=True, help="Folder for results, table and diagram.")
    args = parser.parse_args(argv)

    args.output.mkdir(parents=True, exist_ok=True)
    file = args.output / "archive.json"
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    wanted = [
        (name, resample, method)
        for resample in range(args.resamples)
        for name in args.sets
        for method in (*ATTENTIONS, ROCKET)
    ]
    found = {(row["set"], row["resample"], row["method"]): row for row in rows}
    missing = (delayed(fit)(*one, args.longest) for one in wanted if one not in found)
    for row in Parallel(n_jobs=args.processes, return_as="generator_unordered")(missing):
        print(
            "{set} {resample} {method} {chosen}: {test_accuracy:.4f} in {fit_seconds:.0f} s".format(**row), flush=True
        )
        found[row["set"], row["resample"], row["method"]] = row
        save(file, list(found.values()), args.longest)
    rows = [found[one] for one in wanted]
    text = summary(save(file, rows, args.longest))
    write_atomically(args.output / "archive.md", text)
    methods, sets = ([*dict.fromkeys(row[key] for row in rows)] for key in ("method", "set"))
    from aeon.visualisation import plot_critical_difference

    # aeon's test has one side, of which this is half of 5 %.
    figure, _ = plot_critical_difference(table_of(rows, sets, methods), methods, alpha=0.025)
    figure.savefig(args.output / "archive.png", dpi=150, bbox_inches="tight")
    print(text)


if __name__ == "__main__":
    main()
