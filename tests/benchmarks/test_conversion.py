"""The comparison of conversions on a tiny BERT."""

import json
import sys
from pathlib import Path

import conversion
import pytest
import torch
from conversion_arms import (
    ConversionArguments,
    parity,
    prepare_texts,
    probe,
    time_steps,
    train_arm,
)
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from transformers import AutoTokenizer, BertConfig, BertModel, BertTokenizer

ROOT = Path(__file__).parents[2]
WORDS = ["car", "wheel", "road", "moon", "star", "orbit"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny BERT with its tokenizer."""
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
    config = BertConfig(vocab_size=11, max_position_embeddings=32, **shape)
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def texts():
    """Texts about cars and texts about space."""
    features = Features({"text": Value("string"), "label": ClassLabel(names=["autos", "space"])})
    rows = [
        {"text": " ".join(WORDS[3 * label + (index * step) % 3] for step in range(4 + index % 9)), "label": label}
        for index in range(20)
        for label in range(2)
    ]
    return DatasetDict(
        train=Dataset.from_list(rows, features=features), test=Dataset.from_list(rows, features=features)
    )


@pytest.fixture
def args():
    return ConversionArguments(
        train_documents=12, validation_documents=8, test_documents=8, tokens=12, batch=4, epochs=2, anneal_share=0.5
    )


@pytest.fixture
def data(checkpoint, texts, args):
    return prepare_texts(texts, AutoTokenizer.from_pretrained(checkpoint), args)


def test_validation_documents_are_none_of_the_training_documents(checkpoint, texts, args):
    numbered = texts.map(lambda row, index: {"number": index}, with_indices=True)
    data = prepare_texts(numbered, AutoTokenizer.from_pretrained(checkpoint), args)
    numbers = {name: set(split["number"]) for name, split in data.splits.items()}
    assert {name: len(split) for name, split in numbers.items()} == {"train": 12, "validation": 8, "test": 8}
    assert not numbers["train"] & numbers["validation"]
    assert max(len(ids) for ids in data.splits["train"]["input_ids"]) <= args.tokens


def test_an_arm_reads_the_test_set_for_the_chosen_learning_rate_alone(checkpoint, data, args, tmp_path):
    runs = train_arm("recentred", checkpoint, data, args, 0, [1e-2, 1e-5], tmp_path)
    assert [(run["learning_rate"], run["steps"]) for run in runs] == [(1e-2, 6), (1e-5, 6)]
    (read,) = (run for run in runs if run["test_accuracy"] is not None)
    assert read["validation_accuracy"] == max(run["validation_accuracy"] for run in runs)


def test_before_training_nothing_has_changed(checkpoint, data, args):
    assert max(parity(checkpoint, data, args.target()).values()) < 1e-5
    probed = probe(checkpoint, data, {"attention": "softmax"})
    assert probed["test_accuracy"] is None
    assert 0 <= probed["validation_accuracy"] <= 1


def test_time_beyond_the_checkpoints_positions(checkpoint, args):
    rows = time_steps(checkpoint, args.target(), [8, 64], tokens_per_step=64, rounds=1)
    assert [(row["tokens"], row["batch"], row["attention"]) for row in rows] == [
        (8, 8, "softmax"),
        (8, 8, "bn+sh"),
        (64, 1, "softmax"),
        (64, 1, "bn+sh"),
    ]


def test_arguments_that_make_no_comparison():
    with pytest.raises(ValueError, match=r"`arms` must be of softmax, .*, got \['soft'\]"):
        ConversionArguments(arms=["soft"])
    with pytest.raises(ValueError, match=r"`attention` must be one of bn, .*, got 'softmax'"):
        ConversionArguments(attention="softmax")


def test_the_documents_tables_are_those_of_the_results():
    text = (ROOT / "docs" / "conversion.md").read_text(encoding="utf-8")
    (path,) = (ROOT / "results").glob("minilm-20newsgroups-*.json")
    assert conversion.insert_tables(text, json.loads(path.read_text(encoding="utf-8"))) == text


def test_the_comparison_writes_its_results_and_goes_on_where_it_stopped(checkpoint, texts, tmp_path, monkeypatch):
    names = texts["train"].features["label"].names
    for split, rows in texts.items():
        lines = [f"{names[row['label']]}\t{row['text']}\n" for row in rows]
        (tmp_path / f"20newsgroups-{split}.tab").write_text("Category\tText\nd\tstring\nclass\t\n" + "".join(lines))
    flags = ["--model", str(checkpoint), "--data_folder", str(tmp_path), "--output_dir", str(tmp_path / "out")]
    flags += ["--results", str(tmp_path / "results"), "--tokens", "12", "--batch", "4", "--epochs", "1"]
    flags += ["--train_documents", "12", "--validation_documents", "8", "--test_documents", "8"]
    flags += ["--time_tokens", "8", "--time_tokens_per_step", "16", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", [conversion.__file__])
    first = json.loads(conversion.main([*flags, "--seeds", "0"]).read_text())
    assert first["accuracy"]["command"].startswith("python scripts/benchmarks/conversion.py --model ")
    assert len(first["accuracy"]["runs"]) == 6
    assert first["accuracy"]["dataset"]["test"] == 8
    trained = []
    train_once = conversion.train_arm
    monkeypatch.setattr(conversion, "train_arm", lambda arm, *rest: trained.append(arm) or train_once(arm, *rest))
    second = json.loads(conversion.main([*flags, "--seeds", "0", "1"]).read_text())
    assert trained == ["softmax", "converted", "annealed"]
    assert second["accuracy"]["runs"][:6] == first["accuracy"]["runs"]
    read = {(run["arm"], run["seed"]): run["test_accuracy"] for run in second["accuracy"]["runs"] if run["test_loss"]}
    summary = second["accuracy"]["summary"]["annealed"]
    assert summary["seeds"] == 2
    differences = [read["annealed", seed] - read["softmax", seed] for seed in (0, 1)]
    assert summary["difference_mean"] == pytest.approx(sum(differences) / 2)
    assert [row["tokens"] for row in second["time"]["rows"]] == [8, 8]
