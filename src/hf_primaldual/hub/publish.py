"""From a checkpoint folder to a repository of the Hub: checked first, then uploaded in one commit."""

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoFile, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from .card import render_card
from .checks import check
from .results import load_results, save_results

# What the Hub itself puts into a new repository.
_KEPT = (".gitattributes",)
# Weights of an earlier checkpoint, which loading could take instead of those that are published.
_REPLACED = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json")
_PASSING = (429, 500, 502, 503, 504)
_TRIES = 5
_LONGEST_WAIT = 60.0


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
        total = f"{sum(size for _, size in self.files):>12,}  bytes in {len(self.files)} files"
        others = [f"{'removed':>12}  {name}" for name in self.removed]
        others += [f"{'kept':>12}  {name}" for name in self.kept]
        others += [] if self.unseen is None else [f"what {self.repo_id} holds was not looked at: {self.unseen}"]
        return "\n".join([*lines, total, *others, f"{self.url or f'nothing was sent to {self.repo_id}'}"])


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
    Checks a checkpoint folder (`hub.checks.check`) and puts its files into a repository, in one commit. There, and not
    in the folder, results and card say its address, which the card's examples load from. Own words and metadata that
    somebody wrote into the card on the Hub stay, where the folder's card has none of its own.

    The repository is created if there is none. Other files that it holds are kept, but for `model*.safetensors` and
    their index: weights of an earlier checkpoint, which could be loaded instead. Large files travel before the commit
    and are seen by nobody until it is made: an upload that was interrupted is run again, and sends what is missing.

    Args:
        folder: What `hub.checkpoint.save_checkpoint` wrote.
        repo_id: `owner/name`.
        private: Makes a new repository private; a public one that is there already is refused.
        revision: A branch, created from `main` where there is none; by default `main`.
        pull_request: Opens a pull request instead of committing.
        tag: A name for the commit, which no other may bear.
        message: Of the commit; by default the name of the model.
        dry_run: Checks, looks at the repository, and sends nothing.
        delete_others: Removes all files of the repository that the folder lacks.
        trust_remote_code: As for `hub.checks.check`.
        token: By default `HF_TOKEN`, or that of `hf auth login`.

    Returns:
        What went, and its commit.

    Raises:
        FileNotFoundError, ValueError: The folder is not fit to be published; nothing was sent. Or the arguments
            contradict each other, or what the repository is.
        huggingface_hub.errors.HfHubHTTPError: The Hub refused.
        RuntimeError: Somebody else pushed meanwhile.
    """
    _check_arguments(repo_id, revision, pull_request, tag)
    checked = check(folder, trust_remote_code)
    with tempfile.TemporaryDirectory(prefix="hf_primaldual-publish-") as place:
        there = _card_there(repo_id, revision, token, dry_run)
        found = _addressed(checked, repo_id, Path(place), there)
        if dry_run:
            return _look(HfApi(token=token), repo_id, found, revision or "main", delete_others)
        message = message or f"{Path(folder).resolve().name}, checked by hf_primaldual"
        return upload(
            found,
            repo_id,
            private=private,
            revision=revision,
            pull_request=pull_request,
            tag=tag,
            message=message,
            delete_others=delete_others,
            token=token,
        )


def upload(
    found: Sequence[Path],
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    pull_request: bool = False,
    tag: str | None = None,
    message: str = "files of a checkpoint",
    delete_others: bool = False,
    token: str | None = None,
) -> Upload:
    """
    The second half of `publish`, which has the arguments: puts these files into a repository, unchecked.

    Raises:
        As `publish` does.
    """
    _check_arguments(repo_id, revision, pull_request, tag)
    api = HfApi(token=token)
    patiently(lambda: _prepare(api, repo_id, private, revision))

    def push():
        return _push(api, repo_id, found, revision or "main", pull_request, tag, message, delete_others)

    # Sent again, a pull request whose answer was lost would be opened twice.
    commit, removed, kept = push() if pull_request else patiently(push)
    if tag is not None:
        patiently(lambda: _tag(api, repo_id, tag, commit.oid))
    sizes, url = _sizes(found), commit.pr_url or commit.commit_url
    return Upload(repo_id, sizes, removed, kept, commit=commit.oid, url=url)


def _card_there(repo_id: str, revision: str | None, token: str | None, dry_run: bool) -> str:
    """The card that a repository has, in which somebody may have written on the Hub; empty where it has none."""
    try:
        path = patiently(lambda: hf_hub_download(repo_id, "README.md", revision=revision, token=token))
    except LocalEntryNotFoundError:
        # The Hub cannot be asked: whoever sends nothing may do without.
        if not dry_run:
            raise
        return ""
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError):
        return ""
    return Path(path).read_text(encoding="utf-8")


def _addressed(found: Sequence[Path], repo_id: str, place: Path, there: str = "") -> list[Path]:
    """
    The same files, of which `place` holds those that say where they are to be found: the results and their card, with
    the words that the folder's card has of a person, or else those of the card that is `there`.
    """
    (results_file,) = (path for path in found if path.name == "results.json")
    results = {**load_results(results_file), "repo_id": repo_id}
    save_results(results, place / "results.json")
    card = results_file.with_name("README.md").read_text(encoding="utf-8")
    (place / "README.md").write_text(render_card(results, there, card), encoding="utf-8")
    return [place / path.name if (place / path.name).exists() else path for path in found]


def _sizes(found: Sequence[Path]) -> tuple[tuple[str, int], ...]:
    return tuple((path.name, path.stat().st_size) for path in found)


def _check_arguments(repo_id: str, revision: str | None, pull_request: bool, tag: str | None) -> None:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
        raise ValueError(f"`repo_id` must be owner/name, got {repo_id!r}")
    if pull_request and revision not in (None, "main"):
        raise ValueError(f"`pull_request` goes to main; `revision` must be left out, got {revision!r}")
    if pull_request and tag is not None:
        raise ValueError(f"`tag` is for a commit, which a pull request is not yet; got {tag!r}")


def _prepare(api: HfApi, repo_id: str, private: bool, revision: str | None) -> None:
    """Makes the repository and the branch."""
    try:
        info = api.model_info(repo_id)
    except RepositoryNotFoundError:
        api.create_repo(repo_id, private=private, exist_ok=True)
    else:
        if private and not info.private:
            raise ValueError(f"`private`: {repo_id} is there and public; choose another name")
    if revision is not None and revision != "main":
        api.create_branch(repo_id, branch=revision, exist_ok=True)


def _push(
    api: HfApi,
    repo_id: str,
    found: Sequence[Path],
    revision: str,
    pull_request: bool,
    tag: str | None,
    message: str,
    delete_others: bool,
):
    head = api.model_info(repo_id, revision=revision).sha
    there = _files(api, repo_id, head)
    removed, kept = _others(there, found, delete_others)
    at = None if tag is None else _tagged(api, repo_id, tag)
    # An upload that ended and is run again finds its own tag.
    if at is not None and (at != head or removed or not all(_is_there(there.get(path.name), path) for path in found)):
        raise ValueError(f"`tag`: {repo_id} has {tag!r} already, at {at}; choose another name")
    operations = [CommitOperationAdd(path.name, str(path)) for path in found]
    operations += [CommitOperationDelete(name) for name in removed]
    try:
        commit = api.create_commit(
            repo_id,
            operations,
            commit_message=message,
            revision=revision,
            create_pr=pull_request,
            # Whoever pushed since is not overwritten.
            parent_commit=head,
        )
    except HfHubHTTPError as error:
        if error.response.status_code != 412:
            raise
        raise RuntimeError(
            f"somebody else pushed to {revision} of {repo_id} meanwhile; nothing of this push is to be seen there. "
            "Look at what they did, then publish again"
        ) from error
    return commit, removed, kept


def _files(api: HfApi, repo_id: str, revision: str) -> dict[str, RepoFile]:
    tree = api.list_repo_tree(repo_id, recursive=True, revision=revision)
    return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}


def _others(
    there: Iterable[str], found: Sequence[Path], delete_others: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of what a repository holds besides, what is removed and what is kept."""
    others = sorted(set(there) - {path.name for path in found} - set(_KEPT))
    removed = tuple(name for name in others if delete_others or _REPLACED.fullmatch(name))
    return removed, tuple(name for name in others if name not in removed)


