"""One example of whatever people have, a series, a text or an image, for a checkpoint that is to be looked into."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    BatchEncoding,
    BatchFeature,
    PreTrainedModel,
)
from transformers.hf_argparser import HfArg

from ..theory import register_transforms_of
from .costs import load_model

# The flag that each kind of model needs.
_FLAGS = {"past_values": "dataset", "input_ids": "text", "pixel_values": "image"}


@dataclass
class ExampleArguments:
    """A checkpoint, and the one example that it is shown."""

    checkpoint: str = HfArg(help="Folder or repository of a trained model of series, texts or images.")
    dataset: str | None = HfArg(
        default=None, help="Series: a task of the UEA archive, of whose test set one is taken; or a file, as for data."
    )
    text: str | None = HfArg(default=None, help="A text, or a file with one.")
    image: str | None = HfArg(default=None, help="A picture.")
    index: int = HfArg(default=0, help="Which series, counted from 0.")
    data_folder: str | None = HfArg(default=None, help="Folder of the archive; default: the aeon wheel.")
    id_column: str | None = HfArg(default=None, help="Of a long table of series: the column that names them.")
    time_column: str | None = HfArg(default=None, help="The column that orders their steps.")
    value_columns: list[str] | None = HfArg(default=None, help="The columns of channels; default: all others.")
    label_column: str | None = HfArg(default=None, help="The column of classes, which is no channel.")
    channels_first: bool = HfArg(default=False, help="The series are (channels, time).")
    rows_are: str | None = HfArg(default=None, help="What rows of a flat array are: steps of a series, or series.")
    trust_remote_code: bool = HfArg(
        default=False, help="Run the transforms that a checkpoint brings in its own files."
    )

    def __post_init__(self) -> None:
        if sum(getattr(self, flag) is not None for flag in _FLAGS.values()) != 1:
            raise ValueError("one of `dataset`, `text` and `image` must be given, got none or several.")


class Example(NamedTuple):
    """
    A model with its input, a batch of one, and what it is called; of series the values `(time, channels)`, of texts
    the tokens, of images the pixels.
    """

    model: PreTrainedModel
    inputs: BatchFeature | BatchEncoding
    title: str
    series: torch.Tensor | None = None
    tokens: list[str] | None = None
    pixels: torch.Tensor | None = None


def load_example(args: ExampleArguments) -> Example:
    """Loads the checkpoint and the example that the arguments name."""
    config = AutoConfig.from_pretrained(args.checkpoint, trust_remote_code=False)
    own = [name for name in getattr(config, "choices", ((), ()))[1] if "." in name]
    if own and args.trust_remote_code:
        register_transforms_of(args.checkpoint)
    elif own:
        raise ValueError(
            f"the checkpoint brings {', '.join(own)} in a file of its own, which would run with your rights; read it, "
            "then pass --trust_remote_code true."
        )
    # Of what compares two documents, each is seen by the encoder alone.
    matches = "PrimalDualTextForDocumentMatching" in (config.architectures or ())
    load = AutoModel.from_pretrained if matches else load_model
    model = load(args.checkpoint, trust_remote_code=False)
    flag = _FLAGS.get(model.main_input_name)
    if flag is None or getattr(args, flag) is None:
        given = next(name for name in _FLAGS.values() if getattr(args, name) is not None)
        raise ValueError(
            f"`{flag}` must be given for {type(model).__name__}, got `{given}`."
            if flag
            else f"{type(model).__name__} takes {model.main_input_name}: only series, texts and images can be shown."
        )
    return {"dataset": _series, "text": _text, "image": _image}[flag](args, model)


def _series(args: ExampleArguments, model: PreTrainedModel) -> Example:
    # What reads data needs more than what measures.
    from ..data import load_uea, read_series, series_arrays

    path = Path(args.dataset)
    layout = ("id_column", "time_column", "value_columns", "label_column", "channels_first", "rows_are")
    if path.suffix or path.exists():
        split = read_series(args.dataset, **{name: getattr(args, name) for name in layout})
    else:
        split = load_uea(args.dataset, args.data_folder)["test"]
    if not 0 <= args.index < len(split):
        raise ValueError(f"`index` must be 0 to {len(split) - 1}, {path.name} has no more series; got {args.index}.")
    values = series_arrays(split.select([args.index]))[0]
    extractor = AutoFeatureExtractor.from_pretrained(args.checkpoint, trust_remote_code=False)
    title = f"series {args.index} of {path.name}, {model.config.attention}"
    return Example(model, extractor(values, return_tensors="pt"), title, series=torch.tensor(values))


def _text(args: ExampleArguments, model: PreTrainedModel) -> Example:
    # Of a text that is longer than a name of a file may be, isfile says no.
    is_file = os.path.isfile(args.text)
    text = Path(args.text).read_text(encoding="utf-8") if is_file else args.text
    tokenizer = AutoTokenizer.from_pretrained(args.checkpoint, trust_remote_code=False)
    limit = model.config.max_position_embeddings
    length = len(tokenizer(text)["input_ids"])
    inputs = tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")
    tokens = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist())
    name = Path(args.text).name if is_file else " ".join(text.split())
    name = name if len(name) <= 40 else f"{name[:39]}…"
    cut = f", its first {limit} of {length} tokens" if length > limit else ""
    known = {key: inputs[key] for key in ("input_ids", "attention_mask") if key in inputs}
    return Example(model, BatchEncoding(known), f"{name!r}{cut}, {model.config.attention}", tokens=tokens)


def _image(args: ExampleArguments, model: PreTrainedModel) -> Example:
    from PIL import Image, UnidentifiedImageError

    try:
        picture = Image.open(args.image).convert("L" if model.config.num_channels == 1 else "RGB")
    except UnidentifiedImageError as error:
        raise ValueError(f"`image` must be a picture that Pillow reads, got {args.image!r}.") from error
    processor = AutoImageProcessor.from_pretrained(args.checkpoint, trust_remote_code=False)
    inputs = processor(picture, return_tensors="pt")
    title = f"{Path(args.image).name}, {model.config.attention}"
    return Example(model, inputs, title, pixels=inputs["pixel_values"][0])
