"""Results, card and checkpoint of models that any Trainer of transformers has trained, in a program of one's own."""

import copy
import datetime
import math
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import EvalPrediction, PreTrainedConfig, PreTrainedModel, Trainer, TrainingArguments

from ..measure import efficiency_point, environment
from .checkpoint import save_checkpoint
from .checks import without_places
from .curves import CURVES, plot_learning_curves
from .results import LANGUAGE, SCHEMA_VERSION, validate_results
from .scores import compute_accuracy_and_loss, compute_token_accuracy_and_loss, token_losses_and_hits
from .summary import compare, release, summarize

_KINDS = {
    "PrimalDualTimeSeriesForSequenceClassification": "time-series-classification",
    "PrimalDualTextForSequenceClassification": "text-classification",
    "PrimalDualTextForDocumentMatching": "document-matching",
    "PrimalDualViTForImageClassification": "image-classification",
    "PrimalDualTextForCausalLM": LANGUAGE,
}
# What the card tells of a model and of its training.
_OF_MODEL = (
    "hidden_size", "num_hidden_layers", "intermediate_size", "hidden_dropout_prob", "attention_probs_dropout_prob",
    "norm_type", "norm_position", "pooling", "max_position_embeddings", "image_size", "patch_size",
)  # fmt: skip
_OF_TRAINING = (
    "num_train_epochs", "max_steps", "learning_rate", "warmup_steps", "weight_decay", "max_grad_norm",
    "label_smoothing_factor",
)  # fmt: skip
Trainers = Trainer | Sequence[Trainer]


def results_from_trainer(
    trainer: Trainers,
    dataset: str | Mapping[str, Any],
    *,
    test_dataset: Any = None,
    validation_dataset: Any = None,
    baseline: Trainers | None = None,
    license: str = "",
    name: str | None = None,
    base_model: str | None = None,
    command: str | None = None,
    efficiency: bool = False,
) -> dict[str, Any]:
    """
    The results (`hub.results`) of a model of this package that a Trainer has trained: it predicts the validation and
    the test set once more, and the rest is read from its log and its arguments.

    Args:
        trainer: The Trainer after its training; or several, one for each seed and attention.
        dataset: The name of the data; or a mapping with `name` and whatever else is known of it, `source`, `licence`,
            `sha256` by file, `hub_id` (`hub.results.Dataset`).
        test_dataset: Examples that nothing was chosen by. Without them the results say that none were tested.
        validation_dataset: By default the Trainer's `eval_dataset`.
        baseline: Trainers of the model that it is compared with, of the same seeds; without one nothing is compared.
        license: Of the weights, an id of the Hub's such as `apache-2.0`; may be stated at publishing instead.
        name: Of the model; by default `primal-dual-DATA-ATTENTION`.
        base_model: The Hub's id of the checkpoint that the training started from.
        command: What was typed to train it; by default that of this process, of a notebook nothing.
        efficiency: Measures what the models cost, on a batch of the first set there is.

    Raises:
        ValueError: for a model that is none of this package, or what cannot be told from a Trainer.
    """
    own, theirs = _listed(trainer), _listed(baseline)
    trainers = [*theirs, *own]
    models = {_model(each).config.attention: _model(each) for each in trainers}
    if theirs and test_dataset is None:
        raise ValueError("`test_dataset` must be given with a `baseline`: they are compared on it.")
    runs = [_run(each, validation_dataset, test_dataset) for each in trainers]
    candidates = runs[len(theirs) :]
    if len(own) > 1 and any(run["validation_accuracy"] is None for run in candidates):
        raise ValueError("`validation_dataset` must be given where the best of several trainers is released.")
    attentions = list(dict.fromkeys(run["attention"] for run in candidates))
    base_name = runs[0]["attention"] if theirs else None
    task = _KINDS[type(_model(own[0])).__name__]
    best = release(candidates, attentions, task)
    chosen = own[candidates.index(best)]
    data = {"name": dataset} if isinstance(dataset, str) else dict(dataset)
    sets = {"train": chosen.train_dataset, "validation": _validation(chosen, validation_dataset), "test": test_dataset}
    slug = f"primal-dual-{data.get('name', '').lower()}-{best['attention']}"
    results = {
        "schema": SCHEMA_VERSION,
        "command": _command() if command is None else command,
        "date": datetime.date.today().isoformat(),
        "model_name": re.sub(r"[^A-Za-z0-9._-]+", "-", slug) if name is None else name,
        "task": task,
        "attention": best["attention"],
        "attentions": attentions,
        "baseline": base_name,
        "license": license,
        "dataset": {**_dataset(task, _model(chosen).config, sets), **without_places(data)},
        "settings": {
            "attentions": list(models),
            **_settings(chosen),
            "seeds": sorted({run["seed"] for run in runs}),
        },
        "runs": runs,
        "summary": {key: summarize(runs, key) for key in models},
        "comparisons": {} if base_name is None else compare(runs, attentions, base_name),
        "efficiency": [_measured(chosen, models, base_name, sets)] if efficiency else [],
        "trainer": type(chosen).__name__,
        **environment(),
    }
    if base_model is not None:
        results["base_model"] = base_model
    validate_results(results)
    return results


