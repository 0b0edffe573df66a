"""
Looks at a trained model as the regressions that it is: which steps of a series, tokens of a text or patches of an
image are support vectors of each head, and how large each head's primal weight is. Prints a table, draws a picture.

    python scripts/show_dual_variables.py --checkpoint outputs/demo/primal-dual-japanesevowels-bn-sh --plot dual.png
    python scripts/show_dual_variables.py --checkpoint FOLDER --dataset mine.parquet --index 3
    python scripts/show_dual_variables.py --checkpoint FOLDER --text story.txt
    python scripts/show_dual_variables.py --checkpoint FOLDER --image photo.png
"""

from dataclasses import dataclass

from transformers import HfArgumentParser
from transformers.hf_argparser import HfArg

from hf_primaldual.commands import run
from hf_primaldual.measure.examples import ExampleArguments, load_example
from hf_primaldual.theory import DualVariables, dual_variables, plot_dual_variables


@dataclass
class DualArguments(ExampleArguments):
    """What is looked at; without an example a series of JapaneseVowels."""

    tolerance: float = HfArg(
        default=0.1, help="A support vector has at least this share of its head's largest coefficient."
    )
    plot: str | None = HfArg(default=None, help="File for a picture, PNG or SVG.")

    def __post_init__(self):
        if self.text is self.image is None:
            self.dataset = self.dataset or "JapaneseVowels"
        super().__post_init__()


def print_layer(layer: DualVariables, tolerance: float) -> None:
    supported = layer.support_vectors(tolerance)[0]
    print(f"layer {layer.layer}")
    for head, (kept, vectors) in enumerate(zip(layer.mask[0], supported, strict=True)):
        norm = layer.log_squared_weight_norms[0, head].div(2).exp().item()
        places = ", ".join(str(place) for place in vectors.nonzero().flatten().tolist())
        print(f"  head {head}: ‖W‖ = {norm:9.3g}, {int(vectors.sum()):>3} of {int(kept.sum())} keys: {places}")


def main(argv: list[str] | None = None) -> None:
    (args,) = HfArgumentParser(DualArguments, allow_abbrev=False).parse_args_into_dataclasses(argv)
    example = load_example(args)
    layers = dual_variables(example.model, example.inputs)
    print(f"{example.title}; {layers[0].queries.shape[2]} tokens")
    for layer in layers:
        print_layer(layer, args.tolerance)
    if args.plot is not None:
        plot_dual_variables(layers, args.plot, title=example.title)
        print(f"picture: {args.plot}")


if __name__ == "__main__":
    run(main)
