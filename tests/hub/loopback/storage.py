"""Where the loopback test Hub keeps large files: by sha256, and in the content store that hf_xet writes itself."""

import hashlib
import shutil
import tempfile
from pathlib import Path

import hf_xet

HEADER = 48
ENTRY = 48
HAS_VERIFICATION = 1 << 31
HAS_SHA256 = 1 << 30
LATER = 2**32 - 1


class Storage:
    """
    `large/SHA256` files, and `xet/`, which hf_xet takes as its content store by the address `local:///folder`.

    That address is nowhere documented; `tests/hub/test_loopback.py` says so where it relies on it.
    """

    def __init__(self, folder: Path):
        self.large, self.xet = folder / "large", folder / "xet"
        self.large.mkdir(parents=True)
        self.xet.mkdir()

    @property
    def cas_url(self) -> str:
        return f"local://{self.xet}"

    def path(self, sha256: str) -> Path:
        return self.large / sha256

    def read(self, sha256: str) -> bytes:
        return self.path(sha256).read_bytes()

    def put(self, sha256: str, content: bytes) -> bool:
        """Keeps what was sent if it is what it says it is."""
        if hashlib.sha256(content).hexdigest() != sha256:
            return False
        self.path(sha256).write_bytes(content)
        return True

    def xet_hash(self, sha256: str) -> str | None:
        """The Xet hash of a file that was pushed by Xet, as its shard has it."""
        for shard in self.xet.rglob("shards/*.mdb"):
            found = files_of(shard.read_bytes()).get(sha256)
            if found:
                return found
        return None

    def take_from_xet(self, sha256: str, size: int, xet_hash: str) -> None:
        """Puts a file together from Xet's chunks, for the clients that read without it."""
        # The client has its store open while it commits, and only one process may: a copy is read.
        with tempfile.TemporaryDirectory() as copy:
            shutil.copytree(self.xet, copy, dirs_exist_ok=True)
            with hf_xet.XetSession().new_file_download_group(
                endpoint=f"local://{copy}", token="none", token_expiry_unix_secs=LATER
            ) as group:
                group.start_download_file(hf_xet.XetFileInfo(xet_hash, size), f"{copy}/whole")
            self.put(sha256, Path(copy, "whole").read_bytes())


def files_of(shard: bytes) -> dict[str, str]:
    """The Xet hash by sha256 of the files that a shard describes; the layout is hf_xet's `MDBFileInfo`."""
    found, at = {}, HEADER
    while shard[at : at + 32] != b"\xff" * 32:
        name = _hex(shard[at : at + 32])
        flags, count = (int.from_bytes(shard[at + 32 + i : at + 36 + i], "little") for i in (0, 4))
        at += ENTRY * (1 + count * (2 if flags & HAS_VERIFICATION else 1))
        if flags & HAS_SHA256:
            found[_hex(shard[at : at + 32])] = name
            at += ENTRY
    return found


def _hex(value: bytes) -> str:
    """Hashes are four little-endian words, printed from the highest digit of each."""
    return b"".join(value[i : i + 8][::-1] for i in range(0, 32, 8)).hex()
