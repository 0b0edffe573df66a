import pytest

from hf_primaldual.measure import Timing, interleaved, median_of_ratios, ratio_of_medians
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


def test_samples_are_seconds_per_call(clock):
    timings = interleaved(
        {"slow": clock.candidate("slow", 0.5), "fast": clock.candidate("fast", 0.001)}, rounds=5, clock=clock
    )
    assert list(timings) == ["slow", "fast"]
    assert timings["slow"].samples == pytest.approx((0.5,) * 5)
    assert timings["fast"].samples == pytest.approx((0.001,) * 5)
    assert ratio_of_medians(timings, "slow", "fast") == pytest.approx(500)
    assert median_of_ratios(timings, "slow", "fast") == pytest.approx(500)


@pytest.mark.parametrize("seconds", [1e-5, 0.001, 0.004, 0.005, 2.0])
def test_a_sample_lasts_long_enough(clock, seconds):
    timing = interleaved({"a": clock.candidate("a", seconds)}, rounds=2, warmup=2, clock=clock)["a"]
    assert timing.repeats * seconds >= MINIMUM_SAMPLE_SECONDS * (1 - 1e-9)
    assert len(clock.calls) == 2 + 2 * timing.repeats


def test_a_call_too_fast_for_the_clock_ends(clock):
    timing = interleaved({"a": clock.candidate("a", 0.0)}, rounds=1, clock=clock)["a"]
    assert timing.repeats == 5000


def test_median_and_quartiles():
    timing = Timing((4.0, 1.0, 2.0, 3.0, 5.0), repeats=1)
    assert timing.median == 3.0
    assert timing.quartiles == (2.0, 4.0)
    assert timing.milliseconds() == {"median": 3000.0, "q1": 2000.0, "q3": 4000.0}


def test_pairing_by_round_cancels_drift():
    timings = {"a": Timing((1.0, 2.0, 40.0), 1), "b": Timing((2.0, 4.0, 80.0), 1), "c": Timing((9.0, 1.0, 1.0), 1)}
    assert median_of_ratios(timings, "a", "b") == 0.5
    assert ratio_of_medians(timings, "a", "c") == 2.0
    assert median_of_ratios(timings, "a", "c") == 2.0


def test_bad_arguments(clock):
    with pytest.raises(ValueError, match="empty"):
        interleaved({})
    for arguments in ({"rounds": 0}, {"warmup": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            interleaved({"a": clock.candidate("a", 1.0)}, **arguments)


def test_a_failing_candidate_is_not_hidden():
    def fails():
        raise RuntimeError("broken candidate")

    with pytest.raises(RuntimeError, match="broken candidate"):
        interleaved({"a": fails})
