"""
Draws where the heads of a trained model look: at which patches of an image, or at which steps of a series. A head with
pooled keys shows its windows as pieces of one colour.

    python scripts/show_attention.py --checkpoint outputs/demo/primal-dual-japanesevowels-bn-sh \
        --dataset JapaneseVowels --index 3 --plot attention.png
    python scripts/show_attention.py --checkpoint FOLDER --image photo.png --query 0 --plot attention.png
"""

from dataclasses import dataclass

import torch
from transformers import AutoFeatureExtractor, AutoImageProcessor, HfArgumentParser
from transformers.hf_argparser import HfArg

from hf_primaldual.commands import run
from hf_primaldual.data import load_uea
from hf_primaldual.measure import attention_maps, load_model
from hf_primaldual.measure.plots import plot_image_attention, plot_series_attention


@dataclass
class ShowArguments:
    """What is looked at."""

    checkpoint: str = HfArg(help="Folder or repository of a trained classifier of images or series.")
    plot: str = HfArg(help="File for the picture, PNG or SVG.")
    image: str | None = HfArg(default=None, help="Picture to look at, for a classifier of images.")
    dataset: str | None = HfArg(default=None, help="UEA task, for a classifier of series.")
    data_folder: str | None = HfArg(default=None, help="Folder of the archive; default: the aeon wheel.")
    index: int = HfArg(default=0, help="Which series of the test set.")
    query: int | None = HfArg(default=None, help="The token that looks; default: the mean over all.")

    def __post_init__(self):
        if (self.image is None) == (self.dataset is None):
            raise ValueError("one of `image` and `dataset` must be given, got neither or both.")


def draw_series(args: ShowArguments):
    model = load_model(args.checkpoint, trust_remote_code=False)
    extractor = AutoFeatureExtractor.from_pretrained(args.checkpoint, trust_remote_code=False)
    series = load_uea(args.dataset, args.data_folder)["test"].with_format("numpy")[args.index]["past_values"]
    layers = attention_maps(model, extractor(series, return_tensors="pt"))
    title = f"series {args.index} of {args.dataset}, {model.config.attention}"
    return plot_series_attention(layers, torch.as_tensor(series), args.query, title)


def draw_image(args: ShowArguments):
    from PIL import Image

    model = load_model(args.checkpoint, trust_remote_code=False)
    processor = AutoImageProcessor.from_pretrained(args.checkpoint, trust_remote_code=False)
    mode = "L" if model.config.num_channels == 1 else "RGB"
    pixels = processor(Image.open(args.image).convert(mode), return_tensors="pt")["pixel_values"]
    layers = attention_maps(model, {"pixel_values": pixels})
    config = model.config
    return plot_image_attention(
        layers, pixels[0], config.grid_size, config.num_prefix_tokens, args.query, config.attention
    )


def main(argv: list[str] | None = None) -> None:
    args = HfArgumentParser(ShowArguments, allow_abbrev=False).parse_args_into_dataclasses(argv)[0]
    figure = draw_series(args) if args.image is None else draw_image(args)
    figure.savefig(args.plot, dpi=150)
    print(f"picture: {args.plot}")


if __name__ == "__main__":
    run(main)
