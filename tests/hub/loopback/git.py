"""What git itself makes of a repository of the loopback test Hub."""

import subprocess
from pathlib import Path

from .repository import Repository


def git(folder: Path, *arguments: str) -> str:
    """The answer of a git command in a folder."""
    command = ["git", "-c", "core.autocrlf=false", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def write_tree(contents: dict[str, bytes], folder: Path) -> str:
    """The id of `git write-tree` for files that are written into a new folder."""
    folder.mkdir(parents=True)
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    git(folder, "init", "--quiet")
    # Large files are written as their pointers: no filter may look at them.
    git(folder, "-c", "filter.lfs.clean=cat", "-c", "filter.lfs.required=false", "add", "--all")
    return git(folder, "write-tree")


def check_trees(repository: Repository, folder: Path) -> None:
    """Every commit of a repository has the tree that git gives its files, large ones by their pointers."""
    for oid, commit in repository.commits.items():
        files = {path: file.content for path, file in commit.files.items()}
        assert write_tree(files, folder / oid) == commit.tree, (repository.name, commit.title)


__all__ = ["check_trees", "git", "write_tree"]