def checkpoint_from_trainer(
    folder: str | os.PathLike,
    trainer: Trainers,
    dataset: str | Mapping[str, Any],
    *,
    processor: Any = None,
    **options: Any,
) -> Path:
    """
    Writes the checkpoint of what a Trainer has trained, with results, learning curves and card, ready for `publish`;
    of several the one that is best on validation.

    Args:
        folder: The checkpoint's place, which is not the Trainer's `output_dir`.
        processor: What makes the model's inputs: feature extractor, tokenizer or image processor. By default the
            Trainer's `processing_class`.
        options: As for `results_from_trainer`, as are `trainer` and `dataset`.
    """
    results = results_from_trainer(trainer, dataset, **options)
    trainers = [*_listed(options.get("baseline")), *_listed(trainer)]
    chosen = next(each for each, run in zip(trainers, results["runs"], strict=True) if run["released"])
    processor = chosen.processing_class if processor is None else processor
    if processor is None:
        raise ValueError(
            "`processor` must be given, the feature extractor, tokenizer or image processor that makes the model's "
            "inputs: the trainer has no `processing_class`."
        )
    logged = [{**run, "history": history(each)} for each, run in zip(trainers, results["runs"], strict=True)]
    with tempfile.TemporaryDirectory() as place:
        plots = []
        if any(run["history"] for run in logged):
            plots = [Path(place) / CURVES]
            plot_learning_curves(logged, tuple(results["summary"]), plots[0], results["dataset"]["name"])
            results["plots"] = [CURVES]
        return save_checkpoint(folder, _model(chosen), processor, results, plots)


def training_settings(args: TrainingArguments) -> dict[str, Any]:
    """What a card tells of Trainer's arguments."""
    selection, written = "none, the last weights are kept", args.to_dict()
    if args.load_best_model_at_end:
        strategy = written["eval_strategy"]
        every = "epoch" if strategy == "epoch" else f"{args.eval_steps:g} steps"
        selection = f"validation {args.metric_for_best_model.removeprefix('eval_')}, once per {every}"
    return {
        "selection": selection,
        **{name: getattr(args, name) for name in _OF_TRAINING},
        "train_batch_size": args.train_batch_size * args.world_size * args.gradient_accumulation_steps,
        "optimizer": written["optim"],
        "lr_scheduler_type": written["lr_scheduler_type"],
        "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
        "processes": args.world_size,
    }


def best_epoch(trainer: Trainer) -> float | None:
    """The epoch whose weights the model now has: the best on validation, or the last if none was to be chosen."""
    state = trainer.state
    step = state.best_global_step if trainer.args.load_best_model_at_end else state.global_step
    return next((entry["epoch"] for entry in state.log_history if entry["step"] == step), state.epoch)


def history(trainer: Trainer) -> list[dict[str, float]]:
    """What was logged of losses and accuracies, by epoch and step."""
    shown = ("epoch", "step", "loss", "eval_loss", "eval_accuracy")
    entries = [{key: entry[key] for key in shown if key in entry} for entry in trainer.state.log_history]
    return [entry for entry in entries if len(entry) > 2]


def _listed(trainer: Trainers | None) -> list[Trainer]:
    if trainer is None:
        return []
    return [trainer] if isinstance(trainer, Trainer) else list(trainer)


def _model(trainer: Trainer) -> PreTrainedModel:
    model = trainer.accelerator.unwrap_model(trainer.model)
    if type(model).__name__ not in _KINDS:
        raise ValueError(
            f"`trainer` must have trained one of {', '.join(_KINDS)}, got a {type(model).__name__}. Of an adapter "
            "take `merge_and_unload()` first; another model of transformers is published by its own `push_to_hub`."
        )
    return model


def _validation(trainer: Trainer, given: Any) -> Any:
    dataset = trainer.eval_dataset if given is None else given
    if isinstance(dataset, Mapping):
        raise ValueError(f"`validation_dataset` must be one of the trainer's {', '.join(map(str, dataset))}.")
    return dataset


def _run(trainer: Trainer, validation_dataset: Any, test_dataset: Any) -> dict[str, Any]:
    """The entry of one Trainer for `runs`."""
    seconds = [entry["train_runtime"] for entry in trainer.state.log_history if "train_runtime" in entry]
    return {
        "attention": _model(trainer).config.attention,
        "seed": trainer.args.seed,
        "best_epoch": best_epoch(trainer),
        "epochs": trainer.state.epoch,
        **_scores(trainer, "validation", _validation(trainer, validation_dataset)),
        **_scores(trainer, "test", test_dataset),
        "train_seconds": round(seconds[-1], 2) if seconds else None,
        "steps": trainer.state.global_step,
        "released": False,
    }


