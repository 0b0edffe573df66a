"""
Trains time-series classifiers with attentions of the paper and their baseline, over several seeds, and writes a
self-contained checkpoint of the best with its results and its card.

    python scripts/run_time_series_classification.py --dataset JapaneseVowels --attention bn+sh
    python scripts/run_time_series_classification.py scripts/configs/japanese_vowels.yaml --seeds 0 1 2
    python scripts/run_time_series_classification.py scripts/configs/japanese_vowels.yaml --search 20
"""

from hf_primaldual.commands import run
from hf_primaldual.commands.train import train_series as main

if __name__ == "__main__":
    run(main)
