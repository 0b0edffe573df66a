r"""
Attentions of this package compared with those of other papers: time, FLOPs, parameters, memory and accuracy.

    # Accuracies alone, as committed: hours.
    COMMON="--tokens 4096 --rounds 0 --threads 1"
    python scripts/benchmarks/compare_rivals.py $COMMON --families text --learning_rate 3e-3 --output results \
        --models softmax bn+sh:256 bn+sh:64 bn+sh:64-recentred sh:64 nystrom linformer fnet
    python scripts/benchmarks/compare_rivals.py $COMMON --families image --learning_rate 2e-3 --steps 32 \
        --documents 160 --output results --models softmax bn+sh:64 sh:64 pvtv2 segformer tome
    python scripts/benchmarks/compare_rivals.py $COMMON --families image --learning_rate 2e-3 --steps 240 \
        --documents 600 --output results/rivals-long --models sh:64 bn+sh:64 bn+sh:64-recentred pvtv2 pvtv2-li
    # Costs alone, keeping a file's accuracies.
    python scripts/benchmarks/compare_rivals.py --families text --documents 0 --update results/rivals-text-....json
    # Nothing is measured: tables and pictures of files again, also into a document.
    python scripts/benchmarks/compare_rivals.py --show results/rivals-text-....json --output results \
        --document docs/rivals.md

`--evaluate validation` leaves the test set unread, to choose settings.

docs/rivals.md says what is compared and how. On a CUDA device (`--device cuda --dtype bfloat16`) softmax on sdpa runs
FlashAttention, which is checked beforehand; nothing of this has been measured yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import paths  # noqa: F401
import torch
from rivals.measuring import describe, measure, train
from rivals.models import IMAGE_MODELS, PATCH, TEXT_MODELS, Build, Shape, side_of
from rivals.report import BLOCK, format_table, picture_name, plot_results, tables
from rivals.results import Results, load_results
from rivals.tasks import GROUPS, Task, fashion_pages, newsgroups
from sources.fashion_mnist import FASHION_MNIST_CLASSES
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import HfArgumentParser
from transformers.hf_argparser import HfArg

from hf_primaldual.hub.markdown import replace_between
from hf_primaldual.measure import environment
from hf_primaldual.pictures import write_pictures

FAMILIES = {"text": TEXT_MODELS, "image": IMAGE_MODELS}
# transformers' whole models classify their first token, all others the average.
UNTRAINED = ("bert", "nystromformer", "vit")
# Fields by what they are settings of.
SETTINGS = {
    "model": ("width", "heads", "layers", "intermediate", "vocab_size", "attn_implementation", "dtype", "device"),
    "costs": ("batch", "rounds"),
    "training": (
        "documents", "validation_documents", "test_documents", "evaluate", "seeds", "steps", "train_batch",
        "learning_rate", "groups",
    ),
}  # fmt: skip


@dataclass
class RivalArguments:
    """What is measured, and how much is trained."""

    families: list[str] = HfArg(
        default_factory=lambda: list(FAMILIES), metadata={"choices": list(FAMILIES)}, help="Of which there are tables."
    )
    tokens: list[int] = HfArg(default_factory=lambda: [1024, 4096], help="Bytes, or patches.")
    models: list[str] | None = HfArg(default=None, help="Which of them; all by default.")
    width: int = HfArg(default=64, help="Of the tokens.")
    heads: int = HfArg(default=2, help="Of each layer.")
    layers: int = HfArg(default=2, help="Of the encoder.")
    intermediate: int = HfArg(default=128, help="Width inside the feed-forward blocks.")
    vocab_size: int = HfArg(default=4096, help="Buckets that the bytes of a text are hashed to.")
    batch: int = HfArg(default=1, help="Rows of a timed step.")
    rounds: int = HfArg(default=15, help="Timed calls of each model; 0 leaves costs out.")
    documents: int = HfArg(default=200, help="Texts or pages to train on; 0 leaves accuracy out.")
    validation_documents: int = HfArg(default=100, help="Texts or pages cut from the training data.")
    test_documents: int = HfArg(default=150, help="Texts or pages of the test set.")
    evaluate: Literal["validation", "test"] = HfArg(
        default="test", help="Split of the accuracies; validation to choose settings."
    )
    seeds: list[int] = HfArg(default_factory=lambda: [0, 1, 2], help="Trainings of each model.")
    steps: int = HfArg(default=40, help="Of each training.")
    train_batch: int = HfArg(default=5, help="Rows of a training's step.")
    learning_rate: float = HfArg(default=3e-3, help="Of AdamW.")
    groups: list[str] = HfArg(default_factory=lambda: list(GROUPS), help="Classes of 20 Newsgroups.")
    attn_implementation: str = HfArg(default="sdpa", help="Back-end of the models that have a choice.")
    device: Literal["cpu", "cuda"] = HfArg(default="cpu", help="Where all models run.")
    dtype: Literal["float32", "bfloat16"] = HfArg(default="float32", help="bfloat16: mixed precision.")
    threads: int | None = HfArg(default=None, help="Threads on a CPU; torch's own choice by default.")
    update: str | None = HfArg(default=None, help="A results file: what is not measured now is kept from it.")
    show: list[str] | None = HfArg(default=None, help="Results files to draw again, no more.")
    document: str | None = HfArg(default=None, help="With `show`: the document to put the tables into.")
    output: str | None = HfArg(default=None, help="Folder for JSON, CSV and pictures; that of `update` by default.")

    def __post_init__(self):
        known = dict.fromkeys(name for family in self.families for name in FAMILIES[family])
        if unknown := [name for name in self.models or () if name not in known]:
            raise ValueError(f"`models` must be among {', '.join(known)}, got {', '.join(unknown)}.")
        if "image" in self.families:
            for tokens in self.tokens:
                side_of(tokens)
        if self.device == "cuda":
            check_flash_attention()
        if not self.rounds and not self.documents:
            raise ValueError(
                "`rounds` and `documents` are both 0, so that there is nothing to measure; leave one out."
            )
        if self.update is not None and len(self.families) != 1:
            raise ValueError(f"`update` is one family's file, so `families` must name it, got {len(self.families)}.")
        if self.document is not None and self.show is None:
            raise ValueError(f"`document` takes the tables of files that `show` names, got {self.document} alone.")
        if self.update is not None and self.output is None:
            self.output = str(Path(self.update).parent)

    def shape(self, tokens: int, labels: int) -> Shape:
        names = ("width", "heads", "layers", "intermediate", "vocab_size", "attn_implementation")
        return Shape(tokens=tokens, labels=labels, **{name: getattr(self, name) for name in names})

    def settings(self) -> dict[str, dict[str, Any]]:
        """Of what this run measures."""
        measured = {"model": True, "costs": self.rounds, "training": self.documents}
        settings = {
            part: {name: getattr(self, name) for name in names} for part, names in SETTINGS.items() if measured[part]
        }
        for part in settings.keys() - {"model"}:
            settings[part]["environment"] = environment()
        return settings


def check_flash_attention() -> None:
    """An error where there is no GPU, or where it has no FlashAttention for bfloat16: that needs capability 8.0."""
    if not torch.cuda.is_available():
        raise ValueError("`device` is cuda, but torch finds no GPU here; run on a machine with one, or pass cpu.")
    states = torch.randn(1, 2, 64, 32, device="cuda", dtype=torch.bfloat16)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        torch.nn.functional.scaled_dot_product_attention(states, states, states)


def load_task(family: str, tokens: int, args: RivalArguments) -> Task:
    sizes = (args.documents, args.validation_documents, args.test_documents)
    if family == "text":
        return newsgroups(tokens, args.vocab_size, args.groups, *sizes)
    return fashion_pages(side_of(tokens) * PATCH, *sizes)


def compare(family: str, args: RivalArguments) -> Results:
    """All tables of a family; the file is written after each length's costs and after each seed."""
    results = Results(family, args.settings())
    if args.update is not None:
        results.take_over(args.update)
    models = {name: build for name, build in FAMILIES[family].items() if args.models is None or name in args.models}
    labels = len(args.groups) if family == "text" else len(FASHION_MNIST_CLASSES)
    for tokens in args.tokens:
        shape, failed = args.shape(tokens, labels), {}
        about = {"attn_implementation": args.attn_implementation, "width": args.width, "tokens": tokens}
        if args.rounds:
            costs, failed = measure(models, shape, args.batch, args.device, args.dtype, args.rounds)
            rows = [{"model": name, **about, "batch": args.batch, **row} for name, row in costs.items()]
            results.put_costs(tokens, rows, failed)
            save(results, args)
        if args.documents:
            trained = {name: models[name] for name in models if name not in failed and name not in UNTRAINED}
            train_all(results, trained, shape, load_task(family, tokens, args), about, args)
        print(format_table(results, tokens), flush=True)
    return results


