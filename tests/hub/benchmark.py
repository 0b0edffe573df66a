"""
Times publishing and pulling a checkpoint of 25 MB, to and from the loopback test Hub, each in a process of its own.

    python -m tests.hub.benchmark --rounds 5 --output results

Seconds of the whole process, interpreter and imports included, as its parent sees them, and until it has printed its
last line, which in pulling is the prediction; and its processor seconds, which tell the work from the waiting on a
machine that others use too. `build` and `check`, our own work in publishing, are timed in a process that has the
trained model in memory, as a training script has. Every round has a new Hub and new caches.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from transformers import HfArgumentParser

from hf_primaldual.measure.results import save_results
from tests.hub.loopback.client import ROOT, environment
from tests.hub.loopback.server import LoopbackHub
from tests.modeling.isolated import PREAMBLE

# Makes a model of 25 MB, writes its folder and checks it: what `publish` does before anything is sent.
BUILD = """
import json, sys, time
from pathlib import Path
from hf_primaldual import *
from hf_primaldual.hub.checkpoint import save_checkpoint
from hf_primaldual.hub.checks import check
from tests.hub.tables import table, without

folder, results = Path(sys.argv[1]), without(table(), ("plots",))
shape = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 8, "max_position_embeddings": 128}
config = PrimalDualTimeSeriesConfig(num_channels=12, num_labels=9, **shape)
model = PrimalDualTimeSeriesForSequenceClassification(config)
extractor = PrimalDualTimeSeriesFeatureExtractor(12)
started = time.perf_counter()
save_checkpoint(folder, model, extractor, results)
built = time.perf_counter()
check(folder)
print(json.dumps({"build": built - started, "check": time.perf_counter() - built}))
"""
PULL = """
import numpy
from transformers import AutoFeatureExtractor, AutoModelForSequenceClassification

extractor = AutoFeatureExtractor.from_pretrained("tester/model", trust_remote_code=True)
model = AutoModelForSequenceClassification.from_pretrained("tester/model", trust_remote_code=True)
series = numpy.ones((29, 12), dtype="float32")
print(model(**extractor([series], return_tensors="pt")).logits.softmax(-1).tolist(), flush=True)
"""


@dataclass
class BenchmarkArguments:
    """How often, and where the figures go."""

    rounds: int = field(default=5, metadata={"help": "How often each is timed; the median is what counts."})
    output: str | None = field(default=None, metadata={"help": "Folder for the figures. Default: none are written."})


def timed(command: list, settings: dict[str, str]) -> tuple[str, dict[str, float]]:
    """The last line that a process printed, and its seconds, those of the processes that it started included."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, cwd=ROOT, env=settings, stdout=subprocess.PIPE, stderr=errors, text=True)
        with process:
            for line in process.stdout:
                said, printed = line, time.perf_counter() - started
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        errors.seek(0)
        assert process.returncode == 0, errors.read()[-3000:]
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return said, {"seconds": seconds, "printed_seconds": printed, "processor_seconds": processor}


def one_round(folder: Path, xet: bool) -> dict[str, dict[str, float]]:
    """The seconds of each step, once, and the size of what was sent."""
    said, _ = timed([sys.executable, "-c", BUILD, folder / "model"], environment(None, folder / "trainer", None))
    laps = json.loads(said)
    steps = {name: {"seconds": seconds} for name, seconds in laps.items()}
    steps["own work"] = {"seconds": sum(laps.values())}
    with LoopbackHub(folder / "hub") as hub:
        script = [sys.executable, ROOT / "scripts" / "publish.py", folder / "model", "tester/model"]
        _, steps["publish"] = timed(script, environment(hub.endpoint, folder / "trainer", xet=xet))
        stranger = environment(hub.endpoint, folder / "stranger", None, xet)
        said, steps["pull and predict"] = timed([sys.executable, "-I", "-c", PREAMBLE + PULL], stranger)
        assert len(json.loads(said)[0]) == 9, said
        assert hub.unknown == []
        steps["publish"]["bytes"] = sum(map(len, hub.content("tester/model").values()))
    return steps


def main(argv: list[str] | None = None) -> None:
    (args,) = HfArgumentParser(BenchmarkArguments, description=__doc__).parse_args_into_dataclasses(argv)
    load, rows = [os.getloadavg()[0]], []
    for transfer in ("xet", "lfs"):
        rounds = []
        for _ in range(args.rounds):
            with tempfile.TemporaryDirectory(prefix="hf_primaldual-benchmark-") as folder:
                rounds.append(one_round(Path(folder), transfer == "xet"))
        load.append(os.getloadavg()[0])
        for step in rounds[0]:
            row = {"model": step, "transfer": transfer}
            for figure in rounds[0][step]:
                values = [each[step][figure] for each in rounds]
                spread = {"median": statistics.median(values), "least": min(values), "most": max(values)}
                row[figure] = values[0] if figure == "bytes" else {key: round(v, 2) for key, v in spread.items()}
            rows.append(row)
            print(json.dumps(row))
    if args.output is not None:
        # How busy the machine was with other work, its own included from the second on.
        settings = {"rounds": args.rounds, "nice": os.nice(0), "load": [round(value, 1) for value in load]}
        print(save_results(args.output, "hub", {**settings, "rows": rows}))


if __name__ == "__main__":
    main()
