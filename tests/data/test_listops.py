"""ListOps: the generator against the facts of Long Range Arena, and the reader on small files of its format."""

import hashlib
import itertools
import json

import numpy as np
import pytest

from hf_primaldual.data import LISTOPS, LISTOPS_LITE, LISTOPS_VOCABULARY, ListOpsSpec, load_listops, load_listops_files
from hf_primaldual.data.generated import generate
from hf_primaldual.data.listops import draw_listops, read_listops

HEADER = "Source\tTarget\r\n"
LINES = "( ( ( [MAX 4 ) 3 ) ] )\t4\r\n( ( ( [SM 9 ) ( ( ( [MED 3 ) 8 ) ] ) ) ] )\t4\r\n"


def draw(spec: ListOpsSpec, number: int, seed: int = 0) -> list[dict]:
    return list(itertools.islice(generate(draw_listops, spec, seed), number))


def value_by_python(input_ids: list[int]) -> int:
    """Another evaluator: the expression written as Python, and numpy's median."""
    names = {"[MIN": "min([", "[MAX": "max([", "[MED": "med([", "[SM": "sm([", "]": "]),"}
    source = "".join(names.get(LISTOPS_VOCABULARY[token], f"{LISTOPS_VOCABULARY[token]},") for token in input_ids)
    functions = {"med": lambda values: int(np.median(values)), "sm": lambda values: sum(values) % 10}
    (value,) = eval(source, functions)
    return value


# Of the first hundred examples, as they were when lengths, depths, arguments and the shares of symbols and values were
# those of Long Range Arena.
SHA256 = {
    LISTOPS: "f24a1849c844d4133e783a6bd82720de2ab5542014ece65206fdcabb0816a1cd",
    LISTOPS_LITE: "a101d2bcc0837a24c61c043dcd2d9a70c1a76f3151c55ecf8e1bc7df7e944920",
}


@pytest.mark.parametrize("spec", SHA256, ids=["full", "lite"])
def test_examples_are_the_recorded_ones_and_their_values_are_those_of_python(spec):
    examples = draw(spec, 100)
    assert hashlib.sha256(json.dumps(examples).encode()).hexdigest() == SHA256[spec]
    for example in examples:
        assert example["labels"] == value_by_python(example["input_ids"])
        assert spec.min_length < len(example["input_ids"]) < spec.max_length


def test_splits_share_nothing_and_do_not_depend_on_the_size_of_train():
    splits = load_listops(LISTOPS_LITE, (60, 20, 10))
    rows = {bytes(row) for split in splits.values() for row in split["input_ids"]}
    assert len(rows) == 90
    longer = load_listops(LISTOPS_LITE, (80, 20, 10))
    for name, split in splits.items():
        assert longer[name].select(range(len(split))).to_dict() == split.to_dict()
    assert splits["train"].cache_files == load_listops(LISTOPS_LITE, (60, 20, 10))["train"].cache_files != []
    others = {bytes(example["input_ids"]) for seed in (1, -1) for example in draw(LISTOPS_LITE, 9, seed)}
    assert (len(others), rows.isdisjoint(others)) == (18, True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ListOpsSpec(max_depth=1), "`max_depth` and `max_arguments` must be at least 2, got 1 and 10"),
        (lambda: ListOpsSpec(min_length=10, max_length=11), "must fit strictly between"),
        (lambda: load_listops(sizes=(1, 1, 0)), "`sizes` must be at least 1"),
        # 400 expressions [OP a b] and no other.
        (lambda: draw(ListOpsSpec(2, 2, 3, 5), 401), "20000 draws in a row gave no new example, after 400 of them"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make, message, monkeypatch):
    monkeypatch.setattr("hf_primaldual.data.generated.DRAWS", 20_000)
    with pytest.raises(ValueError, match=message):
        make()


def test_released_files(tmp_path):
    for name in ("train", "val", "test"):
        with pytest.raises(FileNotFoundError, match=rf"holds no basic_{name}\.tsv"):
            load_listops_files(tmp_path)
        (tmp_path / f"basic_{name}.tsv").write_text(HEADER + LINES, newline="")
    splits = load_listops_files(tmp_path)
    assert list(splits) == ["train", "validation", "test"]
    expressions = ("[MAX 4 3 ]", "[SM 9 [MED 3 8 ] ]")
    expected = [[LISTOPS_VOCABULARY.index(symbol) for symbol in expression.split()] for expression in expressions]
    assert splits["validation"].to_dict() == {"input_ids": expected, "labels": [4, 4]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"basic\.tsv:1: the header is None"),
        (HEADER + "[MAX 1 2 ]\n", r"basic\.tsv:2: 1 columns"),
        (HEADER + "( [MAX 12 ] )\t2\n", r"basic\.tsv:2: 12, expected symbols of ListOps"),
        (HEADER + LINES + "( )\t2\n", r"basic\.tsv:4: nothing, expected symbols of ListOps"),
        (HEADER + "[MAX 1 2 ]\t12\n", r"basic\.tsv:2: the value is '12', expected a digit"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path, content, message):
    path = tmp_path / "basic.tsv"
    path.write_text(content, newline="")
    with pytest.raises(ValueError, match=message):
        list(read_listops(path))
