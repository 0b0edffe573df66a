"""A model that transformers' own Trainer has trained, in a program of one's own, becomes a checkpoint with a card."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ByT5Tokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

from hf_primaldual import (
    PrimalDualTextConfig,
    PrimalDualTextForCausalLM,
    PrimalDualTimeSeriesConfig,
    PrimalDualTimeSeriesFeatureExtractor,
    PrimalDualTimeSeriesForSequenceClassification,
)
from hf_primaldual.data import load_uea, series_arrays
from hf_primaldual.hub import checkpoint_from_trainer, results_from_trainer
from hf_primaldual.hub.card import render_card
from hf_primaldual.hub.checks import check
from hf_primaldual.hub.publish import stage
from hf_primaldual.modeling.extensions_primal_dual import EXTENSIONS
from hf_primaldual.theory import PrimalLayer
from tests.theory.whitening import Whitening

OWN = PrimalLayer(transforms=(Whitening, "bn"), training_set="downsampled").fields()
SHAPE = {
    "num_channels": 6,
    "num_labels": 4,
    "max_position_embeddings": 100,
    "hidden_size": 16,
    "intermediate_size": 16,
}


@pytest.fixture(scope="module")
def motions():
    return load_uea("BasicMotions")


@pytest.fixture(scope="module")
def train(motions, tmp_path_factory):
    """Trains a small model for an epoch, as a program of one's own does."""
    extractor = PrimalDualTimeSeriesFeatureExtractor(feature_size=6).fit(series_arrays(motions["train"]))

    def collate(rows):
        batch = extractor([np.array(row["past_values"]) for row in rows], return_tensors="pt")
        return {**batch, "labels": torch.tensor([row["labels"] for row in rows])}

    def run(seed: int = 0, evaluated: bool = True, **fields) -> Trainer:
        strategy = "epoch" if evaluated else "no"
        args = TrainingArguments(
            str(tmp_path_factory.mktemp("run")), num_train_epochs=1, per_device_train_batch_size=8, use_cpu=True,
            seed=seed, remove_unused_columns=False, disable_tqdm=True, eval_strategy=strategy,
            logging_strategy="epoch", save_strategy=strategy, load_best_model_at_end=evaluated,
        )  # fmt: skip
        torch.manual_seed(seed)
        model = PrimalDualTimeSeriesForSequenceClassification(
            PrimalDualTimeSeriesConfig(**SHAPE, num_hidden_layers=1, **fields)
        )
        held_out = motions["train"].select(range(0, 40, 5)) if evaluated else None
        trainer = Trainer(
            model, args, collate, motions["train"], held_out, processing_class=extractor if evaluated else None
        )
        trainer.train()
        return trainer

    return run


@pytest.mark.processes
def test_an_own_transform_without_a_baseline_is_published_with_a_licence_that_is_stated_there(
    train, motions, tmp_path, monkeypatch
):
    options = {"test_dataset": motions["test"], "efficiency": True}
    folder = checkpoint_from_trainer(tmp_path / "model", train(**OWN), "Basic Motions", **options)
    results, card = json.loads((folder / "results.json").read_text()), (folder / "README.md").read_text()
    assert results["attention"] == json.loads((folder / "config.json").read_text())["attention"]
    assert results["attention"] == "whitening.Whitening+bn+sh"
    assert results["model_name"] == "primal-dual-basic-motions-whitening.Whitening-bn-sh"
    assert (results["dataset"]["validation"], results["dataset"]["test"], results["baseline"]) == (8, 40, None)
    assert results["settings"]["selection"] == "validation loss, once per epoch"
    assert Image.open(folder / "learning_curves.png").size[0] > 300
    for words in ("No baseline was trained with it", "not of the paper", "its author's program decided", "1 thread"):
        assert words in card
    for words in ("difference", "Ratios", "IntervalStrategy", "1 seeds", "\n\n\n"):
        assert words not in card

    with pytest.raises(ValueError, match=r"'license' is empty, .* `--license apache-2.0` as a flag"):
        check(folder, trust_remote_code=True)
    (tmp_path / "staged").mkdir()
    stage(check(folder, trust_remote_code=True, license="mit"), "me/x", tmp_path / "staged", license="mit")
    assert "\nlicense: mit\n" in (tmp_path / "staged" / "README.md").read_text()

    # The card's own words load it where the package is installed, which must know the transform first.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").rename(results["model_name"])
    monkeypatch.delitem(EXTENSIONS, "whitening.Whitening")
    (with_package, _) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    exec(compile(with_package, "README.md", "exec"), {"series": np.zeros((20, 6))})
    assert EXTENSIONS["whitening.Whitening"].__module__.startswith("transformers_modules.")


