"""The attention comes back with the checkpoint, tokens lie where they lie, padding and keywords are heeded."""

import copy
import json
import pickle
import warnings

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AttentionInterface,
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import hf_primaldual
from hf_primaldual import apply
from hf_primaldual.integration import ATTENTIONS
from hf_primaldual.integration.layouts import token_layout
from tests.integration.families import FAMILIES, GRID, HEADS, LENGTHS, PATCH, SCALES, TOKENS
from tests.integration.reference import register_naive
from tests.modeling.isolated import run_isolated

BERT, EURO_BERT = (next(family for family in FAMILIES if family.name == name) for name in ("BERT", "EuroBERT"))
NAME = "primal_dual_bn_sh"
SETTINGS = {"bn_beta": 0.5, "bn_eps": 0.1, "head_scales": SCALES}


def classifier(name=NAME, **settings):
    torch.manual_seed(0)
    config = BertConfig(**BERT.fields, primal_dual=settings or SETTINGS)
    model = BertForSequenceClassification._from_config(config, attn_implementation=name)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=0.3)
    return model.eval()


def logits(model):
    return model(**BERT.inputs(padded=True)).logits


def test_row_01_the_attention_comes_back_however_often_it_is_saved(tmp_path):
    model = classifier()
    expected = logits(model)
    for count in range(3):
        model.save_pretrained(tmp_path / str(count))
        assert json.loads((tmp_path / str(count) / "config.json").read_text())["attn_implementation"] == NAME
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / str(count))
        assert torch.equal(logits(model), expected)
    encoder = AutoModel.from_pretrained(tmp_path / "2")
    encoder.save_pretrained(tmp_path / "encoder")
    with_head = AutoModelForSequenceClassification.from_pretrained(tmp_path / "encoder")
    assert encoder.config._attn_implementation == with_head.config._attn_implementation == NAME
    assert torch.equal(
        with_head.bert(**BERT.inputs()).last_hidden_state, model.bert(**BERT.inputs()).last_hidden_state
    )


def test_row_01_a_configuration_keeps_its_attention(tmp_path):
    config = classifier().config
    config.save_pretrained(tmp_path / "a")
    AutoConfig.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    copies = [
        AutoConfig.from_pretrained(tmp_path / "b"),
        BertConfig.from_json_file(tmp_path / "b" / "config.json"),
        BertConfig.from_dict(config.to_dict()),
        BertConfig(**config.to_diff_dict()),
        BertConfig(**json.loads(config.to_json_string())),
        copy.deepcopy(config),
        pickle.loads(pickle.dumps(config)),
    ]
    for one in copies:
        assert BertModel(one).config._attn_implementation == AutoModel.from_config(one).config._attn_implementation
        assert one.to_dict()["attn_implementation"] == one._attn_implementation == NAME
    for nothing in (AutoModel.from_config(config, attn_implementation=None), BertModel._from_config(config)):
        assert nothing.config._attn_implementation == NAME


def test_row_01_who_asks_for_another_attention_gets_it_and_who_passes_none_asks_for_nothing(tmp_path):
    classifier().save_pretrained(tmp_path / "ours")
    model = AutoModel.from_pretrained(tmp_path / "ours", attn_implementation=None)
    assert model.config._attn_implementation == NAME
    model = BertModel.from_pretrained(tmp_path / "ours", attn_implementation=None)
    assert model.config._attn_implementation == NAME
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asked = AutoModel.from_pretrained(tmp_path / "ours", attn_implementation="sdpa")
    assert asked.config._attn_implementation == "sdpa"
    model.set_attn_implementation("sdpa")
    for number, one in enumerate((asked, model)):
        one.save_pretrained(tmp_path / str(number))
        assert "attn_implementation" not in json.loads((tmp_path / str(number) / "config.json").read_text())


def test_row_01_settings_without_an_attention_are_not_passed_over_in_silence(tmp_path):
    # As version 0.1.0 saved them.
    classifier("sdpa").save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="holds settings, `primal_dual`, but names none"):
        AutoModel.from_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="one of primal_dual_bn, primal_dual_sh, primal_dual_bn_sh"):
        AutoModel.from_pretrained(tmp_path, primal_dual={"bn_beta": 0.5})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AutoModel.from_pretrained(tmp_path, attn_implementation=NAME)
        AutoModel.from_pretrained(tmp_path, attn_implementation="sdpa")
        AutoModel.from_config(AutoConfig.from_pretrained(tmp_path), attn_implementation=NAME)
    config = BertConfig(**BERT.fields)
    config.attn_implementation = NAME
    with pytest.raises(ValueError, match="is an attribute that nobody reads"):
        BertModel(config)


