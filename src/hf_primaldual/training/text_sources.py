"""From the name of a task, a data set's id or files to splits with their texts or tokens, and where they come from."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from datasets import ClassLabel, DatasetDict, Features, List, Value, load_dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.hf_argparser import HfArg

from hf_primaldual.data import (
    LISTOPS,
    LISTOPS_LITE,
    LISTOPS_VOCABULARY,
    load_cifar10,
    load_imdb,
    load_listops,
    load_listops_files,
    load_pathfinder,
    load_pathfinder_images,
    load_retrieval,
)
from hf_primaldual.data.label_sets import has_label_sets, of_labels, with_label_sets
from hf_primaldual.data.sources import check_test_set, data_name, described, load_splits, read_splits
from hf_primaldual.data.splits import LABEL_NAMES, class_names, empty_texts, refuse, with_classes
from hf_primaldual.data.windows import TOO_LONG

from .settings import refuse_below_one
from .sources import SourceArguments, refuse_given

# How `load_dataset` reads a file, by its ending.
_READERS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}


# Flags that mean nothing with another kind of data.
_OF_COLUMNS = ("text_column", "text_pair_column", "label_column", "label_separator")
_GO_WITH = {
    "task": ("data_folder",),
    "dataset": ("dataset_config", "revision", "test_split"),
    "train_file": ("validation_file", "test_file"),
}


@dataclass
class TextDataArguments(SourceArguments):
    """Which sequences are trained on."""

    with_labels: ClassVar[bool] = True
    """Whether texts must have classes, or are texts alone."""

    task: str | None = HfArg(
        default=None,
        help="listops, listops-lite, text, retrieval, image or pathfinder of Long Range Arena; newsgroups.",
    )
    data_folder: str | None = HfArg(
        default=None, help="The task's published files. Default: generated, from the hub, or from the installed wheel."
    )
    train_file: str | None = HfArg(default=None, help="Or a csv, tsv, json, jsonl or parquet file.")
    validation_file: str | None = HfArg(default=None, help="Default: cut out of the training set.")
    test_file: str | None = HfArg(default=None, help="The file that is read once a run.")
    text_column: str = HfArg(default="text", help="Column of a data set's or file's texts.")
    text_pair_column: str | None = HfArg(default=None, help="Column of second texts, encoded apart and compared.")
    label_column: list[str] | None = HfArg(
        default=None,
        help="Column of the classes, by name or by number, or of lists of them; or several columns of 0 and 1, one a "
        f"label. Default: one of {', '.join(LABEL_NAMES)}.",
    )
    label_separator: str | None = HfArg(default=None, help="Between the labels of a text that has several in a cell.")
    classes: list[str] | None = HfArg(default=None, help="Leave out examples of all other classes.")
    tokenizer: str | None = HfArg(default=None, help="Name or folder. Default: the bytes of a text, by ByT5's.")
    max_tokens: int | None = HfArg(default=None, help="Positions. Default: 4000 for text and retrieval, else 1024.")
    too_long: str = HfArg(default="cut", help="Of longer texts: cut, window (the text's windows vote) or refuse.")
    stride: int | None = HfArg(default=None, help="Tokens from one window to the next. Default: no overlap.")
    train_size: int | None = HfArg(default=None, help="Examples to train on, drawn class by class.")
    validation_size: int | None = HfArg(default=None, help="Examples of the validation set.")
    test_size: int | None = HfArg(default=None, help="Examples of the test set.")
    subset_seed: int = HfArg(default=0, help="Of what is drawn or generated; not of the training runs.")

    def __post_init__(self):
        super().__post_init__()
        refuse_below_one(self, "max_tokens", "stride", "train_size", "validation_size", "test_size")
        if isinstance(self.label_column, str):
            self.label_column = [self.label_column]
        if self.too_long not in TOO_LONG:
            raise ValueError(f"`too_long` must be one of {', '.join(TOO_LONG)}, got {self.too_long!r}.")
        if self.stride is not None and self.too_long != "window":
            raise ValueError(f"`stride` is that of windows, got {self.stride} with `too_long` = {self.too_long!r}.")
        if self.label_separator is not None and len(self.label_column or ()) > 1:
            raise ValueError(
                f"`label_separator` parts the labels of one column, got {len(self.label_column)} in `label_column`."
            )


@dataclass
class TextSource:
    """
    Splits `train` and where there are any `validation` and `test`, with the classes in `label_column`, or one label in
    each of several.

    `columns` are those of a text, or of both texts of a pair; or `("input_ids",)` where there are tokens already, of
    the vocabulary of `tokenizer`. `described` is `name`, `source`, and `licence` and `sha256` of the files where they
    are known. `files` is what errors call a split.
    """

    splits: DatasetDict
    columns: tuple[str, ...]
    described: dict[str, Any]
    tokenizer: PreTrainedTokenizerBase | None = None
    max_tokens: int = 1024
    label_column: str | list[str] = "labels"
    files: dict[str, str] = field(default_factory=dict)

    @property
    def has_tokens(self) -> bool:
        """Whether there is nothing to be tokenized."""
        return self.columns == ("input_ids",)


Loader = Callable[[TextDataArguments], TextSource]


def load_source(args: TextDataArguments, sources: Mapping[str, Loader] | None = None) -> TextSource:
    """What the arguments name: a task of Long Range Arena or of `sources`, a data set of the hub, or files."""
    sources = {**_SOURCES, **(sources or {})}
    named = [name for name in _GO_WITH if getattr(args, name) is not None]
    if len(named) != 1:
        raise ValueError(
            f"one of `task`, `dataset` and `train_file` must be given, got {' and '.join(named) or 'none'}."
        )
    (kind,) = named
    for other, flags in _GO_WITH.items():
        refuse_given(args, flags if other != kind else (), f"`{other}`")
    if kind == "task":
        refuse_given(args, _OF_COLUMNS, "`dataset` and `train_file`")
    if args.task is not None and args.task not in sources:
        raise ValueError(f"`task` must be one of {', '.join(sources)}, got {args.task!r}.")
    source = {"task": sources.get(args.task), "dataset": _from_hub, "train_file": _from_files}[kind](args)
    check_test_set(source.splits, args.test_share, args.task or args.dataset or args.train_file)
    if not source.has_tokens:
        # Tokens were generated or published whole, and so were the texts of tasks.
        where = {name: f"the {name} set" for name in source.splits} | source.files
        problems = empty_texts(source.splits, source.columns, where) if args.task is None else []
        columns = [source.label_column] if isinstance(source.label_column, str) else source.label_column
        if not args.with_labels:
            refuse(problems)
            source.splits = source.splits.select_columns(list(source.columns))
        elif has_label_sets(source.splits["train"], columns, args.label_separator):
            source.splits = with_label_sets(source.splits, columns, args.label_separator, where, problems)
        else:
            source.splits = with_classes(source.splits, columns[0], where, problems)
    if args.classes is not None:
        source.splits = _of_classes(source.splits, args.classes)
    if args.name is not None:
        source.described["name"] = args.name
    return source


def word_tokenizer(words: Iterable[str], pad_token: str | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer of words between blanks, the n-th word being token n. It raises at any other word."""
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad_token, model_input_names=["input_ids", "attention_mask"]
    )


