"""The real data of the comparison, all of one length, so that no model needs a mask."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset
from sources.fashion_mnist import load_fashion_mnist
from sources.newsgroups import load_newsgroups

# Of one subject, so that they are hard to tell apart.
GROUPS = (
    "comp.graphics",
    "comp.os.ms-windows.misc",
    "comp.sys.ibm.pc.hardware",
    "comp.sys.mac.hardware",
    "comp.windows.x",
)
# Bytes that one token of a text sees: its own and those before.
GRAM = 4
# Of Fashion-MNIST's training pixels, as shares of the brightest; and the side of one of its images.
MEAN, DEVIATION = 0.286, 0.353
IMAGE = 28


@dataclass(frozen=True)
class Task:
    """
    Splits with the model's input and `labels` as tensors, classes in turns; `validation`, on which settings are
    chosen, is cut from the training data.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    labels: int
    description: str

    @property
    def summary(self) -> dict[str, Any]:
        """For the results file: description, sizes, and the share of the test set's largest class."""
        sizes = {name: len(getattr(self, name)) for name in ("train", "validation", "test")}
        counts = np.bincount(np.asarray(self.test["labels"][:]))
        return {"description": self.description, **sizes, "largest_class": float(counts.max() / counts.sum())}


def hash_grams(text: bytes, vocab_size: int) -> np.ndarray:
    """One token for each byte: the `GRAM` bytes that end with it, hashed to 1 ... `vocab_size - 1`; 0 is padding's."""
    padded = np.frombuffer(bytes(GRAM - 1) + text, np.uint8).astype(np.uint64)
    code = np.zeros(len(text), np.uint64)
    for offset in range(GRAM):
        code = (code << np.uint64(8)) | padded[offset : offset + len(text)]
    # Multiplicative hashing (Knuth): the high half of a product with an odd constant is spread evenly.
    spread = (code * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    return (spread % np.uint64(vocab_size - 1)).astype(np.int64) + 1


def join_and_cut(posts: Dataset, labels: ClassLabel, groups: list[str], tokens: int) -> tuple[list[bytes], list[int]]:
    """
    The posts of each group in their order, one after the other with a line feed between, cut into documents of
    `tokens` bytes; what is left at a group's end is dropped. Documents of the groups take turns.

    Returns:
        The documents, and their groups' places in `groups`.
    """
    streams = {group: [] for group in groups}
    for row in posts:
        name = labels.int2str(row["label"])
        if name in streams:
            streams[name].append(row["text"].encode())
    cut = []
    for place, parts in enumerate(streams.values()):
        stream = b"\n".join(parts)
        starts = range(0, len(stream) - tokens + 1, tokens)
        cut += [(number, place, stream[start : start + tokens]) for number, start in enumerate(starts)]
    cut.sort(key=lambda document: document[:2])
    return [text for _, _, text in cut], [place for _, place, _ in cut]


def newsgroups(tokens: int, vocab_size: int, groups: list[str], train: int, validation: int, test: int) -> Task:
    """
    Which group a document of 20 Newsgroups is from: posts of one group joined and cut (`join_and_cut`), a token for
    each byte (`hash_grams`). `train` and `test` are documents at most, of all groups in equal parts; those of the
    validation are the last ones of each group's training posts.

    Raises:
        ValueError: a group is unknown, or has no document of this length, or none besides those of the validation.
    """
    splits = load_newsgroups()
    label = splits["train"].features["label"]
    unknown = sorted(set(groups) - set(label.names))
    if unknown:
        raise ValueError(f"`groups` names {', '.join(unknown)}, which are not among {', '.join(label.names)}.")
    documents = {}
    for split in ("train", "test"):
        documents[split] = list(zip(*join_and_cut(splits[split], label, groups, tokens), strict=True))
        missing = sorted({*groups} - {groups[place] for _, place in documents[split]})
        if missing:
            raise ValueError(f"`tokens` ({tokens}) is longer than all the posts of {', '.join(missing)} together.")
    kept, cut = cut_last(documents["train"], validation, len(groups))

    def encode(chosen: list[tuple[bytes, int]]) -> Dataset:
        columns = {"input_ids": [hash_grams(text, vocab_size) for text, _ in chosen], "labels": [y for _, y in chosen]}
        return Dataset.from_dict(columns).with_format("torch")

    description = f"20 Newsgroups, {len(groups)} groups, joined posts of {tokens} bytes, a hashed {GRAM}-gram a byte"
    parts = (encode(chosen) for chosen in (kept[:train], cut, documents["test"][:test]))
    return Task(*parts, len(groups), description)


def cut_last(documents: list[tuple[bytes, int]], count: int, classes: int) -> tuple[list, list]:
    """The documents without the last ones of each class, `count` in all, and those: posts next to each other stay."""
    share, kept, cut = count // classes, [], []
    for place in range(classes):
        own = [index for index, (_, label) in enumerate(documents) if label == place]
        if len(own) <= share:
            raise ValueError(
                f"`validation_documents` ({count}) must leave documents to train on, but a class has {len(own)}."
            )
        first = len(own) - share
        kept, cut = kept + own[:first], cut + own[first:]
    return [documents[index] for index in sorted(kept)], [documents[index] for index in sorted(cut)]


def fashion_pages(side: int, train: int, validation: int, test: int, folder: str | None = None) -> Task:
    """
    Which kind of clothes a page of Fashion-MNIST shows: images of one class side by side, in their own resolution, as
    many as fit into `side` x `side` pixels; what is left at the margins is black. Each image is on one page at most.
    There are as many pages at most, of all classes in equal parts, those of the validation of training images.

    Raises:
        ValueError: a page is smaller than an image, or a class has not enough of them for one page.
    """
    if side < IMAGE:
        raise ValueError(f"a page must have {IMAGE} x {IMAGE} pixels at least for an image, got {side} x {side}.")
    splits = load_fashion_mnist(folder)
    classes = splits["train"].features["labels"].num_classes
    share = -(-validation // classes)
    pages = {split: _deal(splits[split], (side // IMAGE) ** 2, classes) for split in ("train", "test")}
    chosen = (pages["train"][share * classes :][:train], pages["train"][:validation], pages["test"][:test])
    if not all(chosen[::2]):
        raise ValueError(f"Fashion-MNIST has too few images for pages of {side} x {side} pixels of each class.")
    parts = (
        _draw_pages(splits[name], rows, side) for name, rows in zip(("train", "train", "test"), chosen, strict=True)
    )
    count = (side // IMAGE) ** 2
    return Task(*parts, classes, f"Fashion-MNIST, pages of {side} x {side} pixels with {count} images of one class")


def _deal(images: Dataset, count: int, classes: int) -> list[tuple[int, list[int]]]:
    """Class and rows of each page of `count` images, shuffled with seed 0; classes take turns, as long as all can."""
    labels = np.array(images["labels"])
    shuffled = np.random.default_rng(0).permutation(len(labels))
    of_class = [shuffled[labels[shuffled] == label] for label in range(classes)]
    full = min(len(rows) for rows in of_class) // count
    return [
        (label, rows[page * count : (page + 1) * count].tolist())
        for page in range(full)
        for label, rows in enumerate(of_class)
    ]


def _draw_pages(images: Dataset, pages: list[tuple[int, list[int]]], side: int) -> Dataset:
    across = side // IMAGE
    margin = (side - across * IMAGE) // 2
    inner = slice(margin, margin + across * IMAGE)
    drawn = np.zeros((len(pages), 1, side, side), np.float32)
    for page, (_, rows) in zip(drawn, pages, strict=True):
        pixels = np.stack([np.asarray(image) for image in images[rows]["image"]])
        grid = pixels.reshape(across, across, IMAGE, IMAGE).swapaxes(1, 2)
        page[0, inner, inner] = grid.reshape(across * IMAGE, across * IMAGE)
    columns = {"pixel_values": (drawn / 255 - MEAN) / DEVIATION, "labels": [label for label, _ in pages]}
    return Dataset.from_dict(columns).with_format("torch")
