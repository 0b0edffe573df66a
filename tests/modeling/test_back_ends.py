import pytest
import torch
from torch import nn
from torch.nn.attention.flex_attention import create_mask
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, flash_attention_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from hf_primaldual.modeling.block_masks_primal_dual import block_mask
from hf_primaldual.modeling.padding_primal_dual import row_starts, shift_rows
from hf_primaldual.modeling.sparse_primal_dual import SparsePattern, dense_mask
from tests.modeling.cases import HEADS, MASKS, PRESET_CASES, WIDTH, all_settings, needs_flex, uses
from tests.modeling.parity import compare, make_input, make_layer

# Sparse attention calls torch itself, and the linear kernel is matrix products.
DENSE_SOFTMAX = [preset for preset in PRESET_CASES if not uses("linear", preset) and not uses("sparse", preset)]


def outputs_of(preset, implementation, mask, hidden_states, **fields):
    """The layer's outputs at the valid tokens by a back-end and by eager, with the same weights."""
    layer, eager = make_layer(preset, implementation, **fields), make_layer(preset, "eager", **fields)
    layer.load_state_dict(eager.state_dict())
    actual, expected = layer(hidden_states, mask)[0], eager(hidden_states, mask)[0]
    return (actual, expected) if mask is None else (actual[mask], expected[mask])


@pytest.mark.slow
@needs_flex
@pytest.mark.parametrize("mask_kind", MASKS)
@pytest.mark.parametrize("preset", [preset for preset in PRESET_CASES if not uses("linear", preset)])
def test_flex_attention_equals_eager(preset, mask_kind):
    for tokens in (7, 300):
        mask = MASKS[mask_kind](2, tokens)
        with torch.no_grad():
            actual, expected = outputs_of(preset, "flex_attention", mask, make_input(mask, 2, tokens))
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize("parts", [("local",), ("strided",), ("local", "strided"), ("fixed",)], ids="+".join)
def test_a_block_mask_keeps_what_the_pattern_keeps(parts, scale):
    pattern = SparsePattern(parts, half=20, stride=16)
    pattern, tokens = pattern.for_scale(scale) if scale > 1 else pattern, 300
    keys, valid = -(-tokens // scale), torch.arange(-(-tokens // scale)) < torch.tensor([[9], [70]])
    expected = dense_mask(pattern, tokens, keys, "cpu")
    query = torch.zeros(2, 1, tokens, 4)
    for mask in (None, valid):
        blocks = block_mask(pattern, query, keys, mask)
        kept = create_mask(blocks.mask_mod, 2, 1, tokens, keys, device="cpu")[:, 0]
        assert torch.equal(kept, expected.expand(2, -1, -1) if mask is None else expected & mask[:, None])
        # Blocks in which nothing is kept are left out.
        whole = (
            nn.functional.pad(kept, (0, -keys % 128, 0, -tokens % 128)).unflatten(1, (-1, 128)).unflatten(3, (-1, 128))
        )
        assert torch.equal(blocks.to_dense()[:, 0].expand(2, -1, -1).bool(), whole.any(dim=(2, 4)))


def packed_attention(query, key, value, lengths_q, lengths_k, scaling):
    """FlashAttention's variable-length form, (total tokens, heads, head_dim), a sequence at a time."""
    packed = []
    sequences = zip(query.split(lengths_q), key.split(lengths_k), value.split(lengths_k), strict=True)
    for states in sequences:
        q, k, v = (part.transpose(0, 1) for part in states)
        packed.append(nn.functional.scaled_dot_product_attention(q, k, v, scale=scaling).transpose(0, 1))
    return torch.cat(packed)


def stand_in_for_flash(
    module,
    query,
    key,
    value,
    attention_mask,
    scaling,
    dropout=0.0,
    cu_seq_lens_q=None,
    cu_seq_lens_k=None,
    max_length_q=None,
    max_length_k=None,
    **kwargs,
):
    """
    Does what transformers' `flash_attention_forward` does with its arguments: packed sequences by their lengths,
    a mask by unpadding queries and keys alike, or neither.
    """
    query, key, value = (states.transpose(1, 2) for states in (query, key, value))
    if cu_seq_lens_q is not None:
        assert attention_mask is None
        assert query.shape[0] == key.shape[0] == value.shape[0] == 1
        for lengths, longest in ((cu_seq_lens_q, max_length_q), (cu_seq_lens_k, max_length_k)):
            assert lengths.dtype == torch.int32
            assert lengths[0] == 0
            assert lengths.diff().max() == longest
        lengths = (cu_seq_lens_q.diff().tolist(), cu_seq_lens_k.diff().tolist())
        return packed_attention(query[0], key[0], value[0], *lengths, scaling).unsqueeze(0), None
    if attention_mask is not None:
        assert attention_mask.shape == query.shape[:2] == key.shape[:2]
        lengths = attention_mask.sum(1).tolist()
        packed = packed_attention(*(s[attention_mask] for s in (query, key, value)), lengths, lengths, scaling)
        output = torch.zeros_like(query)
        output[attention_mask] = packed
        return output, None
    whole = [[states.shape[1]] * states.shape[0] for states in (query, key)]
    packed = packed_attention(*(s.flatten(0, 1) for s in (query, key, value)), *whole, scaling)
    return packed.view_as(query), None


@pytest.fixture
def flash(monkeypatch):
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "stand_in_flash", stand_in_for_flash)
    monkeypatch.setitem(ALL_MASK_ATTENTION_FUNCTIONS, "stand_in_flash", flash_attention_mask)
    return "stand_in_flash"


