"""Training of the text models, and their checkpoints with a tokenizer, with the package and without it."""

import copy
import math
from pathlib import Path
from unittest import TestCase

import pytest
import torch
from datasets import Dataset
from safetensors.torch import save_file
from transformers import (
    AutoTokenizer,
    ByT5Tokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    pipeline,
)

from tests.modeling.cases import PRESET_CASES, slow_but
from tests.modeling.isolated import run_isolated
from tests.modeling.series import unchanged
from tests.modeling.test_training_of_series_model import fresh_dynamo, train_step  # noqa: F401
from tests.modeling.texts import document_batch, small_matcher, small_model, text_batch

ROOT = Path(__file__).parents[2]
BYTES = {"vocab_size": len(ByT5Tokenizer()), "max_position_embeddings": 256, "num_labels": 2}
NAMES = {"id2label": {0: "prose", 1: "code"}, "label2id": {"prose": 0, "code": 1}}


def lines() -> Dataset:
    """Real text: lines of the README as prose, and of the package's sources as code."""
    prose = [line for line in (ROOT / "README.md").read_text().splitlines() if len(line) > 60 and "|" not in line]
    source = (ROOT / "src/hf_primaldual/modeling/training_sets_primal_dual.py").read_text()
    code = [line.strip() for line in source.splitlines() if "=" in line and len(line) > 30]
    rows = [(text[:200], label) for label, texts in enumerate((prose, code)) for text in texts[:24]]
    return Dataset.from_dict({"text": [text for text, _ in rows], "labels": [label for _, label in rows]})


def arguments(folder, **options) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=1,
        seed=0,
        **options,
    )


def assert_trains(trainer, steps):
    """Every step has a loss and a gradient; what so short a training reaches is decided by rounding."""
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(log) == steps
    assert all(math.isfinite(entry["loss"]) and 0 < entry["grad_norm"] < math.inf for entry in log)
    assert unchanged(trainer.model, before) == []


def test_trainer_classifies_real_lines(tmp_path):
    tokenizer = ByT5Tokenizer()
    data = lines().map(lambda row: tokenizer(row["text"]))
    trainer = Trainer(
        small_model(hidden_dropout_prob=0.1, initializer_range=0.02, **BYTES),
        arguments(tmp_path, max_steps=6),
        train_dataset=data,
        eval_dataset=data,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )
    assert_trains(trainer, 6)
    assert trainer.predict(data).predictions.shape == (len(data), 2)


def test_trainer_matches_real_lines(tmp_path):
    # Whether both lines are of one kind.
    tokenizer, data = ByT5Tokenizer(), lines()
    generator = torch.Generator().manual_seed(0)
    pairs = [torch.randint(len(data), (2,), generator=generator).tolist() for _ in range(48)]
    examples = [
        {"texts": (data[i]["text"], data[j]["text"]), "labels": int(data[i]["labels"] == data[j]["labels"])}
        for i, j in pairs
    ]

    def collate(examples):
        first, second = (
            tokenizer(list(documents), padding=True, return_tensors="pt")
            for documents in zip(*(example["texts"] for example in examples), strict=True)
        )
        labels = torch.tensor([example["labels"] for example in examples])
        return {**first, **{f"pair_{name}": values for name, values in second.items()}, "labels": labels}

    batch = collate(examples[:3])
    assert sorted(batch) == ["attention_mask", "input_ids", "labels", "pair_attention_mask", "pair_input_ids"]
    model = small_matcher(**BYTES)
    trainer = Trainer(
        model,
        arguments(tmp_path, max_steps=6, remove_unused_columns=False),
        train_dataset=examples,
        eval_dataset=examples,
        data_collator=collate,
    )
    assert_trains(trainer, 6)
    assert trainer.predict(examples).predictions.shape == (48, 2)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
@pytest.mark.parametrize("preset", PRESET_CASES)
def test_gradient_checkpointing_changes_nothing(preset):
    plain = small_model(attention=preset, prepend_cls=True).train()
    checkpointed, batch = copy.deepcopy(plain), text_batch()
    checkpointed.gradient_checkpointing_enable({"use_reentrant": False})
    torch.testing.assert_close(train_step(checkpointed, batch), train_step(plain, batch))
    for (name, actual), expected in zip(checkpointed.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, expected.grad, msg=name)


