"""The comparison of conversions on a tiny BERT."""

import json

import conversion
import pytest
import torch
from conversion_arms import ConversionArguments, parity, prepare_texts, probe, train_arm
from sources.newsgroups import load_newsgroups
from transformers import AutoTokenizer, BertConfig, BertModel, BertTokenizer

WORDS = ["car", "wheel", "road", "moon", "star", "orbit"]
GROUPS = ("autos", "space")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny BERT with its tokenizer."""
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=11, max_position_embeddings=32, **shape)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def posts(tmp_path_factory):
    """The folder of texts about cars and texts about space."""
    folder = tmp_path_factory.mktemp("posts")
    rows = [
        f"{name}\t{' '.join(WORDS[3 * label + (index * step) % 3] for step in range(4 + index % 9))}\n"
        for index in range(20)
        for label, name in enumerate(GROUPS)
    ]
    for split in ("train", "test"):
        text = "Category\tText\nd\tstring\nclass\t\n" + "".join(rows)
        (folder / f"20newsgroups-{split}.tab").write_text(text)
    return folder


@pytest.fixture
def args():
    return ConversionArguments(
        calibration_documents=4,
        train_documents=12,
        validation_documents=8,
        test_documents=8,
        tokens=12,
        batch=4,
        epochs=2,
    )


@pytest.fixture
def data(checkpoint, posts, args):
    return prepare_texts(load_newsgroups(posts), AutoTokenizer.from_pretrained(checkpoint), args)


def test_validation_documents_are_none_of_the_training_documents(checkpoint, posts, args):
    numbered = load_newsgroups(posts).map(lambda row, index: {"number": index}, with_indices=True)
    data = prepare_texts(numbered, AutoTokenizer.from_pretrained(checkpoint), args)
    numbers = {name: set(split["number"]) for name, split in data.splits.items()}
    assert [len(numbers[name]) for name in ("train", "validation", "test", "calibration")] == [12, 8, 8, 4]
    assert not numbers["train"] & numbers["validation"]
    assert not numbers["calibration"] & (numbers["train"] | numbers["validation"])
    assert max(len(ids) for ids in data.splits["train"]["input_ids"]) <= args.tokens


@pytest.mark.parametrize("arm", ["calibrated bn", "distilled"])
def test_an_arm_reads_the_test_set_for_the_chosen_learning_rate_alone(arm, checkpoint, data, args, tmp_path):
    runs = train_arm(arm, checkpoint, data, args, 0, [1e-2, 1e-5], tmp_path, {"head_scales": [1, 1, 2, 4]})
    assert [(run["learning_rate"], run["steps"]) for run in runs] == [(1e-2, 6), (1e-5, 6)]
    (read,) = (run for run in runs if run["test_accuracy"] is not None)
    assert read["validation_accuracy"] == max(run["validation_accuracy"] for run in runs)


def test_before_training_nothing_has_changed_and_the_test_set_is_not_read(checkpoint, data, args):
    assert max(parity(checkpoint, data).values()) < 1e-5
    assert probe(checkpoint, data, {"attention": "softmax"})["test_accuracy"] is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"arms": ["soft"]}, r"`arms` must be of softmax, .*, got \['soft'\]"),
        ({"attention": "softmax"}, r"`attention` must be one of bn, .*, got 'softmax'"),
    ],
)
def test_arguments_that_make_no_comparison(fields, message):
    with pytest.raises(ValueError, match=message):
        ConversionArguments(**fields)


def test_the_comparison_writes_its_results_and_goes_on_where_it_stopped(checkpoint, posts, tmp_path, monkeypatch):
    flags = ["--model", str(checkpoint), "--data_folder", str(posts), "--output_dir", str(tmp_path / "out")]
    flags += ["--results", str(tmp_path / "results"), "--tokens", "12", "--batch", "4", "--epochs", "1"]
    flags += ["--train_documents", "12", "--validation_documents", "8", "--test_documents", "8"]
    flags += ["--calibration_documents", "4", "--head_scales", "1", "1", "2", "2"]
    flags += ["--time_tokens", "8", "64", "--time_tokens_per_step", "16", "--rounds", "1"]
    first = json.loads(conversion.main([*flags, "--seeds", "0"]).read_text())
    assert len(first["accuracy"]["runs"]) == 8
    trained = []
    train_once = conversion.train_arm
    monkeypatch.setattr(conversion, "train_arm", lambda arm, *rest: trained.append(arm) or train_once(arm, *rest))
    second = json.loads(conversion.main([*flags, "--seeds", "0", "1"]).read_text())
    assert trained == ["softmax", "converted", "calibrated", "distilled"]
    assert second["accuracy"]["runs"][:8] == first["accuracy"]["runs"]
    read = {(run["arm"], run["seed"]): run["test_accuracy"] for run in second["accuracy"]["runs"] if run["test_loss"]}
    summary = second["accuracy"]["summary"]["distilled"]
    differences = [read["distilled", seed] - read["softmax", seed] for seed in (0, 1)]
    assert (summary["seeds"], summary["difference_mean"]) == (2, pytest.approx(sum(differences) / 2))
    assert [(row["tokens"], row["batch"], row["attention"]) for row in second["time"]["rows"]] == [
        (tokens, batch, name) for tokens, batch in ((8, 2), (64, 1)) for name in ("softmax", "bn+sh")
    ]
