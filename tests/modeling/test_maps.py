"""Attention maps: when they are put out, and that the output is made of them."""

import pytest
import torch

from tests.modeling.models import MODELS, inputs_of, presets_in_turn


def each_map(outputs) -> list[torch.Tensor]:
    """All maps of a model, those of each head where a layer puts out so."""
    layers = outputs.attentions
    return [maps for layer in layers for maps in ((layer,) if isinstance(layer, torch.Tensor) else layer)]


@presets_in_turn
def test_a_configuration_that_asks_for_maps_gets_them(name, preset):
    asking, inputs = MODELS[name].make(attention=preset, output_attentions=True), inputs_of(name)
    plain = MODELS[name].make(attention=preset)
    plain.load_state_dict(asking.state_dict())
    torch.testing.assert_close(each_map(asking(**inputs)), each_map(plain(**inputs, output_attentions=True)))
    assert asking(**inputs, output_attentions=False).attentions is None
    assert plain(**inputs).attentions is None


@pytest.mark.parametrize("side", ["right", "left"])
@presets_in_turn
def test_the_output_is_made_of_the_maps(name, preset, side):
    model, inputs = MODELS[name].make(attention=preset, bn_eps=0.1), inputs_of(name)
    if side == "left" and name != "vit":
        inputs = {key: values.flip(1) for key, values in inputs.items()}
    expected = model(**inputs).logits
    weights = list(model.parameters())
    gradients = torch.autograd.grad(expected.sum(), weights)

    outputs = model(**inputs, output_attentions=True)
    torch.testing.assert_close(outputs.logits, expected, rtol=1e-4, atol=1e-5)
    maps = each_map(outputs)
    of_maps = torch.autograd.grad(outputs.logits.sum(), maps, retain_graph=True)
    assert all(gradient.abs().max() > 0 for gradient in of_maps)
    largest = max(gradient.abs().max().item() for gradient in gradients)
    for actual, gradient in zip(torch.autograd.grad(outputs.logits.sum(), weights), gradients, strict=True):
        torch.testing.assert_close(actual, gradient, rtol=1e-4, atol=1e-5 * largest)
