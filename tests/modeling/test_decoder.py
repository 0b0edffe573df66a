"""The text model as a decoder: its layer against the formulas, its cache, generation, and what it refuses."""

import re

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from hf_primaldual import PrimalDualTextConfig, PrimalDualTextForCausalLM, PrimalDualTextForSequenceClassification
from hf_primaldual.modeling.causal_attention_primal_dual import PrimalDualCausalAttention
from tests.modeling.texts import TOKENS, small_config, small_model
from tests.reference import naive

SCALES = [3, 1, 2, 1]
PRESETS = {
    "softmax": {},
    "bn": {"bn_beta_learnable": True, "bn_beta": 0.7, "bn_eps": 0.05},
    "sh": {"head_scales": SCALES},
    "bn+sh": {"bn_beta_learnable": True, "head_scales": SCALES, "bn_eps": 0.05},
    "linear": {},
    "linear-bn": {"bn_beta_learnable": True, "bn_eps": 0.05},
    "linear-sh": {"head_scales": SCALES},
    "linear-bn+sh": {"bn_beta_learnable": True, "head_scales": SCALES, "bn_eps": 0.05},
}
presets = pytest.mark.parametrize("preset", PRESETS)


def language_model(preset: str, **fields) -> PrimalDualTextForCausalLM:
    fields = {"attention": preset, "is_decoder": True, **PRESETS[preset], **fields}
    return small_model(model_class=PrimalDualTextForCausalLM, **fields)


@presets
def test_a_layer_equals_the_formulas(preset):
    config = small_config(attention=preset, is_decoder=True, **PRESETS[preset])
    layer = PrimalDualCausalAttention(config).double()
    for name, parameter in layer.named_parameters():
        torch.nn.init.normal_(parameter, mean=0.5 if "beta" in name else 0.0, std=0.5)
    hidden_states = torch.randn(2, 37, config.hidden_size, dtype=torch.double, requires_grad=True)
    actual, _ = layer(hidden_states)

    heads, first, last = [], [0] * 37, list(range(37))
    states = [project(hidden_states).unflatten(-1, (4, -1)) for project in (layer.q_proj, layer.k_proj, layer.v_proj)]
    for head in range(4):
        statistics = None
        if "bn" in preset:
            statistics = layer.transforms[0].beta[head], 1, config.bn_eps
        scale = SCALES[head] if "sh" in preset else 1
        rows = []
        for row in (0, 1):
            one = [each[row, :, head] for each in states]
            if "linear" in preset:
                rows.append(naive.causal_linear_attention(*one, naive.elu_plus_one, scale, statistics))
            else:
                rows.append(naive.interval_attention(*one, first, last, scale, statistics))
        heads.append(torch.stack(rows))
    expected = layer.o_proj(torch.cat(heads, dim=-1))
    inputs = (hidden_states, *layer.parameters())
    weights = torch.randn_like(expected)
    torch.testing.assert_close(actual, expected)
    for got, wanted in zip(
        *(torch.autograd.grad((output * weights).sum(), inputs) for output in (actual, expected)), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-7, atol=1e-10)


