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
from rivals.results import Results, summarize

from hf_primaldual.measure import count_parameters

SMALL = ["--width", "16", "--intermediate", "16", "--rounds", "1", "--vocab_size", "64"]
TASK = {"description": "moons", "train": 4, "test": 4, "largest_class": 0.5}


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


def test_every_cost_of_every_image_model_and_none_fails(tmp_path, capsys):
    argv = ["--families", "image", "--tokens", "256", "--documents", "0", "--output", str(tmp_path), *SMALL]
    results = read(*compare_rivals.main(argv))
    assert results["failed"] == []
    rows = {row["model"]: row for row in results["rows"]}
    assert rows.keys() == set(IMAGE_MODELS)
    assert all(row["tokens"] == 256 and row["train_step_ms"]["median"] > 0 for row in rows.values())
    # 64 points of 256 keys, an eighth of the tokens merged on average over the layers.
    assert rows["sh:64"]["train_step_flops"] < rows["tome"]["train_step_flops"] < rows["vit"]["train_step_flops"]
    # Without accuracies there is nothing to draw, and no column for them.
    assert "accuracy" not in capsys.readouterr().out
    assert not list(tmp_path.glob("*.png"))


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
    assert all(run["steps"] == 2 and 0 <= run["accuracy"] <= 1 and run["loss"]["first"] > 0 for run in runs)
    assert "- nystrom: in training: ValueError" in capsys.readouterr().out

    costs = [*common, *names, "--documents", "0", "--update", str(path)]
    assert compare_rivals.main(costs) == [path]
    both = read(path)
    assert [row for row in both["rows"] if "seed" in row] == runs
    assert [row["model"] for row in both["rows"] if "parameters" in row] == ["softmax", "fnet", "bert"]
    assert both["settings"]["training"] == accuracies["settings"]["training"]
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


def test_differences_are_paired_by_seed_and_tested():
    accuracies = {
        "softmax": (0.5, 0.7, 0.6),
        "sh:64": (0.401, 0.6, 0.499),
        "fnet": (0.7, 0.5, 0.6),
        "linformer": (0.1,),
    }
    about = {"attn_implementation": "sdpa", "width": 8, "tokens": 16, "batch": 2}
    runs = [
        {"model": model, **about, "seed": seed, "accuracy": accuracy}
        for model, own in accuracies.items()
        for seed, accuracy in enumerate(own)
    ]
    rows = {row["model"]: row for row in summarize(runs, ("softmax", "nystrom"))}
    assert rows["sh:64"]["minus_softmax"]["difference_mean"] == pytest.approx(-0.1)
    assert rows["sh:64"]["minus_softmax"]["significant"]
    assert not rows["fnet"]["minus_softmax"]["significant"]
    # Other seeds are not compared, and neither is a reference that was not trained.
    assert rows["linformer"].keys() & {"minus_softmax", "minus_nystrom"} == set()
    results = Results("text", {"training": {"evaluate": "test", "steps": 9, "train_batch": 2}}, {"16": TASK})
    results.runs = runs
    _, title, *lines = format_table(results, 16).splitlines()
    assert title == "text, 16 tokens; moons, 4 trained on in 9 steps of 2, 4 of test, largest class 50.0%"
    (line,) = (line for line in lines if line.startswith("| sh:64"))
    assert [cell.strip() for cell in line.split("|")[2:-1]] == ["3", "50.0 ± 10.0 %", "-10.0 ± 0.1 *"]


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
