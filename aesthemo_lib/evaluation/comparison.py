"""Comparisons of runs: intervals, paired differences over splits, and tables."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from ..data.table import TEST_FOLDS
from ..files import read_json
from .metrics import METRICS


def bootstrap_interval(
    values: pd.DataFrame, statistic: Callable[[pd.DataFrame], float | np.ndarray], groups: np.ndarray,
    resamples: int = 1000, level: float = 0.95, seed: int = 0,
) -> tuple:
    """The percentile interval of a statistic when whole groups of rows are drawn again with replacement.

    Photographs of one group are near-duplicates: to resample them one by one would make the interval too narrow.

    Args:
        values, groups: N rows, and their (N,) groups' names.
        statistic: a number from such a table, or an array of numbers, each of which gets its interval. Draws in
            which one is not finite are left out of its interval.

    Returns:
        the lower and upper end: two floats, or two arrays of the statistic's shape.
    """
    rng = np.random.default_rng(seed)
    members = list(pd.Series(np.arange(len(values))).groupby(np.asarray(groups)).indices.values())
    draws = []
    for _ in range(resamples):
        rows = np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
        draws.append(np.asarray(statistic(values.iloc[rows]), dtype=np.float64))
    draws = np.where(np.isfinite(draws), draws, np.nan)
    never = np.isnan(draws).all(axis=0)
    tail = (1 - level) / 2
    ends = np.nanquantile(np.where(never, 0, draws), [tail, 1 - tail], axis=0)
    ends = np.where(never, np.nan, ends)
    return (ends[0], ends[1]) if never.ndim else (float(ends[0]), float(ends[1]))


def mean_interval(values: np.ndarray, level: float = 0.95, overlap: float = 0.0) -> tuple[float, float, float]:
    """Mean and Student interval of repeated runs: (mean, low, high); a single run has no interval (NaN).

    Equation 4.1 of lesson 04, and with an overlap equation 4.2. Runs on other splits of the same images share training
    images, so their results are no independent draws and the plain interval is too narrow. Nadeau & Bengio (2003) widen
    it: the variance of the mean is s^2 (1/n + overlap).

    Args:
        values: one number per run; those that are not finite are left out.
        overlap: 0, or a test set's size over its training set's, for the wider interval.
    """
    from scipy import stats

    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float(values[0]) if len(values) else math.nan, math.nan, math.nan
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) * math.sqrt(1 / len(values) + overlap)
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def collect(folder: Path, preset: str | None = None) -> pd.DataFrame:
    """Every finished run below a folder as a tidy table: one row per run and task, one column per metric.

    Columns: data, method (with its variant, as 'cross_branch.diagonal'), preset, split, seed, task, the metrics
    (NaN where one is not defined), n, majority_accuracy, and the run's folder. With a ``preset``, only its runs.
    """
    rows = []
    for path in sorted(Path(folder).rglob("metrics.json")):
        if path.parent.name.startswith("."):
            continue  # a run that is being written, or was cut off while it was
        run = read_json(path)
        if not isinstance(run, dict) or "tasks" not in run:
            raise ValueError(f"{path} is no run's; delete it, or restore it from where it came")
        rows += rows_of(run, path.parent) if preset in (None, run["preset"]) else []
    if not rows:
        of_preset = f" of preset {preset}" if preset else ""
        raise FileNotFoundError(f"no finished run{of_preset} below {folder}; train some first: python run.py reproduce")
    return pd.DataFrame(rows)


def rows_of(metrics: dict, folder: Path) -> list[dict]:
    """One run's rows of the table that ``collect`` makes, from the content of its ``metrics.json``."""
    name = metrics["method"] + (f".{metrics['variant']}" if metrics["variant"] else "")
    rows = []
    for task, values in metrics["tasks"].items():
        measured = {k: math.nan if values[k] is None else values[k] for k in (*METRICS, "majority_accuracy")}
        rows.append({
            "data": metrics["data"], "method": name, "preset": metrics["preset"], "split": metrics["split"],
            "seed": metrics["seed"], "task": task, **measured, "n": values["n"], "run": folder,
        })
    return rows


def check_metric(runs: pd.DataFrame, metric: str) -> None:
    """A ValueError where a table of runs lacks a metric."""
    if metric not in runs:
        known = ", ".join(name for name in METRICS if name in runs)
        raise ValueError(f"metric {metric!r} is not in these runs; choose one of {known}")


