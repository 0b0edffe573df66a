"""The README's efficiency tables are the committed results."""

import json
from pathlib import Path

import pytest

from hf_primaldual import PrimalDualTextConfig
from hf_primaldual.measure import text_model_flops, text_model_peak_bytes

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# What the README calls the names of the results.
LABELS = {
    "sh:256": "`sh`, 256 points",
    "sparse:local": "`sparse`, window 256",
    "sparse": "`sparse`, window 256 and stride 128",
}


def results_of(name: str) -> dict:
    """The one committed file of a measurement, on whatever machine."""
    (file,) = (ROOT / "results").glob(f"{name}-*.json")
    return json.loads(file.read_text(encoding="utf-8"))


def row(label: str, cells: list[str]) -> str:
    return f"| {' | '.join([label, *cells])} |"


def test_the_table_of_layers():
    rows = results_of("attention-training-128x8")["rows"]
    names = list(dict.fromkeys(each["attention"] for each in rows))
    for name in names:
        own = sorted((each for each in rows if each["attention"] == name), key=lambda each: each["tokens"])
        if name == "softmax":
            expected = row("`softmax` on sdpa, ms", [f"{each['ms']['median']:.1f}" for each in own])
        else:
            expected = row(LABELS.get(name, f"`{name}`"), [f"{each['ratio']:.3f}" for each in own])
        assert expected in README


def test_the_table_of_vision_models():
    pairs = [*results_of("models-vit-inference-batch8")["pairs"], *results_of("models-vit-training-batch8")["pairs"]]
    for name, label in (("softmax", "`softmax`"), ("bn", "`bn`"), ("bn+sh", "`bn+sh`, scale 2 on all heads")):
        assert row(label, [f"{pair['ratio']:.3f}" for pair in pairs if pair["model"] == name]) in README


@pytest.mark.parametrize("pair", [("bn+sh", "softmax"), ("bn+sh:256", "softmax"), ("nystromformer", "softmax"),
                                  ("bn+sh:256", "nystromformer")], ids="/".join)  # fmt: skip
def test_the_ratios_of_text_models_in_the_text(pair):
    pairs = {(each["model"], each["baseline"]): each["ratio"] for each in results_of("models-text-training")["pairs"]}
    section = README[README.index("A training step of `PrimalDualText`") :].split("\n\n")[0]
    assert f"{pairs[pair]:.3f}" in section


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
    assert row(str(tokens), [f"{ratio:.3f}" for ratio in ratios]) in document
