"""Files that lie in a data set twice: they stay in one part of a split, and their labels should agree."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from .table import AnnotatedImages

SHOWN = 5
"""How many copies, and how many contradictions, a message names."""


def group_copies(images: AnnotatedImages) -> AnnotatedImages:
    """The same set, with byte-identical files in one group; a log line names them, and labels that contradict.

    Raises:
        ValueError: the set has a fixed split, and copies lie in two parts of it.

    >>> from ..tasks import AESTHETICS
    >>> for name in ("a.jpg", "b.jpg"):
    ...     _ = Path(name).write_bytes(b"the same")
    >>> two = AnnotatedImages("mine", (AESTHETICS,), ("a.jpg", "b.jpg"), {"aesthetics": [[0, 1], [0, 1]]})
    >>> len(set(group_copies(two).groups))
    1
    """
    copies = [rows for rows in _identical(images.paths) if len(rows) > 1]
    if not copies:
        return images
    group = {name: name for name in images.groups}  # the group that each has become part of
    for first, *others in copies:
        for row in others:
            _check_parts(images, first, row)
            one, other = _root(group, images.groups[first]), _root(group, images.groups[row])
            group[other] = one
    found = [f"{images.names[row]} = {images.names[rows[0]]}" for rows in copies for row in rows[1:]]
    wrong = [text for rows in copies for text in _contradictions(images, rows)]
    logging.getLogger(__name__).warning(
        "%s: %d files are copies of others, so they stay in one part of a split (%s)%s", images.name, len(found),
        _some(found), f"; copies whose labels contradict each other: {_some(wrong)}" if wrong else "")
    return replace(images, groups=np.array([_root(group, name) for name in images.groups]))


def _identical(paths: Iterable[Path]) -> list[list[int]]:
    """Rows of equal files, by size first; only files of one size are read."""
    sizes: dict[int, list[tuple[int, Path]]] = defaultdict(list)
    for row, path in enumerate(paths):
        if path.is_file() and (size := path.stat().st_size):
            sizes[size].append((row, path))
    found: dict[bytes, list[int]] = defaultdict(list)
    for rows in sizes.values():
        for row, path in rows if len(rows) > 1 else ():
            with path.open("rb") as file:
                found[hashlib.file_digest(file, "sha256").digest()].append(row)
    return list(found.values())


def _root(group: dict[str, str], name: str) -> str:
    while group[name] != name:
        name = group[name]
    return name


def _check_parts(images: AnnotatedImages, first: int, row: int) -> None:
    if images.fixed is not None and images.fixed[first] != images.fixed[row]:
        raise ValueError(f"{images.name}: {images.names[row]} in {images.fixed[row]} is a copy of "
                         f"{images.names[first]} in {images.fixed[first]}; remove one, or put both into one part")


def _contradictions(images: AnnotatedImages, rows: list[int]) -> list[str]:
    texts = []
    for task in images.tasks:
        labels = images.labels(task.name)
        told = {task.classes[labels[row]]: images.names[row] for row in rows[::-1] if labels[row] >= 0}
        if len(told) > 1:
            texts.append(" and ".join(f"{name} is {label!r}" for label, name in told.items()))
    return texts


def _some(texts: list[str]) -> str:
    return "; ".join(texts[:SHOWN]) + (f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else "")
