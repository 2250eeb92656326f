"""Whether a run learnt, on runs that did and runs that did not."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from aesthemo_lib.evaluation.health import accuracy_interval, auc_interval, health
from aesthemo_lib.tasks import PATENT_TASKS


def run(accuracy=0.8, auc=0.85, loss=0.4, validation=(0.9, 0.7, 0.8)):
    values = {"accuracy": accuracy, "majority_accuracy": 0.5, "auc": auc, "n": 100, "confusion": [[40, 10], [10, 40]]}
    metrics = {task.name: values for task in PATENT_TASKS}
    rows = [{"epoch": i, "validation_loss": v, "train_loss_aesthetics": loss, "train_loss_emotion": loss}
            for i, v in enumerate(validation, 1)]
    return PATENT_TASKS, metrics, pd.DataFrame(rows)


@pytest.mark.parametrize(("change", "says"), [
    ({}, []), ({"accuracy": 0.52, "auc": 0.55}, ["aesthetics is not above", "emotion is not above"]),
    ({"accuracy": 0.52}, []),  # one class is frequent, but the order of the images is right
    ({"loss": 0.69}, ["aesthetics: the training loss ends at 0.69, chance is 0.69"]),
    ({"loss": 1.95}, ["aesthetics: the training", "emotion: the training loss ends at 1.95, chance is 2.08"]),
    ({"validation": (0.7, 0.8)}, []), ({"validation": (0.7,)}, []),
    ({"validation": (0.7, math.nan)}, ["not a number"]),
])
def test_what_is_wrong_is_said(change, says):
    facts, faults, doubts = health(*run(**change))
    assert len(facts) == 2 and "majority 0.500" in facts[0] and len(faults) == len(says)
    assert doubts == (["joint: the best epoch is the first"] if change == {"validation": (0.7, 0.8)} else [])
    assert all(part in fault for part, fault in zip(says, faults, strict=True))


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (7, 10), (61, 120), (120, 120)])
def test_the_interval_is_wilsons(hits, n):
    expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
    np.testing.assert_allclose(accuracy_interval(hits / n, n), (expected.low, expected.high), atol=1e-4)


@pytest.mark.parametrize(("classes", "shift"), [(2, 1.2), (4, 1.0)])
def test_the_interval_of_an_auc_is_as_wide_as_fresh_samples_scatter(classes, shift):
    """Scores whose AUC is known by its formula; of several classes the mean of standard errors is on the safe side."""
    rng, truth = np.random.default_rng(0), np.repeat(np.arange(classes), 40)
    expected, found, widths = stats.norm.cdf(shift / 2**0.5), [], []
    for _ in range(150):
        scores = rng.normal(size=(len(truth), classes)) + shift * np.eye(classes)[truth]
        auc = np.mean([roc_auc_score(truth == c, scores[:, c]) for c in range(classes)])
        low, high = auc_interval(auc, np.diag(np.bincount(truth)))
        found.append(low <= expected <= high)
        widths.append((high - low) / 2)
    assert np.mean(found) > 0.92
    if classes == 2:
        one = [roc_auc_score(truth, rng.normal(size=len(truth)) + shift * truth) for _ in range(150)]
        assert np.mean(widths) == pytest.approx(1.96 * np.std(one), rel=0.15)
    assert auc_interval(1.0, [[5, 0], [0, 5]]) == (1.0, 1.0)
