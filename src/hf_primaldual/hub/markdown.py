"""Tables of results and of Markdown, and text between two comments: what every page with figures is written by."""

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .results import LANGUAGE


def percent(mean: float, deviation: float | None = None, sign: str = "", digits: int = 2) -> str:
    """A share, or a mean of shares and its deviation over seeds, in percent."""
    shown = f"{100 * mean:{sign}.{digits}f}"
    return shown if deviation is None else f"{shown} ± {100 * deviation:.{digits}f}"


def perplexity(results: Mapping[str, Any], name: str, split: str = "test") -> str:
    """Of a language model: e to the loss, its mean over the seeds and the deviation; "" where there is no such set."""
    losses = [run[f"{split}_loss"] for run in results["runs"] if run["attention"] == name]
    if None in losses:
        return ""
    values = [math.exp(loss) for loss in losses]
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else " (one seed)"
    return f"{statistics.fmean(values):.3f}{deviation}"


def comparison_rows(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """The table of a comparison, a row for the baseline and for each attention; costs are at the data's own length."""
    rows, ratios = [], results["efficiency"][0]["ratios"]
    for name in (results["baseline"], *results["attentions"]):
        summary, paired = results["summary"][name], results["comparisons"].get(name)
        row = {
            "attention": f"`{name}`",
            **({"test perplexity": perplexity(results, name)} if results["task"] == LANGUAGE else {}),
            "test accuracy, %": percent(summary["test_accuracy_mean"], summary["test_accuracy_std"]),
            **dict.fromkeys(("difference, points", "p, adjusted", "more than noise"), ""),
            **dict.fromkeys(("FLOPs", "time"), "1"),
        }
        if paired is not None:
            p_value, verdict = paired["p_value_adjusted"], "better" if paired["difference_mean"] > 0 else "worse"
            row |= {
                "difference, points": percent(paired["difference_mean"], paired["difference_std"], "+"),
                "p, adjusted": "no test" if p_value is None else f"{p_value:.3f}",
                "more than noise": verdict if paired["significant"] else "no",
                "FLOPs": f"{ratios[name]['flops']:.2f}",
                "time": f"{ratios[name]['train_step']:.2f}",
            }
        rows.append(row)
    return rows


def pace(ratio: float, ours: Mapping[str, float], theirs: Mapping[str, float]) -> str:
    """
    How fast something is compared with something else, by the ratio of their times and the quartiles of each; neither
    slower nor faster where these overlap.
    """
    shown = f"{ratio:.2f}"
    if float(shown) == 1:
        return "as fast"
    if ours["q1"] <= theirs["q3"] and theirs["q1"] <= ours["q3"]:
        return f"neither slower nor faster beyond what timings vary by ({shown} times the time, quartiles overlap)"
    return f"{'slower' if ratio > 1 else 'faster'} ({shown} times the time)"


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
