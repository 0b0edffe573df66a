"""Rows 8, 18, 34 and 36: float16, torch.func and the meta device, export for any length, the compiled sparse union."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim, export
from transformers import BertConfig

from hf_primaldual.integration import ATTENTIONS
from hf_primaldual.integration.attention import attention_function
from hf_primaldual.modeling import memory_primal_dual
from hf_primaldual.modeling.layers_primal_dual import mean_over_tokens
from hf_primaldual.modeling.sparse_primal_dual import SparsePattern, sparse_softmax
from tests.integration.reference import row_attention
from tests.modeling.cases import EACH_CHOICE, WIDTH, right_padding
from tests.modeling.parity import make_layer
from tests.modeling.series import series_batch, small_model
from tests.modeling.test_compiler import slow_but
from tests.modeling.test_parity import HALF


@pytest.mark.parametrize(
    ("preset", "scaled"), [*((preset, False) for preset in EACH_CHOICE), ("bn", True), ("bn+sh", True)]
)
def test_row_08_a_training_under_float16_autocast_stays_finite(preset, scaled):
    model = small_model(attention=preset, max_position_embeddings=32).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    scaler = torch.amp.GradScaler("cpu", enabled=scaled)
    for _ in range(30):
        lengths = [29, *torch.randint(4, 30, (3,)).tolist()]
        with torch.autocast("cpu", torch.float16):
            loss = model(**series_batch(lengths, 29)).loss
        assert loss.isfinite()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", ATTENTIONS)
def test_row_08_half_precision_through_attn_implementation(name, dtype, implementation):
    # Twelve heads, of which the last see few keys; the formulas are told of the rounded queries, keys and values.
    heads, tokens = 12, 40
    scales = [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    mask = torch.arange(tokens) < torch.tensor([[tokens], [33]])
    states = [(torch.randn(2, heads, tokens, 8) + 0.5).to(dtype) for _ in range(3)]
    module = nn.Module()
    module.config = BertConfig(num_attention_heads=heads)
    module.config.primal_dual = {"head_scales": scales}
    cotangent = torch.randn(2, tokens, heads, 8) * mask[:, :, None, None]

    def results(states, attend):
        states = [each.detach().clone().requires_grad_() for each in states]
        output = attend(*states)
        return output[mask], *torch.autograd.grad(output, states, cotangent.to(output.dtype))

    def formulas(query, key, value):
        how = {"statistics": (1.0, 1, 1e-5)} if "bn" in name else {}
        factors = scales if "sh" in name else [None] * heads
        rows = [
            [
                row_attention(
                    query[row, head], key[row, head], value[row, head], mask[row, None], factors[head], **how
                )
                for head in range(heads)
            ]
            for row in range(2)
        ]
        return torch.stack([torch.stack(row, dim=1) for row in rows])

    def ours(query, key, value):
        maps = implementation == "eager"
        return attention_function(name)(module, query, key, value, mask, output_attentions=maps)[0]

    expected = results([each.double() for each in states], formulas)
    for ours_is, right in zip(results(states, ours), expected, strict=True):
        assert (ours_is.double() - right).abs().max() <= 24 * HALF[dtype] * right.abs().max()


def test_row_08_sums_and_logits_beyond_float16_are_finite():
    states = torch.full((1, 3000, 4), 60.0, dtype=torch.float16)
    assert mean_over_tokens(states, torch.ones(1, 3000)).eq(60).all()
    layer = make_layer("softmax", "eager")
    with torch.no_grad(), torch.autocast("cpu", torch.float16):
        layer.q_proj.weight.mul_(400), layer.k_proj.weight.mul_(400)
        assert layer(torch.randn(2, 9, WIDTH))[0].isfinite().all()


@pytest.mark.parametrize("preset", EACH_CHOICE)
def test_row_18_gradients_by_torch_func_on_long_sequences(preset, monkeypatch):
    monkeypatch.setattr(memory_primal_dual, "LONG", 1)
    layer, hidden_states = make_layer(preset).double(), torch.randn(3, 20, WIDTH, dtype=torch.float64)
    parameters = dict(layer.named_parameters())

    def loss(parameters, rows):
        return torch.func.functional_call(layer, parameters, (rows,))[0].square().sum()

    expected = torch.autograd.grad(loss(parameters, hidden_states), [*parameters.values()], materialize_grads=True)
    actual = torch.func.grad(loss)(parameters, hidden_states)
    torch.testing.assert_close((*actual.values(),), expected)
    by_row = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, hidden_states.unsqueeze(1))
    torch.testing.assert_close(tuple(gradient.sum(0) for gradient in by_row.values()), expected)


def test_row_18_gradients_of_each_row_of_padded_series_by_vmap():
    model, batch = small_model(attention="bn+sh").eval(), series_batch((20, 13, 7))
    batch["attention_mask"][2] = batch["attention_mask"][2].flip(0)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(parameters, batch):
        rows = {name: value.unsqueeze(0) for name, value in batch.items()}
        return torch.func.functional_call(model, parameters, (), rows).loss

    by_row = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, batch)
    for row in range(3):
        alone = torch.func.grad(loss)(parameters, {name: value[row] for name, value in batch.items()})
        torch.testing.assert_close({name: value[row] for name, value in by_row.items()}, alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("preset", EACH_CHOICE)
def test_row_18_a_step_on_the_meta_device_and_of_fake_tensors(preset):
    model = small_model(attention=preset).to("meta").train()
    model(**{name: value.to("meta") for name, value in series_batch().items()}).loss.backward()
    assert all(parameter.grad.is_meta for parameter in model.parameters())
    with FakeTensorMode() as mode:
        model = small_model(attention=preset)
        assert model(**{name: mode.from_tensor(value) for name, value in series_batch().items()}).loss.shape == ()


class Exported(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, hidden_states, mask=None):
        return self.layer(hidden_states, mask)[0]


@pytest.mark.unmutated
@pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])
@pytest.mark.parametrize("preset", slow_but("linear-bn+sh", "conv1d"))
def test_row_34_an_exported_layer_takes_any_length(preset, masked):
    layer = Exported(make_layer(preset))
    inputs = (torch.randn(3, 12, WIDTH), right_padding(3, 12))[: 1 + masked]
    sizes = {0: Dim("batch", min=1, max=64), 1: Dim("tokens", min=1, max=4096)}
    program = export(layer, inputs, dynamic_shapes=(sizes,) * len(inputs), strict=False).module()
    for batch, tokens in ((1, 1), (2, 2), (4, 7), (3, 64), (1, 111)):
        mask = right_padding(batch, tokens) if masked else torch.ones(batch, tokens, dtype=torch.bool)
        inputs = (torch.randn(batch, tokens, WIDTH), mask)[: 1 + masked]
        torch.testing.assert_close(program(*inputs)[mask], layer(*inputs)[mask], rtol=1e-4, atol=1e-4)


@pytest.mark.unmutated
@pytest.mark.parametrize("preset", EACH_CHOICE)
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.trace:DeprecationWarning")
def test_row_34_a_traced_layer_takes_any_length_and_padding(preset):
    layer = Exported(make_layer(preset))
    inputs = torch.randn(3, 12, WIDTH), torch.ones(3, 12, dtype=torch.bool)
    traced = torch.jit.trace(layer, inputs, check_trace=False)
    for tokens in (12, 7, 29):
        states = torch.randn(3, tokens, WIDTH)
        for mask in (right_padding(3, tokens), right_padding(3, tokens).flip(1)):
            torch.testing.assert_close(traced(states, mask)[mask], layer(states, mask)[mask], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "name"), [({"head_points": 5}, "head_points"), ({"sampling": "random"}, "sampling")]
)
def test_row_34_what_cannot_be_exported_for_any_length_is_refused(fields, name):
    layer = Exported(make_layer("sh", **fields))
    sizes = {1: Dim("tokens", min=1, max=4096)}
    with pytest.raises(ValueError, match=f"`{name}.*cannot be exported or traced for any length"):
        export(layer, (torch.randn(3, 12, WIDTH),), dynamic_shapes=(sizes,), strict=False)


@pytest.mark.unmutated
@pytest.mark.parametrize("tokens", [5, 33])
def test_row_36_the_compiler_gets_no_blocks_of_plain_operations(tokens):
    pattern = SparsePattern(("local", "strided"), 3, 5)
    shapes = []

    def backend(graph, inputs):
        shapes.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    torch._dynamo.reset()
    states = [torch.randn(2, 3, tokens, 6, requires_grad=True) for _ in range(3)]
    output = torch.compile(sparse_softmax, backend=backend, fullgraph=True)(*states, None, pattern, 0.4, 0.0, False)
    assert any("scaled_dot_product_attention" in name for name in shapes)
    torch.testing.assert_close(output, sparse_softmax(*states, None, pattern, 0.4, 0.0, False), rtol=1e-5, atol=1e-5)
