"""What models and checkpoints cost, the point of a results file, and files of costs compared."""

import csv
import json

import pytest
import torch

from hf_primaldual.measure import (
    compare,
    count_flops,
    count_parameters,
    efficiency_point,
    environment,
    load_model,
    make_inputs,
    measure,
    save_results,
)
from hf_primaldual.modeling import short_primal_dual
from tests.modeling import texts
from tests.modeling.images import image_batch, small_model
from tests.scripts import load_script


def test_a_checkpoint_is_measured_with_its_head(tmp_path):
    model = texts.small_model()
    model.save_pretrained(tmp_path)
    row = measure(tmp_path, tokens=48, batch=3, rounds=2, attn_implementation="sdpa")
    inputs = make_inputs(model, 48, 3)
    assert row["forward_flops"] == count_flops(model.eval(), **inputs)
    assert row["train_step_flops"] == count_flops(model.train(), **inputs, backward=True)
    assert row["backward_flops"] == row["train_step_flops"] - row["forward_flops"]
    assert row["parameters"] == model.num_parameters()
    assert row["inference_peak_bytes"] < row["activation_bytes"] < row["peak_memory_bytes"]
    for mode, per_second in (("inference_ms", "inference_per_second"), ("train_step_ms", "trained_per_second")):
        assert row[mode]["q1"] <= row[mode]["median"] <= row[mode]["q3"]
        assert row[per_second] == pytest.approx(3000 / row[mode]["median"])
    inference = measure(model, inputs, training=False, rounds=1)
    assert (inference["forward_flops"], "train_step_ms" in inference) == (row["forward_flops"], False)
    model.model.save_pretrained(tmp_path / "encoder")
    assert type(load_model(tmp_path / "encoder")).__name__ == "PrimalDualTextModel"


def test_a_point_holds_every_model_and_the_ratios_of_each_to_the_baseline(monkeypatch):
    # On few tokens one call of the back-end takes more operations.
    monkeypatch.setattr(short_primal_dual, "SHORT", {})
    models, modes = {attention: texts.small_model(attention=attention) for attention in ("softmax", "sh")}, set()
    for model in models.values():
        model.register_forward_pre_hook(lambda model, args: modes.add((model.training, torch.is_grad_enabled())))
    point = efficiency_point(models, make_inputs(models["sh"], 64, 2), "softmax", rounds=2)
    assert (point["batch"], point["tokens"]) == (2, 64)
    # No step is made in evaluation mode.
    assert (False, True) not in modes
    for name, model in models.items():
        assert point[name]["train_step_flops"] > 2 * point[name]["forward_flops"]
        # The gradients, which the step allocates, and what is alive besides.
        assert point[name]["peak_memory_bytes"] > 4 * count_parameters(model)
        assert all(parameter.grad is None for parameter in model.parameters())
        assert not model.training
    ours, theirs = point["sh"], point["softmax"]
    costs = {"inference": "inference_ms", "train_step": "train_step_ms", "flops": "forward_flops"}
    expected = {"memory": ours["peak_memory_bytes"] / theirs["peak_memory_bytes"]}
    for name, cost in costs.items():
        one, other = (each[cost]["median"] if cost.endswith("ms") else each[cost] for each in (ours, theirs))
        expected[name] = one / other
    assert point["ratios"] == {"sh": pytest.approx(expected)}
    assert expected["flops"] < 1
    vit = {"bn": small_model(attention="bn")}
    assert efficiency_point(vit, image_batch(), "bn", tokens=25, rounds=1)["tokens"] == 25


@pytest.fixture
def two_files(tmp_path):
    rows = [{"model": name, "tokens": 8, "flops": 4, "ms": {"median": 2.0}} for name in ("bn", "sh")]
    first = save_results(tmp_path / "a", "layers 128x8", {"rows": rows})
    rows = [{"model": name, "tokens": 8, "flops": 2, "ms": {"median": 3.0}} for name in ("sh", "bn+sh")]
    return first, save_results(tmp_path / "b", "layers 128x8", {"rows": rows})


def test_a_file_is_named_by_what_was_measured_and_on_what_with_a_table(two_files):
    path = two_files[0]
    assert path.name.startswith("layers-128x8-")
    assert path.name.endswith(f"torch-{torch.__version__}.json".lower())
    saved = json.loads(path.read_text())
    assert saved | environment() == saved
    with path.with_suffix(".csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"model": name, "tokens": "8", "flops": "4", "ms.median": "2.0"} for name in ("bn", "sh")
        ]


def test_two_files_are_compared_row_by_row_and_those_of_other_versions_or_machines_only_if_told(two_files):
    paired, alone = compare(*two_files)
    assert paired == [{"model": "sh", "tokens": 8, "flops": 0.5, "ms.median": 1.5}]
    assert alone == [{"model": "bn", "tokens": 8}, {"model": "bn+sh", "tokens": 8}]
    other = json.loads(two_files[1].read_text())
    for kind, key in (("versions", "torch"), ("hardware", "processor")):
        two_files[1].write_text(json.dumps(other | {kind: other[kind] | {key: "another"}}))
        with pytest.raises(ValueError, match=f"{kind}.{key}: .* and another"):
            compare(*two_files)
    assert len(compare(*two_files, allow_other_versions=True)[0]) == 1


def test_the_script_measures_presets_and_compares_its_files(tmp_path, capsys):
    script = load_script("measure")
    flags = ["--attention", "softmax", "sh", "--width", "16", "--tokens", "32", "--rounds", "1", "--layers", "1"]
    script.main([*flags, "--output", str(tmp_path)])
    (file,) = tmp_path.glob("measured-*.json")
    assert [row["model"] for row in json.loads(file.read_text())["rows"]] == ["softmax", "sh"]
    capsys.readouterr()
    script.main(["--compare", str(file), str(file)])
    assert "train_step_flops 1.000" in capsys.readouterr().out
