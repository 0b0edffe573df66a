"""The estimator: scikit-learn's contract, series in every form, and that nothing is left behind."""

import os
import pickle
import random
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from transformers import AutoModelForSequenceClassification, TrainerState, pipeline
from transformers.utils import logging

from hf_primaldual import PrimalDualTimeSeriesClassifier, PrimalDualTimeSeriesFeatureExtractor
from hf_primaldual.data import load_uea
from hf_primaldual.estimator_training import hold_out, still_falling
from hf_primaldual.hub import load_check
from hf_primaldual.hub.checkpoint import RECORD, write_record
from tests.hub.loopback.client import Client
from tests.hub.loopback.server import LoopbackHub
from tests.modeling.isolated import run_isolated
from tests.modeling.series import CHANNELS, small_model

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "random_state": 0}
# Ten steps, with one look at what is held out.
BRIEF = {**SMALL, "num_train_epochs": 1, "min_steps": 10}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def arrays(split) -> tuple[list[np.ndarray], np.ndarray]:
    series = [np.array(one) for one in split["past_values"]]
    return series, np.array(split.features["labels"].int2str(split["labels"]))


@pytest.fixture(scope="module")
def vowels():
    """Real series of several lengths: 60 of 12 channels and 9 classes."""
    return arrays(load_uea("JapaneseVowels")["train"].shuffle(seed=0).select(range(60)))


@pytest.fixture(scope="module")
def motions():
    """Real series of one length: 40 of 6 channels and 4 classes."""
    return arrays(load_uea("BasicMotions")["train"])


@pytest.fixture(scope="module")
def italy():
    """Real univariate series as rows: 67 of 24 steps and 2 classes."""
    series, labels = arrays(load_uea("ItalyPowerDemand")["train"])
    return np.stack(series)[:, :, 0], labels


@pytest.fixture(scope="module")
def fitted(vowels) -> PrimalDualTimeSeriesClassifier:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return PrimalDualTimeSeriesClassifier(**BRIEF).fit(*vowels)


LEARNING = PrimalDualTimeSeriesClassifier(
    **{**SMALL, "min_steps": 30, "num_train_epochs": 2, "learning_rate": 5e-3},
    training_args={"eval_steps": 30, "logging_steps": 30},
)


@pytest.mark.slow
@parametrize_with_checks([LEARNING])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def long_table(series: list[np.ndarray]) -> pd.DataFrame:
    """One row a step, and no order among the rows."""
    tables = [pd.DataFrame(values).assign(id=row, time=range(len(values))) for row, values in enumerate(series)]
    table = pd.concat(tables).sample(frac=1, random_state=0)
    table.columns = table.columns.astype(str)
    return table.sort_values("id", kind="stable")


@pytest.mark.parametrize(
    ("form", "params"),
    [
        (lambda series: [values.T for values in series], {"channels_first": True}),
        (long_table, {"layout": {"id_column": "id", "time_column": "time"}}),
        (lambda series: pd.DataFrame({"past_values": [list(map(list, values)) for values in series]}), {}),
        (lambda series: np.array([*series, None], dtype=object)[:-1], {}),
    ],
    ids=["channels first", "long table", "lists in a column", "array of arrays"],
)
def test_a_form_of_series_changes_nothing(fitted, vowels, form, params):
    series, labels = vowels
    classifier = PrimalDualTimeSeriesClassifier(**BRIEF, **params).fit(form(series), labels)
    np.testing.assert_array_equal(classifier.predict_proba(form(series)), fitted.predict_proba(series))


def test_rows_are_univariate_series(italy):
    rows, labels = italy
    columns = [f"hour {hour}" for hour in range(24)]
    classifier = PrimalDualTimeSeriesClassifier(**BRIEF).fit(pd.DataFrame(rows, columns=columns), labels)
    expected = classifier.predict_proba(pd.DataFrame(rows, columns=columns))
    assert list(classifier.feature_names_in_) == columns
    # A refit forgets what scikit-learn holds rows to.
    classifier.fit(rows[:, :, None], labels)
    assert not hasattr(classifier, "n_features_in_")
    np.testing.assert_array_equal(classifier.predict_proba(rows), expected)
    np.testing.assert_array_equal(classifier.predict_proba(list(rows[:, :, None])), expected)


