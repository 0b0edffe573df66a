"""The program that converts a checkpoint, as a user runs it."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertTokenizer,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

import hf_primaldual  # noqa: F401  Registers what the converted checkpoints are loaded by.

pytestmark = pytest.mark.unmutated

SCRIPT = Path(__file__).parents[2] / "scripts" / "convert.py"
SIZES = {"hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 1, "intermediate_size": 16}


def in_this_process(*arguments) -> None:
    runpy.run_path(str(SCRIPT))["main"]([*map(str, arguments)])


def bert_with_tokenizer(folder: Path, model_class=BertModel, config_class=BertConfig) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "key", "value"]
    BertTokenizer(vocab={word: place for place, word in enumerate(words)}).save_pretrained(folder)
    model_class(config_class(vocab_size=len(words), **SIZES)).save_pretrained(folder)


def vit_with_processor(folder: Path) -> None:
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    ViTModel(ViTConfig(image_size=32, patch_size=8, **SIZES)).save_pretrained(folder)


@pytest.mark.parametrize(
    ("save", "auto_class"), [(bert_with_tokenizer, AutoTokenizer), (vit_with_processor, AutoImageProcessor)]
)
def test_a_checkpoint_is_converted_with_what_prepares_its_inputs(tmp_path, save, auto_class):
    save(tmp_path / "theirs")
    in_this_process(tmp_path / "theirs", tmp_path / "ours", "--head_scales", 1, 1, 2, 2)
    model = AutoModel.from_pretrained(tmp_path / "ours")
    assert model.config.head_scales == [1, 1, 2, 2]
    assert type(auto_class.from_pretrained(tmp_path / "ours")) is type(auto_class.from_pretrained(tmp_path / "theirs"))


@pytest.mark.parametrize("save", [bert_with_tokenizer, vit_with_processor])
def test_factors_are_measured_on_texts_or_images(tmp_path, save):
    save(tmp_path / "theirs")
    drawn = np.random.default_rng(0)
    if save is bert_with_tokenizer:
        examples = tmp_path / "texts.txt"
        examples.write_text("\n\n".join(" ".join(drawn.choice(["key", "value"], 30)) for _ in range(70)))
    else:
        examples = tmp_path / "images"
        examples.mkdir()
        for place, pixels in enumerate(drawn.integers(0, 256, (5, 40, 40, 3), dtype=np.uint8)):
            Image.fromarray(pixels).save(examples / f"{place}.png")
    sh = ("--attention", "sh", "--budget", 0.7)
    in_this_process(tmp_path / "theirs", tmp_path / "ours", *sh, "--calibration", examples)
    (scales,) = AutoModel.from_pretrained(tmp_path / "ours").config.head_scales
    sides = 1 if save is bert_with_tokenizer else 2
    assert np.mean(1 / np.array(scales) ** sides) <= 0.7 < 1
    with pytest.raises(ValueError, match="`budget` and `calibration` go together"):
        in_this_process(tmp_path / "theirs", tmp_path / "none", *sh)


def test_a_broken_tokenizer_is_not_left_out_in_silence(tmp_path):
    bert_with_tokenizer(tmp_path / "theirs")
    (tmp_path / "theirs" / "tokenizer.json").write_text("{")
    with pytest.raises(json.JSONDecodeError):
        in_this_process(tmp_path / "theirs", tmp_path / "ours")
