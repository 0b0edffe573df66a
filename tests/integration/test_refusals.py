"""What can't be right is refused with a sentence, and never ignored."""

import re
from types import SimpleNamespace

import pytest
import torch
import transformers
from transformers import AttentionInterface, BertConfig, BertModel

from hf_primaldual import apply
from tests.integration.families import FAMILIES, GRID, HEADS, REFUSED, TOKENS

BERT = next(family for family in FAMILIES if family.name == "BERT")
VIDEO_MAE = next(family for family in FAMILIES if family.name == "VideoMAE")
VIT = next(family for family in FAMILIES if family.name == "ViT")


@pytest.mark.parametrize("family", REFUSED, ids=lambda family: family.name)
def test_a_family_is_refused(family):
    name = "primal_dual_sh"
    if family.when_built:
        with pytest.raises(ValueError, match=re.escape(family.error)):
            family.build(name)
        with pytest.raises(ValueError, match=f"{re.escape(family.error)}|would have no effect on"):
            apply(family.build(), name.removeprefix("primal_dual_"))
        return
    if "cross attention" in family.why:
        with pytest.raises(ValueError, match="attends to other tokens than its own"):
            apply(family.build(), "bn")
    model = family.build(name)
    with pytest.raises(ValueError, match=re.escape(family.error)):
        model(**family.inputs())


def test_a_part_of_a_model_is_refused_or_named():
    mpnet = REFUSED[0].build().config
    config = transformers.VisionTextDualEncoderConfig.from_vision_text_configs(VIT.config(), mpnet, projection_dim=16)
    model = transformers.VisionTextDualEncoderModel(config)
    with pytest.raises(ValueError, match="no effect on MPNetAttention in VisionTextDualEncoderModel"):
        apply(model, "bn")
    apply(model.vision_model, "bn")
    assert model.vision_model.config._attn_implementation == "primal_dual_bn"


def test_a_model_with_cross_attention_is_told_of_a_part_that_can_if_there_is_one():
    decoder = BertConfig(**BERT.fields, is_decoder=True, add_cross_attention=True)
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(VIT.config(), decoder)
    with pytest.raises(ValueError, match=r"crossattention.*Apply it to a part of the model that can: `model.encoder`"):
        apply(transformers.VisionEncoderDecoderModel(config), "bn")
    # The encoder of BART shares its configuration with the decoder.
    with pytest.raises(ValueError, match=r"encoder_attn.*is fitted on its own\.$"):
        apply(next(family for family in REFUSED if family.name == "BART").build(), "bn")


def test_downsampling_is_refused_where_all_layers_have_a_window():
    mistral = next(family for family in FAMILIES if family.name == "Mistral")
    for switch in (lambda: apply(mistral.build(), "sh"), lambda: mistral.build("primal_dual_sh")):
        with pytest.raises(ValueError, match="would have no effect on MistralModel: each of its layers"):
            switch()
    with pytest.warns(UserWarning, match=r"'bn\+sh' is 'bn' here"):
        apply(mistral.build(), "bn+sh")
    gemma = next(family for family in FAMILIES if family.name == "Gemma 3")
    assert apply(gemma.build(), "sh").config._attn_implementation == "primal_dual_sh"


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"beta": 1.0}, "`primal_dual` has no setting 'beta'; it may hold bn_beta, bn_scaling"),
        ({"bn_beta": "1"}, "Field 'bn_beta' with value '1' doesn't match"),
        ({"head_scales": [1, 2]}, "`head_scales` must hold one entry for each of the 4 heads, got 2"),
        ({"head_points": [3] * 3}, "`head_points` must hold one entry for each of the 4 heads, got 3"),
        ({"head_points": 3, "head_scales": [1] * 4}, "exclude each other"),
        ({"sampling": "conv"}, "must be one of average, stride, random, got 'conv'"),
        ({"grid_size": [3, 3]}, "`grid_size` [3, 3] with 0 prefix tokens needs 9 tokens, got 11"),
        ([1], "`primal_dual` must be a dictionary of settings, got [1]"),
    ],
    ids=str,
)
def test_settings_are_checked(settings, error):
    model = BERT.build("primal_dual_bn_sh")
    model.config.primal_dual = settings
    if "heads, got" not in error and "tokens, got" not in error:
        with pytest.raises(ValueError, match=re.escape(error)):
            BertModel(model.config)
    with pytest.raises(ValueError, match=re.escape(error)):
        model(**BERT.inputs())


def test_apply_changes_nothing_when_it_refuses():
    model = BERT.build("primal_dual_bn", bn_beta=0.5)
    for attention, settings, error in (
        ("bn+sh", {"beta": 1.0, "bn_eps": 0.1}, "no setting 'beta'"),
        ("sh", {"head_scales": [1, 2]}, "one entry for each of the 4 heads"),
        ("bn", {"head_scales": [1, 1, 2, 2]}, "is for the presets with sh"),
        ("linear", {}, r"must be one of bn, sh, bn\+sh, softmax, got 'linear'.*weights of their own"),
        ("softmax", {"bn_beta": 0.5}, "no setting of softmax attention"),
    ):
        with pytest.raises(ValueError, match=error):
            apply(model, attention, **settings)
        assert model.config.primal_dual == {"bn_beta": 0.5}
        assert model.config._attn_implementation == "primal_dual_bn"
    with pytest.raises(ValueError, match="must be a model of transformers, got Linear"):
        apply(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match='"primal_dual_nb"` is not supported'):
        model.set_attn_implementation("primal_dual_nb")


