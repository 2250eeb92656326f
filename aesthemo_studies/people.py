"""People as baselines of a comparison: one human rater, and a whole new panel.

Of people there are only answers, which are measured here under the names of ``endpoints``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from aesthemo_lib.data import ratings as rating
from aesthemo_lib.data.table import AnnotatedImages
from aesthemo_lib.evaluation.comparison import bootstrap_interval
from aesthemo_lib.evaluation.metrics import METRICS
from aesthemo_lib.tasks import Task

from .endpoints import DISTANCES, GAPS, scales, spearman


def one_rater(images: AnnotatedImages, rows: np.ndarray, resamples: int = 200) -> dict[str, dict]:
    """How well one person does what the networks do: against the consensus of the *others* who rated an image.

    - ``accuracy``, ``balanced_accuracy``: of a vote that is split over two classes each counts for half. Images count
      alike, whatever their number of raters.
    - ``auc``, ``spearman``, where ratings lie on a scale: each person ranks the images that they rated, against the
      others' consensus (and mean rating); the mean over people, each on a scale of their own.

    Args:
        images: with single ratings; a task without them gets None everywhere.
        rows: the images to look at, such as a split's test rows.
        resamples: of whole groups of images, for the 95 % intervals ``<name>_low`` and ``<name>_high``.

    Returns:
        by task what ``endpoints.endpoints`` returns, and ``n``, the images that say something.
    """
    part, rows_by_task = images.select(rows), {}
    for task in part.tasks:
        rated = task.name in part.rating_votes
        rows_by_task[task.name] = _undefined() | (_one_rater(part, task, resamples) if rated else {"n": 0})
    return rows_by_task


def _undefined() -> dict[str, None]:
    return dict.fromkeys([*METRICS, "ece", *DISTANCES, "spearman", *GAPS])


def _one_rater(images: AnnotatedImages, task: Task, resamples: int) -> dict[str, float | None]:
    table, votes = images.ratings[task.name], images.rating_votes[task.name]
    others = rating.consensus(rating.others_votes(table["image"], votes, len(images)))
    keep = others != rating.UNLABELLED
    if not keep.any():
        return {"n": 0}
    table, others = table[keep], others[keep]
    image, right = table["image"].to_numpy(), votes[keep, others]
    each = 1 / np.bincount(image, minlength=len(images))[image]  # images count alike
    on_scale = images.levels.get(task.name) in ("ordinal", "interval") and len(task.classes) == 2

    def measure(times: np.ndarray) -> np.ndarray:
        weight = each * times[image]
        hits = np.bincount(others, weight * right, len(task.classes))
        total = np.bincount(others, weight, len(task.classes))
        auc = rater_auc(table["annotator"], table["value"], others, times[image]) if on_scale else np.nan
        return np.array([hits.sum() / total.sum(), (hits[total > 0] / total[total > 0]).mean(), auc])

    once, names = np.ones(len(images)), ("accuracy", "balanced_accuracy", "auc")
    values = pd.DataFrame({"row": np.arange(len(images))})
    low, high = bootstrap_interval(
        values, lambda drawn: measure(np.bincount(drawn["row"], minlength=len(images))), images.groups, resamples
    )
    measured: dict[str, float | None]
    measured = {f"{name}{end}": float(value) for end, ends in (("", measure(once)), ("_low", low), ("_high", high))
             for name, value in zip(names, ends, strict=True) if np.isfinite(value)}
    if on_scale:
        measured["spearman"] = _rater_spearman(table)
    return measured | {"n": len(np.unique(image))}


def rater_auc(rater, value, truth, weight) -> float:
    """The mean over raters of the AUC of each one's own ratings; NaN if none has rated images of both classes.

    Args:
        rater, value, truth, weight: (R,) who, the rating, the class 0 or 1, and how often the image counts.
    """
    person, who = np.unique(np.asarray(rater), return_inverse=True)
    level, value = np.unique(np.asarray(value), return_inverse=True)
    shape = (len(person), 2, len(level))
    count = np.bincount(np.ravel_multi_index((who, truth, value), shape), weight, np.prod(shape)).reshape(shape)
    low, high = count[:, 0], count[:, 1]
    pairs = low.sum(axis=1) * high.sum(axis=1)
    in_order = (high * (low.cumsum(axis=1) - low / 2)).sum(axis=1)
    return float((in_order[pairs > 0] / pairs[pairs > 0]).mean()) if (pairs > 0).any() else float("nan")


def _rater_spearman(table: pd.DataFrame) -> float | None:
    """The mean over raters (of ten images or more) of the rank correlation with the others' mean rating."""
    by_image = table.groupby("image")["value"]
    table = table.assign(others=(by_image.transform("sum") - table["value"]) / (by_image.transform("size") - 1))
    each = [spearman(mine["value"].to_numpy(), mine["others"].to_numpy())
            for _, mine in table.groupby("annotator") if len(mine) >= 10]
    each = [value for value in each if value is not None]
    return float(np.mean(each)) if each else None


