"""The reference lines against scikit-learn, scipy and cases worked out by hand."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits
from torch import nn

from aesthemo_lib.data.readers import oasis
from aesthemo_lib.data.table import AnnotatedImages
from aesthemo_lib.evaluation.metrics import METRICS, prediction_table, softmax
from aesthemo_lib.models.inference import predict_logits
from aesthemo_lib.tasks import AESTHETICS, AFFECT_QUADRANTS, EMOTION
from aesthemo_lib.training import probe
from aesthemo_lib.training.config import Config
from aesthemo_lib.training.runs import build_network, prepare, train
from aesthemo_studies import baselines, people
from aesthemo_studies.baselines import baseline_metrics, fitted, late_fusion
from aesthemo_studies.endpoints import endpoints


@pytest.mark.parametrize("columns", [12, 90])
def test_the_probe_is_scikit_learns_regression_with_its_best_strength(columns):
    """With more columns than rows it is fitted in the rows' span, which must change nothing."""
    rng = np.random.default_rng(0)
    y = np.tile([0, 1, 2], 20)
    x = rng.normal(size=(60, columns)) + 1.2 / columns**0.5 * rng.normal(size=(3, columns))[y]
    x *= rng.uniform(0.1, 5, columns)
    groups = np.repeat(np.arange(20), 3)

    def pipeline(strength):
        return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000, tol=1e-8))

    parts = list(GroupKFold(5, shuffle=True, random_state=0).split(x, y, groups))
    loss = {c: sum(log_loss(y[b], pipeline(c).fit(x[a], y[a]).predict_proba(x[b]), labels=range(3), normalize=False)
                   for a, b in parts) for c in probe.STRENGTHS}
    best = min(loss, key=loss.get)
    assert min(probe.STRENGTHS) < best < max(probe.STRENGTHS)
    expected = pipeline(best).fit(x, y).predict_proba(x)
    np.testing.assert_allclose(fitted(x, y, groups, 3)(x), expected, atol=5e-3)


def test_the_regression_keeps_no_second_core_waiting(monkeypatch):
    """With two BLAS threads its small products took six times the CPU time."""
    threads = set[int]()
    loss = probe._loss

    def watched(*arguments):
        threads.update(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return loss(*arguments)

    monkeypatch.setattr(probe, "_loss", watched)
    x = np.random.default_rng(0).normal(size=(12, 2))
    with threadpool_limits(2, "blas"):
        fitted(x, np.arange(12) % 3, np.arange(12), 3)
    assert threads == {1}


def test_classes_that_training_lacks_get_nothing():
    x = np.random.default_rng(0).normal(size=(12, 2))
    p = fitted(x, np.array([1, 3] * 6), np.arange(12), 4)(x)
    assert (p[:, [0, 2]] == 0).all() and p.sum(axis=1) == pytest.approx(np.ones(12))
    assert (fitted(x, np.full(12, 2), np.arange(12), 4)(x) == np.eye(4)[2]).all()
    assert fitted(x, np.array([1, 3] * 6), np.zeros(12), 4)(x).shape == (12, 4)  # one group: nothing to choose by


def test_shares_of_votes_are_labels_with_weights():
    """A row whose votes are shared out is one row for each class with the share as its weight."""
    rng = np.random.default_rng(0)
    x, shares = rng.normal(size=(60, 5)), rng.dirichlet([1, 1, 1], 60)
    weight, bias = next(probe._regressions(x, shares, [0.1]))
    rows = np.repeat(np.arange(60), 3)
    z = StandardScaler().fit_transform(x)
    model = LogisticRegression(C=0.1, max_iter=5000, tol=1e-8)
    model.fit(z[rows], np.tile([0, 1, 2], 60), sample_weight=shares.ravel())
    np.testing.assert_allclose(softmax(x @ weight.T + bias), model.predict_proba(z), atol=1e-3)


def test_the_method_is_the_regression_on_the_untrained_networks_features(colours_root, tmp_path):
    config = Config(data="csv", preset="smoke", method="linear_probe", settings={"vote_targets": False})
    run = train(config, tmp_path, colours_root)
    prepared = prepare(config, colours_root)
    network, labels = build_network(config, prepared.images.tasks), prepared.images.labels("aesthetics")
    network.branches[0].head[-1] = nn.Identity()
    x = predict_logits(network, prepared.pixels, np.arange(len(labels)), prepared.mean, 32, torch.device("cpu"))
    rows = prepared.split.train
    p = fitted(x["aesthetics"][rows], labels[rows], prepared.images.groups[rows], 2)(x["aesthetics"])
    np.testing.assert_allclose(run.predictions()["aesthetics_high"], p[prepared.split.test, 1], atol=0.02)
    assert run.metrics["aesthetics"]["auc"] > 0.9 and run.metrics["emotion"]["auc"] > 0.8
    assert len(run.history()) == 1 and run.history()["epoch"][0] == 0
    trained, _ = run.network("cpu")
    untrained = build_network(config, prepared.images.tasks)
    for (name, one), two in zip(trained.trunk.state_dict().items(), untrained.trunk.state_dict().values(), strict=True):
        assert torch.equal(one, two), name


@pytest.mark.parametrize("still", [{"learning_rate": 0.0, "epochs": 1}, {"epochs": 0}])
def test_training_starts_from_the_probe(still, colours_root, tmp_path):
    """With a learning rate of nothing, or no epoch, what is trained is the probe."""
    common = {"data": "csv", "preset": "smoke"}
    settings = {"probe_start": True} | still
    probed = train(Config(**common, method="linear_probe"), tmp_path, colours_root)
    for method in ("independent", "shared_bottom"):
        run = train(Config(**common, method=method, settings=settings), tmp_path, colours_root)
        np.testing.assert_allclose(  # of the first branch; the second has a random backbone of its own
            run.predictions()["aesthetics_high"], probed.predictions()["aesthetics_high"], atol=0.02)


def fused_example(seed=0) -> tuple[pd.DataFrame, tuple]:
    """Aesthetics that only the emotion network can tell: high where it is positive."""
    rng, n, tasks = np.random.default_rng(seed), 400, (AESTHETICS, AFFECT_QUADRANTS)
    quadrant = rng.integers(0, 4, n)
    logits = rng.normal(size=(n, 4)) + 3 * np.eye(4)[quadrant]
    p = {"aesthetics": rng.dirichlet([5, 5], n),
         "emotion": np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)}
    high = (quadrant >= 2).astype(int)
    part = np.repeat(["train", "validation", "test"], [50, 150, 200])
    truth = {"true_aesthetics": np.array(AESTHETICS.classes)[high],
             "true_emotion": np.array(AFFECT_QUADRANTS.classes)[quadrant]}
    return prediction_table(tasks, p, image=[f"{i}.jpg" for i in range(n)], group=np.arange(n) // 4, part=part,
                            **truth), tasks


