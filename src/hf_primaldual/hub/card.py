"""
Model cards, rendered from the results file of a run, but for what a person writes: the text between the markers of
`OWN_WORDS`, and in the metadata further tags, data sets and keys, such as `language`. Rendering keeps it.
"""

import json
import math
import os
import re
import statistics
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import zip_longest
from pathlib import Path
from typing import Any

import jinja2
import yaml
from huggingface_hub import EvalResult, ModelCardData

from ..modeling.presets_primal_dual import choices_of
from . import encoder_card
from .encoder_results import ENCODER_TASKS
from .markdown import pace, percent, perplexity
from .results import LANGUAGE, SIGNIFICANCE_LEVEL, TASKS, load_results, names_of, validate_results, write_atomically

OWN_WORDS = re.compile(r"<!-- own words: (?P<section>.*?) -->\n(?P<words>.*?)<!-- end of own words -->", re.DOTALL)
# Metadata that the results alone give: of an older card they may be out of date.
_OF_RESULTS = {"base_model", "library_name", "license", "model-index", "pipeline_tag"}
# Tags that a card has of its results, whatever they were.
_OWN_TAGS = re.compile("|".join(("primal-dual-attention", r"attention-[\w.-]+", *TASKS, *ENCODER_TASKS)))
# Lists to which a person may add.
_LISTS = ("datasets", "tags")
# One example and several, in words.
_EXAMPLES = {
    "time-series-classification": ("series", "series"),
    "text-classification": ("text", "texts"),
    "image-classification": ("image", "images"),
    "document-matching": ("document", "pairs of documents"),
    LANGUAGE: ("text", "blocks of text"),
    "feature-extraction": ("text", "texts"),
    "image-feature-extraction": ("image", "images"),
}
_NONE = "not measured"
# The Hub's own tasks, which a card names by `pipeline_tag`; any other is a tag.
_PIPELINES = ("text-classification", "image-classification", LANGUAGE, *ENCODER_TASKS)
# Measured on the test set; other figures are of any input.
_OF_THE_TEST_SET = ("accuracy", "perplexity", encoder_card.COSINE)


def render_card(results: Mapping[str, Any], *cards: str) -> str:
    """
    The model card of a results dictionary (`hub.results`), metadata included: same results, same text. Of earlier
    `cards` a person's own words and metadata are kept, of the last that has some.

    Raises:
        ValueError: The results do not follow the schema, or a section of own words in a card has lost a marker.
    """
    validate_results(results)
    metadata = _with_own(_metadata(results), [_split(card)[0] for card in cards])
    name = "encoder_card_template.md" if results["task"] in ENCODER_TASKS else "card_template.md"
    template = _ENVIRONMENT.get_template(name)
    text = template.render(card_data=metadata.to_yaml(), **_view(results)).rstrip("\n") + "\n"
    # What a part that is left out leaves behind.
    text = re.sub(r"\n{3,}", "\n\n", text)

    def keep(found: re.Match) -> str:
        section, words = found["section"], found["words"]
        for card in cards:
            written = {one["section"]: one["words"] for one in OWN_WORDS.finditer(card)}
            if card.count(f"<!-- own words: {section} -->") > 1:
                raise ValueError(f"the card has the section {section!r} more than once; put all its words into one")
            # Of a card with only some of the markers a person's words would get lost.
            if section not in written and "own words" in card:
                raise ValueError(
                    f"the card has lost a marker of the section {section!r}; put its words between "
                    f"`<!-- own words: {section} -->` and `<!-- end of own words -->`, each on a line of its own"
                )
            if written.get(section, found["words"]) != found["words"]:
                words = written[section]
        return f"<!-- own words: {section} -->\n{words}<!-- end of own words -->"

    return OWN_WORDS.sub(keep, text)


def check_card(results: Mapping[str, Any], card: str) -> None:
    """
    Raises `ValueError` where a card says something else than its results, outside of the parts that are a person's
    own; the part is named, and how to render it again.
    """
    (front, body), (wanted, wanted_body) = _split(card), _split(render_card(results, card))
    for metadata in (front, wanted):
        metadata.update((key, sorted(map(str, _list(metadata.get(key))))) for key in _LISTS)
    differing = sorted(str(key) for key in {*front, *wanted} if front.get(key) != wanted.get(key))
    wrong, place = f"{differing[0]!r} in its metadata differs" if differing else None, "the beginning"
    for line, wanted_line in zip_longest(body.splitlines(), wanted_body.splitlines(), fillvalue=""):
        if wrong is None and line != wanted_line:
            wrong = f"in {place} it has {line!r} for {wanted_line!r}"
        if line.startswith("#"):
            place = repr(line.lstrip("# "))
    if wrong is not None:
        raise ValueError(
            f"README.md is not the card of its results.json: {wrong}; write the card again with "
            "`hf_primaldual.hub.card.write_card(folder)`. It keeps further tags, data sets and keys, and your own "
            "words between the comments `<!-- own words: ... -->` and `<!-- end of own words -->`"
        )