def test_a_table_may_hold_the_classes(vowels, tmp_path):
    series, labels = vowels
    table = long_table(series)
    table["label"] = labels[table["id"]]
    layout = {"id_column": "id", "time_column": "time", "label_column": "label"}
    classifier = PrimalDualTimeSeriesClassifier(**BRIEF, layout=layout).fit(table)
    predicted = classifier.predict(table)
    assert set(predicted) <= set(labels)
    # What is to be predicted has no classes yet.
    table.drop(columns="label").to_csv(tmp_path / "new.csv", index=False)
    for new in (table.drop(columns="label"), tmp_path / "new.csv"):
        np.testing.assert_array_equal(classifier.predict(new), predicted)
    # Labels of another order are found by id.
    by_id = pd.Series(labels, index=range(len(labels)))[::-1]
    again = clone(classifier).fit(table.drop(columns="label"), by_id)
    np.testing.assert_array_equal(again.predict_proba(table), classifier.predict_proba(table))


@pytest.mark.parametrize("class_weight", [None, {"Walking": 3, "Running": 0.5, "Standing": 0.5, "Badminton": 0.5}])
def test_the_best_weights_on_what_is_held_out_are_kept(motions, class_weight):
    series, labels = motions
    params = {**SMALL, "min_steps": 60, "num_train_epochs": 1, "learning_rate": 0.02, "validation_share": 0.2}
    params |= {"early_stopping_patience": 2, "class_weight": class_weight}
    classifier = PrimalDualTimeSeriesClassifier(**params).fit(series, labels)
    losses = [entry["eval_loss"] for entry in classifier.history_ if "eval_loss" in entry]
    classes, targets = np.unique(labels, return_inverse=True)
    seed = np.random.RandomState(0).randint(np.iinfo(np.int32).max)
    train, rows = hold_out(targets, classes, 0.2, seed)
    assert len(rows) == 8
    assert np.bincount(targets[rows]).tolist() == [2, 2, 2, 2]
    chances = classifier.predict_proba([series[row] for row in rows])[np.arange(8), targets[rows]]
    # On average over the training set, of as many series of each class, a weight is 1.
    weights = 8 / 9 * np.array([(class_weight or dict.fromkeys(classes, 9 / 8))[label] for label in labels[rows]])
    assert -np.mean(weights * np.log(chances)) == pytest.approx(min(losses), abs=1e-4)
    steps = np.concatenate([series[row] for row in train])
    np.testing.assert_allclose(classifier.feature_extractor_.mean, steps.mean(0), atol=1e-6)


def test_patience_ends_a_training(motions):
    # With a rate of 0 no evaluation is better than the first.
    classifier = PrimalDualTimeSeriesClassifier(
        **SMALL, min_steps=60, learning_rate=0.0, num_train_epochs=1, early_stopping_patience=2
    )
    assert classifier.fit(*motions).n_iter_ == 30


def test_without_what_is_held_out_all_is_trained_on(motions):
    series, labels = motions
    classifier = PrimalDualTimeSeriesClassifier(**BRIEF, validation_share=0).fit(series, labels)
    assert classifier.n_iter_ == 10
    assert not any("eval_loss" in entry for entry in classifier.history_)
    np.testing.assert_allclose(classifier.feature_extractor_.mean, np.concatenate(series).mean(0), atol=1e-6)


@pytest.mark.parametrize(
    ("losses", "steps", "expected"),
    [
        ([1.2, 1.0, 0.8, 0.6, 0.4], 50, True),
        ([1.2, 1.0, 0.8, 0.6, 0.4], 60, False),
        ([1.2, 0.4, 0.41, 0.4, 0.39], 50, False),
        ([1.2, 0.8, 0.4, 0.6, 0.7], 50, False),
        ([1.5, 1.6, 1.7, 1.8, 1.9], 50, False),
    ],
    ids=["falls to the end", "stopped early", "settled", "rises again", "never learned"],
)
@pytest.mark.parametrize("name", ["eval_loss", "loss"])
def test_what_is_not_converged(losses, steps, expected, name):
    history = [{name: loss, "step": 10 * (place + 1)} for place, loss in enumerate(losses)]
    state = TrainerState(log_history=history, global_step=50, max_steps=steps)
    assert still_falling(state, classes=4) is expected


