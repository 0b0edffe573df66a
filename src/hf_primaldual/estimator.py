"""A classifier of time series with scikit-learn's contract, trained by transformers' Trainer."""

import json
import math
import tempfile
import warnings
from copy import deepcopy
from dataclasses import fields
from os import PathLike
from typing import Any

import numpy as np
import torch
from huggingface_hub import CommitInfo, HfApi
from huggingface_hub.errors import StrictDataclassError
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_random_state, compute_class_weight
from sklearn.utils.validation import check_is_fitted
from transformers import PreTrainedConfig

from .estimator_input import series_and_classes, series_to_classify
from .estimator_training import (
    EVALUATION_BATCH,
    as_it_was,
    collate,
    copy_weights,
    hold_out,
    standardize,
    still_falling,
    threads,
    train_quietly,
    without_bars,
)
from .modeling.configuration_primal_dual_models import PrimalDualTimeSeriesConfig
from .modeling.feature_extraction_primal_dual import PrimalDualTimeSeriesFeatureExtractor
from .modeling.modeling_primal_dual_time_series import PrimalDualTimeSeriesForSequenceClassification

# Of the model, where neither a parameter nor `model_config` says otherwise.
_MODEL = {"norm_type": "layer", "norm_position": "pre", "pooling": "flatten", "initializer_range": 0.05}
# The paper's set-up: batch norms, if there are enough series that a batch's statistics hold for others.
_NORMS_OF_MANY = {"norm_type": "batch", "norm_position": "post"}
_MANY = 200
_RATE, _RATE_OF_MANY = 3e-4, 1e-3
# Parameters that are fields of the model's configuration.
_FIELDS = {
    "attention": "attention",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "dropout": "hidden_dropout_prob",
}
# Parameters, or what follows from them, that are fields of `TrainingArguments`.
_TRAINING = ("learning_rate", "num_train_epochs", "per_device_train_batch_size", "seed", "disable_tqdm")
_OF_THE_DATA = {"num_channels", "max_position_embeddings", "hf_primaldual_version"}


