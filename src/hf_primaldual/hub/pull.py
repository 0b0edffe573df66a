"""A repository of the Hub as a folder whose every file has the checksum that the Hub has for it."""

from pathlib import Path

from huggingface_hub import HfApi, snapshot_download


def pull(repo_id: str, *, revision: str | None = None, token: str | None = None) -> Path:
    """
    Downloads a repository into the cache and compares each file with the Hub's checksum, which the client itself does
    not. What is damaged is removed from the cache and downloaded once more.

    Args:
        repo_id: `owner/name`.
        revision: A branch, a tag or a commit; by default `main`.
        token: By default `HF_TOKEN`, or that of `hf auth login`.

    Returns:
        The folder, which `from_pretrained` takes.

    Raises:
        ValueError: A file came damaged twice; it is not in the cache.
        huggingface_hub.errors.HfHubHTTPError: There is no such repository or revision, or it may not be read.
        OSError: The disk is full.
    """
    api = HfApi(token=token)
    folder = Path(snapshot_download(repo_id, revision=revision, token=token))
    if _remove_damaged(api, repo_id, folder):
        # By its commit: a branch may have moved meanwhile.
        snapshot_download(repo_id, revision=folder.name, token=token)
        if damaged := _remove_damaged(api, repo_id, folder):
            raise ValueError(
                f"{', '.join(damaged)} of {repo_id} came twice with another checksum than the Hub has, and was "
                "removed from the cache; look whether something between the Hub and here changes downloads, then try "
                "again"
            )
    return folder


def _remove_damaged(api: HfApi, repo_id: str, folder: Path) -> list[str]:
    """The names of the files that are not what the Hub has; they are no longer there."""
    damaged = [found["path"] for found in api.verify_repo_checksums(repo_id, revision=folder.name).mismatches]
    for name in damaged:
        # The cache holds a link to the content, or on a system without links the content.
        (folder / name).resolve().unlink()
        (folder / name).unlink(missing_ok=True)
    return damaged


__all__ = ["pull"]
