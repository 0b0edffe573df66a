"""
Trains vision transformers with attentions of the paper and their baseline, over several seeds, and writes a
self-contained checkpoint of the best with its results and its card.

    python scripts/run_image_classification.py scripts/configs/fashion_mnist.yaml --seeds 0 1 2
    python scripts/run_image_classification.py --dataset path/to/images --image_size 64 --patch_size 8
    torchrun --nproc_per_node 8 scripts/run_image_classification.py scripts/configs/imagenet_deit_tiny.yaml
"""

from pathlib import Path

from sources import IMAGE_SOURCES

from hf_primaldual.commands import run
from hf_primaldual.commands.train import train


def main(argv: list[str] | None = None) -> Path:
    return train("image", argv, sources=IMAGE_SOURCES)


if __name__ == "__main__":
    run(main)
