"""``AnnotatedImages``: the one thing that every reader returns, and how it is split."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..tasks import Task
from . import ratings as rating

TEST_FOLDS = 4  #: Each test set is a quarter of the groups, as in the measurements that the defaults come from
VALIDATION_FOLDS = 5
MANY_GROUPS = 20_000
"""With more groups than this, folds drawn at random hold even shares of the classes by themselves (to half a per cent);
placing one group after another takes five minutes for a million."""
RESERVED = ("photo", "image", "group", "part", "pixels", "row", "method", "split", "seed")
"""Columns that every table of answers may have, besides those of the tasks."""


class Split(NamedTuple):
    """Row numbers of the three parts, each sorted; no group is in two of them."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def _check_columns(name: str, tasks: Sequence[Task]) -> None:
    """Raise ValueError for tasks whose columns would overwrite each other in tables of predictions."""
    taken = dict.fromkeys(RESERVED, "a column of each table of predictions")
    for task in tasks:
        for column in (task.name, f"true_{task.name}", *(f"{task.name}_{label}" for label in task.classes)):
            other = taken.setdefault(column, f"a column of task {task.name!r}")
            if other != f"a column of task {task.name!r}":
                raise ValueError(f"{name}: task {task.name!r} needs a column {column!r}, which is {other} too; rename "
                                 f"the task")
        if longer := [other.name for other in tasks if other.name.startswith(f"{task.name}_")]:
            raise ValueError(f"{name}: task {longer[0]!r} begins like the columns of task {task.name!r} "
                             f"({task.name}_{task.classes[0]} ..); rename one of the two")


