"""Sequence classification from flags to a checkpoint that loads, on generated expressions and small files."""

import json
from dataclasses import replace

import numpy as np
import pytest
import run_sequence_classification as script
import torch
from datasets import Dataset
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
