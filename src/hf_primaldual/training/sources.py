"""The flags that name where texts and images come from, a data set of the Hub or a folder of the same layout."""

from collections.abc import Iterable
from dataclasses import dataclass

from transformers.hf_argparser import HfArg

from hf_primaldual.data.sources import check_name


@dataclass
class SourceArguments:
    """Splits of a data set, what is cut out where there are none, and what the data are called."""

    dataset: str | None = HfArg(default=None, help="Id of a data set on the Hub, or its local folder.")
    dataset_config: str | None = HfArg(default=None, help="Name of one of its configurations.")
    revision: str | None = HfArg(default=None, help="Revision of a data set of the Hub.")
    test_split: str = HfArg(default="test", help="test, or validation where the labels of test are not published.")
    test_share: float | None = HfArg(default=None, help="Share of the training set that is the test set, if none is.")
    validation_share: float = HfArg(default=0.1, help="Share of the training set that is cut out by class.")
    name: str | None = HfArg(default=None, help="Name in results and card. Default: of the data set, folder or file.")

    def __post_init__(self):
        check_name(self.name)
        if self.test_split not in ("test", "validation"):
            raise ValueError(f"`test_split` must be test or validation, got {self.test_split!r}.")


def refuse_given(args: SourceArguments, names: Iterable[str], where: str) -> None:
    """Raises a `ValueError` for a flag that is given and means nothing here, only with `where`."""
    for name in names:
        if getattr(args, name) != type(args).__dataclass_fields__[name].default:
            raise ValueError(f"`{name}` goes with {where}, and means nothing here, got {getattr(args, name)!r}.")
