"""
Trains the attentions of a recipe of time series over its seeds and measures how much their heads differ, on the test
set's inputs. Writes the figures and heat maps of every layer.

    python scripts/measure_redundancy.py scripts/configs/japanese_vowels.yaml --output_dir outputs/redundancy \
        --num_train_epochs 10 --seeds 0 1 2 --results_dir results

Stopped, it goes on where it was with `--resume_from_checkpoint true`; trained models are kept under the output folder.
"""

import statistics
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from hf_primaldual.hub.markdown import markdown_table
from hf_primaldual.measure import head_redundancy, mean_redundancy, save_results
from hf_primaldual.measure.plots import plot_redundancy, write_pictures
from hf_primaldual.training.comparison import train_run
from hf_primaldual.training.runs import claim_output_folder
from hf_primaldual.training.settings import parse_arguments
from hf_primaldual.training.time_series import (
    SeriesDataArguments,
    SeriesModelArguments,
    SeriesTrainingArguments,
    series_task,
)

BATCH = 16


def summarize(rows: list[dict]) -> dict[str, dict]:
    """Mean and sample deviation over seeds, of every measure and of the accuracy, for each attention."""
    summary = {}
    for name in dict.fromkeys(row["attention"] for row in rows):
        own = [row for row in rows if row["attention"] == name]
        summary[name] = {"seeds": len(own)}
        for key in own[0]:
            if key in ("attention", "seed"):
                continue
            values = [row[key] for row in own]
            summary[name][f"{key}_mean"] = statistics.fmean(values)
            summary[name][f"{key}_std"] = statistics.stdev(values) if len(values) > 1 else None
    return summary


def main(argv: list[str] | None = None) -> Path:
    data_args, model_args, args = parse_arguments(
        SeriesDataArguments, SeriesModelArguments, SeriesTrainingArguments, argv=argv
    )
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    task = series_task(data_args, model_args)
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
    keys = list(mean_redundancy(layers))
    cells = [
        [name, *(f"{figures[f'{key}_mean']:.4f} ± {figures[f'{key}_std'] or 0:.4f}" for key in keys)]
        for name, figures in summary.items()
    ]
    print(markdown_table(["attention", *keys], cells))
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
    main(sys.argv[1:])
