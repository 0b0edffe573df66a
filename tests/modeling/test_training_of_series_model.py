"""What training relies on: batch normalization over real tokens, gradient checkpointing, torch.compile."""

import copy

import pytest
import torch
from torch import nn

from hf_primaldual.modeling.layers_primal_dual import TokenBatchNorm
from tests.modeling.cases import PRESET_CASES, needs_compiler, right_padding, slow_but
from tests.modeling.parity import make_layer
from tests.modeling.series import series_batch, small_model

WIDTH = 6


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


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("centre", [0.0, 30.0])
def test_batch_norm_without_padding_is_that_of_torch(centre, training):
    ours, theirs = batch_norms()
    for _ in range(2):
        # Twice, for the running averages to be averages.
        hidden_states, cotangent = torch.randn(4, 9, WIDTH) + centre, torch.randn(4, 9, WIDTH)
        actual = run(ours, hidden_states, cotangent)
        expected = run(theirs, hidden_states.flatten(0, 1), cotangent.flatten(0, 1))
        for a, b in zip(actual, expected, strict=True):
            torch.testing.assert_close(a.flatten(), b.flatten(), rtol=1e-4, atol=1e-4)
        for name, buffer in theirs.named_buffers():
            torch.testing.assert_close(ours.get_buffer(name), buffer)
    ours.train(training), theirs.train(training)
    hidden_states = torch.randn(4, 9, WIDTH)
    actual, expected = ours(hidden_states), theirs(hidden_states.flatten(0, 1)).view(4, 9, WIDTH)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_batch_norm_counts_real_tokens_only():
    ours, theirs = batch_norms()
    mask = right_padding(4, 9)
    hidden_states, cotangent = torch.randn(4, 9, WIDTH), torch.randn(4, 9, WIDTH) * mask.unsqueeze(-1)
    hidden_states[~mask] = 1e4
    output, gradient, *parameters = run(ours, hidden_states, cotangent, mask)
    expected_output, expected_gradient, *expected_parameters = run(theirs, hidden_states[mask], cotangent[mask])
    torch.testing.assert_close(output[mask], expected_output, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient[mask], expected_gradient, rtol=1e-4, atol=1e-5)
    assert gradient[~mask].eq(0).all()
    torch.testing.assert_close(parameters, expected_parameters, rtol=1e-4, atol=1e-5)
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), buffer)


def test_batch_norm_keeps_the_dtype_of_its_input():
    ours, _ = batch_norms()
    hidden_states = torch.randn(2, 9, WIDTH).bfloat16()
    for training in (True, False):
        output = ours.train(training)(hidden_states)
        assert output.dtype == torch.bfloat16
        assert output.isfinite().all()
    assert ours.running_mean.dtype == torch.float32


