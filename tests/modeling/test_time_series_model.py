"""What is the series model's own: padding, what is learned on top of a checkpoint, and its batch normalization."""

import copy

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from hf_primaldual.modeling.layers_primal_dual import TokenBatchNorm
from tests.modeling.cases import right_padding
from tests.modeling.series import series_batch, small_model
from tests.modeling.test_every_model import gradients

WIDTH = 6


def test_what_lies_in_padding_is_not_looked_at():
    model, batch = small_model(), series_batch()
    expected = model(**batch).logits
    padded = batch["attention_mask"].eq(0)
    for value in (0.0, float("nan"), float("inf")):
        batch["past_values"][padded] = value
        assert torch.equal(model(**batch).logits, expected)


def test_labels_of_minus_100_do_not_count():
    model, batch = small_model(), series_batch()
    batch["labels"][1:3] = -100
    outputs = model(**batch)
    expected = nn.functional.cross_entropy(outputs.logits[[0, 3]], batch["labels"][[0, 3]])
    torch.testing.assert_close(outputs.loss, expected)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoint")
    model = small_model()
    model.save_pretrained(folder)
    return model, folder


def test_another_attention_is_chosen_when_loading(saved):
    model, folder = saved
    batch = series_batch()
    loaded = AutoModelForSequenceClassification.from_pretrained(folder, attention="softmax")
    expected = small_model(attention="softmax")
    expected.load_state_dict(model.state_dict())
    assert torch.equal(loaded(**batch).logits, expected(**batch).logits)
    assert not torch.allclose(loaded(**batch).logits, model(**batch).logits)


LEARNED = {
    "conv2d": ({"attention": "softmax"}, {"attention": "conv2d"}),
    "sampling": ({}, {"sampling": "conv"}),
    "beta": ({"bn_beta": 0.4}, {"bn_beta_learnable": True, "bn_beta": 0.4}),
}


@pytest.mark.parametrize(("plain", "learned"), LEARNED.values(), ids=LEARNED)
def test_what_is_learned_on_top_of_a_checkpoint_starts_as_what_changes_nothing(saved, plain, learned):
    _, folder = saved
    batch = series_batch()
    expected = AutoModelForSequenceClassification.from_pretrained(folder, **plain)
    actual = AutoModelForSequenceClassification.from_pretrained(folder, **learned)
    torch.testing.assert_close(actual(**batch).logits, expected(**batch).logits, rtol=1e-4, atol=1e-5)


def built_anew(model, folder):
    model.config.dtype = torch.bfloat16
    return type(model)._from_config(model.config)


TO_BFLOAT16 = {
    "loaded": lambda model, folder: type(model).from_pretrained(folder, dtype=torch.bfloat16),
    "cast": lambda model, folder: copy.deepcopy(model).to(torch.bfloat16),
    "built": built_anew,
}


@pytest.mark.parametrize("way", TO_BFLOAT16)
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_in_bfloat16_batch_norms_stay_as_they_are(tmp_path, norm, way):
    model = small_model(norm_type=norm, bn_eps=0.1)
    model.save_pretrained(tmp_path)
    halved = TO_BFLOAT16[way](model, tmp_path)
    # The counters do not matter: with a momentum nothing reads them.
    state = {name: t for name, t in halved.state_dict().items() if not name.endswith("num_batches_tracked")}
    kept = {name for name, tensor in state.items() if tensor.dtype == torch.float32}
    assert kept == ({name for name in state if ".norm" in name} if norm == "batch" else set())
    assert way == "built" or all(torch.equal(state[name], model.state_dict()[name]) for name in kept)
    assert halved(**series_batch()).logits.dtype == torch.bfloat16
    loss, found = gradients(halved.train(), series_batch())
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in found.values())


def test_what_embeds_the_steps_can_be_asked_for_and_replaced():
    model, embedding = small_model(), nn.Linear(3, 16)
    assert model.get_input_embeddings() is model.model.embeddings.value_projection
    model.set_input_embeddings(embedding)
    assert model.model.embeddings.value_projection is embedding
    # What PEFT asks of a frozen model for gradient checkpointing.
    model.requires_grad_(False).enable_input_require_grads()
    assert model(**series_batch()).logits.requires_grad


def batch_norms():
    """TokenBatchNorm and torch's, with the same weights."""
    ours, theirs = TokenBatchNorm(WIDTH), nn.BatchNorm1d(WIDTH)
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def run(norm, hidden_states, cotangent, *mask):
    hidden_states = hidden_states.clone().requires_grad_()
    output = norm(hidden_states, *mask)
    return output.detach(), *torch.autograd.grad(output, (hidden_states, norm.weight, norm.bias), cotangent)


@pytest.mark.parametrize("mask", [None, right_padding(4, 9)], ids=["whole", "padded"])
def test_batch_norm_is_as_exact_under_autocast(mask):
    norm, _ = batch_norms()
    hidden_states = torch.randn(4, 9, WIDTH) + 30
    with torch.autocast("cpu", torch.bfloat16):
        output = norm(hidden_states, mask)
    torch.testing.assert_close(output, norm(hidden_states, mask), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("centre", [0.0, 30.0])
def test_batch_norm_is_that_of_torch_over_the_real_tokens(centre):
    ours, theirs = batch_norms()
    # More than once, for the running averages to be averages.
    for mask in (None, right_padding(4, 9), torch.ones(4, 9, dtype=torch.bool)):
        real = torch.ones(4, 9, dtype=torch.bool) if mask is None else mask
        hidden_states, cotangent = torch.randn(4, 9, WIDTH) + centre, torch.randn(4, 9, WIDTH) * real.unsqueeze(-1)
        hidden_states[~real] = 1e4
        output, gradient, *parameters = run(ours, hidden_states, cotangent, mask)
        expected, expected_gradient, *expected_parameters = run(theirs, hidden_states[real], cotangent[real])
        torch.testing.assert_close(output[real], expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(gradient[real], expected_gradient, rtol=1e-4, atol=1e-4)
        assert gradient[~real].eq(0).all()
        torch.testing.assert_close(parameters, expected_parameters, rtol=1e-4, atol=1e-4)
        for name, buffer in theirs.named_buffers():
            torch.testing.assert_close(ours.get_buffer(name), buffer)
    ours.eval(), theirs.eval()
    actual, expected = ours(hidden_states), theirs(hidden_states.flatten(0, 1)).view(4, 9, WIDTH)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
