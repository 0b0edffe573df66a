"""Attentions compared with their baseline on one task: every run over the seeds, then one checkpoint with its card."""

import datetime
import json
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import PartialState
from transformers import PreTrainedConfig, set_seed
from transformers.utils.logging import disable_progress_bar

from hf_primaldual.hub.checkpoint import save_checkpoint
from hf_primaldual.hub.checks import check_text, without_places
from hf_primaldual.hub.curves import CURVES, plot_learning_curves
from hf_primaldual.hub.markdown import comparison_rows
from hf_primaldual.hub.publish import publish
from hf_primaldual.hub.results import SCHEMA_VERSION, save_results, write_atomically
from hf_primaldual.hub.summary import compare, release, summarize
from hf_primaldual.hub.trained import best_epoch, history, training_settings
from hf_primaldual.measure import efficiency_point, environment

from .arguments import AttentionArguments, ComparisonArguments
from .runs import (
    BEGUN,
    SETTINGS,
    check_resumed,
    claim_output_folder,
    clear_runs,
    command_line,
    is_own_run,
    last_checkpoint,
    own_runs,
)
from .search import search_settings
from .task import Task
from .trainer import build_trainer

Configs = dict[str, PreTrainedConfig]


def run_comparison(
    task: Task,
    model_args: AttentionArguments,
    args: ComparisonArguments,
    argv: list[str] | None = None,
    prog: str | None = None,
) -> Path:
    """
    Trains the baseline and every attention with every seed, measures what they cost, and writes the checkpoint of the
    best attention on validation with its results and card. With `args.search` it searches settings instead.

    Killed in a step or while it saves, it goes on with `args.resume_from_checkpoint`: finished runs are kept, the one
    that was running starts from its last whole checkpoint and ends as if nothing had happened.

    `prog`, the program, and `argv`, its arguments, are for the record. Returns the folder of the checkpoint, in
    processes but the first the output folder; with `args.search` the file of settings that was found.
    """
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    output = Path(args.output_dir)
    configs = {name: task.config(name) for name in model_args.names}
    run_args = {name: replace(args, **model_args.training_fields(name)) for name in configs}
    command, settings = command_line(argv, prog), _settings(task, model_args, args, configs)
    # Where a run goes on the data are the same, too.
    record = {"command": command, "sha256": task.source.get("sha256"), **settings}
    _check(task, configs, args, record)

    if args.should_save:
        if args.resume_from_checkpoint and (output / SETTINGS).exists():
            check_resumed(output, record)
        else:
            claim_output_folder(output, args.overwrite, record)
        # The bars for files written in no time would only come between those of the runs.
        disable_progress_bar()
    PartialState().wait_for_everyone()
    if args.search:
        return search_settings(task, model_args, args, output)
    if args.resume_from_checkpoint and not own_runs(output) and (finished := [*output.glob("*/results.json")]):
        folder = finished[0].parent
        print(f"nothing is left to do: {folder}")
    else:
        if args.should_save:
            print(f"training {', '.join(configs)} on {task.source['name']}, seeds {args.seeds}")
            share = task.source.get("majority_share")
            chance = "" if share is None else f"; the majority class alone: {share:.1%}"
            print(f"{task.sizes}, {task.lengths[0]} to {task.lengths[1]} tokens{chance}", flush=True)
        runs = []
        for seed in args.seeds:
            for name in configs:
                run_folder = output / "runs" / f"{name}-{seed}"
                runs.append(train_run(task, configs[name], run_args[name], seed, run_folder))
        if not args.should_save:
            return output
        runs.sort(key=lambda run: model_args.names.index(run["attention"]))
        best = release(runs, model_args.attention, task.kind)
        classes = {"classes": len(task.class_names)} if task.class_names else {}
        results = {
            "schema": SCHEMA_VERSION,
            "command": command,
            "date": datetime.date.today().isoformat(),
            "model_name": f"primal-dual-{task.source['name'].lower()}-{best['attention'].replace('+', '-')}",
            "task": task.kind,
            "attention": best["attention"],
            "attentions": model_args.attention,
            "baseline": model_args.baseline,
            "license": args.model_license,
            "dataset": without_places({**task.source, **task.sizes, **classes}),
            "settings": without_places(settings),
            "runs": [{key: value for key, value in run.items() if key != "history"} for run in runs],
            "summary": {name: summarize(runs, name) for name in configs},
            "comparisons": compare(runs, model_args.attention, model_args.baseline),
            "efficiency": measure_costs(task, configs, model_args.baseline, args),
            "plots": [CURVES],
            **environment(),
        }
        folder = _write(task, results, runs, best, args)
    if args.push_to_hub and args.should_save:
        to = {"private": bool(args.hub_private_repo), "revision": args.hub_revision, "token": args.hub_token}
        # The file of a transform from outside of the package was named by whoever trains, and has run already.
        to["trust_remote_code"] = any("." in name for config in configs.values() for name in config.choices.transforms)
        print(publish(folder, args.hub_model_id, **to))
    return folder