def test_late_fusion_learns_on_the_validation_part_what_the_other_task_knows():
    table, tasks = fused_example()
    test = table["part"] == "test"
    high = table["true_aesthetics"][test] == "high"
    before, fused = table["aesthetics_high"][test], late_fusion(table, tasks)
    assert roc_auc_score(high, before) < 0.6 and roc_auc_score(high, fused["aesthetics_high"][test]) > 0.9
    assert fused[["image", "part", "true_emotion"]].equals(table[["image", "part", "true_emotion"]])
    blind = table.assign(true_aesthetics=table["true_aesthetics"].where(table["part"] == "validation", "low"))
    pd.testing.assert_frame_equal(late_fusion(blind, tasks).drop(columns="true_aesthetics"),
                                  fused.drop(columns="true_aesthetics"))


def test_rater_auc_is_the_mean_of_scikit_learns():
    rng = np.random.default_rng(0)
    rater, value = rng.integers(0, 6, 120), rng.integers(1, 8, 120)
    truth, weight = rng.integers(0, 2, 120), rng.integers(0, 3, 120)
    truth[rater == 5] = 1  # has nothing to order
    mine = [rater == person for person in range(5)]
    expected = [roc_auc_score(truth[m], value[m], sample_weight=weight[m]) for m in mine]
    assert people.rater_auc(rater, value, truth, weight) == pytest.approx(np.mean(expected))
    assert np.isnan(people.rater_auc(rater, value, np.ones(120, int), weight))


def rated(values: np.ndarray) -> AnnotatedImages:
    """Ratings 1..7 (images x raters) as aesthetics; nobody says anything about the emotion."""
    images, raters = values.shape
    table = pd.DataFrame({"image": np.repeat(range(images), raters), "annotator": np.tile(range(raters), images),
                          "value": values.ravel()})
    high = (np.sign(values.ravel() - 4) + 1) / 2
    votes = np.stack([1 - high, high], axis=1)
    return AnnotatedImages(
        "made", (AESTHETICS, EMOTION), tuple(f"{i}.jpg" for i in range(images)),
        votes={"aesthetics": votes.reshape(images, raters, 2).sum(axis=1), "emotion": np.zeros((images, 8))},
        ratings={"aesthetics": table}, levels={"aesthetics": "interval"}, rating_votes={"aesthetics": votes},
        groups=np.arange(images) // 2,
    )


