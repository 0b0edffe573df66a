"""
Looks at a trained time-series classifier as the regressions that it is: which steps of a series are support vectors of
each head, and how large each head's primal weight is. Prints a table and draws a picture.

    python scripts/show_dual_variables.py --checkpoint outputs/demo/primal-dual-japanesevowels-bn-sh --plot
    dual.png
"""

from dataclasses import dataclass

from transformers import AutoFeatureExtractor, AutoModelForSequenceClassification, HfArgumentParser
from transformers.hf_argparser import HfArg

from hf_primaldual.commands import run
from hf_primaldual.data import load_uea
from hf_primaldual.theory import DualVariables, dual_variables, plot_dual_variables


@dataclass
class DualArguments:
    """What is looked at."""

    checkpoint: str = HfArg(help="Folder or repository of a trained classifier.")
    dataset: str = HfArg(default="JapaneseVowels", help="Task of the UEA archive that it was trained on.")
    data_folder: str | None = HfArg(default=None, help="Folder of the archive; default: the aeon wheel.")
    index: int = HfArg(default=0, help="Which series of the test set.")
    tolerance: float = HfArg(
        default=0.1, help="A support vector has at least this share of its head's largest coefficient."
    )
    plot: str | None = HfArg(default=None, help="File for a picture, PNG or SVG.")


def print_layer(layer: DualVariables, tolerance: float) -> None:
    supported = layer.support_vectors(tolerance)[0]
    print(f"layer {layer.layer}")
    for head, (kept, vectors) in enumerate(zip(layer.mask[0], supported, strict=True)):
        norm = layer.log_squared_weight_norms[0, head].div(2).exp().item()
        places = ", ".join(str(place) for place in vectors.nonzero().flatten().tolist())
        print(f"  head {head}: ‖W‖ = {norm:9.3g}, {int(vectors.sum()):>3} of {int(kept.sum())} keys: {places}")


def main(argv: list[str] | None = None) -> None:
    args = HfArgumentParser(DualArguments, allow_abbrev=False).parse_args_into_dataclasses(argv)[0]
    model = AutoModelForSequenceClassification.from_pretrained(args.checkpoint, trust_remote_code=False)
    feature_extractor = AutoFeatureExtractor.from_pretrained(args.checkpoint, trust_remote_code=False)
    series = load_uea(args.dataset, args.data_folder)["test"].with_format("numpy")[args.index]["past_values"]
    layers = dual_variables(model, feature_extractor(series, return_tensors="pt"))
    print(
        f"series {args.index} of {args.dataset}'s test set, {len(series)} steps; attention {model.config.attention!r}"
    )
    for layer in layers:
        print_layer(layer, args.tolerance)
    if args.plot is not None:
        plot_dual_variables(layers, args.plot)
        print(f"picture: {args.plot}")


if __name__ == "__main__":
    run(main)
