"""From a checkpoint folder to a repository of the Hub: checked first, then uploaded in one commit."""

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import filter_repo_objects

from .card import render_card
from .checkpoint import with_code
from .checks import check
from .results import load_results, save_results

# Weights of an earlier checkpoint, which loading could take instead of those that are published.
_REPLACED = ["model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"]


@dataclass(frozen=True)
class Upload:
    """
    What `publish` sent, or with `dry_run` would send: `files` are names and sizes in bytes, `removed` and `kept` the
    names of what the repository held besides; `unseen` says why a dry run could not look at it.
    """

    repo_id: str
    files: tuple[tuple[str, int], ...]
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    unseen: str | None = None
    commit: str | None = None
    url: str | None = None

    def __str__(self) -> str:
        lines = [f"{size:>12,}  {name}" for name, size in self.files]
        lines += [f"{sum(size for _, size in self.files):>12,}  bytes in {len(self.files)} files"]
        lines += [f"{'removed':>12}  {name}" for name in self.removed]
        lines += [f"{'kept':>12}  {name}" for name in self.kept]
        lines += [] if self.unseen is None else [f"what {self.repo_id} holds was not looked at: {self.unseen}"]
        return "\n".join([*lines, self.url or f"nothing was sent to {self.repo_id}"])


def publish(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    license: str | None = None,
    private: bool = False,
    revision: str | None = None,
    pull_request: bool = False,
    tag: str | None = None,
    message: str | None = None,
    dry_run: bool = False,
    delete_others: bool = False,
    trust_remote_code: bool = False,
    token: str | None = None,
) -> Upload:
    """
    Checks a checkpoint folder (`hub.checks.check`) and uploads it by `HfApi.upload_folder`. On the Hub, and not in the
    folder, results and card say the repository's address, which the card's examples load from. Own words and metadata
    that somebody wrote into the card on the Hub stay, where the folder's card has none.

    Args:
        folder: What `hub.checkpoint.save_checkpoint` wrote.
        repo_id: `owner/name`, created if there is none.
        license: Of the weights, an id of the Hub's such as `apache-2.0`, which is published in place of the one that
            the folder's results state.
        private: Makes a new repository private; a public one that is there already is refused.
        revision: A branch, created from `main` where there is none; by default `main`.
        pull_request: Opens a pull request instead of committing.
        tag: A name for the commit, which no other may bear.
        message: Of the commit; by default the name of the folder.
        dry_run: Looks at the repository, and sends nothing.
        delete_others: Removes all files of the repository that the folder lacks. Without it they are kept, but for
            `model*.safetensors` and their index: weights of an earlier checkpoint, which could be loaded instead.
        trust_remote_code: As for `hub.checks.check`.
        token: By default `HF_TOKEN`, or that of `hf auth login`.

    Raises:
        FileNotFoundError, ValueError: The folder is not fit to be published, the arguments contradict each other, or
            what the repository is.
        huggingface_hub.errors.HfHubHTTPError: The Hub refused.
        RuntimeError: Somebody else pushed meanwhile.
    """
    check_target(repo_id, revision, pull_request, tag)
    if license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", license):
        raise ValueError(f"`license` must be an id of the Hub's such as apache-2.0, mit or other, got {license!r}")
    api, revision = HfApi(token=token), revision or "main"
    with (
        tempfile.TemporaryDirectory(prefix="hf_primaldual-publish-") as place,
        tempfile.TemporaryDirectory(prefix="hf_primaldual-whole-") as whole,
    ):
        checked = check(with_code(Path(folder), Path(whole)), trust_remote_code, license)
        stage(checked, repo_id, Path(place), _card_there(api, repo_id, revision, dry_run), license)
        patterns = ["*"] if delete_others else _REPLACED
        if dry_run:
            return look(api, Path(place), repo_id, revision, patterns)
        message = message or f"{Path(folder).resolve().name}, checked by hf_primaldual"
        options: dict[str, Any] = {"private": private, "pull_request": pull_request, "tag": tag}
        return upload(api, Path(place), repo_id, revision, patterns, message, **options)


