"""Series and labels that a model cannot take: the message names the argument, the value and what is right."""

import pytest
import torch

from hf_primaldual import PrimalDualTimeSeriesModel
from tests.modeling.series import CHANNELS, LABELS, LONGEST, series_batch, small_config, small_model


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
