"""
Faults that mutmut plants in the modeling core and in the attention function, and the share that the tests find.

    python -m tests.mutants --sample 150

What words an error has is left out (pyproject.toml). A survivor is shown by `mutmut show NAME`.
"""

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path

from mutmut import __main__ as mutmut
from mutmut.stats import status_by_exit_code

FOUND = ("killed", "timeout", "segfault", "suspicious")


def results() -> dict[str, int | None]:
    """The exit status of the tests by each mutant, `None` where they were not run."""
    return {
        name: status
        for path in sorted(Path("mutants/src").rglob("*.meta"))
        for name, status in json.loads(path.read_text())["exit_code_by_key"].items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", default="150", help="How many mutants, drawn by --seed, or `all`: many hours.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()

    mutmut.set_mutant_under_test("mutant_generation")
    mutmut.copy_src_dir()
    mutmut.copy_also_copy_files()
    mutmut.create_mutants(arguments.processes)
    names = sorted(results())
    if arguments.sample != "all":
        names = random.Random(arguments.seed).sample(names, min(int(arguments.sample), len(names)))
    command = [Path(sys.executable).with_name("mutmut"), "run", "--max-children", str(arguments.processes), *names]
    subprocess.run(command, check=True)

    found = {name: status_by_exit_code[status] for name, status in results().items() if name in set(names)}
    survivors = [f"{name}: {status}" for name, status in found.items() if status not in FOUND]
    print("\n".join(survivors))
    share = 1 - len(survivors) / len(names)
    print(f"{len(names) - len(survivors)} of {len(names)} mutants found, {share:.1%}")
    return int(share < 0.9)


if __name__ == "__main__":
    sys.exit(main())