def listops_tokenizer() -> PreTrainedTokenizerFast:
    """`[MAX 4 3 ]` to tokens of `LISTOPS_VOCABULARY`."""
    return word_tokenizer(LISTOPS_VOCABULARY, pad_token=LISTOPS_VOCABULARY[0])


def _of_pixels(splits: DatasetDict, name: str, source: str, **described: str) -> TextSource:
    """Images as grey values, which a text writes as numbers row by row: `0 255 12 ...`. There is no padding."""
    described = {"name": name, "source": source, **described}
    return TextSource(splits, ("input_ids",), described, word_tokenizer(map(str, range(256))))


def _listops(args: TextDataArguments) -> TextSource:
    lite = args.task == "listops-lite"
    spec, sizes = (LISTOPS_LITE, (10_000, 1_000, 1_000)) if lite else (LISTOPS, (96_000, 2_000, 2_000))
    if args.data_folder is not None:
        splits, source = load_listops_files(args.data_folder), "Long Range Arena, a local folder"
    else:
        splits = load_listops(spec, _sizes(args, sizes), args.subset_seed)
        source = (
            f"generated, seed {args.subset_seed}: depth {spec.max_depth}, up to {spec.max_arguments} arguments, "
            f"length between {spec.min_length} and {spec.max_length}"
        )
    described = {"name": args.task, "source": source}
    return TextSource(splits, ("input_ids",), described, listops_tokenizer(), spec.max_length - 1)


