"""What transformers' users expect of a model: of every model, and of every preset in one of them."""

import copy
import json
import warnings

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModel

from tests.modeling import series, texts
from tests.modeling.cases import HEADS, uses
from tests.modeling.models import FLOATS, MODELS, inputs_of, presets_in_turn

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def gradients(model, batch):
    """The loss of a batch and the gradient of every parameter."""
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return loss.detach(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def assert_same_gradients(actual, expected):
    torch.testing.assert_close(actual[0], expected[0], rtol=1e-5, atol=1e-6)
    largest = max(gradient.abs().max().item() for gradient in expected[1].values())
    for name, gradient in expected[1].items():
        torch.testing.assert_close(actual[1][name], gradient, rtol=1e-4, atol=1e-5 * largest, msg=name)


ENCODERS = {
    "text-mean": (texts, {}),
    "text-mean-behind-cls": (texts, {"prepend_cls": True}),
    "text-cls": (texts, {"prepend_cls": True, "pooling": "cls"}),
    "text-own-cls": (texts, {"pooling": "cls"}),
    "text-bert": (texts, {"norm_position": "post", "embedding_norm": True, "type_vocab_size": 2, "pooling": "cls"}),
    "text-batch-norm": (texts, {"norm_type": "batch", "embedding_norm": True, "prepend_cls": True}),
    "series": (series, {}),
    "series-pre-mean": (series, {"norm_position": "pre", "pooling": "mean"}),
    "series-layer-pre": (series, {"norm_type": "layer", "norm_position": "pre"}),
    "series-layer-post-mean": (series, {"norm_type": "layer", "norm_position": "post", "pooling": "mean"}),
}
encoders = pytest.mark.parametrize(("module", "fields"), ENCODERS.values(), ids=ENCODERS)


def batch_of(module, *shape):
    return (module.text_batch if module is texts else module.series_batch)(*shape)


@encoders
def test_more_padding_changes_neither_loss_nor_gradients(module, fields):
    for training in (True, False) if fields.get("norm_type", "batch") == "batch" and module is series else (True,):
        model, batch = module.small_model(bn_eps=0.1, **fields).train(training), batch_of(module)
        expected = gradients(model, batch)
        assert all(gradient.isfinite().all() for gradient in expected[1].values())
        assert_same_gradients(gradients(model, module.with_more_padding(batch, 4)), expected)


@encoders
def test_every_parameter_gets_a_gradient(module, fields):
    # Rows of every position; of texts both types, and all tokens but the one that fills texts up.
    model = module.small_model(bn_beta_learnable=True, **fields).train()
    batch = batch_of(module, (module.LONGEST,) * 3, module.LONGEST)
    if module is texts:
        batch["token_type_ids"] = (torch.arange(module.LONGEST) > 9).long().expand(3, -1)
    _, found = gradients(model, batch)
    assert all(gradient.abs().max() > 0 for gradient in found.values())
    if module is texts:
        assert found["model.embeddings.word_embeddings.weight"][0].eq(0).all()


@presets_in_turn
def test_maps_and_hidden_states_are_put_out(name, preset):
    model, inputs = MODELS[name].make(attention=preset, bn_eps=0.1), inputs_of(name)
    outputs = model(**inputs, output_attentions=True, output_hidden_states=True)
    torch.testing.assert_close(outputs.logits, model(**inputs).logits, rtol=1e-4, atol=1e-5)
    other = copy.deepcopy(model)
    other.set_attn_implementation("eager")
    assert {layer.self_attn.config._attn_implementation for layer in other.model.layers} == {"eager"}
    torch.testing.assert_close(other(**inputs).logits, outputs.logits, rtol=1e-4, atol=1e-5)
    assert len(outputs.hidden_states) == 3
    assert len(outputs.attentions) == 2
    for each in outputs.attentions:
        if uses("downsampled", preset):
            assert len(each) == HEADS
            assert each[0].shape[-1] > each[-1].shape[-1]
        else:
            assert each.shape[1] == HEADS
            assert each.shape[2] == each.shape[3]


@presets_in_turn
def test_gradient_checkpointing_changes_nothing(name, preset):
    plain, batch = MODELS[name].make(attention=preset).train(), MODELS[name].batch()
    checkpointed = copy.deepcopy(plain)
    checkpointed.gradient_checkpointing_enable({"use_reentrant": False})
    recomputed = []
    checkpointed.model.layers[0].mlp.register_forward_pre_hook(lambda *args: recomputed.append(1))
    expected, actual = gradients(plain, batch), gradients(checkpointed, batch)
    assert len(recomputed) == 2
    torch.testing.assert_close(actual, expected)
    # Recomputing a layer must not move its running averages a second time.
    torch.testing.assert_close(dict(checkpointed.named_buffers()), dict(plain.named_buffers()))


@presets_in_turn
def test_bfloat16_and_autocast_stay_close(tmp_path, name, preset):
    model, inputs = MODELS[name].make(attention=preset, bn_eps=0.1), inputs_of(name)
    model.save_pretrained(tmp_path)
    halved = MODELS[name].model_class.from_pretrained(tmp_path, dtype=torch.bfloat16)
    with torch.no_grad():
        expected = model(**inputs).logits
        with torch.autocast("cpu", torch.bfloat16):
            autocast = model(**inputs).logits
        halved = halved(**{key: value.bfloat16() if key in FLOATS else value for key, value in inputs.items()}).logits
    assert halved.dtype == torch.bfloat16
    for actual in (autocast, halved):
        # Some twenty roundings to eight bits, one after the other.
        assert (actual.float() - expected).abs().max() <= 0.15 * expected.abs().max()


@presets_in_turn
def test_a_model_is_saved_and_loaded_to_the_bit(tmp_path, name, preset):
    fields = {"sampling": "conv"} if uses("downsampled", preset) else {}
    model, inputs = MODELS[name].make(attention=preset, bn_beta_learnable=True, **fields), inputs_of(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path)
    assert not [file.name for file in tmp_path.iterdir() if file.suffix in (".bin", ".pt", ".pkl", ".pth")]
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [type(model).__name__]
    loaded = MODELS[name].model_class.from_pretrained(tmp_path, device_map="cpu")
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is type(model.config)
    # A part of what was saved is no other class.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder = AutoModel.from_pretrained(tmp_path)
    assert type(encoder) is type(AutoModel.from_config(config)) is type(model.model)


@presets_in_turn
def test_softmax_weights_load_into_every_preset(name, preset):
    softmax, model = MODELS[name].make(attention="softmax"), MODELS[name].make(attention=preset)
    missing, unexpected = model.load_state_dict(softmax.state_dict(), strict=False)
    assert unexpected == []
    own = [key for key, _ in model.named_parameters() if ".transforms." in key]
    assert missing == own


@presets_in_turn
def test_lora_is_attached_trained_and_merged(tmp_path, name, preset):
    model, batch = MODELS[name].make(attention=preset, bn_eps=0.1), MODELS[name].batch()
    batch = {key: value.clamp(-2, 2) if key in FLOATS else value for key, value in batch.items()}
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "fc1"]
    adapted = get_peft_model(copy.deepcopy(model), LoraConfig(r=2, target_modules=targets, init_lora_weights=False))
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
    adapted(**batch).loss.backward()
    assert all(p.grad is not None for p in adapted.parameters() if p.requires_grad)
    optimizer.step()
    adapted.save_pretrained(tmp_path)

    adapted.eval()
    expected = adapted(**batch).logits
    loaded = PeftModel.from_pretrained(copy.deepcopy(model), tmp_path)
    torch.testing.assert_close(loaded(**batch).logits, expected)
    merged = loaded.merge_and_unload()
    assert type(merged) is MODELS[name].model_class
    # Merged weights round differently, and where a head has few keys their small variance enlarges that.
    assert (merged(**batch).logits - expected).abs().max() <= 1e-2 * expected.abs().max()
    assert not torch.allclose(model(**batch).logits, expected, atol=1e-3)
