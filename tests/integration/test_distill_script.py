"""The program that makes a checkpoint cheaper and teaches it, as a user runs it."""

import json
from hashlib import sha256

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    Dinov2Config,
    Dinov2Model,
    ElectraConfig,
    ElectraModel,
    ViTImageProcessorPil,
)

from hf_primaldual.commands.distill import Seconds
from hf_primaldual.hub.publish import publish
from tests.integration.test_convert_script import SIZES, bert_with_tokenizer, vit_with_processor
from tests.scale.jobs import two_processes
from tests.scripts import load_script

pytestmark = pytest.mark.unmutated


def distill(*arguments):
    shared = ("--held_out", 4, "--calibration_examples", 8, "--use_cpu", "--disable_tqdm", "true")
    return load_script("distill").main([*map(str, (*arguments, *shared))])


def recorded(folder) -> dict:
    return json.loads((folder / "results.json").read_text())


def cosine_of(folder) -> float:
    return recorded(folder)["evaluations"][0]["cosine"]


@pytest.fixture
def texts(tmp_path):
    drawn = np.random.default_rng(0)
    lines = [" ".join(drawn.choice(["key", "value"], drawn.integers(20, 40))) for _ in range(20)]
    (tmp_path / "texts.txt").write_text("\n".join([*lines[:10], "", *lines[10:]]))
    return tmp_path / "texts.txt"


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images").mkdir()
    for place, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (20, 40, 40, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{place}.png")
    return tmp_path / "images"


def dinov2_with_processor(folder):
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    Dinov2Model(Dinov2Config(image_size=32, patch_size=8, mlp_ratio=1, **SIZES)).save_pretrained(folder)


def test_texts_teach_a_converted_model(tmp_path, texts):
    bert_with_tokenizer(tmp_path / "teacher")
    output = distill(
        tmp_path / "teacher", tmp_path / "out", "--texts", texts, "--budget", 0.5, "--max_steps", 3, "--max_tokens", 24
    )
    record = recorded(output)
    taught = record["distillation"]
    assert (taught["teacher"], taught["steps"]) == ("teacher", 3)
    assert record["cost"] == np.mean(1 / np.array(record["head_scales"])) <= 0.5
    assert taught["inputs"]["sha256"] == {"texts.txt": sha256(texts.read_bytes()).hexdigest()}
    assert (taught["inputs"]["name"], taught["inputs"]["examples"]) == ("texts", 16)
    assert record["calibration"]["inputs"]["examples"] == 8
    assert record["original"]["sha256"].keys() == {"model.safetensors"}
    # Of examples that were held out, each alone and in batches.
    assert cosine_of(output) == pytest.approx(taught["settings"]["cosine_after"], abs=1e-5)
    card = (output / "README.md").read_text()
    assert "3 steps with teacher as the teacher, on 16 texts of texts" in card
    assert f"| {record['evaluations'][0]['tokens']} tokens | {cosine_of(output):.2g}" in card
    sent = publish(output, "me/taught", license="mit", dry_run=True)
    assert {"README.md", "results.json", "tokenizer.json"} < dict(sent.files).keys()
    assert str(tmp_path) not in json.dumps(record)
    assert not (output / "runs").exists()

    model, tokenizer = AutoModel.from_pretrained(output), AutoTokenizer.from_pretrained(output)
    assert model.config.head_scales == record["head_scales"]
    assert (model.config.hidden_dropout_prob, model.config.pooling) == (0.1, "mean")
    assert model(**tokenizer("key value", return_tensors="pt")).last_hidden_state.shape == (1, 4, 16)
    assert distill(tmp_path / "teacher", output, "--texts", texts, "--resume_from_checkpoint") == output
    with pytest.raises(FileExistsError, match="--overwrite to replace it"):
        distill(tmp_path / "teacher", output, "--texts", texts)


@pytest.mark.parametrize("save", [vit_with_processor, dinov2_with_processor])
def test_images_teach_too_for_as_long_as_is_said(tmp_path, images, save):
    save(tmp_path / "teacher")
    output = distill(
        tmp_path / "teacher", tmp_path / "out", "--images", images, "--minutes", 0.005, "--embedding", "first"
    )
    taught = recorded(output)["distillation"]
    assert taught["steps"] == taught["settings"]["max_steps"] > 0
    assert (taught["inputs"]["name"], taught["inputs"]["examples"]) == ("images", 16)
    assert publish(output, "me/taught", license="mit", dry_run=True).files
    pixels = AutoImageProcessor.from_pretrained(output)(Image.new("RGB", (9, 9)), return_tensors="pt")
    assert AutoModel.from_pretrained(output)(**pixels).last_hidden_state.shape == (1, 17, 16)


def test_it_goes_on_where_it_was_stopped(tmp_path, texts, monkeypatch):
    bert_with_tokenizer(tmp_path / "teacher")
    flags = ("--texts", texts, "--max_steps", 6, "--save_steps", 2, "--logging_steps", 1)
    whole = distill(tmp_path / "teacher", tmp_path / "whole", *flags)
    with monkeypatch.context() as patch:
        count = Seconds.on_step_end

        def stopped(self, args, state, *rest, **kwargs):
            count(self, args, state, *rest, **kwargs)
            if state.global_step == 5:
                raise KeyboardInterrupt

        patch.setattr(Seconds, "on_step_end", stopped)
        with pytest.raises(KeyboardInterrupt):
            distill(tmp_path / "teacher", tmp_path / "out", *flags)
    state = tmp_path / "out/runs/distillation/checkpoint-4/trainer_state.json"
    (spent,) = (
        each["args"] for name, each in json.loads(state.read_text())["stateful_callbacks"].items() if name == "Seconds"
    )
    with pytest.raises(ValueError, match="begun with other settings of learning_rate"):
        distill(tmp_path / "teacher", tmp_path / "out", *flags, "--resume_from_checkpoint", "--learning_rate", 1e-5)
    output = distill(tmp_path / "teacher", tmp_path / "out", *flags, "--resume_from_checkpoint")
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (output, whole))
    assert all(torch.equal(ours[name], weight) for name, weight in theirs.items())
    assert cosine_of(output) == cosine_of(whole)
    assert recorded(output)["distillation"]["seconds"] > spent["seconds"] > 0


