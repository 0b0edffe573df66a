"""What can't be measured or read is refused with one sentence."""

import re

import pytest
import torch

from hf_primaldual import PrimalDualAttention, PrimalDualConfig
from hf_primaldual.measure import (
    count_flops,
    efficiency_point,
    head_redundancy,
    if_it_fits,
    interleaved,
    make_inputs,
    measure,
    peak_memory,
)
from hf_primaldual.measure.attention_maps import attention_maps, seen_from
from tests.modeling.images import image_batch, small_model
from tests.modeling.texts import small_model as text_model
from tests.modeling.texts import text_batch
from tests.scripts import load_script

VIT = small_model()
ONE_HEAD = PrimalDualAttention(PrimalDualConfig(hidden_size=4, num_attention_heads=1))
IMAGE = {"pixel_values": torch.zeros(1, 3, 40, 40)}
CALLS = [
    (lambda: make_inputs(VIT, tokens=7), "`tokens` is for texts and series"),
    (lambda: measure(VIT, trust_remote_code=True), "trust_remote_code: only for a checkpoint"),
    (lambda: efficiency_point({"bn": VIT}, image_batch(), "bn", rounds=1), "`tokens` must be given for images"),
    (lambda: efficiency_point({"bn": VIT}, image_batch(), "sh"), "`baseline` must be one of the models, bn; got 'sh'"),
    (lambda: count_flops(torch.relu, torch.randn(3), backward=True), "requires a gradient"),
    (lambda: peak_memory(lambda: None, device="meta"), "'meta'"),
    (lambda: interleaved({}), "empty"),
    (lambda: interleaved({"a": lambda: None}, rounds=0), "at least 1"),
    (lambda: interleaved({"a": lambda: None}, warmup=0), "at least 1"),
    (lambda: head_redundancy(torch.nn.Linear(2, 2), []), "layers of PrimalDualAttention, got a Linear without one"),
    (lambda: head_redundancy(ONE_HEAD, []), "at least two heads, got 1"),
    (lambda: head_redundancy(text_model(), []), "at least one batch"),
    (lambda: head_redundancy(text_model(sampling="conv"), [text_batch()]), "sampling='conv'"),
    (lambda: seen_from(attention_maps(VIT, IMAGE)[0], 26), "0 to 25, got 26"),
    (lambda: attention_maps(VIT, {"pixel_values": torch.randn(2, 3, 40, 40)}), "one example, got 2"),
    (lambda: load_script("show_attention").main(["--checkpoint", "x", "--plot", "y.png"]), "one of `image` and `data"),
    (lambda: load_script("figures").main(["--figure", "7"]), "1, 2, 3, 4, got 7"),
]


@pytest.mark.parametrize(("call", "message"), CALLS, ids=[message for _, message in CALLS])
def test_a_call_that_makes_no_sense(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_only_a_lack_of_memory_is_reported_as_one():
    assert if_it_fits(lambda: 3).result == 3
    with pytest.raises(RuntimeError, match="shape"):
        if_it_fits(lambda: torch.zeros(2).view(3))
