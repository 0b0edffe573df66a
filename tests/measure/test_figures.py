"""The paper's figures, counted and measured, without a display."""

import json

import pytest
import yaml

from hf_primaldual.measure.figures import HEADS, LAYERS, claims, count_size, measure_sizes, text_config
from hf_primaldual.measure.plots import pareto_front
from tests.hub.tables import table
from tests.scripts import SCRIPTS, load_script

DENSE, SPARSE = ("softmax", "bn+sh", "sh"), ("sparse", "sparse-bn+sh", "sparse-sh")


@pytest.mark.parametrize(
    ("attentions", "tokens", "back_end"),
    [(DENSE, 256, "eager"), (DENSE, 2048, "sdpa"), (SPARSE, 600, "eager"), (SPARSE, 600, "sdpa")],
)
def test_counted_memory_is_within_5_percent_of_what_a_run_takes(attentions, tokens, back_end):
    rows = count_size(attentions, 32, tokens, back_end)
    counted = [row["ratio"]["memory"] for row in rows]
    measure_sizes(rows, budget=600, rounds=1)
    for row, ratio in zip(rows, counted, strict=True):
        assert row["measured_memory"] == pytest.approx(row["counted_memory"], rel=0.05)
        assert row["ratio"]["memory"] == pytest.approx(ratio, rel=0.05)
    assert rows[1]["ratio"]["flops"] < 1


def test_the_models_are_those_of_the_recipe_of_retrieval():
    recipe = yaml.safe_load((SCRIPTS / "configs" / "lra_retrieval.yaml").read_text(encoding="utf-8"))
    ours = text_config("sparse-bn+sh", 64, 4000, "sdpa", num_attention_heads=HEADS, num_hidden_layers=LAYERS)
    assert ours.resolved_head_scales() == recipe["head_scales"]
    for name in (
        "num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size", "pooling", "sparse_window",
        "sparse_stride", "bn_beta", "bn_scaling",
    ):  # fmt: skip
        assert getattr(ours, name) == recipe[name]


@pytest.mark.parametrize(
    ("narrow", "wide", "outcome"),
    [
        ([0.9, 0.8, 0.7], [1.1, 0.9, 0.75], "holds"),
        ([0.9, 0.8, 0.7], [1.1, 0.9, 0.8], "does not hold, as the savings do not stay as the model grows"),
        ([0.9, 0.8, 0.7], [0.9, 0.7, 0.7], "does not hold, as the savings do not grow with the length"),
        ([1.3, 1.2, 1.1], [1.2, 1.1, 1.0], "does not hold, as the savings do not stay as the model grows"),
    ],
)
def test_a_claim_holds_if_savings_grow_and_stay(narrow, wide, outcome):
    rows = [
        {"attention": "sh", "width": width, "tokens": tokens, "ratio": {"flops": ratio, "memory": 1.0, "time": ratio}}
        for width, line in ((64, narrow), (512, wide))
        for tokens, ratio in zip((512, 1024, 2048), line, strict=True)
    ]
    flops, memory, time = claims("sh", rows).split(". ")
    assert flops.startswith(f"In FLOPs the claim {outcome}: {narrow[0]:.3f} at 512 tokens")
    assert flops.endswith(f"{wide[0]:.3f} and {wide[2]:.3f} at width 512")
    assert "not grow with the length and do not stay as the model grows: 1.000 at" in memory
    assert time == f"Training time: {min(narrow + wide):.2f} to {max(narrow + wide):.2f} at 6 of 6 sizes."


def test_a_file_of_numbers_is_gone_on_with_and_its_figures_are_drawn(tmp_path, capsys):
    main = load_script("figures").main
    flags = ["--figure", "1", "--widths", "16", "--attn_implementation", "sdpa", "--output", str(tmp_path), "--tokens"]
    main([*flags, "64"])
    assert "not measured" in (tmp_path / "figure-1-sdpa.svg").read_text()
    assert "width   16      64 tokens" in capsys.readouterr().out
    main([*flags, "64", "128", "--time", "60", "--rounds", "1"])
    assert "not measured" not in (tmp_path / "figure-1-sdpa.svg").read_text()
    (numbers,) = tmp_path.glob("*.json")
    written = numbers.read_text()
    rows = json.loads(written)["rows"]
    assert [(row["attention"], row["tokens"]) for row in rows] == [
        ("softmax", 64), ("bn+sh", 64), ("softmax", 128), ("bn+sh", 128)
    ]  # fmt: skip
    assert all(row["ms"]["median"] > 0 for row in rows)
    # All is there: drawn, and not a number changes.
    main([*flags, "64", "128", "--time", "60"])
    assert numbers.read_text() == written
    numbers.write_text(written.replace('"threads": 1', '"threads": 7'))
    with pytest.raises(ValueError, match=r"`threads` must be 7, as of the times .* got 1"):
        main([*flags, "64", "--time", "60"])


def test_accuracy_against_cost_is_drawn_from_a_results_file(tmp_path):
    file = tmp_path / "task.json"
    file.write_text(json.dumps(table()))
    load_script("figures").main(["--pareto", str(file), "--output", str(tmp_path)])
    assert "training step, ms" in (tmp_path / "pareto-task.svg").read_text()
    points = {"cheap": (1, 5), "beaten": (2, 4), "best": (3, 9), "dear": (4, 9), "as cheap": (1, 3)}
    assert pareto_front(points) == ["cheap", "best"]
