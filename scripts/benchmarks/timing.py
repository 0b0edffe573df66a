"""What the benchmarks share: calls timed in turn as the rows of a table."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hf_primaldual.measure import if_it_fits, interleaved


def time_rows(
    calls: Mapping[str, Callable[[], Any]], baseline: str, rounds: int, about: dict[str, Any], named: str = "attention"
) -> list[dict[str, Any]]:
    """
    A row for each call: what it is about, its name under `named`, milliseconds, and two ratios to the baseline's time,
    of medians and median of those round by round; or why it does not fit into memory. Prints them.
    """
    reasons = {name: if_it_fits(call).does_not_fit for name, call in calls.items()}
    fitting = {name: call for name, call in calls.items() if reasons[name] is None}
    timings = interleaved(fitting, rounds=rounds) if fitting else {}
    theirs, rows = timings.get(baseline), []
    for name in calls:
        row = {**about, named: name}
        text = [f"{key} {value}" for key, value in row.items()]
        if name not in timings:
            row["does_not_fit"] = reasons[name]
            text.append(f"does not fit: {reasons[name]}")
        else:
            ours = timings[name]
            row |= {"ms": ours.milliseconds(), "ratio": None, "median_of_ratios": None}
            text.append("{median:.2f} ms ({q1:.2f} to {q3:.2f})".format(**row["ms"]))
            if theirs is not None:
                row["ratio"] = ours.median / theirs.median
                row["median_of_ratios"] = float(np.median(np.divide(ours.samples, theirs.samples)))
                text.append(f"{row['ratio']:.3f} of the baseline")
        print("  ".join(text), flush=True)
        rows.append(row)
    return rows
