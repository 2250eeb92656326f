"""What several lessons need and none teaches: which runs to show, the photograph to follow, and tables in words."""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from aesthemo_lib.data.table import AnnotatedImages
from aesthemo_lib.evaluation import METRICS, compare
from aesthemo_lib.tasks import MIKELS_EMOTIONS, Task
from aesthemo_lib.training import Config, open_data, train
from aesthemo_studies import kept_runs

METHODS = ("independent", "shared_bottom", "cross_branch")
NAMES = {"auc": "AUC", "balanced_accuracy": "balanced accuracy", "accuracy": "accuracy", "macro_f1": "macro-F1",
         "log_loss": "log-loss"}


def folders(out: str, root: str) -> tuple[Path, Path | None]:
    """The folders of runs and data that a lesson's parameters name; from now on the library's log is printed."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    return Path(out or "../runs").resolve(), Path(root).resolve() if root else None


def photograph(images: AnnotatedImages) -> int:
    """The row of the photograph that runs through the lessons: the first test image of split 0 with most labels."""
    test = images.split(0).test
    labelled = np.array([images.labels(task.name)[test] >= 0 for task in images.tasks])  # (T, N)
    return int(test[np.lexsort((-labelled.sum(axis=0), ~labelled[0]))[0]])


def data_that_borrow(data: str, preset: str, root: Path | None) -> tuple[str, Path | None]:
    """The data and folder of a lesson on what tasks borrow: the given ones, or with a single task the drawn scenes."""
    if len(open_data(Config(data, preset=preset), root).tasks) > 1:
        return data, root
    print(f"{data} has a single task, so nothing can be borrowed from another one: this lesson explains a network "
          f"trained on the drawn scenes instead.")
    return "scenes", None


def valence(task: Task) -> np.ndarray | None:
    """Whether each class of a task is a positive emotion, (C,) bool; None if some class has no known valence."""
    signs = dict.fromkeys(MIKELS_EMOTIONS[:4], True) | dict.fromkeys(MIKELS_EMOTIONS[4:], False)
    signs |= {"positive": True, "negative": False}
    known = [signs.get(name, signs.get(name.split("_")[0])) for name in task.classes]
    return None if None in known or len(set(known)) < 2 else np.array(known)


def runs_to_show(data: str, preset: str, out: Path, root: Path | None = None, reference: str = "", method: str = "",
                 number: int = 2, seed: int = 0) -> tuple[pd.DataFrame, str]:
    """Finished runs that can be compared, and whose they are; preset ``smoke`` trains its own in seconds.

    Args:
        data, preset: of the runs.
        out, root: the folders of runs and of data.
        reference, method: which methods must share a split, see ``kept_runs.to_compare``.
        number: how many splits ``smoke`` trains.
        seed: of its first split.

    Raises:
        NothingToCompare: there are none.
    """
    if preset == "smoke":
        fixed = open_data(Config(data, preset=preset), root).fixed is not None
        for name in METHODS:
            for j in range(number):
                train(Config(data, name, preset=preset, split=0 if fixed else j, seed=seed + j), out, root, redo=True)
    return kept_runs.to_compare(out, data, preset, reference, method, root)


def with_interval(row: pd.Series) -> str:
    """A mean with its interval in words, as ``compare`` returns them."""
    return f"{row['mean']:.3f}" + ("" if math.isnan(row["low"]) else f" ({row['low']:.3f} to {row['high']:.3f})")


def results(runs: pd.DataFrame, metrics: tuple[str, ...] = METRICS) -> pd.DataFrame:
    """Means with intervals by task and method, one column per metric, and the number of runs."""
    table = pd.DataFrame({NAMES[name]: compare(runs, name).apply(with_interval, axis=1) for name in metrics})
    return table.assign(runs=compare(runs, metrics[0])["runs"])


def reference_accuracies(runs: pd.DataFrame, images: AnnotatedImages) -> dict[str, dict[str, float]]:
    """By task: the majority class, one rater and the panel ceiling, as far as the data set has them."""
    majority = runs.groupby("task")["majority_accuracy"].mean()
    lines = {}
    for task in images.tasks:
        levels = {"majority class": float(majority[task.name]), "one rater": images.one_rater_accuracy(task.name),
                 "panel ceiling": images.panel_ceiling(task.name)}
        lines[task.name] = {name: value for name, value in levels.items() if not math.isnan(value)}
    return lines


def spreads(runs: pd.DataFrame, metric: str) -> tuple[float, float]:
    """The range of the methods' means, and the mean range over splits within a method; both averaged over tasks."""
    means = runs.groupby(["task", "method"])[metric].mean().groupby("task")
    splits = runs.groupby(["task", "method"])[metric]
    return float((means.max() - means.min()).mean()), float((splits.max() - splits.min()).mean())
