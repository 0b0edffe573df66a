"""The pipeline where the package is installed; test_remote_code.py has it where it is not."""

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import pipeline

from hf_primaldual import PrimalDualTimeSeriesFeatureExtractor, TimeSeriesClassificationPipeline
from tests.modeling.series import CHANNELS, LABELS, small_model

rng = np.random.default_rng(0)
SERIES = [rng.normal(5, 2, (length, CHANNELS)) for length in (19, 8, 12)]


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    return small_model(), PrimalDualTimeSeriesFeatureExtractor(CHANNELS).fit(SERIES)


@pytest.fixture
def classify(parts):
    model, extractor = parts
    return TimeSeriesClassificationPipeline(model=model, feature_extractor=extractor)


def test_a_batch_of_several_lengths_equals_one_by_one(classify):
    for together, series in zip(classify(SERIES, batch_size=2), SERIES, strict=True):
        alone = classify(series)
        assert [entry["label"] for entry in together] == [entry["label"] for entry in alone]
        assert [entry["score"] for entry in together] == pytest.approx([entry["score"] for entry in alone], abs=1e-5)


def test_top_k(classify):
    for top_k in (1, 2, LABELS, 100):
        assert classify(SERIES[0], top_k=top_k) == classify(SERIES[0])[:top_k]
    with pytest.raises(ValueError, match="`top_k` must be at least 1, got 0"):
        classify(SERIES[0], top_k=0)


def test_the_function_pipeline_loads_a_folder_with_the_code_that_is_installed(parts, classify, tmp_path):
    for part in parts:
        part.save_pretrained(tmp_path)
    for how in ({}, {"trust_remote_code": True}):
        loaded = pipeline("time-series-classification", model=str(tmp_path), **how)
        assert type(loaded) is TimeSeriesClassificationPipeline
        assert loaded(SERIES[0]) == classify(SERIES[0])


def test_frames_arrays_and_paths_are_the_series_that_they_hold(classify, tmp_path):
    alone, frame = classify(SERIES[0]), pd.DataFrame(SERIES[0])
    frame.to_csv(tmp_path / "one.csv", index=False)
    frame.to_parquet(tmp_path / "one.parquet")
    np.save(tmp_path / "one.npy", SERIES[0])
    np.savez(tmp_path / "all.npz", *SERIES)
    for series in (frame, *(str(tmp_path / f"one.{kind}") for kind in ("csv", "parquet", "npy"))):
        assert classify(series) == alone
    assert classify([frame, SERIES[1]]) == classify(SERIES)[:2]
    assert classify(tmp_path / "all.npz") == classify(SERIES)
    assert classify(np.stack([SERIES[0], SERIES[0]])) == [alone, alone]
    with pytest.raises(ValueError, match=r"`series` must be a path that ends in .npy, .npz, .csv or .parquet, got"):
        classify("one.xlsx")
