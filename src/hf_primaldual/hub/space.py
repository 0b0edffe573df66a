"""From the folder of a Gradio page to a Space of the Hub: checked, with this package put beside it, in one commit."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, SpaceCard

from .checks import check_file
from .publish import Upload, check_target, look, upload

# What a Space's card must state, and what a Space must have beside it. Others are the Hub's to guess, or wrongly.
_STATED = ("title", "sdk", "sdk_version", "python_version", "app_file", "license")
_SUFFIXES = (".py", ".md", ".txt", ".json", ".csv", ".png", ".safetensors")
PACKAGE = "hf_primaldual"


def publish_space(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    pull_request: bool = False,
    tag: str | None = None,
    message: str | None = None,
    dry_run: bool = False,
    delete_others: bool = False,
    token: str | None = None,
) -> Upload:
    """
    Checks the folder of a Space (`check_space`) and uploads it by `HfApi.upload_folder`, with the installed package
    beside its page, where Python finds it.

    Args:
        folder: With `README.md`, `requirements.txt` and the page.
        repo_id, private, revision, pull_request, tag, message, dry_run, token: As for `hub.publish.publish`.
        delete_others: Removes all files of the Space that the folder lacks. Without it they are kept, but for those of
            an earlier version of the package.

    Raises:
        FileNotFoundError, ValueError: The folder is not fit to be published, the arguments contradict each other, or
            what the repository is.
        huggingface_hub.errors.HfHubHTTPError: The Hub refused.
        RuntimeError: Somebody else pushed meanwhile.
    """
    check_target(repo_id, revision, pull_request, tag)
    folder, api, revision = Path(folder), HfApi(token=token), revision or "main"
    checked = check_space(folder)
    patterns = ["*"] if delete_others else [f"{PACKAGE}/*"]
    with tempfile.TemporaryDirectory(prefix="hf_primaldual-space-") as place:
        stage_space(folder, checked, Path(place))
        if dry_run:
            return look(api, Path(place), repo_id, revision, patterns, "space")
        message = message or f"{folder.resolve().name}, checked by hf_primaldual"
        options: dict[str, Any] = {"private": private, "pull_request": pull_request, "tag": tag, "space_sdk": "gradio"}
        return upload(api, Path(place), repo_id, revision, patterns, message, **options)


def check_space(folder: Path) -> list[Path]:
    """
    Looks the folder of a Space over, without running it.

    Returns:
        Its files, but for what Python compiled.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The first thing that is wrong, named.
    """
    for name in ("README.md", "requirements.txt"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} lacks {name}, which every Space of Gradio has")
    about = SpaceCard.load(folder / "README.md").data.to_dict()
    for name in _STATED:
        if not str(about.get(name) or "").strip():
            raise ValueError(f"README.md: its metadata must state {name!r}, as `{name}: ...` between the lines ---")
    if about["sdk"] != "gradio":
        raise ValueError(f"README.md: 'sdk' must be gradio, got {about['sdk']!r}")
    if not (folder / about["app_file"]).is_file():
        raise FileNotFoundError(f"{folder} lacks {about['app_file']}, which README.md names as 'app_file'")
    if (folder / PACKAGE).exists():
        raise ValueError(f"{PACKAGE} of {folder} would hide the installed package, which goes there; take it out")
    found = [path for path in sorted(folder.rglob("*")) if path.suffix != ".pyc" and not path.is_dir()]
    for path in found:
        name = path.relative_to(folder)
        if path.is_symlink() or path.suffix not in _SUFFIXES:
            raise ValueError(
                f"{name} is no file of a Space, which are {', '.join(_SUFFIXES)}; move it out of {folder}"
            )
        check_file(path)
    return found


def stage_space(folder: Path, checked: list[Path], place: Path) -> None:
    """Fills an empty folder with the checked files of a Space and with the package."""
    for path in checked:
        target = place / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    package = Path(__file__).parents[1]
    shutil.copytree(package, place / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
