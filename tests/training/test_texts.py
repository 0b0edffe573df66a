"""Sequence classification from flags to a checkpoint that loads, on generated expressions and small files."""

import json
from dataclasses import replace

import numpy as np
import pytest
import run_sequence_classification as script
import torch
import yaml
from datasets import ClassLabel, Dataset, Features, List, Value
from sources import TEXT_SOURCES
from transformers import AutoModelForSequenceClassification, ByT5Tokenizer, pipeline, set_seed

from hf_primaldual import PrimalDualTextForDocumentMatching
from hf_primaldual.data.files import digest
from hf_primaldual.training.samplers import LengthSampler
from hf_primaldual.training.text_sources import listops_tokenizer
from hf_primaldual.training.texts import (
    TextDataArguments,
    TextModelArguments,
    TextTask,
    TextTrainingArguments,
    text_task,
)
from hf_primaldual.training.trainer import build_trainer

QUICK = ["--seeds", "0", "--num_train_epochs", "1", "--attention", "bn+sh", "--disable_tqdm", "true", "--threads", "1"]
SMALL = ["--hidden_size", "16", "--intermediate_size", "16", "--num_hidden_layers", "1", "--efficiency_tokens", "128"]
ROWS = "review\tanother\tstars\n" + "".join(
    f"{('bad', 'good')[index % 2]} film {'x' * index}\tit is {index}\t{1 + 4 * (index % 2)}\n" for index in range(20)
)
COLUMNS = {"text_column": "review", "label_column": "stars"}


@pytest.fixture
def files(tmp_path):
    for name in ("train", "test"):
        (tmp_path / f"{name}.tsv").write_text(ROWS)
    return {"train_file": str(tmp_path / "train.tsv"), "test_file": str(tmp_path / "test.tsv"), **COLUMNS}


def prepare(args: TextTrainingArguments | None = None, **data) -> TextTask:
    return text_task(TextDataArguments(**data), TextModelArguments(hidden_size=16), args, TEXT_SOURCES)


def test_a_checkpoint_of_pairs_matches_documents(files, tmp_path):
    pairs = {**files, "text_pair_column": "another"}
    settings = {**pairs, "validation_share": 0.3, "output_dir": tmp_path / "out"}
    folder = script.main([*(f"--{name}={value}" for name, value in settings.items()), *QUICK, *SMALL])
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert isinstance(model, PrimalDualTextForDocumentMatching)
    assert model.config.id2label == {0: "1", 1: "5"}
    assert json.loads((folder / "results.json").read_text())["task"] == "document-matching"

    task = prepare(**pairs)
    examples = [task.splits["test"][index] for index in (0, 7, 19)]
    batch = task.collate(examples)
    inputs = {f"{prefix}{name}" for prefix in ("", "pair_") for name in ("input_ids", "attention_mask")}
    assert set(batch) == {*inputs, "labels"}
    assert ByT5Tokenizer().decode(batch["pair_input_ids"][1], skip_special_tokens=True) == "it is 7"
    with torch.inference_mode():
        together = model(**batch).logits
        alone = torch.cat([model(**task.collate([example])).logits for example in examples])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_files_of_texts(files):
    task = prepare(**files, validation_share=0.2)
    assert (task.sizes, task.class_names) == ({"train": 16, "validation": 4, "test": 20}, ["1", "5"])
    row = task.splits["test"][1]
    assert (row["input_ids"].tolist(), row["labels"]) == (ByT5Tokenizer()("good film x")["input_ids"], 1)
    # "bad film " and "good film " with 19 letters, and the end of a text.
    assert task.lengths == (10, 30)
    assert task.config("softmax").max_position_embeddings == 30
    assert prepare(**files, max_tokens=12).lengths == (10, 12)
    first, second = (prepare(**files, train_size=8, subset_seed=seed) for seed in (0, 1))
    assert list(first.splits["train"]["length"]) != list(second.splits["train"]["length"])


