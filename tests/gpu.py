"""
What a GPU is asked, in stages that write their results at once into a folder.

    python -m tests.gpu --stage right fast --output results/gpu
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

# Tests whose tensors may lie anywhere: the formulas, and models of transformers that run them.
RIGHT = (
    "tests/test_gpu.py",
    "tests/modeling/test_parity.py",
    "tests/modeling/test_intervals.py",
    "tests/integration/test_families.py",
    "tests/integration/test_decoders.py",
)
CARD = "--device cuda --dtype bfloat16 --width 512 --heads 8 --fill 65536"
FAST = (
    f"{CARD} --tokens 1024 4096 16384 65536 --attentions bn sh bn+sh sh:256 linear linear-bn+sh",
    f"{CARD} --tokens 1024 4096 16384 65536 --attentions bn sh bn+sh sh:256 linear linear-bn+sh --inference",
    f"{CARD} --tokens 1024 4096 16384 --attentions bn sh bn+sh linear linear-bn+sh --causal",
)


def right(output: Path, processes: int) -> bool:
    command = [sys.executable, "-m", "pytest", "-m", "not slow and not processes and not hub_peers", "-q", *RIGHT]
    command += ["--numprocesses", str(processes), "--dist", "worksteal", f"--junitxml={output / 'right.xml'}"]
    return subprocess.run(command, env=os.environ | {"TEST_DEVICE": "cuda"}, check=False).returncode != 0


def fast(output: Path, processes: int) -> bool:
    command = [sys.executable, "scripts/benchmarks/attention.py", "--output", str(output), "--rounds", "15"]
    # One that fails, or is killed, keeps none of the others from being timed.
    codes = [subprocess.run(command + flags.split(), check=False).returncode for flags in FAST]
    return any(codes)


STAGES = {"right": right, "fast": fast}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--output", type=Path, default=Path("outputs/gpu"), help="Folder of the results.")
    parser.add_argument("--processes", type=int, default=8, help="That test at once.")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    failed = [stage for stage in arguments.stage if STAGES[stage](arguments.output, arguments.processes)]
    if failed:
        print(f"failed: {', '.join(failed)}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
