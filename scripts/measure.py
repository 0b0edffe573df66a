"""Measures what models cost: the command `hf-primaldual measure`."""

from hf_primaldual.commands import run
from hf_primaldual.commands.measure import main

if __name__ == "__main__":
    run(main)
