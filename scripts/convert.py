"""Converts a checkpoint of transformers: the command `hf-primaldual convert`."""

from hf_primaldual.commands import run
from hf_primaldual.commands.convert import main

if __name__ == "__main__":
    run(main)
