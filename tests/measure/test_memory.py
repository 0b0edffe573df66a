"""The peak of memory, measured and counted, what autograd keeps, and an allocation that really fails."""

import multiprocessing
import sys
from pathlib import Path

import pytest
import torch

from hf_primaldual.measure import (
    activation_memory,
    count_peak_memory,
    if_it_fits,
    is_out_of_memory,
    make_inputs,
    measure_together,
    peak_memory,
)
from tests.modeling.texts import small_model

MIB = 2**20


def floats(mebibytes, **options):
    return torch.ones(mebibytes * MIB // 4, **options)


def one_by_one():
    for _ in range(3):
        floats(8)


GIVEN = floats(16)


@pytest.mark.parametrize(
    "peak", [peak_memory, lambda call: count_peak_memory(call, GIVEN)], ids=["measured", "counted"]
)
@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (one_by_one, 8),
        (lambda: [floats(8), floats(4)], 12),
        (lambda: GIVEN[: MIB // 4] + 1, 1),
        (lambda: GIVEN.view(2, -1).add_(0), 0),
        (lambda: floats(2, requires_grad=True).exp().square().sum().backward(), 10),
    ],
    ids=["one after the other", "together", "there before", "in place", "backward"],
)
def test_what_lives_at_the_same_time_adds_up(call, expected, peak):
    assert peak(call) == pytest.approx(expected * MIB, rel=0.02, abs=1000)


def test_what_a_forward_keeps_is_counted_once_and_without_parameters():
    layer, x = torch.nn.Linear(64, 32), torch.randn(100, 64, requires_grad=True)
    # The input for the weight's gradient, the exponential's result, and again that for a product with itself.
    kept = 4 * (100 * 64 + 100 * 32)

    def forward():
        y = layer(x).exp()
        return (y * y.view(-1).view(100, 32)).sum()

    assert activation_memory(layer, forward) == kept
    with torch.no_grad():
        assert activation_memory(layer, forward) == 0


def measure_under_a_limit(queue):
    import resource

    fields = {
        "attention": "softmax",
        "max_position_embeddings": 2048,
        "num_attention_heads": 8,
        "num_hidden_layers": 1,
    }
    models = {name: small_model(name, **fields) for name in ("eager", "sdpa")}
    status = Path("/proc/self/status").read_text().splitlines()
    taken = 1024 * int(next(line for line in status if line.startswith("VmSize")).split()[1])
    # The maps of 8 heads take 128 MiB, twice over in a softmax.
    resource.setrlimit(resource.RLIMIT_AS, (taken + 200 * MIB,) * 2)
    rows = measure_together(models, make_inputs(models["sdpa"], 2048), training=False, rounds=1)
    queue.put((rows, if_it_fits(lambda: bytearray(2**32))))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a limit of the address space is Linux's")
def test_what_does_not_fit_is_reported_and_the_table_goes_on():
    # Forked: a new process would spend its time on imports.
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=measure_under_a_limit, args=(queue,))
    process.start()
    process.join(timeout=600)
    assert process.exitcode == 0
    rows, python = queue.get()
    assert "can't allocate memory" in rows["eager"]["does_not_fit"]
    assert "inference_ms" not in rows["eager"]
    assert rows["sdpa"]["inference_ms"]["median"] > 0
    assert python == (None, "MemoryError")
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"))