def _dataset(task: str, config: PreTrainedConfig, sets: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the data without being told."""
    known: dict[str, Any] = {"source": "", "sha256": {}, "licence": None}
    known |= {"vocabulary": config.vocab_size} if task == LANGUAGE else {"classes": config.num_labels}
    known |= {name: len(split) if hasattr(split, "__len__") else None for name, split in sets.items()}
    if hasattr(config, "num_channels"):
        known["channels"] = config.num_channels
    if hasattr(config, "image_size"):
        size = config.image_size
        known["image_size"] = [size, size] if isinstance(size, int) else list(size)
    return known


def _settings(trainer: Trainer) -> dict[str, Any]:
    """What the card tells of a model and of how a Trainer trained it."""
    config, optimizer = _model(trainer).config, trainer.optimizer
    settings = {key: value for key, value in config.attention_fields().items() if value is not None}
    settings |= {key: getattr(config, key) for key in _OF_MODEL if hasattr(config, key)}
    settings |= training_settings(trainer.args)
    if optimizer is not None:
        # Inside of Accelerate's; it need not be the one of `optim`.
        settings["optimizer"] = type(getattr(optimizer, "optimizer", optimizer)).__name__
    return without_places(settings)


def _scores(trainer: Trainer, split: str, dataset: Any) -> dict[str, float | None]:
    """Accuracy, loss and, of several labels, F1 on a set; None where there is none."""
    if dataset is None:
        return {f"{split}_accuracy": None, f"{split}_loss": None}
    if _KINDS[type(_model(trainer)).__name__] == LANGUAGE:
        return _token_scores(trainer, split, dataset)
    predicted = trainer.predict(dataset, metric_key_prefix=split)
    logits, labels = predicted.predictions, predicted.label_ids
    logits = logits[0] if isinstance(logits, tuple) else logits
    shapes = np.shape(labels), np.shape(logits)
    if labels is None or logits is None or shapes[0] not in (shapes[1], shapes[1][:1]):
        raise ValueError(
            f"the {split} set must have `labels`, and the trainer predict logits or classes of them; got labels of "
            f"shape {shapes[0]} and predictions of shape {shapes[1]}. Leave `prediction_loss_only` false."
        )
    if np.ndim(logits) == 2:
        scores = compute_accuracy_and_loss(EvalPrediction(logits, labels))
    else:
        scores = {"accuracy": float(np.mean(logits == labels)), "loss": predicted.metrics.get(f"{split}_loss")}
    return {f"{split}_{name}": score for name, score in scores.items()}


def _token_scores(trainer: Trainer, split: str, dataset: Any) -> dict[str, float]:
    """As `_scores`, of a language model, whose logits are not kept."""
    given = trainer.preprocess_logits_for_metrics, trainer.compute_metrics
    trainer.preprocess_logits_for_metrics, trainer.compute_metrics = token_losses_and_hits, None
    try:
        predicted = trainer.predict(dataset, metric_key_prefix=split)
    finally:
        trainer.preprocess_logits_for_metrics, trainer.compute_metrics = given
    scores = compute_token_accuracy_and_loss(EvalPrediction(predicted.predictions, predicted.label_ids))
    return {f"{split}_{name}": score for name, score in scores.items()}


def _measured(
    trainer: Trainer, models: Mapping[str, PreTrainedModel], baseline: str | None, sets: Mapping[str, Any]
) -> dict[str, Any]:
    """What models of the same configurations cost, on a batch of the first set that there is."""
    dataset = next((split for split in (sets["validation"], sets["test"], sets["train"]) if split is not None), None)
    if dataset is None:
        raise ValueError("`efficiency` is measured on a batch of examples, and the trainer has none.")
    batch = next(iter(trainer.get_eval_dataloader(dataset)))
    inputs = {key: value.to(trainer.args.device) for key, value in batch.items() if isinstance(value, torch.Tensor)}
    fresh = {}
    for name, model in models.items():
        config = copy.deepcopy(model.config)
        # torch has no fused attention on a CPU for maps with dropout.
        config.attention_probs_dropout_prob = 0.0
        fresh[name] = type(model)(config)
        nn.Module.to(fresh[name], trainer.args.device)
    grid = getattr(next(iter(models.values())).config, "grid_size", None)
    return efficiency_point(fresh, inputs, baseline, tokens=None if grid is None else math.prod(grid))


def _command() -> str:
    """The program that runs, without its arguments, which are its own matter; of a notebook nothing is known."""
    program = Path(sys.argv[0]).name
    return f"python {program}" if program.endswith(".py") and "ipykernel" not in sys.modules else ""