def assert_one_graph(model, batch):
    """A training step, without the compiler behind it, which takes most of the time."""
    compiled = copy.deepcopy(model)
    loss = train_step(torch.compile(compiled, fullgraph=True, backend="aot_eager"), batch)
    torch.testing.assert_close(loss, train_step(model, batch), rtol=1e-5, atol=1e-5)
    for actual, expected in zip(compiled.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, expected.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("preset", slow_but("bn+sh"))
@pytest.mark.usefixtures("fresh_dynamo")
def test_a_training_step_is_one_graph(preset):
    assert_one_graph(small_model(attention=preset, prepend_cls=True, num_hidden_layers=1).train(), text_batch())


@pytest.mark.usefixtures("fresh_dynamo")
def test_a_training_step_of_pairs_is_one_graph():
    assert_one_graph(small_matcher(prepend_cls=True, num_hidden_layers=1).train(), document_batch())


TEXTS = ["The README is prose.", "x = {'a': 1}", "é ≠ e, 日本"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A classifier and a matcher, each beside the tokenizer of bytes, with inputs and what they make of them."""
    torch.manual_seed(0)
    folder, tokenizer = tmp_path_factory.mktemp("checkpoints"), ByT5Tokenizer()
    inputs = dict(tokenizer(TEXTS, padding=True, return_tensors="pt"))
    pair = {f"pair_{name}": values.flip(0) for name, values in inputs.items()}
    for name, model, batch in (
        ("classifier", small_model(prepend_cls=True, pooling="cls", **BYTES, **NAMES), inputs),
        ("matcher", small_matcher(**BYTES), inputs | pair),
    ):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        with torch.no_grad():
            save_file({**batch, "logits": model(**batch).logits}, folder / f"{name}.safetensors")
    return folder


LOAD = """
import pathlib
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer, pipeline

folder, texts = pathlib.Path(sys.argv[1]), sys.argv[2:]
for name in ("classifier", "matcher"):
    inputs = load_file(folder / f"{name}.safetensors")
    expected = inputs.pop("logits")
    model = AutoModelForSequenceClassification.from_pretrained(folder / name, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules."), type(model)
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, expected)
    encoder = AutoModel.from_pretrained(folder / name, trust_remote_code=True)
    print(type(model).__name__, type(encoder).__name__)
    # Saved again, it is what it was.
    model.save_pretrained(folder / "again" / name)
    again = AutoModelForSequenceClassification.from_pretrained(folder / "again" / name, trust_remote_code=True)
    assert type(again).__name__ == type(model).__name__
    # A configuration alone, of the code that came with the checkpoint.
    config = AutoConfig.from_pretrained(folder / name, trust_remote_code=True)
    assert type(AutoModelForSequenceClassification.from_config(config, trust_remote_code=True)).__name__ == type(
        model
    ).__name__
classify = pipeline("text-classification", model=str(folder / "classifier"), trust_remote_code=True)
for answer in classify(texts, batch_size=2):
    print(answer["label"], round(answer["score"], 4))
"""


def test_checkpoints_load_and_predict_without_the_package(checkpoints, tmp_path):
    classify = pipeline("text-classification", model=str(checkpoints / "classifier"))
    answers = [f"{answer['label']} {round(answer['score'], 4)}" for answer in classify(TEXTS, batch_size=2)]
    assert {answer.split()[0] for answer in answers} <= {"prose", "code"}
    printed = run_isolated(LOAD, tmp_path, checkpoints, *TEXTS).splitlines()
    assert printed == [
        "PrimalDualTextForSequenceClassification PrimalDualTextModel",
        "PrimalDualTextForDocumentMatching PrimalDualTextModel",
        *answers,
    ]


def test_the_pipeline_says_what_the_model_says(checkpoints):
    # It logs an error where a model is none of its task.
    with TestCase().assertNoLogs("transformers", "ERROR"):
        classify = pipeline("text-classification", model=str(checkpoints / "classifier"))
    inputs = AutoTokenizer.from_pretrained(checkpoints / "classifier")(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        scores = classify.model(**inputs).logits.softmax(-1)[0]
    answer = classify(TEXTS[0], top_k=None)
    assert {entry["label"]: pytest.approx(entry["score"], abs=1e-5) for entry in answer} == {
        name: scores[i].item() for i, name in NAMES["id2label"].items()
    }


def test_a_checkpoint_carries_the_code_that_it_runs(checkpoints):
    for name in ("classifier", "matcher"):
        code = {path.name for path in (checkpoints / name).glob("*.py")}
        assert {"modeling_primal_dual_text.py", "embeddings_primal_dual_text.py"} <= code
        assert "modeling_primal_dual_time_series.py" not in code
