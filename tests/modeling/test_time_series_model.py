import pytest
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForSequenceClassification,
)

from hf_primaldual import (
    PrimalDualTimeSeriesConfig,
    PrimalDualTimeSeriesFeatureExtractor,
    PrimalDualTimeSeriesForSequenceClassification,
    PrimalDualTimeSeriesModel,
)
from hf_primaldual.modeling.layers_primal_dual import TokenBatchNorm
from tests.modeling.cases import HEADS, right_padding
from tests.modeling.series import (
    CHANNELS,
    LABELS,
    LONGEST,
    series_batch,
    small_config,
    small_model,
    with_more_padding,
)
from tests.modeling.test_every_model import assert_same_gradients, gradients

WIDTH = 6

ENCODERS = {
    "default": {},
    "pre-mean": {"norm_position": "pre", "pooling": "mean"},
    "layer-pre": {"norm_type": "layer", "norm_position": "pre"},
    "layer-post-mean": {"norm_type": "layer", "norm_position": "post", "pooling": "mean"},
}
encoders = pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)


@encoders
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_more_padding_changes_neither_loss_nor_gradients(encoder, training):
    model, batch = small_model(bn_eps=0.1, **encoder).train(training), series_batch()
    expected = gradients(model, batch)
    assert all(gradient.isfinite().all() for gradient in expected[1].values())
    assert_same_gradients(gradients(model, with_more_padding(batch, 4)), expected)


@encoders
def test_every_parameter_gets_a_gradient(encoder):
    # Learned betas too; series without padding, and of every position.
    model = small_model(bn_beta_learnable=True, **encoder).train()
    _, found = gradients(model, series_batch((LONGEST,) * 3, LONGEST))
    assert all(gradient.abs().max() > 0 for gradient in found.values())


def test_what_lies_in_padding_is_not_looked_at():
    model, batch = small_model(), series_batch()
    expected = model(**batch).logits
    padded = batch["attention_mask"].eq(0)
    for value in (0.0, float("nan"), float("inf")):
        batch["past_values"][padded] = value
        assert torch.equal(model(**batch).logits, expected)


def test_loss_is_the_cross_entropy():
    model, batch = small_model(), series_batch()
    outputs = model(**batch)
    assert outputs.logits.shape == (4, LABELS)
    torch.testing.assert_close(outputs.loss, nn.functional.cross_entropy(outputs.logits, batch["labels"]))
    assert model(batch["past_values"], batch["attention_mask"]).loss is None


def test_labels_of_minus_100_do_not_count():
    model, batch = small_model(), series_batch()
    batch["labels"][1:3] = -100
    outputs = model(**batch)
    expected = nn.functional.cross_entropy(outputs.logits[[0, 3]], batch["labels"][[0, 3]])
    torch.testing.assert_close(outputs.loss, expected)


def test_regression_and_multi_label_losses():
    batch = series_batch()
    for problem, labels in (("regression", torch.randn(4, LABELS)), ("multi_label_classification", torch.ones(4, 4))):
        assert small_model(problem_type=problem)(**{**batch, "labels": labels}).loss.isfinite()


def test_output_hidden_states():
    model, batch = small_model(), series_batch()
    outputs = model.model(batch["past_values"], batch["attention_mask"], output_hidden_states=True)
    assert [states.shape for states in outputs.hidden_states] == [(4, 20, 16)] * 3
    assert torch.equal(outputs.hidden_states[-1], outputs.last_hidden_state)
    assert model(**batch).hidden_states is None
    assert len(model(**batch, output_hidden_states=True).hidden_states) == 3


def test_a_tuple_is_returned_on_request():
    model, batch = small_model(), series_batch()
    loss, logits = model(**batch, return_dict=False)
    assert torch.equal(logits, model(**batch).logits)
    assert torch.equal(loss, model(**batch).loss)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoint")
    model = small_model()
    model.save_pretrained(folder)
    PrimalDualTimeSeriesFeatureExtractor(CHANNELS, mean=[0.0] * CHANNELS, std=[1.0] * CHANNELS).save_pretrained(folder)
    return model, folder


