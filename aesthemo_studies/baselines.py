"""The four baselines of a comparison, each on one split: linear probe, late fusion, one rater and a new panel."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Container
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from aesthemo_lib.evaluation.calibration import truth_and_probabilities
from aesthemo_lib.evaluation.metrics import prediction_table, softmax
from aesthemo_lib.tasks import Task
from aesthemo_lib.training.config import Config
from aesthemo_lib.training.probe import regression
from aesthemo_lib.training.runs import prepare, train

from .endpoints import endpoints
from .people import new_panel, one_rater


def fitted(x: np.ndarray, y: np.ndarray, groups: np.ndarray, classes: int) -> Callable[[np.ndarray], np.ndarray]:
    """``probe.regression`` as a function from (M, D) to (M, C) probabilities; classes that don't occur get 0."""
    weight, bias = regression(x, y, groups, classes)
    return lambda x: softmax(np.asarray(x, dtype=np.float64) @ weight.T + bias)


def baseline_metrics(
    config: Config, predictions: pd.DataFrame, root: Path | None = None, known: Container[str] = (),
) -> dict[str, dict[str, dict]]:
    """All four of a split, by name and task, in the form of ``endpoints.endpoints``.

    Args:
        config: of the run of ``independent`` on that split.
        predictions: that run's ``predictions.csv``, all parts.
        root: the data's folder.
        known: names of those that are not computed, since there are runs of them.
    """
    images, split = (prepared := prepare(config, root)).images, prepared.split
    ways: dict[str, Callable[[], dict]] = {
        "linear_probe": lambda: endpoints(_probe(config, root), images),
        "late_fusion": lambda: endpoints(late_fusion(predictions, images.tasks), images),
        "one_rater": lambda: one_rater(images, split.test), "new_panel": lambda: new_panel(images, split.test),
    }
    return {name: measure() for name, measure in ways.items() if name not in known}


def _probe(config: Config, root: Path | None) -> pd.DataFrame:
    """The predictions of a linear probe on the same split, seed and labels."""
    with tempfile.TemporaryDirectory() as out:
        run = train(replace(config, method="linear_probe", variant=None, options={}), out, root)
        return pd.concat([run.predictions(part) for part in ("train", "validation", "test")], ignore_index=True)


def late_fusion(predictions: pd.DataFrame, tasks: tuple[Task, ...]) -> pd.DataFrame:
    """Two single-task networks that talk at the very end: each task from both networks' log-probabilities.

    A logistic regression a task, fitted on the validation images (the networks have learned the training images by
    heart); its C is chosen by a cross-validation over their groups.

    Args:
        predictions: of a run of ``independent``, all parts.
        tasks: its tasks.

    Returns:
        predictions of the same images.
    """
    by_task = {task.name: truth_and_probabilities(predictions, task) for task in tasks}
    x = np.concatenate([np.log(np.maximum(p, 1e-12)) for _, p in by_task.values()], axis=1)
    held, probabilities = predictions["part"].to_numpy() == "validation", {}
    for task in tasks:
        rows = held & (by_task[task.name][0] >= 0)
        truth, groups = by_task[task.name][0][rows], predictions["group"].astype(str).to_numpy()[rows]
        probabilities[task.name] = fitted(x[rows], truth, groups, len(task.classes))(x)
    kept = ["image", "group", "part", *(f"true_{task.name}" for task in tasks)]
    return prediction_table(tasks, probabilities, **predictions[kept])
