"""What transformers' users expect of a model, of every model with every preset."""

import copy
import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import set_seed

from tests.modeling import texts
from tests.modeling.cases import DAILY, PRESET_CASES, needs_flex, slow_but, uses
from tests.modeling.models import FLOATS, MODELS, every_model, inputs_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def dynamic_batch(inputs: dict[str, torch.Tensor]) -> dict[str, dict]:
    batch = torch.export.Dim("batch", min=1, max=64)
    return {name: {0: batch} for name in inputs}


def of_other_size(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A batch of one more row."""
    return {name: torch.cat((value, value[:1])) for name, value in inputs.items()}


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@every_model()
def test_back_ends_agree(name, preset, implementation):
    model, inputs = MODELS[name].make(attention=preset, bn_eps=0.1), inputs_of(name)
    other = copy.deepcopy(model)
    other.set_attn_implementation("eager" if implementation == "sdpa" else "sdpa")
    torch.testing.assert_close(other(**inputs).logits, model(**inputs).logits, rtol=1e-4, atol=1e-5)


@needs_flex
@every_model("vit", "text", daily=DAILY)
def test_flex_attention_where_the_device_supports_it(name, preset):
    if uses("linear", preset) or uses("sparse", preset):
        pytest.skip("computes its attention itself")
    # On a CPU torch supports it in inference, for heads of at least 16 channels.
    model = MODELS[name].make(attention=preset, hidden_size=64, bn_eps=0.1)
    inputs = inputs_of(name)
    with torch.no_grad():
        expected = model(**inputs).logits
        model.set_attn_implementation("flex_attention")
        torch.testing.assert_close(model(**inputs).logits, expected, rtol=1e-4, atol=1e-4)


@every_model()
def test_gradient_checkpointing_changes_nothing(name, preset):
    plain, batch = MODELS[name].make(attention=preset).train(), MODELS[name].batch()
    checkpointed = copy.deepcopy(plain)
    checkpointed.gradient_checkpointing_enable({"use_reentrant": False})
    for model in (plain, checkpointed):
        model(**batch).loss.backward()
    for (parameter, actual), expected in zip(checkpointed.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, expected.grad, msg=parameter)


@every_model()
def test_bfloat16_and_autocast_stay_close(name, preset):
    model, inputs = MODELS[name].make(attention=preset, bn_eps=0.1), inputs_of(name)
    with torch.no_grad():
        expected = model(**inputs).logits
        with torch.autocast("cpu", torch.bfloat16):
            autocast = model(**inputs).logits
        halved = model.bfloat16()(
            **{key: value.bfloat16() if key in FLOATS else value for key, value in inputs.items()}
        ).logits
    scale = expected.abs().max()
    for actual in (autocast, halved):
        assert actual.isfinite().all()
        assert (actual.float() - expected).abs().max() <= 0.15 * scale


@every_model()
def test_safetensors_only_and_loaded_by_a_device_map(tmp_path, name, preset):
    model, inputs = MODELS[name].make(attention=preset), inputs_of(name)
    model.save_pretrained(tmp_path)
    assert not [file.name for file in tmp_path.iterdir() if file.suffix in (".bin", ".pt", ".pkl", ".pth")]
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [type(model).__name__]
    loaded = MODELS[name].model_class.from_pretrained(tmp_path, device_map="cpu")
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("name", MODELS)
def test_layers_offloaded_to_disk_give_equal_outputs(tmp_path, name):
    model, inputs = MODELS[name].make(attention="bn+sh"), inputs_of(name)
    model.save_pretrained(tmp_path / "saved")
    places = {child: "cpu" for child, _ in model.named_children()}
    places |= {f"model.{child}": "cpu" for child, _ in model.model.named_children()}
    del places["model"], places["model.layers"]
    places |= {"model.layers.0": "cpu", "model.layers.1": "disk"}
    loaded = MODELS[name].model_class.from_pretrained(
        tmp_path / "saved", device_map=places, offload_folder=tmp_path / "offload"
    )
    with torch.no_grad():
        torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits)


@every_model()
def test_equal_seeds_give_equal_models_and_losses(name, preset):
    losses = []
    for _ in range(2):
        set_seed(3)
        model = MODELS[name].make(attention=preset, hidden_dropout_prob=0.1).train()
        losses.append(model(**MODELS[name].batch()).loss)
    assert torch.equal(*losses)


@every_model()
def test_lora_is_attached_trained_and_merged(tmp_path, name, preset):
    model, batch = MODELS[name].make(attention=preset, bn_eps=0.1), MODELS[name].batch()
    batch = {key: value.clamp(-2, 2) if key in FLOATS else value for key, value in batch.items()}
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "fc1"]
    adapted = get_peft_model(copy.deepcopy(model), LoraConfig(r=2, target_modules=targets, init_lora_weights=False))
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
    before = adapted(**batch).loss
    before.backward()
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


# The sparse patterns' export is a test of theirs.
@every_model(daily=("bn+sh", "linear-bn+sh"))
def test_exported_with_a_dynamic_batch(name, preset):
    model, inputs = MODELS[name].make(attention=preset, bn_eps=0.1), inputs_of(name)
    program = torch.export.export(model, (), inputs, dynamic_shapes=dynamic_batch(inputs), strict=False)
    larger = of_other_size(inputs)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(**larger).logits, model(**larger).logits, rtol=1e-4, atol=1e-4)


def assert_onnx_equals(name, preset, folder):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, inputs = MODELS[name].make(attention=preset, bn_eps=0.1), inputs_of(name)
    path = folder / "model.onnx"
    torch.onnx.export(model, (), path, kwargs=inputs, dynamo=True, dynamic_shapes=dynamic_batch(inputs), verbose=False)
    session = onnxruntime.InferenceSession(path)
    larger = of_other_size(inputs)
    wanted = {each.name for each in session.get_inputs()}
    outputs = session.run(None, {key: value.numpy() for key, value in larger.items() if key in wanted})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(outputs[0]), model(**larger).logits, rtol=1e-4, atol=1e-4)


def test_onnx_gives_equal_logits(tmp_path):
    assert_onnx_equals("vit", "bn+sh", tmp_path)


@pytest.mark.slow
@every_model()
def test_onnx_gives_equal_logits_of_every_model(tmp_path, name, preset):
    assert_onnx_equals(name, preset, tmp_path)


@pytest.fixture
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@every_model("vit", "matching", daily=("bn+sh", "linear-bn+sh", "sparse-bn+sh"))
@pytest.mark.usefixtures("fresh_dynamo")
def test_inference_is_one_graph(name, preset):
    model, inputs = MODELS[name].make(attention=preset, bn_eps=0.1), inputs_of(name)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(**inputs).logits, model(**inputs).logits, rtol=1e-4, atol=1e-4)


# Several graphs a preset.
@pytest.mark.parametrize("preset", slow_but("bn+sh"))
@pytest.mark.usefixtures("fresh_dynamo")
def test_images_of_many_sizes_and_batches_are_few_graphs(preset):
    model = MODELS["vit"].make(attention=preset, bn_eps=0.1)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for rows in range(2, 14):
            pixel_values = torch.randn(rows, 3, 40, 40)
            torch.testing.assert_close(compiled(pixel_values).logits, model(pixel_values).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESET_CASES)
@pytest.mark.usefixtures("fresh_dynamo")
def test_texts_of_many_lengths_are_few_graphs(preset):
    model = MODELS["text"].make(attention=preset, bn_eps=0.1)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for tokens in range(3, 20):
            # Beyond the limit of recompilations, fullgraph=True makes torch raise.
            inputs = texts.text_batch((tokens, 2), tokens)
            inputs.pop("labels")
            torch.testing.assert_close(compiled(**inputs).logits, model(**inputs).logits, rtol=1e-4, atol=1e-4)
