"""Settings that travel, switching back and forth, the compiler, maps, and every setting against the formulas."""

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModel

from hf_primaldual import apply
from hf_primaldual.integration import ATTENTIONS
from tests.integration.families import FAMILIES, GRID, HEADS, LENGTHS, SCALES, TOKENS
from tests.integration.reference import register_naive

BERT, VIT = (next(family for family in FAMILIES if family.name == name) for name in ("BERT", "ViT"))


def test_settings_are_saved_with_the_configuration(tmp_path):
    settings = {"bn_beta": 0.5, "bn_scaling": 0.25, "head_scales": SCALES, "bn_eps": 0.1}
    BERT.build().save_pretrained(tmp_path / "plain")
    name = "primal_dual_bn_sh"
    model = AutoModel.from_pretrained(tmp_path / "plain", attn_implementation=name, primal_dual=settings)
    assert model.config.primal_dual == settings
    expected = model(**BERT.inputs(padded=True)).last_hidden_state
    model.save_pretrained(tmp_path / "set")
    again = AutoModel.from_pretrained(tmp_path / "set", attn_implementation=name)
    assert again.config.primal_dual == settings
    assert torch.equal(again(**BERT.inputs(padded=True)).last_hidden_state, expected)
    # As a field of a configuration, too, and transformers' own attentions don't mind.
    assert AutoConfig.from_pretrained(tmp_path / "plain", primal_dual=settings).primal_dual == settings
    assert AutoConfig.from_pretrained(tmp_path / "plain").primal_dual is None
    assert "primal_dual" not in (tmp_path / "plain" / "config.json").read_text()
    AutoModel.from_pretrained(tmp_path / "set")(**BERT.inputs())


def test_settings_of_version_0_1_0_keep_their_meaning():
    inputs = BERT.inputs()
    former = BERT.build("primal_dual_sh", head_scales=SCALES, prefix_tokens=1)
    expected = BERT.build("primal_dual_sh", head_scales=SCALES, num_prefix_tokens=1)(**inputs).last_hidden_state
    assert torch.equal(former(**inputs).last_hidden_state, expected)
    other = BERT.build("primal_dual_sh", head_scales=SCALES)(**inputs).last_hidden_state
    assert not torch.allclose(other, expected)


def test_parts_of_a_model_have_their_own_settings_or_those_of_the_whole(tmp_path):
    clip = next(family for family in FAMILIES if family.model == "CLIPVisionModel")
    config = transformers.CLIPConfig(text_config=BERT.fields, vision_config=clip.fields, projection_dim=16)
    transformers.CLIPModel(config).save_pretrained(tmp_path / "plain")
    model = transformers.CLIPModel.from_pretrained(tmp_path / "plain", primal_dual={"bn_beta": 0.5})
    assert model.vision_model.config.primal_dual == {"bn_beta": 0.5}
    apply(model.vision_model, "bn+sh", head_scales=SCALES)
    model.save_pretrained(tmp_path / "set")
    model = transformers.CLIPModel.from_pretrained(tmp_path / "set", primal_dual={"bn_beta": 0.25})
    assert model.vision_model.config.primal_dual == {"head_scales": SCALES}
    parts = {"vision_config": {"primal_dual": {"head_scales": [1] * HEADS}}}
    model = transformers.CLIPModel.from_pretrained(tmp_path / "set", **parts)
    assert model.vision_model.config.primal_dual == {"head_scales": [1] * HEADS}


def test_settings_change_between_forwards():
    model, inputs = BERT.build("primal_dual_bn", bn_beta=0.5), BERT.inputs()
    first = model(**inputs).last_hidden_state
    apply(model, "bn", bn_beta=0.25)
    assert not torch.allclose(model(**inputs).last_hidden_state, first)
    model.config.primal_dual["bn_beta"] = 0.5
    assert torch.equal(model(**inputs).last_hidden_state, first)


# Of what is said to the attention, and to the naive one.
HOW = {
    "power": (BERT, {"head_scales": [1] * HEADS, "bn_beta": 0.7, "bn_scaling": 0.3}, {"statistics": (0.7, 0.3, 0.1)}),
    "stride": (BERT, {"sampling": "stride"}, {"sampling": "stride"}),
    "random": (BERT, {"sampling": "random", "sampling_seed": 3}, {"sampling": "random", "seed": 3}),
    "stride-grid": (VIT, {"sampling": "stride"}, {"sampling": "stride", "prefix": 1, "grid": GRID}),
    "random-grid": (VIT, {"sampling": "random"}, {"sampling": "random", "prefix": 1, "grid": GRID}),
    "prefix": (BERT, {"num_prefix_tokens": 1}, {"prefix": 1}),
}


