"""The tables of costs in the documents are the committed results, and what counting gives."""

import re
from pathlib import Path

import pytest
from render_efficiency import DOCUMENTS, TABLES, rendered, results_of

from hf_primaldual.measure.figures import FIGURES, figure_rows

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_tables_are_what_the_committed_results_render_to(document):
    assert (ROOT / document).read_text(encoding="utf-8") == rendered(document)


def test_every_table_is_in_a_document():
    text = "".join((ROOT / document).read_text(encoding="utf-8") for document in DOCUMENTS)
    assert all(f"<!-- {name} -->" in text for name in TABLES)


def test_a_measurement_of_which_there_are_none_or_two_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="got 0"):
        results_of("layers", tmp_path)
    for processor in ("one", "other"):
        (tmp_path / f"layers-{processor}.json").write_text('{"hardware": {"accelerator": null}}')
    (tmp_path / "layers-gpu.json").write_text('{"hardware": {"accelerator": "a GPU"}}')
    with pytest.raises(FileNotFoundError, match="got 2"):
        results_of("layers", tmp_path)


def test_the_table_of_what_is_counted():
    figure, lengths = FIGURES[1]._replace(attentions=("bn+sh",)), (1024, 4096)
    text = (ROOT / "docs" / "efficiency.md").read_text(encoding="utf-8")
    counted = [figure_rows(figure, [128], lengths, 0, back_end) for back_end in ("eager", "sdpa")]
    for tokens, eager, sdpa in zip(lengths, *counted, strict=True):
        shown = re.search(rf"^\| {tokens} \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.MULTILINE).groups()
        assert shown == tuple(f"{ratio:.3f}" for ratio in (sdpa["flops"], eager["memory"], sdpa["memory"]))