def test_a_short_training_warns(motions):
    classifier = PrimalDualTimeSeriesClassifier(
        **BRIEF, training_args={"eval_steps": 1, "logging_steps": 1, "lr_scheduler_type": "constant_with_warmup"}
    )
    with pytest.warns(ConvergenceWarning, match="10 steps were over; raise `min_steps` or `num_train_epochs`"):
        classifier.fit(*motions)


@pytest.mark.processes
def test_a_checkpoint_is_one_like_any_other(fitted, vowels, tmp_path):
    series, _ = vowels
    expected = fitted.predict_proba(series)
    fitted.save_pretrained(tmp_path / "saved")
    loaded = PrimalDualTimeSeriesClassifier.from_pretrained(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict_proba(series), expected)
    assert loaded.classes_.dtype == fitted.classes_.dtype
    shared = ("attention", "hidden_size", "num_hidden_layers", "num_attention_heads", "dropout", "model_config")
    assert all(getattr(loaded, name) == getattr(fitted, name) for name in shared)
    answers = pipeline("time-series-classification", str(tmp_path / "saved"))(series[:4], top_k=1)
    assert [answer[0]["label"] for answer in answers] == fitted.predict(series[:4]).tolist()
    # Where the package is not installed, by its own code.
    write_record(tmp_path / "saved")
    check = Path(load_check.__file__)
    script = f"import runpy, sys; runpy.run_path({str(check)!r})['main'](*sys.argv[1:])"
    run_isolated(script, tmp_path, tmp_path / "saved", RECORD)


def test_classes_that_are_numbers_come_back_as_numbers(vowels, tmp_path):
    series, labels = vowels
    classifier = PrimalDualTimeSeriesClassifier(**BRIEF, channels_first=True)
    classifier.fit([values.T for values in series], labels.astype(int)).save_pretrained(tmp_path)
    loaded = PrimalDualTimeSeriesClassifier.from_pretrained(tmp_path)
    assert loaded.classes_.dtype == int
    assert loaded.predict([series[0].T]) in labels.astype(int)
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path).config.id2label[0] == "1"


def test_the_checkpoint_of_another_training_is_read_as_it_is(tmp_path):
    extractor = PrimalDualTimeSeriesFeatureExtractor(CHANNELS).fit([torch.randn(9, CHANNELS).numpy()])
    model = small_model(norm_type="batch", norm_position="post", bn_beta=0.5)
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    classifier = PrimalDualTimeSeriesClassifier.from_pretrained(tmp_path, random_state=0)
    assert classifier.classes_.tolist() == list(model.config.id2label.values())
    assert classifier.num_hidden_layers == model.config.num_hidden_layers
    series = [np.random.default_rng(length).normal(size=(length, CHANNELS)) for length in (5, 9, 7, 8, 6, 4, 3, 9)]
    answers = [model(**extractor(values, return_tensors="pt")).logits.softmax(-1)[0].tolist() for values in series]
    np.testing.assert_allclose(classifier.predict_proba(series), answers, atol=1e-6)
    # It goes on from there: at a learning rate of 0 it stays as it was.
    classifier.set_params(warm_start=True, learning_rate=0.0, num_train_epochs=1, min_steps=1, validation_share=0)
    classifier.fit(series, np.repeat(classifier.classes_, 2))
    state = classifier.model_.state_dict()
    for name, value in model.state_dict().items():
        assert "running" in name or "num_batches" in name or torch.equal(state[name], value), name


def test_a_warm_start_goes_on(fitted, vowels):
    series, labels = vowels
    still = {"learning_rate": 0.0, "warm_start": True}
    classifier = pickle.loads(pickle.dumps(fitted)).set_params(**still, random_state=1).fit(series, labels)
    np.testing.assert_array_equal(classifier.predict_proba(series), fitted.predict_proba(series))
    cold = clone(classifier).set_params(warm_start=False).fit(series, labels)
    assert (cold.predict_proba(series) != fitted.predict_proba(series)).all()
    with pytest.raises(ValueError, match="a model of these parameters has not"):
        classifier.set_params(hidden_size=32).fit(series, labels)
    with pytest.raises(ValueError, match="goes on with the classes"):
        classifier.set_params(hidden_size=16).fit(series, np.where(labels == "1", "one", labels))


