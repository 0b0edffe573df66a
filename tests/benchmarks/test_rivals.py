"""The comparison in one run, small: costs, accuracy of real data, and failures named."""

import json
import re
from pathlib import Path

import compare_rivals
import pytest
import torch
from rivals.measuring import describe
from rivals.models import IMAGE_MODELS, TEXT_MODELS, Shape
from rivals.report import BLOCK, format_table, tables
from rivals.results import Results

from hf_primaldual.measure import count_parameters

SMALL = ["--width", "16", "--intermediate", "16", "--rounds", "1", "--vocab_size", "64"]


def read(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.mark.parametrize(("models", "tokens"), [(TEXT_MODELS, 128), (IMAGE_MODELS, 64)], ids=["text", "image"])
def test_every_model_has_the_same_encoder(models, tokens):
    shape = Shape(tokens=tokens, width=16, heads=2, layers=3, intermediate=24, labels=5, vocab_size=64)
    for name, build in models.items():
        config = build(shape).config
        assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size) == (16, 3, 24), name
        assert config.num_labels == 5
    # What merges tokens, or pools keys, has no further weights.
    names = {"softmax", "sh:64", "tome"} & models.keys()
    assert len({count_parameters(models[name](shape)) for name in names}) == 1


def test_every_cost_of_every_image_model_and_none_fails(tmp_path):
    argv = ["--families", "image", "--tokens", "256", "--documents", "0", "--output", str(tmp_path), *SMALL]
    results = read(*compare_rivals.main(argv))
    assert results["failed"] == []
    rows = {row["model"]: row for row in results["rows"]}
    assert rows.keys() == set(IMAGE_MODELS)
    assert all(row["tokens"] == 256 and row["train_step_ms"]["median"] > 0 for row in rows.values())
    # 64 points of 256 keys, an eighth of the tokens merged on average over the layers.
    assert rows["sh:64"]["train_step_flops"] < rows["tome"]["train_step_flops"] < rows["vit"]["train_step_flops"]


@pytest.mark.slow
def test_accuracies_of_real_texts_then_costs_and_a_rival_that_raises(tmp_path, capsys):
    # 100 tokens are no multiple of 64 landmarks.
    common = ["--families", "text", "--tokens", "100", *SMALL, "--models"]
    sizes = ["--documents", "16", "--validation_documents", "10", "--test_documents", "8", "--steps", "2"]
    trained = ["--rounds", "0", "--output", str(tmp_path), *sizes]
    names = ["softmax", "fnet", "nystrom", "bert"]
    (path,) = compare_rivals.main([*common, *names, *trained, "--seeds", "0", "1"])
    accuracies = read(path)
    task = accuracies["tasks"]["100"]
    assert [task[key] for key in ("train", "validation", "test", "largest_class")] == [16, 10, 8, 0.25]
    (failure,) = accuracies["failed"]
    assert (failure["model"], failure["tokens"], failure["part"]) == ("nystrom", 100, "training")
    runs = [row for row in accuracies["rows"] if "seed" in row]
    # The whole model of transformers is timed and not trained.
    assert [(run["seed"], run["model"]) for run in runs] == [(s, n) for s in (0, 1) for n in ("softmax", "fnet")]
    assert "- nystrom: in training: ValueError" in capsys.readouterr().out

    costs = [*common, *names, "--documents", "0", "--update", str(path)]
    assert compare_rivals.main(costs) == [path]
    both = read(path)
    assert [row for row in both["rows"] if "seed" in row] == runs
    assert [row["model"] for row in both["rows"] if "parameters" in row] == ["softmax", "fnet", "bert"]
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".csv", ".png", ".svg"}

    # One more seed in the same file, and tables and pictures once more.
    more = [*common, "softmax", *trained, "--update", str(path), "--seeds", "2"]
    compare_rivals.main(more)
    assert [row["seed"] for row in read(path)["rows"] if row["model"] == "softmax" and "seed" in row] == [0, 1, 2]
    document, again = tmp_path / "page.md", tmp_path / "again"
    document.write_text(f"Above.\n<!-- {BLOCK} -->\nold\n<!-- end -->\nBelow.\n")
    compare_rivals.main(["--show", str(path), "--output", str(again), "--document", str(document)])
    page = tables([path])
    assert document.read_text() == f"Above.\n<!-- {BLOCK} -->\n{page.rstrip()}\n<!-- end -->\nBelow.\n"
    assert re.search(r"/([^/]+\.png)\)", page)[1] in [file.name for file in again.iterdir()]
    for other, message in (
        (["--steps", "3", "--learning_rate", "1"], "another training: its learning_rate, steps must"),
        (["--width", "32"], "another model: its width must be those asked for"),
    ):
        with pytest.raises(ValueError, match=message):
            compare_rivals.main([*more, *other])


def test_a_model_that_fails_is_named_with_the_reason():
    with pytest.raises(RuntimeError) as failure:
        torch.empty(2**60)
    assert describe(failure.value) == "does not fit into memory"
    assert describe(ValueError("odd\n  shape")) == "ValueError: odd shape"
    results = Results("text", {})
    results.put_costs(8, [], {"bn": "it is ill"})
    assert format_table(results, 8).splitlines()[-1] == "- bn: it is ill"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--device cuda", "`device` is cuda, but torch finds no GPU here"),
        ("--models mamba", "`models` must be among softmax, bn, .*, got mamba"),
        ("--documents 0 --rounds 0", "`rounds` and `documents` are both 0"),
        ("--document a.md", "`document` takes the tables of files that `show` names, got a.md alone"),
        ("--update a.json", "`update` is one family's file, so `families` must name it, got 2"),
        ("--families image --tokens 1000 --documents 0", "`tokens` must be a square for images, .*, got 1000"),
    ],
)
def test_bad_arguments_are_named(argv, message):
    with pytest.raises(ValueError, match=message):
        compare_rivals.main(argv.split())
