"""Fashion-MNIST's files, written in the published format."""

import gzip
import struct

import numpy as np


def idx(values: np.ndarray, kind: int = 8) -> bytes:
    header = bytes([0, 0, kind, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return gzip.compress(header + bytes(values))


def write_clothes(folder, pixels: np.ndarray, labels: list[int], **changed: bytes):
    """The same images in both splits, but for the `changed` files of the training set."""
    for prefix in ("train", "t10k"):
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(idx(pixels))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(idx(np.uint8(labels)))
    for name, content in changed.items():
        (folder / f"train-{name}-ubyte.gz").write_bytes(content)
    return folder
