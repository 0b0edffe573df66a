"""From flags to series: a task of the UEA archive, files, or a data set of the Hub, and where they come from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from datasets import DatasetDict
from transformers.hf_argparser import HfArg

from hf_primaldual.data import SeriesLayout, describe_source
from hf_primaldual.data.files import sha256_of
from hf_primaldual.data.sources import check_test_set, data_name, described, load_splits
from hf_primaldual.data.uea import uea_files
from hf_primaldual.data.windows import TOO_LONG, check_window_settings

from .settings import refuse_below_one
from .sources import SourceArguments, refuse_given

_OF_THE_HUB = ("dataset_config", "revision", "test_split")
# What may differ from the defaults, and then is told by the card and shared by a run that is resumed.
_READING = (
    *(field.name for field in fields(SeriesLayout)), "test_share", "window", "stride", "too_long", "class_weights",
)  # fmt: skip


@dataclass
class SeriesDataArguments(SourceArguments):
    """The data: series with their classes."""

    dataset: str | None = HfArg(
        default=None,
        help="Name of a task of the UEA archive; or a folder, or owner/name on the Hub. Default: JapaneseVowels.",
    )
    data_folder: str | None = HfArg(
        default=None, help="Folder of the archive's .ts files. Default: in the installed aeon wheel."
    )
    train_file: str | None = HfArg(
        default=None, help="Or your own: a .csv, .tsv, .parquet, .jsonl, .npz, .npy or .ts file."
    )
    validation_file: str | None = HfArg(default=None, help="Default: cut out of the training series.")
    test_file: str | None = HfArg(default=None, help="The file that is read once a run; or see --test_share.")
    validation_share: float = HfArg(
        default=0.2, help="Share of the training series that is cut out by class or group."
    )
    id_column: str | None = HfArg(default=None, help="Of a long table, one row a step: the column of series' names.")
    time_column: str | None = HfArg(default=None, help="Of a long table: what orders the steps; numbers or dates.")
    value_columns: list[str] | None = HfArg(
        default=None, help="The channels. Default: the columns named for nothing else."
    )
    label_column: str | None = HfArg(
        default=None, help="Column of the classes. Default: labels, label, y, class or target."
    )
    group_column: str | None = HfArg(default=None, help="Column of groups, such as subjects, that no cut divides.")
    channels_first: bool = HfArg(default=False, help="Series are (channels, time), as aeon and sktime have them.")
    rows_are: str | None = HfArg(default=None, help="What rows of a flat table are: steps of one series, or series.")
    window: int | None = HfArg(default=None, help="Cut series into windows of so many steps; they vote on a series.")
    stride: int | None = HfArg(default=None, help="Steps from one window to the next. Default: the window.")
    max_steps_per_series: int | None = HfArg(default=None, help="Positions. Default: those of the longest series.")
    too_long: str = HfArg(default="refuse", help="What becomes of series with more steps: refuse, cut or window.")
    missing_values: str = HfArg(default="error", help="error, or mean: the channel's training mean.")
    class_weights: str | None = HfArg(default=None, help="balanced: each class counts alike in the loss.")

    def __post_init__(self):
        super().__post_init__()
        refuse_below_one(self, "max_steps_per_series", "window", "stride")
        for name, known in (("missing_values", ("error", "mean")), ("too_long", TOO_LONG)):
            if getattr(self, name) not in known:
                raise ValueError(f"`{name}` must be {_either(known)}, got {getattr(self, name)!r}.")
        if self.class_weights not in (None, "balanced"):
            raise ValueError(f"`class_weights` must be balanced or left out, got {self.class_weights!r}.")
        if self.too_long != "refuse" and self.max_steps_per_series is None:
            raise ValueError(
                f"`too_long` = {self.too_long!r} needs `max_steps_per_series`, the positions of the model."
            )
        check_window_settings(self.window, self.stride, self.max_steps_per_series, self.too_long)
        if self.dataset is not None and self.train_file is not None:
            raise ValueError(
                f"one of `dataset` and `train_file` may be given, got {self.dataset!r} and {self.train_file!r}."
            )
        if self.train_file is None:
            refuse_given(self, ("validation_file", "test_file"), "`train_file`")
        else:
            refuse_given(self, (*_OF_THE_HUB, "data_folder"), "`dataset`")
        SeriesLayout(**self.layout)
        if self.dataset is None and self.train_file is None:
            self.dataset = "JapaneseVowels"

    @property
    def layout(self) -> dict[str, Any]:
        """The fields of [`SeriesLayout`]."""
        return {field.name: getattr(self, field.name) for field in fields(SeriesLayout)}

    @property
    def settings(self) -> dict[str, Any]:
        """What was chosen of how the series are read."""
        return {name: getattr(self, name) for name in _READING if getattr(self, name) not in (None, False, "refuse")}


Loader = Callable[[SeriesDataArguments], tuple[Any, dict[str, Any]]]


def series_source(
    args: SeriesDataArguments, sources: Mapping[str, Loader] | None = None
) -> tuple[Any, dict[str, Any]]:
    """
    The splits that the arguments name, a mapping of them in whatever form `series_dataset` reads, and where they come
    from. `sources` are more data sets than those of the archive, by the names that `--dataset` has for them.
    """
    if args.train_file is not None:
        splits, source = _from_files(args)
    elif sources and args.dataset in sources:
        splits, source = sources[args.dataset](args)
    elif args.data_folder is None and ("/" in args.dataset or Path(args.dataset).is_dir()):
        splits, source = _from_hub(args)
    else:
        refuse_given(args, _OF_THE_HUB, "a data set of the Hub")
        splits, source = uea_files(args.dataset, args.data_folder), describe_source(args.dataset, args.data_folder)
    check_test_set(splits, args.test_share, args.train_file or args.dataset)
    return splits, source | ({"name": args.name} if args.name else {})


def _from_files(args: SeriesDataArguments) -> tuple[dict[str, Path], dict[str, Any]]:
    files = {split: getattr(args, f"{split}_file") for split in ("train", "validation", "test")}
    files = {split: Path(file) for split, file in files.items() if file is not None}
    if absent := [f"`{split}_file` {file}" for split, file in files.items() if not file.is_file()]:
        raise FileNotFoundError(f"there is no file {' and none '.join(absent)}.")
    digests = {split: sha256_of(file) for split, file in files.items()}
    return files, {"name": data_name(args.train_file), "source": "local files", "sha256": digests, "licence": None}


def _from_hub(args: SeriesDataArguments) -> tuple[DatasetDict, dict[str, Any]]:
    folder = Path(args.dataset)
    # Of a data set of the Hub the revision says which it is.
    digests = {
        str(path.relative_to(folder)): sha256_of(path) for path in sorted(folder.rglob("*.*")) if path.is_file()
    }
    source = {**described(args.dataset, args.dataset_config, args.revision), "sha256": digests, "licence": None}
    return load_splits(args.dataset, args.dataset_config, revision=args.revision, test_split=args.test_split), source


def _either(names: tuple[str, ...]) -> str:
    return " or ".join((", ".join(names[:-1]), names[-1]))
