"""Do a network's answers contradict one another? Two of them do if the training images never show them together."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from aesthemo_lib.tasks import Task


def contradictions(predictions: pd.DataFrame, tasks: tuple[Task, ...]) -> dict[str, float]:
    """How often the answers to one test image hold a pair that no training image has.

    Args:
        predictions: a run's ``predictions.csv`` with all its parts.
        tasks: T tasks, at least two.

    Returns:
        'answers': the share of test images with such a pair among what the network answered; 'truth': the same of
        their true labels, which is what a flawless network would have; 'possible': the share that would have one if
        each task's answers were dealt out among the test images at random, the mean over 200 deals.
    """
    names = [task.name for task in tasks]
    codes = {task.name: pd.Index(task.classes) for task in tasks}
    train, test = predictions[predictions["part"] == "train"], predictions[predictions["part"] == "test"]
    coded = lambda rows, prefix: np.stack(  # noqa: E731
        [codes[name].get_indexer(rows[prefix + name].astype(str)) for name in names], axis=1)
    seen, answers = _pairs(coded(train, "true_"), tasks), coded(test, "")
    rng = np.random.default_rng(0)
    dealt = [rng.permuted(answers, axis=0) for _ in range(200)]
    return {
        "answers": _share(answers, seen), "truth": _share(coded(test, "true_"), seen),
        "possible": float(np.mean([_share(deal, seen) for deal in dealt])),
    }


def _pairs(labels: np.ndarray, tasks: tuple[Task, ...]) -> dict[tuple[int, int], np.ndarray]:
    """For each two tasks a (C_i, C_j) table: do images with labels (N, T) show these classes together?"""
    tables = {}
    for i, j in itertools.combinations(range(len(tasks)), 2):
        table = np.zeros((len(tasks[i].classes), len(tasks[j].classes)), dtype=bool)
        both = (labels[:, i] >= 0) & (labels[:, j] >= 0)
        table[labels[both, i], labels[both, j]] = True
        tables[i, j] = table
    return tables


def _share(answers: np.ndarray, seen: dict[tuple[int, int], np.ndarray]) -> float:
    """The share of rows (N, T) with a pair that was never seen; unlabelled ones take part in no pair."""
    strange = np.zeros(len(answers), dtype=bool)
    for (i, j), table in seen.items():
        both = (answers[:, i] >= 0) & (answers[:, j] >= 0)
        strange[both] |= ~table[answers[both, i], answers[both, j]]
    return float(strange.mean()) if len(answers) else 0.0