def write_card(folder: str | os.PathLike) -> Path:
    """
    Renders a folder's `results.json` into its `README.md` and returns its path. What a person wrote into the sections
    for it, or added to the metadata of a card that is there already, is kept. If anything fails, that card is left.
    """
    folder = Path(folder)
    results = load_results(folder / "results.json")
    missing = [name for name in results.get("plots", ()) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}, which 'plots' of its results names")
    card = folder / "README.md"
    write_atomically(card, render_card(results, card.read_text(encoding="utf-8") if card.is_file() else ""))
    return card


def _split(card: str) -> tuple[dict[str, Any], str]:
    """The metadata of a card as YAML has them, and what follows."""
    found = re.match(r"\ufeff?---\n(.*?)\n---\n", card, flags=re.DOTALL)
    try:
        metadata = yaml.safe_load(found[1]) if found else {}
    except yaml.YAMLError as error:
        raise ValueError(f"the metadata of the card are no YAML: {error}") from error
    if not isinstance(metadata, dict):
        raise ValueError("the metadata of the card are no keys with values")
    return metadata, card[found.end() :] if found else card


def _with_own(metadata: ModelCardData, cards: list[dict[str, Any]]) -> ModelCardData:
    """What the results give, and what a person added to it in the metadata of cards."""
    ours = metadata.to_dict()
    for card in cards:
        for key, value in card.items():
            if key in _LISTS:
                there = _list(getattr(metadata, key))
                new = [entry for entry in _list(value) if entry not in there and not _OWN_TAGS.fullmatch(str(entry))]
                setattr(metadata, key, [*there, *new] or None)
            elif key not in ours and key not in _OF_RESULTS:
                setattr(metadata, key, value)
    return metadata


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [] if value is None else [value]


def _metadata(results: Mapping[str, Any]) -> ModelCardData:
    attention, dataset, task = results["attention"], results["dataset"], results["task"]
    tags = ["primal-dual-attention", task, f"attention-{attention.replace('+', '-')}"]
    return ModelCardData(
        license=results["license"] or None,
        library_name="transformers",
        base_model=results.get("base_model"),
        datasets=[dataset["hub_id"]] if "hub_id" in dataset else None,
        pipeline_tag=task if task in _PIPELINES else None,
        tags=[tag for tag in tags if tag not in _PIPELINES],
        model_name=results["model_name"],
        eval_results=[_metric(results, *figure) for figure in _figures(results)] or None,
    )


def _metric(results: Mapping[str, Any], kind: str, name: str, value: float) -> EvalResult:
    dataset = results["dataset"]
    return EvalResult(
        task_type=results["task"],
        dataset_type=dataset.get("hub_id", dataset["name"].lower()),
        dataset_name=dataset["name"],
        dataset_split="test" if kind in _OF_THE_TEST_SET else None,
        metric_type=kind,
        metric_name=f"{name} (ours)",
        # 0.995 and not 0.9949999999999999.
        metric_value=float(f"{value:.6g}") if isinstance(value, float) else value,
    )