def test_auto_classes_load_a_saved_folder_with_equal_logits(saved):
    model, folder = saved
    batch = series_batch()
    assert type(AutoConfig.from_pretrained(folder)) is PrimalDualTimeSeriesConfig
    assert type(AutoFeatureExtractor.from_pretrained(folder)) is PrimalDualTimeSeriesFeatureExtractor
    encoder = AutoModel.from_pretrained(folder)
    assert type(encoder) is PrimalDualTimeSeriesModel
    inputs = batch["past_values"], batch["attention_mask"]
    assert torch.equal(encoder(*inputs).last_hidden_state, model.model(*inputs).last_hidden_state)
    classifier = AutoModelForSequenceClassification.from_pretrained(folder)
    assert type(classifier) is PrimalDualTimeSeriesForSequenceClassification
    assert not classifier.training
    assert torch.equal(classifier(**batch).logits, model(**batch).logits)


def test_another_attention_is_chosen_when_loading(saved):
    model, folder = saved
    batch = series_batch()
    loaded = AutoModelForSequenceClassification.from_pretrained(folder, attention="softmax")
    expected = small_model(attention="softmax")
    expected.load_state_dict(model.state_dict())
    assert torch.equal(loaded(**batch).logits, expected(**batch).logits)
    assert not torch.allclose(loaded(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize(
    ("plain", "learned"),
    [
        ({"attention": "softmax"}, {"attention": "conv1d"}),
        ({"attention": "softmax"}, {"attention": "conv2d"}),
        ({"attention": "bn"}, {"attention": "conv2d+bn"}),
        ({"attention": "bn+sh"}, {"attention": "bn+sh", "sampling": "conv"}),
    ],
    ids=["conv1d", "conv2d", "conv2d+bn", "sampling"],
)
def test_filters_learned_on_top_of_a_checkpoint_start_as_what_changes_nothing(saved, plain, learned):
    _, folder = saved
    batch = series_batch()
    expected = AutoModelForSequenceClassification.from_pretrained(folder, **plain)
    actual = AutoModelForSequenceClassification.from_pretrained(folder, **learned)
    torch.testing.assert_close(actual(**batch).logits, expected(**batch).logits, rtol=1e-4, atol=1e-5)


def test_betas_learned_on_top_of_a_checkpoint_start_from_the_constant(saved):
    _, folder = saved
    fields = {"bn_beta_learnable": True, "bn_beta": 0.4}
    loaded = AutoModelForSequenceClassification.from_pretrained(folder, **fields)
    betas = [parameter for name, parameter in loaded.named_parameters() if name.endswith("beta")]
    assert len(betas) == 2
    assert all(beta.tolist() == pytest.approx([0.4] * HEADS) for beta in betas)
    batch = series_batch()
    expected = AutoModelForSequenceClassification.from_pretrained(folder, bn_beta=0.4)
    torch.testing.assert_close(loaded(**batch).logits, expected(**batch).logits)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_loaded_in_bfloat16(tmp_path, norm):
    model, batch = small_model(norm_type=norm, bn_eps=0.1), series_batch()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.bfloat16)
    # The counters do not matter: with a momentum nothing reads them.
    state = {name: t for name, t in loaded.state_dict().items() if not name.endswith("num_batches_tracked")}
    kept = {name for name, tensor in state.items() if tensor.dtype == torch.float32}
    assert kept == ({name for name in state if ".norm" in name} if norm == "batch" else set())
    outputs = loaded(**batch)
    assert outputs.logits.dtype == torch.bfloat16
    # Some twenty roundings to eight bits, one after the other.
    assert (outputs.logits - model(**batch).logits).abs().max() <= 0.1 * model(**batch).logits.abs().max()
    loss, found = gradients(loaded.train(), batch)
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in found.values())


def batch_norms():
    """TokenBatchNorm and torch's, with the same weights."""
    ours, theirs = TokenBatchNorm(WIDTH), nn.BatchNorm1d(WIDTH)
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def run(norm, hidden_states, cotangent, *mask):
    hidden_states = hidden_states.clone().requires_grad_()
    output = norm(hidden_states, *mask)
    return output.detach(), *torch.autograd.grad(output, (hidden_states, norm.weight, norm.bias), cotangent)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("centre", [0.0, 30.0])
