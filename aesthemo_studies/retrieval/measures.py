"""How good a search is: average precision and its kin, compared with what a random order reaches."""

from __future__ import annotations

import numpy as np
import pandas as pd


def measures(
    scores: np.ndarray, relevant: np.ndarray, k: int = 10, allowed: np.ndarray | None = None
) -> pd.DataFrame:
    """How good each query's ranking is, and what a random order would reach.

    Args:
        scores: (Q, N); of equals the first comes first.
        relevant: (Q, N) bool.
        k: the depth of precision.
        allowed: (Q, N) bool, what may be found at all; everything by default.

    Returns:
        one row a query: ``precision`` (of the first k), ``map`` (average precision, of the whole ranking), and each
        one's expectation for a random order as ``chance_..``. NaN where nothing relevant may be found.
    """
    allowed = np.ones(relevant.shape, dtype=bool) if allowed is None else allowed
    order = np.argsort(np.where(allowed, -scores, np.inf), axis=1, kind="stable")
    hits = np.take_along_axis(relevant & allowed, order, axis=1)
    rank, hits_so_far = np.arange(1, hits.shape[1] + 1), hits.cumsum(axis=1)
    r, n = hits_so_far[:, -1].astype(np.float64), allowed.sum(axis=1)
    k = min(k, hits.shape[1])
    harmonic = np.cumsum(1 / rank)[np.maximum(n, 1) - 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        # E[AP] of a random order (Bestgen 2015, Exact expected average precision of the random baseline)
        chance = np.where(n > 1, ((r - 1) / (n - 1) * (n - harmonic) + harmonic) / n, 1.0)
        table = {
            "precision": hits[:, :k].mean(axis=1), "map": (hits_so_far / rank * hits).sum(axis=1) / r,
            "chance_precision": r / n * np.minimum(n, k) / k, "chance_map": chance,
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
        one row a labelled photograph, in order, with its ``label``.
    """
    keep = labels >= 0
    vectors, labels, groups = vectors[keep], labels[keep], np.asarray(groups)[keep]
    same = labels[:, None] == labels
    return measures(vectors @ vectors.T, same, k, groups[:, None] != groups).assign(label=labels)


def by_answers(probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """A search by answers: photographs are alike as their (N, C) answers are, by the Bhattacharyya coefficient.

    Returns:
        the means of ``search_measures`` over the queries of each emotion, then over the emotions: each counts alike.
    """
    by_query = search_measures(np.sqrt(probabilities), labels, groups)
    return by_query.groupby("label").mean().mean().to_dict()