@presets
@torch.no_grad()
def test_steps_with_a_cache_padding_and_packing_give_what_a_text_gets_alone(preset):
    model, ids = language_model(preset), torch.randint(1, TOKENS, (2, 19))
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    cache = DynamicCache(config=model.config)
    steps = [model(ids[:, :7], mask[:, :7], cache=cache).logits]
    steps += [model(ids[:, i : i + 1], mask[:, : i + 1], cache=cache).logits for i in range(7, 19)]
    whole, alone = model(ids[:1]).logits, model(ids[1:, 4:]).logits
    for logits in (torch.cat(steps, dim=1), model(ids, mask).logits):
        torch.testing.assert_close(logits[:1], whole, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(logits[1:, 4:], alone, rtol=1e-4, atol=1e-5)
    packed = torch.cat((ids[0], ids[1, 4:])).unsqueeze(0)
    places = torch.cat((torch.arange(19), torch.arange(15))).unsqueeze(0)
    logits = model(packed, position_ids=places).logits
    torch.testing.assert_close(logits, torch.cat((whole, alone), dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@presets
@torch.no_grad()
def test_padding_and_maps_in_any_precision(preset, dtype):
    model, ids = language_model(preset).to(dtype), torch.randint(1, TOKENS, (3, 19))
    mask = torch.ones_like(ids)
    mask[1, :4], mask[2, 15:] = 0, 0
    expected = model(ids, mask).logits
    assert expected.dtype == dtype
    if "linear" in preset:
        with pytest.raises(ValueError, match="has no maps"):
            model(ids, mask, output_attentions=True)
        return
    output = model(ids, mask, output_attentions=True)
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(output.logits[mask.bool()], expected[mask.bool()], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("preset", ["bn", "sh", "bn+sh"])
@torch.no_grad()
def test_what_is_remembered_of_a_cache_goes_where_the_cache_was_changed(preset):
    model, ids = language_model(preset), torch.randint(1, TOKENS, (2, 19))
    cache = DynamicCache(config=model.config)
    model(ids[:, :7], cache=cache)

    def step(place, rows):
        return model(rows[:, place : place + 1], cache=cache).logits[:, 0]

    for place in (7, 8, 9):
        step(place, ids)
    # One entry for each factor of heads.
    assert [len(layer.primal_dual.heads) for layer in cache.layers] == [3 if "sh" in preset else 1] * 2
    changes = {
        "reordered": lambda: cache.reorder_cache(torch.tensor([1, 0])),
        "cut": lambda: cache.crop(-3),
        "repeated": lambda: cache.batch_repeat_interleave(2),
    }
    rows, place = ids, 10
    for name, change in changes.items():
        change()
        if name == "reordered":
            rows = rows.flip(0)
        elif name == "cut":
            place -= 3
            rows = torch.cat((rows[:, :place], rows[:, place:].flip(1)), dim=1)
        else:
            rows = rows.repeat_interleave(2, dim=0)
        for _ in range(2):
            expected = model(rows[:, : place + 1]).logits[:, -1]
            torch.testing.assert_close(step(place, rows), expected, rtol=1e-4, atol=1e-5)
            place += 1


@presets
def test_it_generates_and_is_saved(preset, tmp_path):
    model, ids = language_model(preset), torch.randint(1, TOKENS, (2, 7))
    mask = torch.ones_like(ids)
    mask[1, :2] = 0
    for how in ({"do_sample": False}, {"num_beams": 3}, {"do_sample": False, "cache_implementation": "static"}):
        how |= {"max_new_tokens": 6, "attention_mask": mask}
        if "cache_implementation" in how:
            how["disable_compile"] = True
        torch.manual_seed(0)
        actual = model.generate(ids, **how)
        how.pop("cache_implementation", None)
        assert torch.equal(actual, model.generate(ids, use_cache=False, **how))
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again(ids).logits, model(ids).logits)
    assert again.lm_head.weight is again.model.embeddings.word_embeddings.weight


def test_the_loss_is_that_of_the_next_token():
    model, ids = language_model("bn+sh"), torch.randint(1, TOKENS, (2, 7))
    output = model(ids, labels=ids)
    expected = torch.nn.functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(model(ids, labels=ids, num_items_in_batch=24).loss, expected / 2)
    assert torch.equal(model(ids, logits_to_keep=2).logits, output.logits[:, -2:])


def test_a_text_is_classified_by_its_last_token():
    fields = {"attention": "bn+sh", "is_decoder": True, "pooling": "last"}
    model = small_model(model_class=PrimalDualTextForSequenceClassification, **fields)
    ids, mask = torch.randint(1, TOKENS, (3, 9)), torch.ones(3, 9).long()
    mask[1, 6:], mask[2, :3] = 0, 0
    logits = model(ids, mask).logits
    torch.testing.assert_close(logits[1:2], model(ids[1:2, :6]).logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits[2:], model(ids[2:, 3:]).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"attention": "sparse"}, "has no causal form"),
        ({"attention": "conv1d"}, "has no causal form"),
        ({"attention": "sh", "head_points": 3}, "`head_points=3` is for encoders"),
        ({"norm_type": "batch"}, "`norm_type='batch'` is for encoders"),
        ({"prepend_cls": True}, "`prepend_cls=True` is for encoders"),
        ({"pooling": "cls"}, "`pooling='cls'` is for encoders"),
    ],
)
def test_what_a_token_would_see_the_future_by_is_refused(fields, error):
    with pytest.raises(Exception, match=re.escape(error)):
        PrimalDualTextConfig(is_decoder=True, **fields)


def test_an_encoder_is_no_language_model_and_has_no_cache():
    with pytest.raises(ValueError, match="`is_decoder` must be true for a language model"):
        PrimalDualTextForCausalLM(small_config())
    model = small_model()
    with pytest.raises(ValueError, match="`cache` must not be given to an encoder"):
        model.model(torch.ones(1, 3).long(), cache=DynamicCache())
