"""Series as a task, on real data; the script that trains on them is in test_run.py."""

import numpy as np
import torch

from hf_primaldual.data import load_uea
from hf_primaldual.training.time_series import SeriesDataArguments, SeriesModelArguments, series_task


def test_validation_is_cut_by_class_and_the_extractor_is_fitted_on_what_is_left():
    task = series_task(SeriesDataArguments("JapaneseVowels"), SeriesModelArguments())
    assert task.sizes == {"train": 216, "validation": 54, "test": 370}
    assert np.bincount(task.splits["validation"]["labels"]).tolist() == [6] * 9
    original = {tuple(series[0]) for series in load_uea("JapaneseVowels")["train"]["past_values"]}
    cut = [tuple(row["past_values"][0].tolist()) for name in ("train", "validation") for row in task.splits[name]]
    assert (len(cut), set(cut)) == (270, original)
    steps = np.concatenate([row["past_values"] for row in task.splits["train"]])
    np.testing.assert_allclose(task.processor.mean, steps.mean(0), rtol=1e-6)
    np.testing.assert_allclose(task.processor.std, steps.std(0), rtol=1e-6)

    examples = [task.splits["train"][index] for index in range(4)]
    batch = task.collate(examples)
    assert batch["attention_mask"].sum(1).tolist() == [len(example["past_values"]) for example in examples]
    assert batch["labels"].tolist() == [int(example["labels"]) for example in examples]
    measured = task.measuring_batch(60, 40)
    assert set(measured) == {"past_values", "labels"}
    torch.testing.assert_close(measured["past_values"][0], measured["past_values"][54])
    first = task.collate([task.splits["validation"][0]])["past_values"][0]
    torch.testing.assert_close(measured["past_values"][0, : 2 * len(first)], first.repeat(2, 1)[:40])
