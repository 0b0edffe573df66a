"""What torch.compile, torch.export and ONNX make of layers and models: one graph, of equal outputs at any length."""

import copy

import pytest
import torch

from tests.modeling import series, texts
from tests.modeling.cases import PRESET_CASES, needs_compiler
from tests.modeling.models import MODELS, inputs_of
from tests.modeling.parity import make_layer

pytestmark = [
    pytest.mark.unmutated,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.usefixtures("fresh_dynamo"),
]


@pytest.fixture
def fresh_dynamo():
    """The compiler counts how often it has compiled a function, and gives up after some."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def slow_but(*daily: str):
    """Parameters: all presets, and those that are not among `daily` run with the slow tests."""
    return [pytest.param(name, marks=() if name in daily else pytest.mark.slow, id=name) for name in PRESET_CASES]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        *(pytest.param("series", {"attention": each.values[0]}, marks=each.marks) for each in slow_but("bn+sh")),
        pytest.param("text", {"prepend_cls": True}, marks=pytest.mark.slow),
        pytest.param("matching", {"prepend_cls": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_training_step_is_one_graph(name, fields):
    """Without the compiler behind it, which takes most of the time."""
    model, batch = MODELS[name].make(num_hidden_layers=1, **fields).train(), MODELS[name].batch()
    compiled = copy.deepcopy(model)
    loss = torch.compile(compiled, fullgraph=True, backend="aot_eager")(**batch).loss
    expected = model(**batch).loss
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    loss.backward(), expected.backward()
    for actual, parameter in zip(compiled.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, parameter.grad, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(dict(compiled.named_buffers()), dict(model.named_buffers()))


ONE_GRAPH = {
    "feature-map": {"preset": "linear", "feature_map": "relu"},
    "random": {"preset": "sh", "sampling": "random", "head_scales": [4, 1, 2, 1]},
    "conv": {"preset": "bn+sh", "sampling": "conv", "head_scales": [4, 1, 2, 1]},
    "all-patterns": {"preset": "sparse", "sparse_pattern": ["local", "strided", "fixed"], "sparse_window": 4},
    "fused-window": {"preset": "sparse-bn", "sparse_pattern": ["local"], "sparse_window": 4},
    "grid": {"preset": "conv2d+bn", "conv2d_reading": "grid", "grid_size": [4, 5]},
}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(fields, id=name, marks=() if name in ("feature-map", "conv", "grid") else pytest.mark.slow)
        for name, fields in ONE_GRAPH.items()
    ],
)
def test_a_layer_is_one_graph(fields):
    layer, hidden_states = make_layer(bn_eps=0.1, **fields), torch.randn(2, 20, 24)
    mask = torch.arange(20) < torch.tensor([[20], [13]])
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    actual, expected = compiled(hidden_states, mask)[0], layer(hidden_states, mask)[0]
    torch.testing.assert_close(actual[mask], expected[mask], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESET_CASES)
def test_many_lengths_and_batches_are_few_graphs(preset):
    text, vit = (MODELS[name].make(attention=preset, bn_eps=0.1, num_hidden_layers=1) for name in ("text", "vit"))
    of_text, of_vit = (torch.compile(model, fullgraph=True, backend="aot_eager") for model in (text, vit))
    with torch.no_grad():
        for number in range(3, 20):
            # Beyond the limit of recompilations, fullgraph=True makes torch raise.
            inputs = texts.text_batch((number, 2), number)
            inputs.pop("labels")
            torch.testing.assert_close(of_text(**inputs).logits, text(**inputs).logits, rtol=1e-4, atol=1e-4)
            pixels = torch.randn(number, 3, 40, 40)
            torch.testing.assert_close(of_vit(pixels).logits, vit(pixels).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("preset", PRESET_CASES)
def test_a_model_by_inductor_meets_many_lengths(preset):
    model = MODELS["series"].make(attention=preset)
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        for steps in range(3, 24):
            batch = series.series_batch((steps, 2), steps)
            inputs = (batch["past_values"].clamp(-2, 2), batch["attention_mask"])
            torch.testing.assert_close(compiled(*inputs).logits, model(*inputs).logits, rtol=1e-4, atol=1e-4)


def dynamic_batch(inputs: dict[str, torch.Tensor]) -> dict[str, dict]:
    batch = torch.export.Dim("batch", min=1, max=64)
    return {name: {0: batch} for name in inputs}


def of_other_size(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A batch of one more row."""
    return {name: torch.cat((value, value[:1])) for name, value in inputs.items()}


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        pytest.param(name, preset, id=f"{name}-{preset}", marks=() if daily else pytest.mark.slow)
        for name in MODELS
        for preset in PRESET_CASES
        for daily in [(name, preset) in (("text", "bn+sh"), ("vit", "linear-bn+sh"))]
    ],
)
def test_a_model_is_exported_with_a_dynamic_batch(name, preset):
    model, inputs = MODELS[name].make(attention=preset, bn_eps=0.1, num_hidden_layers=1), inputs_of(name)
    program = torch.export.export(model, (), inputs, dynamic_shapes=dynamic_batch(inputs), strict=False)
    larger = of_other_size(inputs)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(**larger).logits, model(**larger).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESET_CASES)
@pytest.mark.parametrize("name", MODELS)
def test_onnx_gives_equal_logits(tmp_path, name, preset):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, inputs = MODELS[name].make(attention=preset, bn_eps=0.1), inputs_of(name)
    path = tmp_path / "model.onnx"
    torch.onnx.export(model, (), path, kwargs=inputs, dynamo=True, dynamic_shapes=dynamic_batch(inputs), verbose=False)
    session = onnxruntime.InferenceSession(path)
    larger = of_other_size(inputs)
    wanted = {each.name for each in session.get_inputs()}
    outputs = session.run(None, {key: value.numpy() for key, value in larger.items() if key in wanted})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(outputs[0]), model(**larger).logits, rtol=1e-4, atol=1e-4)