def new_panel(images: AnnotatedImages, rows: np.ndarray, draws: int = 200, resamples: int = 200) -> dict[str, dict]:
    """The ceiling: how well a new panel of the same size, drawn from the old one, does what the networks do.

    ``accuracy``, ``balanced_accuracy`` and (of two classes) ``auc`` of its votes against the label; ``spearman`` of its
    mean rating with the published one. See ``ratings.panel_ceiling``.

    Args:
        images, rows, resamples: see ``one_rater``.
        draws: how many panels are drawn; the means over them are returned.

    Returns:
        by task what ``one_rater`` returns; None where nobody had two raters.
    """
    part = images.select(rows)
    return {task.name: _undefined() | _new_panel(part, task, draws, resamples) for task in part.tasks}


def _new_panel(images: AnnotatedImages, task: Task, draws: int, resamples: int) -> dict[str, float | None]:
    counts, votes, values = _ballots(images, task)
    keep = counts.sum(axis=1) > 1
    if not keep.any():
        return {"n": 0}
    counts, groups = counts[keep], images.groups[keep]
    label, size = rating.consensus(counts @ votes), np.ceil(counts.sum(axis=1)).astype(int)
    names, truth = np.unique(label, return_inverse=True)
    nobody, once = np.zeros(len(label), dtype=int), np.ones(len(label))
    shares, rng = rating.distribution(counts), np.random.default_rng(0)
    right, auc, rank = np.zeros(len(counts)), [], []
    for _ in range(draws):
        drawn = rng.multinomial(size, shares)
        right += (rating.consensus(drawn @ votes) == label) / draws
        if len(task.classes) == 2 and len(names) == 2:
            auc.append(rater_auc(nobody, rating.distribution(drawn @ votes)[:, 1], truth, once))
        if values is not None:
            rank.append(spearman(drawn @ values / size, counts @ values / size))
    table = pd.DataFrame({"right": right, "truth": truth})
    low, high = bootstrap_interval(table, _accuracies, groups, resamples)
    measured: dict[str, float | None]
    measured = {f"{name}{end}": float(value) for end, ends in (("", _accuracies(table)), ("_low", low), ("_high", high))
             for name, value in zip(("accuracy", "balanced_accuracy"), ends, strict=True)}
    return measured | {"auc": float(np.mean(auc)) if auc else None, "n": len(table),
                    "spearman": float(np.mean(rank)) if rank and None not in rank else None}  # type: ignore[arg-type]


def _accuracies(table: pd.DataFrame) -> np.ndarray:
    """The mean of column ``right``, and the mean of its means by ``truth``, numbers from 0."""
    right, truth = table["right"].to_numpy(), table["truth"].to_numpy()
    count, hits = np.bincount(truth), np.bincount(truth, right)
    return np.array([right.mean(), (hits[count > 0] / count[count > 0]).mean()])


def _ballots(images: AnnotatedImages, task: Task) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(N, K) how often each kind of ballot was cast, its (K, C) votes, and its (K,) rating where it is on a scale."""
    if task.name not in images.rating_votes:
        return images.votes[task.name], np.eye(len(task.classes)), None
    table, votes = images.ratings[task.name], images.rating_votes[task.name]
    if task.name not in scales(task, images):
        return *rating.count_ballots(table["image"], votes, len(images)), None
    kinds, first, kind = np.unique(table["value"].to_numpy(), return_index=True, return_inverse=True)
    return rating.add_votes(table["image"], rating.class_votes(kind, len(kinds)), len(images)), votes[first], kinds
