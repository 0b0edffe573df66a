"""What a checkpoint folder must be before it is published: complete, loadable elsewhere, and nothing else."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from transformers.dynamic_module_utils import get_relative_import_files

from ..modeling.configuration_primal_dual import doubling_scales
from .card import check_card
from .encoder_results import ENCODER_TASKS
from .record import OUTPUTS, RECORD, draw_inputs
from .results import load_results

_WRITE_RECORD = "write it again with `hf_primaldual.hub.checkpoint.write_record(folder)`"
_WRITE_CARD = "write the card with `hf_primaldual.hub.card.write_card(folder)`"
_SAVE = (
    "write the folder with `hf_primaldual.hub.checkpoint_from_trainer(folder, trainer, dataset)`, or of results of "
    "your own with `hf_primaldual.hub.checkpoint.save_checkpoint`"
)
# What every checkpoint has, and what to do where it has not.
REQUIRED = {"config.json": _SAVE, "results.json": _SAVE, "README.md": _WRITE_CARD, RECORD: _WRITE_RECORD}
# What else transformers writes beside a model: its weights, and its tokenizer or processor. No pickle is among it.
EXPECTED = re.compile(
    r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json|generation_config\.json"
    r"|preprocessor_config\.json|processor_config\.json|tokenizer(_config)?\.json|special_tokens_map\.json"
    r"|added_tokens\.json|vocab\.(txt|json)|merges\.txt|spiece\.model|LICENSE(\.txt)?"
)
BINARY = (".png", ".model")
PRIVATE = {
    # Not in an address, after its `://` or its host.
    "an absolute path": re.compile(
        r"((?<![\w.~/-])|(?<=file://))/[\w.-]+/[\w.-]|(?<![\w/~])~([A-Za-z_][\w.-]*)?/[\w.-]|\b[A-Za-z]:[\\/]+\w"
    ),
    "a token": re.compile(
        r"\b(hf_(oauth_|jwt_)?[A-Za-z0-9]{20,}|api_org_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{20,}"
        r"|glpat-[\w-]{20,}|\w+://[^\s/:@]+:[^\s/@]+@|sk-[A-Za-z0-9_-]{20,}|xox[abprs]-[\w-]{10,}|A[KS]IA[A-Z0-9]{16}|AIza[\w-]{35})"
        r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    ),
    "an e-mail address": re.compile(r"\b[\w.+-]+@[\w-]+(\.[\w-]+)*\.[A-Za-z]{2,}\b"),
}
# A text that a JSON file calls a secret, be it as short as it may.
_SECRET = re.compile(
    r'"(((hub|auth|access|use_auth|api|hf|hugging_?face|github|gitlab|wandb|bearer|refresh)_)?token|key|auth(orization)?'
    r'|([\w-]+_)?(api_?key|access_key|secret|secret_key|private_key|password|passwd|credentials))"\s*:\s*"[^"]',
    re.IGNORECASE,
)


def check(folder: str | os.PathLike, trust_remote_code: bool = False, license: str | None = None) -> list[Path]:
    """
    Looks a checkpoint folder over, and loads it where this package is not installed (`check_loading`).

    Args:
        trust_remote_code: Runs code of the folder that is not the installed package's own, as that of a transform from
            elsewhere or of another version. It runs with your rights: read it first.
        license: Of the weights, where the results need not state one.

    Returns:
        The files that make it, which are all that are there, by name.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The first thing that is wrong, named.
    """
    folder = Path(folder)
    for name in REQUIRED:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} lacks {name}, which every published checkpoint has; {REQUIRED[name]}")
    results, config = load_results(folder / "results.json"), _json(folder / "config.json")
    if not config.get("auto_map"):
        raise ValueError(f"'auto_map' of {folder / 'config.json'} names no code to load the model with; {_SAVE}")
    found = _check_names(folder, results)
    _check_record(folder, config)
    for path in found:
        check_file(path)
    check_card(results, (folder / "README.md").read_text(encoding="utf-8"))
    _check_origin({**results, "license": license or results["license"]}, config)
    if results["task"] in ENCODER_TASKS:
        _check_factors(results["head_scales"], config)
    check_loading(folder, trust_remote_code)
    return found


def check_loading(folder: str | os.PathLike, trust_remote_code: bool = False) -> None:
    """
    Loads a checkpoint with `trust_remote_code=True` in a process of its own (`python -I`, this package hidden, no
    network), and compares what it makes of the recorded inputs (`RECORD`).

    Raises:
        ValueError: It does not load, or gives another output; with the last line that the process wrote. Or it has
            code that is not the installed package's own, and is not trusted.
    """
    own, folder = files("hf_primaldual.modeling"), Path(folder)
    foreign = [
        path.name
        for path in sorted(folder.glob("*.py"))
        if not own.joinpath(path.name).is_file() or own.joinpath(path.name).read_bytes() != path.read_bytes()
    ]
    if foreign and not trust_remote_code:
        raise ValueError(
            f"{', '.join(foreign)} of {folder} is not the code of the installed hf_primaldual, and checking the "
            "folder would run it with your rights; read it, then pass `trust_remote_code=True`, as a "
            "flag --trust_remote_code"
        )
    with tempfile.TemporaryDirectory(prefix="hf_primaldual-check-") as home:
        # No cache but its own: each has a variable that would win over HF_HOME.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
        done = subprocess.run(
            [sys.executable, "-I", str(Path(__file__).with_name("load_check.py")), str(folder.resolve()), RECORD],
            env={**kept, "HF_HOME": home, "HF_HUB_OFFLINE": "1"},
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise ValueError(
            f"{folder} does not load where this package is not installed: {said[0]}; save the model again with the "
            "installed version, by its `save_pretrained`, and after that its inputs and logits: "
            "`hf_primaldual.hub.checkpoint.write_record(folder)`"
        )


def check_text(name: str, text: str) -> None:
    """Raises `ValueError` where a text that is called `name` holds what must not become public (`PRIVATE`)."""
    for what, pattern in PRIVATE.items():
        match = pattern.search(text)
        if match is not None:
            line = text.count("\n", 0, match.start()) + 1
            # A token must not be printed into a log either.
            shown = "" if what == "a token" else f", {match.group()!r}"
            raise ValueError(
                f"{name} holds {what} in line {line}{shown}; it would be public. Take it out; if it is of "
                f"results.json, take it out there, and {_WRITE_CARD}"
            )


def check_file(path: Path) -> None:
    """Raises `ValueError` where a file holds what must not become public, be it in the metadata of its tensors."""
    if path.suffix == ".safetensors":
        with safe_open(path, "np") as tensors:
            text = json.dumps(tensors.metadata() or {})
    elif path.suffix in BINARY:
        # The texts in it: a picture may name its author, a tokenizer's model the file that it was trained on.
        text = "\n".join(re.findall(r"[ -~]{16,}", path.read_bytes().decode("latin-1")))
    else:
        text = path.read_text(encoding="utf-8")
    check_text(path.name, text)
    if path.suffix == ".json" and (secret := _SECRET.search(text)):
        raise ValueError(f"{path.name} holds a token as {secret[1]!r}; it would be public, take it out")


def check_replaceable(folder: Path) -> None:
    """Raises `FileExistsError` where a folder holds what is no file of a checkpoint, and would be lost with it."""
    for path in _strange(folder, _named(folder, _json(folder / "results.json"))):
        raise FileExistsError(f"{folder} holds {path.name}, which is no file of a checkpoint; move it elsewhere")


def without_places(value: Any) -> Any:
    """
    A value of a result, or a list or dictionary of such, as others may read it: of a path that says where a file lies
    on this machine, only the file's name is left.
    """
    if isinstance(value, Mapping):
        return {key: without_places(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(inner) for inner in value]
    if isinstance(value, str) and PRIVATE["an absolute path"].match(value):
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1]
    return value


def _json(path: Path) -> dict[str, Any]:
    """A file of JSON; nothing where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _check_names(folder: Path, results: Mapping[str, Any]) -> list[Path]:
    """The files of a folder, which are those of a checkpoint and no others."""
    found, named = sorted(folder.iterdir()), _named(folder, results)
    for path in found:
        if path.is_symlink() or not path.is_file():
            raise ValueError(
                f"{path.name} is no plain file; a checkpoint is one flat folder: put files themselves into {folder}, "
                "and move what else there is out of it"
            )
    for path in _strange(folder, named):
        raise ValueError(f"{path.name} is no file of a checkpoint; move it out of {folder}")
    for name in sorted(named):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} lacks {name}, which its results or its code name; put it there, or take a plot out of "
                f"'plots' in results.json and {_WRITE_CARD}"
            )
    if not any(folder.glob("model*.safetensors")):
        raise FileNotFoundError(
            f"{folder} holds no weights, model.safetensors; save the model there with its `save_pretrained`"
        )
    return found


