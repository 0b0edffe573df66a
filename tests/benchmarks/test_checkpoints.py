"""The benchmark of checkpoints that get cheaper: its examples, its rows, and the tables of the documents."""

import json
from pathlib import Path

import checkpoint_tables
import pytest
from checkpoint_inputs import Checkpoint, MiniLM
from checkpoints import cost_of, shuffled
from datasets import Dataset, DatasetDict

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "results").glob("checkpoint-*.json"))


def numbered() -> DatasetDict:
    return DatasetDict(
        train=Dataset.from_dict({"number": range(100)}), test=Dataset.from_dict({"number": range(100, 140)})
    )


def test_no_example_is_in_two_splits():
    class Numbers(Checkpoint):
        load = staticmethod(numbered)

    splits = Numbers({"calibration": 8, "train": 30, "validation": 12, "test": 20}).splits
    numbers = {name: set(split["number"]) for name, split in splits.items()}
    assert {name: len(each) for name, each in numbers.items()} == {
        "calibration": 8, "validation": 12, "train": 30, "distillation": 50, "test": 20,
    }  # fmt: skip
    assert len(set.union(*numbers.values())) == 120
    assert min(numbers["test"]) >= 100


def test_shuffled_factors_cost_the_same():
    settings = {"head_scales": [[1, 2, 8, 8], [1, 1, 1, 2]], "num_prefix_tokens": 1}
    other = shuffled(settings, 0)
    assert other != settings
    assert other["num_prefix_tokens"] == 1
    assert cost_of(other, MiniLM) == cost_of(settings, MiniLM) == 5.25 / 8


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_the_documents_tables_are_those_of_the_results(path):
    results, text = json.loads(path.read_text()), checkpoint_tables.DOCUMENT.read_text()
    assert checkpoint_tables.insert_tables(text, path.stem.removeprefix("checkpoint-"), results) == text
