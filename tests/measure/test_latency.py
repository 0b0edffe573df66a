"""Calls timed in turn, by a clock that only they move."""

import pytest
import torch

from hf_primaldual.measure import Timing, inference, interleaved, training_step
from hf_primaldual.measure.latency import MINIMUM_SAMPLE_SECONDS


class FakeClock:
    """A clock that only the candidates move, and that remembers who moved it."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def __call__(self):
        return self.now

    def candidate(self, name, seconds):
        def call():
            self.now += seconds
            self.calls.append(name)

        return call


@pytest.fixture
def clock():
    return FakeClock()


def test_the_order_alternates(clock):
    candidates = {name: clock.candidate(name, 1.0) for name in "abc"}
    interleaved(candidates, rounds=4, warmup=1, clock=clock)
    assert "".join(clock.calls) == "abc" + "abccba" * 2


@pytest.mark.parametrize("seconds", [0.0, 1e-5, 0.004, 2.0])
def test_a_sample_is_of_seconds_per_call_and_lasts_long_enough(clock, seconds):
    timing = interleaved({"a": clock.candidate("a", seconds)}, rounds=2, warmup=2, clock=clock)["a"]
    assert timing.samples == pytest.approx((seconds, seconds))
    assert len(clock.calls) == 2 + 2 * timing.repeats
    assert timing.repeats <= 5000
    if seconds:
        assert timing.repeats * seconds >= MINIMUM_SAMPLE_SECONDS * (1 - 1e-9)


def test_median_and_quartiles():
    timing = Timing((4.0, 1.0, 2.0, 3.0, 5.0), repeats=1)
    assert timing.milliseconds() == {"median": 3000.0, "q1": 2000.0, "q3": 4000.0}


def test_a_step_starts_from_no_gradients_and_an_inference_has_none():
    layer, inputs = torch.nn.Linear(3, 1), {"input": torch.randn(4, 3, requires_grad=True)}
    before = layer.weight.clone()
    step = training_step(layer, inputs, torch.optim.SGD(layer.parameters(), lr=1.0))
    step()
    torch.testing.assert_close(layer.weight, before - inputs["input"].sum(0, keepdim=True))
    gradient = inputs["input"].grad.clone()
    layer.load_state_dict({"weight": before, "bias": layer.bias})
    step()
    assert torch.equal(inputs["input"].grad, gradient)
    layer.weight.grad = None
    inference(layer, inputs | {"labels": None})()
    assert layer.weight.grad is None
