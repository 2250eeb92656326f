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

    A fixed split is left as it is; the line then says which copies it has in two parts.
    """
    copies = [rows for rows in _identical(images.paths) if len(rows) > 1]
    if not copies:
        return images
    group = {name: name for name in images.groups}  # the group that each has become part of
    for first, *others in copies:
        for row in others:
            one, other = _root(group, images.groups[first]), _root(group, images.groups[row])
            group[other] = one
    found = [f"{images.names[row]} = {images.names[rows[0]]}" for rows in copies for row in rows[1:]]
    across, wrong = _across(images, copies), [text for rows in copies for text in _contradictions(images, rows)]
    kept = "the fixed split has them in two parts, remove one of each" if across else "they stay in one part of a split"
    logging.getLogger(__name__).warning(
        "%s: %d files are copies of others; %s (%s)%s", images.name, len(found), kept, _some(across or found),
        f"; copies whose labels contradict each other: {_some(wrong)}" if wrong else "")
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


def _across(images: AnnotatedImages, copies: list[list[int]]) -> list[str]:
    """Copies that a fixed split has put into two parts."""
    fixed, names = images.fixed, images.names
    return [] if fixed is None else [
        f"{names[rows[0]]} in {fixed[rows[0]]} and {names[row]} in {fixed[row]}"
        for rows in copies for row in rows[1:] if fixed[row] != fixed[rows[0]]]


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
