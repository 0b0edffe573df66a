"""From raw series to answers: rows 6, 9, 11, 22 and 25 of the faults."""

import numpy as np
import pytest
import torch
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from hf_primaldual import PrimalDualTimeSeriesFeatureExtractor as FeatureExtractor
from hf_primaldual import TimeSeriesClassificationPipeline
from hf_primaldual.training.time_series import SeriesDataArguments, SeriesModelArguments, series_task
from tests.modeling.series import CHANNELS, small_model

rng = np.random.default_rng(0)
TIMES = 1.7e9 + rng.permutation(200) * 0.05
FORMS = {"array": np.asarray, "lists": np.ndarray.tolist, "tensor": torch.from_numpy}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_row_09_small_changes_on_a_large_offset_are_kept(form):
    values = 1e6 + np.random.default_rng(0).normal(0, 0.01, 200)
    series = form(values[:, None])
    found = FeatureExtractor().fit([series])([series], return_tensors="np")["past_values"][0, :, 0]
    np.testing.assert_allclose(found, (values - values.mean()) / values.std(), atol=1e-4)


def test_row_09_a_file_of_large_offsets_is_read_in_full(tmp_path):
    for split in ("TRAIN", "TEST"):
        rows = (",".join(map(str, TIMES[start : start + 20])) for start in range(0, 200, 20))
        rows = "\n".join(f"{row}:{'ab'[index % 2]}" for index, row in enumerate(rows))
        (tmp_path / f"Toy_{split}.ts").write_text(f"@univariate true\n@classLabel true a b\n@data\n{rows}\n")
    task = series_task(SeriesDataArguments("Toy", data_folder=str(tmp_path)), SeriesModelArguments())
    found = task.collate(list(task.splits["test"]))["past_values"].flatten()
    np.testing.assert_allclose(found, (TIMES - task.processor.mean[0]) / task.processor.std[0], atol=1e-4)


@pytest.mark.parametrize(
    ("problem_type", "labels", "default"),
    [
        ("regression", 3, "none"),
        ("multi_label_classification", 3, "sigmoid"),
        (None, 1, "sigmoid"),
        (None, 3, "softmax"),
    ],
)
def test_row_11_scores_follow_the_problem_type(problem_type, labels, default):
    model = small_model(num_labels=labels, problem_type=problem_type)
    extractor, series = FeatureExtractor(CHANNELS), rng.normal(size=(9, CHANNELS))
    with torch.no_grad():
        model.classifier.bias.add_(torch.arange(labels) - 150.7)
        logits = model(**extractor([series], return_tensors="pt")).logits[0]
    scores = {"none": logits, "sigmoid": logits.sigmoid(), "softmax": logits.softmax(-1)}
    classify = TimeSeriesClassificationPipeline(model=model, feature_extractor=extractor)
    by_label = {entry["label"]: entry["score"] for entry in classify(series)}
    assert by_label == pytest.approx(dict(zip(model.config.id2label.values(), scores[default].tolist(), strict=True)))
    for name, values in scores.items():
        answer = classify(series, function_to_apply=name)
        assert [entry["score"] for entry in answer] == pytest.approx(sorted(values.tolist(), reverse=True))
        chosen = TimeSeriesClassificationPipeline(model=model, feature_extractor=extractor, function_to_apply=name)
        assert chosen(series) == answer
    with pytest.raises(ValueError, match="`function_to_apply` must be of softmax, sigmoid, none, got 'tanh'"):
        classify(series, function_to_apply="tanh")


@pytest.mark.parametrize("form", [*FORMS.values(), list], ids=[*FORMS, "steps"])
@pytest.mark.parametrize("channels", [1, 3])
def test_row_11_a_series_in_any_form_has_one_answer(form, channels):
    model = small_model(num_channels=channels)
    classify = TimeSeriesClassificationPipeline(model=model, feature_extractor=FeatureExtractor(channels))
    first, second = rng.normal(size=(9, channels)), rng.normal(size=(9, channels))
    expected = [classify(first), classify(second)]
    assert classify(form(first)) == expected[0]
    assert classify([form(first)]) == [expected[0]]
    assert list(classify(form(series) for series in (first, second))) == classify([form(first), form(second)])
    if form is not list:
        assert classify(form(np.stack([first, second]))) == expected
    if channels == 1:
        assert classify(form(first[:, 0])) == expected[0]


@pytest.mark.parametrize(
    ("shape", "side", "form"),
    [
        ("(time,)", "right", torch.from_numpy),
        ("(time,)", "left", np.ndarray.tolist),
        ("(time, 1)", "left", np.asarray),
        ("(time, 3)", "right", np.ndarray.tolist),
        ("(time, 3)", "left", torch.from_numpy),
    ],
)
def test_row_25_ragged_series_are_padded(shape, side, form):
    channels = 3 if "3" in shape else 1
    raw = [rng.normal(5, 2, (length, channels)) for length in (5, 9, 2)]
    extractor = FeatureExtractor(channels, padding_side=side).fit(raw)
    ready = [extractor([series], return_tensors="np")["past_values"][0] for series in raw]
    ready = [form(values[:, 0] if shape == "(time,)" else values) for values in ready]
    whole = extractor(raw, return_tensors="pt")
    for label in (int, torch.tensor):
        pairs = zip(ready, (2, 0, 1), strict=True)
        rows = [{"past_values": values, "labels": label(index)} for values, index in pairs]
        batch = DataCollatorWithPadding(extractor, pad_to_multiple_of=4)(rows)
        assert (batch["past_values"].shape, batch["past_values"].dtype) == ((3, 12, channels), torch.float32)
        kept = slice(3, None) if side == "left" else slice(0, 9)
        for name in ("past_values", "attention_mask"):
            torch.testing.assert_close(batch[name][:, kept], whole[name])
        assert batch["attention_mask"].sum() == 16
        assert batch["labels"].tolist() == [2, 0, 1]


