"""Tables of Markdown, and text between two comments of a document: what every page with figures is written by."""

import re
from collections.abc import Iterable, Sequence

_RULES = {"l": ":---", "r": "---:", "c": ":---:", "-": "---"}


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str | None = None) -> str:
    """
    A table of Markdown, without a newline at its end. In a cell, `|` is escaped and a newline becomes a space. `align`
    has a letter for each column: `l`, `r`, `c`, or `-` for the reader's default, which all have without it.
    """
    align = "-" * len(header) if align is None else align
    lines = []
    for cells in (header, align, *rows):
        if len(cells) != len(header):
            raise ValueError(f"a table with the columns {', '.join(header)} needs {len(header)} cells, got {cells!r}")
        escaped = [str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells]
        lines.append(f"| {' | '.join(escaped)} |")
    lines[1] = f"|{'|'.join(_RULES[letter] for letter in align)}|"
    return "\n".join(lines)


def replace_between(text: str, name: str, content: str) -> str:
    """
    The text with `content` between the comment `<!-- NAME -->` and the next one that begins with `end`, each on a line
    of its own; `ValueError` where there is no such pair, or more than one.
    """
    # No other comment between the two: where the closing one is lost, the next section must not be eaten.
    pattern = rf"(?<=<!-- {re.escape(name)} -->\n)((?!<!-- ).)*(?=<!-- end\b)"
    replaced, found = re.subn(pattern, lambda _: f"{content.rstrip()}\n", text, flags=re.DOTALL)
    if found != 1:
        raise ValueError(f"the text must have `<!-- {name} -->` and `<!-- end of {name} -->` once, it has {found}")
    return replaced
