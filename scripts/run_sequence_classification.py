"""
Trains classifiers of sequences with attentions of the paper and their baseline, over several seeds, and writes a
self-contained checkpoint of the best with its results and its card: tasks of Long Range Arena, 20 Newsgroups as bytes,
or any texts.

    python scripts/run_sequence_classification.py scripts/configs/listops_lite.yaml
    python scripts/run_sequence_classification.py --task newsgroups --attention bn sh --seeds 0 1 2
    python scripts/run_sequence_classification.py --train_file train.csv --test_file test.csv --text_column review
"""

from pathlib import Path

from sources import TEXT_SOURCES

from hf_primaldual.commands import run
from hf_primaldual.commands.train import train


def main(argv: list[str] | None = None) -> Path:
    return train("text", argv, sources=TEXT_SOURCES)


if __name__ == "__main__":
    run(main)