def test_one_rater_by_hand():
    """Three raters, four images; the others' consensus of each rating worked out."""
    images = rated(np.array([[6, 5, 2], [7, 6, 5], [1, 2, 3], [2, 3, 6]]))
    actual = people.one_rater(images, np.arange(4))
    # Image 0: 6 sees (5, 2): a tie is low, wrong; 5 sees (6, 2): wrong; 2 sees (6, 5): high, wrong. 1, 2: all right.
    # Image 3: 2 sees (3, 6): a tie is low, right; 3 sees (2, 6): right; 6 sees (2, 3): wrong.
    one = actual["aesthetics"]
    assert one["accuracy"] == pytest.approx((0 + 1 + 1 + 2 / 3) / 4) == images.one_rater_accuracy("aesthetics")
    # Others' consensus high: rating 2 of image 0 (wrong), three of image 1. Low: two of image 0 wrong, 3 + 3 others.
    assert one["balanced_accuracy"] == pytest.approx((3 / 4 + (3 + 2) / 8) / 2)
    # Rater 0: 7 above 6, 1, 2. Rater 1: 6 above 5, 2, 3. Rater 2: high are 2 (image 0) and 5, low are 3 and 6.
    assert one["auc"] == pytest.approx((1 + 1 + 1 / 4) / 3)
    assert one["accuracy_low"] <= one["accuracy"] <= one["accuracy_high"] and one["n"] == 4
    assert actual["emotion"]["n"] == 0 and {actual["emotion"][name] for name in METRICS} == {None}


def test_one_raters_rank_correlation_is_scipys():
    values = np.random.default_rng(0).integers(1, 8, (15, 1)) + np.random.default_rng(1).integers(-2, 3, (15, 4))
    values = values.clip(1, 7)
    expected = [stats.spearmanr(values[:, i], np.delete(values, i, axis=1).mean(axis=1)).statistic for i in range(4)]
    actual = people.one_rater(rated(values), np.arange(15))["aesthetics"]
    assert actual["spearman"] == pytest.approx(np.mean(expected))


def test_a_new_panel_of_people_who_agree_says_the_same():
    agreed = people.new_panel(rated(np.repeat([[6], [2], [5], [1]], 5, axis=1)), np.arange(4))["aesthetics"]
    assert [agreed[name] for name in ("accuracy", "balanced_accuracy", "auc")] == pytest.approx([1, 1, 1])
    assert agreed["spearman"] == pytest.approx(1)
    split = people.new_panel(rated(np.tile([1, 7], (4, 2))), np.arange(4), draws=2000)["aesthetics"]
    assert split["accuracy"] == pytest.approx(11 / 16, abs=0.02)  # 4 votes by a fair coin: at most two are high


def test_people_on_real_photographs(oasis_root):
    images = oasis.read(oasis_root)
    test = images.split(0).test
    one, panel = people.one_rater(images, test, 20), people.new_panel(images, test, 20, 20)
    part = images.select(test)
    assert one["aesthetics"]["accuracy"] == pytest.approx(part.one_rater_accuracy("aesthetics"))
    assert panel["aesthetics"]["accuracy"] == pytest.approx(part.panel_ceiling("aesthetics"), abs=0.01)
    for name in ("accuracy", "auc", "spearman"):
        assert one["aesthetics"][name] < panel["aesthetics"][name]


def test_all_four_stand_in_the_form_of_a_run(colours_root, tmp_path, monkeypatch):
    config = Config(data="csv", preset="smoke", method="independent")
    probed = train(Config(data="csv", preset="smoke", method="linear_probe"), tmp_path, colours_root)
    predictions = pd.read_csv(probed.folder / "predictions.csv", keep_default_na=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        actual = baseline_metrics(config, predictions, colours_root)
    assert list(actual) == ["linear_probe", "late_fusion", "one_rater", "new_panel"]
    measured = endpoints(predictions, prepare(config, colours_root).images)
    for tasks in actual.values():
        assert list(tasks) == list(measured)
        assert all(set(measured[name]) <= set(values) for name, values in tasks.items())
    monkeypatch.setattr(baselines, "train", lambda *_: pytest.fail("a probe is trained, and there is a run of one"))
    again = baseline_metrics(config, predictions, colours_root, {"linear_probe", "independent"})
    assert again == {name: tasks for name, tasks in actual.items() if name != "linear_probe"}
