import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
)

from hf_primaldual import (
    PrimalDualTimeSeriesFeatureExtractor,
)
from hf_primaldual.modeling.layers_primal_dual import TokenBatchNorm
from tests.modeling.cases import HEADS, right_padding
from tests.modeling.series import (
    CHANNELS,
    LABELS,
    LONGEST,
    series_batch,
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


def test_labels_of_minus_100_do_not_count():
    model, batch = small_model(), series_batch()
    batch["labels"][1:3] = -100
    outputs = model(**batch)
    expected = nn.functional.cross_entropy(outputs.logits[[0, 3]], batch["labels"][[0, 3]])
    torch.testing.assert_close(outputs.loss, expected)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoint")
    model = small_model()
    model.save_pretrained(folder)
    PrimalDualTimeSeriesFeatureExtractor(CHANNELS, mean=[0.0] * CHANNELS, std=[1.0] * CHANNELS).save_pretrained(folder)
    return model, folder


def test_another_attention_is_chosen_when_loading(saved):
    model, folder = saved
    batch = series_batch()
    loaded = AutoModelForSequenceClassification.from_pretrained(folder, attention="softmax")
    expected = small_model(attention="softmax")
    expected.load_state_dict(model.state_dict())
    assert torch.equal(loaded(**batch).logits, expected(**batch).logits)
    assert not torch.allclose(loaded(**batch).logits, model(**batch).logits)


LEARNED = {"conv2d": ({"attention": "softmax"}, {"attention": "conv2d"}), "sampling": ({}, {"sampling": "conv"})}


@pytest.mark.parametrize(("plain", "learned"), LEARNED.values(), ids=LEARNED)
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


def refused_series() -> dict[str, tuple[dict, list[str]]]:
    """What a model refuses, and what its message has to name."""
    ones, zeros = torch.ones, torch.zeros
    unmasked = {"attention_mask": None}
    return {
        "nan": ({"past_values": with_value("nan")}, ["`past_values` must be finite", "nan", "row 1, step 12"]),
        "inf": ({"past_values": with_value("-inf"), **unmasked}, ["`past_values` must be finite", "-inf", "row 1"]),
        "padding": (series_batch((5, 0, 3)), ["`attention_mask` must keep at least one token", "rows [1]"]),
        "no steps": (
            {"past_values": zeros(4, 0, CHANNELS), **unmasked},
            ["`past_values`", f"1 to `max_position_embeddings` = {LONGEST}", "got 0"],
        ),
        "too long": (series_batch((25,), 25), ["`max_position_embeddings` = 24", "got 25"]),
        "channels": ({"past_values": zeros(4, 20, CHANNELS + 1)}, ["(batch, time, channels)", "3 chan", "(4, 20, 4)"]),
        "two axes": ({"past_values": zeros(4, 20)}, ["`past_values`", "(batch, time, channels)", "(4, 20)"]),
        "mask": ({"attention_mask": ones(4, 19)}, ["`attention_mask`", "(batch, tokens) = (4, 20)", "(4, 19)"]),
        "label": ({"labels": torch.tensor([0, 1, -1, 2])}, ["`labels`", f"0 to {LABELS - 1}", "got -1"]),
        "class": ({"labels": torch.tensor([0, 1, LABELS, 2])}, ["`labels`", f"0 to {LABELS - 1}", f"got {LABELS}"]),
    }


def with_value(value: str) -> torch.Tensor:
    values = series_batch()["past_values"]
    values[1, 12, 2] = float(value)
    return values


def test_what_it_refuses():
    for batch, parts in refused_series().values():
        with pytest.raises(ValueError) as error:
            small_model()(**{**series_batch(), **batch})
        assert [part for part in parts if part not in str(error.value)] == [], str(error.value)


def test_an_attention_given_when_loading_that_does_not_exist(saved):
    with pytest.raises(Exception, match=r"`attention` must be one of softmax, bn, sh, bn\+sh.*, got 'sparce'"):
        AutoModelForSequenceClassification.from_pretrained(saved[1], attention="sparce")
