"""
Makes a checkpoint's attention cheaper and teaches it, without labels, to give what the original gives: factors by
`calibrate`, the weights by `convert` (or `apply`, for a family that keeps its class), then `DistillationTrainer`.

    hf-primaldual distill sentence-transformers/all-MiniLM-L6-v2 outputs/minilm --texts posts.txt --minutes 15
    hf-primaldual distill facebook/dinov2-small outputs/dinov2 --images photos --budget 0.5 --max_steps 300

It may be stopped, and goes on with --resume_from_checkpoint. The checkpoint, what prepares its inputs, and
distillation.json, which tells what was done and how near it came, lie in the output folder.
"""

import argparse
import copy
import datetime
import hashlib
import json
import re
import time
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedConfig,
    PreTrainedModel,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
    default_data_collator,
    set_seed,
)
from transformers.hf_argparser import HfArg
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState

from .. import PRESETS, apply, calibrate, convert
from ..data import decode_image
from ..data.files import sha256_of
from ..data.sources import data_name
from ..flags import Parser
from ..hub.card import write_card
from ..hub.checkpoint import write_record
from ..hub.checks import without_places
from ..hub.encoder_measured import attention_of, measure_encoder, original_of
from ..hub.results import save_results, write_atomically
from ..hub.trained import training_settings
from ..integration.conversion import ARCHITECTURES, load, wants_classifier
from ..integration.distillation import DistillationTrainer
from ..integration.embeddings import EMBEDDINGS
from ..measure import environment
from ..training.runs import (
    BEGUN,
    SETTINGS,
    check_resumed,
    claim_output_folder,
    clear_runs,
    command_line,
    last_checkpoint,
)
from ..training.settings import refuse_below_one
from .examples import read_images, read_texts

RECORD, RESULTS = "distillation.json", "results.json"


@dataclass
class DistillationArguments:
    """What is taught, and on which examples."""

    texts: list[str] | None = HfArg(default=None, help="Text files, an example a line.")
    images: str | None = HfArg(default=None, help="Folder of images, as `datasets` reads an imagefolder.")
    attention: str = HfArg(default="sh", help=f"One of {', '.join(PRESETS)}.")
    budget: float | None = HfArg(
        default=None, help="What attention may cost, as a share of softmax's; default: doubling factors."
    )
    calibration_examples: int = HfArg(default=64, help="Examples that factors are measured on.")
    held_out: int = HfArg(default=256, help="Examples that are kept to compare the model with its teacher.")
    max_tokens: int = HfArg(default=128, help="Texts are cut to so many tokens.")
    embedding: Literal["mean", "first", "all"] = HfArg(
        default="mean", help="What the model is used for: the mean of the last states, the first of them, or all."
    )
    layers_weight: float = HfArg(default=1.0, help="Weight of the error of hidden states.")
    embedding_weight: float = HfArg(default=1.0, help="Weight of 1 - cosine of the embeddings.")
    trainable: Literal["all", "attention"] = HfArg(default="all", help="The weights that are trained.")
    minutes: float | None = HfArg(
        default=None,
        help="In place of --max_steps: as many steps as this time allows, by the time of the first ones; 0 for none.",
    )
    overwrite: bool = HfArg(default=False, help="Replace the run that the output folder holds.")

    def __post_init__(self):
        refuse_below_one(self, "calibration_examples", "held_out", "max_tokens")
        if (self.texts is None) == (self.images is None):
            raise ValueError(f"one of `texts` and `images` must be given, got {self.texts} and {self.images}.")
        if self.budget is not None and "sh" not in self.attention:
            raise ValueError(f"`budget` chooses factors of Attention-SH, which {self.attention!r} does not have.")
        if self.minutes is not None and self.minutes < 0:
            raise ValueError(f"`minutes` must be at least 0, got {self.minutes}.")


@dataclass
class DistillationTrainingArguments(TrainingArguments):
    """transformers' own training arguments."""

    # The second positional argument of the command.
    output_dir: str | None = field(default=None, init=False)
    resume_from_checkpoint: bool = HfArg(default=False, help="Go on with the run that the output folder holds.")
    learning_rate: float = HfArg(default=5e-4, help="Of AdamW, at its highest.")
    lr_scheduler_type: str = HfArg(default="cosine", help="How it falls.")
    warmup_steps: float = HfArg(default=10, help="Steps, or a share of them, in which it rises.")
    per_device_train_batch_size: int = HfArg(default=16, help="Examples of a step, of each process.")
    per_device_eval_batch_size: int = HfArg(default=32, help="Examples that are compared at once.")
    logging_steps: float = HfArg(default=10, help="How often the loss is told.")
    save_steps: float = HfArg(default=100, help="How often a checkpoint to go on from is saved.")
    save_total_limit: int | None = HfArg(default=1, help="How many of them are kept.")
    # For `Seconds`.
    restore_callback_states_from_checkpoint: bool = HfArg(default=True, help="Needed for the time that is told.")
    # The columns are the model's inputs, or become them when they are read.
    remove_unused_columns: bool = HfArg(default=False, help="There are no others.")