def _strange(folder: Path, named: set[str]) -> list[Path]:
    """What a folder holds besides the files of a checkpoint."""
    return [path for path in sorted(folder.iterdir()) if path.name not in named and not EXPECTED.fullmatch(path.name)]


def _named(folder: Path, results: Mapping[str, Any]) -> set[str]:
    """The files that a checkpoint must have: Python files that its configurations name, with what they import, too."""
    classes = []
    for config in map(_json, folder.glob("*config.json")):
        classes += [value for value in config.get("auto_map", {}).values() if isinstance(value, str)]
        classes += [pipeline["impl"] for pipeline in config.get("custom_pipelines", {}).values()]
    code = {folder / f"{name.rpartition('--')[2].partition('.')[0]}.py" for name in classes}
    code |= {Path(name) for path in code if path.is_file() for name in get_relative_import_files(path)}
    return {*REQUIRED, *results.get("plots", ()), *(path.name for path in code)}


def _check_record(folder: Path, config: Mapping[str, Any]) -> None:
    """The recorded inputs are those that the configuration gives, and no example of the data."""
    expected = {f"input.{name}": array for name, array in draw_inputs(config).items()}
    with safe_open(folder / RECORD, "np") as record:
        same = set(record.keys()) in ({*expected, name} for name in OUTPUTS) and all(
            np.array_equal(record.get_tensor(name), array) for name, array in expected.items()
        )
    if not same:
        raise ValueError(
            f"{folder / RECORD} holds other inputs than those that are drawn from config.json: those of an older "
            f"version were examples of the data, which would be public; {_WRITE_RECORD}"
        )


