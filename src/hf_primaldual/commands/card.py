"""
Renders the results of a checkpoint folder into its card again, and keeps what a person wrote into it.

    hf-primaldual card outputs/demo/primal-dual-japanesevowels-bn-sh
"""

from argparse import RawDescriptionHelpFormatter
from pathlib import Path

from ..flags import Parser
from ..hub.card import write_card


def main(argv: list[str] | None = None, prog: str | None = None) -> Path:
    parser = Parser(prog=prog, description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="Checkpoint folder, with its results.json.")
    card = write_card(parser.parse_args(argv).folder)
    print(f"card: {card}")
    return card
