"""Whether a run learnt: if it did not, its result says nothing about its method."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..tasks import Task


def accuracy_interval(accuracy: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n images; it stays within 0..1 (Wilson, JASA 1927)."""
    middle = (accuracy + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(accuracy * (1 - accuracy) / n + z**2 / (4 * n**2))
    return middle - half, middle + half


def auc_interval(auc: float, confusion: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Hanley and McNeil's (1982) 95 % interval of an AUC, each class against the rest; (C, C) counts by true class."""
    n = np.array([sum(row) for row in confusion if sum(row)])
    rest, both, same = n.sum() - n, auc / (2 - auc) - auc**2, 2 * auc**2 / (1 + auc) - auc**2
    half = 1.96 * np.sqrt((auc * (1 - auc) + (n - 1) * both + (rest - 1) * same) / (n * rest)).mean()
    return max(0.0, auc - half), min(1.0, auc + half)


def health(
    tasks: tuple[Task, ...], metrics: dict[str, dict], history: pd.DataFrame
) -> tuple[list[str], list[str], list[str]]:
    """The evidence that a run has learnt, the evidence against it, and what to look at.

    A run learnt if, for each task, its accuracy lies above the majority class' by more than its 95 % interval, or its
    AUC above .6; if its training loss ends below nine tenths of log C, chance among C classes; and if no loss is NaN.
    Where the best of several epochs is the first, training further only made it worse: worth a look.

    Returns:
        a phrase for each task, one for each thing that is wrong (none: it learnt), and one for each thing to look at.
    """
    facts, faults, doubts = [], [], []
    for task in tasks:
        values = metrics[task.name]
        if not values["n"]:
            continue
        auc, (low, high) = values["auc"] or math.nan, accuracy_interval(values["accuracy"], values["n"])
        worst, best = auc_interval(auc, values["confusion"])
        facts.append(f"{task.name} accuracy {values['accuracy']:.3f} ({low:.3f}, {high:.3f}), majority "
                     f"{values['majority_accuracy']:.3f}, AUC {auc:.3f} ({worst:.3f}, {best:.3f})")
        if low <= values["majority_accuracy"] and not (values["auc"] or 0) > 0.6:
            faults.append(f"{task.name} is not above its majority class")
    for name, rows in history.groupby("network") if "network" in history else [("joint", history)]:
        faults += _of_one_network(name, rows, tasks)
        if len(rows) > 1 and rows["validation_loss"].to_numpy().argmin() == 0:
            doubts.append(f"{name}: the best epoch is the first")
    return facts, faults, doubts


def _of_one_network(name: str, rows: pd.DataFrame, tasks: tuple[Task, ...]) -> list[str]:
    if not np.isfinite(rows["validation_loss"]).all():
        return [f"{name}: a loss is not a number"]
    faults = []
    for task in tasks:
        column = f"train_loss_{task.name}"
        if column in rows and rows[column].notna().any():
            end = float(rows[column].dropna().iloc[-1])
            if end > 0.9 * math.log(len(task.classes)):
                faults.append(f"{task.name}: the training loss ends at {end:.2f}, chance is "
                              f"{math.log(len(task.classes)):.2f}")
    return faults
