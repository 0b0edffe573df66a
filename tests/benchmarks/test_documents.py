"""The tables of efficiency in the documents are the committed results."""

import runpy
from pathlib import Path

import pytest

from hf_primaldual import PrimalDualTextConfig
from hf_primaldual.measure import text_model_flops, text_model_peak_bytes

ROOT = Path(__file__).parents[1]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "render_efficiency.py"))


@pytest.mark.parametrize("document", SCRIPT["DOCUMENTS"])
def test_the_tables_are_what_the_committed_results_render_to(document):
    assert (ROOT / document).read_text(encoding="utf-8") == SCRIPT["rendered"](document)


def test_every_table_is_in_a_document():
    text = "".join((ROOT / document).read_text(encoding="utf-8") for document in SCRIPT["DOCUMENTS"])
    for name in SCRIPT["TABLES"]:
        assert f"<!-- {name} -->" in text


def test_a_measurement_of_which_there_are_none_or_two_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="got 0"):
        SCRIPT["results_of"]("layers", tmp_path)
    for processor in ("one", "other"):
        (tmp_path / f"layers-{processor}.json").write_text('{"hardware": {"accelerator": null}}')
    (tmp_path / "layers-gpu.json").write_text('{"hardware": {"accelerator": "a GPU"}}')
    with pytest.raises(FileNotFoundError, match="got 2"):
        SCRIPT["results_of"]("layers", tmp_path)


@pytest.mark.parametrize("tokens", [1024, 4096, 16384])
def test_the_table_of_the_closed_formulas(tokens):
    softmax, bn_sh = (
        PrimalDualTextConfig(
            attention=attention,
            hidden_size=128,
            num_attention_heads=8,
            num_hidden_layers=2,
            intermediate_size=256,
            max_position_embeddings=tokens,
            hidden_dropout_prob=0.0,
        )
        for attention in ("softmax", "bn+sh")
    )
    ratios = [text_model_flops(bn_sh, tokens).training / text_model_flops(softmax, tokens).training]
    for back_end in ("eager", "sdpa"):
        peaks = [text_model_peak_bytes(config, tokens, 1, back_end) for config in (bn_sh, softmax)]
        ratios.append(peaks[0] / peaks[1])
    document = (ROOT / "docs" / "efficiency.md").read_text(encoding="utf-8")
    assert f"| {' | '.join([str(tokens), *(f'{ratio:.3f}' for ratio in ratios)])} |" in document
