"""How good probabilities are, beyond the single answer: calibration, and nearness to what the raters said.

Everything here reads a run's ``predictions.csv`` and the data set's votes and ratings; ``endpoints`` is all of it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from aesthemo_lib.data.ratings import distribution
from aesthemo_lib.data.table import AnnotatedImages
from aesthemo_lib.evaluation.calibration import expected_calibration_error, truth_and_probabilities
from aesthemo_lib.evaluation.metrics import METRICS, task_metrics
from aesthemo_lib.tasks import AFFECT_QUADRANTS, Task

DISTANCES = ("emd", "jensen_shannon")
GAPS = ("gap_auc", "gap_log_loss")
LOWER_IS_BETTER = frozenset({"log_loss", "ece", *DISTANCES})
"""Endpoints of which less is better; of all others but the gaps, more."""


def endpoints(predictions: pd.DataFrame, images: AnnotatedImages) -> dict[str, dict[str, float | None]]:
    """What is measured of one run, on its test images.

    Args:
        predictions: a run's ``predictions.csv`` with all its parts, see ``evaluation.prediction_table``.
        images: the data set that the run was trained on.

    Returns:
        for each task that the table holds a dictionary; None where something is not defined:

        - the five of ``evaluation.METRICS``;
        - ``ece``, see ``expected_calibration_error``;
        - ``emd``, of an ordered scale (and of two classes, where order doesn't matter), and ``jensen_shannon``: the
          mean distance to the raters' distribution, over the images that have more than one vote;
        - ``spearman``: rank correlation of what is expected on each scale (``scales``) with the published mean rating;
          of several scales also each by itself, as ``spearman_valence``, and ``spearman`` is their mean;
        - ``gap_auc``, ``gap_log_loss``: part 'train' minus part 'test'.

    Raises:
        ValueError: an image of the predictions is not in the data set.
    """
    rows, part = image_rows(predictions, images), predictions["part"].to_numpy()
    test, train = part == "test", part == "train"
    measured = {}
    for task in images.tasks:
        if f"{task.name}_{task.classes[0]}" not in predictions:
            continue
        truth, probabilities = truth_and_probabilities(predictions, task)
        values = task_metrics(truth[test], probabilities[test], 0)
        values = {name: values[name] for name in METRICS}
        values["ece"] = expected_calibration_error(truth[test], probabilities[test])
        values |= _distances(task, probabilities[test], images, rows[test])
        values |= _correlations(task, probabilities[test], images, rows[test])
        measured[task.name] = values | _gaps(values, task_metrics(truth[train], probabilities[train], 0))
    return measured


def image_rows(predictions: pd.DataFrame, images: AnnotatedImages) -> np.ndarray:
    """The data set's row of each prediction, (P,) int64, by name.

    Raises:
        ValueError: an image is not in the data set.
    """
    wanted = pd.Index(predictions["image"].astype(str))
    rows = pd.Index(images.names).get_indexer(wanted)
    if (rows < 0).any():
        raise ValueError(f"{images.name}: the predictions hold {wanted[rows < 0][0]!r}, which is not in the data set; "
                         f"open the data that the run was trained on")
    return rows


def earth_movers_distance(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    r"""Earth mover's distance on an ordered scale, in steps of one class: :math:`\sum_k |CDF_p(k) - CDF_q(k)|`.

    In one dimension the cheapest transport is the distance of the cumulative distributions (Vallender 1974). It is the
    distance of NIMA (Talebi & Milanfar 2018, equation 1) with r = 1, in which that paper reports its results, times
    the number of classes. Of two classes it is the difference of the probabilities.

    Args:
        p, q: (N, C), rows that sum to 1, the classes in their order.

    Returns:
        (N,) in [0, C-1].
    """
    return np.abs(np.cumsum(p - q, axis=1)).sum(axis=1)


def jensen_shannon_distance(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The square root of the Jensen-Shannon divergence with base 2 (Endres & Schindelin 2003), (N,) in [0, 1].

    Args:
        p, q: (N, C), rows that sum to 1; the order of the classes doesn't matter.
    """
    from scipy.spatial.distance import jensenshannon

    return jensenshannon(p, q, base=2, axis=1)


def _distances(task: Task, p: np.ndarray, images: AnnotatedImages, rows: np.ndarray) -> dict[str, float | None]:
    """Mean distance to the raters' distribution; a single vote is none."""
    votes = images.votes[task.name][rows]
    several = (votes.sum(axis=1) > 1) | ((votes > 0).sum(axis=1) > 1)
    if not several.any():
        return {"emd": None, "jensen_shannon": None}
    p, q = p[several], distribution(votes[several])
    ordered = len(task.classes) == 2 or images.levels.get(task.name) in ("ordinal", "interval")
    return {"emd": float(earth_movers_distance(p, q).mean()) if ordered else None,
            "jensen_shannon": float(jensen_shannon_distance(p, q).mean())}


def scales(task: Task, images: AnnotatedImages) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The published scales that a task's classes are cut from.

    Returns:
        for each scale by name the value of each class, (C,), and the mean rating of each image, (N,), NaN where there
        is none. Two classes are 0 and 1, so that the expected value is the probability of 'high'. The four quadrants
        lie on two scales, valence and arousal. Empty where no ratings on a scale are published.
    """
    facts = images.facts
    if task.classes == AFFECT_QUADRANTS.classes and {"valence_mean", "arousal_mean"} <= set(facts):
        return {"valence": (np.array([0.0, 0, 1, 1]), facts["valence_mean"].to_numpy()),
                "arousal": (np.array([0.0, 1, 0, 1]), facts["arousal_mean"].to_numpy())}
    value = np.arange(len(task.classes), dtype=np.float64)
    if images.levels.get(task.name) in ("ordinal", "interval") and task.name in images.ratings:
        mean = images.ratings[task.name].groupby("image")["value"].mean()
        return {task.name: (value, mean.reindex(range(len(images))).to_numpy(dtype=np.float64))}
    published = [f"{task.name}_mean"] + (["score_mean"] if task.name == "aesthetics" else [])
    column = next((name for name in published if name in facts), None)
    return {task.name: (value, facts[column].to_numpy(dtype=np.float64))} if column and len(value) == 2 else {}


def _correlations(task: Task, p: np.ndarray, images: AnnotatedImages, rows: np.ndarray) -> dict[str, float | None]:
    each = {name: spearman(p @ value, mean[rows]) for name, (value, mean) in scales(task, images).items()}
    whole = float(np.mean(list(each.values()))) if each and None not in each.values() else None
    named = {f"spearman_{name}": value for name, value in each.items()} if len(each) > 1 else {}
    return {"spearman": whole} | named


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's rank correlation over the pairs of finite numbers; None where one side is constant."""
    from scipy.stats import spearmanr

    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearmanr(a, b).statistic)


def _gaps(test: dict, train: dict) -> dict[str, float | None]:
    return {f"gap_{name}": None if train[name] is None or test[name] is None else train[name] - test[name]
            for name in ("auc", "log_loss")}
