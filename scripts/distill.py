"""Makes a checkpoint's attention cheaper and teaches it by the original: the command `hf-primaldual distill`."""

from hf_primaldual.commands import run
from hf_primaldual.commands.distill import main

if __name__ == "__main__":
    run(main)
