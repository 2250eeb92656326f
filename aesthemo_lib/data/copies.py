"""Identical files in a data set: they stay in one part of a split, and their labels should agree."""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ..files import cache_folder, digest, read_json, write_json
from .table import AnnotatedImages

SHOWN = 5  #: How many copies, and how many contradictions, a message names


def group_copies(images: AnnotatedImages) -> AnnotatedImages:
    """The same set, with byte-identical files in one group; a log line names them, and labels that contradict.

    A fixed split is left as it is; the line then says which copies it has in two parts.
    """
    there = [row for row, path in enumerate(images.paths) if path.is_file() and path.stat().st_size]
    alike: dict[int, list[int]] = {}
    for row, first in zip(there, identical_files([images.paths[row] for row in there]), strict=True):
        alike.setdefault(first, []).append(row)
    copies = [rows for rows in alike.values() if len(rows) > 1]
    if not copies:
        return images
    group = {name: name for name in images.groups}  # the group that each has become part of
    for first, *others in copies:
        for row in others:
            group[_root(group, images.groups[row])] = _root(group, images.groups[first])
    pairs = [f"{images.names[row]} = {images.names[rows[0]]}" for rows in copies for row in rows[1:]]
    across, wrong = _across(images, copies), [text for rows in copies for text in _contradictions(images, rows)]
    kept = "the fixed split has them in two parts, remove one of each" if across else "they stay in one part of a split"
    logging.getLogger(__name__).warning(
        "%s: %d files are copies of others; %s (%s)%s", images.name, len(pairs), kept, _some(across or pairs),
        f"; copies whose labels contradict each other: {_some(wrong)}" if wrong else "")
    return replace(images, groups=np.array([_root(group, name) for name in images.groups]))


def identical_files(paths: Sequence[Path]) -> np.ndarray:
    """For each of N files the row of the first with the same bytes, (N,) int64; its own row if it has no copy.

    Only files of equal size are read. The answer is kept in the cache until a file's size or time changes.
    """
    stats = [os.stat(path) for path in paths]
    facts = [[os.path.abspath(path), stat.st_size, stat.st_mtime_ns] for path, stat in zip(paths, stats, strict=True)]
    kept = cache_folder() / "copies" / f"{digest(facts)[:16]}.json"
    if kept.is_file():
        first = read_json(kept)
    else:
        sizes = pd.Series([stat.st_size for stat in stats])
        seen: dict[object, int] = {}
        marks = [_sha256(path) if alike else row for row, (path, alike)
                 in enumerate(zip(paths, sizes.duplicated(keep=False), strict=True))]
        first = [seen.setdefault(mark, row) for row, mark in enumerate(marks)]
        write_json(kept, first)
    return np.asarray(first, dtype=np.int64)


def _sha256(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


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
        labelled = {task.classes[labels[row]]: images.names[row] for row in rows[::-1] if labels[row] >= 0}
        if len(labelled) > 1:
            texts.append(" and ".join(f"{name} is {label!r}" for label, name in labelled.items()))
    return texts


def _some(texts: list[str]) -> str:
    return "; ".join(texts[:SHOWN]) + (f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else "")
