"""Publishes a checkpoint folder on the Hub: the command `hf-primaldual publish`."""

from hf_primaldual.commands import run
from hf_primaldual.commands.publish import main

if __name__ == "__main__":
    run(main)