def test_the_best_of_several_seeds_is_compared_with_its_baseline(train, motions, tmp_path):
    own = [train(seed, attention="bn") for seed in (0, 1)]
    theirs = [train(seed, attention="softmax") for seed in (0, 1)]
    data = {"name": "BasicMotions", "source": "UEA archive", "licence": "BSD-3-Clause"}
    results = results_from_trainer(own, data, test_dataset=motions["test"], baseline=theirs, license="mit")
    assert (results["baseline"], results["attentions"], results["efficiency"]) == ("softmax", ["bn"], [])
    (released,) = (run for run in results["runs"] if run["released"])
    assert released["validation_accuracy"] == max(run["validation_accuracy"] for run in results["runs"][2:])
    # Trainer's own evaluation says the same.
    chosen = own[released["seed"]]
    assert chosen.evaluate()["eval_loss"] == pytest.approx(released["validation_loss"], abs=1e-5)
    card = render_card(results)
    assert "Not measured." in card
    assert "2 pairs of seeds" in card or "on each of 2 seeds" in card


def test_a_language_model_of_ones_own_trainer_has_its_perplexity(tmp_path):
    tokenizer = ByT5Tokenizer()
    rows = [tokenizer("the quick brown fox jumps over the dog" * 2)["input_ids"][: 20 + n] for n in range(12)]
    config = PrimalDualTextConfig(attention="bn", is_decoder=True, max_position_embeddings=64, num_hidden_layers=1)
    args = TrainingArguments(str(tmp_path / "run"), max_steps=1, use_cpu=True, disable_tqdm=True)
    args.per_device_eval_batch_size = 5
    # Its batches are filled up, with labels of -100.
    collate = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    data = [{"input_ids": row} for row in rows]
    trainer = Trainer(PrimalDualTextForCausalLM(config), args, collate, data, data, processing_class=tokenizer)
    trainer.train()
    folder = checkpoint_from_trainer(tmp_path / "model", trainer, "foxes", test_dataset=data[:7], license="mit")
    results = json.loads((folder / "results.json").read_text())
    assert (results["task"], results["dataset"]["vocabulary"]) == ("text-generation", 384)
    # The mean over tokens, and not over batches of unequal lengths.
    model, losses = trainer.model.eval(), []
    for row in rows[:7]:
        ids = torch.tensor([row])
        losses += [model(input_ids=ids, labels=ids).loss.item()] * (len(row) - 1)
    assert results["runs"][0]["test_loss"] == pytest.approx(np.mean(losses), abs=1e-5)
    check(folder)


def test_what_was_not_measured_is_said_to_be(train):
    card = render_card(results_from_trainer(train(evaluated=False, attention="sh"), "BasicMotions"))
    assert "of which no test set was read" in card
    assert "test accuracy not measured." in card
    assert "none for validation, none to test" in card
    assert "type: accuracy" not in card


def test_what_cannot_be_told_from_a_trainer_is_said(train, motions, tmp_path):
    trainer = train(evaluated=False, attention="sh")
    with pytest.raises(ValueError, match="`processor` must be given"):
        checkpoint_from_trainer(tmp_path / "model", trainer, "BasicMotions")
    with pytest.raises(ValueError, match="`validation_dataset` must be given where the best of several"):
        results_from_trainer([trainer, trainer], "BasicMotions")
    with pytest.raises(ValueError, match="`test_dataset` must be given with a `baseline`"):
        results_from_trainer(trainer, "BasicMotions", baseline=trainer)
    bert = BertForSequenceClassification(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    )
    with pytest.raises(ValueError, match=r"got a BertForSequenceClassification.* its own `push_to_hub`"):
        results_from_trainer(Trainer(bert, TrainingArguments(str(tmp_path), use_cpu=True)), "texts")
