"""The program that converts a checkpoint, as a user runs it."""

import json
import runpy
from pathlib import Path

import pytest
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
    in_this_process(tmp_path / "theirs", tmp_path / "ours", "--head_scales", 1, 1, 2, 2, "--no-identity")
    model = AutoModel.from_pretrained(tmp_path / "ours")
    assert model.config.head_scales == [1, 1, 2, 2]
    assert type(auto_class.from_pretrained(tmp_path / "ours")) is type(auto_class.from_pretrained(tmp_path / "theirs"))


def test_a_broken_tokenizer_is_not_left_out_in_silence(tmp_path):
    bert_with_tokenizer(tmp_path / "theirs")
    (tmp_path / "theirs" / "tokenizer.json").write_text("{")
    with pytest.raises(json.JSONDecodeError):
        in_this_process(tmp_path / "theirs", tmp_path / "ours")
