"""
Builds what the Space in spaces/ shows: for series, images and texts a softmax model and a bn+sh model of one recipe
and one seed, and examples of the test sets.

    python scripts/build_space.py
    python scripts/build_space.py --kinds series

Stopped, it goes on where it was: runs that are in --output_dir are not trained again.
"""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sources import TEXT_SOURCES
from transformers import HfArgumentParser
from transformers.hf_argparser import HfArg

from hf_primaldual.commands import run
from hf_primaldual.commands.train import KINDS
from hf_primaldual.data import load_uea, series_arrays
from hf_primaldual.training.comparison import train_run
from hf_primaldual.training.task import Task

ROOT = Path(__file__).parents[1]
SPACE = ROOT / "spaces"
# The folder of each attention's model.
ATTENTIONS = {"softmax": "softmax", "bn+sh": "bn-sh"}
SEED = 0
# The kind of task and its flags. That of series is the recipe of `make demo`.
RECIPES = {
    "series": (
        "time-series",
        f"{ROOT}/scripts/configs/japanese_vowels.yaml --per_device_train_batch_size 16 --learning_rate 3e-3"
        " --num_train_epochs 12",
    ),
    "images": (
        "image",
        "--dataset digits --image_size 32 --patch_size 4 --hidden_size 64 --num_hidden_layers 2"
        " --num_attention_heads 4 --intermediate_size 128 --pooling mean --initializer_range 0.08"
        " --head_scales 1 1 2 2 --random_shift 2 --per_device_train_batch_size 32 --learning_rate 3e-3"
        " --warmup_steps 0.1 --num_train_epochs 15",
    ),
    "texts": (
        "text",
        "--task newsgroups --classes rec.sport.hockey sci.med --max_tokens 512 --train_size 1000 --test_size 500"
        " --head_scales 1 2 --bn_beta 1.0 --bn_scaling true --initializer_range 0.1 --weight_decay 0.01"
        " --per_device_train_batch_size 8 --learning_rate 1e-3 --warmup_steps 0.1 --num_train_epochs 4",
    ),
}


@dataclass
class BuildArguments:
    """Which models, and where they are trained."""

    kinds: list[str] = HfArg(default_factory=lambda: list(RECIPES), help="Of series, images and texts. Default: all.")
    output_dir: str = HfArg(default="outputs/space", help="Folder of the runs.")


def main(argv: list[str] | None = None) -> None:
    (args,) = HfArgumentParser(BuildArguments, allow_abbrev=False).parse_args_into_dataclasses(argv)
    if unknown := sorted(set(args.kinds) - set(RECIPES)):
        raise ValueError(f"`kinds` must be of {', '.join(RECIPES)}; got {', '.join(unknown)}.")
    torch.set_num_threads(1)
    for kind in args.kinds:
        task = build_models(kind, Path(args.output_dir) / kind, SPACE / "models" / kind)
        if kind == "series":
            write_series(SPACE / "examples" / "series.csv")
        elif kind == "images":
            write_digits(task, SPACE / "examples" / "digits")
        print(f"written: {SPACE / 'models' / kind}")


def build_models(kind: str, output: Path, place: Path) -> Task:
    """Trains both models of a kind and puts them into a folder, with their processor and what became of them."""
    name, flags = RECIPES[kind]
    argv = [*flags.split(), "--seeds", str(SEED), "--attention", "bn+sh", "--disable_tqdm", "true"]
    arguments = KINDS[name].parse([*argv, "--report_to", "none", "--output_dir", str(output)])
    task = KINDS[name].task(*arguments, TEXT_SOURCES if name == "text" else None)
    _, model_args, args = arguments
    accuracies: dict[str, Any] = {}
    for attention, folder in ATTENTIONS.items():
        own = replace(args, **model_args.training_fields(attention))
        found = train_run(task, task.config(attention), own, SEED, output / folder)
        accuracies[attention] = found["test_accuracy"]
        (place / folder).mkdir(parents=True, exist_ok=True)
        # Without the code, which the Space has once.
        for file in ("config.json", "model.safetensors"):
            shutil.copy(output / folder / "model" / file, place / folder)
    task.processor.save_pretrained(place)
    for path in place.glob("*.py"):
        path.unlink()
    trained = {
        "flags": flags.replace(f"{ROOT}/", ""),
        "seed": SEED,
        "data": task.source["source"],
        **{split: task.sizes[split] for split in ("train", "validation", "test")},
        "test_accuracy": accuracies,
    }
    (place / "trained.json").write_text(json.dumps(trained, indent=2) + "\n", encoding="utf-8")
    return task


def write_series(path: Path) -> None:
    """The first three test series of each speaker, as one long table."""
    test = load_uea("JapaneseVowels")["test"]
    names, rows, seen = test.features["labels"].names, [], []
    for index, (values, label) in enumerate(zip(series_arrays(test), test["labels"], strict=True)):
        seen.append(label)
        if seen.count(label) <= 3:
            for step, value in enumerate(values):
                rows.append([index, names[label], step, *value])
    channels = [f"c{channel + 1}" for channel in range(values.shape[1])]
    pd.DataFrame(rows, columns=["series", "speaker", "step", *channels]).to_csv(path, index=False)


def write_digits(task: Task, folder: Path) -> None:
    """The first test image of each class."""
    digits = load_digits()
    first = len(digits.images) - task.sizes["test"]
    folder.mkdir(parents=True, exist_ok=True)
    for digit in range(10):
        index = next(index for index in range(first, len(digits.images)) if digits.target[index] == digit)
        pixels = (digits.images[index] * 255 / 16).astype("uint8")
        Image.fromarray(pixels).save(folder / f"{digit}.png")


if __name__ == "__main__":
    run(main)