def test_row_01_an_adapter_finds_its_bases_attention(tmp_path):
    base = classifier()
    base.save_pretrained(tmp_path / "base")
    # The base of the training got its attention by the flag, the one that the adapter is put on by its folder.
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", attn_implementation=NAME)
    tuned = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", init_lora_weights=False)).eval()
    expected = logits(tuned)
    tuned.save_pretrained(tmp_path / "adapter")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    torch.testing.assert_close(logits(PeftModel.from_pretrained(base, tmp_path / "adapter")), expected)
    by_auto = AutoModelForSequenceClassification.from_pretrained(tmp_path / "adapter")
    torch.testing.assert_close(logits(by_auto), expected)
    tuned.merge_and_unload().save_pretrained(tmp_path / "merged")
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-5)


def test_row_01_an_adapter_whose_base_has_its_attention_by_the_flag_alone_is_saved_with_a_warning(tmp_path):
    model = BertForSequenceClassification(BertConfig(**BERT.fields))
    model.save_pretrained(tmp_path / "plain")
    lora = LoraConfig(task_type="SEQ_CLS")
    for folder, names in (("plain", NAME), ("", NAME), ("ours", NAME), ("plain", None)):
        if folder:
            flag = {} if names is None else {"attn_implementation": names}
            model = AutoModelForSequenceClassification.from_pretrained(tmp_path / folder, **flag)
        else:
            # A base that lies nowhere.
            model = BertForSequenceClassification._from_config(model.config, attn_implementation=names)
        if folder == "plain":
            model.save_pretrained(tmp_path / "ours")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            get_peft_model(model, lora).save_pretrained(tmp_path / "adapter")
        said = [one for warning in caught if "put on another attention" in (one := str(warning.message))]
        assert len(said) == (folder != "ours" and names is not None)
        assert all(f"its base, {model.name_or_path!r}" in one for one in said)


def two_towers(image: str):
    tower = next(family for family in FAMILIES if family.model == f"{image}VisionModel")
    config_class = getattr(transformers, f"{image}Config")
    config = config_class(
        text_config=BERT.fields | {"projection_size": 32}, vision_config=tower.fields, projection_dim=16
    )
    torch.manual_seed(0)
    return getattr(transformers, f"{image}Model")(config).eval()


def test_row_01_settings_of_a_part_without_an_attention_are_not_passed_over_in_silence(tmp_path):
    model = two_towers("CLIP")
    model.config.vision_config.primal_dual = {"head_scales": SCALES}
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="holds settings, `primal_dual`, but names none"):
        AutoModel.from_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="holds settings, `primal_dual`, but names none"):
        transformers.CLIPVisionModel.from_pretrained(tmp_path)
    apply(model.vision_model, "bn+sh", head_scales=SCALES)
    model.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AutoModel.from_pretrained(tmp_path)


def test_row_01_the_attention_of_a_part_comes_back_with_the_whole_and_alone(tmp_path):
    model = two_towers("CLIP")
    inputs = {"input_ids": torch.randint(5, 50, (2, TOKENS)), "pixel_values": torch.randn(2, 3, 20, 20)}
    apply(model.vision_model, "bn+sh", head_scales=SCALES)
    expected = model(**inputs).image_embeds
    for count in range(2):
        model.save_pretrained(tmp_path / str(count))
        model = AutoModel.from_pretrained(tmp_path / str(count))
        assert torch.equal(model(**inputs).image_embeds, expected)
        assert model.config.text_config._attn_implementation == "sdpa"
    tower = type(model.vision_model).from_pretrained(tmp_path / "1")
    assert tower.config._attn_implementation == NAME
    # A wish for one part is no wish for another.
    for wish in ({"attn_implementation": {"text_config": "eager"}}, {"vision_config": {"attention_dropout": 0.1}}):
        model = AutoModel.from_pretrained(tmp_path / "1", **wish)
        assert model.config.vision_config._attn_implementation == NAME
    model = AutoModel.from_pretrained(tmp_path / "1", attn_implementation="sdpa")
    model.save_pretrained(tmp_path / "other")
    assert "attn_implementation" not in (tmp_path / "other" / "config.json").read_text()


def test_row_01_a_model_put_together_of_a_checkpoint_keeps_its_attention(tmp_path):
    AutoModel.from_config(classifier().config).save_pretrained(tmp_path / "text")
    vision = next(family for family in FAMILIES if family.name == "ViT")
    vision.build().save_pretrained(tmp_path / "vision")
    model = transformers.VisionTextDualEncoderModel.from_vision_text_pretrained(
        tmp_path / "vision", tmp_path / "text", projection_dim=16
    )
    assert model.text_model.config._attn_implementation == NAME
    assert model.vision_model.config._attn_implementation == "sdpa"
    model.save_pretrained(tmp_path / "both")
    model = AutoModel.from_pretrained(tmp_path / "both")
    assert model.text_model.config._attn_implementation == NAME


