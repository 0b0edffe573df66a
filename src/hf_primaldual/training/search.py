"""Settings of an attention, beta and the factors of its heads first of all, searched on the validation set."""

import json
import math
from pathlib import Path
from typing import Any

import yaml
from transformers import TrainingArguments

from hf_primaldual.hub.results import write_atomically
from hf_primaldual.modeling.presets_primal_dual import choices_of

from .arguments import AttentionArguments, ComparisonArguments
from .settings import names_of, refuse_unknown, typed_settings
from .task import Task
from .trainer import build_trainer

# A number is drawn between `low` and `high`, a list is chosen from.
Space = dict[str, dict[str, float] | list[Any]]
_TRAINERS = names_of(TrainingArguments)


def default_space(attention: str, heads: int) -> Space:
    """What the paper tunes per task: beta, with the scaling it may go with, and the factors of the heads."""
    space: Space = {}
    if "bn" in choices_of(attention).transforms:
        space |= {"bn_beta": {"low": 0.0, "high": 1.0}, "bn_scaling": [True, False]}
    if "downsampled" in choices_of(attention).training_set:
        steps = [math.floor(4 * head / heads) for head in range(heads)]
        doubling, gentle = [2**step for step in steps], [step // 2 + 1 for step in steps]
        space["head_scales"] = [doubling, gentle, [2] * heads, [min(scale, 2) for scale in doubling]]
    return space


def search_settings(task: Task, model_args: AttentionArguments, args: ComparisonArguments, output: Path) -> Path:
    """
    Tries `args.search` settings of each attention by Trainer's hyperparameter search, with optuna's TPE sampler.

    A trial trains with the first seed; its score is the best value that `metric_for_best_model` takes on the
    validation set. The test set is never read. Returns `searched.yaml`, settings under `per_attention` that a script
    takes in place of those it was searched from; `search.json` beside it holds every trial.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("`search` needs optuna: `pip install optuna`.") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # All are looked at before the first is searched.
    spaces = {
        name: _checked(args.search_space, name, model_args)
        or default_space(name, task.config(name).num_attention_heads)
        for name in model_args.attention
    }
    if not any(spaces.values()):
        raise ValueError(f"`search`: {', '.join(model_args.attention)} have no setting to search.")
    report = {
        name: _search(task, name, space, args, output / "search" / name) for name, space in spaces.items() if space
    }
    path = output / "searched.yaml"
    if args.should_save:
        write_atomically(output / "search.json", json.dumps(report, indent=2) + "\n")
        found = {name: trials["best"] for name, trials in report.items()}
        write_atomically(path, yaml.safe_dump({"per_attention": found}, sort_keys=False))
        print(f"settings: {path}")
    return path


def _search(task: Task, attention: str, space: Space, args: ComparisonArguments, folder: Path) -> dict[str, Any]:
    """The search of one attention: its best settings, and the score of every trial."""
    import optuna

    def settings(trial: optuna.Trial) -> dict[str, Any]:
        # A trial gives the same answer twice. optuna chooses among plain values, and factors are lists.
        return {
            key: trial.suggest_float(key, **choices)
            if isinstance(choices, dict)
            else json.loads(trial.suggest_categorical(key, [json.dumps(value) for value in choices]))
            for key, choices in space.items()
        }

    def model(trial: optuna.Trial | None):
        # Trainer makes a first one before there is a trial.
        own = {} if trial is None else {key: value for key, value in settings(trial).items() if key not in _TRAINERS}
        return task.model_class(task.config(attention, **own))

    def best_so_far(metrics: dict[str, float]) -> float:
        # Trainer asks after each evaluation and keeps the last answer.
        name = f"eval_{trainer.args.metric_for_best_model.removeprefix('eval_')}"
        values = [entry[name] for entry in trainer.state.log_history if name in entry]
        return max(values) if trainer.args.greater_is_better else min(values)

    changes = {"model_init": model, "save_strategy": "no", "load_best_model_at_end": False}
    trainer = build_trainer(task, task.config(attention), args, args.seeds[0], folder, **changes)
    storage = optuna.storages.InMemoryStorage()
    best = trainer.hyperparameter_search(
        hp_space=lambda trial: {key: value for key, value in settings(trial).items() if key in _TRAINERS},
        compute_objective=best_so_far,
        n_trials=args.search,
        direction="maximize" if trainer.args.greater_is_better else "minimize",
        backend="optuna",
        sampler=optuna.samplers.TPESampler(seed=args.seeds[0]),
        pruner=optuna.pruners.NopPruner(),
        storage=storage,
        study_name=attention,
    )
    if best is None:
        # Only the first process searches; the others trained along.
        return {}
    trials = optuna.load_study(study_name=attention, storage=storage).trials
    scores = [{"settings": settings(optuna.trial.FixedTrial(trial.params)), "score": trial.value} for trial in trials]
    found = scores[int(best.run_id)]["settings"]
    print(f"{attention}: {best.objective:.4f} with {found}", flush=True)
    return {
        "trials": args.search,
        "metric": f"validation {args.metric_for_best_model}",
        "space": {key: json.dumps(choices) for key, choices in space.items()},
        "best": found,
        "scores": scores,
    }


def _checked(space: Space, attention: str, model_args: AttentionArguments) -> Space:
    """The space with the types of the settings' flags."""
    types, where = (type(model_args), TrainingArguments), "a value of `search_space`"
    own = set(model_args.config_fields(attention))
    refuse_unknown(space, own | _TRAINERS, f"`search_space`, for {attention},")

    def typed(key: str, value: Any) -> Any:
        return typed_settings({key: value}, types, where)[key] if key in names_of(*types) else value

    checked = {}
    for key, choices in space.items():
        if isinstance(choices, dict) and {"low", "high"} <= choices.keys():
            checked[key] = {**choices, **{bound: typed(key, choices[bound]) for bound in ("low", "high")}}
        elif isinstance(choices, list) and choices:
            checked[key] = [typed(key, value) for value in choices]
        else:
            raise ValueError(f"`search_space` of {key!r} must be a list, or have low and high, got {choices}.")
    return checked
