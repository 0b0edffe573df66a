"""
Trains small text models on the bytes of 20 Newsgroups and prints what each learns and how long a step takes.

    python scripts/compare_text_models.py --output results

PrimalDualText with softmax, bn+sh and bn+sh over a fixed number of points, beside transformers' Nystromformer of the
same width, depth, heads and length. Every model reads the same batches in the same order of a seed, from a first byte
that stands for CLS. Nothing is chosen by the test set: settings are equal and the last step counts; it is read once a
run.
"""

import statistics
import tempfile
import time
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    ByT5Tokenizer,
    HfArgumentParser,
    NystromformerConfig,
    NystromformerForSequenceClassification,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    set_seed,
)

from hf_primaldual import PrimalDualTextConfig, PrimalDualTextForSequenceClassification
from hf_primaldual.data import load_newsgroups
from hf_primaldual.measure import count_parameters, save_results

LANDMARKS = 64
# The last token of ByT5's vocabulary, which stands for no byte.
CLS = PrimalDualTextConfig.vocab_size - 1
MODELS = {
    "softmax": {"attention": "softmax"},
    "bn+sh": {"attention": "bn+sh", "head_scales": [2, 4]},
    "bn+sh, 256 points": {"attention": "bn+sh", "head_points": 256},
    "nystromformer": {},
}


@dataclass
class ComparisonArguments:
    """What is trained on what."""

    groups: list[str] = field(
        default_factory=lambda: ["comp.graphics", "rec.sport.hockey", "sci.med", "talk.politics.mideast"],
        metadata={"help": "The classes."},
    )
    tokens: int = field(default=1024, metadata={"help": "Bytes of a text, CLS included; longer ones are cut."})
    test_documents: int = field(default=800, metadata={"help": "Documents of the test set, at most."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Runs."})
    epochs: int = field(default=3, metadata={"help": "Passes over the training set."})
    batch: int = field(default=16, metadata={"help": "Documents of a step."})
    learning_rate: float = field(default=2e-3, metadata={"help": "Of AdamW, with a warm-up of a tenth of the steps."})
    models: list[str] = field(default_factory=lambda: list(MODELS), metadata={"help": "Which models."})
    threads: int | None = field(default=None, metadata={"help": "Threads on a CPU; torch's own choice by default."})
    output: str | None = field(default=None, metadata={"help": "Folder for a JSON file."})


def load_bytes(args: ComparisonArguments) -> dict[str, Dataset]:
    """Training and test set of the groups, as bytes with their mask, all of one length as Nystromformer wants them."""
    tokenizer = ByT5Tokenizer()
    splits = load_newsgroups()
    names = splits["train"].features["label"].names
    unknown = sorted(set(args.groups) - set(names))
    if unknown:
        raise ValueError(f"`groups` names {', '.join(unknown)}, which are not among {', '.join(names)}.")

    def encode(row):
        encoded = tokenizer(
            row["text"], truncation=True, max_length=args.tokens - 1, padding="max_length", add_special_tokens=False
        )
        return {
            "input_ids": [CLS, *encoded["input_ids"]],
            "attention_mask": [1, *encoded["attention_mask"]],
            "labels": args.groups.index(names[row["label"]]),
        }

    kept = splits.filter(lambda label: names[label] in args.groups, input_columns="label")
    kept = kept.map(encode, remove_columns=["text", "label"])
    test = kept["test"].shuffle(seed=0)
    return {"train": kept["train"], "test": test.select(range(min(args.test_documents, len(test))))}


def build(name: str, args: ComparisonArguments) -> PreTrainedModel:
    shape = {
        "vocab_size": PrimalDualTextConfig.vocab_size,
        "max_position_embeddings": args.tokens,
        "hidden_size": 64,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.0,
        "num_labels": len(args.groups),
    }
    if name != "nystromformer":
        return PrimalDualTextForSequenceClassification(PrimalDualTextConfig(**shape, **MODELS[name]))
    config = NystromformerConfig(**shape, segment_means_seq_len=args.tokens, num_landmarks=LANDMARKS)
    return NystromformerForSequenceClassification(config)


def train(name: str, seed: int, data: dict[str, Dataset], args: ComparisonArguments) -> dict:
    """Accuracy on the test set, and seconds per step of training."""
    set_seed(seed)
    model = build(name, args)
    if name == "nystromformer":
        # transformers' raises for a mask beside landmarks: its padding is read like text.
        data = {split: rows.remove_columns("attention_mask") for split, rows in data.items()}
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=args.epochs,
            per_device_train_batch_size=args.batch,
            per_device_eval_batch_size=args.batch,
            learning_rate=args.learning_rate,
            warmup_steps=0.1,
            max_grad_norm=1.0,
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            seed=seed,
        )
        trainer = Trainer(model, arguments, train_dataset=data["train"])
        start = time.perf_counter()
        steps = trainer.train().global_step
        seconds = (time.perf_counter() - start) / steps
        predicted = trainer.predict(data["test"])
    accuracy = float((predicted.predictions.argmax(-1) == np.array(predicted.label_ids)).mean())
    return {
        "model": name,
        "seed": seed,
        "parameters": count_parameters(model),
        "steps": steps,
        "test_accuracy": accuracy,
        "seconds_per_step": seconds,
    }


def main() -> None:
    (args,) = HfArgumentParser(ComparisonArguments).parse_args_into_dataclasses()
    unknown = sorted(set(args.models) - set(MODELS))
    if unknown:
        raise ValueError(f"`models` names {', '.join(unknown)}; there are {', '.join(MODELS)}.")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    data = load_bytes(args)
    sizes = {name: len(split) for name, split in data.items()}
    print(f"{sizes['train']} documents to train on, {sizes['test']} to test on, {args.tokens} bytes")
    runs = []
    # Seed by seed, so that a change of the machine's load touches all models.
    for seed in args.seeds:
        for name in args.models:
            runs.append(train(name, seed, data, args))
            run = runs[-1]
            print(f"{name}, seed {seed}: {run['test_accuracy']:.1%}, {run['seconds_per_step']:.3f} s", flush=True)
    for name in args.models:
        of_model = [run for run in runs if run["model"] == name]
        accuracies = [100 * run["test_accuracy"] for run in of_model]
        deviation = statistics.stdev(accuracies) if len(accuracies) > 1 else float("nan")
        seconds = statistics.median(run["seconds_per_step"] for run in of_model)
        print(f"{name:<18}  {statistics.mean(accuracies):5.1f} ± {deviation:.1f} %  {seconds:.3f} s a step")
    if args.output is not None:
        settings = {key: value for key, value in asdict(args).items() if key != "output"}
        results = {"settings": settings, "documents": sizes, "runs": runs}
        print(f"written: {save_results(args.output, f'newsgroups-bytes-{args.tokens}', results)}")


if __name__ == "__main__":
    main()
