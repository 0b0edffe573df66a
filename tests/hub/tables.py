"""A table of results for each kind of task, and what the tests do to one."""

import copy
import json
from pathlib import Path

# Three attentions and softmax over two seeds, with everything that may be left out.
TABLE = Path(__file__).with_name("fixtures") / "results.json"
DATASETS = {
    "time-series-classification": {"channels": 12, "length": [7, 29]},
    "text-classification": {"length": [40, 1024]},
    "image-classification": {"channels": 1, "image_size": [28, 35]},
    "document-matching": {"length": [100, 4000]},
    "text-generation": {"vocabulary": 384, "length": [256, 256]},
}
# What a table may do without.
OPTIONAL = [("plots",), ("dataset", "subset"), ("dataset", "hub_id")]


def table(task: str = "time-series-classification") -> dict:
    """The results of `TABLE`, as of data of another task."""
    results = json.loads(TABLE.read_text())
    others = ("channels", "length", *["classes"] * (task == "text-generation"))
    of_all = {key: value for key, value in results["dataset"].items() if key not in others}
    return {**results, "task": task, "dataset": of_all | copy.deepcopy(DATASETS[task])}


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
