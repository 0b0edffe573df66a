"""The tables of costs in the documents are the committed results, and what counting gives."""

import json
from pathlib import Path

import conversion
import pytest
from render_efficiency import DOCUMENTS, TABLES, rendered, results_of
from rivals.report import BLOCK, tables

from hf_primaldual.hub.markdown import replace_between
from hf_primaldual.measure.figures import count_size

ROOT = Path(__file__).parents[2]


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def test_the_tables_are_what_the_committed_results_render_to():
    assert [document for document in DOCUMENTS if read(document) != rendered(document)] == []
    text = "".join(map(read, DOCUMENTS))
    assert [name for name in TABLES if f"<!-- {name} -->" not in text] == []

    (path,) = (ROOT / "results").glob("minilm-20newsgroups-*.json")
    text = read("docs/conversion.md")
    assert conversion.insert_tables(text, json.loads(path.read_text(encoding="utf-8"))) == text

    text, names = read("docs/rivals.md"), ("rivals-text", "rivals-image", "rivals-long/rivals-image")
    files = [file for name in names for file in (ROOT / "results").glob(f"{name}-float32-*.json")]
    assert replace_between(text, BLOCK, tables(files)) == text


def test_a_measurement_of_which_there_are_none_or_two_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="got 0"):
        results_of("layers", tmp_path)
    for processor in ("one", "other"):
        (tmp_path / f"layers-{processor}.json").write_text('{"hardware": {"accelerator": null}}')
    (tmp_path / "layers-gpu.json").write_text('{"hardware": {"accelerator": "a GPU"}}')
    with pytest.raises(FileNotFoundError, match="got 2"):
        results_of("layers", tmp_path)


@pytest.mark.parametrize("tokens", [1024, 4096])
def test_the_table_of_what_is_counted(tokens):
    eager, sdpa = (
        count_size(("softmax", "bn+sh"), 128, tokens, back_end, heads=8)[1]["ratio"] for back_end in ("eager", "sdpa")
    )
    ratios = " | ".join(f"{ratio:.3f}" for ratio in (sdpa["flops"], eager["memory"], sdpa["memory"]))
    assert f"\n| {tokens} | {ratios} |\n" in read("docs/efficiency.md")