WITHOUT_PACKAGE = """
import sys
from transformers import AutoConfig, AutoModel
for folder in sys.argv[1:]:
    for load in (AutoModel.from_pretrained, lambda name: AutoModel.from_config(AutoConfig.from_pretrained(name))):
        try:
            load(folder)
        except ValueError as error:
            assert "primal_dual_bn_sh" in str(error) and "not supported" in str(error), error
        else:
            raise AssertionError(folder)
    AutoModel.from_pretrained(folder, attn_implementation="sdpa")
"""


@pytest.mark.unmutated
def test_row_01_without_the_package_loading_fails_with_a_sentence(tmp_path):
    classifier().save_pretrained(tmp_path / "bert")
    model = two_towers("CLIP")
    model.set_attn_implementation({"vision_config": NAME})
    model.save_pretrained(tmp_path / "clip")
    run_isolated(WITHOUT_PACKAGE, tmp_path, tmp_path / "bert", tmp_path / "clip")


def test_row_06_a_misspelt_setting_names_the_nearest_one():
    with pytest.raises(ValueError, match=r"no setting 'bn_bta'.*Did you mean 'bn_beta'"):
        apply(BERT.build(), bn_bta=1)
    with pytest.raises(ValueError, match=r"no setting 'head_scale'.*Did you mean 'head_scales'"):
        BERT.build(NAME, head_scale=SCALES)


@pytest.mark.filterwarnings("ignore:.*holds settings, `primal_dual`")
def test_row_06_settings_that_our_own_models_do_not_read_are_refused():
    config = hf_primaldual.PrimalDualTextConfig(vocab_size=9, hidden_size=8, num_attention_heads=2)
    with pytest.raises(ValueError, match="a PrimalDualTextConfig has fields of its own"):
        apply(hf_primaldual.PrimalDualTextModel(config), bn_beta=0.5)
    config.primal_dual = {"bn_beta": 0.5}
    with pytest.raises(ValueError, match="a PrimalDualTextConfig has fields of its own"):
        hf_primaldual.PrimalDualTextModel(config)


@pytest.mark.parametrize("argument", ["attn_mask", "seq_idx"])
def test_row_07_an_argument_that_the_attention_does_not_honour_is_refused(argument):
    near = ".*if `attention_mask` was meant" if argument == "attn_mask" else ""
    with pytest.raises(ValueError, match=f"passes `{argument}` to its attention{near}"):
        BERT.build(NAME)(**BERT.inputs(), **{argument: torch.ones(2, TOKENS)})


def shifted(family):
    """The padded inputs of a family, with the padding of the second row on its left, and the second row's length."""
    inputs, length = family.inputs(padded=True), LENGTHS[1]
    left = {name: values.clone() for name, values in inputs.items()}
    for name, values in inputs.items():
        left[name][1] = values[1].roll(TOKENS - length)
    places = (torch.arange(TOKENS) - torch.tensor([0, TOKENS - length]).unsqueeze(1)).clamp(min=0)
    return left | {"position_ids": places}, {"input_ids": inputs["input_ids"][1:, :length]}, length


PADDED = {
    "average": {},
    "stride": {"sampling": "stride"},
    "random": {"sampling": "random"},
    "prefix": {"num_prefix_tokens": 1},
    "points": {"head_scales": None, "head_points": [3, 2, 11, 4]},
}


@pytest.mark.parametrize(
    ("name", "how", "family"),
    [(NAME, how, BERT) for how in PADDED]
    + [
        (name, "average", family)
        for name in ATTENTIONS
        for family in (BERT, EURO_BERT)
        if (name, family) != (NAME, BERT)
    ],
)
def test_row_12_a_row_padded_on_the_left_gives_what_it_gives_alone(name, how, family):
    model = family.build(name, **SETTINGS | PADDED[how])
    together, alone, length = shifted(family)
    torch.testing.assert_close(
        model(**together).last_hidden_state[1:, -length:], model(**alone).last_hidden_state, rtol=1e-4, atol=1e-5
    )
    maps = model(**together, output_attentions=True).attentions[0]
    of_alone = model(**alone, output_attentions=True).attentions[0]
    for head, expected in zip(*(m if isinstance(m, tuple) else m.unbind(1) for m in (maps, of_alone)), strict=True):
        kept = head[1, -length:].sum(dim=0) > 0
        torch.testing.assert_close(head[1, -length:][:, kept], expected[0], rtol=1e-4, atol=1e-5)


