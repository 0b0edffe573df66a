"""The comparison of conversions on a tiny BERT, the callback that anneals, and the scripts."""

import json
from pathlib import Path

import conversion
import pytest
import torch
from conversion_arms import (
    ConversionArguments,
    build_model,
    make_trainer,
    parity,
    prepare_texts,
    probe,
    time_steps,
    train_arm,
)
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, BertTokenizer, set_seed

from hf_primaldual import AnnealToTarget
from tests.scripts import load_script

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


def test_validation_documents_are_none_of_the_training_documents(texts, checkpoint, args):
    numbered = texts.map(lambda row, index: {"text": row["text"], "number": index}, with_indices=True)
    data = prepare_texts(numbered, AutoTokenizer.from_pretrained(checkpoint), args)
    numbers = {name: set(split["number"]) for name, split in data.splits.items()}
    assert {name: len(split) for name, split in numbers.items()} == {"train": 12, "validation": 8, "test": 8}
    assert not numbers["train"] & numbers["validation"]
    assert max(len(ids) for ids in data.splits["train"]["input_ids"]) <= args.tokens


def test_more_documents_than_there_are(texts, checkpoint, args):
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    args.train_documents = 38
    with pytest.raises(ValueError, match="come from the same 40 documents, got 38 and 8"):
        prepare_texts(texts, tokenizer, args)
    args.test_documents = 41
    with pytest.raises(ValueError, match="`test_documents` must lie in 2 to 38, got 41"):
        prepare_texts(texts, tokenizer, args)


def test_an_arm_reads_the_test_set_for_the_chosen_learning_rate_alone(checkpoint, data, args, tmp_path):
    runs = train_arm("recentred", checkpoint, data, args, seed=0, learning_rates=[1e-3, 1e-2], folder=tmp_path)
    read = [run for run in runs if run["test_accuracy"] is not None]
    assert len(runs) == 2
    assert len(read) == 1
    assert read[0]["validation_accuracy"] == max(run["validation_accuracy"] for run in runs)
    assert {run["steps"] for run in runs} == {6}


def test_before_training_nothing_has_changed(checkpoint, data, args):
    assert max(parity(checkpoint, data, args.target()).values()) < 1e-5
    probed = probe(checkpoint, data, {"attention": "softmax"})
    assert probed["test_accuracy"] is None
    assert 0 <= probed["validation_accuracy"] <= 1


def test_annealing_arrives_and_resumes_to_the_bit(checkpoint, data, args, tmp_path):
    def train(folder, resume=None):
        set_seed(0)
        model = build_model(checkpoint, data, args.arm_fields("annealed"))
        assert model.annealing_progress == 0
        steps = {"save_strategy": "steps", "save_steps": 3}
        trainer = make_trainer(model, data, args, folder, 0, 1e-2, [AnnealToTarget(5)], **steps)
        trainer.train(resume_from_checkpoint=resume)
        return model

    straight = train(tmp_path / "run")
    assert straight.annealing_progress == 1
    half = tmp_path / "run" / "checkpoint-3"
    # After three of five steps: of what it will be, a part; step 3 itself began after two.
    assert type(straight).from_pretrained(half).annealing_progress == pytest.approx(0.4)
    resumed = train(tmp_path / "again", resume=str(half))
    expected = straight.state_dict()
    for name, weight in resumed.state_dict().items():
        assert torch.equal(weight, expected[name]), name


def test_time_beyond_the_checkpoints_positions(checkpoint, args):
    rows = time_steps(checkpoint, args.target(), [8, 64], tokens_per_step=64, rounds=1)
    assert [(row["tokens"], row["batch"], row["attention"]) for row in rows] == [
        (8, 8, "softmax"),
        (8, 8, "bn+sh"),
        (64, 1, "softmax"),
        (64, 1, "bn+sh"),
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"arms": ["soft"]}, "arms"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"learning_rates": []}, "learning_rates"),
        ({"attention": "softmax"}, "attention"),
    ],
)
def test_arguments_that_make_no_comparison(fields, message):
    with pytest.raises(ValueError, match=message):
        ConversionArguments(**fields)


def test_differences_are_paired_by_seed():
    def run(arm, seed, test):
        return {"arm": arm, "seed": seed, "learning_rate": 1e-4, "validation_accuracy": 0.5, "test_accuracy": test}

    runs = [run("softmax", 0, 0.5), run("softmax", 0, None), run("softmax", 1, 0.7), run("annealed", 1, 0.6)]
    summary = conversion.summarize_arms(runs)
    assert summary["softmax"]["seeds"] == 2
    assert summary["annealed"]["difference_mean"] == pytest.approx(-0.1)
    assert summary["annealed"]["difference_std"] is None


@pytest.mark.parametrize(
    "path", sorted((ROOT / "results").glob("minilm-20newsgroups-*.json")), ids=lambda path: path.name
)
def test_the_documents_tables_are_those_of_the_results(path):
    text = (ROOT / "docs" / "conversion.md").read_text(encoding="utf-8")
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
    first = json.loads(conversion.main([*flags, "--seeds", "0"]).read_text())
    assert len(first["accuracy"]["runs"]) == 6
    assert first["accuracy"]["dataset"]["test"] == 8
    trained = []
    train_once = conversion.train_arm
    monkeypatch.setattr(conversion, "train_arm", lambda arm, *rest: trained.append(arm) or train_once(arm, *rest))
    second = json.loads(conversion.main([*flags, "--seeds", "0", "1"]).read_text())
    assert trained == ["softmax", "converted", "annealed"]
    assert second["accuracy"]["runs"][:6] == first["accuracy"]["runs"]
    assert second["accuracy"]["summary"]["annealed"]["seeds"] == 2
    assert [row["tokens"] for row in second["time"]["rows"]] == [8, 8]


def test_the_script_that_converts_saves_a_checkpoint_with_its_tokenizer(checkpoint, tmp_path):
    output = load_script("convert").main([str(checkpoint), str(tmp_path / "out"), "--head_scales", "1", "1", "2", "2"])
    model = AutoModel.from_pretrained(output).eval()
    assert model.config.head_scales == [1, 1, 2, 2]
    assert model.annealing_progress == 0
    assert (output / "modeling_primal_dual_text.py").exists()
    batch = AutoTokenizer.from_pretrained(output)(["car road", "moon"], padding=True, return_tensors="pt")
    original = BertModel.from_pretrained(checkpoint).eval()
    with torch.inference_mode():
        ours, theirs = model(**batch).last_hidden_state, original(**batch).last_hidden_state
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(ours[real], theirs[real])
    with pytest.raises(FileExistsError, match="--overwrite"):
        load_script("convert").main([str(checkpoint), str(output)])
