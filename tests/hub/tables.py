"""A table of results for each kind of task, and what the tests do to one."""

import copy

from hf_primaldual.hub.results import TASKS

__all__ = ["OPTIONAL", "TASKS", "changed", "leaves", "table", "without"]

DATASETS = {
    "time-series-classification": {"channels": 12, "length": [7, 29]},
    "text-classification": {"length": [40, 1024]},
    "image-classification": {"channels": 1, "image_size": [28, 35]},
    "document-matching": {"length": [100, 4000]},
}

# What a table may do without.
OPTIONAL = (("plots",), ("search",), ("co2_eq_emissions",), ("dataset", "subset"), ("dataset", "hub_id"))


def table(task: str = "time-series-classification") -> dict:
    """Three attentions beside softmax over two seeds, with everything that may be left out."""
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
            "name": "SomeData",
            "source": "UEA archive, shipped in aeon 1.6.0",
            "sha256": {"train": "ab" * 32, "test": "cd" * 32},
            "licence": "BSD-3-Clause",
            "train": 216,
            "validation": 54,
            "test": 370,
            "classes": 9,
            **DATASETS[task],
            "hub_id": "some/data",
            "subset": "270 of 1,080 examples, drawn class by class with seed 0",
        },
        "settings": {"learning_rate": 0.0015, "head_scales": [1, 1, 2, 2], "bn_scaling": True, "pooling": None},
        "search": {
            "trials": 20,
            "metric": "validation loss",
            "space": {"bn_beta": [0.1, 1.5], "head_scales": ["1 1 2 2", "1 2 4 8"]},
            "best": {"bn_beta": 0.43, "head_scales": "1 1 2 2"},
        },
        "co2_eq_emissions": {"emissions": 12.3, "source": "a meter"},
        "plots": ["learning_curves.png"],
        "runs": [
            run("softmax", 21, 0.961, 0.972),
            run("softmax", 22, 0.952, 0.983),
            run("bn", 21, 0.962, 0.951),
            run("bn", 22, 0.953, 0.953),
            run("bn+sh", 21, 0.974, 0.9811, released=True),
            run("bn+sh", 22, 0.963, 0.9922),
            run("sh", 21, 0.949, 0.975),
            run("sh", 22, 0.95, 0.986),
        ],
        "summary": {
            "softmax": summary(0.9775, 0.0078, 0.9565),
            "bn": summary(0.952, 0.0014, 0.9575),
            "bn+sh": summary(0.987, 0.0079, 0.9685),
            "sh": summary(0.9805, 0.0081, 0.9495),
        },
        "comparisons": {
            "bn": comparison(-0.0255, 0.0064, 0.004, 0.008),
            "bn+sh": comparison(0.00915, 0.0002, 0.21, 0.22),
            "sh": comparison(0.003, 0.0001, None, None),
        },
        "efficiency": [point(29, 1.31, 1.2), point(1024, 0.52, 1.001)],
        "hardware": {
            "processor": "A Processor (x86_64)",
            "cores": 2,
            "threads": 3,
            "memory_gib": 15.6,
            "accelerator": None,
        },
        "versions": {
            "python": "3.11.7",
            "torch": "2.13.0",
            "transformers": "5.24.0",
            "accelerate": None,
            "hf_primaldual": "0.1.0",
            "revision": "0123abc-dirty",
        },
    }


def run(attention: str, seed: int, validation: float, test: float, released: bool = False) -> dict:
    """One run, with losses and times of its own."""
    return {
        "attention": attention,
        "seed": seed,
        "best_epoch": 12.0,
        "epochs": 30,
        "validation_accuracy": validation,
        "validation_loss": 0.2345,
        "test_accuracy": test,
        "test_loss": 0.1234,
        "train_seconds": 12.5,
        "released": released,
    }


def summary(mean: float, deviation: float, validation: float) -> dict:
    """The summary of two runs."""
    return {
        "seeds": 2,
        "test_accuracy_mean": mean,
        "test_accuracy_std": deviation,
        "validation_accuracy_mean": validation,
        "validation_loss_mean": 0.1357,
    }


def comparison(mean: float, deviation: float | None, p_value: float | None, adjusted: float | None) -> dict:
    """A comparison of two pairs."""
    return {
        "difference_mean": mean,
        "difference_std": deviation,
        "pairs": 2,
        "p_value": p_value,
        "p_value_adjusted": adjusted,
        "significant": adjusted is not None and adjusted < 0.05,
    }


def cost(parameters: int, scale: int) -> dict:
    """What one model costs."""
    quartiles = {"median": 1.2 * scale, "q1": 1.1 * scale, "q3": 1.4 * scale}
    return {
        "parameters": parameters,
        "forward_flops": 3_100_000 * scale,
        "train_step_flops": 9_300_000 * scale,
        "inference_ms": quartiles,
        "train_step_ms": {key: 4 * value for key, value in quartiles.items()},
        "peak_memory_bytes": 2**21 * scale,
    }


def point(tokens: int, inference: float, train_step: float) -> dict:
    """One point of efficiency; the released attention has the ratios given."""
    ratios = {"inference": 1.4, "train_step": 1.5, "flops": 0.9, "memory": 0.95}
    return {
        "batch": 4,
        "tokens": tokens,
        "softmax": cost(104_201, 4),
        "bn": cost(104_202, 5),
        "bn+sh": cost(104_203, 3),
        "sh": cost(104_204, 2),
        "ratios": {
            "bn": dict(ratios),
            "bn+sh": {"inference": inference, "train_step": train_step, "flops": 0.75, "memory": 0.8},
            "sh": dict(ratios),
        },
    }


def leaves(value, path=()):
    """Every plain value with the keys that lead to it."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        yield path, value
        return
    for key, inner in items:
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