class Seconds(TrainerCallback, ExportableState):
    """Counts the time of the steps, those before a resumption included."""

    def __init__(self, seconds: float = 0.0):
        self.seconds, self._begun = seconds, 0.0

    def on_step_begin(self, args, state, control, **kwargs):
        self._begun = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds += time.perf_counter() - self._begun

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"args": {"seconds": self.seconds}, "attributes": {}}


def dropout_rates(config: PreTrainedConfig) -> dict[str, float]:
    """The fields of a configuration that say how much is dropped in training."""
    return {name: value for name, value in config.to_dict().items() if "drop" in name and isinstance(value, float)}


def load_teacher(name: str) -> PreTrainedModel:
    """A classifier, or the encoder of another model; without dropout, for the student that is made of it."""
    config = AutoConfig.from_pretrained(name)
    model = load(name, config, **dict.fromkeys(dropout_rates(config), 0.0)).eval()
    return model if wants_classifier(model, {}) else model.base_model


def make_student(teacher: PreTrainedModel, attention: str, embedding: str, fields: dict[str, Any]) -> PreTrainedModel:
    if teacher.config.model_type not in ARCHITECTURES:
        return apply(copy.deepcopy(teacher), attention, **fields)
    if teacher.main_input_name == "input_ids" and embedding == "mean":
        fields = {**fields, "pooling": "mean"}
    return convert(teacher, attention, **fields)


def read_examples(args: DistillationArguments, teacher: str) -> tuple[Dataset, Any, Any, dict[str, Any]]:
    """
    Returns:
        The examples as a model takes them, what prepares and what collates them, and what the record tells of them.
    """
    if args.images is not None:
        data = read_images(args.images)
        processor = AutoImageProcessor.from_pretrained(teacher)

        def prepare(batch):
            images = [decode_image(cell) for cell in batch["image"]]
            return {"pixel_values": processor(images, return_tensors="pt")["pixel_values"]}

        folder = Path(args.images).resolve()
        source = f"a local folder {folder.name}", {folder.name: _sha256_of_folder(folder)}
        return data.with_transform(prepare), processor, default_data_collator, _inputs(folder, *source)
    data = read_texts(args.texts)
    processor = AutoTokenizer.from_pretrained(teacher)
    data = data.map(
        lambda batch: processor(batch["text"], truncation=True, max_length=args.max_tokens),
        batched=True,
        remove_columns="text",
    )
    digests = {Path(file).name: sha256_of(Path(file)) for file in args.texts}
    return data, processor, DataCollatorWithPadding(processor), _inputs(args.texts[0], "local files", digests)


def _inputs(path: str | Path, source: str, digests: dict[str, str]) -> dict[str, Any]:
    return {"name": data_name(path), "source": source, "sha256": digests, "licence": None}


