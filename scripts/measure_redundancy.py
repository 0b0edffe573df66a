"""
Trains the attentions of a recipe of time series over its seeds and measures how much their heads differ, on the test
set's inputs. Writes the figures and heat maps of every layer.

    python scripts/measure_redundancy.py scripts/configs/japanese_vowels.yaml --output_dir outputs/redundancy \
        --num_train_epochs 10 --seeds 0 1 2 --results_dir results

Stopped, it goes on where it was with `--resume_from_checkpoint true`; trained models are kept under the output folder.
"""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch.utils.data import DataLoader

from hf_primaldual.commands import run
from hf_primaldual.commands.train import KINDS
from hf_primaldual.measure import head_redundancy, mean_redundancy, save_results
from hf_primaldual.measure.plots import plot_redundancy, write_pictures
from hf_primaldual.training.comparison import train_run
from hf_primaldual.training.runs import claim_output_folder

BATCH = 16


def summarize(rows: list[dict]) -> dict[str, dict]:
    """Mean and sample deviation over seeds, of every measure and of the accuracy, for each attention."""
    summary = {}
    for name, own in pd.DataFrame(rows).groupby("attention", sort=False):
        summary[name] = {"seeds": len(own)}
        for key in own.columns.drop(["attention", "seed"]):
            summary[name][f"{key}_mean"] = own[key].mean()
            summary[name][f"{key}_std"] = own[key].std() if len(own) > 1 else None
    return summary


def main(argv: list[str] | None = None) -> Path:
    kind = KINDS["time-series"]
    data_args, model_args, args = kind.parse(argv)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    task = kind.task(data_args, model_args)
    output = Path(args.output_dir)
    if not args.resume_from_checkpoint:
        claim_output_folder(output, args.overwrite)
    rows, by_layer, shown = [], {}, {}
    for name in model_args.names:
        for seed in args.seeds:
            folder = output / "runs" / f"{name}-{seed}"
            own_args = replace(args, **model_args.training_fields(name))
            run = train_run(task, task.config(name), own_args, seed, folder)
            batches = DataLoader(task.splits["test"], BATCH, collate_fn=task.collate)
            layers = head_redundancy(task.model_class.from_pretrained(folder / "model"), batches)
            shown.setdefault(name, layers)
            about = {"attention": name, "seed": seed, "test_accuracy": run["test_accuracy"]}
            rows.append(about | mean_redundancy(layers))
            by_layer[f"{name}-{seed}"] = [layer.means() for layer in layers]
    summary = summarize(rows)
    print(pd.DataFrame(summary).T.to_string())
    folder, file_name = Path(args.results_dir or output), f"redundancy-{task.source['name'].lower()}"
    title = f"{task.source['name']}, seed {args.seeds[0]}: L2 distance of heads' outputs"
    write_pictures(plot_redundancy(shown, title=title), folder, file_name)
    settings = {"dataset": task.source["name"], "seeds": args.seeds, "num_train_epochs": args.num_train_epochs}
    settings |= {"inputs": "test set", "examples": len(task.splits["test"]), **task.settings}
    results = {"settings": settings, "summary": summary, "layers": by_layer, "rows": rows}
    path = save_results(folder, file_name, results)
    print(f"written: {path}")
    return path


if __name__ == "__main__":
    run(main)
