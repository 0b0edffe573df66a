"""
Model cards, rendered from the results file of a run, but for what a person writes: the text between the markers of
`OWN_WORDS`, and in the metadata further tags, data sets and keys, such as `language`. Rendering keeps it.
"""

import json
import os
import re
from collections.abc import Mapping
from importlib.resources import files
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .results import SIGNIFICANCE_LEVEL, TASKS, load_results, validate_results, write_atomically

_TEMPLATE = "card_template.md"
OWN_WORDS = re.compile(r"<!-- own words: (?P<section>.*?) -->\n(?P<words>.*?)<!-- end of own words -->", re.DOTALL)
# Metadata that the results alone give: of an older card they may be out of date.
_OF_RESULTS = {"base_model", "co2_eq_emissions", "library_name", "license", "model-index", "pipeline_tag"}
# Tags that a card has of its results, whatever they were.
_OWN_TAGS = re.compile("|".join(("primal-dual-attention", r"attention-[\w-]+", *TASKS)))
# Lists to which a person may add.
_LISTS = ("datasets", "tags")
_AS_THEY_ARE = ("model_name", "task", "attention", "baseline", "command", "date", "dataset")
# One example and several, in words.
_EXAMPLES = {
    "time-series-classification": ("series", "series"),
    "text-classification": ("text", "texts"),
    "image-classification": ("image", "images"),
    "document-matching": ("document", "pairs of documents"),
}
# The Hub's own tasks, which a card names by `pipeline_tag`; any other is a tag.
_PIPELINES = ("text-classification", "image-classification")