@pytest.mark.parametrize(("family", "settings", "how"), HOW.values(), ids=HOW)
def test_every_setting_equals_the_formulas(family, settings, how):
    settings = {"bn_eps": 0.1, "head_scales": SCALES, **settings}
    model = family.build("primal_dual_bn_sh", **settings).double()
    inputs = family.inputs(family.takes_padding)
    inputs = {key: value.double() if value.is_floating_point() else value for key, value in inputs.items()}
    actual = model(**inputs).last_hidden_state
    model.set_attn_implementation(
        register_naive(**{"scales": settings["head_scales"], "statistics": (1.0, 1, 0.1), **how})
    )
    torch.testing.assert_close(actual, model(**inputs).last_hidden_state)


def test_a_number_of_points_instead_of_factors():
    inputs = BERT.inputs()
    model = BERT.build("primal_dual_sh", head_points=[TOKENS, 99, TOKENS, 99])
    expected = BERT.build()(**inputs).last_hidden_state
    torch.testing.assert_close(model(**inputs).last_hidden_state, expected, rtol=1e-5, atol=1e-6)
    apply(model, "sh", head_points=3)
    assert model(**inputs, output_attentions=True).attentions[0].shape == (2, HEADS, TOKENS, 3)


def test_maps():
    inputs = BERT.inputs(padded=True)
    for name in ATTENTIONS:
        model = BERT.build(name, head_scales=SCALES)
        outputs = model(**inputs, output_attentions=True)
        torch.testing.assert_close(outputs.last_hidden_state, model(**inputs).last_hidden_state, rtol=1e-4, atol=1e-5)
        for maps in outputs.attentions:
            scales = SCALES if "sh" in name else [1] * HEADS
            heads = maps if isinstance(maps, tuple) else maps.unbind(1)
            assert len(heads) == HEADS
            for head, scale in zip(heads, scales, strict=True):
                assert head.shape == (2, TOKENS, -(-TOKENS // scale))
                torch.testing.assert_close(head.sum(-1), torch.ones(2, TOKENS))
                for row, length in enumerate(LENGTHS):
                    assert (head[row, :, -(-length // scale) :] == 0).all()


@pytest.mark.unmutated
def test_a_mask_that_may_be_more_than_padding_is_refused_under_the_compiler():
    model = BERT.build("primal_dual_bn")
    inputs = BERT.inputs() | {"attention_mask": torch.ones(2, 1, TOKENS, TOKENS).tril().bool()}
    with pytest.raises(Exception, match="which can't be seen under torch"):
        torch.compile(model, backend="eager", fullgraph=True)(**inputs)


def test_dropout_of_the_maps_acts_in_training_only():
    model, inputs = BERT.build("primal_dual_bn_sh"), BERT.inputs()
    assert torch.equal(model(**inputs).last_hidden_state, model(**inputs).last_hidden_state)
    for layer in model.encoder.layer:
        layer.attention.self.train()
    assert not torch.equal(model(**inputs).last_hidden_state, model(**inputs).last_hidden_state)


def test_each_layer_may_have_factors_of_its_own(tmp_path):
    scales, inputs = [[3, 1, 2, 1], [1, 4, 1, 2]], BERT.inputs(padded=True)
    model = apply(BERT.build(), "sh", head_scales=scales)
    layers = [layer.attention.self for layer in model.encoder.layer]
    seen = []
    for place, layer in enumerate(layers):
        layer.register_forward_hook(lambda _, args, output, place=place: seen.append((place, args[0], output[0])))
    output = model(**inputs).last_hidden_state
    for place, hidden_states, expected in seen:
        # The layer alone, in a model where all layers have its factors.
        same = apply(BERT.build(), "sh", head_scales=scales[place])
        layer = same.encoder.layer[place].attention.self
        actual = layer(hidden_states, attention_mask=inputs["attention_mask"].bool())[0]
        torch.testing.assert_close(actual, expected)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert loaded.config.primal_dual["head_scales"] == scales
    assert torch.equal(loaded(**inputs).last_hidden_state, output)
    for wrong, error in (([scales[0]], "lists for 1 layers"), ([[1] * 3] * 2, "one entry for each of the 4 heads")):
        with pytest.raises(ValueError, match=error):
            apply(BERT.build(), "sh", head_scales=wrong)(**inputs)
