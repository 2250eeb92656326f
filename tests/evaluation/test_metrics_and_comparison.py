"""Metrics, intervals and comparisons against scikit-learn, hand-worked cases and an independent rewrite."""

import json
import math
import warnings
from statistics import fmean, stdev

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from aesthemo_lib.evaluation.comparison import bootstrap_interval, collect, compare, mean_interval, paired_differences
from aesthemo_lib.evaluation.metrics import METRICS, majority_class, prediction_table, softmax, task_metrics
from aesthemo_lib.tasks import OASIS_TASKS


def random_predictions(classes: int, images: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, images)
    logits = rng.normal(size=(images, classes)) + 0.8 * np.eye(classes)[truth]
    return truth, softmax(logits)


@pytest.mark.parametrize("classes", [2, 3, 8])
def test_metrics_agree_with_scikit_learn(classes):
    truth, p = random_predictions(classes)
    guess = p.argmax(1)
    ours = task_metrics(truth, p, majority=1)
    auc = metrics.roc_auc_score(truth, p[:, 1]) if classes == 2 else metrics.roc_auc_score(truth, p, multi_class="ovr")
    expected = {
        "accuracy": metrics.accuracy_score(truth, guess),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, guess),
        "macro_f1": metrics.f1_score(truth, guess, average="macro"),
        "auc": auc,
        "log_loss": metrics.log_loss(truth, p),
        "majority_accuracy": np.mean(truth == 1),
    }
    assert {name: ours[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert ours["confusion"] == metrics.confusion_matrix(truth, guess).tolist()
    assert ours["n"] == len(truth)


def test_metrics_by_hand():
    """Truth low, low, high, high, unlabelled; one of each class is right."""
    p = np.array([[0.9, 0.1], [0.3, 0.7], [0.4, 0.6], [0.8, 0.2], [0.5, 0.5]])
    actual = task_metrics(np.array([0, 0, 1, 1, -1]), p, majority=0)
    assert actual["confusion"] == [[1, 1], [1, 1]]
    assert (actual["accuracy"], actual["balanced_accuracy"], actual["macro_f1"]) == (0.5, 0.5, 0.5)
    assert actual["auc"] == 0.5  # of the four (low, high) pairs .1<.6, .1<.2 are in order, .7>.6, .7>.2 are not
    assert actual["log_loss"] == pytest.approx(-(math.log(0.9) + math.log(0.3) + math.log(0.6) + math.log(0.2)) / 4)
    assert (actual["n"], actual["majority_accuracy"]) == (4, 0.5)


def test_metrics_of_rare_classes_make_no_warnings():
    """A class that is guessed but never true, and one that is neither."""
    p = softmax(np.array([[2.0, 0, 1, 0], [0, 3, 0, 0], [0, 0, 4, 0]]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        actual = task_metrics(np.array([0, 1, 1]), p, majority=0)
    assert actual["balanced_accuracy"] == pytest.approx((1 + 0.5) / 2)
    assert actual["macro_f1"] == pytest.approx((1 + 2 / 3) / 2)
    # class 0 against the rest ranks image 0 first; class 1 ranks image 1 first and image 2 level or below image 0
    by_class = [metrics.roc_auc_score([1, 0, 0], p[:, 0]), metrics.roc_auc_score([0, 1, 1], p[:, 1])]
    assert actual["auc"] == pytest.approx(np.mean(by_class))


def test_what_is_not_defined_is_none():
    p = np.full((3, 2), 0.5)
    assert task_metrics(np.array([1, 1, 1]), p, majority=1)["auc"] is None
    nothing = task_metrics(np.array([-1, -1, -1]), p, majority=1)
    assert [nothing[name] for name in (*METRICS, "majority_accuracy")] == [None] * 6
    assert (nothing["n"], nothing["confusion"]) == (0, [[0, 0], [0, 0]])
    json.dumps(nothing, allow_nan=False)


def test_softmax_is_exact_and_does_not_overflow():
    p = softmax(np.array([[1000.0, 0, -1000], [math.log(1), math.log(2), math.log(5)]], dtype=np.float32))
    np.testing.assert_allclose(p, [[1, 0, 0], [1 / 8, 2 / 8, 5 / 8]], atol=1e-7)


def test_majority_class_leaves_the_unlabelled_out():
    assert majority_class(np.array([-1, -1, -1, 2, 2, 1])) == 2
    assert majority_class(np.array([1, 0])) == 0
    assert majority_class(np.array([-1])) == 0


def test_prediction_table_has_answers_and_probabilities():
    p = {"aesthetics": np.array([[0.2, 0.8]]), "emotion": np.array([[0.1, 0.2, 0.3, 0.4]])}
    row = prediction_table(OASIS_TASKS, p, photo=["a.jpg"]).iloc[0]
    assert (row["photo"], row["aesthetics"], row["emotion"]) == ("a.jpg", "high", "positive_aroused")
    assert (row["aesthetics_low"], row["emotion_positive_calm"]) == (0.2, 0.3)


# --- intervals

T_975 = {1: 12.7062047364, 2: 4.3026527297, 3: 3.1824463053, 9: 2.2621571628}
"""Student's 97.5 % points, from a printed table (degrees of freedom: value)."""


@pytest.mark.parametrize("values", [[0.7, 0.8], [0.71, 0.74, 0.69], [3.0, 1, 2, 6], list(range(10))])
@pytest.mark.parametrize("overlap", [0.0, 0.4])
def test_student_interval_against_a_table(values, overlap):
    n = len(values)
    half = T_975[n - 1] * stdev(values) * math.sqrt(1 / n + overlap)
    expected = (fmean(values), fmean(values) - half, fmean(values) + half)
    assert mean_interval(np.array(values), overlap=overlap) == pytest.approx(expected, rel=1e-9)


def test_interval_of_one_or_no_run():
    mean, low, high = mean_interval(np.array([0.5, np.nan]))
    assert mean == 0.5 and math.isnan(low) and math.isnan(high)
    assert all(math.isnan(value) for value in mean_interval(np.array([])))


def test_student_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    ends = np.array([mean_interval(rng.normal(0.7, 0.1, 4)) for _ in range(2000)])
    covered = ((ends[:, 1] <= 0.7) & (0.7 <= ends[:, 2])).mean()
    assert abs(covered - 0.95) < 0.02  # four standard errors of 2000 draws


def bootstrap_again(values, groups, resamples, seed):
    """The group bootstrap of a mean, written apart: a group's sum and size are all that the mean needs."""
    rng = np.random.default_rng(seed)
    names = sorted(set(groups))
    total = np.array([sum(v for v, g in zip(values, groups, strict=True) if g == name) for name in names])
    size = np.array([sum(g == name for g in groups) for name in names])
    means = []
    for _ in range(resamples):
        drawn = rng.integers(0, len(names), len(names))
        means.append(total[drawn].sum() / size[drawn].sum())
    means.sort()
    at = [q * (resamples - 1) for q in (0.025, 0.975)]  # linear interpolation between order statistics
    return [means[int(a)] + (a - int(a)) * (means[min(int(a) + 1, resamples - 1)] - means[int(a)]) for a in at]


def test_bootstrap_against_an_independent_rewrite():
    rng = np.random.default_rng(1)
    groups = np.array([f"g{number:02d}" for number in rng.integers(0, 12, 60)])
    values = rng.normal(size=60)
    ours = bootstrap_interval(pd.DataFrame({"v": values}), lambda t: t["v"].mean(), groups, resamples=200, seed=3)
    assert ours == pytest.approx(bootstrap_again(values, groups, 200, 3), rel=1e-9)


def test_bootstrap_of_an_array_is_the_bootstrap_of_its_parts():
    rng = np.random.default_rng(2)
    table, groups = pd.DataFrame(rng.normal(size=(30, 2)), columns=["a", "b"]), np.arange(30)
    low, high = bootstrap_interval(table, lambda t: t.mean().to_numpy(), groups, resamples=100)
    for column, name in enumerate(table):
        one = bootstrap_interval(table, lambda t, name=name: t[name].mean(), groups, resamples=100)
        assert (low[column], high[column]) == pytest.approx(one)


def test_bootstrap_keeps_groups_together():
    """Ten copies of each of six values are no sixty observations: the interval must not shrink."""
    values = np.array([0.0, 0, 0, 1, 1, 1])
    single = bootstrap_interval(pd.DataFrame({"v": values}), lambda t: t["v"].mean(), np.arange(6), seed=5)
    copies = pd.DataFrame({"v": np.repeat(values, 10)})
    together = bootstrap_interval(copies, lambda t: t["v"].mean(), np.repeat(np.arange(6), 10), seed=5)
    apart = bootstrap_interval(copies, lambda t: t["v"].mean(), np.arange(60), seed=5)
    assert together == pytest.approx(single)
    assert apart[1] - apart[0] < 0.5 * (together[1] - together[0])


def test_bootstrap_leaves_out_what_is_not_finite():
    table = pd.DataFrame({"v": [1.0, 2, 3]})
    low, high = bootstrap_interval(table, lambda t: np.array([np.nan, t["v"].mean()]), np.arange(3), resamples=50)
    assert np.isnan([low[0], high[0]]).all() and 1 <= low[1] < high[1] <= 3


# --- several runs


def make_run(folder, method, variant, split, auc, preset="teach", accuracy=0.5):
    values = {name: accuracy for name in METRICS} | {"auc": auc, "n": 10, "majority_accuracy": 0.6, "confusion": [[1]]}
    name = f"{method}.{variant}" if variant else method
    path = folder / "toy" / name / preset / f"split{split}-seed{split}"
    path.mkdir(parents=True)
    (path / "metrics.json").write_text(json.dumps({
        "tasks": {"aesthetics": values, "emotion": values | {"auc": None if auc is None else auc - 0.1}},
        "data": "toy", "method": method, "variant": variant, "preset": preset, "split": split, "seed": split,
        "threads": 1,
    }), encoding="utf-8")
    return path


@pytest.fixture
def runs(tmp_path):
    for split, (own, joint) in enumerate([(0.70, 0.72), (0.80, 0.81), (0.60, 0.66)]):
        make_run(tmp_path, "independent", None, split, own)
        make_run(tmp_path, "cross_branch", "diagonal", split, joint)
    make_run(tmp_path, "cross_branch", "diagonal", 3, 0.9)  # a split that the reference lacks
    make_run(tmp_path, "independent", None, 0, 0.1, preset="smoke")
    return tmp_path


def test_collect_reads_each_run_and_task_once(runs):
    table = collect(runs, "teach")
    assert len(table) == 2 * 7
    assert set(table["method"]) == {"independent", "cross_branch.diagonal"}
    one = table[(table.method == "cross_branch.diagonal") & (table.split == 1) & (table.task == "emotion")].iloc[0]
    assert one["auc"] == pytest.approx(0.71) and one["run"].name == "split1-seed1"
    assert len(collect(runs)) == 2 * 8


def test_collect_passes_over_a_run_that_is_being_written(runs):
    path = make_run(runs, "shared_bottom", None, 0, 0.5)
    path.rename(path.with_name(".split0-seed0.123.tmp"))
    assert "shared_bottom" not in set(collect(runs)["method"])


def test_collect_says_how_to_get_runs(runs, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"of preset paper .*run\.py reproduce"):
        collect(runs, "paper")


def test_compare_gives_mean_and_interval(runs):
    make_run(runs, "shared_bottom", None, 0, None)  # a test set of one class has no AUC
    table = compare(collect(runs, "teach"), "auc")
    own = table.loc[("aesthetics", "independent")]
    half = T_975[2] * stdev([0.7, 0.8, 0.6]) / math.sqrt(3)
    assert own.tolist() == pytest.approx([0.7, 0.7 - half, 0.7 + half, 3])
    assert table.loc[("emotion", "cross_branch.diagonal"), "runs"] == 4
    nothing = table.loc[("emotion", "shared_bottom")]
    assert nothing["runs"] == 0 and math.isnan(nothing["mean"])


def test_paired_differences_use_shared_splits_alone(runs):
    table = paired_differences(collect(runs, "teach"), "auc", "independent").set_index(["task", "method"])
    differences = [0.02, 0.01, 0.06]
    half = T_975[2] * stdev(differences) / math.sqrt(3)
    row = table.loc[("aesthetics", "cross_branch.diagonal")]
    assert row.tolist() == pytest.approx([0.03, 0.03 - half, 0.03 + half, 3])
    wide = paired_differences(collect(runs, "teach"), "auc", "independent", overlap=0.4).iloc[0]
    assert wide["high"] - wide["mean"] == pytest.approx(half * math.sqrt((1 / 3 + 0.4) * 3))
    with pytest.raises(ValueError, match="'nddr'.*independent"):
        paired_differences(collect(runs, "teach"), "auc", "nddr")
