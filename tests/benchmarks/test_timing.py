"""The benchmarks of times, small: what is timed, its rows, and the file."""

import json
from dataclasses import replace

import attention
import decoding
import integration
import pytest
import short
import timing
import vit
from training import WARMUP, measure_training

from hf_primaldual.training.time_series import (
    SeriesDataArguments,
    SeriesModelArguments,
    SeriesTrainingArguments,
    series_task,
)


@pytest.mark.parametrize(
    ("program", "flags", "key", "names"),
    [
        (attention, ["--attentions", "sh:16", "sparse:local", "--tokens", "64"], "attention", 3),
        (attention, ["--attentions", "bn", "--tokens", "32", "--inference", "--dtype", "bfloat16"], "attention", 2),
        (decoding, ["--tokens", "32", "--layers", "1", "--width", "16"], "attention", 4),
        (integration, ["--tokens", "16", "--layers", "1", "--width", "48", "--padded"], "attention", 4),
        (vit, ["--image_size", "32"], "model", 4),
        (short, ["--cases", "series-2x5-padded", "--seconds", "0"], "attention", 4),
        (short, ["--cases", "image-1x32", "--inference", "--seconds", "0"], "attention", 3),
    ],
    ids=["layers", "layers in inference", "decoding", "integration", "vit", "short", "short images"],
)
def test_a_benchmark_writes_a_row_for_each(program, flags, key, names, tmp_path, capsys):
    path = program.main([*flags, "--rounds", "1", "--output", str(tmp_path)])
    rows = json.loads(path.read_text())["rows"]
    assert rows[0]["ratio"] == 1
    assert len({row[key] for row in rows}) == len(rows) == names
    assert all(row["ms"]["median"] > 0 and row["median_of_ratios"] > 0 for row in rows)
    assert capsys.readouterr().out.count(" of the baseline") == names


def test_what_does_not_fit_has_its_reason_and_no_ratio_is_over_it(capsys):
    def too_large():
        raise MemoryError("no room")

    large, small = timing.time_rows({"large": too_large, "small": int}, "large", 1, {"tokens": 8})
    assert large == {"tokens": 8, "attention": "large", "does_not_fit": "no room"}
    assert small["ratio"] is None
    assert "does not fit: no room" in capsys.readouterr().out


def test_the_first_steps_of_a_training_and_of_an_epoch_are_not_counted(tmp_path):
    model_args = SeriesModelArguments(hidden_size=16, intermediate_size=16, num_hidden_layers=1)
    task = series_task(SeriesDataArguments(dataset="BasicMotions"), model_args)
    args = SeriesTrainingArguments(output_dir=str(tmp_path), use_cpu=True, per_device_train_batch_size=4)
    measured = measure_training(task, task.config("bn+sh"), args, 20, tmp_path)
    # 32 series to train on: 8 steps an epoch, three epochs for 20 steps.
    assert measured["steps"] == 24 - WARMUP - 1
    assert 0 < measured["data_share"] < 1
    assert measured["examples_per_second"] == pytest.approx(4 / measured["step_seconds"])
    with pytest.raises(ValueError, match="`steps` must leave some"):
        measure_training(task, task.config("bn+sh"), replace(args, per_device_train_batch_size=32), 1, tmp_path)