@dataclass(frozen=True)
class AnnotatedImages:
    """N images with the votes of their annotators, for any number of tasks.

    Args:
        name: the data set's name, such as 'oasis'.
        tasks: what is annotated.
        paths: N image files.
        votes: (N, C) non-negative votes by task name; a row of zeros is unlabelled.
        ratings: where single ratings are published, a table (image, annotator, value) by task name.
        levels: the measurement level of these ratings, by task name ('nominal', 'ordinal', 'interval').
        rating_votes: the (R, C) votes of the single ratings, row by row as in ``ratings``.
        groups: N names; images of one group never part in a split. By default each image is its own.
        facts: a table of N rows with whatever else is published of each image (source, mean rating, factors).
        fixed: N of 'train', 'validation', 'test', where the publisher fixed the split.
        folder: the folder from which ``names`` are seen; by default the deepest that holds all images.

    Raises:
        ValueError: the parts do not fit together; the message names what and where.
    """

    name: str
    tasks: tuple[Task, ...]
    paths: Sequence[Path]
    votes: dict[str, np.ndarray]
    ratings: dict[str, pd.DataFrame] = field(default_factory=dict)
    levels: dict[str, str] = field(default_factory=dict)
    rating_votes: dict[str, np.ndarray] = field(default_factory=dict)
    groups: np.ndarray = None  # type: ignore[assignment]  # None: each image its own, see __post_init__
    facts: pd.DataFrame = None
    fixed: np.ndarray | None = None
    folder: Path | None = None

    def __post_init__(self):
        set_ = lambda key, value: object.__setattr__(self, key, value)  # noqa: E731  (a frozen dataclass's own way)
        names = [task.name for task in self.tasks]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"{self.name}: expected one or more tasks of distinct names, got {names}")
        _check_columns(self.name, self.tasks)
        if set(self.votes) != set(names):
            raise ValueError(f"{self.name}: votes for {sorted(self.votes)} but tasks {sorted(names)}")
        # Half the time of reading 200,000 rows went into making paths of paths.
        set_("paths", tuple(path if isinstance(path, Path) else Path(path) for path in self.paths))
        texts = list(map(os.path.normcase, self.paths))  # as the file system tells them apart
        if len(set(texts)) < len(texts):
            twice = self.paths[int(pd.Series(texts).duplicated().argmax())]
            raise ValueError(f"{self.name}: {twice} is listed twice; keep one row an image")
        if self.folder is None:
            set_("folder", Path(os.path.commonpath(set(map(os.path.dirname, self.paths)))) if self.paths else Path())
        set_("votes", {t.name: self._checked_votes(t) for t in self.tasks})
        set_("groups", np.asarray(range(len(self)) if self.groups is None else self.groups, dtype=str))
        set_("facts", pd.DataFrame(index=range(len(self))) if self.facts is None else self.facts.reset_index(drop=True))
        for what, length in (("groups", len(self.groups)), ("facts", len(self.facts))):
            if length != len(self):
                raise ValueError(f"{self.name}: {length} {what} for {len(self)} images")
        set_("ratings", {name: rating.check_ratings(table, len(self), f"{self.name}, {name} ratings")
                         for name, table in self.ratings.items()})
        for name, votes in self.rating_votes.items():
            ratings = len(self.ratings.get(name, ()))
            if len(votes) != ratings:
                raise ValueError(f"{self.name}: {len(votes)} votes for {ratings} ratings of {name}")
        if self.fixed is not None and (len(self.fixed) != len(self) or set(self.fixed) - set(Split._fields)):
            raise ValueError(f"{self.name}: expected a fixed part of each image, one of {', '.join(Split._fields)}")

    def _checked_votes(self, task: Task) -> np.ndarray:
        where = f"{self.name}, {task.name} votes"
        votes = rating.check_votes(self.votes[task.name], len(task.classes), where)
        if len(votes) != len(self.paths):
            raise ValueError(f"{where}: {len(votes)} rows for {len(self.paths)} images")
        return votes

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What each image is called in tables, runs and pages: its path as seen from ``folder``, with slashes."""
        start = f"{self.folder}{os.sep}"
        return tuple(
            path.as_posix()[len(start):] if str(path).startswith(start) and ".." not in path.parts
            else Path(os.path.relpath(path, self.folder)).as_posix() for path in self.paths)

    def labels(self, task: str) -> np.ndarray:
        """The consensus class of each image, (N,) int64; -1 where nobody voted (see ``ratings.consensus``)."""
        return rating.consensus(self.votes[task])

    def fingerprint(self) -> str:
        """A SHA-256 of tasks, names, votes, groups and fixed split: what decides a run, but the pixels' bytes."""
        sha = hashlib.sha256()
        sha.update(repr([(t.name, t.classes) for t in self.tasks]).encode())
        sha.update("\0".join(self.names).encode("utf-8", "surrogateescape"))
        sha.update("\0".join(self.groups).encode())
        sha.update("\0".join(() if self.fixed is None else self.fixed).encode())
        for task in self.tasks:
            sha.update(np.ascontiguousarray(self.votes[task.name]).data)
        return sha.hexdigest()

    def select(self, rows: Sequence[int] | np.ndarray) -> AnnotatedImages:
        """Only these rows (numbers, or a mask), in this order, ratings included."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        place = np.full(len(self), -1)
        place[rows] = np.arange(len(rows))
        ratings, rating_votes = {}, {}
        for name, table in self.ratings.items():
            keep = place[table["image"]] >= 0
            ratings[name] = table[keep].assign(image=place[table["image"][keep]])
            if name in self.rating_votes:
                rating_votes[name] = self.rating_votes[name][keep]
        return replace(
            self, paths=[self.paths[int(row)] for row in rows],
            votes={name: votes[rows] for name, votes in self.votes.items()}, ratings=ratings, rating_votes=rating_votes,
            groups=self.groups[rows], facts=self.facts.iloc[rows],
            fixed=None if self.fixed is None else self.fixed[rows],
        )

    def split(self, number: int = 0) -> Split:
        """Training, validation and test rows.

        Split ``number`` is test fold ``number % 4`` of the ``number // 4``-th shuffle, so four splits in a row
        test every image once. Groups stay together; class shares of the first task (and, where there are enough
        groups, of all tasks at once) are kept as even as the groups allow. A publisher's fixed split is used as it is.

        Raises:
            ValueError: too few groups or images for a split, or a fixed split without one of its parts.
        """
        split = self._made_split(number) if self.fixed is None else self._fixed_split()
        if len(split.train) < 2 or not len(split.validation) or not len(split.test):
            sizes = ", ".join(f"{len(rows)} of {part}" for part, rows in split._asdict().items())
            raise ValueError(f"{self.name}: split {number} holds too few images ({sizes}); a training needs 2 or more, "
                             f"validation and test 1: add images, or smaller groups")
        return split

    def _fixed_split(self) -> Split:
        if missing := [part for part in Split._fields if part not in np.asarray(self.fixed)]:
            raise ValueError(f"{self.name}: no image is marked {missing[0]!r} in the fixed split; mark some, "
                             f"or leave the split out to have one made")
        return Split(*(np.flatnonzero(self.fixed == part) for part in Split._fields))

    def _made_split(self, number: int) -> Split:
        repeat, fold = divmod(number, TEST_FOLDS)
        rows = np.arange(len(self))
        rest, test = self._fold(rows, TEST_FOLDS, repeat, fold)
        return Split(*self._fold(rest, VALIDATION_FOLDS, 1000 + number, 0), test)

    def _fold(self, rows: np.ndarray, folds: int, seed: int, fold: int) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

        groups = self.groups[rows]
        if (count := len(np.unique(groups))) < folds:
            raise ValueError(f"{self.name}: {len(rows)} images in {count} groups can't be split {folds} ways; add "
                             f"images, or groups (a group never parts)")
        kind = GroupKFold if count > MANY_GROUPS else StratifiedGroupKFold
        splitter = kind(folds, shuffle=True, random_state=seed)
        kept, held = list(splitter.split(rows, self._strata(rows, folds), groups))[fold]
        return rows[kept], rows[held]

    def _strata(self, rows: np.ndarray, folds: int) -> np.ndarray:
        """One class number per row, of all tasks together; classes too rare to stratify share one."""
        joint = np.zeros(len(rows), dtype=np.int64)
        for task in self.tasks:
            joint = joint * (len(task.classes) + 1) + self.labels(task.name)[rows] + 1
        _, joint, count = np.unique(joint, return_inverse=True, return_counts=True)
        rare = count[joint] < 2 * folds
        joint[rare] = -1
        if 0 < rare.sum() < folds:
            joint[rare] = joint[~rare][0] if (~rare).any() else -1
        return joint

    def one_rater_accuracy(self, task: str) -> float:
        """How often one rater agrees with the others' consensus; NaN without single ratings of the task."""
        if task not in self.rating_votes:
            return float("nan")
        return rating.one_rater_accuracy(self.ratings[task]["image"], self.rating_votes[task], len(self))

    def panel_ceiling(self, task: str) -> float:
        """How often a resampled panel of the same size agrees with the label; NaN if nobody had two raters."""
        if task not in self.rating_votes:
            return rating.panel_ceiling(self.votes[task])
        ballots = rating.count_ballots(self.ratings[task]["image"], self.rating_votes[task], len(self))
        return rating.panel_ceiling(*ballots)

    def summary(self) -> pd.DataFrame:
        """One row per task and class: images with that consensus, their share, ties, mean share of the votes."""
        rows = []
        for task in self.tasks:
            votes, labels = self.votes[task.name], self.labels(task.name)
            share, ties = rating.consensus_share(votes), rating.tied(votes)
            for number, name in enumerate(task.classes):
                mine = labels == number
                rows.append({
                    "task": task.name, "class": name, "images": int(mine.sum()),
                    "share": mine.sum() / max((labels >= 0).sum(), 1), "ties": int(ties[mine].sum()),
                    "mean_agreement": float(share[mine].mean()) if mine.any() else float("nan"),
                })
        return pd.DataFrame(rows)
