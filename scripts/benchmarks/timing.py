"""What the benchmarks share: arguments, calls timed in turn as the rows of a table, and the file of results."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import HfArgumentParser

from hf_primaldual.measure import if_it_fits, interleaved, save_results


@dataclass
class TimingArguments:
    """What every benchmark of times takes."""

    batch: int = field(default=1, metadata={"help": "Rows, sequences or images."})
    inference: bool = field(default=False, metadata={"help": "Forward only, without gradients."})
    attn_implementation: str = field(default="sdpa", metadata={"help": "Back-end of our models."})
    device: str = field(default="cpu", metadata={"help": "cpu or cuda."})
    dtype: str = field(default="float32", metadata={"help": "float32, bfloat16 or float16."})
    threads: int | None = field(default=None, metadata={"help": "Threads on a CPU; torch's own choice by default."})
    rounds: int = field(default=15, metadata={"help": "Timed calls of each."})
    output: str | None = field(default=None, metadata={"help": "Folder for JSON and CSV, named by the machine."})

    @property
    def mode(self) -> str:
        return "inference" if self.inference else "training"

    @property
    def place(self) -> dict[str, Any]:
        """Device and type of models and inputs."""
        return {"device": self.device, "dtype": getattr(torch, self.dtype)}


def parse(arguments: type[TimingArguments], argv: list[str] | None) -> TimingArguments:
    args = HfArgumentParser(arguments, allow_abbrev=False).parse_args_into_dataclasses(argv)[0]
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    return args


def time_rows(
    calls: Mapping[str, Callable[[], Any]], baseline: str, rounds: int, about: dict[str, Any], named: str = "attention"
) -> list[dict[str, Any]]:
    """
    A row for each call: what it is about, its name under `named`, milliseconds, and two ratios to the baseline's time,
    of medians and median of those round by round; or why it does not fit into memory. Prints them.
    """
    reasons = {name: if_it_fits(call).does_not_fit for name, call in calls.items()}
    fitting = {name: call for name, call in calls.items() if reasons[name] is None}
    timings = interleaved(fitting, rounds=rounds) if fitting else {}
    theirs, rows = timings.get(baseline), []
    for name in calls:
        row = {**about, named: name}
        text = [f"{key} {value}" for key, value in row.items()]
        if name not in timings:
            row["does_not_fit"] = reasons[name]
            text.append(f"does not fit: {reasons[name]}")
        else:
            ours = timings[name]
            row |= {"ms": ours.milliseconds(), "ratio": None, "median_of_ratios": None}
            text.append("{median:.2f} ms ({q1:.2f} to {q3:.2f})".format(**row["ms"]))
            if theirs is not None:
                row["ratio"] = ours.median / theirs.median
                row["median_of_ratios"] = float(np.median(np.divide(ours.samples, theirs.samples)))
                text.append(f"{row['ratio']:.3f} of the baseline")
        print("  ".join(text), flush=True)
        rows.append(row)
    return rows


def save(name: str, args: TimingArguments, rows: list[dict[str, Any]]) -> Path | None:
    """Writes settings and rows into the folder that the arguments name, if they do."""
    if args.output is None:
        return None
    settings = {key: value for key, value in asdict(args).items() if key != "output"}
    path = save_results(args.output, name, {"settings": settings, "rows": rows})
    print(f"written: {path}")
    return path