FLASH = all_settings("bn-default", "-scattered", "sh-points-listed", without=("linear", "sparse"))


@pytest.mark.parametrize("mask_kind", ["unmasked", "holes"])
@pytest.mark.parametrize(("preset", "fields"), FLASH)
def test_flash_attention_gets_padded_keys_of_every_length(flash, preset, fields, mask_kind):
    compare(make_layer(preset, flash, bn_eps=0.1, **fields), mask_kind, 3, 40, 1e-5)


def test_groups_of_as_many_heads_are_one_call_of_flash_attention(flash, monkeypatch):
    calls, kernel = [], ALL_ATTENTION_FUNCTIONS[flash]
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, flash, lambda *args, **kw: calls.append(kw) or kernel(*args, **kw))
    for scales, expected in (([1, 2, 1, 2], 1), ([1, 2, 2, 4], 3)):
        calls.clear()
        make_layer("bn+sh", flash, head_scales=scales)(make_input(None, 3, 40))
        assert len(calls) == expected


@pytest.mark.parametrize("mask_kind", ["unmasked", "left", "holes"])
def test_one_call_of_flash_attention_equals_the_formulas(flash, mask_kind):
    compare(make_layer("bn+sh", flash, head_scales=[1, 3, 1, 3], bn_eps=0.1), mask_kind, 3, 40, 1e-5)


def test_a_back_end_without_a_mask_function_serves_without_padding_alone(monkeypatch):
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "unmasked", ALL_ATTENTION_FUNCTIONS["sdpa"])
    hidden_states, mask = torch.randn(2, 9, WIDTH), torch.arange(9) < torch.tensor([[9], [8]])
    torch.testing.assert_close(*outputs_of("bn+sh", "unmasked", None, hidden_states))
    with pytest.raises(ValueError, match="`attn_implementation='unmasked'` has no mask function"):
        make_layer("bn+sh", "unmasked")(hidden_states, mask)


def groups_of(layer, hidden_states, mask):
    """
    Heads with their points and which of those count, as the maps have them: tokens where they lie, windows from a
    row's first real token.
    """
    starts = row_starts(mask) if layer.turns_rows else None
    turned = [states if starts is None else shift_rows(states, starts) for states in (hidden_states, mask)]
    for group in layer.training_set(*turned):
        points, kept = group.pool(turned[0])
        is_tokens = points.shape[1] == hidden_states.shape[1]
        yield (group.heads, hidden_states, mask) if is_tokens else (group.heads, points, kept)


MAPS = [*all_settings("-default"), *all_settings("sh-points-listed", "sh-random", "linear-relu", "sparse-sh-conv")]


@pytest.mark.parametrize("mask_kind", ["unmasked", "left", "holes"])
@pytest.mark.parametrize(("preset", "fields"), MAPS)
def test_the_output_is_the_maps_times_the_values(preset, fields, mask_kind):
    tokens, batch = 20, 3
    layer, mask = make_layer(preset, bn_eps=0.1, **fields), MASKS[mask_kind](batch, tokens)
    hidden_states = make_input(mask, batch, tokens)
    output, maps = layer(hidden_states, mask, output_attentions=True)
    # A query in the padding need not have a key in its pattern.
    counts = torch.ones(batch, tokens, dtype=torch.bool) if mask is None else mask
    groups = list(groups_of(layer, hidden_states, mask))
    assert isinstance(maps, torch.Tensor) == (len(groups) == 1)
    values = torch.empty(batch, tokens, HEADS, WIDTH // HEADS)
    for heads, points, kept in groups:
        for head in heads:
            weights = maps[:, head] if len(groups) == 1 else maps[head]
            assert weights.shape == (batch, tokens, points.shape[1])
            sums = weights.sum(-1)[counts]
            # With relu a query without a positive channel in common with any key has no weights.
            assert ((sums - 1).abs() < 1e-5).logical_or(sums.eq(0) & ("feature_map" in fields)).all()
            if kept is not None:
                assert torch.where(counts.unsqueeze(-1) & ~kept.unsqueeze(1), weights, 0).eq(0).all()
            values[:, :, head] = weights @ layer.v_proj(points).unflatten(-1, (HEADS, -1))[:, :, head]
    torch.testing.assert_close(layer.o_proj(values.flatten(2))[counts], output[counts], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output[counts], layer(hidden_states, mask)[0][counts], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("preset", PRESET_CASES)
def test_only_eager_forms_the_maps_unasked(preset):
    hidden_states = torch.randn(2, 20, WIDTH)
    assert make_layer(preset, "sdpa")(hidden_states)[1] is None
    assert (make_layer(preset, "eager")(hidden_states)[1] is None) == (preset not in DENSE_SOFTMAX)