def render_card(results: Mapping[str, Any], *cards: str) -> str:
    """The model card of a results dictionary (`hub.results`), metadata included: same results, same text.

    Args:
        cards: Earlier cards, of which a person's own words and metadata are kept; of the last that has some.

    Raises:
        ValueError: The results do not follow the schema, or a section of own words in a card has lost a marker.
        ImportError: jinja2 is not installed.
    """
    validate_results(results)
    template = files(__package__).joinpath(_TEMPLATE).read_text(encoding="utf-8")
    metadata = _with_own(_metadata(results), [_front(card) for card in cards])
    text = str(ModelCard.from_template(metadata, template_str=template, **_view(results))).rstrip("\n") + "\n"

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
    Raises:
        ValueError: A card says something else than its results, outside of the parts that are a person's own; the part
            is named, and how to render it again.
    """
    again = (
        "write the card again with `hf_primaldual.hub.card.write_card(folder)`. It keeps further tags, data sets and "
        "keys, and your own words between the comments `<!-- own words: ... -->` and `<!-- end of own words -->`"
    )
    expected = render_card(results, card)
    front, wanted = _front(card), _front(expected)
    for key in sorted({*front, *wanted}, key=str):
        theirs, ours = front.get(key), wanted.get(key)
        if key in _LISTS:
            theirs, ours = sorted(map(str, _list(theirs))), sorted(map(str, _list(ours)))
        if theirs != ours:
            raise ValueError(
                f"README.md is not the card of its results.json: {key!r} in its metadata differs; {again}"
            )
    section = "the beginning"
    lines, wanted_lines = _body(card).splitlines(), _body(expected).splitlines()
    for line, wanted_line in zip_longest(lines, wanted_lines):
        if line != wanted_line:
            raise ValueError(
                f"README.md is not the card of its results.json: in {section} it has {line!r} for {wanted_line!r}; "
                f"{again}"
            )
        if line.startswith("#"):
            section = repr(line.lstrip("# "))


def write_card(folder: str | os.PathLike, results_file: str = "results.json") -> Path:
    """
    Renders `folder/results_file` into `folder/README.md` and returns its path. What a person wrote into the sections
    for it, or added to the metadata of a card that is there already, is kept.

    Raises:
        FileNotFoundError: There is no results file, or no plot that it names.
        ValueError: The results do not follow the schema, or a section of own words has lost a marker; a card that is
            there already is left as it was.
    """
    folder = Path(folder)
    results = load_results(folder / results_file)
    missing = [name for name in results.get("plots", ()) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}, which 'plots' of its results names")
    card = folder / "README.md"
    write_atomically(card, render_card(results, card.read_text(encoding="utf-8") if card.is_file() else ""))
    return card


def _front(card: str) -> dict[str, Any]:
    """The metadata of a card as YAML has them."""
    found = re.match(r"\ufeff?---\n(.*?)\n---\n", card, flags=re.DOTALL)
    try:
        metadata = yaml.safe_load(found[1]) if found else {}
    except yaml.YAMLError as error:
        raise ValueError(f"the metadata of the card are no YAML: {error}") from error
    if not isinstance(metadata, dict):
        raise ValueError("the metadata of the card are no keys with values")
    return metadata


def _body(card: str) -> str:
    return re.sub(r"\A\ufeff?---\n.*?\n---\n", "", card, flags=re.DOTALL)


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
        eval_results=[*_accuracies(results), *_costs(results)],
        co2_eq_emissions=results.get("co2_eq_emissions"),
    )


def _accuracies(results: Mapping[str, Any]) -> list[EvalResult]:
    """What the released attention reached on the test set, over the seeds and by the weights that are there."""
    summary, released = results["summary"][results["attention"]], _released(results)
    return [
        _metric(results, "accuracy", f"Test accuracy, {of} (ours)", value, "test")
        for of, value in (
            (f"mean over {summary['seeds']} seeds", summary["test_accuracy_mean"]),
            (f"these weights, seed {released['seed']}", released["test_accuracy"]),
        )
    ]


def _costs(results: Mapping[str, Any]) -> list[EvalResult]:
    """What the released attention costs, at each batch and length that was measured."""
    metrics = []
    for point in results["efficiency"]:
        cost, at = point[results["attention"]], f"batch {point['batch']}, {point['tokens']} tokens (ours)"
        metrics += [
            _metric(results, kind, f"{name}, {at}", value)
            for kind, name, value in (
                ("parameters", "Parameters", cost["parameters"]),
                ("flops", "Forward FLOPs", cost["forward_flops"]),
                ("memory", "Peak memory of a training step in bytes", cost["peak_memory_bytes"]),
                ("latency", "Median inference time in ms", cost["inference_ms"]["median"]),
                ("latency", "Median training step time in ms", cost["train_step_ms"]["median"]),
            )
        ]
    return metrics


def _metric(results: Mapping[str, Any], kind: str, name: str, value: float, split: str | None = None) -> EvalResult:
    dataset = results["dataset"]
    return EvalResult(
        task_type=results["task"],
        dataset_type=dataset.get("hub_id", dataset["name"].lower()),
        dataset_name=dataset["name"],
        dataset_split=split,
        metric_type=kind,
        metric_name=name,
        metric_value=value,
    )


def _view(results: Mapping[str, Any]) -> dict[str, Any]:
    """What the template prints, numbers already in words."""
    attention, baseline, comparisons = results["attention"], results["baseline"], results["comparisons"]
    released, names = _released(results), (baseline, *results["attentions"])
    verdicts = {name: _verdict(comparisons[name], name, baseline) for name in results["attentions"]}
    example, examples = _EXAMPLES[results["task"]]
    return {
        **{key: results[key] for key in _AS_THEY_ARE},
        "address": results.get("repo_id", results["model_name"]),
        "task_words": results["task"].replace("-", " "),
        "example": example,
        "examples": examples,
        "results_rows": [_summary_row(name, results["summary"][name], comparisons.get(name)) for name in names],
        "level": SIGNIFICANCE_LEVEL,
        "tested": sum(comparisons[name]["p_value"] is not None for name in results["attentions"]),
        "verdict": verdicts.pop(attention),
        "other_verdicts": list(verdicts.values()),
        "released": {
            "seed": released["seed"],
            "validation": f"{_percent(released['validation_accuracy'])} %",
            "test": f"{_percent(released['test_accuracy'])} %",
        },
        "runs_rows": [_run_row(run) for run in results["runs"]],
        "emissions": _emissions(results),
        "runs_time": _duration(sum(run["train_seconds"] for run in results["runs"])),
        "plots": [(Path(plot).stem.replace("_", " "), plot) for plot in results.get("plots", ())],
        "hardware": _hardware(results["hardware"]),
        "cost_rows": [_cost_row(point, name) for point in results["efficiency"] for name in names],
        "ratio_rows": [_ratio_row(point, name) for point in results["efficiency"] for name in results["attentions"]],
        "speed": [_speed(point, attention, baseline) for point in results["efficiency"]],
        "settings_rows": _table(results["settings"]),
        "search": results.get("search"),
        "search_rows": _search_rows(results.get("search")),
        "sizes": _sizes(results),
        "subset": results["dataset"].get("subset"),
        "length_limit": _length_limit(results),
        "versions_rows": _table(results["versions"]),
    }


def _released(results: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(run for run in results["runs"] if run["released"])


def _verdict(comparison: Mapping[str, Any], attention: str, baseline: str) -> str:
    """Whether the attention beats the baseline by more than noise, as the paired test has it, in one sentence."""
    mean, pairs = comparison["difference_mean"], comparison["pairs"]
    side = f"{_percent(abs(mean))} points {'above' if mean > 0 else 'below'}" if mean else "level with"
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
    evidence = f"(adjusted p {_equals(comparison['p_value_adjusted'])}, {pairs} pairs of seeds)"
    if not comparison["significant"]:
        return f"{neither}{', a difference that noise may explain' if mean else ''} {evidence}."
    verb = "beats" if mean > 0 else "loses to"
    return f"`{attention}` {verb} `{baseline}` here: it is {side} it, more than noise explains {evidence}."


def _speed(point: Mapping[str, Any], attention: str, baseline: str) -> str:
    inference, step = (_pace(point["ratios"][attention][key]) for key in ("inference", "train_step"))
    return (
        f"At {point['tokens']} tokens and batch {point['batch']}, beside `{baseline}`, `{attention}` is "
        f"{inference} in inference and {step} in a training step."
    )


def _pace(ratio: float) -> str:
    shown = f"{ratio:.2f}"
    if float(shown) == 1:
        return "as fast"
    return f"{'slower' if ratio > 1 else 'faster'} ({shown} times the time)"


def _summary_row(name: str, summary: Mapping[str, Any], comparison: Mapping[str, Any] | None) -> list[str]:
    accuracy = _plus_minus(summary["test_accuracy_mean"], summary["test_accuracy_std"])
    validation = [_percent(summary["validation_accuracy_mean"]), _short(summary["validation_loss_mean"])]
    difference = ["", "", ""]
    if comparison is not None:
        values = (comparison["p_value"], comparison["p_value_adjusted"])
        difference = [
            _plus_minus(comparison["difference_mean"], comparison["difference_std"], sign="+"),
            *("no test" if value is None else _p_value(value) for value in values),
        ]
    return [f"`{name}`", str(summary["seeds"]), accuracy, *validation, *difference]


def _run_row(run: Mapping[str, Any]) -> list[str]:
    return [
        f"`{run['attention']}`" + (", released" if run["released"] else ""),
        str(run["seed"]),
        _short(run["best_epoch"]),
        _short(run["epochs"]),
        _percent(run["validation_accuracy"]),
        _short(run["validation_loss"]),
        _percent(run["test_accuracy"]),
        _short(run["test_loss"]),
        _short(run["train_seconds"]),
    ]


def _cost_row(point: Mapping[str, Any], name: str) -> list[str]:
    cost = point[name]
    return [
        str(point["tokens"]),
        str(point["batch"]),
        f"`{name}`",
        f"{cost['parameters']:,}",
        _scaled(cost["forward_flops"]),
        _scaled(cost["train_step_flops"]),
        _short(cost["peak_memory_bytes"] / 2**20),
        _quartiles(cost["inference_ms"]),
        _quartiles(cost["train_step_ms"]),
    ]


def _ratio_row(point: Mapping[str, Any], name: str) -> list[str]:
    ratios = [f"{point['ratios'][name][key]:.2f}" for key in ("flops", "memory", "inference", "train_step")]
    return [str(point["tokens"]), str(point["batch"]), f"`{name}`", *ratios]


def _sizes(results: Mapping[str, Any]) -> str:
    """What one example of the data set is like, as far as the results tell."""
    dataset = results["dataset"]
    channels = dataset.get("channels")
    parts = [] if channels is None else [f"{channels} channel{'' if channels == 1 else 's'}"]
    if "length" in dataset:
        shortest, longest = dataset["length"]
        unit = "time steps" if results["task"] == "time-series-classification" else "tokens"
        parts.append(f"{longest} {unit}" if shortest == longest else f"{shortest} to {longest} {unit}")
    if "image_size" in dataset:
        parts.append("{} x {} pixels".format(*dataset["image_size"]))
    return ", ".join(parts)


def _emissions(results: Mapping[str, Any]) -> dict[str, str] | None:
    """What the training emitted, where it was measured."""
    measured = results.get("co2_eq_emissions")
    return measured and {"grams": _short(measured["emissions"]), "source": measured["source"]}


def _length_limit(results: Mapping[str, Any]) -> int | None:
    """The longest input that the model takes, in steps or tokens; images have none."""
    longest = results["dataset"].get("length", [None])[-1]
    return results["settings"].get("max_position_embeddings", longest)


def _search_rows(search: Mapping[str, Any] | None) -> list[list[str]]:
    """Each searched setting with where it was looked for and what was best."""
    if search is None:
        return []
    space, best = search["space"], search["best"]
    return [[_cell(key), *(_cell(side.get(key)) for side in (space, best))] for key in {**space, **best}]


def _hardware(hardware: Mapping[str, Any]) -> str:
    parts = [hardware["processor"], f"{hardware['cores']} cores, {hardware['threads']} threads"]
    if hardware["memory_gib"] is not None:
        parts.append(f"{hardware['memory_gib']} GiB of memory")
    parts.append(hardware["accelerator"] or "no accelerator")
    return "; ".join(parts)


def _table(values: Mapping[str, Any]) -> list[list[str]]:
    return [[_cell(key), _cell(value)] for key, value in values.items()]


def _cell(value: Any) -> str:
    """A value as text that cannot break a table: None, booleans and lists as JSON writes them."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace("|", "\\|").replace("\n", " ")


def _p_value(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.3g}"


def _equals(value: float) -> str:
    shown = _p_value(value)
    return shown if shown.startswith("<") else f"= {shown}"


def _duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever is the most readable."""
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{_short(seconds / size)} {unit}"
    return f"{_short(seconds)} seconds"


def _percent(fraction: float, sign: str = "") -> str:
    return f"{100 * fraction:{sign}.2f}"


def _plus_minus(mean: float, deviation: float | None, sign: str = "") -> str:
    return _percent(mean, sign) + (" (one seed)" if deviation is None else f" ± {_percent(deviation)}")


def _quartiles(milliseconds: Mapping[str, float]) -> str:
    return f"{_short(milliseconds['median'])} ({_short(milliseconds['q1'])} to {_short(milliseconds['q3'])})"


def _short(number: float) -> str:
    """Three significant digits, whole numbers in full."""
    return f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:.3g}"


def _scaled(count: float) -> str:
    """A count with a decimal prefix."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {prefix}"
    return f"{count:.0f}"
