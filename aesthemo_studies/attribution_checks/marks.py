"""Intervals that stay inside their bounds, and what each test of a map or ledger must reach to be passed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special, stats

from aesthemo_lib.data.table import TEST_FOLDS, VALIDATION_FOLDS
from aesthemo_lib.evaluation.comparison import mean_interval

from ..few_labels.verdicts import holm

OVERLAP = 1 / ((TEST_FOLDS - 1) * (1 - 1 / VALIDATION_FOLDS))
"""Test images over training images, for ``evaluation.mean_interval``: the networks' splits share training images."""
EDGE = 1e-4
"""How near to a bound a value is moved at most before it is transformed."""
SCALES = {
    "": (lambda x: x, lambda x: x, -math.inf, math.inf),
    "correlation": (np.arctanh, np.tanh, -1, 1),  # Fisher's z
    "share": (special.logit, special.expit, 0, 1),
    "positive": (np.log, np.exp, 0, math.inf),
    "fit": (lambda x: -np.log1p(-x), lambda x: -np.expm1(-x), -math.inf, 1),  # R squared
}


def bounded_interval(values: np.ndarray, scale: str = "", level: float = 0.95) -> tuple[float, float, float]:
    """Mean and overlap-corrected Student interval over networks, computed on a scale whose ends can't be passed.

    Args:
        values: one number a network; those that are not finite are left out.
        scale: of ``SCALES``; the mean is that of the transformed values, transformed back.
    """
    there, back, low, high = SCALES[scale]
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)].clip(low + EDGE, high - EDGE)
    mean, start, end = (float(back(value)) for value in mean_interval(there(values), level, OVERLAP))
    return mean, start, end


def p_value(values: np.ndarray) -> float:
    """Two-sided, of a mean of zero, for overlapping splits; NaN for fewer than two networks."""
    values = np.asarray(values, dtype=np.float64)
    n, deviation = len(values), np.std(values, ddof=1) if len(values) > 1 else math.nan
    if n < 2 or not deviation > 0:
        return math.nan
    return float(2 * stats.t.sf(abs(values.mean()) / (deviation * math.sqrt(1 / n + OVERLAP)), n - 1))


def detectable(values: np.ndarray, power: float = 0.8, level: float = 0.95) -> float:
    """The mean that so many networks, as scattered as these, would show with this power; NaN for fewer than two."""
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    if n < 2:
        return math.nan
    t = stats.t.ppf((1 + level) / 2, n - 1) + stats.t.ppf(power, n - 1)
    return float(t * np.std(values, ddof=1) * math.sqrt(1 / n + OVERLAP))


def scatter(of_networks: pd.Series) -> dict[str, float]:
    """How far networks of different splits, and seeds of the same split, lie apart: two standard deviations.

    Args:
        of_networks: one value a network, by its number: number n has split n % 4.
    """
    splits = of_networks.groupby(of_networks.index % TEST_FOLDS)
    seeds = splits.var(ddof=1).mean()  # of pairs: the pooled variance between seeds
    between = max(splits.mean().var(ddof=1) - (0.0 if math.isnan(seeds) else seeds / splits.size().mean()), 0.0)
    return {"between splits": math.sqrt(between), "between seeds": math.sqrt(seeds)}


def over_networks(
    table: pd.DataFrame, by: Sequence[str], parts: Sequence[str] = ("value",), scale: str = ""
) -> pd.DataFrame:
    """Means of each network, then over networks: by .., part, mean, low, high, p, networks, ``detectable``.

    Args:
        table: rows with a column seed, the columns of ``by`` and those that are averaged, ``parts``.
        scale: see ``bounded_interval``.
    """
    rows = []
    for key, some in table.groupby(list(by), sort=False):
        for part in parts:
            of_networks = some.groupby("seed")[part].mean().to_numpy()
            mean, low, high = bounded_interval(of_networks, scale)
            rows.append({**dict(zip(by, key, strict=True)), "part": part, "mean": mean, "low": low, "high": high,
                         "p": p_value(of_networks), "networks": len(of_networks),
                         "detectable": detectable(of_networks)})
    return pd.DataFrame(rows)


def with_holm(table: pd.DataFrame, p: str = "p") -> pd.DataFrame:
    """A table of tests with Holm's p over all of its rows that have one."""
    there = table[p].notna()
    adjusted = pd.Series(np.nan, index=table.index)
    adjusted[there] = holm(table.loc[there, p].to_numpy())
    return table.assign(p_holm=adjusted)


class Mark(NamedTuple):
    """What a test must reach: its interval has to lie between ``low`` and ``high``."""

    criterion: str
    low: float
    high: float
    scale: str = ""


MARKS = {
    "deletion": Mark("deleting in the map's order lowers the logit more than at random: area above 0", 0, math.inf),
    "reverse": Mark("deleting in reverse order lowers it less than at random: area above 0", 0, math.inf),
    "infidelity": Mark("infidelity below 0.5 (an empty map has 1)", 0, 0.5, "positive"),
    "sensitivity": Mark("invisible noise changes the map by less than 0.2 of itself", 0, 0.2, "positive"),
    "destroyed": Mark("with all weights destroyed the rank correlation lies between -0.1 and 0.1", -0.1, 0.1,
                      "correlation"),
    "pointing": Mark("the map points at the lamp more often than by chance: above 0", 0, math.inf),
    "patches": Mark("correlation with the exact map above 0.9", 0.9, 1, "correlation"),
    "baselines": Mark("rank correlation of the pieces with those against the mean image above 0.8", 0.8, 1,
                      "correlation"),
    "cuts": Mark("ledger and cut rank the photos alike: rank correlation above 0.5", 0.5, 1, "correlation"),
}
"""Written down before the networks of preset teach were trained; the earlier ones had no marks."""


def verdict(name: str, value: float, low: float, high: float) -> str:
    """'passed' if the interval lies within the mark, 'failed' if the value lies outside, else 'undecided'."""
    mark = MARKS[name]
    if not mark.low <= value <= mark.high:
        return "failed"
    return "passed" if mark.low <= low and high <= mark.high else "undecided"


def judged(name: str, rows: pd.DataFrame, of: Iterable[str] = ("task",)) -> pd.DataFrame:
    """Verdicts as a table: criterion, value, interval and verdict for each row of ``ledgers.summary``.

    The interval is that over networks; where there is one network, that over images.

    Args:
        name: of ``MARKS``.
        rows: one test each, with the columns of ``of``.
    """
    verdicts = []
    for row in rows.to_dict("records"):
        over = "networks" if np.isfinite(row["low"]) or "image_low" not in row else "images"
        ends = (row["low"], row["high"]) if over == "networks" else (row["image_low"], row["image_high"])
        verdicts.append({"test": name, **{key: row[key] for key in of}, "must": MARKS[name].criterion,
                         "value": row["mean"], "low": ends[0], "high": ends[1], "over": over,
                         "verdict": verdict(name, row["mean"], *ends)})
    return pd.DataFrame(verdicts)
