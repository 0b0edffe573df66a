"""What the loopback test Hub holds: repositories, and large files in the content store that hf_xet writes itself."""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import hf_xet
from huggingface_hub.utils.sha import git_hash

LATER = 2**32 - 1


@dataclass(frozen=True)
class File:
    """A file of a commit; `sha256` where it is large, and `xet_hash` where it came by Xet."""

    content: bytes
    sha256: str | None = None
    xet_hash: str | None = None

    @property
    def oid(self) -> str:
        return git_hash(self.content)

    def entry(self, path: str) -> dict:
        """How a tree is listed."""
        about = {"type": "file", "path": path, "size": len(self.content), "oid": self.oid, "xetHash": self.xet_hash}
        large = {"lfs": {"oid": self.sha256, "size": len(self.content), "pointerSize": 134}}
        return about | (large if self.sha256 else {})


@dataclass
class Repository:
    """Commits, all their files by path, and the references that name them."""

    private: bool = False
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.commit("refs/heads/main", {".gitattributes": File(b"*.safetensors filter=lfs")})

    def commit(self, ref: str, files: dict[str, File]) -> str:
        oid = f"{len(self.commits) + 1:040x}"
        self.commits[oid], self.refs[ref] = files, oid
        return oid

    def resolve(self, revision: str) -> str | None:
        """The id of the commit that a branch, a tag, a pull request or an id names."""
        names = (revision, f"refs/heads/{revision}", f"refs/tags/{revision}")
        found = (self.refs[name] for name in names if name in self.refs)
        return revision if revision in self.commits else next(found, None)


def from_xet(store: Path, sha256: str, size: int) -> File | None:
    """
    A file that was pushed by Xet, put together of its chunks. That hf_xet takes `local:///folder` as a content store
    is nowhere documented: where this fails with a newer hf_xet, the test Hub needs another store.
    """
    shards = (_files_of(path.read_bytes()) for path in store.rglob("shards/*.mdb"))
    found = next((files[sha256] for files in shards if sha256 in files), None)
    if found is None:
        return None
    # The client has its store open while it commits, and only one process may: a copy is read.
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(store, copy, dirs_exist_ok=True)
        with hf_xet.XetSession().new_file_download_group(
            endpoint=f"local://{copy}", token="none", token_expiry_unix_secs=LATER
        ) as group:
            group.start_download_file(hf_xet.XetFileInfo(found, size), f"{copy}/whole")
        return File(Path(copy, "whole").read_bytes(), sha256, found)


def _files_of(shard: bytes) -> dict[str, str]:
    """The Xet hash by sha256 of the files that a shard describes: hf_xet's `MDBFileInfo`, records of 48 bytes."""
    found, at = {}, 48
    while shard[at : at + 32] != b"\xff" * 32:
        name = _hex(shard[at : at + 32])
        flags, count = (int.from_bytes(shard[at + 32 + i : at + 36 + i], "little") for i in (0, 4))
        has_verification, has_sha256 = flags >> 31 & 1, flags >> 30 & 1
        at += 48 * (1 + count * (1 + has_verification))
        if has_sha256:
            found[_hex(shard[at : at + 32])] = name
            at += 48
    return found


def _hex(value: bytes) -> str:
    """Hashes are four little-endian words, printed from the highest digit of each."""
    return b"".join(value[i : i + 8][::-1] for i in range(0, 32, 8)).hex()