def _check(task: Task, configs: Configs, args: ComparisonArguments, record: dict[str, Any]) -> None:
    """Refuses before the first step what would fail later."""
    with torch.device("meta"):
        for config in configs.values():
            task.model_class(config)
    for tokens in args.efficiency_tokens:
        task.measured(next(iter(configs.values())), tokens)
    if args.push_to_hub:
        if "/" not in (args.hub_model_id or ""):
            raise ValueError(f"`push_to_hub` needs `hub_model_id`, an owner/name, got {args.hub_model_id!r}.")
        if not args.model_license:
            raise ValueError(
                "`push_to_hub` needs `model_license`, such as apache-2.0: a licence is stated, not guessed."
            )
        shown = without_places({**record, "data": task.source})
        check_text("the card of these settings", json.dumps(shown, ensure_ascii=False))
    if args.results_dir is not None:
        kept = _kept(task, args)
        is_own = kept.exists() and '"schema"' in kept.read_text(encoding="utf-8")
        for path in (kept, kept.with_suffix(".png")):
            if path.exists() and not is_own:
                raise FileExistsError(f"`results_dir`: {path} is not of results of this package; move it.")


def _kept(task: Task, args: ComparisonArguments) -> Path:
    """The copy of the results."""
    return Path(args.results_dir, f"{task.source['name'].lower()}.json")


def _settings(
    task: Task, model_args: AttentionArguments, args: ComparisonArguments, configs: Configs
) -> dict[str, Any]:
    """What the card tells of a comparison's settings, and what a resumed one must share."""
    model = {key: value for key, value in asdict(model_args).items() if key not in ("attention", "per_attention")}
    if model["transforms"] is None:
        del model["transforms"]
    for name, changes in model_args.per_attention.items():
        model |= {f"{name}: {key}": value for key, value in changes.items()}
    for config in configs.values():
        if "downsampled" in config.choices.training_set:
            model |= {"head_scales": config.resolved_head_scales(), "head_points": config.resolved_head_points()}
            break
    trained = training_settings(args)
    if args.optimizer != "trainer":
        trained["optimizer"] = args.optimizer
    own = {"seeds": args.seeds, "ema_decay": args.ema_decay}
    return {"attentions": list(configs), **model, **task.settings, **own, **trained}


def train_run(
    task: Task, config: PreTrainedConfig, args: ComparisonArguments, seed: int, folder: Path
) -> dict[str, Any]:
    """
    Trains one model, keeps the best epoch on validation, then reads the test set once. Returns the run's entry for
    `results.json`, and its `history` of losses and accuracies.

    `folder` gets Trainer's checkpoints, and at the end `run.json` and the weights in `model`. A run that it holds
    already is not trained again.
    """
    record = folder / "run.json"
    if record.exists():
        return json.loads(record.read_text(encoding="utf-8"))
    if args.should_save:
        if folder.exists() and not is_own_run(folder):
            raise FileExistsError(
                f"{folder} holds what no run of this package left; move it, and --resume_from_checkpoint."
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / BEGUN, json.dumps({"attention": config.attention, "seed": seed}) + "\n")
    set_seed(seed)
    trainer = build_trainer(task, config, args, seed, folder)
    checkpoint = last_checkpoint(folder)
    trained = trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    trainer.keep_average()
    validation = trainer.evaluate(metric_key_prefix="validation")
    test = trainer.evaluate(task.splits["test"], metric_key_prefix="test")
    run = {
        "attention": config.attention,
        "seed": seed,
        "best_epoch": best_epoch(trainer),
        "epochs": trainer.state.epoch,
        "validation_accuracy": validation["validation_accuracy"],
        "validation_loss": validation["validation_loss"],
        "test_accuracy": test["test_accuracy"],
        "test_loss": test["test_loss"],
        **{key: value for key, value in (validation | test).items() if key.endswith("_f1")},
        "train_seconds": round(trainer.elapsed(), 2),
        "steps": trained.global_step,
        "released": False,
        "history": history(trainer),
    }
    trainer.save_model(str(folder / "model"))
    if args.should_save:
        write_atomically(record, json.dumps(run, indent=2) + "\n")
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
    return run


def measure_costs(task: Task, configs: Configs, baseline: str, args: ComparisonArguments) -> list[dict[str, Any]]:
    """Time, memory and operations at the data's own length, in batches as trained, and at each asked length."""
    print("measuring time, memory and operations", flush=True)
    points = []
    for tokens in dict.fromkeys((task.lengths[1], *args.efficiency_tokens)):
        batch = args.per_device_train_batch_size if tokens == task.lengths[1] else 1
        models = {
            name: task.model_class(task.measured(config, tokens)).to(args.device) for name, config in configs.items()
        }
        inputs = {name: tensor.to(args.device) for name, tensor in task.measuring_batch(batch, tokens).items()}
        points.append(efficiency_point(models, inputs, baseline, tokens=tokens))
    return points


def _write(
    task: Task, results: dict[str, Any], runs: list[dict[str, Any]], best: dict[str, Any], args: ComparisonArguments
) -> Path:
    """Writes the checkpoint of the released run with results, card and curves, and clears the runs."""
    output = Path(args.output_dir)
    model = task.model_class.from_pretrained(output / "runs" / f"{best['attention']}-{best['seed']}" / "model")
    with tempfile.TemporaryDirectory() as place:
        curves = Path(place) / CURVES
        plot_learning_curves(runs, tuple(results["summary"]), curves, task.source["name"])
        folder = save_checkpoint(output / results["model_name"], model, task.processor, results, [curves])
    if args.results_dir is not None:
        kept = _kept(task, args)
        kept.parent.mkdir(parents=True, exist_ok=True)
        save_results(results, kept)
        shutil.copyfile(folder / CURVES, kept.with_suffix(".png"))
    clear_runs(output)
    print(f"\n{pd.DataFrame(comparison_rows(results)).to_string(index=False)}")
    print(f"\ncheckpoint: {folder}\ncard:       {folder / 'README.md'}, with how to load it")
    print(f"results:    {folder / 'results.json'}")
    return folder
