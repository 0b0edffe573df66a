"""Operations against the products written out, and on tensors without data against a real run."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from hf_primaldual import PRESETS
from hf_primaldual.measure import attention_share, count_flops
from tests.modeling.parity import make_layer

B, H, NQ, NK, D, DV = 2, 3, 5, 7, 4, 9
SCORES, WEIGHTED = 2 * B * H * NQ * NK * D, 2 * B * H * NQ * NK * DV


def eager(q, k, v):
    return (q @ k.transpose(-1, -2)).softmax(-1) @ v


def masked(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=torch.zeros(B, 1, NQ, NK))


@pytest.mark.parametrize(("attention", "again"), [(eager, 0), (F.scaled_dot_product_attention, 1), (masked, 1)])
def test_attention_is_two_products_and_its_backward_computes_scores_again_if_fused(attention, again):
    q, k, v = (torch.randn(B, H, *size, requires_grad=True) for size in ((NQ, D), (NK, D), (NK, DV)))
    assert count_flops(attention, q, k, v) == SCORES + WEIGHTED
    # torch's fused attention on a CPU wants values as wide as keys.
    assert count_flops(attention, q, k, k, backward=True) == (2 + 4 + again) * SCORES
    with torch.inference_mode():
        assert count_flops(attention, q, k, v) == SCORES + WEIGHTED


def test_linear_forward_and_backward_and_gradients_are_put_back():
    layer, x, kept = nn.Linear(6, 10), torch.randn(3, 5, 6), torch.ones(10, 6)
    layer.weight.grad = kept
    forward = 2 * 3 * 5 * 6 * 10
    assert count_flops(layer, x) == forward
    assert count_flops(layer, x, backward=True) == 2 * forward  # the input needs no gradient
    assert count_flops(layer, x.requires_grad_(), backward=True) == 3 * forward
    assert layer.weight.grad is kept
    assert torch.equal(kept, torch.ones(10, 6))
    assert layer.bias.grad is None


@pytest.mark.parametrize("groups", [1, 4])
def test_the_backward_of_a_convolution_in_groups_is_twice_its_forward(groups):
    layer, x = nn.Conv1d(4, 8, 3, padding=1, groups=groups), torch.randn(2, 4, 9, requires_grad=True)
    forward = 2 * 2 * 9 * 8 * 4 // groups * 3
    assert count_flops(layer, x) == forward
    assert count_flops(layer, x, backward=True) == 3 * forward
    assert count_flops(layer, x.detach(), backward=True) == 2 * forward


def test_backward_starts_from_the_loss_of_an_output():
    class Output(dict):
        loss = None

    def model(x, weight):
        output = Output(logits=x @ weight, unused=None)
        output.loss = output["logits"].square().mean()
        return output

    assert count_flops(model, torch.randn(4, 3), torch.randn(3, 2, requires_grad=True), backward=True) == 2 * 48


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (lambda: torch.randn(3, 4) @ torch.randn(4), "aten.mv"),
        (lambda: nn.LSTM(3, 4)(torch.randn(2, 1, 3)), "rnn"),
        (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()(torch.randn(2, 5, 8)), "transformer"),
    ],
    ids=["vector", "lstm", "fused encoder layer"],
)
def test_matrix_work_without_a_formula_is_an_error_and_elementwise_work_is_not(function, operator):
    with pytest.raises(NotImplementedError, match=operator):
        count_flops(function)
    x = torch.randn(1, 2, 8, 8)
    assert count_flops(lambda: F.interpolate(F.layer_norm(x, (8,)).softmax(-1), scale_factor=2, mode="bilinear")) == 0


def test_a_head_pays_for_the_keys_that_it_sees():
    tokens, width, scales = 75, 24, [3, 1, 4, 1]
    # A head's keys and values are projected after pooling: 25, 75, 19 and 75 points.
    points = sum(-(-tokens // scale) for scale in scales)
    macs = 2 * tokens * width * width + points * (2 * width * 6 + 2 * tokens * 6)
    assert count_flops(make_layer("sh", head_scales=scales), torch.randn(3, tokens, width)) == 3 * 2 * macs


@pytest.mark.parametrize("preset", PRESETS)
def test_without_data_every_preset_counts_the_same(preset):
    def counted():
        return count_flops(make_layer(preset), torch.randn(2, 70, 24, requires_grad=True), backward=True)

    with FakeTensorMode():
        without_data = counted()
    assert without_data == counted()


def test_the_share_of_attention_are_its_two_products():
    fields = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 32}
    model, ids = BertModel(BertConfig(vocab_size=20, **fields)).eval(), torch.ones(2, 40, dtype=torch.long)
    products = 3 * 2 * (2 * 2 * 40 * 40 * 16)
    assert attention_share(model, input_ids=ids) == products / count_flops(model, input_ids=ids)
    model.set_attn_implementation("eager")
    with pytest.raises(ValueError, match=r"BertModel calls no fused attention, .* `attn_implementation=.sdpa.`"):
        attention_share(model, input_ids=ids)
