"""On long sequences a layer keeps less for its backward: the same output and gradients, from fewer tensors."""

import pytest
import torch

from hf_primaldual import PrimalDualTextConfig, PrimalDualTextForSequenceClassification
from hf_primaldual.measure import activation_memory, peak_memory
from hf_primaldual.modeling import memory_primal_dual
from tests.modeling.cases import all_settings
from tests.modeling.parity import (
    compare,
    layer_results,
    make_cotangent,
    make_input,
    make_layer,
    reference_results,
    relative_errors,
)
from tests.modeling.test_parity import HALF, dtypes


@pytest.fixture
def long(monkeypatch):
    """Every sequence counts as long."""
    monkeypatch.setattr(memory_primal_dual, "LONG", 1)


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize(("preset", "fields"), all_settings("bn+sh-default", "sh-conv", "sh-random", "-points-listed"))
def test_output_and_gradients_equal_the_formulas(preset, fields):
    compare(make_layer(preset, **fields).double(), "holes", 3, 21)
    compare(make_layer(preset, grid_size=[3, 7], num_prefix_tokens=1, **fields).double(), "unmasked", 2, 22)


@pytest.mark.usefixtures("long")
@dtypes
def test_autocast(dtype):
    layer, hidden_states = make_layer("bn+sh"), make_input(None, 3, 63)
    cotangent = make_cotangent(None, hidden_states)
    with torch.autocast("cpu", dtype):
        actual = layer_results(layer, hidden_states, None, cotangent)
    errors = relative_errors(actual, reference_results(layer, hidden_states, None, cotangent))
    assert max(errors.values()) <= 24 * HALF[dtype], errors


@pytest.mark.usefixtures("long")
def test_a_second_derivative_is_that_of_plain_autograd(monkeypatch):
    layer = make_layer("bn+sh", "eager", bn_beta_learnable=True).double()
    hidden_states = make_input(None, 2, 63).double().requires_grad_()

    def second():
        (gradient,) = torch.autograd.grad(layer(hidden_states)[0].sin().sum(), hidden_states, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), (hidden_states, layer.q_proj.weight, layer.k_proj.weight))

    kept = second()
    monkeypatch.setattr(memory_primal_dual, "LONG", 10**9)
    torch.testing.assert_close(kept, second(), rtol=1e-9, atol=1e-9)


def step_of(attention: str, tokens: int):
    config = PrimalDualTextConfig(
        attention=attention,
        hidden_size=128,
        num_attention_heads=8,
        num_hidden_layers=2,
        intermediate_size=256,
        max_position_embeddings=tokens,
        hidden_dropout_prob=0.0,
    )
    model = PrimalDualTextForSequenceClassification(config)
    inputs = {"input_ids": torch.randint(1, 300, (1, tokens)), "labels": torch.tensor([1])}
    return model, lambda: model(**inputs).loss


def test_a_long_training_step_takes_less_memory_than_softmax_on_sdpa():
    peaks = {}
    for attention in ("softmax", "bn", "bn+sh"):
        _, loss = step_of(attention, 2 * memory_primal_dual.LONG)
        peaks[attention] = peak_memory(lambda loss=loss: loss().backward())
    assert peaks["bn"] <= 1.01 * peaks["softmax"]
    assert peaks["bn+sh"] <= 0.97 * peaks["softmax"]


def test_short_sequences_are_left_to_autograd(monkeypatch):
    model, loss = step_of("bn+sh", 128)
    kept = activation_memory(model, loss)
    monkeypatch.setattr(memory_primal_dual, "LONG", 128)
    assert activation_memory(model, loss) < 0.9 * kept
