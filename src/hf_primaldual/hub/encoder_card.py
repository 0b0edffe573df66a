"""What is in the card of an encoder without a head besides its results (`encoder_results`)."""

from collections.abc import Iterator, Mapping
from typing import Any

from .markdown import markdown_table, pace, percent

COSINE = "cosine_similarity"
# Of an accuracy: what is lost beyond it is said to be a loss.
_TOLERATED = 0.01


def figures(results: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Kind, name and value of what the card's metadata hold."""
    found = [("parameters", "Parameters", results["parameters"])]
    for one in results["evaluations"]:
        at = size_of(one)
        found += [
            ("accuracy", f"Test accuracy, {probe['kind']}, {at}", probe["converted"]["test"])
            for probe in one["probes"]
            if probe["converted"]["test"] is not None
        ]
        if one["cosine"] is not None:
            found.append((COSINE, f"Mean cosine to the original's embeddings, {at}", one["cosine"]))
    for one in results["efficiency"]:
        at, cost = f"batch {one['batch']}, {size_of(one)}", one["converted"]
        found += [
            ("flops", f"Forward FLOPs, {at}", cost["forward_flops"]),
            ("latency", f"Median inference time in ms, {at}", cost["inference_ms"]["median"]),
        ]
    return found


def view(results: Mapping[str, Any]) -> dict[str, Any]:
    """What the template prints besides the results themselves."""
    scales = results["head_scales"]
    heads = range(1, len(scales[0]) + 1) if scales else ()
    rows = [[layer, *factors] for layer, factors in enumerate(scales or (), 1)]
    return {
        "base_model": None,
        "calibration": None,
        "distillation": None,
        **results,
        "factors": markdown_table(["layer", *(f"head {head}" for head in heads)], rows) if scales else None,
        "size_of": size_of,
        "time_ratio": time_ratio,
        "losses": list(losses(results)),
        "paces": list(paces(results)),
    }


def size_of(one: Mapping[str, Any]) -> str:
    tokens = f"{one['tokens']:,} tokens"
    return f"{' x '.join(map(str, one['image_size']))} pixels ({tokens})" if "image_size" in one else tokens


def time_ratio(one: Mapping[str, Any]) -> float:
    return one["converted"]["inference_ms"]["median"] / one["original"]["inference_ms"]["median"]


def losses(results: Mapping[str, Any]) -> Iterator[str]:
    """What each accuracy lost or gained, a sentence each."""
    for one in results["evaluations"]:
        for probe in one["probes"]:
            split = next((name for name in ("test", "validation") if probe["converted"][name] is not None), None)
            if split is None or probe["original"][split] is None:
                continue
            # 0.7 - 0.69 is a point, and no more.
            lost = round(probe["original"][split] - probe["converted"][split], 12)
            side = f"{percent(abs(lost))} points {'below' if lost > 0 else 'above'}" if lost else "level with"
            said = f"At {size_of(one)}, by {probe['kind']}, it is {side} the original on the {split} set"
            yield f"**{said}: it loses more than a point there.**" if lost > _TOLERATED else f"{said}."


def paces(results: Mapping[str, Any]) -> Iterator[str]:
    """How fast it is compared with the original, a sentence for each size."""
    for one in results["efficiency"]:
        found = pace(time_ratio(one), *(one[which]["inference_ms"] for which in ("converted", "original")))
        said = f"At {size_of(one)} and batch {one['batch']}, compared with the original on sdpa, it is {found}"
        yield f"{said}." if found.startswith("faster") else f"**{said}: the conversion does not pay there.**"
