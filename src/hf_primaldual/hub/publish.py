"""From a checkpoint folder to a repository of the Hub: checked first, then uploaded in one commit."""

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
    Checks a checkpoint folder (`hub.checks.check`) and uploads it (`upload`, which explains the other arguments). On
    the Hub, and not in the folder, results and card say the repository's address, which the card's examples load from.
    Own words and metadata that somebody wrote into the card on the Hub stay, where the folder's card has none.

    Args:
        folder: What `hub.checkpoint.save_checkpoint` wrote.
        message: Of the commit; by default the name of the folder.
        trust_remote_code: As for `hub.checks.check`.

    Returns:
        What went, and its commit.

    Raises:
        FileNotFoundError, ValueError: The folder is not fit to be published; nothing was sent.
        As `upload` does.
    """
    _check_arguments(repo_id, revision, pull_request, tag)
    checked = check(folder, trust_remote_code)
    with tempfile.TemporaryDirectory(prefix="hf_primaldual-publish-") as place:
        stage(checked, repo_id, Path(place), _card_there(repo_id, revision, token, dry_run))
        return upload(
            place,
            repo_id,
            private=private,
            revision=revision,
            pull_request=pull_request,
            tag=tag,
            message=message or f"{Path(folder).resolve().name}, checked by hf_primaldual",
            dry_run=dry_run,
            delete_others=delete_others,
            token=token,
        )


def upload(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    pull_request: bool = False,
    tag: str | None = None,
    message: str = "files of a checkpoint",
    dry_run: bool = False,
    delete_others: bool = False,
    token: str | None = None,
) -> Upload:
    """
    Uploads a folder as it is, unchecked, by `HfApi.upload_folder`. Large files travel before the commit and are seen
    by nobody until it is made: an upload that was interrupted is run again, and sends what is missing. The client
    makes one commit, but where the Hub refuses one of more than 20 files for minutes, several.

    Args:
        repo_id: `owner/name`, created if there is none.
        private: Makes a new repository private; a public one that is there already is refused.
        revision: A branch, created from `main` where there is none; by default `main`.
        pull_request: Opens a pull request instead of committing.
        tag: A name for the commit, which no other may bear.
        message: Of the commit.
        dry_run: Looks at the repository, and sends nothing.
        delete_others: Removes all files of the repository that the folder lacks. Without it they are kept, but for
            `model*.safetensors` and their index: weights of an earlier checkpoint, which could be loaded instead.
        token: By default `HF_TOKEN`, or that of `hf auth login`.

    Raises:
        ValueError: The arguments contradict each other, or what the repository is.
        huggingface_hub.errors.HfHubHTTPError: The Hub refused.
        RuntimeError: Somebody else pushed meanwhile.
    """
    _check_arguments(repo_id, revision, pull_request, tag)
    api, revision = HfApi(token=token), revision or "main"
    patterns = ["*"] if delete_others else _REPLACED
    files = tuple((path.name, path.stat().st_size) for path in sorted(Path(folder).iterdir()))
    if dry_run:
        try:
            removed, kept, _ = _compare(api, repo_id, revision, folder, patterns)
        except (RepositoryNotFoundError, RevisionNotFoundError):
            return Upload(repo_id, files, unseen="there is none, or it cannot be read; it would be made")
        except Exception as error:
            # Whatever keeps the Hub from being asked is said in the answer.
            return Upload(repo_id, files, unseen=str(error).strip().partition("\n")[0])
        return Upload(repo_id, files, removed, kept)
    api.create_repo(repo_id, private=private, exist_ok=True)
    if private and not api.model_info(repo_id).private:
        raise ValueError(f"`private`: {repo_id} is there and public; choose another name")
    if revision != "main":
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    head = api.model_info(repo_id, revision=revision).sha
    removed, kept, same = _compare(api, repo_id, head, folder, patterns)
    # An upload that ended and is run again finds its own tag.
    if tag is not None and (at := _tagged(api, repo_id, tag)) and not (at == head and same):
        raise ValueError(f"`tag`: {repo_id} has {tag!r} already, at {at}; choose another name")
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
        )
        oid, url = commit.oid, commit.pr_url or commit.commit_url
    except HfHubHTTPError as error:
        if error.response.status_code != 412 or pull_request:
            raise
        # The client sends a commit again whose answer was lost: then it is its own that is in the way.
        info = api.model_info(repo_id, revision=revision)
        if not _compare(api, repo_id, info.sha, folder, patterns)[2]:
            raise RuntimeError(
                f"somebody else pushed to {revision} of {repo_id} meanwhile; nothing of this push is to be seen "
                "there. Look at what they did, then publish again"
            ) from error
        oid, url = info.sha, f"{api.endpoint}/{repo_id}/commit/{info.sha}"
    if tag is not None:
        api.create_tag(repo_id, tag=tag, revision=oid, exist_ok=True)
        if (at := _tagged(api, repo_id, tag)) != oid:
            raise ValueError(f"`tag`: {repo_id} has {tag!r} already, at {at}; the upload went to {oid} without it")
    return Upload(repo_id, files, removed, kept, commit=oid, url=url)


def stage(checked: Sequence[Path], repo_id: str, place: Path, there: str = "") -> None:
    """
    Fills a folder with links to the checked files, but for results and card, which say where they are to be found. The
    card has the words of a person that the folder's has, or else those of the card that is `there`.
    """
    by_name = {path.name: path.resolve() for path in checked}
    results = {**load_results(by_name.pop("results.json")), "repo_id": repo_id}
    save_results(results, place / "results.json")
    card = by_name.pop("README.md").read_text(encoding="utf-8")
    (place / "README.md").write_text(render_card(results, there, card), encoding="utf-8")
    for name, path in by_name.items():
        try:
            (place / name).symlink_to(path)
        except OSError:
            # A system without links.
            shutil.copyfile(path, place / name)


def _card_there(repo_id: str, revision: str | None, token: str | None, dry_run: bool) -> str:
    """The card that a repository has, in which somebody may have written on the Hub; empty where it has none."""
    try:
        path = HfApi(token=token).hf_hub_download(repo_id, "README.md", revision=revision)
    except (RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError):
        return ""
    except LocalEntryNotFoundError:
        # The Hub cannot be asked: whoever sends nothing may do without.
        if not dry_run:
            raise
        return ""
    return Path(path).read_text(encoding="utf-8")


def _check_arguments(repo_id: str, revision: str | None, pull_request: bool, tag: str | None) -> None:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
        raise ValueError(f"`repo_id` must be owner/name, got {repo_id!r}")
    if pull_request and revision not in (None, "main"):
        raise ValueError(f"`pull_request` goes to main; `revision` must be left out, got {revision!r}")
    if pull_request and tag is not None:
        raise ValueError(f"`tag` is for a commit, which a pull request is not yet; got {tag!r}")


def _compare(
    api: HfApi, repo_id: str, revision: str, folder: str | os.PathLike, patterns: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Of what a revision holds besides, what is removed and what is kept; and whether an upload changes nothing."""
    found = api.verify_repo_checksums(repo_id, revision=revision, local_dir=folder)
    # What the Hub itself puts into a new repository stays.
    others = [name for name in found.missing_paths if name != ".gitattributes"]
    removed = tuple(filter_repo_objects(others, allow_patterns=list(patterns)))
    kept = tuple(name for name in others if name not in removed)
    return removed, kept, not (removed or found.mismatches or found.extra_paths)


def _tagged(api: HfApi, repo_id: str, tag: str) -> str | None:
    return next((ref.target_commit for ref in api.list_repo_refs(repo_id).tags if ref.name == tag), None)


__all__ = ["Upload", "publish", "stage", "upload"]