def test_windows_of_texts_and_their_votes(files, tmp_path):
    once = {"per_device_eval_batch_size": 7, "disable_tqdm": True, "use_cpu": True, "group_by_length": False}
    args = TextTrainingArguments(str(tmp_path / "out"), **once)
    task = prepare(args, **files, max_tokens=12, too_long="window", stride=5, validation_share=0.2)
    assert task.sizes == {"train": 16, "validation": 4, "test": 20}
    test = task.splits["test"]
    ids = [row["input_ids"].tolist() for row in test if row["recording"] == 19]
    whole = ByT5Tokenizer()("good film " + "x" * 19)["input_ids"]
    # Eleven bytes and the end of a text; the last window ends with it, and so does a text that fits.
    assert ids == [[*whole[start : start + 11], 1] for start in (0, 5, 10, 15, 18)]
    assert set(np.bincount(test["recording"])) == {1, 2, 3, 4, 5}
    assert len({(row["recording"].item(), row["labels"].item()) for row in test}) == 20
    trainer = build_trainer(task, task.config("bn"), args, 0, tmp_path)
    metrics = trainer.evaluate(test)
    with torch.inference_mode():
        scores = trainer.model.eval()(**task.collate(list(test))).logits.softmax(-1)
    means = torch.stack([scores[torch.as_tensor(test["recording"][:] == text)].mean(0) for text in range(20)])
    labels = torch.arange(20) % 2
    assert metrics["eval_accuracy"] == pytest.approx((means.argmax(-1) == labels).float().mean().item())
    assert metrics["eval_loss"] == pytest.approx(-means[range(20), labels].log().mean().item(), abs=1e-5)
    for settings, message in (
        ({"max_tokens": 12, "too_long": "window", "stride": 12}, "`stride` must be from 1 to 11, the tokens of a win"),
        (
            {"max_tokens": 12, "too_long": "refuse"},
            "`max_tokens` must be at least 30, or `too_long` cut or window, got 12",
        ),
        ({"too_long": "window", "text_pair_column": "another"}, "`too_long` must be cut or refuse for pairs"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare(**files, **settings)


def test_a_data_set_of_the_hubs_layout(tmp_path):
    features = Features({"text": Value("string"), "labels": List(ClassLabel(names=["joy", "fear", "anger"]))})
    for config, splits in {"raw": ("train",), "simplified": ("train", "dev", "test")}.items():
        for split in splits:
            sets = [[0], [0, 1], [1], []] * 5
            data = Dataset.from_dict({"text": [f"{split} {n}" for n in range(20)], "labels": sets}, features=features)
            data.to_parquet(tmp_path / config / f"{split}-00000-of-00001.parquet")
    configs = [
        {"config_name": config, "data_files": [{"split": split, "path": f"{config}/{split}-*"} for split in splits]}
        for config, splits in {"raw": ["train"], "simplified": ["train", "dev", "test"]}.items()
    ]
    (tmp_path / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n")
    task = prepare(dataset=str(tmp_path), dataset_config="simplified")
    assert task.sizes == {"train": 20, "validation": 20, "test": 20}
    assert task.class_names == ["joy", "fear", "anger"]
    assert task.collate(list(task.splits["test"])[:2])["labels"].tolist() == [[1, 0, 0], [1, 1, 0]]
    assert task.source["source"] == f"a local folder {tmp_path.name}, simplified"
    cut = prepare(dataset=str(tmp_path), dataset_config="raw", test_share=0.3, validation_share=0.2)
    assert cut.sizes == {"train": 10, "validation": 4, "test": 6}


def test_texts_of_several_labels_are_scored_by_exact_matches_and_f1(tmp_path):
    rows = "".join(f"film {index},{('a;b', 'b', ';', 'a')[index % 4]}\n" for index in range(40))
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text(f"text,tags\n{rows}")
    data = {f"{split}_file": str(tmp_path / f"{split}.csv") for split in ("train", "test")}
    data |= {"label_column": "tags", "label_separator": ";", "name": "films"}
    args = TextTrainingArguments(str(tmp_path / "out"), disable_tqdm=True, use_cpu=True)
    task = prepare(args, **data)
    assert (task.source["name"], task.class_names, task.source["majority_share"]) == ("films", ["a", "b"], 0.25)
    assert task.collate(list(task.splits["test"])[:4])["labels"].tolist() == [[1, 1], [0, 1], [0, 0], [1, 0]]
    trainer = build_trainer(task, task.config("softmax"), args, 0, tmp_path)
    assert trainer.model.config.problem_type == "multi_label_classification"
    # Every label of every text: a quarter of the texts is right, half of the labels, and all that there are.
    torch.nn.init.zeros_(trainer.model.classifier.weight)
    torch.nn.init.ones_(trainer.model.classifier.bias)
    metrics = trainer.evaluate(task.splits["test"])
    assert (metrics["eval_accuracy"], metrics["eval_f1"]) == (0.25, pytest.approx(2 / 3))
    assert metrics["eval_loss"] == pytest.approx(np.log(1 + np.e) - 0.5, abs=1e-6)
    assert prepare(**data, classes=["b"]).splits["test"]["labels"][0].tolist() == [0]
    with pytest.raises(ValueError, match="`label_smoothing_factor` is for texts of one class each"):
        prepare(replace(args, label_smoothing_factor=0.1), **data)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"text_column": "words"},
            r"train\.tsv has no column 'words'; it has review, another, stars: name .*`--text_column`",
        ),
        ({"label_column": ["a", "b"]}, r"no column 'a', 'b'; .*`--label_column`.*test\.tsv has no column 'a', 'b'"),
        ({"text_pair_column": "x"}, "no column 'x'; .*`--text_pair_column`"),
        ({"name": "my films"}, "`name` must be of letters, digits, .* got 'my films'"),
        ({"dataset_config": "en"}, "`dataset_config` goes with `dataset`, and means nothing here, got 'en'"),
        (
            {"task": "text", "train_file": None, "test_file": None},
            "`text_column` goes with `dataset` and `train_file`",
        ),
        ({"test_share": 0.2}, "`test_share` cuts a test set out of the training set, and .*tsv has one"),
        (
            {"test_file": None},
            r"train\.tsv has the splits train, but no test; cut one out of train by `test_share`\.$",
        ),
        ({"stride": 5}, "`stride` is that of windows, got 5 with `too_long` = 'cut'"),
        (
            {"too_long": "window", "label_separator": ";", "label_column": ["a", "b"]},
            "`label_separator` parts the labels",
        ),
    ],
)
def test_flags_that_do_not_fit_the_data_are_named(files, settings, message):
    with pytest.raises(ValueError, match=message):
        prepare(**{**files, **settings})


