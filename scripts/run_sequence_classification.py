"""
Trains classifiers of sequences with attentions of the paper and their baseline, over several seeds, and writes a
self-contained checkpoint of the best with its results and its card: tasks of Long Range Arena, 20 Newsgroups as bytes,
or any texts.

    python scripts/run_sequence_classification.py scripts/configs/listops_lite.yaml
    python scripts/run_sequence_classification.py --task newsgroups --attention bn sh --seeds 0 1 2
    python scripts/run_sequence_classification.py --train_file train.csv --test_file test.csv --text_column review
"""

import sys
from pathlib import Path

from sources import TEXT_SOURCES

from hf_primaldual.training.comparison import run_comparison
from hf_primaldual.training.settings import parse_arguments
from hf_primaldual.training.texts import TextDataArguments, TextModelArguments, TextTrainingArguments, text_task


def main(argv: list[str] | None = None) -> Path:
    data_args, model_args, args = parse_arguments(
        TextDataArguments, TextModelArguments, TextTrainingArguments, argv=argv
    )
    task = text_task(data_args, model_args, args, TEXT_SOURCES)
    if args.should_save:
        share = task.source["majority_share"]
        print(f"{task.sizes}, {task.lengths[0]} to {task.lengths[1]} tokens; the majority class alone: {share:.1%}")
    return run_comparison(task, model_args, args, argv)


if __name__ == "__main__":
    main(sys.argv[1:])
