"""The votes of a class: one file per student, merged into one table."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from aesthemo_lib.data import ratings as rating
from aesthemo_lib.data.table import AnnotatedImages
from aesthemo_lib.files import atomic
from aesthemo_lib.tasks import PATENT_TASKS, Task

VOTE_COLUMNS = ("path", "annotator")


NAME = re.compile(r"\w[\w .-]{0,39}")
"""A rater's name or pseudonym: letters of any script, digits, space, dot, hyphen; a table takes none for a formula."""


def checked_name(name: str) -> str:
    """A rater's name without surrounding space.

    Raises:
        ValueError: it is empty, longer than 40 characters, or has other characters than ``NAME`` allows.
    """
    name = name.strip()
    if not NAME.fullmatch(name):
        raise ValueError(f"{name[:60]!r} cannot be used as a name; use 1 to 40 letters, digits, spaces, dots or "
                         f"hyphens, a letter or digit first")
    return name


def write_votes(path: Path, name: str, votes: Sequence[dict[str, str]], tasks: tuple[Task, ...]) -> Path:
    """Write one rater's ballot atomically, as a CSV file for the reader ``csv``.

    Args:
        path: the CSV file, next to the photographs' folder.
        name: the rater's.
        votes: one row per photograph: its ``path`` relative to the CSV file, and a class by task name ('' for
            none).
        tasks: what was asked.
    """
    with atomic(Path(path)) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [*VOTE_COLUMNS, *(task.name for task in tasks)], restval="")
        writer.writeheader()
        writer.writerows({"annotator": checked_name(name), **row} for row in votes)
    return Path(path)


def merge_votes(folder: Path, tasks: tuple[Task, ...] = PATENT_TASKS) -> list[str]:
    """All ballots ``votes-*.csv`` of a folder as its ``labels.csv``, which ``data="csv", root=folder`` reads.

    A ballot that can't be used is left out, so that one broken file does not stop a class of sixty. A
    ballot that was handed in twice counts once.

    Returns:
        one line for each ballot left out, with the reason.

    Raises:
        ValueError: no ballot is left.
    """
    folder, rows, first, left_out = Path(folder), [], {}, []
    for path in sorted(folder.glob("votes-*.csv")):
        try:
            name, ballot = _ballot(path, tasks)
            if first.setdefault(name, (path, ballot)) == (path, ballot):
                rows += ballot
            elif first[name][1] != ballot:
                raise ValueError(f"{name!r} also voted in {first[name][0].name}; two people need two names")
        except (ValueError, OSError, csv.Error) as fault:
            left_out.append(f"left out {path.name!r}: {' '.join(str(fault).split())[:160]}")
    if not rows:
        raise ValueError(f"{folder}: no ballot votes-*.csv that can be used. {' '.join(left_out[:3])}".strip())
    with atomic(folder / "labels.csv") as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return left_out


def _ballot(path: Path, tasks: tuple[Task, ...]) -> tuple[str, list[dict[str, str]]]:
    """One rater's name and rows, checked: known photographs, known classes, one name."""
    columns = [*VOTE_COLUMNS, *(task.name for task in tasks)]
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        rows = list(reader)
    if reader.fieldnames != columns or any(None in row or None in row.values() for row in rows):
        raise ValueError(f"expected the columns {','.join(columns)}, as the ballot writes them")
    names, photos = {row["annotator"] for row in rows}, [row["path"] for row in rows]
    if len(names) != 1 or len(set(photos)) < len(photos):
        raise ValueError(f"{len(names)} raters and {len(photos)} rows; expected one rater, and each photograph once")
    there = {file.relative_to(path.parent).as_posix() for file in path.parent.glob("*/*") if file.is_file()}
    for row in rows:
        if row["path"] not in there:
            raise ValueError(f"photograph {row['path'][:60]!r} is not among the class's")
        for task in tasks:
            if row[task.name]:
                task.index(row[task.name])
    return checked_name(names.pop()), rows


def panel(images: AnnotatedImages) -> pd.DataFrame:
    """Statistics of a class's votes, one column per task: raters, alpha, ties, one rater, ceiling."""
    columns = {}
    for task in images.tasks:
        table, votes = images.ratings[task.name], images.votes[task.name]
        columns[task.name] = {
            "raters": table["annotator"].nunique(), "ratings": len(table),
            "mean share of the winner": float(np.nanmean(rating.consensus_share(votes))),
            "Krippendorff's alpha": rating.krippendorff_alpha(table, images.levels[task.name]),
            "ties": int(rating.tied(votes).sum()), "one rater": images.one_rater_accuracy(task.name),
            "panel ceiling": images.panel_ceiling(task.name),
        }
    return pd.DataFrame(columns)
