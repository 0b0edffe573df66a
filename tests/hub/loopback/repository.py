"""What a repository of the loopback test Hub holds: git objects with git's own ids, branches, tags, pull requests."""

import hashlib
from dataclasses import dataclass, field

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"
ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


def git_id(kind: str, content: bytes) -> str:
    """The id that git gives an object."""
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content).hexdigest()


@dataclass(frozen=True)
class File:
    """A file of a commit: its bytes, or where it is large the sha256 and size that its pointer names."""

    content: bytes
    sha256: str | None = None
    size: int = 0
    xet_hash: str | None = None

    @classmethod
    def large(cls, sha256: str, size: int, xet_hash: str | None) -> "File":
        return cls(POINTER.format(sha256, size).encode(), sha256, size, xet_hash)

    @property
    def oid(self) -> str:
        """The id of git's blob, which for a large file is the pointer's."""
        return git_id("blob", self.content)

    @property
    def etag(self) -> str:
        return self.sha256 or self.oid

    def entry(self, path: str) -> dict:
        """How a tree is listed."""
        about = {"type": "file", "path": path, "size": self.size or len(self.content), "oid": self.oid}
        if self.sha256 is not None:
            about["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": len(self.content)}
        return about if self.xet_hash is None else {**about, "xetHash": self.xet_hash}


@dataclass(frozen=True)
class Commit:
    """A commit: all files by path, as the tests ask for them."""

    files: dict[str, File]
    title: str
    parent: str | None
    number: int

    @property
    def tree(self) -> str:
        """The id that `git write-tree` gives for these files."""
        return tree_id({path: file.oid for path, file in self.files.items()})

    @property
    def oid(self) -> str:
        parent = f"parent {self.parent}\n" if self.parent else ""
        who = f"test hub <> {self.number} +0000"
        return git_id("commit", f"tree {self.tree}\n{parent}author {who}\ncommitter {who}\n\n{self.title}\n".encode())


def tree_id(oids: dict[str, str]) -> str:
    """The id of git's tree of blobs, all plain files, by path."""
    folders: dict[str, dict[str, str]] = {}
    entries = []
    for path, oid in oids.items():
        folder, slash, rest = path.partition("/")
        if slash:
            folders.setdefault(folder, {})[rest] = oid
        else:
            entries.append((path, b"100644 ", oid))
    # git sorts folders as if their names ended with a slash.
    entries += [(f"{name}/", b"40000 ", tree_id(inner)) for name, inner in folders.items()]
    lines = [mode + name.rstrip("/").encode() + b"\0" + bytes.fromhex(oid) for name, mode, oid in sorted(entries)]
    return git_id("tree", b"".join(lines))


@dataclass
class Repository:
    """Commits by id, and what names them."""

    name: str
    private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.branches["main"] = self.add({".gitattributes": File(ATTRIBUTES)}, "initial commit", None)

    def add(self, files: dict[str, File], title: str, parent: str | None) -> str:
        commit = Commit(files, title, parent, len(self.commits))
        self.commits[commit.oid] = commit
        return commit.oid

    def resolve(self, revision: str) -> str | None:
        """The id of the commit that a branch, a tag, a pull request or an id names."""
        if revision in self.commits:
            return revision
        names = {**self.pulls, **self.tags, **self.branches}
        return names.get(revision) or names.get(revision.removeprefix("refs/heads/"))

    def head(self, revision: str = "main") -> Commit:
        return self.commits[self.resolve(revision)]