class PrimalDualTimeSeriesClassifier(ClassifierMixin, BaseEstimator):
    r"""
    Classifies time series by a transformer encoder with the primal-dual framework's attentions.

    Series are standardized by the training set, a share of which is held out: what is kept are the weights that do
    best on it.

    Args:
        attention (`str`, *optional*, defaults to `"bn+sh"`):
            The preset, as [`PrimalDualConfig`] names them.
        hidden_size, num_hidden_layers, num_attention_heads (`int`, *optional*, defaults to 64, 3 and 8):
            Size of the model.
        dropout (`float`, *optional*, defaults to 0.1):
            Dropout of sublayers and the classifier. Attention maps have none, so that they need not be formed.
        model_config (`dict`, *optional*):
            Further fields of [`PrimalDualTimeSeriesConfig`], such as `{"bn_beta": 0.5}`. By default a model that is
            trained on 200 series or more has batch norms after its sublayers, one of fewer has layer norms before
            them.
        learning_rate (`float`, *optional*):
            Peak learning rate of AdamW; it rises for a tenth of the steps and falls along a cosine. By default 1e-3
            for 200 series or more, and 3e-4 for fewer.
        per_device_train_batch_size (`int`, *optional*, defaults to 16):
            Series per step.
        num_train_epochs (`int`, *optional*, defaults to 40):
            Passes through the training set at most, but
        min_steps (`int`, *optional*, defaults to 300):
            as many more as make so many steps.
        training_args (`dict`, *optional*):
            Further fields of transformers' `TrainingArguments`, such as `{"weight_decay": 0.01}`.
        validation_share (`float`, *optional*, defaults to 0.1):
            Share of the training set that is held out, by class. With 0 all of it is trained on, to the end.
        early_stopping_patience (`int`, *optional*, defaults to 20):
            Training ends after so many evaluations without a smaller loss on what is held out. There are about 40, and
            ten steps at least between two.
        class_weight (`dict` or `"balanced"`, *optional*):
            Weight of each class in the loss, as scikit-learn has it.
        missing_values (`str`, *optional*, defaults to `"error"`):
            What becomes of a NaN: `"error"`, or `"mean"`, the channel's training mean.
        channels_first (`bool`, *optional*, defaults to `False`):
            Series are `(channels, time)`, as aeon and sktime have them.
        layout (`dict`, *optional*):
            Where a table has its series: fields of `hf_primaldual.data.SeriesLayout`, such as
            `{"id_column": "patient", "time_column": "day"}`.
        warm_start (`bool`, *optional*, defaults to `False`):
            `fit` goes on from the weights and the standardization that there are.
        random_state (`int`, `RandomState`, *optional*):
            Draws the initial weights, what is held out, batches and dropout.
        n_jobs (`int`, *optional*):
            Threads, as scikit-learn counts them: 1 by default, which is fastest for models this small; -1 for all.
        verbose (`bool`, *optional*, defaults to `False`):
            Shows a progress bar.

    Attributes:
        classes_ (array): the classes, sorted.
        model_ ([`PrimalDualTimeSeriesForSequenceClassification`]), feature_extractor_
            ([`PrimalDualTimeSeriesFeatureExtractor`]): what was trained.
        n_iter_ (`int`): steps that were taken.
        history_ (`list[dict]`): Trainer's log: training loss, and loss on what is held out.

    Example:

    ```python
    >>> from hf_primaldual import PrimalDualTimeSeriesClassifier

    >>> classifier = PrimalDualTimeSeriesClassifier(random_state=0).fit(series, labels)
    >>> classifier.predict_proba(new_series)
    >>> classifier.save_pretrained("my-classifier")
    ```
    """

    classes_: np.ndarray
    model_: PrimalDualTimeSeriesForSequenceClassification
    feature_extractor_: PrimalDualTimeSeriesFeatureExtractor
    n_iter_: int
    history_: list[dict[str, Any]]

    def __init__(
        self,
        attention: str = "bn+sh",
        *,
        hidden_size: int = 64,
        num_hidden_layers: int = 3,
        num_attention_heads: int = 8,
        dropout: float = 0.1,
        model_config: dict[str, Any] | None = None,
        learning_rate: float | None = None,
        per_device_train_batch_size: int = 16,
        num_train_epochs: int = 40,
        min_steps: int = 300,
        training_args: dict[str, Any] | None = None,
        validation_share: float = 0.1,
        early_stopping_patience: int = 20,
        class_weight: dict | str | None = None,
        missing_values: str = "error",
        channels_first: bool = False,
        layout: dict[str, Any] | None = None,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        verbose: bool = False,
    ):
        self.attention = attention
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.dropout = dropout
        self.model_config = model_config
        self.learning_rate = learning_rate
        self.per_device_train_batch_size = per_device_train_batch_size
        self.num_train_epochs = num_train_epochs
        self.min_steps = min_steps
        self.training_args = training_args
        self.validation_share = validation_share
        self.early_stopping_patience = early_stopping_patience
        self.class_weight = class_weight
        self.missing_values = missing_values
        self.channels_first = channels_first
        self.layout = layout
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = self.missing_values == "mean"
        return tags

    def fit(self, X: Any, y: Any = None) -> "PrimalDualTimeSeriesClassifier":
        """
        Trains on series.

        Args:
            X: The series: a list of arrays `(time, channels)`, of any lengths; an array `(cases, time, channels)`; an
                array or a DataFrame of numbers `(cases, time)`, univariate; or what
                `hf_primaldual.data.series_dataset` reads, such as a long table with a `layout`, or a file.
            y: The class of each series. It may be left out where `X` holds them.

        Returns:
            This classifier.

        Raises:
            ValueError: for series or classes that cannot be trained on, or a loss that is not finite.

        Warns:
            ConvergenceWarning: the loss on what is held out was still falling when the steps were over.
        """
        self._check_settings()
        series, y = series_and_classes(self, X, y)
        classes, targets = np.unique(y, return_inverse=True)
        before = self.model_ if self.warm_start and hasattr(self, "model_") else None
        if before is not None and not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"`warm_start` goes on with the classes {self.classes_.tolist()}, but `y` has {classes.tolist()}."
            )
        # Drawn as scikit-learn draws: without a `random_state` numpy's global numbers go on.
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        train, held_out = hold_out(targets, classes, self.validation_share, seed)
        many = len(train) >= _MANY
        default_rate = _RATE_OF_MANY if many else _RATE
        if before is None:
            norms = _NORMS_OF_MANY if many else {}
            channels = np.shape(series[0])[1]
            feature_extractor = PrimalDualTimeSeriesFeatureExtractor(channels, missing_values=self.missing_values)
            feature_extractor.fit(series[row] for row in train)
            # Where lengths differ, those to come may be longer.
            lengths = set(map(len, series))
            positions = max(lengths) * (1 if len(lengths) == 1 else 2)
        else:
            feature_extractor, positions = self.feature_extractor_, before.config.max_position_embeddings
            norms = {name: getattr(before.config, name) for name in _NORMS_OF_MANY}
        class_weights = self._class_weights(classes, targets[train])
        with as_it_was(), threads(self.n_jobs):
            torch.default_generator.manual_seed(seed)
            model = PrimalDualTimeSeriesForSequenceClassification(
                self._config(classes, feature_extractor.feature_size, {"max_position_embeddings": positions, **norms})
            )
            if before is not None:
                copy_weights(before, model)
            values = standardize(series, feature_extractor, model.config.max_position_embeddings)
            examples = [{"past_values": x, "labels": int(label)} for x, label in zip(values, targets, strict=True)]
            train, held_out = ([examples[row] for row in rows] for rows in (train, held_out))
            epochs = self.num_train_epochs * math.ceil(len(train) / self.per_device_train_batch_size)
            settings = {
                "max_steps": max(epochs, self.min_steps),
                "per_device_train_batch_size": self.per_device_train_batch_size,
                "learning_rate": default_rate if self.learning_rate is None else self.learning_rate,
                "seed": seed,
                "disable_tqdm": not self.verbose,
                **(self.training_args or {}),
            }
            state = train_quietly(
                model, feature_extractor, train, held_out, settings, self.early_stopping_patience, class_weights
            )
        self.classes_, self.model_, self.feature_extractor_ = classes, model.eval(), feature_extractor
        self.n_iter_, self.history_ = state.global_step, state.log_history
        if still_falling(state, len(classes)):
            warnings.warn(
                f"the training has not converged: the loss was still falling when its {state.max_steps} steps were "
                "over; raise `min_steps` or `num_train_epochs`.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """
        Args:
            X: Series, in any form that `fit` takes.

        Returns:
            Probabilities of shape `(cases, classes)`, in the order of `classes_`; of a long table in the order in
            which its ids first come.

        Raises:
            ValueError: for series of other channels than those of the training, or longer than the model's positions.
        """
        check_is_fitted(self)
        series = series_to_classify(self, X)
        values = standardize(series, self.feature_extractor_, self.model_.config.max_position_embeddings)
        rows = []
        with threads(self.n_jobs), torch.inference_mode():
            for start in range(0, len(values), EVALUATION_BATCH):
                examples = [{"past_values": x} for x in values[start : start + EVALUATION_BATCH]]
                batch = collate(self.feature_extractor_, examples).to(self.model_.device)
                rows.append(self.model_(**batch).logits.double().softmax(-1).cpu().numpy())
        return np.concatenate(rows)

    def predict(self, X: Any) -> np.ndarray:
        """
        Args:
            X: Series, in any form that `fit` takes.

        Returns:
            The class of each, of shape `(cases,)`.
        """
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def save_pretrained(self, folder: str | PathLike) -> None:
        """
        Saves a checkpoint: model, feature extractor and code, for [`~PrimalDualTimeSeriesClassifier.from_pretrained`],
        for `AutoModelForSequenceClassification`, and for `pipeline("time-series-classification", folder)`.
        """
        check_is_fitted(self)
        # What the names of the classes do not say, and what `predict` reads series by.
        self.model_.config.estimator = {
            "classes": self.classes_.tolist(),
            "channels_first": self.channels_first,
            "layout": self.layout,
        }
        with without_bars():
            self.model_.save_pretrained(folder)
            self.feature_extractor_.save_pretrained(folder)

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, token: str | None = None) -> CommitInfo:
        """Uploads what `save_pretrained` saves, in one commit, to a repository that is made if there is none."""
        api = HfApi(token=token)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            api.create_repo(repo_id, private=private, exist_ok=True)
            return api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload a classifier")

    @classmethod
    def from_pretrained(
        cls, source: str | PathLike, *, revision: str | None = None, token: str | None = None, **params: Any
    ) -> "PrimalDualTimeSeriesClassifier":
        """
        Loads a classifier from a folder or the Hub.

        Args:
            source: What `save_pretrained` or a training of this package saved.
            revision, token: as for transformers' `from_pretrained`.
            params: Parameters of the classifier. By default those of the model are the checkpoint's, and those of the
                training as for a new one.
        """
        where: dict[str, Any] = {"revision": revision, "token": token}
        with without_bars():
            model = PrimalDualTimeSeriesForSequenceClassification.from_pretrained(source, **where)
            feature_extractor = PrimalDualTimeSeriesFeatureExtractor.from_pretrained(source, **where)
        config = model.config
        saved = dict(getattr(config, "estimator", None) or {})
        id2label: dict[Any, str] = config.id2label
        classes = saved.pop("classes", [id2label[place] for place in range(config.num_labels)])
        saved |= {name: getattr(config, field) for name, field in _FIELDS.items()}
        classifier = cls(**{**saved, "missing_values": feature_extractor.missing_values, **params})
        if "model_config" not in params:
            default = PrimalDualTimeSeriesConfig(**classifier._model_fields({}))
            # As JSON has them: a list is not a tuple.
            here, there = (json.loads(one.to_json_string(use_diff=False)) for one in (config, default))
            names = {field.name for field in fields(config)} - {field.name for field in fields(PreTrainedConfig)}
            others = {name: here[name] for name in sorted(names - _OF_THE_DATA) if here[name] != there[name]}
            classifier.model_config = others or None
        classifier.classes_ = np.array(classes)
        classifier.model_, classifier.feature_extractor_ = model.eval(), feature_extractor
        return classifier

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if "model_" in state and state["model_"].device.type != "cpu":
            # Who loads it may have no such device.
            state = {**state, "model_": deepcopy(state["model_"]).cpu()}
        return state

    def _check_settings(self) -> None:
        """Refuses what neither the model's configuration nor Trainer would refuse."""
        for name in ("per_device_train_batch_size", "num_train_epochs", "early_stopping_patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.validation_share < 1:
            raise ValueError(f"`validation_share` must lie from 0 to below 1, got {self.validation_share}.")
        for name, own in (("model_config", _FIELDS.values()), ("training_args", _TRAINING)):
            if twice := sorted({*own}.intersection(getattr(self, name) or {})):
                raise ValueError(f"`{name}` must not hold {', '.join(twice)}: parameters of the classifier say that.")

    def _model_fields(self, of_the_data: dict[str, Any]) -> dict[str, Any]:
        """Fields of the configuration, of which the data have decided some that `model_config` does not."""
        given = {field: getattr(self, name) for name, field in _FIELDS.items()}
        derived = {"attention_probs_dropout_prob": 0.0, "intermediate_size": 4 * self.hidden_size}
        return {**_MODEL, **of_the_data, **given, **derived, **(self.model_config or {})}

    def _config(self, classes: np.ndarray, channels: int, of_the_data: dict[str, Any]) -> PrimalDualTimeSeriesConfig:
        names = [str(name) for name in classes.tolist()]
        # To transformers one class is no classification; its only logit, softmax of which is 1, decides nothing.
        only = len(names) == 1
        try:
            return PrimalDualTimeSeriesConfig(
                **self._model_fields(of_the_data),
                num_channels=channels,
                id2label=dict(enumerate(names)),
                label2id={name: place for place, name in enumerate(names)},
                problem_type="regression" if only else "single_label_classification",
            )
        except StrictDataclassError as error:
            raise ValueError(str(error.__cause__ or error)) from error

    def _class_weights(self, classes: np.ndarray, targets: np.ndarray) -> torch.Tensor | None:
        """The weight of each class, on average 1 over the training set."""
        if self.class_weight is None:
            return None
        weights = compute_class_weight(self.class_weight, classes=classes, y=classes[targets])
        return torch.tensor(weights / weights[targets].mean(), dtype=torch.float32)


__all__ = ["PrimalDualTimeSeriesClassifier"]