def train_all(
    results: Results, models: dict[str, Build], shape: Shape, task: Task, about: dict[str, Any], args: RivalArguments
) -> None:
    """Seed by seed, so that a change of the machine's load touches all models."""
    results.tasks[str(shape.tokens)], failed = task.summary, {}
    options = {
        "max_steps": args.steps,
        "per_device_train_batch_size": args.train_batch,
        "per_device_eval_batch_size": args.train_batch,
        "learning_rate": args.learning_rate,
        "bf16": args.dtype == "bfloat16",
        "use_cpu": args.device == "cpu",
    }
    for seed in args.seeds:
        for name in [name for name in models if name not in failed]:
            try:
                run = train(models[name], shape, task, seed, args.evaluate, **options)
            # As in `measure`: a result too.
            except Exception as error:
                failed[name] = f"in training: {describe(error)}"
                continue
            results.put_run({"model": name, **about, "batch": args.train_batch, **run})
            print(
                f"{results.family}, {shape.tokens} tokens, seed {seed}, {name}: {run['accuracy']:.1%} of "
                f"{args.evaluate}, loss {run['loss']['first']:.2f} to {run['loss']['last']:.2f}, "
                f"{run['seconds']:.0f} s",
                flush=True,
            )
        results.put_failed("training", shape.tokens, failed)
        save(results, args)