def check_target(repo_id: str, revision: str | None, pull_request: bool, tag: str | None) -> None:
    """Raises `ValueError` where the place of an upload is none, or contradicts itself."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
        raise ValueError(f"`repo_id` must be owner/name, got {repo_id!r}")
    if pull_request and revision not in (None, "main"):
        raise ValueError(f"`pull_request` goes to main; `revision` must be left out, got {revision!r}")
    if pull_request and tag is not None:
        raise ValueError(f"`tag` is for a commit, which a pull request is not yet; got {tag!r}")


def upload(
    api: HfApi,
    folder: Path,
    repo_id: str,
    revision: str,
    patterns: list[str],
    message: str,
    *,
    private: bool = False,
    pull_request: bool = False,
    tag: str | None = None,
    space_sdk: str | None = None,
) -> Upload:
    """
    Uploads a folder as it is, unchecked; what the repository holds besides goes if it is of the `patterns`. Large
    files travel before the commit and are seen by nobody until it is made: an upload that was interrupted is run
    again, and sends what is missing. With `space_sdk` the repository is a Space.
    """
    kind: dict[str, Any] = {"repo_type": "model" if space_sdk is None else "space"}
    api.create_repo(repo_id, private=private, exist_ok=True, space_sdk=space_sdk, **kind)
    if private and not api.repo_info(repo_id, **kind).private:
        raise ValueError(f"`private`: {repo_id} is there and public; choose another name")
    if revision != "main":
        api.create_branch(repo_id, branch=revision, exist_ok=True, **kind)
    head = api.repo_info(repo_id, revision=revision, **kind).sha
    removed, kept, same = _compare(api, repo_id, head, folder, patterns, **kind)
    tagged = {ref.name: ref.target_commit for ref in api.list_repo_refs(repo_id, **kind).tags}.get(tag)
    # An upload that ended and is run again finds its own tag.
    if tagged is not None and not (tagged == head and same):
        raise ValueError(f"`tag`: {repo_id} has {tag!r} already, at {tagged}; choose another name")
    try:
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=message,
            revision=revision,
            create_pr=pull_request,
            # Whoever pushed since is not overwritten.
            parent_commit=head,
            delete_patterns=patterns,
            **kind,
        )
        oid, url = commit.oid, commit.pr_url or commit.commit_url
    except HfHubHTTPError as error:
        if error.response.status_code != 412 or pull_request:
            raise
        # The client sends a commit again whose answer was lost: then it is its own that is in the way.
        oid = api.repo_info(repo_id, revision=revision, **kind).sha
        url = f"{api.endpoint}/{'' if space_sdk is None else 'spaces/'}{repo_id}/commit/{oid}"
        if not _compare(api, repo_id, oid, folder, patterns, **kind)[2]:
            raise RuntimeError(
                f"somebody else pushed to {revision} of {repo_id} meanwhile; nothing of this push is to be seen "
                "there. Look at what they did, then publish again"
            ) from error
    if tag is not None and tagged is None:
        api.create_tag(repo_id, tag=tag, revision=oid, **kind)
    return Upload(repo_id, _sizes(folder), removed, kept, commit=oid, url=url)


def stage(checked: Sequence[Path], repo_id: str, place: Path, there: str = "", license: str | None = None) -> None:
    """
    Fills a folder with links to the checked files, but for results and card, which say where they are to be found, and
    with a `license` that it is theirs. The
    card has the words of a person that the folder's has, or else those of the card that is `there`.
    """
    by_name = {path.name: path.resolve() for path in checked}
    results = {**load_results(by_name.pop("results.json")), "repo_id": repo_id}
    if license is not None:
        results["license"] = license
    save_results(results, place / "results.json")
    card = by_name.pop("README.md").read_text(encoding="utf-8")
    (place / "README.md").write_text(render_card(results, there, card), encoding="utf-8")
    for name, path in by_name.items():
        try:
            (place / name).symlink_to(path)
        except OSError:
            # A system without links.
            shutil.copyfile(path, place / name)


def _card_there(api: HfApi, repo_id: str, revision: str, dry_run: bool) -> str:
    """The card that a repository has, in which somebody may have written on the Hub; empty where it has none."""
    try:
        path = api.hf_hub_download(repo_id, "README.md", revision=revision)
    except (RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError):
        return ""
    except LocalEntryNotFoundError:
        # The Hub cannot be asked: whoever sends nothing may do without.
        if not dry_run:
            raise
        return ""
    return Path(path).read_text(encoding="utf-8")


def look(
    api: HfApi, folder: Path, repo_id: str, revision: str, patterns: list[str], repo_type: str = "model"
) -> Upload:
    """What an upload would do."""
    try:
        removed, kept, _ = _compare(api, repo_id, revision, folder, patterns, repo_type)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        return Upload(repo_id, _sizes(folder), unseen="there is none, or it cannot be read; it would be made")
    except Exception as error:
        # Whatever keeps the Hub from being asked is said in the answer.
        return Upload(repo_id, _sizes(folder), unseen=str(error).strip().partition("\n")[0])
    return Upload(repo_id, _sizes(folder), removed, kept)


def _sizes(folder: Path) -> tuple[tuple[str, int], ...]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return tuple((path.relative_to(folder).as_posix(), path.stat().st_size) for path in files)


def _compare(
    api: HfApi, repo_id: str, revision: str, folder: Path, patterns: list[str], repo_type: str = "model"
) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Of what a revision holds besides, what is removed and what is kept; and whether an upload changes nothing."""
    found = api.verify_repo_checksums(repo_id, repo_type=repo_type, revision=revision, local_dir=folder)
    # What the Hub itself puts into a new repository stays.
    others = [name for name in found.missing_paths if name != ".gitattributes"]
    removed = tuple(filter_repo_objects(others, allow_patterns=patterns))
    kept = tuple(name for name in others if name not in removed)
    return removed, kept, not (removed or found.mismatches or found.extra_paths)