def test_row_12_a_token_in_front_of_padding_counts_for_no_window():
    module = torch.nn.Module()
    module.config = BertConfig(**BERT.fields, primal_dual={"num_prefix_tokens": 1, "head_scales": SCALES})
    padded, real = torch.randn(3, 1, HEADS, 15, 8), torch.arange(15) != 1
    real[2:5] = False
    attention = AttentionInterface()["primal_dual_sh"]
    together = attention(module, *padded, real.view(1, 1, 1, 15))[0][:, real]
    torch.testing.assert_close(together, attention(module, *padded[..., real, :], None)[0])


@pytest.mark.unmutated
def test_row_12_left_padding_in_any_form_of_a_mask_and_under_the_compiler():
    model = BERT.build(NAME, **SETTINGS)
    inputs, _, _ = shifted(BERT)
    expected = model(**inputs).last_hidden_state
    keep = inputs.pop("attention_mask").bool()
    forms = [keep, keep.float(), keep[:, None, None], keep[:, None, None].expand(-1, 1, TOKENS, -1)]
    least = (torch.finfo(torch.float32).min, -torch.inf, -1e4)
    forms += [torch.zeros(2, 1, 1, TOKENS).masked_fill(~keep[:, None, None], value) for value in least]
    for form in forms:
        torch.testing.assert_close(model(**inputs, attention_mask=form).last_hidden_state, expected)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    actual = compiled(**inputs, attention_mask=keep[:, None, None]).last_hidden_state
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def vivit(**settings):
    config = transformers.VivitConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=48,
        image_size=GRID[0] * PATCH,
        num_frames=4,
        tubelet_size=[2, PATCH, PATCH],
        primal_dual=settings or None,
    )
    torch.manual_seed(0)
    return transformers.VivitModel._from_config(config, attn_implementation="primal_dual_sh").eval().double()


def test_row_13_tubes_of_a_video_lie_where_the_input_says_or_the_settings():
    video = torch.randn(2, 4, 3, GRID[0] * PATCH, GRID[1] * PATCH).double()
    # Frame by frame; all of them one below another; in a row, as a sequence.
    for lie, grid in ((None, (2, *GRID)), ([2 * GRID[0], GRID[1]], (2 * GRID[0], GRID[1])), ([1, 50], None)):
        model = vivit(**({} if lie is None else {"grid_size": lie}), head_scales=SCALES)
        actual = model(video).last_hidden_state
        model.set_attn_implementation(register_naive(scales=SCALES, prefix=1, grid=grid))
        torch.testing.assert_close(actual, model(video).last_hidden_state)
    with pytest.raises(ValueError, match=r"is \[5, 10\], but the input's grid is \[2, 5, 5\]"):
        vivit(grid_size=[5, 10])(video)


@pytest.mark.parametrize("model_type", ["yolos", "llama4_vision_model", "timesfm", "detr"])
def test_row_13_tokens_in_places_that_nobody_knows_are_refused(model_type):
    with pytest.raises(ValueError, match=f"must be set for a '{model_type}' model"):
        token_layout(CONFIG_MAPPING[model_type](), 197)


@pytest.mark.parametrize("model_type", ["bert", "wav2vec2", "whisper", "informer"])
def test_row_13_text_sound_and_series_need_no_settings(model_type):
    assert token_layout(CONFIG_MAPPING[model_type](), 197) == (0, None)


def test_row_13_a_wide_image_whose_patches_would_fill_a_square_lies_as_it_is_or_is_refused():
    vit, siglip = (next(one for one in FAMILIES if one.model == name) for name in ("ViTModel", "SiglipVisionModel"))
    wide = {"pixel_values": torch.randn(1, 3, 2 * PATCH, 8 * PATCH), "interpolate_pos_encoding": True}
    model = vit.build("primal_dual_sh", head_scales=SCALES)
    actual = model(**wide).last_hidden_state
    model.set_attn_implementation(register_naive(scales=SCALES, prefix=1, grid=(2, 8)))
    torch.testing.assert_close(actual, model(**wide).last_hidden_state, rtol=1e-4, atol=1e-5)
    model = siglip.build("primal_dual_sh")
    with pytest.raises(
        ValueError, match=r"must be set to the height and width in patches, \[2, 8\]: the input of Siglip"
    ):
        model(**wide)
    with pytest.raises(ValueError, match=r"\[5, 5\]: the input of Siglip"):
        siglip.build("primal_dual_sh", grid_size=[2, 8])(**siglip.inputs())
    apply(model, "sh", grid_size=[2, 8])(**wide)
