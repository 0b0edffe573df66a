"""Settings of an attention, beta and the factors of its heads first of all, searched on the validation set."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from transformers import TrainingArguments

from hf_primaldual import PRESETS
from hf_primaldual.hub.results import write_atomically

from .arguments import OF_A_RUN, refuse_unknown, typed_settings

if TYPE_CHECKING:
    from optuna import Trial

    from .arguments import AttentionArguments, ComparisonArguments
    from .task import Task

# A number is drawn between these, a list is chosen from.
Space = dict[str, dict[str, float] | list[Any]]


def default_space(attention: str, heads: int) -> Space:
    """What the paper tunes per task: beta, with the scaling it may go with, and the factors of the heads."""
    space: Space = {}
    if "bn" in PRESETS[attention].transforms:
        space |= {"bn_beta": {"low": 0.0, "high": 1.0}, "bn_scaling": [True, False]}
    if "downsampled" in PRESETS[attention].training_set:
        steps = [math.floor(4 * head / heads) for head in range(heads)]
        doubling, gentle = [2**step for step in steps], [step // 2 + 1 for step in steps]
        space["head_scales"] = [doubling, gentle, [2] * heads, [min(scale, 2) for scale in doubling]]
    return space


def search_settings(task: "Task", model_args: "AttentionArguments", args: "ComparisonArguments", output: Path) -> Path:
    """
    Tries `args.search` settings of each attention by Trainer's hyperparameter search, with optuna's TPE sampler.

    A trial trains with the first seed; its score is the best value that `metric_for_best_model` takes on the
    validation set. The test set is never read.

    Returns:
        `searched.yaml`, settings under `per_attention` that a script takes in place of those it was searched from;
        `search.json` beside it holds every trial.

    Raises:
        ModuleNotFoundError: without optuna.
        ValueError: for a space with a setting that the attention does not have, or none at all.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("`search` needs optuna: `pip install optuna`.") from error
    from .comparison import build_trainer

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed, found, report = args.seeds[0], {}, {}
    # All are looked at before the first is searched.
    spaces = {
        name: _checked(args.search_space, name, model_args)
        or default_space(name, task.config(name).num_attention_heads)
        for name in model_args.attention
    }
    for name, space in spaces.items():
        if not space:
            continue
        study = _Study(task, name, space)
        trainer = build_trainer(
            task,
            task.config(name),
            args,
            seed,
            output / "search" / name,
            model_init=study.model,
            save_strategy="no",
            load_best_model_at_end=False,
        )
        study.trainer = trainer
        best = trainer.hyperparameter_search(
            hp_space=study.suggest,
            compute_objective=study.score,
            n_trials=args.search,
            direction="maximize" if trainer.args.greater_is_better else "minimize",
            backend="optuna",
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=optuna.pruners.NopPruner(),
        )
        if best is None:
            # Only the first process searches; the others trained along.
            continue
        found[name] = study.settings[int(best.run_id)]
        report[name] = {
            "trials": args.search,
            "metric": f"validation {args.metric_for_best_model}",
            "space": {key: json.dumps(choices) for key, choices in space.items()},
            "best": found[name],
            "scores": [
                {"settings": study.settings[number], "score": study.scores[number]} for number in sorted(study.scores)
            ],
        }
        print(f"{name}: {best.objective:.4f} with {found[name]}", flush=True)
    if not found and args.should_save:
        raise ValueError(f"`search`: {', '.join(model_args.attention)} have no setting to search.")
    path = output / "searched.yaml"
    if args.should_save:
        write_atomically(output / "search.json", json.dumps(report, indent=2) + "\n")
        write_atomically(path, yaml.safe_dump({"per_attention": found}, sort_keys=False))
        print(f"settings: {path}")
    return path


class _Study:
    """One attention's search, as Trainer calls it: a trial's settings, its model, and its score."""

    def __init__(self, task: "Task", attention: str, space: Space):
        self.task, self.attention, self.space = task, attention, space
        self.trainer = None
        self.settings: dict[int, dict[str, Any]] = {}
        self.scores: dict[int, float] = {}
        self.number = 0

    def suggest(self, trial: "Trial") -> dict[str, Any]:
        settings = {}
        for key, choices in self.space.items():
            if isinstance(choices, dict):
                settings[key] = trial.suggest_float(key, **choices)
            else:
                # optuna chooses among plain values, and factors are lists.
                settings[key] = json.loads(trial.suggest_categorical(key, [json.dumps(value) for value in choices]))
        self.number = trial.number
        self.settings[trial.number] = settings
        # Trainer sets what is its own; the rest is the model's.
        return {key: value for key, value in settings.items() if hasattr(self.trainer.args, key)}

    def model(self, trial: "Trial | None"):
        own = {}
        if trial is not None:
            # Trainer builds the model before it asks for the settings; a trial gives the same answer twice.
            self.suggest(trial)
            own = self.settings[trial.number]
            own = {key: value for key, value in own.items() if not hasattr(self.trainer.args, key)}
        return self.task.model_class(self.task.config(self.attention, **own))

    def score(self, metrics: dict[str, float]) -> float:
        """The best epoch so far: Trainer asks after each evaluation and keeps the last answer."""
        name = self.trainer.args.metric_for_best_model
        value = metrics[name if name.startswith("eval_") else f"eval_{name}"]
        better = max if self.trainer.args.greater_is_better else min
        self.scores[self.number] = better(value, self.scores.get(self.number, value))
        return self.scores[self.number]


def _checked(space: Space, attention: str, model_args: "AttentionArguments") -> Space:
    own, trainers = set(model_args.config_fields(attention)), set(TrainingArguments.__dataclass_fields__)
    refuse_unknown(space, (own | trainers) - set(OF_A_RUN), f"`search_space`, for {attention},")
    types = (type(model_args), TrainingArguments)
    known = set().union(*(kind.__dataclass_fields__ for kind in types))
    typed = {}
    for key, choices in space.items():
        bounds = isinstance(choices, dict) and {"low", "high"} <= choices.keys()
        if not bounds and not (isinstance(choices, list) and choices):
            raise ValueError(f"`search_space` of {key!r} must be a list, or have low and high, got {choices}.")
        names = {"low", "high"} if bounds else range(len(choices))
        values = {name: choices[name] for name in names}
        if key in known:
            where = "a value of `search_space`"
            values = {name: typed_settings({key: value}, types, known, where)[key] for name, value in values.items()}
        typed[key] = {**choices, **values} if bounds else [values[name] for name in names]
    return typed


__all__ = ["default_space", "search_settings"]
