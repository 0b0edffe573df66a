"""
Trains language models with attentions of the paper and their baseline, over several seeds, and writes a self-contained
checkpoint of the best with its results and its card: 20 Newsgroups as bytes, or any texts.

    python scripts/run_language_modeling.py scripts/configs/newsgroups_language.yaml
    python scripts/run_language_modeling.py --train_file train.csv --test_share 0.1 --attention bn sh
"""

from pathlib import Path

from sources import TEXT_SOURCES

from hf_primaldual.commands import run
from hf_primaldual.commands.train import train


def main(argv: list[str] | None = None) -> Path:
    return train("language", argv, sources=TEXT_SOURCES)


if __name__ == "__main__":
    run(main)