def train_step(model, batch):
    loss = model(**batch).loss
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("use_reentrant", [True, False], ids=["reentrant", "non-reentrant"])
@pytest.mark.parametrize("norm_position", ["post", "pre"])
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
def test_gradient_checkpointing_changes_nothing(norm_position, use_reentrant):
    plain = small_model(norm_position=norm_position).train()
    checkpointed, batch = copy.deepcopy(plain), series_batch()
    checkpointed.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    recomputed = []
    mlp = checkpointed.model.layers[0].mlp
    mlp.register_forward_pre_hook(lambda *args: recomputed.append(1))

    torch.testing.assert_close(train_step(checkpointed, batch), train_step(plain, batch))
    assert len(recomputed) == 2
    for (name, actual), expected in zip(checkpointed.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, expected.grad, msg=name)
    # Recomputing a layer must not move its running averages a second time.
    for (name, actual), expected in zip(checkpointed.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(actual, expected, msg=name)
        if name.endswith("num_batches_tracked"):
            assert actual == 1


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
@pytest.mark.parametrize("preset", PRESET_CASES)
def test_gradient_checkpointing_of_every_preset(preset):
    plain = small_model(attention=preset).train()
    checkpointed, batch = copy.deepcopy(plain), series_batch()
    checkpointed.gradient_checkpointing_enable({"use_reentrant": False})
    torch.testing.assert_close(train_step(checkpointed, batch), train_step(plain, batch))
    for (name, actual), expected in zip(checkpointed.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, expected.grad, msg=name)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
def test_gradient_checkpointing_hands_every_argument_on():
    model, batch = small_model("sdpa").train(), series_batch()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    outputs = model(**batch, output_attentions=True, output_hidden_states=True)
    assert len(outputs.attentions) == 2
    assert len(outputs.hidden_states) == 3


@pytest.fixture
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


MASKED = [pytest.param(True, id="masked"), pytest.param(False, id="unmasked", marks=pytest.mark.slow)]


@needs_compiler
@pytest.mark.parametrize("masked", MASKED)
@pytest.mark.usefixtures("fresh_dynamo")
def test_compiled_model_equals_eager(masked):
    model, batch = small_model(attention="bn+sh"), series_batch()
    inputs = (batch["past_values"].clamp(-2, 2), batch["attention_mask"] if masked else None)
    with torch.no_grad():
        actual, expected = torch.compile(model, fullgraph=True)(*inputs), model(*inputs)
    torch.testing.assert_close(actual.logits, expected.logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("preset", slow_but("bn+sh", "linear-bn+sh"))
@pytest.mark.usefixtures("fresh_dynamo")
def test_training_step_is_one_graph(preset):
    # Without the compiler behind it, which takes most of the time.
    model = small_model(attention=preset).train()
    compiled, batch = copy.deepcopy(model), series_batch()
    loss = train_step(torch.compile(compiled, fullgraph=True, backend="aot_eager"), batch)
    torch.testing.assert_close(loss, train_step(model, batch), rtol=1e-5, atol=1e-5)
    for actual, expected in zip(compiled.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, expected.grad, rtol=1e-3, atol=1e-4)
    for actual, expected in zip(compiled.buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(actual, expected)


ONE_GRAPH = {
    "feature-map": {"preset": "linear", "feature_map": "relu"},
    "random": {"preset": "sh", "sampling": "random", "head_scales": [4, 1, 2, 1]},
    "conv": {"preset": "bn+sh", "sampling": "conv", "head_scales": [4, 1, 2, 1]},
    "all-patterns": {"preset": "sparse", "sparse_pattern": ["local", "strided", "fixed"], "sparse_window": 4},
    "fused-window": {"preset": "sparse-bn", "sparse_pattern": ["local"], "sparse_window": 4},
    "grid": {"preset": "conv2d+bn", "conv2d_reading": "grid", "grid_size": [4, 5]},
}


@pytest.mark.parametrize("masked", MASKED)
@pytest.mark.parametrize("fields", ONE_GRAPH.values(), ids=ONE_GRAPH)
@pytest.mark.usefixtures("fresh_dynamo")
def test_a_layer_is_one_graph(fields, masked):
    layer, hidden_states = make_layer(bn_eps=0.1, **fields), torch.randn(2, 20, 24)
    mask = torch.arange(20) < torch.tensor([[20], [13]]) if masked else None
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    actual, expected = compiled(hidden_states, mask)[0], layer(hidden_states, mask)[0]
    kept = torch.ones(2, 20, dtype=torch.bool) if mask is None else mask
    torch.testing.assert_close(actual[kept], expected[kept], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@needs_compiler
@pytest.mark.usefixtures("fresh_dynamo")
@pytest.mark.parametrize("preset", PRESET_CASES)
def test_compiled_model_meets_many_lengths_within_the_recompile_limit(preset):
    model = small_model(attention=preset)
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        for steps in range(3, 24):
            batch = series_batch((steps, 2), steps)
            inputs = (batch["past_values"].clamp(-2, 2), batch["attention_mask"])
            # Beyond the limit, fullgraph=True makes torch raise.
            actual = compiled(*inputs)
            torch.testing.assert_close(actual.logits, model(*inputs).logits, rtol=1e-4, atol=1e-4)
