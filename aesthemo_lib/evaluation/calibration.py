"""Calibration: how often answers of a given confidence are right."""

import numpy as np
import pandas as pd

from ..tasks import Task

BINS = 15  #: Guo et al. 2017 and most of the field since


def truth_and_probabilities(predictions: pd.DataFrame, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """(P,) class numbers, negative where unlabelled, and the (P, C) probabilities of one task."""
    truth = pd.Index(task.classes).get_indexer(predictions[f"true_{task.name}"].astype(str))
    columns = [f"{task.name}_{name}" for name in task.classes]
    return truth, predictions[columns].to_numpy(dtype=np.float64)


def reliability(truth: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """The reliability diagram: how often the answers of each range of confidence are right.

    Confidence is the probability of the answer; bin m of M holds those in ((m-1)/M, m/M] (Guo et al., On calibration
    of modern neural networks, ICML 2017, section 2).

    Args:
        truth, probabilities: (N,) class numbers, negative where unlabelled (left out); (N, C) rows that sum to 1.
        bins: M, of equal width.

    Returns:
        one row per bin: low, high, images, confidence and accuracy (their means; NaN in an empty bin).
    """
    truth, probabilities = truth[truth >= 0], probabilities[truth >= 0]
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    images = np.bincount(place, minlength=bins)
    mean = lambda values: np.divide(  # noqa: E731
        np.bincount(place, weights=values, minlength=bins), images, out=np.full(bins, np.nan), where=images > 0)
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "images": images,
                         "confidence": mean(confidence), "accuracy": mean(right)})


def expected_calibration_error(truth: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float | None:
    r"""ECE (Guo et al. 2017, equation 3): :math:`\sum_m \frac{|B_m|}{N} |acc(B_m) - conf(B_m)|`; None without labels.

    Of few images it is too large, since a bin's accuracy scatters: compare it between methods on equal images.
    """
    table = reliability(truth, probabilities, bins).query("images > 0")
    if table.empty:
        return None
    return float(np.average((table["accuracy"] - table["confidence"]).abs(), weights=table["images"]))
