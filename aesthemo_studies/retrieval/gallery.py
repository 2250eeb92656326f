"""Retrieval by emotion and aesthetics: which photographs of a gallery come nearest to a photo, a class, or both.

That an image's emotion can serve retrieval is Li, Xu & Duan's (Library and Information Service 63(11), 2019). Their
measure, data and features are not in the text available to us; what stands here is ours: cosines in a space of
``WIDTH`` dimensions, exact search without an index, and measures that never count a photograph of the query's own
series, since near-duplicates are found by any method.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from aesthemo_lib.files import atomic_folder, read_json, read_tensors, write_json
from aesthemo_lib.tasks import Task

WIDTH = 64
"""Dimensions that features are brought to: a search reads N x WIDTH numbers, and noise of small variance is gone."""
BLOCK = 64
"""Queries that are compared with the gallery at once."""
WORDS = {"beautiful": "high", "plain": "low"}
"""Words for classes, beside the classes' own names and the parts of these ('calm' of 'positive_calm')."""


@dataclass(frozen=True)
class Space:
    """From a network's features to vectors of length 1: columns standardised, then their principal components.

    Attributes:
        mean, scale: (F,) of the training images.
        axes: (F, D), the first principal components of these.
    """

    mean: np.ndarray
    scale: np.ndarray
    axes: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray, width: int = WIDTH) -> Space:
        """The space of some training images' (N, F) features; D is ``width``, or less where there is no more."""
        x = np.asarray(features, dtype=np.float64)
        mean, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
        axes = np.linalg.svd((x - mean) / scale, full_matrices=False)[2][:width].T
        return cls(*(part.astype(np.float32) for part in (mean, scale, axes)))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(N, F) features to (N, D) float32 vectors of length 1, whose products are cosines.

        Raises:
            ValueError: features of another width, or such that are not finite.
        """
        x = np.atleast_2d(np.asarray(features, dtype=np.float32))
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise ValueError(f"features: expected rows of {len(self.mean)} numbers, got shape {x.shape}; compute them "
                             f"with the network that the gallery was made with")
        if not np.isfinite(x).all():
            raise ValueError(f"features: row {np.flatnonzero(~np.isfinite(x).all(axis=1))[0]} holds NaN or infinity")
        vectors = (x - self.mean) / self.scale @ self.axes
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def meant(condition: str, tasks: Sequence[Task]) -> dict[str, np.ndarray]:
    """The classes that a condition asks for, as a mask (C,) by task name.

    Words are joined by 'and' or commas. Each is a class ('awe'), a part of the names of several ('calm' of
    'positive_calm'), or one of ``WORDS``; several of one task must hold at once.

    Raises:
        ValueError: a word that no task knows, or a combination that no class has.
    """
    found: dict[str, np.ndarray] = {}
    for word in filter(None, re.split(r"\s*,\s*(?:and\s+)?|\s+and\s+", condition.strip())):
        name, known = WORDS.get(word, word), False
        for task in tasks:
            exact = np.array([name == one for one in task.classes])
            mask = exact if exact.any() else np.array([name in one.split("_") for one in task.classes])
            if mask.any():
                found[task.name], known = found.get(task.name, True) & mask, True
        if not known:
            classes = "; ".join(f"{task.name}: {', '.join(task.classes)}" for task in tasks)
            raise ValueError(f"condition: no class {word!r}; there are {classes}")
    for name, mask in found.items():
        if not mask.any():
            raise ValueError(f"condition {condition!r}: no class of {name} is all of that at once")
    return found


def nearest(scores: np.ndarray, k: int) -> np.ndarray:
    """The k best of each row, best first; of equals the one that comes first in the gallery.

    Args:
        scores: (Q, N).
        k: 1..N.

    Returns:
        (Q, k) column numbers.
    """
    best = np.empty((len(scores), k), dtype=np.int64)
    for row, values in enumerate(scores):
        edge = np.partition(values, len(values) - k)[len(values) - k]
        among = np.flatnonzero(values >= edge)  # all that tie with the k-th, so that the choice is the same everywhere
        best[row] = among[np.argsort(-values[among], kind="stable")[:k]]
    return best


@dataclass(frozen=True)
class Gallery:
    """N photographs that can be searched.

    Args:
        tasks: what is known of them.
        names: N names.
        groups: (N,) the series that each belongs to.
        vectors: (N, D) float32 of length 1, see ``Space``.
        probabilities: (N, C) by task name.
        space: what makes a query's vector.

    Raises:
        ValueError: no photographs, or parts that don't fit together.
    """

    tasks: tuple[Task, ...]
    names: tuple[str, ...]
    groups: np.ndarray
    vectors: np.ndarray
    probabilities: dict[str, np.ndarray]
    space: Space

    def __post_init__(self):
        if not len(self.names):
            raise ValueError("gallery: it is empty; give it one photograph or more")
        wanted = {"groups": (len(self.names),), "vectors": (len(self.names), self.space.axes.shape[1])}
        wanted |= {task.name: (len(self.names), len(task.classes)) for task in self.tasks}
        for what, shape in wanted.items():
            values = getattr(self, what, None) if what in ("groups", "vectors") else self.probabilities.get(what)
            if values is None or values.shape != shape:
                raise ValueError(f"gallery: expected {what} of shape {shape}, got {getattr(values, 'shape', None)}")

    @cached_property
    def _columns(self) -> np.ndarray:
        return np.ascontiguousarray(self.vectors.T)

    def scores(self, features: np.ndarray | None = None, condition: str = "") -> np.ndarray:
        r"""How well each photograph of the gallery answers each query, in 0..1.

        .. math:: s = \tfrac12 (1 + \cos(q, x)) \cdot \prod_t \sum_{c \in \text{asked of } t} p_t(c \mid x)

        The first factor is left out where no photo is given, the second where no class is: a photo and a condition must
        both be met.

        Args:
            features: (Q, F) of the query photos.
            condition: classes, see ``meant``.

        Returns:
            (Q, N) float32; one row without photos.
        """
        if features is None and not condition.strip():
            raise ValueError("search: give a photo's features, a condition such as 'high', or both")
        found = np.ones((1, len(self.names)), dtype=np.float32)
        if features is not None:
            found = (1 + self.space(features) @ self._columns) / 2
        for task, mask in meant(condition, self.tasks).items():
            found = found * self.probabilities[task][:, mask].sum(axis=1, dtype=np.float32)
        return found

    def search(
        self, features: np.ndarray | None = None, condition: str = "", k: int = 10,
        without: Sequence[str] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k photographs that answer each query best.

        Args:
            features, condition: see ``scores``.
            k: how many.
            without: for each query a series that is left out, such as its own.

        Returns:
            (Q, k) row numbers, best first (-1 where the gallery has no more), and their scores.
        """
        if not 1 <= k <= len(self.names):
            raise ValueError(f"search: expected k in 1..{len(self.names)}, the gallery's size, got {k}")
        queries = 1 if features is None else len(np.atleast_2d(features))
        if without is not None and len(without) != queries:
            raise ValueError(f"search: {len(without)} series to leave out for {queries} queries")
        rows, values = [], []
        for start in range(0, queries, BLOCK):
            part = slice(start, start + BLOCK)
            found = self.scores(None if features is None else np.atleast_2d(features)[part], condition)
            if without is not None:
                found[np.asarray(without)[part, None] == self.groups[None]] = -np.inf
            best = nearest(found, k)
            values.append(np.take_along_axis(found, best, axis=1))
            rows.append(np.where(np.isfinite(values[-1]), best, -1))
        return np.concatenate(rows), np.concatenate(values)

    def save(self, folder: Path | str) -> None:
        """Write ``gallery.safetensors`` and ``gallery.json`` into a folder, whole or not at all."""
        from safetensors.numpy import save_file

        told = {"names": list(self.names), "groups": self.groups.tolist(),
                "tasks": [[t.name, list(t.classes), t.loss_weight] for t in self.tasks]}
        arrays = {"vectors": self.vectors, **vars(self.space)}
        arrays |= {f"probabilities.{name}": values for name, values in self.probabilities.items()}
        with atomic_folder(Path(folder)) as whole:
            save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()},
                      whole / "gallery.safetensors")
            write_json(whole / "gallery.json", told)

    @classmethod
    def load(cls, folder: Path | str) -> Gallery:
        """A gallery that ``save`` wrote.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged.
        """
        folder = Path(folder)
        if not (folder / "gallery.json").exists():
            raise FileNotFoundError(f"{folder} holds no gallery (no gallery.json); make one with Gallery.save")
        told = read_json(folder / "gallery.json")
        arrays = {name: tensor.numpy() for name, tensor in read_tensors(folder / "gallery.safetensors").items()}
        try:
            tasks = tuple(Task(name, tuple(classes), weight) for name, classes, weight in told["tasks"])
            return cls(tasks, tuple(told["names"]), np.array(told["groups"], dtype=str), arrays["vectors"],
                       {task.name: arrays[f"probabilities.{task.name}"] for task in tasks},
                       Space(arrays["mean"], arrays["scale"], arrays["axes"]))
        except (KeyError, TypeError, ValueError) as fault:
            raise ValueError(f"{folder} holds no gallery that can be read ({type(fault).__name__}: {fault}); "
                             f"make it again") from fault


