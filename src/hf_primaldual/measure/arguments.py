"""What every program takes that times something: where, how often, and where the figures go."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.hf_argparser import HfArg

from ..flags import Parser
from .results import save_results


@dataclass
class TimingArguments:
    """Size of a batch, device and back-end, and the folder of the results."""

    batch: int = HfArg(default=1, help="Rows, sequences or images.")
    inference: bool = HfArg(default=False, help="Forward only, without gradients.")
    attn_implementation: str = HfArg(default="sdpa", help="Back-end of our models.")
    device: str = HfArg(default="cpu", help="cpu or cuda.")
    dtype: str = HfArg(default="float32", help="float32, bfloat16 or float16.")
    threads: int | None = HfArg(default=None, help="Threads on a CPU; torch's own choice by default.")
    rounds: int = HfArg(default=15, help="Timed calls of each.")
    output: str | None = HfArg(default=None, help="Folder for JSON and CSV, named by the machine.")

    @classmethod
    def parse(cls, argv: list[str] | None, prog: str | None = None):
        """Reads the flags, and sets threads and seed."""
        (args,) = Parser(cls, prog=prog).parse_args_into_dataclasses(argv)
        if args.threads is not None:
            torch.set_num_threads(args.threads)
        torch.manual_seed(0)
        return args

    @property
    def mode(self) -> str:
        return "inference" if self.inference else "training"

    @property
    def place(self) -> dict[str, Any]:
        """Device and type of models and inputs."""
        return {"device": self.device, "dtype": getattr(torch, self.dtype)}

    def save(self, name: str, rows: list[dict[str, Any]], leave_out: Sequence[str] = ()) -> Path | None:
        """Writes settings and rows into the folder of the results, if there is one."""
        if self.output is None:
            return None
        settings = {key: value for key, value in asdict(self).items() if key not in ("output", *leave_out)}
        path = save_results(self.output, name, {"settings": settings, "rows": rows})
        print(f"written: {path}")
        return path