def _pathfinder(args: TextDataArguments) -> TextSource:
    if args.data_folder is not None:
        splits = load_pathfinder_images(args.data_folder, args.subset_seed)
        source = f"Long Range Arena, a local folder {Path(args.data_folder).name}"
    else:
        splits = load_pathfinder(sizes=_sizes(args, (160_000, 20_000, 20_000)), seed=args.subset_seed)
        source = f"generated, seed {args.subset_seed}, after Long Range Arena: contours of 14 dashes"
    return _of_pixels(splits, "pathfinder32", source)


def _image(args: TextDataArguments) -> TextSource:
    name, hub_id = "cifar10-grey", "uoft-cs/cifar10"
    if args.data_folder is not None:
        return _of_pixels(load_cifar10(args.data_folder), name, "CIFAR-10, a local folder")
    images = load_dataset(hub_id)
    features = Features({"input_ids": List(Value("uint8"), length=1024), "labels": images["train"].features["label"]})
    splits = images.map(_grey, remove_columns=images["train"].column_names, features=features)
    return _of_pixels(splits, name, f"{hub_id} on the hub", hub_id=hub_id)


def _grey(example: dict[str, Any]) -> dict[str, Any]:
    return {"input_ids": np.asarray(example["img"].convert("L")).ravel(), "labels": example["label"]}


def _text(args: TextDataArguments) -> TextSource:
    described = {"name": "imdb", "source": "Large Movie Review Dataset, a local folder"}
    if args.data_folder is not None:
        splits = load_imdb(args.data_folder)
    else:
        described |= {"source": "stanfordnlp/imdb on the hub", "hub_id": "stanfordnlp/imdb"}
        splits = load_splits("stanfordnlp/imdb").rename_column("label", "labels")
    return TextSource(splits, ("text",), described, max_tokens=4000)


def _retrieval(args: TextDataArguments) -> TextSource:
    if args.data_folder is None:
        raise ValueError("`data_folder` must name Long Range Arena's `tsv_data` for the task retrieval, got None.")
    described = {"name": "aan", "source": "ACL Anthology Network of Long Range Arena, a local folder"}
    return TextSource(load_retrieval(args.data_folder), ("text1", "text2"), described, max_tokens=4000)


_SOURCES: dict[str, Loader] = {
    "listops": _listops,
    "listops-lite": _listops,
    "text": _text,
    "retrieval": _retrieval,
    "image": _image,
    "pathfinder": _pathfinder,
}


def _sizes(args: TextDataArguments, default: tuple[int, int, int]) -> tuple[int, int, int]:
    asked = (args.train_size, args.validation_size, args.test_size)
    return tuple(size or usual for size, usual in zip(asked, default, strict=True))


def _from_hub(args: TextDataArguments) -> TextSource:
    splits = load_splits(args.dataset, args.dataset_config, revision=args.revision, test_split=args.test_split)
    return _from_columns(args, splits, described(args.dataset, args.dataset_config, args.revision), {})