def _sha256_of_folder(folder: Path) -> str:
    """One for the names and contents of all files in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = "".join(f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def steps_within(minutes: float, trainer: DistillationTrainer) -> int:
    """How many steps take so long, by the time of three after one that warms up; no weight is changed."""
    times = []
    for batch in islice(cycle(trainer.get_train_dataloader()), 4):
        begun = time.perf_counter()
        trainer.compute_loss(trainer.model.train(), trainer._prepare_inputs(batch)).backward()
        times.append(time.perf_counter() - begun)
    trainer.model.zero_grad()
    steps = minutes * 60 / (sum(times[1:]) / 3) / trainer.args.gradient_accumulation_steps
    # All processes take as many.
    return broadcast_object_list([max(1, int(steps))])[0]


def begin(output: Path, run: Path, settings: dict[str, Any], resume: bool, overwrite: bool) -> None:
    """Takes the output folder for a run, or looks whether the one that it holds was begun with these settings."""
    if resume and (run / SETTINGS).exists():
        check_resumed(run, settings)
        return
    claim_output_folder(output, overwrite)
    run.mkdir(parents=True)
    # By this name it is known for a run, which may be removed.
    write_atomically(run / BEGUN, "{}\n")
    write_atomically(run / SETTINGS, json.dumps(settings, indent=2) + "\n")


def has_card(student: PreTrainedModel, embedding: str) -> bool:
    """Whether it is an encoder of this package, whose embeddings a card can show."""
    name = type(student).__name__
    return name in ("PrimalDualTextModel", "PrimalDualViTModel") and embedding in ("mean", "first")


def main(argv: list[str] | None = None, prog: str | None = None) -> Path:
    parser = Parser(
        DistillationArguments,
        DistillationTrainingArguments,
        prog=prog,
        usage="%(prog)s TEACHER OUTPUT (--texts FILE ... | --images FOLDER) [--flag value ...] [--debug]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("teacher", help="Folder of a checkpoint with softmax attention, or its name on the Hub.")
    parser.add_argument("output", type=Path, help="A new or empty folder.")
    args, training, places = parser.parse_args_into_dataclasses(argv)
    output, run = places.output, places.output / "runs" / "distillation"
    if training.resume_from_checkpoint and any((output / name).exists() for name in (RECORD, RESULTS)):
        print(f"nothing is left to do: {output}")
        return output
    training.output_dir = str(run)

    teacher = load_teacher(places.teacher)
    with training.main_process_first(desc="reading the examples"):
        data, processor, collate, inputs = read_examples(args, places.teacher)
    if len(data) < args.held_out + args.calibration_examples:
        raise ValueError(
            f"`{'texts' if args.images is None else 'images'}` must hold at least {args.calibration_examples} "
            f"examples and the {args.held_out} that are held out, got {len(data)} in all."
        )
    data = data.shuffle(seed=training.seed)
    held_out, data = data.select(range(args.held_out)), data.select(range(args.held_out, len(data)))
    source, inputs = inputs, {**inputs, "examples": len(data)}
    settings = {**asdict(args), **training_settings(training)}
    for name in ("texts", "images", "overwrite"):
        del settings[name]
    begun = {"teacher": places.teacher, "inputs": inputs, **settings}
    if training.should_save:
        begin(output, run, begun, training.resume_from_checkpoint, args.overwrite)
    PartialState().wait_for_everyone()

    found, started = None, time.perf_counter()
    if args.budget is not None:
        rows = [data[place] for place in range(args.calibration_examples)]
        batches = [collate(rows[start : start + 8]) for start in range(0, len(rows), 8)]
        # What `apply` gives a family that keeps its class; a converted one learns Attention-BN from 0.
        keeps_class = teacher.config.model_type not in ARCHITECTURES
        how = {"attention": args.attention if keeps_class else "sh", "embedding": args.embedding}
        found = calibrate(teacher, batches, args.budget, seed=training.seed, **how)
        print(found)
    calibrated = time.perf_counter() - started
    set_seed(training.seed)
    student = make_student(teacher, args.attention, args.embedding, found.settings if found else {})
    trainer = DistillationTrainer(
        student,
        training,
        collate,
        data,
        held_out,
        teacher=teacher,
        embedding=args.embedding,
        layers_weight=args.layers_weight,
        embedding_weight=args.embedding_weight,
        trainable=args.trainable,
        callbacks=[Seconds()],
    )
    before = trainer.evaluate()
    checkpoint = last_checkpoint(run) if training.resume_from_checkpoint else None
    if args.minutes:
        state = checkpoint and TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        training.max_steps = state.max_steps if state else steps_within(args.minutes, trainer)
    after = before
    if args.minutes != 0:
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
        after = trainer.evaluate()
    if not training.should_save:
        return output

    for name, rate in dropout_rates(AutoConfig.from_pretrained(places.teacher)).items():
        if hasattr(student.config, name):
            setattr(student.config, name, rate)
    student.save_pretrained(output)
    processor.save_pretrained(output)
    cosine = {"before": before["eval_cosine"], "after": after["eval_cosine"]}
    taught = {
        "teacher": without_places(places.teacher),
        "inputs": inputs,
        "settings": {**settings, "max_steps": training.max_steps},
        "steps": trainer.state.global_step,
        "seconds": trainer.pop_callback(Seconds).seconds,
    }
    if has_card(student, args.embedding):
        calibration = found and {
            "inputs": {**inputs, "examples": args.calibration_examples},
            "settings": {"budget": args.budget, "seed": training.seed},
            "predicted_change": found.change,
            "seconds": calibrated,
        }
        batches = (collate([row]) for row in held_out)
        measured = measure_encoder(teacher, student, batches, EMBEDDINGS[args.embedding])
        results = {
            **measured,
            **attention_of(student.config, measured["task"]),
            "command": command_line(argv, prog),
            "model_name": re.sub(r"[^A-Za-z0-9.]+", "-", f"{Path(places.teacher).name}-{args.attention}"),
            "license": "",
            "original": original_of(places.teacher),
            "embedding": args.embedding,
            "dataset": {**source, "train": None, "validation": None, "test": len(held_out)},
            "settings": {"max_position_embeddings": args.max_tokens, "held_out": args.held_out},
        }
        if calibration:
            results["calibration"] = calibration
        if taught["steps"]:
            taught["settings"] |= {"cosine_before": cosine["before"], "cosine_after": cosine["after"]}
            results["distillation"] = taught
        write_record(output)
        save_results(results, output / RESULTS)
        write_card(output)
    else:
        record = {
            "command": command_line(argv, prog),
            "date": datetime.date.today().isoformat(),
            **taught,
            "attention": args.attention,
            "head_scales": found and found.head_scales,
            "cost": found and found.cost,
            "cosine": cosine,
            "loss": {"before": before["eval_loss"], "after": after["eval_loss"]},
            **environment(),
        }
        write_atomically(output / RECORD, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    clear_runs(output)
    print(f"mean cosine to the teacher on {len(held_out)} held-out examples: {cosine['before']:.3f} before,")
    print(f"{cosine['after']:.3f} after {trainer.state.global_step} steps\ncheckpoint: {output}")
    return output
