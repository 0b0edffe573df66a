"""An allocation that really fails, in a process with little memory to take."""

import multiprocessing
import sys
from pathlib import Path

import pytest
import torch

from hf_primaldual import PrimalDualTextConfig, PrimalDualTextForSequenceClassification
from hf_primaldual.measure import if_it_fits, is_out_of_memory, make_inputs, measure_together, those_that_fit

TOKENS = 2048
MIB = 2**20


def measure_under_a_limit(queue):
    import resource

    models = {}
    for name in ("eager", "sdpa"):
        config = PrimalDualTextConfig(
            attention="softmax",
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=8,
            max_position_embeddings=TOKENS,
            hidden_dropout_prob=0.0,
            attn_implementation=name,
        )
        models[name] = PrimalDualTextForSequenceClassification(config)
    status = Path("/proc/self/status").read_text().splitlines()
    taken = 1024 * int(next(line for line in status if line.startswith("VmSize")).split()[1])
    # The maps of 8 heads take 128 MiB, twice over in a softmax.
    resource.setrlimit(resource.RLIMIT_AS, (taken + 200 * MIB,) * 2)
    rows = measure_together(models, make_inputs(models["sdpa"], TOKENS), training=False, rounds=1)
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
    assert "does_not_fit" not in rows["sdpa"]
    assert rows["sdpa"]["inference_ms"]["median"] > 0
    assert python == (None, "MemoryError")


def test_what_fits_is_returned_and_other_errors_go_through():
    assert if_it_fits(lambda: 3).result == 3
    with pytest.raises(RuntimeError, match="shape"):
        if_it_fits(lambda: torch.zeros(2).view(3))


def test_those_that_fit_are_told_from_those_that_do_not():
    def too_large():
        raise MemoryError("no room")

    fitting, reasons = those_that_fit({"large": too_large, "small": lambda: 1})
    assert list(fitting) == ["small"]
    assert reasons == {"large": "no room"}


def test_what_counts_as_running_out_of_memory():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