def _figures(results: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Kind, name and value: what was reached on the test set, and what it costs at each batch and length."""
    if results["task"] in ENCODER_TASKS:
        return encoder_card.figures(results)
    attention, released = results["attention"], _released(results)
    summary = results["summary"][attention]
    figures = []
    if released["test_accuracy"] is not None:
        figures = [("accuracy", f"Test accuracy, these weights, seed {released['seed']}", released["test_accuracy"])]
    if summary["seeds"] > 1 and summary["test_accuracy_mean"] is not None:
        mean = ("accuracy", f"Test accuracy, mean over {summary['seeds']} seeds", summary["test_accuracy_mean"])
        figures.insert(0, mean)
    if results["task"] == LANGUAGE and released["test_loss"] is not None:
        of_weights = f"Test perplexity, these weights, seed {released['seed']}"
        figures.append(("perplexity", of_weights, math.exp(released["test_loss"])))
    for point in results["efficiency"]:
        cost, at = point[attention], f"batch {point['batch']}, {point['tokens']} tokens"
        figures += [
            ("parameters", f"Parameters, {at}", cost["parameters"]),
            ("flops", f"Forward FLOPs, {at}", cost["forward_flops"]),
            ("memory", f"Peak memory of a training step in bytes, {at}", cost["peak_memory_bytes"]),
            ("latency", f"Median inference time in ms, {at}", cost["inference_ms"]["median"]),
            ("latency", f"Median training step time in ms, {at}", cost["train_step_ms"]["median"]),
        ]
    return figures


def _view(results: Mapping[str, Any]) -> dict[str, Any]:
    """What the template prints besides the results themselves."""
    is_encoder = results["task"] in ENCODER_TASKS
    example, examples = _EXAMPLES[results["task"]]
    longest = results["dataset"].get("length", [None])[-1]
    return {
        "plots": (),
        "trainer": None,
        "measured": None,
        **results,
        "address": results.get("repo_id", results["model_name"]),
        "own_transforms": _own_transforms([results["attention"]] if is_encoder else names_of(results)),
        "example": example,
        "examples": examples,
        "is_language": results["task"] == LANGUAGE,
        "counted": _counted,
        # The longest input that the model takes, in steps or tokens; images have none.
        "length_limit": results["settings"].get("max_position_embeddings", longest),
        **(encoder_card.view(results) if is_encoder else _comparison_view(results)),
    }


def _comparison_view(results: Mapping[str, Any]) -> dict[str, Any]:
    """Of a table of attentions that were trained."""
    comparisons, attention, baseline = (results[key] for key in ("comparisons", "attention", "baseline"))
    return {
        "names": names_of(results),
        "level": SIGNIFICANCE_LEVEL,
        "tested": sum(one["p_value"] is not None for one in comparisons.values()),
        "released": _released(results),
        "f1": _mean_f1(results["runs"]),
        "perplexity": lambda name, split: perplexity(results, name, split) or _NONE,
        "verdict": lambda name: _verdict(comparisons[name], name, baseline),
        "plus_minus": _plus_minus,
        "pace": lambda point, key: pace(
            point["ratios"][attention][key], *(point[name][f"{key}_ms"] for name in (attention, baseline))
        ),
    }


def _own_transforms(names: Sequence[str]) -> list[str]:
    """The transforms from outside of this package that attentions of these names have."""
    choices = [choices_of(name) for name in names]
    transforms = [each for one in choices if one is not None for each in one.transforms]
    return [name for name in dict.fromkeys(transforms) if "." in name]


def _mean_f1(runs: list[Mapping[str, Any]]) -> dict[str, float]:
    """The micro F1 on the test set by attention, where examples have several labels."""
    found: dict[str, list[float]] = {}
    for run in runs:
        if "test_f1" in run:
            found.setdefault(run["attention"], []).append(run["test_f1"])
    return {name: statistics.fmean(values) for name, values in found.items()}


def _released(results: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(run for run in results["runs"] if run["released"])


def _verdict(comparison: Mapping[str, Any], attention: str, baseline: str) -> str:
    """Whether the attention beats the baseline by more than noise, as the paired test has it, in one sentence."""
    mean, pairs = comparison["difference_mean"], comparison["pairs"]
    side = f"{percent(abs(mean))} points {'above' if mean > 0 else 'below'}" if mean else "level with"
    neither = f"`{attention}` neither beats `{baseline}` here nor loses to it: it is {side} it"
    if comparison["p_value"] is None:
        if pairs < 2:
            return f"`{attention}` is {side} `{baseline}` here, on too few seeds to tell a difference from noise."
        if not mean:
            return f"{neither} on each of {pairs} seeds."
        return (
            f"`{attention}` is {side} `{baseline}` here on each of {pairs} seeds alike: a difference without variance "
            "cannot be tested, so none is claimed."
        )
    shown = _p_value(comparison["p_value_adjusted"])
    evidence = f"(adjusted p {'' if shown.startswith('<') else '= '}{shown}, {pairs} pairs of seeds)"
    if not comparison["significant"]:
        return f"{neither}{', a difference that noise may explain' if mean else ''} {evidence}."
    verb = "beats" if mean > 0 else "loses to"
    return f"`{attention}` {verb} `{baseline}` here: it is {side} it, more than noise explains {evidence}."


def _cell(value: Any) -> str:
    """A value as text that cannot break a table: None, booleans and lists as JSON writes them."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace("|", "\\|").replace("\n", " ")


def _counted(count: int, several: str) -> str:
    """`1 image`, `2 images`, `1 pair of documents`; one series is a series."""
    first, *others = several.split()
    one = {"series": "series", "classes": "class"}.get(first, first.removesuffix("s"))
    return " ".join([str(count), first if count != 1 else one, *others])


def _p_value(value: float | None) -> str:
    return "no test" if value is None else "< 0.0001" if value < 0.0001 else f"{value:.3g}"


def _duration(seconds: list[float | None]) -> str:
    """The sum of times, in seconds, minutes or hours, whichever is the most readable."""
    seconds = sum(seconds)
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{_short(seconds / size)} {unit}"
    return f"{_short(seconds)} seconds"


def _plus_minus(mean: float | None, deviation: float | None, sign: str = "") -> str:
    return _NONE if mean is None else percent(mean, deviation, sign) + " (one seed)" * (deviation is None)


def _share(value: float | None) -> str:
    return _NONE if value is None else percent(value)


def _quartiles(milliseconds: Mapping[str, float]) -> str:
    return f"{_short(milliseconds['median'])} ({_short(milliseconds['q1'])} to {_short(milliseconds['q3'])})"


def _short(number: float | None) -> str:
    """Three significant digits, whole numbers in full."""
    if number is None:
        return _NONE
    return f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:.3g}"


def _scaled(count: float) -> str:
    """A count with a decimal prefix."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {prefix}"
    return f"{count:.0f}"


_ENVIRONMENT = jinja2.Environment(
    undefined=jinja2.StrictUndefined,
    loader=jinja2.FunctionLoader(lambda name: files(__package__).joinpath(name).read_text(encoding="utf-8")),
)
_ENVIRONMENT.filters |= {
    function.__name__.removeprefix("_"): function
    for function in (_cell, _duration, _p_value, _quartiles, _scaled, _share, _short)
}