def test_row_25_a_mask_that_is_there_is_kept():
    rows = [{"past_values": np.ones((n, 2)), "attention_mask": [0] + [1] * (n - 1)} for n in (4, 2)]
    batch = FeatureExtractor(2).pad(rows, return_tensors="pt")
    assert batch["attention_mask"].tolist() == [[0, 1, 1, 1], [0, 1, 0, 0]]


@pytest.mark.parametrize("channels", [1, 3])
def test_row_25_trainer_with_the_extractor_alone(channels, tmp_path):
    raw = [rng.normal(5, 2, (length, channels)) for length in (5, 9, 2, 7)]
    extractor = FeatureExtractor(channels).fit(raw)
    values = [extractor([series], return_tensors="np")["past_values"][0] for series in raw]
    rows = [{"past_values": series, "labels": np.int64(index % 2)} for index, series in enumerate(values)]
    args = TrainingArguments(
        tmp_path, per_device_train_batch_size=2, num_train_epochs=1, use_cpu=True, report_to="none", save_strategy="no"
    )
    model = small_model(num_channels=channels, num_labels=2)
    trainer = Trainer(model, args, train_dataset=rows, eval_dataset=rows, processing_class=extractor)
    assert np.isfinite(trainer.train().training_loss)
    assert trainer.predict(rows).predictions.shape == (4, 2)


def test_row_06_a_misspelt_keyword_of_the_extractor_names_the_nearest_one(tmp_path):
    with pytest.raises(TypeError, match="`means`; did you mean `mean`"):
        FeatureExtractor(means=[1.0], stds=[1.0])
    with pytest.raises(TypeError, match="unexpected keyword argument `do_normalize`"):
        FeatureExtractor(do_normalize=True)
    FeatureExtractor(missing_values="mean", padding_side="left").save_pretrained(tmp_path)
    with pytest.raises(TypeError, match="`missing_value`; did you mean `missing_values`"):
        FeatureExtractor.from_pretrained(tmp_path, missing_value="error")
    file = tmp_path / "preprocessor_config.json"
    file.write_text(file.read_text().replace('"padding_side"', '"of_another_program": 1, "padding_side"'))
    loaded = FeatureExtractor.from_pretrained(tmp_path)
    assert (loaded.of_another_program, loaded.missing_values, loaded.padding_side) == (1, "mean", "left")


def pipeline(series):
    return TimeSeriesClassificationPipeline(model=small_model(), feature_extractor=FeatureExtractor(CHANNELS))(series)


def pad(*series):
    return FeatureExtractor(2, missing_values="mean").pad([{"past_values": values} for values in series])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FeatureExtractor(feature_size=0), "`feature_size` must be a number of channels"),
        (lambda: FeatureExtractor(missing_values="drop"), "`missing_values` must be 'error' or 'mean', got 'drop'"),
        (lambda: FeatureExtractor(std=[1.0, 1.0]), "`mean` and `std` go together; give both or neither"),
        (lambda: FeatureExtractor(mean=[0.0, 0.0], std=[1.0, 1.0]), "one entry for each of the 1 channels, got 2"),
        (lambda: FeatureExtractor(mean=[0.0], std=[0.0]), r"`std` must be positive and finite, got \[0.0\]"),
        (lambda: FeatureExtractor(mean=[0.0], std=[float("inf")]), "`std` must be positive and finite"),
        (lambda: FeatureExtractor(mean=[float("nan")], std=[1.0]), "`mean` must be finite"),
        (lambda: FeatureExtractor(padding_side="middle"), "`padding_side` must be 'left' or 'right', got 'middle'"),
        (lambda: FeatureExtractor().fit([np.array([-1e308, 1e308, 1e308])]), "finite mean and deviation"),
        (
            lambda: FeatureExtractor()([np.zeros(3), np.array([0, 0, 1e39])]),
            "Series 1 must be finite, got .inf. at step 2",
        ),
        (lambda: FeatureExtractor()(np.array([1.0, 2.0j])), r"Series 0 must be numbers .* complex"),
        *(
            (lambda none=none: FeatureExtractor()(none), "must be an array or a list of series")
            for none in (None, 3.0)
        ),
        (lambda: pad(np.ones((4, 2)), [[1, 1], [np.nan, 1]]), r"Series 1 must be finite, got .nan, 1.0. at step 1"),
        (lambda: pad(np.ones((4, 3))), r"Series 0 must have shape .*2 channels, got .4, 3."),
        (pad, "`past_values` must hold at least one series"),
        (lambda: FeatureExtractor().pad([{"labels": 1}]), "`past_values` must hold at least one series"),
        (lambda: pipeline([[1.0] * CHANNELS, [2.0]]), f"Series 0 must be numbers of shape .*{CHANNELS} channels"),
        (lambda: pipeline([]), "`series` must hold at least one series"),
    ],
)
def test_row_25_what_is_no_series_and_no_extractor_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_row_22_masked_values_are_missing():
    masked = np.ma.masked_greater(np.array([[1.0], [9.0], [3.0]]), 5)
    with pytest.raises(ValueError, match=r"Series 0 must be finite.* at step 1; clean a missing value"):
        FeatureExtractor()(masked)
    assert FeatureExtractor().fit([masked]).mean == [2.0]
