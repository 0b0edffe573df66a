"""Decoders: what a cache holds, padding in front, packed documents and masks of a user give what the whole gives."""

import pytest
import torch
import transformers
from transformers import DataCollatorWithFlattening, DynamicCache, StaticCache

from hf_primaldual import apply
from tests.integration.families import FAMILIES, SCALES

TOKENS, PROMPT = 17, 6
SETTINGS = {
    "bn": {"bn_eps": 0.1},
    "sh": {"head_scales": SCALES},
    "bn+sh": {"bn_eps": 0.1, "head_scales": SCALES},
}
NAMES = {"GPT-2": "GPT2LMHeadModel", "Llama": "LlamaForCausalLM", "Gemma 3": "Gemma3ForCausalLM"}
CASES = [("GPT-2", "bn"), ("GPT-2", "sh"), ("Llama", "bn+sh"), ("Gemma 3", "bn+sh")]


def decoder(name: str, attention: str):
    family = next(family for family in FAMILIES if family.name == name)
    family = family._replace(model=NAMES.get(name, family.model))
    return apply(family.build(), attention, **SETTINGS[attention])


def ids(rows: int = 2, tokens: int = TOKENS) -> torch.Tensor:
    return torch.randint(5, 50, (rows, tokens), generator=torch.Generator(torch.get_default_device()).manual_seed(0))


def in_steps(model, inputs: torch.Tensor, mask: torch.Tensor, steps: list[int], cache) -> torch.Tensor:
    """Logits of a cached forward, so many tokens at a time."""
    logits, places = [], (mask.cumsum(1) - 1).clamp(min=0)
    for start, stop in zip([0, *steps], [*steps, inputs.shape[1]], strict=True):
        output = model(
            input_ids=inputs[:, start:stop],
            attention_mask=mask[:, :stop],
            position_ids=places[:, start:stop],
            past_key_values=cache,
            use_cache=True,
        )
        logits.append(output.logits)
    return torch.cat(logits, dim=1)


@pytest.mark.parametrize("padding", [0, 4], ids=["", "padded"])
@pytest.mark.parametrize("kind", ["dynamic", "static", "chunks"])
@pytest.mark.parametrize(("name", "attention"), CASES)
@torch.no_grad()
def test_every_step_of_a_cache_equals_the_whole(name, attention, kind, padding):
    model, inputs = decoder(name, attention), ids()
    mask = torch.ones_like(inputs)
    mask[1, :padding] = 0
    cache = StaticCache(model.config, max_cache_len=24) if kind == "static" else DynamicCache(config=model.config)
    steps = [PROMPT, 11] if kind == "chunks" else [*range(PROMPT, TOKENS)]
    actual = in_steps(model, inputs, mask, steps, cache)
    for row, start in enumerate((0, padding)):
        alone = model(input_ids=inputs[row : row + 1, start:], use_cache=False).logits
        torch.testing.assert_close(actual[row : row + 1, start:], alone, rtol=1e-4, atol=1e-5)
    if kind == "dynamic" and (attention == "bn" or not padding):
        # Sums over the keys go with the cache; rows that begin in different places have windows of their own.
        assert cache.layers[-1].primal_dual.heads


@pytest.mark.parametrize(("name", "attention"), CASES)
def test_generation_with_a_cache_writes_what_it_writes_without(name, attention):
    model, inputs = decoder(name, attention), ids(tokens=PROMPT)
    mask = torch.ones_like(inputs)
    mask[1, :2] = 0

    def generate(**how):
        torch.manual_seed(0)
        return model.generate(input_ids=inputs, attention_mask=mask, max_new_tokens=6, **how)

    for how in ({"do_sample": False}, {"do_sample": True}, {"num_beams": 3, "do_sample": False}):
        assert torch.equal(generate(**how), generate(**how, use_cache=False)), how
    assert torch.equal(
        generate(do_sample=False), generate(do_sample=False, cache_implementation="static", disable_compile=True)
    )


