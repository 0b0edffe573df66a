"""transformers' Trainer on real series, texts, pairs of texts and images, and what it leaves in a folder."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from transformers import (
    AutoModel,
    AutoModelForImageClassification,
    ByT5Tokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    ViTImageProcessorPil,
    pipeline,
)

from hf_primaldual import PrimalDualTimeSeriesFeatureExtractor
from hf_primaldual.data import load_uea
from tests.modeling import images, series, texts
from tests.modeling.series import unchanged

ROOT = Path(__file__).parents[2]
BYTES = {"vocab_size": len(ByT5Tokenizer()), "max_position_embeddings": 256, "num_labels": 2}


def real_series():
    data = load_uea("BasicMotions")["train"].shuffle(seed=0).select(range(8)).with_format("numpy")
    extractor = PrimalDualTimeSeriesFeatureExtractor(6).fit(data["past_values"])

    def collate(examples):
        # Two lengths, so that there is padding.
        values = [example["past_values"][: 12 + 8 * (i % 2)] for i, example in enumerate(examples)]
        return {**extractor(values, return_tensors="pt"), "labels": torch.tensor([e["labels"] for e in examples])}

    return series.small_model(num_channels=6, hidden_dropout_prob=0.1), list(data), collate


def real_lines() -> list[tuple[str, int]]:
    """Lines of the README as prose, and of a source as code."""
    prose = [line for line in (ROOT / "README.md").read_text().splitlines() if len(line) > 60 and "|" not in line]
    code = [line.strip() for line in Path(__file__).read_text().splitlines() if "=" in line and len(line) > 30]
    return [(text[:200], label) for label, lines in enumerate((prose, code)) for text in lines[:8]]


def real_texts():
    tokenizer = ByT5Tokenizer()
    rows = [{**tokenizer(text), "labels": label} for text, label in real_lines()]
    return texts.small_model(hidden_dropout_prob=0.1, **BYTES), rows, DataCollatorWithPadding(tokenizer)


def real_pairs():
    tokenizer, lines = ByT5Tokenizer(), real_lines()
    # Whether both lines are of one kind.
    rows = [
        {"texts": (one, other), "labels": int(label == kind)}
        for (one, label), (other, kind) in zip(lines, lines[4:] + lines[:4], strict=True)
    ]

    def collate(examples):
        first, second = (
            tokenizer(list(documents), padding=True, return_tensors="pt")
            for documents in zip(*(example["texts"] for example in examples), strict=True)
        )
        labels = torch.tensor([example["labels"] for example in examples])
        return {**first, **{f"pair_{name}": values for name, values in second.items()}, "labels": labels}

    return texts.small_matcher(**BYTES), rows, collate


PROCESSOR = ViTImageProcessorPil(size={"height": 16, "width": 16})


def digit_images(count: int) -> list[Image.Image]:
    """Scans of digits, of 8 x 8 pixels."""
    return [Image.fromarray((image * 15.9).astype(np.uint8)).convert("RGB") for image in load_digits().images[:count]]


def real_images():
    model = images.small_model(image_size=16, patch_size=4, num_labels=10)
    values = PROCESSOR(digit_images(8), return_tensors="pt")["pixel_values"]
    labels = load_digits().target[:8].tolist()
    return model, [{"pixel_values": v, "labels": label} for v, label in zip(values, labels, strict=True)], None


KINDS = {"series": real_series, "text": real_texts, "pairs": real_pairs, "images": real_images}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_trainer_trains_and_predicts(tmp_path, make):
    model, rows, collate = make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    arguments = TrainingArguments(
        tmp_path / "runs",
        max_steps=2,
        logging_steps=1,
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        save_strategy="no",
        remove_unused_columns=make is not real_pairs,
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
    )
    trainer = Trainer(model, arguments, data_collator=collate, train_dataset=rows)
    trainer.train()
    # Every step has a loss and a gradient; what so short a training reaches is decided by rounding.
    steps = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    assert len(steps) == 2
    assert all(math.isfinite(entry["loss"]) and 0 < entry["grad_norm"] < math.inf for entry in steps)
    assert unchanged(model, before) == []
    predictions = trainer.predict(rows).predictions
    assert predictions.shape == (len(rows), model.config.num_labels)
    trainer.save_model(tmp_path / "saved")
    if make is not real_images:
        assert type(AutoModel.from_pretrained(tmp_path / "saved")) is type(model.model)
        return
    PROCESSOR.save_pretrained(tmp_path / "saved")
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path / "saved")
    with torch.no_grad():
        logits = loaded(torch.stack([row["pixel_values"] for row in rows])).logits
    torch.testing.assert_close(torch.from_numpy(predictions), logits, rtol=1e-4, atol=1e-4)
    classify = pipeline("image-classification", model=str(tmp_path / "saved"), device="cpu")
    (answer,) = classify(digit_images(1), top_k=1)
    assert answer[0]["label"] == model.config.id2label[int(logits[0].argmax())]
