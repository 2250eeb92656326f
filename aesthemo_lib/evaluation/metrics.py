"""From predictions to numbers: metrics of one run, and the mean and interval of several."""

import numpy as np
import pandas as pd

from ..tasks import Task

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auc", "log_loss")


def task_metrics(truth: np.ndarray, probabilities: np.ndarray, majority: int) -> dict:
    """The metrics of one task.

    Args:
        truth, probabilities: (N,) class numbers, negative where unlabelled (left out); (N, C) rows that sum to 1.
        majority: the most frequent class of the *training* set.

    Returns:
        accuracy, balanced_accuracy, macro_f1, auc (of C > 2 classes: one against the rest, mean over the classes
        that occur), log_loss (natural logarithm), confusion (C x C counts, rows are the truth), n,
        majority_accuracy. What is not defined (an AUC with one class only) is None.
    """
    from sklearn import metrics

    keep = truth >= 0
    truth, probabilities = truth[keep], probabilities[keep]
    classes = probabilities.shape[1]
    if not len(truth):
        return {name: None for name in METRICS} | {
            "confusion": np.zeros((classes, classes), int).tolist(), "n": 0, "majority_accuracy": None,
        }
    guess, present = probabilities.argmax(axis=1), np.unique(truth)
    confusion = metrics.confusion_matrix(truth, guess, labels=np.arange(classes))
    return {
        "accuracy": float(metrics.accuracy_score(truth, guess)),
        # Recall by hand, since scikit-learn warns of classes that are predicted and never occur.
        "balanced_accuracy": float((confusion.diagonal()[present] / confusion.sum(axis=1)[present]).mean()),
        "macro_f1": float(metrics.f1_score(truth, guess, labels=present, average="macro", zero_division=0)),
        "auc": _auc(truth, probabilities, present),
        "log_loss": float(metrics.log_loss(truth, probabilities, labels=np.arange(classes))),
        "confusion": confusion.tolist(),
        "n": int(len(truth)),
        "majority_accuracy": float((truth == majority).mean()),
    }


def _auc(truth: np.ndarray, probabilities: np.ndarray, present: np.ndarray) -> float | None:
    from sklearn.metrics import roc_auc_score

    if len(present) < 2:
        return None
    if probabilities.shape[1] == 2:
        return float(roc_auc_score(truth, probabilities[:, 1]))
    return float(np.mean([roc_auc_score(truth == c, probabilities[:, c]) for c in present]))


def softmax(logits: np.ndarray) -> np.ndarray:
    """(N, C) logits to probabilities, in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def majority_class(labels: np.ndarray) -> int:
    """The most frequent class among the labelled, the first of equals."""
    return int(np.bincount(labels[labels >= 0]).argmax()) if (labels >= 0).any() else 0


def prediction_table(tasks: tuple[Task, ...], probabilities: dict[str, np.ndarray], **columns) -> pd.DataFrame:
    """Probabilities as a table: the given columns, then for each task '<task>_<class>' and the answer '<task>'."""
    table = pd.DataFrame(columns)
    for task in tasks:
        values = probabilities[task.name]
        table[task.name] = np.asarray(task.classes, dtype=object)[values.argmax(axis=1)]
        for number, name in enumerate(task.classes):
            table[f"{task.name}_{name}"] = values[:, number]
    return table