def test_nothing_is_taught_in_no_time(tmp_path, texts):
    bert_with_tokenizer(tmp_path / "teacher")
    output = distill(tmp_path / "teacher", tmp_path / "out", "--texts", texts, "--budget", 0.8, "--minutes", 0)
    assert "distillation" not in recorded(output)
    assert "nothing was trained" in (output / "README.md").read_text()
    original, converted = (load_file(folder / "model.safetensors") for folder in (tmp_path / "teacher", output))
    assert torch.equal(converted["embeddings.word_embeddings.weight"], original["embeddings.word_embeddings.weight"])


def test_what_has_no_card_has_a_record(tmp_path, texts):
    """A family that `convert` does not take keeps its class, and needs the package where it is loaded."""
    bert_with_tokenizer(tmp_path / "teacher", ElectraModel, ElectraConfig)
    output = distill(tmp_path / "teacher", tmp_path / "out", "--texts", texts, "--max_steps", 1)
    record = json.loads((output / "distillation.json").read_text())
    assert record["steps"] == 1
    assert record["cosine"].keys() == {"before", "after"}
    assert type(AutoModel.from_pretrained(output)) is ElectraModel


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ([], "one of `texts` and `images` must be given"),
        (["--texts", "texts.txt", "--budget", "0.5", "--attention", "bn"], "`budget` chooses factors of Attention-SH"),
        (["--texts", "texts.txt", "--minutes", "-1"], "`minutes` must be at least 0"),
        (["--texts", "texts.txt", "--held_out", "15"], "at least 8 examples and the 15 that are held out, got 20"),
        (["--texts", "texts.txt", "--held_out", "0"], "`held_out` must be at least 1"),
    ],
)
def test_what_it_cannot_be_asked(tmp_path, texts, monkeypatch, flags, error):
    bert_with_tokenizer(tmp_path / "teacher")
    monkeypatch.chdir(tmp_path)
    main = load_script("distill").main
    with pytest.raises(ValueError, match=error):
        main(["teacher", "out", "--calibration_examples", "8", "--use_cpu", *flags])
    assert not (tmp_path / "out").exists()


@pytest.mark.processes
def test_two_processes_teach_as_one_does(tmp_path, texts):
    bert_with_tokenizer(tmp_path / "teacher")
    flags = ("--texts", texts, "--max_steps", 3, "--optim", "sgd", "--learning_rate", 0.1, "--warmup_steps", 0)
    one = distill(tmp_path / "teacher", tmp_path / "one", *flags, "--per_device_train_batch_size", 4)
    shared = ("--held_out", 4, "--calibration_examples", 8, "--per_device_train_batch_size", 2)
    ended = two_processes("scripts/distill.py", tmp_path / "teacher", tmp_path / "two", *flags, *shared)
    assert ended.returncode == 0, ended.stderr
    for name, weight in load_file(one / "model.safetensors").items():
        torch.testing.assert_close(load_file(tmp_path / "two/model.safetensors")[name], weight, rtol=0, atol=1e-5)
    assert cosine_of(tmp_path / "two") == pytest.approx(cosine_of(one), abs=1e-5)
