"""The clock of a training, on real series."""

import dataclasses
import time

import pytest
from training import WARMUP, measure_training

from hf_primaldual.training.time_series import (
    SeriesDataArguments,
    SeriesModelArguments,
    SeriesTrainingArguments,
    series_task,
)

WAIT = 0.02


@pytest.fixture(scope="module")
def task():
    model_args = SeriesModelArguments(hidden_size=16, intermediate_size=16, num_hidden_layers=1)
    return series_task(SeriesDataArguments(dataset="BasicMotions"), model_args)


def measure(task, folder, batch, steps):
    args = SeriesTrainingArguments(output_dir=str(folder), use_cpu=True, per_device_train_batch_size=batch)
    return measure_training(task, task.config("bn+sh"), args, steps, folder)


def test_the_time_that_a_collator_takes_is_that_of_the_data(task, tmp_path):
    def slow(examples):
        time.sleep(WAIT)
        return task.collate(examples)

    # 32 series to train on: 8 steps an epoch, three epochs for 20 steps.
    quick = measure(task, tmp_path, 4, 20)
    slowed = measure(dataclasses.replace(task, collate=slow), tmp_path, 4, 20)
    assert quick["steps"] == slowed["steps"] == 24 - WARMUP - 1
    assert slowed["step_seconds"] > WAIT
    assert slowed["data_share"] * slowed["steps"] * slowed["step_seconds"] > 0.5 * slowed["steps"] * WAIT
    assert slowed["first_epoch_seconds"] > 8 * WAIT
    assert slowed["examples_per_second"] == pytest.approx(4 / slowed["step_seconds"])


def test_too_few_steps_to_count_are_refused(task, tmp_path):
    with pytest.raises(ValueError, match="`steps` must leave some"):
        measure(task, tmp_path, 32, 1)