def test_apply_refuses_a_model_that_transformers_would_leave_as_it_is():
    class OwnModel(transformers.PreTrainedModel):
        config_class = transformers.BertConfig
        __module__ = "a_notebook"

        def __init__(self, config):
            super().__init__(config)
            self.encoder = BertModel(config)
            self.post_init()

    with pytest.raises(ValueError, match="finds no file of OwnModel"):
        apply(OwnModel(BERT.config()), "bn")


def test_apply_refuses_a_layer_with_a_copy_of_the_configuration():
    config = transformers.VideoMAEConfig(
        **VIDEO_MAE.fields, decoder_num_hidden_layers=1, decoder_hidden_size=32, decoder_num_attention_heads=HEADS
    )
    model = transformers.VideoMAEForPreTraining(config)
    for switch in (lambda: apply(model, "bn"), lambda: model.set_attn_implementation("primal_dual_bn")):
        with pytest.raises(ValueError, match=r"decoder.decoder_layers.*has a copy of the model's configuration"):
            switch()
    assert model.config._attn_implementation == "sdpa"


def test_apply_leaves_settings_to_stages_with_other_numbers_of_heads():
    swin = next(family for family in REFUSED if family.name == "Swin")
    assert apply(swin.build(), "bn", bn_beta=0.5).config.primal_dual == {"bn_beta": 0.5}


class Stub(torch.nn.Module):
    """A layer of attention as far as an attention function looks at it."""

    config = SimpleNamespace(primal_dual=None, model_type="stub", _attn_implementation="primal_dual_bn")


def call(name="primal_dual_bn", attention_mask=None, keys=TOKENS, module=None, **kwargs):
    query, key = torch.randn(2, HEADS, TOKENS, 8), torch.randn(2, HEADS, keys, 8)
    return AttentionInterface()[name](Stub() if module is None else module, query, key, key, attention_mask, **kwargs)


def of(**attributes):
    module = Stub()
    vars(module).update(attributes)
    return module


CAUSAL_MASK = torch.ones(2, 1, TOKENS, TOKENS).tril().bool()
ONE_ROW = torch.tensor([True, False]).view(2, 1, 1, 1).expand(-1, -1, -1, TOKENS)
CALLS = [
    ({"is_causal": True, "keys": 12}, "must be given for 11 causal queries with 12 keys"),
    ({"keys": 5}, "Stub attends from 11 tokens to 5 others"),
    ({"module": of(is_cross_attention=True)}, "are self-attentions"),
    ({"module": type("SomeCrossAttention", (Stub,), {})()}, "SomeCrossAttention attends from 11 tokens to 11 others"),
    *(({name: 1}, f"Stub passes `{name}` to its attention") for name in ("softcap", "seq_idx", "own")),
    ({"attention_mask": torch.cat([CAUSAL_MASK] * 3 + [CAUSAL_MASK.flip(2, 3)], dim=1)}, "differs between heads"),
    ({"attention_mask": CAUSAL_MASK.transpose(2, 3) | CAUSAL_MASK.tril(-2)}, "keys that are no interval"),
    ({"attention_mask": torch.randn(1, 1, 1, TOKENS)}, "a bias"),
    ({"attention_mask": torch.ones(2, 1, 1, 5).bool()}, r"does not broadcast to \(batch, heads, 11, 11\)"),
    ({"attention_mask": ONE_ROW}, r"only padding in rows \[1\]"),
]


@pytest.mark.parametrize(("arguments", "message"), CALLS)
def test_what_is_more_than_self_attention_with_padding_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        call(**arguments)


def test_what_does_not_change_the_answer_is_not_refused():
    # transformers' models may override by the call what the layer says.
    call(module=of(is_causal=True), is_causal=False)
    call(
        position_ids=torch.arange(TOKENS),
        use_cache=True,
        num_items_in_batch=2,
        output_hidden_states=True,
        softcap=None,
    )


def test_queries_that_may_have_been_scaled_before_are_refused_where_it_matters():
    with pytest.raises(ValueError, match="Stub passes `scaling=1`"):
        call(scaling=1.0)
    call("primal_dual_sh", scaling=1.0)


def test_an_image_whose_grid_is_unknown_is_refused_until_it_is_given():
    model = VIT.build("primal_dual_bn_sh", bn_eps=0.1)
    hidden_states = torch.randn(2, 26, 32)
    with pytest.raises(
        ValueError, match=r"sees 26 tokens, 1 of them in front of the patches, whose grid is not known"
    ):
        model.layers[0](hidden_states)
    apply(model, "bn+sh", grid_size=[5, 5])
    model.layers[0](hidden_states)
    apply(model, "bn+sh", grid_size=[3, 5])
    with pytest.raises(ValueError, match=r"`grid_size` \[3, 5\] with 1 prefix tokens needs 16 tokens, got 26"):
        model(torch.randn(2, 3, *(4 * side for side in GRID)))
