"""A table of results for each kind of task, and what the tests do to one."""

import copy

DATASETS = {
    "time-series-classification": {"channels": 12, "length": [7, 29]},
    "text-classification": {"length": [40, 1024]},
    "image-classification": {"channels": 1, "image_size": [28, 35]},
    "document-matching": {"length": [100, 4000]},
}
# What a table may do without.
OPTIONAL = [("plots",), ("dataset", "subset"), ("dataset", "hub_id")]
# Attention, seed, accuracy on validation and on test.
RUNS = [
    ("softmax", 21, 0.961, 0.972),
    ("softmax", 22, 0.952, 0.983),
    ("bn", 21, 0.962, 0.951),
    ("bn", 22, 0.953, 0.953),
    ("bn+sh", 21, 0.974, 0.9811),
    ("bn+sh", 22, 0.963, 0.9922),
    ("sh", 21, 0.949, 0.975),
    ("sh", 22, 0.95, 0.986),
]
OF_RUNS = {"best_epoch": 12.0, "epochs": 30, "validation_loss": 0.2345, "test_loss": 0.1234, "train_seconds": 12.5}


def named(names: str, *values) -> dict:
    """A dictionary of these keys and values."""
    return dict(zip(names.split(), values, strict=True))


def table(task: str = "time-series-classification") -> dict:
    """Three attentions and softmax over two seeds, with everything that may be left out."""
    run = "attention seed validation_accuracy test_accuracy"
    summary = "test_accuracy_mean test_accuracy_std validation_accuracy_mean seeds validation_loss_mean"
    hardware = "processor cores threads memory_gib accelerator"
    versions = "python torch transformers hf_primaldual revision"
    return {
        "schema": 2,
        "command": "python scripts/run_time_series_classification.py --attentions bn bn+sh sh",
        "date": "2026-11-24",
        "model_name": "primal-dual-some-data-bn-sh",
        "task": task,
        "baseline": "softmax",
        "attentions": ["bn", "bn+sh", "sh"],
        "attention": "bn+sh",
        "license": "apache-2.0",
        "dataset": {
            **named("name source licence", "SomeData", "UEA archive, shipped in aeon 1.6.0", "BSD-3-Clause"),
            "sha256": {"train": "ab" * 32, "test": "cd" * 32},
            **named("train validation test classes", 216, 54, 370, 9),
            **copy.deepcopy(DATASETS[task]),
            "hub_id": "some/data",
            "subset": "270 of 1,080 examples, drawn class by class with seed 0",
        },
        "settings": {"learning_rate": 0.0015, "head_scales": [1, 1, 2, 2], "bn_scaling": True, "pooling": None},
        "plots": ["learning_curves.png"],
        "runs": [{**named(run, *values), **OF_RUNS, "released": values[:2] == ("bn+sh", 21)} for values in RUNS],
        "summary": {
            "softmax": named(summary, 0.9775, 0.0078, 0.9565, 2, 0.1357),
            "bn": named(summary, 0.952, 0.0014, 0.9575, 2, 0.1357),
            "bn+sh": named(summary, 0.987, 0.0079, 0.9685, 2, 0.1357),
            "sh": named(summary, 0.9805, 0.0081, 0.9495, 2, 0.1357),
        },
        "comparisons": {
            "bn": comparison(-0.0255, 0.0064, 0.004, 0.008),
            "bn+sh": comparison(0.00915, 0.0002, 0.21, 0.22),
            "sh": comparison(0.003, 0.0001, None, None),
        },
        "efficiency": [point(29, 1.31, 1.2), point(1024, 0.52, 1.001)],
        "hardware": named(hardware, "A Processor (x86_64)", 2, 3, 15.6, None),
        "versions": named(versions, "3.11.7", "2.13.0", "5.24.0", "0.1.0", "0123abc-dirty"),
    }


def comparison(mean: float, deviation: float | None, p_value: float | None, adjusted: float | None) -> dict:
    """A comparison of two pairs."""
    names = "difference_mean difference_std pairs p_value p_value_adjusted significant"
    return named(names, mean, deviation, 2, p_value, adjusted, adjusted is not None and adjusted < 0.05)


def point(tokens: int, inference: float, train_step: float) -> dict:
    """One point of efficiency; the released attention has the ratios given."""
    ratios, costs = "inference train_step flops memory", {}
    for name, parameters, scale in (("softmax", 1, 4), ("bn", 2, 5), ("bn+sh", 3, 3), ("sh", 4, 2)):
        quartiles = {"median": 1.2 * scale, "q1": 1.1 * scale, "q3": 1.4 * scale}
        costs[name] = {
            "parameters": 104_200 + parameters,
            "forward_flops": 3_100_000 * scale,
            "train_step_flops": 9_300_000 * scale,
            "inference_ms": quartiles,
            "train_step_ms": {key: 4 * value for key, value in quartiles.items()},
            "peak_memory_bytes": 2**21 * scale,
        }
    of = {name: named(ratios, 1.4, 1.5, 0.9, 0.95) for name in ("bn", "sh")}
    of["bn+sh"] = named(ratios, inference, train_step, 0.75, 0.8)
    return {"batch": 4, "tokens": tokens, **costs, "ratios": of}


def leaves(value, path=()):
    """Every plain value with the keys that lead to it."""
    if not isinstance(value, dict | list):
        yield path, value
        return
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield from leaves(inner, (*path, key))


def changed(results: dict, path: tuple, value) -> dict:
    """A copy with another value in one place."""
    results = copy.deepcopy(results)
    _inside(results, path)[path[-1]] = value
    return results


def without(results: dict, path: tuple) -> dict:
    """A copy that lacks one key."""
    results = copy.deepcopy(results)
    del _inside(results, path)[path[-1]]
    return results


def _inside(results: dict, path: tuple):
    for key in path[:-1]:
        results = results[key]
    return results