def test_chosen_newsgroups(tmp_path):
    groups = ("rec.autos", "sci.med", "sci.space")
    content = "".join(f"{groups[index % 3]}\ttext number {index}\n" for index in range(30))
    for split in ("train", "test"):
        (tmp_path / f"20newsgroups-{split}.tab").write_text("Category\tText\nd\tstring\nclass\t\n" + content)
    of_folder = {"task": "newsgroups", "data_folder": str(tmp_path)}
    task = prepare(**of_folder, classes=["sci.space", "rec.autos"], validation_share=0.2)
    assert (task.class_names, task.sizes) == (["sci.space", "rec.autos"], {"train": 16, "validation": 4, "test": 20})
    row = task.splits["test"][0]
    assert (ByT5Tokenizer().decode(row["input_ids"], skip_special_tokens=True), row["labels"]) == ("text number 0", 1)
    for classes, message in ((["sci.x", "sci.med"], r"must be of .*, got sci\.x"), (["sci.med"], "at least two")):
        with pytest.raises(ValueError, match=f"`classes` .*{message}"):
            prepare(**of_folder, classes=classes)


@pytest.mark.parametrize(
    ("task", "vocabulary", "pad_token_id", "classes", "unknown"),
    [("listops-lite", 16, 0, 10, "[MAX 4 12 ]"), ("pathfinder", 256, None, 2, "0 256")],
)
def test_tasks_of_tokens_read_what_a_text_writes(task, vocabulary, pad_token_id, classes, unknown):
    task = prepare(task=task, train_size=20, validation_size=10, test_size=20)
    config = task.config("softmax")
    assert (config.vocab_size, config.pad_token_id, config.num_labels) == (vocabulary, pad_token_id, classes)
    masks = {"attention_mask"} if pad_token_id == 0 else set()
    assert set(task.collate(list(task.splits["train"]))) == {"input_ids", "labels"} | masks
    ids = task.splits["test"][0]["input_ids"].tolist()
    written = " ".join(task.processor.convert_ids_to_tokens(ids))
    assert task.processor(written)["input_ids"] == ids
    with pytest.raises(Exception, match="WordLevel error"):
        task.processor(unknown)
    classify = pipeline("text-classification", model=task.model_class(config), tokenizer=task.processor)
    assert classify(written)[0]["label"] in task.class_names
    most_frequent = np.bincount(task.splits["train"]["labels"]).argmax()
    assert task.source["majority_share"] == np.mean(task.splits["test"]["labels"] == most_frequent)