def test_batch_norm_without_padding_is_that_of_torch(centre, training):
    ours, theirs = batch_norms()
    for _ in range(2):
        # Twice, for the running averages to be averages.
        hidden_states, cotangent = torch.randn(4, 9, WIDTH) + centre, torch.randn(4, 9, WIDTH)
        actual = run(ours, hidden_states, cotangent)
        expected = run(theirs, hidden_states.flatten(0, 1), cotangent.flatten(0, 1))
        for a, b in zip(actual, expected, strict=True):
            torch.testing.assert_close(a.flatten(), b.flatten(), rtol=1e-4, atol=1e-4)
        for name, buffer in theirs.named_buffers():
            torch.testing.assert_close(ours.get_buffer(name), buffer)
    ours.train(training), theirs.train(training)
    hidden_states = torch.randn(4, 9, WIDTH)
    actual, expected = ours(hidden_states), theirs(hidden_states.flatten(0, 1)).view(4, 9, WIDTH)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_batch_norm_counts_real_tokens_only():
    ours, theirs = batch_norms()
    mask = right_padding(4, 9)
    hidden_states, cotangent = torch.randn(4, 9, WIDTH), torch.randn(4, 9, WIDTH) * mask.unsqueeze(-1)
    hidden_states[~mask] = 1e4
    output, gradient, *parameters = run(ours, hidden_states, cotangent, mask)
    expected_output, expected_gradient, *expected_parameters = run(theirs, hidden_states[mask], cotangent[mask])
    torch.testing.assert_close(output[mask], expected_output, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient[mask], expected_gradient, rtol=1e-4, atol=1e-5)
    assert gradient[~mask].eq(0).all()
    torch.testing.assert_close(parameters, expected_parameters, rtol=1e-4, atol=1e-5)
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), buffer)


def test_batch_norm_keeps_the_dtype_of_its_input():
    ours, _ = batch_norms()
    hidden_states = torch.randn(2, 9, WIDTH).bfloat16()
    for training in (True, False):
        output = ours.train(training)(hidden_states)
        assert output.dtype == torch.bfloat16
        assert output.isfinite().all()
    assert ours.running_mean.dtype == torch.float32


def assert_refused(batch, *parts, model=None):
    with pytest.raises(ValueError) as error:
        (model or small_model())(**batch)
    assert [part for part in parts if part not in str(error.value)] == [], str(error.value)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_a_real_value_that_is_not_finite(value, masked):
    batch = series_batch()
    batch["past_values"][1, 12, 2] = float(value)
    if not masked:
        del batch["attention_mask"]
    assert_refused(batch, "`past_values` must be finite", value, "row 1, step 12")


def test_a_row_of_padding_only():
    assert_refused(series_batch((5, 0, 3)), "`attention_mask` must keep at least one token", "rows [1]")


def test_a_series_without_steps():
    batch = series_batch()
    empty = {"past_values": batch["past_values"][:, :0], "attention_mask": batch["attention_mask"][:, :0]}
    assert_refused(empty, "`past_values`", f"1 to `max_position_embeddings` = {LONGEST}", "got 0")
    del empty["attention_mask"]
    assert_refused(empty, "`past_values`", "got 0")


def test_a_series_that_is_too_long():
    batch = series_batch((LONGEST + 1,), LONGEST + 1)
    assert_refused(batch, "`past_values`", f"`max_position_embeddings` = {LONGEST}", f"got {LONGEST + 1}")


@pytest.mark.parametrize("shape", [(2, 9, CHANNELS + 1), (2, 9), (9,), (1, 2, 9, CHANNELS)])
def test_series_of_another_shape(shape):
    assert_refused(
        {"past_values": torch.zeros(shape)}, "`past_values`", "(batch, time, channels)", f"{CHANNELS} chan", str(shape)
    )


@pytest.mark.parametrize("shape", [(4, 19), (3, 20), (4, 1, 1, 20)])
def test_a_mask_of_another_shape(shape):
    batch = {**series_batch(), "attention_mask": torch.ones(shape)}
    assert_refused(batch, "`attention_mask`", "(batch, tokens) = (4, 20)", str(shape))


@pytest.mark.parametrize("label", [-1, LABELS, -101])
def test_a_label_outside_the_classes(label):
    batch = series_batch()
    batch["labels"][2] = label
    assert_refused(batch, "`labels`", f"0 to {LABELS - 1}", f"got {label}")


def test_the_encoder_alone_refuses_too():
    model = PrimalDualTimeSeriesModel(small_config())
    batch = series_batch((5, 0))
    del batch["labels"]
    assert_refused(batch, "`attention_mask`", "rows [1]", model=model)


def test_an_attention_given_when_loading_that_does_not_exist(tmp_path):
    small_model().save_pretrained(tmp_path)
    with pytest.raises(Exception, match=r"`attention` must be one of softmax, bn, sh, bn\+sh.*, got 'sparce'"):
        PrimalDualTimeSeriesModel.from_pretrained(tmp_path, attention="sparce")
