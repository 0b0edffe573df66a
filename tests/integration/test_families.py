"""Each family against the naive reference, with and without padding."""

import pytest
import torch

from hf_primaldual import apply
from hf_primaldual.integration import ATTENTIONS
from hf_primaldual.modeling import short_primal_dual
from tests.integration.families import DOCUMENT, FAMILIES, SCALES
from tests.integration.model_types import row, table
from tests.integration.reference import register_naive

# A small epsilon would amplify the rounding of channels that hardly vary.
STATISTICS = (0.7, 1, 0.1)
SETTINGS = {"bn_beta": 0.7, "bn_eps": 0.1, "head_scales": SCALES}
# How the names differ does not depend on the family: each of them in families of four kinds.
SEVERAL = [family for family in FAMILIES if family.name in ("BERT", "ViT", "EuroBERT", "PatchTST")]
CASES = [
    pytest.param(family, name, id=f"{family.name}-{name}")
    for family in FAMILIES
    for name in ATTENTIONS
    if name == family.most or family in SEVERAL
]
several = pytest.mark.parametrize("family", SEVERAL, ids=lambda family: family.name)


def results(model, inputs):
    """The output, and the gradients of all parameters that took part."""
    model.zero_grad()
    output = model(**inputs)[0]
    if "attention_mask" in inputs and inputs["attention_mask"].shape == output.shape[:2]:
        # What padding puts out is nobody's business.
        output = output * inputs["attention_mask"].unsqueeze(-1)
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output).cos()
    (output * weights).sum().backward()
    return output.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def naive_choices(family, name):
    choices = {"statistics": STATISTICS} if "bn" in name else {}
    return choices | ({"scales": SCALES, "prefix": family.prefix, "grid": family.grid} if "sh" in name else {})


def check_equal(actual, expected, tolerance):
    (output, gradients), (expected_output, expected_gradients) = actual, expected
    assert (output - expected_output).abs().max() <= tolerance * expected_output.abs().max()
    assert gradients.keys() == expected_gradients.keys()
    largest = max(gradient.abs().max() for gradient in expected_gradients.values())
    for name, gradient in expected_gradients.items():
        # Against the largest of all: that of the keys' bias is zero but for rounding.
        assert (gradients[name] - gradient).abs().max() <= tolerance * largest, name


@pytest.mark.parametrize(("family", "name"), CASES)
def test_a_family_equals_the_formulas(family, name):
    # A padded batch has a row without padding, too; that there may be no mask at all is the same in each family.
    for padded in (False, True) if family in SEVERAL and family.takes_padding else (family.takes_padding,):
        model = family.build(name, **SETTINGS).double()
        inputs = family.inputs(padded)
        inputs = {key: value.double() if value.is_floating_point() else value for key, value in inputs.items()}
        actual = results(model, inputs)
        model.set_attn_implementation(family.named(register_naive(**naive_choices(family, name))))
        # Some models rotate in float32.
        check_equal(actual, results(model, inputs), 1e-7)


@several
def test_group_by_group_a_family_equals_the_formulas(family, monkeypatch):
    monkeypatch.setattr(short_primal_dual, "SHORT", {})
    test_a_family_equals_the_formulas(family, "primal_dual_bn_sh")


@several
def test_no_transform_and_factors_of_one_are_sdpa(family):
    model, inputs = family.build(), family.inputs(family.takes_padding)
    expected = model(**inputs).last_hidden_state
    model.config.primal_dual = {"bn_beta": 0.0, "bn_scaling": False, "head_scales": [1] * 4}
    for name in ATTENTIONS:
        model.set_attn_implementation(name)
        torch.testing.assert_close(model(**inputs).last_hidden_state, expected, rtol=1e-5, atol=1e-6)
    model.config.primal_dual = None
    changed = model(**inputs).last_hidden_state
    assert (changed - expected).abs().max() > 1e-3
    apply(model, "softmax")
    assert torch.equal(model(**inputs).last_hidden_state, expected)


@pytest.mark.unmutated
@pytest.mark.parametrize("model_type", ["bert", "vit", "llama", "bart", "deepseek_v32", "pixtral"])
def test_a_row_of_the_table_of_model_types_still_holds(model_type):
    assert table([row(model_type)]).splitlines()[-1] in DOCUMENT.read_text().splitlines()