def _look(api: HfApi, repo_id: str, found: Sequence[Path], revision: str, delete_others: bool) -> Upload:
    """What an upload would do, as far as the Hub can be asked."""
    try:
        removed, kept = _others(_files(api, repo_id, revision), found, delete_others)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        return Upload(repo_id, _sizes(found), unseen="there is none, or it cannot be read; it would be made")
    except (OfflineModeIsEnabled, HfHubHTTPError, *_transport_errors()) as error:
        return Upload(repo_id, _sizes(found), unseen=str(error).strip().partition("\n")[0])
    return Upload(repo_id, _sizes(found), removed, kept)


def _is_there(entry: RepoFile | None, path: Path) -> bool:
    """Whether the repository has this content under this name, by git's checksum or, of a large file, by its own."""
    if entry is None:
        return False
    content = path.read_bytes()
    if entry.lfs is not None:
        return entry.lfs.sha256 == hashlib.sha256(content).hexdigest()
    return entry.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _tag(api: HfApi, repo_id: str, tag: str, commit: str) -> None:
    api.create_tag(repo_id, tag=tag, revision=commit, exist_ok=True)
    if (at := _tagged(api, repo_id, tag)) != commit:
        raise ValueError(f"`tag`: {repo_id} has {tag!r} already, at {at}; the upload went to {commit} without it")


def _tagged(api: HfApi, repo_id: str, tag: str) -> str | None:
    return next((ref.target_commit for ref in api.list_repo_refs(repo_id).tags if ref.name == tag), None)


def patiently(step):
    """
    Runs a step again where the Hub is busy or the connection broke, after as long as it asks for.

    The client itself sends reads and transfers again, but neither a commit nor the creation of a repository. Here a
    step begins with looking at what is there, so that one that was carried out without an answer changes nothing more.
    """
    for number in range(1, _TRIES + 1):
        try:
            return step()
        except (RepositoryNotFoundError, RevisionNotFoundError):
            raise
        except (HfHubHTTPError, *_transport_errors()) as error:
            response = getattr(error, "response", None)
            passing = response is None or response.status_code in _PASSING
            if not passing or number == _TRIES:
                raise
            asked = "" if response is None else response.headers.get("Retry-After", "")
            time.sleep(min(float(asked) if asked.isdigit() else 2.0 ** (number - 2), _LONGEST_WAIT))
    raise AssertionError("unreachable")


def _transport_errors() -> tuple[type[Exception], ...]:
    """What the client's HTTP library raises for a broken connection: httpx2 from huggingface_hub 2.0 on."""
    try:
        import httpx2 as httpx
    except ImportError:
        import httpx
    return (httpx.TransportError,)


__all__ = ["Upload", "patiently", "publish", "upload"]
