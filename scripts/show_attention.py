"""
Draws where the heads of a trained model look: at which patches of an image, steps of a series or tokens of a text. A
head with pooled keys shows its windows as pieces of one colour.

    python scripts/show_attention.py --checkpoint outputs/demo/primal-dual-japanesevowels-bn-sh \
        --dataset JapaneseVowels --index 3 --plot attention.png
    python scripts/show_attention.py --checkpoint FOLDER --dataset mine.csv --id_column id --plot attention.png
    python scripts/show_attention.py --checkpoint FOLDER --text "A fine day." --plot attention.png
    python scripts/show_attention.py --checkpoint FOLDER --image photo.png --query 0 --plot attention.png
"""

from dataclasses import dataclass

from transformers import HfArgumentParser
from transformers.hf_argparser import HfArg

from hf_primaldual.commands import run
from hf_primaldual.measure import attention_maps
from hf_primaldual.measure.examples import ExampleArguments, load_example
from hf_primaldual.measure.plots import plot_image_attention, plot_sequence_attention


@dataclass
class ShowArguments(ExampleArguments):
    """What is looked at."""

    plot: str = HfArg(default="attention.png", help="File for the picture, PNG or SVG.")
    query: int | None = HfArg(default=None, help="The token that looks; default: the mean over all.")


def main(argv: list[str] | None = None) -> None:
    (args,) = HfArgumentParser(ShowArguments, allow_abbrev=False).parse_args_into_dataclasses(argv)
    example = load_example(args)
    layers = attention_maps(example.model, example.inputs)
    if example.pixels is None:
        figure = plot_sequence_attention(layers, example.series, example.tokens, args.query, example.title)
    else:
        config = example.model.config
        grid, prefix = config.grid_size, config.num_prefix_tokens
        figure = plot_image_attention(layers, example.pixels, grid, prefix, args.query, example.title)
    figure.savefig(args.plot, dpi=150)
    print(f"picture: {args.plot}")


if __name__ == "__main__":
    run(main)
