"""Makes `scripts/benchmarks/` importable, as it is for the programs themselves."""

import sys
from pathlib import Path

SCRIPTS = str(Path(__file__).parents[2] / "scripts" / "benchmarks")
if SCRIPTS not in sys.path:
    sys.path.append(SCRIPTS)