def save(results: Results, args: RivalArguments) -> Path | None:
    return None if args.output is None else results.save(args.output)


def draw(results: Results, path: Path, folder: str) -> None:
    """The pictures of all lengths that have both accuracies and costs, named by the file."""
    for tokens in results.lengths:
        if (picture := plot_results(results, tokens)) is not None:
            write_pictures(picture, folder, picture_name(path, tokens))


def show(files: list[Path], args: RivalArguments) -> list[Path]:
    """Draws files again, and puts their tables into a document."""
    for path in files:
        results = load_results(path)
        for tokens in results.lengths:
            print(format_table(results, tokens))
        if args.output is not None:
            draw(results, path, args.output)
    if args.document is not None:
        document = Path(args.document)
        text = replace_between(document.read_text(encoding="utf-8"), BLOCK, tables(files))
        document.write_text(text, encoding="utf-8")
    return files


def main(argv: Sequence[str] | None = None) -> list[Path]:
    """Returns the files of results that were written, or shown."""
    (args,) = HfArgumentParser(RivalArguments, allow_abbrev=False).parse_args_into_dataclasses(argv)
    if args.show is not None:
        return show([Path(path) for path in args.show], args)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    written = []
    for family in args.families:
        results = compare(family, args)
        if path := save(results, args):
            written.append(path)
            print(f"written: {path}")
            draw(results, path, args.output)
    return written


if __name__ == "__main__":
    main()