def test_it_works_inside_scikit_learns_tools(italy):
    rows, labels = italy
    classifier = PrimalDualTimeSeriesClassifier(**BRIEF)
    search = GridSearchCV(classifier, {"attention": ["softmax", "bn", "linear-bn+sh"]}, cv=2, error_score="raise")
    search.fit(rows, labels)
    assert search.best_estimator_.model_.config.attention == search.best_params_["attention"]
    assert len(set(search.cv_results_["mean_test_score"])) > 1
    # Series in a list, which cross-validation takes apart.
    scores = cross_val_score(classifier, list(rows[:, :, None]), labels, cv=2, error_score="raise")
    assert scores.tolist() == cross_val_score(classifier, rows, labels, cv=2).tolist()
    piped = make_pipeline(StandardScaler(), classifier).fit(rows, labels)
    assert piped.score(rows, labels) == np.mean(piped.predict(rows) == labels)


def test_nothing_is_left_behind(italy, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temporary").mkdir()
    before = (random.getstate(), torch.get_rng_state(), dict(os.environ))
    numbers, settings = np.random.get_state(), (torch.get_num_threads(), logging.get_verbosity())
    bars = logging.is_progress_bar_enabled()
    classifier = PrimalDualTimeSeriesClassifier(**BRIEF, n_jobs=2)
    classifier.fit(*italy).predict(italy[0])
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert dict(os.environ) == before[2]
    assert all(np.array_equal(now, then) for now, then in zip(np.random.get_state(), numbers, strict=True))
    assert (torch.get_num_threads(), logging.get_verbosity()) == settings
    assert logging.is_progress_bar_enabled() == bars
    assert list(tmp_path.rglob("*")) == [tmp_path / "temporary"]
    assert capfd.readouterr() == ("", "")
    classifier.set_params(verbose=True).fit(*italy)
    out, err = capfd.readouterr()
    assert out == ""
    assert "10/10" in err
    assert "eval_loss=" in err


def test_random_state_decides_all(motions):
    answers = {}
    for seed in (0, 0, 1, None, None):
        np.random.seed(0 if seed is None else 1)
        classifier = PrimalDualTimeSeriesClassifier(**{**BRIEF, "random_state": seed}).fit(*motions)
        # Without a seed numpy's numbers decide, and go on.
        answers.setdefault(seed, []).append(classifier.predict_proba(motions[0]))
    np.testing.assert_array_equal(*answers[0])
    np.testing.assert_array_equal(*answers[None])
    assert not np.allclose(answers[0][0], answers[1][0])
    np.random.seed(0)
    classifier = PrimalDualTimeSeriesClassifier(**{**BRIEF, "random_state": None}).fit(*motions)
    assert not np.allclose(classifier.fit(*motions).predict_proba(motions[0]), answers[None][0])


@pytest.mark.parametrize("missing_values", ["error", "mean"])
def test_missing_values(italy, missing_values):
    rows, labels = italy
    gaps = rows.copy()
    gaps[3, 5:9] = np.nan
    filled = np.where(np.isnan(gaps), np.nanmean(gaps), gaps)
    classifier = PrimalDualTimeSeriesClassifier(**BRIEF, validation_share=0, missing_values=missing_values)
    for shape in (gaps, gaps[:, :, None]):
        if missing_values == "error":
            with pytest.raises(ValueError, match="NaN"):
                classifier.fit(shape, labels)
        else:
            answers = classifier.fit(shape, labels).predict_proba(shape)
            np.testing.assert_allclose(answers, classifier.predict_proba(filled), atol=1e-6)


def test_one_class_is_all_it_answers(italy, tmp_path):
    rows, _ = italy
    classifier = PrimalDualTimeSeriesClassifier(**BRIEF).fit(rows[:9], ["only"] * 9)
    assert classifier.predict(rows).tolist() == ["only"] * len(rows)
    np.testing.assert_array_equal(classifier.predict_proba(rows), 1.0)
    classifier.save_pretrained(tmp_path)
    assert PrimalDualTimeSeriesClassifier.from_pretrained(tmp_path).predict(rows[:1]).tolist() == ["only"]


@pytest.mark.parametrize(
    ("params", "change", "message"),
    [
        ({}, lambda X, y: (X, np.where(np.arange(len(y)) == 0, "rare", y)), "one sample alone of 1 of its .*'rare'"),
        ({}, lambda X, y: (X, y[:-1]), "inconsistent numbers of samples"),
        ({}, lambda X, y: (X, None), "requires y to be passed.*holds no classes"),
        ({}, lambda X, y: ([*X[:-1], X[-1][:, :3]], y), "not of 12 channels"),
        ({}, lambda X, y: ([values.T for values in X], y), "channels_first=True"),
        ({"missing_values": "mean"}, lambda X, y: ([np.full_like(X[0], np.nan), *X[1:]], y), "no value at all"),
        ({"layout": {"id_colum": "id"}}, lambda X, y: (X, y), "id_column"),
        ({"attention": "bn-sh"}, lambda X, y: (X, y), "'bn-sh'"),
        ({"model_config": {"norm_typ": "batch"}}, lambda X, y: (X, y), "norm_type"),
        ({"model_config": {"max_position_embeddings": 9}}, lambda X, y: (X, y), "has positions for 9"),
        ({"training_args": {"weight_decy": 0.1}}, lambda X, y: (X, y), "weight_decy"),
        ({"validation_share": 1.0}, lambda X, y: (X, y), "`validation_share` must lie from 0 to below 1, got 1.0"),
        (
            {"per_device_train_batch_size": 0},
            lambda X, y: (X, y),
            "`per_device_train_batch_size` must be at least 1, got 0",
        ),
        ({"training_args": {"seed": 1}}, lambda X, y: (X, y), "must not hold seed"),
        ({"model_config": {"hidden_size": 8}}, lambda X, y: (X, y), "must not hold hidden_size"),
        ({"learning_rate": 1e30}, lambda X, y: (X, y), "lower `learning_rate`"),
    ],
)
def test_what_cannot_be_trained_on_is_told_in_a_sentence(vowels, params, change, message):
    classifier = PrimalDualTimeSeriesClassifier(**{**BRIEF, **params})
    with pytest.raises((ValueError, TypeError), match=message):
        classifier.fit(*change(*vowels))
    with pytest.raises(NotFittedError):
        classifier.predict(vowels[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: [np.concatenate([X[0]] * 9)], "has positions for"),
        (lambda X: [values[:, :3] for values in X], "series of 3 channels, and the model was fitted on 12"),
        (lambda X: [values[:5].T for values in X], "looks like .channels, time.: set `channels_first=True`"),
        (lambda X: X[0], r"one series with channels is `X\[None\]`"),
    ],
)
def test_what_cannot_be_predicted_is_told_in_a_sentence(fitted, vowels, change, message):
    with pytest.raises(ValueError, match=message):
        fitted.predict(change(vowels[0]))


def test_a_longer_series_than_those_of_the_training_is_read(fitted, vowels):
    longest = max(vowels[0], key=len)
    assert fitted.predict([np.concatenate([longest, longest])]).shape == (1,)


def answers_there_and_back(classifier: PrimalDualTimeSeriesClassifier, series: list[np.ndarray]) -> np.ndarray:
    classifier.push_to_hub("tester/vowels", private=True)
    return PrimalDualTimeSeriesClassifier.from_pretrained("tester/vowels").predict_proba(series)


@pytest.mark.processes
def test_it_is_uploaded_and_downloaded(fitted, vowels, tmp_path):
    with LoopbackHub(tmp_path / "hub") as hub, Client(hub.endpoint, tmp_path / "home") as client:
        answers = client(answers_there_and_back, fitted, vowels[0])
        assert hub.repositories["tester/vowels"].private
        assert hub.count("/commit/") == 1
    np.testing.assert_allclose(answers, fitted.predict_proba(vowels[0]), atol=1e-6)
