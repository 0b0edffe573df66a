"""Tables of Markdown, and text between two comments."""

import pytest

from hf_primaldual.hub.markdown import comparison_rows, markdown_table, replace_between
from tests.hub.tables import table


def test_a_table_has_its_columns_and_no_cell_breaks_it():
    assert markdown_table(["a", "b"], [["1", "x|y\nz"]]) == "| a | b |\n|---|---|\n| 1 | x\\|y z |"
    assert markdown_table("abc", [], "lr-").splitlines()[1] == "|:---|---:|---|"
    for rows, align in ([["1"]], None), ([], "l"):
        with pytest.raises(ValueError, match="columns a, b needs 2 cells"):
            markdown_table(["a", "b"], rows, align)


def test_what_stands_between_two_comments_is_replaced():
    text = "<!-- one -->\nold\n<!-- end of one -->\n<!-- two -->\n<!-- end -->\n"
    once = replace_between(text, "one", "new \\1\n")
    assert once == "<!-- one -->\nnew \\1\n<!-- end of one -->\n<!-- two -->\n<!-- end -->\n"
    assert replace_between(once, "two", "x").endswith("<!-- two -->\nx\n<!-- end -->\n")
    for broken in (text * 2, text.replace("<!-- one -->", ""), text.replace("<!-- end of one -->", "")):
        with pytest.raises(ValueError, match=r"must have `<!-- one -->` and `<!-- end of one -->` once"):
            replace_between(broken, "one", "x")


def test_every_attention_of_a_comparison_has_its_row():
    rows = [list(row.values()) for row in comparison_rows(table())]
    assert [row[0] for row in rows] == ["`softmax`", "`bn`", "`bn+sh`", "`sh`"]
    assert rows[0][1:] == ["97.75 ± 0.78", "", "", "", "1", "1"]
    assert rows[1][1:] == ["95.20 ± 0.14", "-2.55 ± 0.64", "0.008", "worse", "0.90", "1.50"]
    assert [row[3:5] for row in rows[2:]] == [["0.220", "no"], ["no test", "no"]]