def compare(runs: pd.DataFrame, metric: str, overlap: float = 0.0) -> pd.DataFrame:
    """Mean and interval of a metric by task and method, over the runs: columns mean, low, high, runs."""
    rows = [
        (task, method, *mean_interval(values, overlap=overlap), values.count())
        for task, part in runs.groupby("task", sort=False)
        for method, values in part.groupby("method", sort=False)[metric]
    ]
    return pd.DataFrame(rows, columns=["task", "method", "mean", "low", "high", "runs"]).set_index(["task", "method"])


def paired_differences(runs: pd.DataFrame, metric: str, reference: str, overlap: float = 0.0) -> pd.DataFrame:
    """Each method minus the reference on the same split and seed: mean, interval and number of pairs.

    Pairs cancel what a split makes hard or easy for every method.

    Args:
        runs, metric: as ``collect`` returns them, of one data set and preset; a column of it.
        reference: a method's name.
        overlap: see ``mean_interval``.
    """
    check_metric(runs, metric)
    if reference not in set(runs["method"]):
        raise ValueError(f"reference {reference!r}: no such run; there are {', '.join(runs['method'].unique())}")
    table = runs.pivot_table(index=["task", "split", "seed"], columns="method", values=metric, sort=False)
    rows = []
    for task, part in table.groupby("task", sort=False):
        for method in runs["method"].drop_duplicates():
            pairs = (part[method] - part[reference]).dropna()
            if method == reference or pairs.empty:
                continue
            mean, low, high = mean_interval(pairs, overlap=overlap)
            rows.append({"task": task, "method": method, "mean": mean, "low": low, "high": high, "pairs": len(pairs)})
    return pd.DataFrame(rows, columns=["task", "method", "mean", "low", "high", "pairs"])


def read_runs(path: Path) -> pd.DataFrame:
    """A table of runs as ``collect`` makes it, from the CSV that ``aesthemo table --csv`` wrote."""
    table = pd.read_csv(path, encoding="utf-8")
    if missing := {"task", "method", "split", "seed", "majority_accuracy", *METRICS}.difference(table):
        raise ValueError(f"{path}: the column {min(missing)!r} is missing; expected a table that 'aesthemo table "
                         f"--csv' wrote, or a folder of runs")
    return table


def markdown_table(runs: pd.DataFrame, reference: str = "independent") -> str:
    """One row per task and method: mean and 95 % interval over splits of the main metrics, and the majority class.

    The intervals take the splits' overlap into account (see ``mean_interval``), and end where the metric does. The
    last column is the difference in AUC to the reference on the same splits.
    """
    shown = {"auc": "AUC", "balanced_accuracy": "balanced accuracy", "accuracy": "accuracy", "log_loss": "log-loss"}
    overlap = 1 / (TEST_FOLDS - 1) if runs["split"].nunique() > 1 else 0.0  # several seeds of one split: no overlap
    lines = [f"| task | method | {' | '.join(shown.values())} | AUC minus {reference}'s | runs |", "|---" * 8 + "|"]
    pairs = {}
    if reference in set(runs["method"]):
        table = paired_differences(runs, "auc", reference, overlap)
        pairs = {(row.task, row.method): _interval(row.mean, row.low, row.high) for row in table.itertuples()}
    for task in runs["task"].unique():
        mine = runs[runs["task"] == task]
        for method in sorted(mine["method"].unique()):
            values = mine[mine["method"] == method]
            cells = [_cell(values[metric], overlap, math.inf if metric == "log_loss" else 1.0) for metric in shown]
            cells += [pairs.get((task, method), ""), str(len(values))]
            lines.append(f"| {task} | {method} | {' | '.join(cells)} |")
        majority = mine.drop_duplicates(["split"])["majority_accuracy"].mean()
        lines.append(f"| {task} | always the most frequent class | .500 | | {_short(majority)} | | | |")
    return "\n".join(lines)


def _cell(values: pd.Series, overlap: float, top: float) -> str:
    mean, low, high = mean_interval(values, overlap=overlap)
    return _interval(mean, max(low, 0), min(high, top))


def _interval(mean: float, low: float, high: float) -> str:
    return _short(mean) + ("" if math.isnan(low) else f" ({_short(low)}, {_short(high)})")


def _short(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"