# --- measures


def measures(
    scores: np.ndarray, relevant: np.ndarray, k: int = 10, allowed: np.ndarray | None = None
) -> pd.DataFrame:
    """How good each query's ranking is, and what a random order would reach.

    Args:
        scores: (Q, N); of equals the first comes first.
        relevant: (Q, N) bool.
        k: the depth of precision and nDCG.
        allowed: (Q, N) bool, what may be found at all; everything by default.

    Returns:
        one row a query: ``precision`` (of the first k), ``map`` (average precision, of the whole ranking), ``ndcg`` (of
        the first k, gain 1 or 0), and each one's expectation for a random order as ``chance_..``. NaN where nothing
        relevant may be found.
    """
    allowed = np.ones(relevant.shape, dtype=bool) if allowed is None else allowed
    order = np.argsort(np.where(allowed, -scores, np.inf), axis=1, kind="stable")
    hits = np.take_along_axis(relevant & allowed, order, axis=1)
    rank, found = np.arange(1, hits.shape[1] + 1), hits.cumsum(axis=1)
    r, n = found[:, -1].astype(np.float64), allowed.sum(axis=1)
    k = min(k, hits.shape[1])
    gain = 1 / np.log2(rank + 1)
    harmonic = np.cumsum(1 / rank)[np.maximum(n, 1) - 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        ideal = gain.cumsum()[np.clip(np.minimum(r, k).astype(int), 1, None) - 1]
        share = np.where(r > 0, r / n, np.nan)
        # E[AP] of a random order (Bestgen 2015, Exact expected average precision of the random baseline)
        chance = np.where(n > 1, ((r - 1) / (n - 1) * (n - harmonic) + harmonic) / n, 1.0)
        table = {
            "precision": hits[:, :k].mean(axis=1), "map": (found / rank * hits).sum(axis=1) / r,
            "ndcg": (hits[:, :k] * gain[:k]).sum(axis=1) / ideal,
            "chance_precision": share * np.minimum(n, k) / k, "chance_map": chance,
            "chance_ndcg": share * gain.cumsum()[np.minimum(np.maximum(n, 1), k) - 1] / ideal,
        }
    return pd.DataFrame({name: np.where(r > 0, values, np.nan) for name, values in table.items()})


def search_measures(vectors: np.ndarray, labels: np.ndarray, groups: np.ndarray, k: int = 10) -> pd.DataFrame:
    """Every photograph as a query, all others as its gallery, but for those of its own series.

    Args:
        vectors: (N, D) of length 1.
        labels: (N,) class numbers; negative where unlabelled, which take no part.
        groups: (N,) the series.
        k: see ``measures``.

    Returns:
        one row a labelled photograph, in order, with its ``group``.
    """
    keep = labels >= 0
    vectors, labels, groups = vectors[keep], labels[keep], np.asarray(groups)[keep]
    same = labels[:, None] == labels
    return measures(vectors @ vectors.T, same, k, groups[:, None] != groups).assign(group=groups)


def class_map(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes of the average precision when one asks for the class itself; NaN without labels."""
    keep = labels >= 0
    classes = np.arange(probabilities.shape[1])[:, None]
    values = measures(probabilities[keep].T, classes == labels[keep])["map"] if keep.any() else pd.Series(dtype=float)
    return float(values.mean())


def takes(high: np.ndarray, liked: np.ndarray, groups: np.ndarray) -> pd.DataFrame:
    """Of several takes of one subject, does a network find the best? Its order beside the raters', series by series.

    Args:
        high: (N,) what the network says.
        liked: (N,) the raters' mean; NaN where there is none.
        groups: (N,) the series.

    Returns:
        one row a series of two or more takes that the raters tell apart: ``group``, ``photos``, ``agree`` (the share of
        the pairs in the raters' order; a pair that the network holds equal counts half; without such pairs Kendall's
        tau is 2 agree - 1), ``best`` (whether the network's first is the raters'), ``chance_best``.
    """
    rows = []
    for group in pd.unique(np.asarray(groups)):
        mine = np.flatnonzero((np.asarray(groups) == group) & np.isfinite(liked))
        said, truth = (np.sign(values[mine][:, None] - values[mine]) for values in (high, liked))
        told_apart = np.triu(truth != 0, 1)
        if not told_apart.any():
            continue
        first, top = high[mine] == high[mine].max(), liked[mine] == liked[mine].max()
        rows.append({"group": group, "photos": len(mine), "agree": ((said * truth)[told_apart] + 1).mean() / 2,
                     "best": (first & top).sum() / first.sum(), "chance_best": top.mean()})
    return pd.DataFrame(rows, columns=["group", "photos", "agree", "best", "chance_best"])
