"""What is behind the Space's page: its bundled models and examples, what it takes, and what it refuses."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from inputs import as_curve, as_digit, as_series, as_text, load_digits, load_series, load_texts, read_csv
from PIL import Image, ImageDraw
from side_by_side import ATTENTIONS, HERE, Pair

from tests.scripts import load_script

KINDS = ("series", "images", "texts")
CHANNELS = [f"c{channel}" for channel in range(1, 13)]


@pytest.fixture(scope="module")
def pairs():
    return {kind: Pair(kind) for kind in KINDS}


def example(pair: Pair, kind: str) -> dict[str, torch.Tensor]:
    """The first bundled example, as the page gives it to the models."""
    if kind == "series":
        given = as_series(next(iter(load_series().values())), 12, 29)
    else:
        given = as_digit(load_digits()[3]) if kind == "images" else as_text(load_texts()[0])
    return pair.processor(given, return_tensors="pt")


@pytest.mark.parametrize("kind", KINDS)
def test_both_models_of_a_kind_say_what_they_see(pairs, kind):
    pair = pairs[kind]
    inputs = example(pair, kind)
    drawn = {"pixels": inputs["pixel_values"][0]} if kind == "images" else {}
    if kind == "series":
        drawn = {"series": inputs["past_values"][0]}
    shown = pair.show(inputs, "an example", **drawn)
    config = pair.config
    for name, each in zip(ATTENTIONS, shown, strict=True):
        with torch.no_grad():
            expected = pair.models[name](**inputs).logits[0].softmax(-1)
        assert list(each.scores) == [config.id2label[label] for label in range(config.num_labels)]
        assert list(each.scores.values()) == expected.tolist()
        heads = config.num_attention_heads * config.num_hidden_layers
        words = [text for axes in each.attention.axes for text in (axes.title, *axes.get_yticklabels())]
        assert sum("head " in text.get_text() for text in words) == heads
        assert f"an example, {name}" in each.attention.get_suptitle()
        assert each.duals.get_suptitle() == f"an example, {name}"
        assert each.support.count("layer ") == config.num_hidden_layers
    # bn+sh has heads of fewer keys.
    assert shown[0].support != shown[1].support


@pytest.mark.parametrize("kind", KINDS)
def test_costs_are_of_the_input_and_of_ten_times_its_length(pairs, kind):
    pair = pairs[kind]
    rows = pair.costs(example(pair, kind), rounds=1)
    assert [row["attention"] for row in rows] == [*ATTENTIONS, *ATTENTIONS]
    softmax, bn_sh, longer, longer_bn_sh = rows
    assert longer["tokens"] == longer_bn_sh["tokens"] == 10 * softmax["tokens"] == 10 * bn_sh["tokens"]
    # The longer the input, the more of the work is attention's, which is cheaper with fewer keys.
    assert longer_bn_sh["flops"] / longer["flops"] < min(1, bn_sh["flops"] / softmax["flops"])
    assert [row["ratio"] for row in rows if row["attention"] == "softmax"] == [1.0, 1.0]
    assert all(math.isfinite(row["milliseconds"]) for row in rows)


def test_the_bundled_files_are_small_and_their_examples_are_known_to_the_models(pairs):
    files = [path for path in HERE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) < 5e6
    assert not {path.suffix for path in files} - {".py", ".md", ".txt", ".json", ".csv", ".png", ".safetensors"}
    for pair in pairs.values():
        # Better than guessing by far, of which a folder of other weights would be no better.
        assert min(pair.trained["test_accuracy"].values()) > 1.2 / pair.config.num_labels
        assert "one seed" in pair.origin
    images = pairs["images"]
    for digit, path in enumerate(load_digits()):
        inputs = images.processor(as_digit(path), return_tensors="pt")
        labels = {name: int(model(**inputs).logits.argmax()) for name, model in images.models.items()}
        assert digit in labels.values(), labels


def test_the_bundled_models_are_those_of_the_program_that_builds_them(pairs):
    program = load_script("build_space")
    assert program.ATTENTIONS == ATTENTIONS
    for kind, (_, flags) in program.RECIPES.items():
        assert pairs[kind].trained["flags"] == flags.replace(f"{program.ROOT}/", "")


def table(rows: int = 3, columns: int = 12) -> pd.DataFrame:
    return pd.DataFrame(np.ones((rows, columns)), columns=[f"c{column}" for column in range(1, columns + 1)])


def with_cell(value) -> pd.DataFrame:
    changed = table().astype(object)
    changed.iloc[1, 4] = value
    return changed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (table(columns=11), "must have 12 channels, a column for each, got 11"),
        (table(rows=0), "must have 1 to 29 steps, a row for each, got 0"),
        (table(rows=30), "must have 1 to 29 steps, a row for each, got 30"),
        (with_cell("abc"), "row 2 of column c5 holds 'abc'"),
        (with_cell(""), "row 2 of column c5 holds ''"),
        (with_cell("inf"), "row 2 of column c5 holds 'inf'"),
    ],
    ids=["channels", "no steps", "steps", "letters", "empty", "infinite"],
)
def test_what_is_no_series_is_refused_in_a_sentence(given, message):
    with pytest.raises(ValueError, match=message):
        as_series(given, 12, 29)


def test_cells_that_the_page_hands_over_as_texts_are_numbers():
    assert as_series(with_cell(" 1e3 "), 12, 29)[1, 4] == 1000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no CSV that can be read: No columns"),
        (b"\xff\xfe\x00", "no CSV that can be read"),
        (b"a,b\n1,2\n1,2,3,4\n", "no CSV that can be read"),
        (b"1.0,2.0\n3,4\n", "first line must hold the names"),
    ],
    ids=["empty", "binary", "ragged", "no names"],
)
def test_a_file_that_is_no_table_is_refused_in_a_sentence(content, message, tmp_path):
    (tmp_path / "mine.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_csv(str(tmp_path / "mine.csv"))


def test_a_series_of_a_file_is_the_one_that_was_written(tmp_path):
    series = next(iter(load_series().values()))
    series.to_csv(tmp_path / "mine.csv", index=False)
    pd.testing.assert_frame_equal(read_csv(str(tmp_path / "mine.csv")), series)


@pytest.mark.parametrize("ground", ["white", (0, 0, 0, 0)], ids=["white", "transparent"])
def test_a_curve_is_read_from_left_to_right_between_the_edges(ground):
    drawing = Image.new("RGBA", (201, 101), ground)
    ImageDraw.Draw(drawing).line([(20, 100), (120, 0), (180, 50)], fill="black")
    values = as_curve(drawing, 17, lowest=-1, highest=1)
    np.testing.assert_allclose(values[[0, 10, 16]], [-1, 1, 0], atol=0.02)
    assert (np.diff(values[:11]) > 0).all()
    for nothing in (None, Image.new("RGBA", (201, 101), ground)):
        with pytest.raises(ValueError, match="There is no curve: draw one"):
            as_curve(nothing, 5, -1, 1)


def test_a_drawn_digit_is_read_whatever_its_ground_and_its_place(pairs, tmp_path):
    drawn = {}
    for name, ground, ink in (
        ("paper", "white", "black"),
        ("board", "black", "white"),
        ("clear", (0, 0, 0, 0), "blue"),
    ):
        picture = Image.new("RGBA", (300, 200), ground)
        # A nought, off the middle.
        ImageDraw.Draw(picture).ellipse((180, 30, 250, 150), outline=ink, width=16)
        picture.save(tmp_path / f"{name}.png")
        drawn[name] = as_digit(str(tmp_path / f"{name}.png"))
        assert drawn[name].size == (8, 8)
    # The middle of a nought is dark, and it reaches the upper and the lower edge.
    for digit in drawn.values():
        pixels = np.asarray(digit)
        assert pixels[3:5, 3:5].max() < 64 < pixels[[0, -1], 3:5].min()
        inputs = pairs["images"].processor(digit, return_tensors="pt")
        assert {int(model(**inputs).logits.argmax()) for model in pairs["images"].models.values()} == {0}


def test_what_is_no_picture_of_a_digit_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="There is no image"):
        as_digit(None)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match="no image that Pillow reads"):
        as_digit(str(tmp_path / "text.png"))
    Image.new("RGB", (40, 40), "grey").save(tmp_path / "grey.png")
    with pytest.raises(ValueError, match="of one tone"):
        as_digit(str(tmp_path / "grey.png"))


def test_a_text_is_read_as_the_training_texts_were_written():
    assert as_text("  The Goalie's 30 saves!\n") == "the goalie s saves"
    for nothing in ("", None, "12 ?!"):
        with pytest.raises(ValueError, match="must have letters from a to z"):
            as_text(nothing)
