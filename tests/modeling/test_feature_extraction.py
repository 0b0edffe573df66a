import numpy as np
import pytest
import torch

from hf_primaldual import PrimalDualTimeSeriesFeatureExtractor as FeatureExtractor
from hf_primaldual.data import load_uea

rng = np.random.default_rng(0)


def ragged(*lengths, channels=2):
    return [rng.normal(3, 2, (length, channels)).astype(np.float32) for length in lengths]


def test_the_training_set_comes_out_standardized_padded_and_masked():
    vowels = load_uea("JapaneseVowels")["train"].with_format("numpy")["past_values"]
    extractor = FeatureExtractor(12).fit(vowels)
    steps = np.concatenate(list(vowels)).astype(np.float64)
    np.testing.assert_allclose(extractor.mean, steps.mean(0), rtol=1e-12)
    np.testing.assert_allclose(extractor.std, steps.std(0), rtol=1e-12)
    batch = extractor(vowels, return_tensors="np")
    real = batch["attention_mask"].astype(bool)
    np.testing.assert_allclose(batch["past_values"][real].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(batch["past_values"][real].std(0), 1, rtol=1e-5)
    assert (batch["past_values"][~real] == 0).all()
    assert real.sum(1).tolist() == [len(series) for series in vowels]


@pytest.mark.parametrize(("constant", "steps"), [(0.0, 1), (0.1, 1000), (1e6 / 3, 1000)])
def test_a_constant_channel_is_only_centred(constant, steps):
    # Rounding must not leave a tiny deviation to divide by.
    series = ragged(steps)[0].astype(np.float64)
    series[:, 1] = constant
    kept = series.copy()
    extractor = FeatureExtractor(2).fit([series])
    assert extractor.std[1] == 1.0
    np.testing.assert_allclose(extractor([series])["past_values"][0][:, 1], 0, atol=1e-6)
    np.testing.assert_array_equal(series, kept)


def test_missing_values_do_not_count_and_become_the_training_mean(tmp_path):
    series = ragged(5, 9)
    series[0][2, 1] = series[1][4, 1] = np.nan
    fitted = FeatureExtractor(2, missing_values="mean", sampling_rate=3).fit(series)
    steps = np.concatenate(series).astype(np.float64)
    np.testing.assert_allclose(fitted.mean, np.nanmean(steps, axis=0))
    np.testing.assert_allclose(fitted.std, np.nanstd(steps, axis=0))
    fitted.save_pretrained(tmp_path)
    loaded = FeatureExtractor.from_pretrained(tmp_path)
    assert loaded.to_dict() == fitted.to_dict()
    # Unfitted, nothing is known of the mean but that of standardized data.
    for extractor in (fitted, loaded, FeatureExtractor(2, missing_values="mean")):
        values = extractor(series, return_tensors="np")["past_values"]
        assert values[0, 2, 1] == values[1, 4, 1] == 0
        assert np.isfinite(values).all()


@pytest.mark.parametrize(("side", "channels"), [("right", 2), ("left", 1)])
@pytest.mark.parametrize(
    ("settings", "length", "kept"),
    [
        ({}, 9, [9, 3, 1]),
        ({"padding": "max_length", "max_length": 12}, 12, [9, 3, 1]),
        ({"max_length": 5, "truncation": True}, 5, [5, 3, 1]),
        ({"padding": "max_length", "max_length": 5, "truncation": True, "pad_to_multiple_of": 4}, 8, [8, 3, 1]),
        ({"pad_to_multiple_of": 4}, 12, [9, 3, 1]),
    ],
    ids=str,
)
def test_padding_is_that_of_transformers(channels, side, settings, length, kept):
    series = ragged(9, 3, 1, channels=channels)
    extractor = FeatureExtractor(channels, padding_value=7.0, padding_side=side)
    ours = extractor(series, return_tensors="pt", **settings)
    assert ours["past_values"].shape == (3, length, channels)
    assert ours["attention_mask"].sum(1).tolist() == kept
    flat = [values[:, 0] if channels == 1 else values for values in series]
    theirs = super(FeatureExtractor, extractor).pad({"past_values": flat}, return_tensors="pt", **settings)
    torch.testing.assert_close(ours["past_values"].flatten(), theirs["past_values"].flatten(), rtol=0, atol=0)
    torch.testing.assert_close(ours["attention_mask"], theirs["attention_mask"])


def test_series_may_stay_as_long_as_they_are():
    batch = FeatureExtractor(2)(ragged(9, 3), padding=False, return_attention_mask=False)
    assert list(batch) == ["past_values"]
    assert [(values.shape, values.dtype) for values in batch["past_values"]] == [((9, 2), "f4"), ((3, 2), "f4")]
    with pytest.raises(ValueError, match="`max_length` must be given with `truncation`, got None"):
        FeatureExtractor(2)(ragged(9, 3), truncation=True)


@pytest.mark.parametrize(
    ("series", "call", "fit"),
    [
        ([[[1.0, np.nan]]], r"Series 0 .* nan\] at step 0; .*missing value \(NaN\).* `missing_values='mean'`", None),
        ([[[1.0, -np.inf]]], r"Series 0 must be finite, got .*-inf\] at step 0\.$", "Series 0 must be finite"),
        ([*ragged(4), np.zeros((0, 2))], r"Series 1 .*at least one step .*\(0, 2\)", "Series 1 .*at least one step"),
        (np.zeros((3, 5)), r"Series 0 .*2 channels.*\(3, 5\)", "Series 0 must"),
        ([], "`past_values` must hold at least one series, got none", "`series` must hold at least one series"),
        ([np.array([[1.0, np.nan], [2.0, np.nan]])], "Series 0 must be finite", r"every channel.*\[1\]"),
    ],
    ids=["nan", "inf", "no-steps", "channels", "nothing", "empty-channel"],
)
def test_bad_series_are_refused(series, call, fit):
    extractor = FeatureExtractor(2)
    with pytest.raises(ValueError, match=call):
        extractor(series)
    if fit is not None:
        with pytest.raises(ValueError, match=fit):
            extractor.fit(series)
        assert extractor.mean is None
