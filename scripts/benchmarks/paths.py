"""Imported for what it does: programs of this folder find `scripts/sources`."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
