"""ListOps of Long Range Arena (Tay et al., 2021): nested operations on digits, generated or read from its files.

`[MAX 4 [MIN 2 3 ] 1 ]` is worth 4. An expression is drawn from its root, at depth 1: a node above `max_depth` is an
operator with probability 0.25 and else a uniform digit, at `max_depth` always a digit. An operator has 2 to
`max_arguments` arguments. Its `]` is kept: without it, as some older pipelines have it, the value is ambiguous.

Labels are uneven: in 20000 expressions of seed 0 the most frequent value, 0, has a share of 16.8 % in `LISTOPS` and of
11.6 % in `LISTOPS_LITE`.
"""

import csv
import random
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike

from datasets import ClassLabel, DatasetDict, Features, List, Value

from .files import published, read_files
from .generated import load_generated

LISTOPS_VOCABULARY = ("[PAD]", "[MIN", "[MAX", "[MED", "[SM", "]", *"0123456789")
"""The symbol of each token: 0 is padding, 1 to 4 the operators, 5 the end of one, 6 to 15 the digits."""

_IDS = {symbol: index for index, symbol in enumerate(LISTOPS_VOCABULARY)}
_END, _ZERO = _IDS["]"], _IDS["0"]
_OPERATORS: dict[int, Callable[[list[int]], int]] = {
    _IDS["[MIN"]: min,
    _IDS["[MAX"]: max,
    _IDS["[MED"]: lambda values: int(statistics.median(values)),
    _IDS["[SM"]: lambda values: sum(values) % 10,
}
_OPERATOR_SHARE = 0.25
_FILES = {"train": "basic_train.tsv", "validation": "basic_val.tsv", "test": "basic_test.tsv"}
_FEATURES = {"input_ids": List(Value("uint8")), "labels": ClassLabel(names=list(LISTOPS_VOCABULARY[_ZERO:]))}


@dataclass(frozen=True)
class ListOpsSpec:
    """
    Which expressions are kept: the depth and the arguments of their trees, and bounds that their lengths in tokens,
    two for an operator and one for a digit, lie strictly between.
    """

    max_depth: int = 10
    max_arguments: int = 10
    min_length: int = 500
    max_length: int = 2000

    def __post_init__(self) -> None:
        if min(self.max_depth, self.max_arguments) < 2:
            raise ValueError(
                f"`max_depth` and `max_arguments` must be at least 2, got {self.max_depth} and {self.max_arguments}"
            )
        if not 0 <= self.min_length < self.max_length - 1:
            raise ValueError(
                "a length must fit strictly between `min_length` (at least 0) and `max_length`, "
                f"got {self.min_length} and {self.max_length}"
            )


LISTOPS = ListOpsSpec()
LISTOPS_LITE = ListOpsSpec(5, 5, 10, 100)
"""Short expressions, a task for one core."""


def load_listops(
    spec: ListOpsSpec = LISTOPS, sizes: tuple[int, int, int] = (96_000, 2_000, 2_000), seed: int = 0
) -> DatasetDict:
    """
    Generate ListOps, by default as large as in Long Range Arena: splits of these sizes that share nothing, with the
    columns `input_ids`, tokens of `LISTOPS_VOCABULARY`, and `labels`, a digit. See `load_generated`.
    """
    return load_generated(draw_listops, spec, sizes, seed, Features(_FEATURES))


def load_listops_files(folder: str | PathLike) -> DatasetDict:
    """
    Read the released files, `basic_train.tsv`, `basic_val.tsv` and `basic_test.tsv`, as `load_listops` returns them.
    """
    files = {split: [(published(folder, name),)] for split, name in _FILES.items()}
    return read_files(read_listops, _FEATURES, files)


def read_listops(path: str | PathLike) -> Iterator[dict]:
    """
    Read examples of a released file: columns `Source` and `Target`, separated by a tab. A source is written as a
    binary tree, `( ( ( [MAX 4 ) 3 ) ] )`, whose parentheses add nothing and are dropped.
    """
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t")
        header = next(rows, None)
        if header != ["Source", "Target"]:
            raise ValueError(f"{path}:1: the header is {header}, expected Source and Target, separated by a tab")
        for row in rows:
            where = f"{path}:{rows.line_num}"
            if len(row) != 2:
                raise ValueError(f"{where}: {len(row)} columns, expected an expression and its value")
            symbols = [symbol for symbol in row[0].split() if symbol not in "()"]
            unknown = sorted({symbol for symbol in symbols if _IDS.get(symbol, 0) == 0})
            if unknown or not symbols:
                raise ValueError(f"{where}: {', '.join(unknown) or 'nothing'}, expected symbols of ListOps")
            if row[1] not in LISTOPS_VOCABULARY[_ZERO:]:
                raise ValueError(f"{where}: the value is {row[1]!r}, expected a digit")
            yield {"input_ids": [_IDS[symbol] for symbol in symbols], "labels": int(row[1])}


def _value(input_ids: list[int]) -> int:
    """The value, 0 to 9, of a whole expression. The median of an even number of values is cut to a whole one."""
    # One list of values for each operator that is still open, above them the result.
    stack: list[list[int]] = [[]]
    operators: list[int] = []
    for token in input_ids:
        if token in _OPERATORS:
            operators.append(token)
            stack.append([])
        elif token == _END:
            values = stack.pop()
            stack[-1].append(_OPERATORS[operators.pop()](values))
        else:
            stack[-1].append(token - _ZERO)
    return stack[0][0]


def draw_listops(spec: ListOpsSpec, rng: random.Random) -> dict | None:
    """An expression with its value, or None if its length is out of bounds; one that grows too long is broken off."""
    tokens = []

    def node(depth: int) -> None:
        if depth == spec.max_depth or rng.random() >= _OPERATOR_SHARE:
            tokens.append(_ZERO + int(10 * rng.random()))
        elif len(tokens) < spec.max_length:
            tokens.append(1 + int(4 * rng.random()))
            for _ in range(2 + int((spec.max_arguments - 1) * rng.random())):
                node(depth + 1)
            tokens.append(_END)

    node(1)
    if not spec.min_length < len(tokens) < spec.max_length:
        return None
    return {"input_ids": tokens, "labels": _value(tokens)}
