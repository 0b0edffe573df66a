"""Language modelling from flags to a checkpoint that writes, on posts of 20 Newsgroups."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import run_language_modeling as script
import torch
from sources import TEXT_SOURCES
from sources.newsgroups import load_newsgroups
from transformers import AutoModelForCausalLM, ByT5Tokenizer

from hf_primaldual import PrimalDualTextForCausalLM
from hf_primaldual.hub.checks import check
from hf_primaldual.training.language import LanguageDataArguments, LanguageTrainingArguments, language_task
from hf_primaldual.training.texts import TextModelArguments
from hf_primaldual.training.trainer import build_trainer
from tests.scripts import load_script

END = 1


@pytest.fixture(scope="module")
def posts(tmp_path_factory):
    """Files of twelve posts to train on and six to test on, without a class."""
    folder = tmp_path_factory.mktemp("posts")
    texts = load_newsgroups()["train"]["text"][:18]
    for name, part in (("train", texts[:12]), ("test", texts[12:])):
        rows = [json.dumps({"post": text}) for text in part]
        (folder / f"{name}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    files = {f"{name}_file": str(folder / f"{name}.jsonl") for name in ("train", "test")}
    return {**files, "text_column": "post"}


def prepare(**data):
    return language_task(LanguageDataArguments(**data), TextModelArguments(hidden_size=16), None, TEXT_SOURCES)


def test_blocks_hold_the_texts_and_labels_are_their_tokens(posts):
    task = prepare(**posts, max_tokens=32, validation_share=0.25)
    tokenizer, texts = (
        ByT5Tokenizer(),
        [json.loads(line)["post"] for line in Path(posts["test_file"]).read_text().splitlines()],
    )
    tokens = [token for text in texts for token in tokenizer(text)["input_ids"]]
    blocks = np.stack([row["input_ids"] for row in task.splits["test"]])
    assert blocks.ravel().tolist() == tokens[: blocks.size]
    assert len(tokens) - blocks.size < 32
    assert tokens.count(END) == 6
    assert [task.settings[f"{name}_texts"] for name in ("train", "validation", "test")] == [9, 3, 6]
    assert task.sizes["test"] == len(blocks)
    # No text is in two sets.
    held_out = b"".join(bytes(row["input_ids"].astype(np.uint8)) for row in task.splits["validation"])
    trained = b"".join(bytes(row["input_ids"].astype(np.uint8)) for row in task.splits["train"])
    assert len(held_out) > 200
    assert held_out[40:100] not in trained

    batch = task.collate(list(task.splits["train"])[:3])
    assert batch["input_ids"].shape == (3, 32)
    assert torch.equal(batch["labels"], batch["input_ids"])
    assert task.measuring_batch(2, 40)["labels"].shape == (2, 40)
    config = task.config("bn")
    assert (config.is_decoder, config.vocab_size, config.max_position_embeddings) == (True, 384, 32)


def test_loss_and_accuracy_are_those_of_every_next_token(posts, tmp_path):
    args = LanguageTrainingArguments(str(tmp_path), use_cpu=True, disable_tqdm=True, per_device_eval_batch_size=8)
    task = prepare(**posts, max_tokens=16)
    trainer = build_trainer(task, task.config("bn+sh"), args, 0, tmp_path)
    metrics = trainer.evaluate(task.splits["test"])
    ids = torch.stack([torch.from_numpy(row["input_ids"]) for row in task.splits["test"]])
    assert len(ids) % 8
    with torch.inference_mode():
        logits = trainer.model.eval()(ids).logits
    scores, targets = logits[:, :-1].double().log_softmax(-1), ids[:, 1:]
    assert metrics["eval_loss"] == pytest.approx(-scores.gather(-1, targets.unsqueeze(-1)).mean().item(), abs=1e-5)
    assert metrics["eval_accuracy"] == pytest.approx((scores.argmax(-1) == targets).double().mean().item())


@pytest.mark.processes
def test_a_run_leaves_a_checkpoint_that_writes(posts, tmp_path):
    settings = {**posts, "max_tokens": 32, "output_dir": tmp_path / "out", "results_dir": tmp_path / "results"}
    settings |= {"name": "posts", "max_steps": 4, "eval_steps": 2, "save_steps": 2, "ema_decay": 0.5}
    settings |= {"eval_strategy": "steps", "save_strategy": "steps", "hidden_size": 16, "num_hidden_layers": 1}
    settings |= {"attention": "bn", "disable_tqdm": "true", "use_cpu": "true", "efficiency_tokens": 32, "threads": 1}
    argv = [*(f"--{name}={value}" for name, value in settings.items()), "--seeds", "0", "1", "--model_license", "mit"]
    folder = script.main(argv)
    results, card = json.loads((folder / "results.json").read_text()), (folder / "README.md").read_text()
    assert (results["task"], results["dataset"]["vocabulary"]) == ("text-generation", 384)
    assert "classes" not in results["dataset"]
    (released,) = (run for run in results["runs"] if run["released"])
    assert released["validation_loss"] == min(run["validation_loss"] for run in results["runs"][2:])

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert isinstance(model, PrimalDualTextForCausalLM)
    task = prepare(**posts, max_tokens=32)
    batch = task.collate(list(task.splits["test"]))
    with torch.inference_mode():
        loss = model(**batch).loss.item()
    assert released["test_loss"] == pytest.approx(loss, abs=1e-4)
    (metric,) = (line for line in card.splitlines() if line.startswith("| `bn` | ") and line.count("|") == 4)
    perplexities = [math.exp(run["test_loss"]) for run in results["runs"][2:]]
    assert f"| {np.mean(perplexities):.3f} ± {np.std(perplexities, ddof=1):.3f} |" in metric
    assert model.generation_config.use_cache
    assert model.generation_config.eos_token_id in (END, [END])
    check(folder)

    section = load_script("render_results").render(results)
    assert "in blocks of 32 of 384 tokens" in section
    assert "| test perplexity |" in section


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tokens": 1}, "`max_tokens` must be at least 2, a token and the next one, got 1"),
        ({"max_tokens": 100_000}, "the train set has fewer than 100000 tokens; .*the test set has fewer"),
        ({"classes": ["a", "b"]}, "`classes` goes with classifiers of texts"),
        ({"text_column": "words"}, r"train\.jsonl has no column 'words'; it has post: name .*`--text_column`"),
        ({"validation_share": 0.01}, "`validation_share` = 0.01 must leave texts on both sides of the cut, of 12"),
    ],
)
def test_flags_that_do_not_fit_the_data_are_named(posts, settings, message):
    with pytest.raises(ValueError, match=message):
        prepare(**{**posts, **settings})


def test_tasks_of_tokens_and_smoothed_labels_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`task` must be one of single texts for a language model, got 'pathfinder'"):
        prepare(task="pathfinder", train_size=2, validation_size=2, test_size=2)
    with pytest.raises(ValueError, match="`label_smoothing_factor` is for classifiers"):
        LanguageTrainingArguments(str(tmp_path), label_smoothing_factor=0.1)