def _from_files(args: TextDataArguments) -> TextSource:
    files = {"train": args.train_file, "validation": args.validation_file, "test": args.test_file}
    files = {split: file for split, file in files.items() if file is not None}
    suffixes = {Path(file).suffix for file in files.values()}
    if len(suffixes) != 1 or not suffixes <= _READERS.keys():
        raise ValueError(f"files must all end in one of {', '.join(_READERS)}, got {', '.join(sorted(suffixes))}.")
    suffix = suffixes.pop()
    options = {"sep": "\t"} if suffix == ".tsv" else {}
    if is_table := _READERS[suffix] == "csv":
        # pandas would take texts of digits for numbers, and words such as None and NA for nothing.
        converters = dict.fromkeys(_text_columns(args), str)
        options |= {"converters": converters, "keep_default_na": False, "na_values": [""]}
    splits = DatasetDict()
    for split, file in files.items():
        splits[split] = read_splits(file, _READERS[suffix], data_files={split: file}, split=split, **options)
        if is_table:
            wanted = (*_text_columns(args), *(args.label_column or LABEL_NAMES))
            _check_header(file, splits[split].column_names, wanted)
    return _from_columns(args, splits, {"name": data_name(args.train_file), "source": "local files"}, files)


def _check_header(file: str, names: list[str], wanted: tuple[str, ...]) -> None:
    """pandas numbers columns of one name, and takes the first for an index where the header lacks a name."""
    if "__index_level_0__" in names:
        raise ValueError(f"{file} has more cells in its rows than names in its header; put quotes around commas.")
    if twice := [name for name in wanted if f"{name}.1" in names]:
        raise ValueError(f"{file} has several columns {twice[0]!r}; name each once.")


def _text_columns(args: TextDataArguments) -> tuple[str, ...]:
    return (args.text_column,) if args.text_pair_column is None else (args.text_column, args.text_pair_column)


def _from_columns(
    args: TextDataArguments, splits: DatasetDict, described: dict[str, Any], files: dict[str, str]
) -> TextSource:
    texts, labels = _text_columns(args), args.label_column if args.with_labels else []
    if labels is None:
        labels = next(([name] for name in LABEL_NAMES if name in splits["train"].column_names), ["label"])
    if len({*texts, *labels}) < len(texts) + len(labels):
        named = ", ".join((*texts, *labels))
        raise ValueError(f"`text_column`, `text_pair_column` and `label_column` must differ, got {named}.")
    flags = dict(zip(texts, ("text_column", "text_pair_column"), strict=False)) | dict.fromkeys(labels, "label_column")
    problems = []
    for name, split in splits.items():
        place = files.get(name, f"the {name} set of {described['source']}")
        for flag in dict.fromkeys(flags.values()):
            missing = [repr(one) for one in flags if flags[one] == flag and one not in split.column_names]
            if missing:
                problems.append(
                    f"{place} has no column {', '.join(missing)}; it has {', '.join(split.column_names)}: name the "
                    f"one to take by `--{flag}`"
                )
    refuse(problems)
    return TextSource(splits, texts, described, label_column=labels, files=files)


def _of_classes(splits: DatasetDict, classes: list[str]) -> DatasetDict:
    labels = splits["train"].features["labels"]
    names = class_names(labels)
    if unknown := sorted(set(classes) - set(names)):
        raise ValueError(f"`classes` must be of {', '.join(names)}, got {', '.join(unknown)}.")
    at_least = 2 if isinstance(labels, ClassLabel) else 1
    if len(classes) < at_least or len(set(classes)) < len(classes):
        raise ValueError(f"`classes` must name at least two classes and each once, got {', '.join(classes)}.")
    if not isinstance(labels, ClassLabel):
        return of_labels(splits, classes)
    places = {names.index(name): place for place, name in enumerate(classes)}
    kept = splits.filter(lambda label: label in places, input_columns="labels")
    if empty := [name for name, split in kept.items() if not len(split)]:
        raise ValueError(f"`classes` must leave examples in each split, got none in {' and '.join(empty)}.")
    kept = kept.map(lambda label: {"labels": places[label]}, input_columns="labels")
    return kept.cast_column("labels", ClassLabel(names=classes))