def test_a_tokenizer_of_ones_own(tmp_path):
    listops_tokenizer().save_pretrained(tmp_path / "tokenizer")
    path = tmp_path / "train.csv"
    path.write_text("text,label\n" + '"[MAX 4 3 ]",4\n"[MIN 4 3 ]",3\n' * 10)
    task = prepare(train_file=str(path), test_file=str(path), tokenizer=str(tmp_path / "tokenizer"))
    assert task.splits["test"][0]["input_ids"].tolist() == [2, 10, 9, 5]
    assert task.config("softmax").vocab_size == 16


def test_measuring_repeats_examples():
    task = prepare(task="listops-lite", train_size=4, validation_size=3, test_size=2)
    batch = task.measuring_batch(5, 128)
    assert batch["input_ids"].shape == (5, 128)
    first = task.splits["validation"][0]["input_ids"]
    assert batch["input_ids"][3, len(first) : 2 * len(first)].tolist() == first.tolist()
    config = task.measured(task.config("softmax", attention_probs_dropout_prob=0.1), 128)
    assert (config.max_position_embeddings, config.attention_probs_dropout_prob) == (128, 0.0)


def test_a_digest_is_that_of_the_content():
    rows = {"text": ["a", "bc"], "input_ids": [[1], [2, 3]], "labels": [0, 1]}
    whole = Dataset.from_dict(rows)
    changes = ({"text": ["ab", "c"]}, {"input_ids": [[1, 2], [3]]})
    others = [whole.select([1, 0]), *(Dataset.from_dict({**rows, **changed}) for changed in changes)]
    digests = {digest(data) for data in (whole, *others)}
    assert (digest(Dataset.from_dict(rows)), len(digests)) == (digest(whole), 4)


def test_batches_of_like_length():
    lengths = np.random.default_rng(0).integers(10, 100, 5003)
    torch.manual_seed(3)
    sampler = LengthSampler(Dataset.from_dict({"length": lengths}), batch=16)
    first = list(sampler)
    assert (list(sampler), sorted(first)) == (first, list(range(5003)))
    batches = lengths[first[:4992]].reshape(-1, 16)
    assert lengths.sum() / len(lengths) / batches.max(1).mean() > 0.9
    # Neither short nor long texts come first.
    for part in (batches, batches[:50]):
        assert abs(np.corrcoef(np.arange(len(part)), part.mean(1))[0, 1]) < 0.5
    sampler.set_epoch(1)
    assert list(sampler) != first


def test_a_run_resumed_within_an_epoch_ends_as_if_nothing_had_happened(tmp_path):
    # In the second of three epochs of five steps, in which batches are of like length.
    every = {"save_strategy": "steps", "save_steps": 7, "eval_strategy": "no", "load_best_model_at_end": False}
    args = TextTrainingArguments(
        str(tmp_path), per_device_train_batch_size=2, gradient_accumulation_steps=2, num_train_epochs=3, **every
    )
    sizes = {"train_size": 20, "validation_size": 10, "test_size": 10}
    task = prepare(args, task="listops-lite", **sizes)
    assert task.train_sampler(task.splits["train"]).batch == 4
    # Where lengths do not differ, or it is not asked for, the usual order is.
    assert prepare(args, task="pathfinder", **sizes).train_sampler is None
    assert prepare(replace(args, group_by_length=False), task="listops-lite", **sizes).train_sampler is None

    def train(folder, checkpoint=None):
        set_seed(0)
        trainer = build_trainer(task, task.config("bn+sh"), args, 0, folder, save_total_limit=9)
        trainer.train(resume_from_checkpoint=checkpoint)
        return trainer.model.state_dict()

    whole = train(tmp_path / "whole")
    again = train(tmp_path / "again", str(tmp_path / "whole" / "checkpoint-7"))
    assert [name for name in whole if not torch.equal(whole[name], again[name])] == []
