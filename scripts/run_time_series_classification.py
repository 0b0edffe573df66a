"""
Trains time-series classifiers with attentions of the paper and their baseline, over several seeds, and writes a
self-contained checkpoint of the best with its results and its card.

    python scripts/run_time_series_classification.py --dataset JapaneseVowels --attention bn+sh
    python scripts/run_time_series_classification.py scripts/configs/japanese_vowels.yaml --seeds 0 1 2
    python scripts/run_time_series_classification.py scripts/configs/japanese_vowels.yaml --search 20
"""

import sys
from pathlib import Path

from hf_primaldual.training.comparison import run_comparison
from hf_primaldual.training.settings import parse_arguments
from hf_primaldual.training.time_series import (
    SeriesDataArguments,
    SeriesModelArguments,
    SeriesTrainingArguments,
    series_task,
)


def main(argv: list[str] | None = None) -> Path:
    data_args, model_args, args = parse_arguments(
        SeriesDataArguments, SeriesModelArguments, SeriesTrainingArguments, argv=argv
    )
    return run_comparison(series_task(data_args, model_args), model_args, args, argv)


if __name__ == "__main__":
    main(sys.argv[1:])
