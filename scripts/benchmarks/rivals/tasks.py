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


def join_and_cut(posts: Dataset, labels: ClassLabel, groups: list[str], tokens: int) -> list[list[bytes]]:
    """
    For each group the documents of `tokens` bytes that its posts are cut into, joined in their order with a line feed
    between; what is left at the end is dropped.
    """
    streams = {group: [] for group in groups}
    for row in posts:
        if (name := labels.int2str(row["label"])) in streams:
            streams[name].append(row["text"].encode())
    joined = [b"\n".join(parts) for parts in streams.values()]
    return [[text[start : start + tokens] for start in range(0, len(text) - tokens + 1, tokens)] for text in joined]


def take_turns(documents: list[list[bytes]]) -> list[tuple[bytes, int]]:
    """The documents with their class: the first of each class, then the second of each that has one, and so on."""
    numbered = [(number, place) for place, own in enumerate(documents) for number in range(len(own))]
    return [(documents[place][number], place) for number, place in sorted(numbered)]


def newsgroups(tokens: int, vocab_size: int, groups: list[str], train: int, validation: int, test: int) -> Task:
    """
    Which group a document of 20 Newsgroups is from: posts of one group joined and cut, a token for each byte
    (`hash_grams`). `train` and `test` are documents at most, of all groups in equal parts; those of the validation are
    the last ones of each group's training posts, so that posts next to each other stay together.
    """
    splits = load_newsgroups()
    label = splits["train"].features["label"]
    if unknown := sorted(set(groups) - set(label.names)):
        raise ValueError(f"`groups` names {', '.join(unknown)}, which are not among {', '.join(label.names)}.")
    documents = {split: join_and_cut(splits[split], label, groups, tokens) for split in ("train", "test")}
    for own in documents.values():
        if missing := sorted(group for group, texts in zip(groups, own, strict=True) if not texts):
            raise ValueError(f"`tokens` ({tokens}) is longer than all the posts of {', '.join(missing)} together.")
    kept, cut = cut_last(documents["train"], validation)

    def encode(chosen: list[tuple[bytes, int]]) -> Dataset:
        columns = {"input_ids": [hash_grams(text, vocab_size) for text, _ in chosen], "labels": [y for _, y in chosen]}
        return Dataset.from_dict(columns).with_format("torch")

    description = f"20 Newsgroups, {len(groups)} groups, joined posts of {tokens} bytes, a hashed {GRAM}-gram a byte"
    chosen = (take_turns(kept)[:train], take_turns(cut), take_turns(documents["test"])[:test])
    return Task(*map(encode, chosen), len(groups), description)


def cut_last(documents: list[list[bytes]], count: int) -> tuple[list[list[bytes]], list[list[bytes]]]:
    """The documents of each class without its last ones, `count` of all classes together, and those."""
    share = count // len(documents)
    for own in documents:
        if len(own) <= share:
            raise ValueError(
                f"`validation_documents` ({count}) must leave documents to train on, but a class has {len(own)}."
            )
    firsts = [len(own) - share for own in documents]
    kept = [own[:first] for own, first in zip(documents, firsts, strict=True)]
    return kept, [own[first:] for own, first in zip(documents, firsts, strict=True)]


def fashion_pages(side: int, train: int, validation: int, test: int, folder: str | None = None) -> Task:
    """
    Which kind of clothes a page of Fashion-MNIST shows: images of one class side by side, in their own resolution, as
    many as fit into `side` x `side` pixels; what is left at the margins is black. Each image is on one page at most.
    There are as many pages at most, of all classes in equal parts, those of the validation of training images.
    """
    if side < IMAGE:
        raise ValueError(f"a page must have {IMAGE} x {IMAGE} pixels at least for an image, got {side} x {side}.")
    splits = load_fashion_mnist(folder)
    classes, count = splits["train"].features["labels"].num_classes, (side // IMAGE) ** 2
    share = -(-validation // classes)
    pages = {split: _deal(splits[split], count, classes) for split in ("train", "test")}
    chosen = (pages["train"][share * classes :][:train], pages["train"][:validation], pages["test"][:test])
    if not all(chosen[::2]):
        raise ValueError(f"Fashion-MNIST has too few images for pages of {side} x {side} pixels of each class.")
    parts = (
        _draw_pages(splits[name], rows, side) for name, rows in zip(("train", "train", "test"), chosen, strict=True)
    )
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