@pytest.mark.parametrize(("name", "attention"), [*CASES, ("ModernBERT", "bn+sh"), ("BERT", "sh")])
@torch.no_grad()
def test_packed_documents_get_what_each_gets_alone(name, attention):
    model = decoder(name, attention)
    documents = [row[:length].tolist() for row, length in zip(ids(3), (7, 1, 9), strict=True)]
    packed = DataCollatorWithFlattening(return_flash_attn_kwargs=True)([{"input_ids": each} for each in documents])
    # A decoder's mask is made of the positions; to an encoder's attention the lengths alone say it.
    says = ("position_ids",) if name in NAMES else ("position_ids", "cu_seq_lens_q", "cu_seq_lens_k")
    # transformers looks for documents where there is no cache.
    how = {"use_cache": False} if name in NAMES else {}
    output = model(**{key: packed[key] for key in ("input_ids", *says)}, **how)[0]
    for document, actual in zip(documents, output.split([len(each) for each in documents], dim=1), strict=True):
        torch.testing.assert_close(actual, model(input_ids=torch.tensor([document]))[0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_mask_of_the_user_is_heeded_if_it_shows_intervals():
    model, inputs = decoder("GPT-2", "bn"), ids(1)
    # A prefix of five tokens that see each other.
    keep = torch.ones(TOKENS, TOKENS).tril().bool()
    keep[:5, :5] = True
    whole = model(input_ids=inputs, attention_mask=keep[None, None])[0]
    causal = model(input_ids=inputs)[0]
    assert (whole - causal).abs().max() > 1e-3
    # What the prefix's tokens see does not depend on what follows.
    alone = model(input_ids=inputs[:, :5], attention_mask=keep[None, None, :5, :5])[0]
    torch.testing.assert_close(whole[:, :5], alone, rtol=1e-4, atol=1e-5)
    keep[9, 3] = False
    with pytest.raises(ValueError, match="lets a query see keys that are no interval"):
        model(input_ids=inputs, attention_mask=keep[None, None])


@pytest.mark.parametrize(
    ("model", "options", "error"),
    [
        ("Gemma2Model", {}, "layers.0.self_attn .Gemma2Attention. caps its logits"),
        ("GptOssModel", {"num_local_experts": 2, "num_experts_per_tok": 1}, "GptOssAttention. has sinks"),
        (
            "BartModel",
            {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1},
            "encoder_attn .BartAttention. attends",
        ),
        ("GPT2Model", {"n_embd": 8, "n_layer": 1, "n_head": 2, "add_cross_attention": True}, "crossattention"),
    ],
)
def test_a_layer_that_is_more_is_refused_by_its_name(model, options, error):
    model_class = getattr(transformers, model)
    widths = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
    }
    model = model_class(model_class.config_class(**{"vocab_size": 50, "intermediate_size": 16, **widths, **options}))
    with pytest.raises(ValueError, match=error):
        apply(model, "bn")


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"head_points": 3}, "`primal_dual\\['head_points'\\]` must not be set"),
        ({"num_prefix_tokens": 1}, "is causal"),
    ],
)
def test_settings_that_a_causal_model_has_no_use_for_are_refused(settings, error):
    model = apply(decoder("GPT-2", "sh"), "sh", **settings)
    with pytest.raises(ValueError, match=error):
        model(input_ids=ids())


def test_padding_between_real_tokens_is_refused():
    model, inputs = decoder("GPT-2", "bn"), ids()
    mask = torch.ones_like(inputs)
    mask[1, 5:8] = 0
    with pytest.raises(ValueError, match="has padding between real tokens"):
        model(input_ids=inputs, attention_mask=mask)


def test_maps_of_a_decoder_sum_to_one_over_windows_and_own_tokens():
    model, inputs = decoder("Llama", "bn+sh"), ids()
    expected = model(input_ids=inputs).logits
    output = model(input_ids=inputs, output_attentions=True)
    torch.testing.assert_close(output.logits, expected)
    for scale, maps in zip(SCALES, output.attentions[0], strict=True):
        assert maps.shape == (2, TOKENS, TOKENS + (TOKENS // scale if scale > 1 else 0))
        torch.testing.assert_close(maps.sum(-1), torch.ones(2, TOKENS))