def _check_origin(results: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """The licence, the data set and the base model are stated by whoever trained it, and never guessed."""
    if not results["license"].strip():
        raise ValueError(
            "results.json: 'license' is empty, and none is guessed; state it here, `license=\"apache-2.0\"` in Python "
            "and `--license apache-2.0` as a flag, or when training, `--model_license apache-2.0`"
        )
    if not results["dataset"]["name"].strip():
        raise ValueError(
            f"results.json: 'dataset.name' is empty, and none is guessed; write it into results.json and {_WRITE_CARD}"
        )
    if config.get("converted_from") is not None and not results.get("base_model") and "original" not in results:
        raise ValueError(
            "results.json: 'base_model' is missing: the checkpoint was converted from another, which the card names; "
            f"write its id on the Hub into results.json, and {_WRITE_CARD}"
        )


def _check_factors(stated: list[list[int]] | None, config: Mapping[str, Any]) -> None:
    """The card shows the factors that the model has."""
    scales = config.get("head_scales")
    if scales is None and "sh" in config["attention"].split("-")[-1].split("+"):
        scales = doubling_scales(config["num_attention_heads"])
    if scales and not isinstance(scales[0], list):
        scales = [scales] * config["num_hidden_layers"]
    if stated != scales:
        raise ValueError(
            f"results.json: 'head_scales' is {stated}, but the model has {scales} in config.json; write those into "
            f"results.json, and {_WRITE_CARD}"
        )
