"""Calibration, distances and correlations against scipy, scikit-learn and cases worked out by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics

from aesthemo_lib.data.table import AnnotatedImages
from aesthemo_lib.evaluation import calibration
from aesthemo_lib.evaluation.metrics import prediction_table
from aesthemo_lib.tasks import AESTHETICS, EMOTION, OASIS_TASKS
from aesthemo_studies import endpoints


def simplex(rows: int, classes: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(classes), rows)


def test_ece_by_hand():
    """Guo et al.'s equation 3 with five images: three bins of 15 in use, one edge among them."""
    p = np.array([[0.9, 0.1], [0.08, 0.92], [0.6, 0.4], [0.45, 0.55], [0.5, 0.5]])
    truth = np.array([0, 0, 0, 1, -1])  # right, wrong, right, right; the last is unlabelled
    # (.8667, .9333] holds .9 and .92: accuracy .5, confidence .91. 0.6 = 9/15 belongs to the bin that it ends, with .55
    expected = 2 / 4 * abs(0.5 - 0.91) + 2 / 4 * abs(1 - 0.575)
    assert calibration.expected_calibration_error(truth, p) == pytest.approx(expected)
    table = calibration.reliability(truth, p).query("images > 0")
    assert table["images"].tolist() == [2, 2]
    assert table["low"].tolist() == pytest.approx([8 / 15, 13 / 15])
    assert table["accuracy"].tolist() == [1, 0.5] and table["confidence"].tolist() == pytest.approx([0.575, 0.91])
    assert calibration.expected_calibration_error(np.array([-1]), p[:1]) is None


def test_ece_tells_calibrated_from_overconfident():
    p = simplex(40_000, 4, 0)
    truth = (p.cumsum(axis=1) > np.random.default_rng(1).random((len(p), 1))).argmax(axis=1)  # drawn from p itself
    sharp = p**3 / (p**3).sum(axis=1, keepdims=True)
    error = calibration.expected_calibration_error
    assert error(truth, p) < 0.01 < 0.1 < error(truth, sharp)


def test_distances_are_scipys():
    p, q = simplex(20, 5, 0), simplex(20, 5, 1)
    emd = [stats.wasserstein_distance(range(5), range(5), a, b) for a, b in zip(p, q, strict=True)]
    np.testing.assert_allclose(endpoints.earth_movers_distance(p, q), emd)
    middle = (p + q) / 2
    divergence = (stats.entropy(p, middle, base=2, axis=1) + stats.entropy(q, middle, base=2, axis=1)) / 2
    np.testing.assert_allclose(endpoints.jensen_shannon_distance(p, q), np.sqrt(divergence))
    ends = np.eye(5)[[0]], np.eye(5)[[4]]
    assert endpoints.earth_movers_distance(*ends) == 4 and endpoints.jensen_shannon_distance(*ends) == pytest.approx(1)


@pytest.fixture
def images() -> AnnotatedImages:
    """Forty images; aesthetics rated by three people on 1..7, emotion chosen by five, the last ten by nobody."""
    rng = np.random.default_rng(0)
    values = rng.integers(1, 8, (40, 3))
    high = (np.sign(values - 4) + 1) / 2
    ratings = pd.DataFrame({"image": np.repeat(range(40), 3), "annotator": np.tile(range(3), 40),
                            "value": values.ravel()})
    emotion = rng.multinomial(5, np.full(8, 1 / 8), 40)
    emotion[30:] = 0
    return AnnotatedImages(
        "made", (AESTHETICS, EMOTION), tuple(f"{i}.jpg" for i in range(40)),
        votes={"aesthetics": np.stack([(1 - high).sum(1), high.sum(1)], 1), "emotion": emotion},
        ratings={"aesthetics": ratings}, levels={"aesthetics": "interval"},
    )


def predicted(images: AnnotatedImages, rows: np.ndarray, train: int) -> pd.DataFrame:
    """Random probabilities as a run writes and reads them; the first ``train`` rows are the training part."""
    tasks = images.tasks
    p = {t.name: simplex(len(rows), len(t.classes), i) for i, t in enumerate(tasks)}
    truth = {f"true_{t.name}": np.array([*t.classes, ""], dtype=object)[images.labels(t.name)[rows]] for t in tasks}
    return prediction_table(tasks, p, image=[images.names[r] for r in rows], group=images.groups[rows],
                            part=np.where(np.arange(len(rows)) < train, "train", "test"), **truth)


def test_endpoints_against_scipy_and_scikit_learn(images, tmp_path):
    rows = np.random.default_rng(3).permutation(40)  # not in the data set's order
    predicted(images, rows, 15).to_csv(tmp_path / "predictions.csv", index=False)
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    actual = endpoints.endpoints(table, images)
    test, p_high = rows[15:], table["aesthetics_high"].to_numpy()
    mean = images.ratings["aesthetics"].groupby("image")["value"].mean().to_numpy()
    share = images.votes["aesthetics"][:, 1] / 3
    auc = [metrics.roc_auc_score(images.labels("aesthetics")[r], p) for r, p in ((rows[:15], p_high[:15]),
                                                                                (test, p_high[15:]))]
    ours = actual["aesthetics"]
    assert ours["auc"] == pytest.approx(auc[1]) and ours["gap_auc"] == pytest.approx(auc[0] - auc[1])
    assert ours["spearman"] == pytest.approx(stats.spearmanr(p_high[15:], mean[test]).statistic)
    assert ours["emd"] == pytest.approx(np.abs(p_high[15:] - share[test]).mean())
    emotion = actual["emotion"]
    voted = test < 30
    p = table[[f"emotion_{name}" for name in EMOTION.classes]].to_numpy()[15:][voted]
    assert emotion["jensen_shannon"] == pytest.approx(
        endpoints.jensen_shannon_distance(p, images.votes["emotion"][test][voted] / 5).mean())
    assert emotion["log_loss"] == pytest.approx(metrics.log_loss(images.labels("emotion")[test][voted], p,
                                                                 labels=range(8)))
    assert emotion["emd"] is None and emotion["spearman"] is None


def test_without_training_rows_or_several_votes_nothing_is_made_up(images):
    single = replace(images, ratings={}, votes={
        "aesthetics": np.eye(2)[images.labels("aesthetics")], "emotion": np.eye(8)[images.labels("emotion")]})
    for values in endpoints.endpoints(predicted(single, np.arange(40), 0), single).values():
        empty = {name for name, value in values.items() if value is None}
        assert empty == {"emd", "jensen_shannon", "spearman", "gap_auc", "gap_log_loss"}


def test_quadrants_are_compared_with_both_published_scales():
    rng = np.random.default_rng(0)
    facts = pd.DataFrame(rng.uniform(1, 7, (30, 2)), columns=["valence_mean", "arousal_mean"])
    quadrant = 2 * (facts["valence_mean"] > 4) + (facts["arousal_mean"] > 4)
    data = AnnotatedImages("made", OASIS_TASKS[1:], tuple(f"{i}.jpg" for i in range(30)),
                           {"emotion": np.eye(4)[quadrant]}, facts=facts)
    table = predicted(data, np.arange(30), 0)
    actual = endpoints.endpoints(table, data)["emotion"]
    positive = table["emotion_positive_calm"] + table["emotion_positive_aroused"]
    aroused = table["emotion_negative_aroused"] + table["emotion_positive_aroused"]
    each = [stats.spearmanr(positive, facts["valence_mean"]).statistic,
            stats.spearmanr(aroused, facts["arousal_mean"]).statistic]
    assert [actual["spearman_valence"], actual["spearman_arousal"]] == pytest.approx(each)
    assert actual["spearman"] == pytest.approx(np.mean(each))


def test_images_are_found_by_their_path_where_file_names_repeat(images):
    table = predicted(images, np.arange(40), 10)
    with pytest.raises(ValueError, match="made: the predictions hold 'x.jpg', which is not in the data set"):
        endpoints.image_rows(table.assign(image="x.jpg"), images)
    twins = replace(images, paths=tuple(f"{i % 2}/{i // 2}.jpg" for i in range(40)))
    rows = np.random.default_rng(0).permutation(40)
    assert endpoints.image_rows(predicted(twins, rows, 0), twins).tolist() == rows.tolist()


def test_real_photographs_have_ratings_on_every_scale(oasis_root):
    """Predicting what the raters said is a correlation of 1 and a distance of 0; its cost is no more than a moment."""
    import time

    from aesthemo_lib.data.readers import oasis

    images = oasis.read(oasis_root)
    share = {t.name: images.votes[t.name] / images.votes[t.name].sum(1, keepdims=True) for t in images.tasks}
    truth = {f"true_{t.name}": np.array(t.classes)[images.labels(t.name)] for t in images.tasks}
    table = prediction_table(images.tasks, share, image=images.names, group=images.groups,
                             part=np.repeat(["train", "test"], [300, len(images) - 300]), **truth)
    began = time.process_time()
    actual = endpoints.endpoints(table, images)
    assert time.process_time() - began < 10
    assert actual["aesthetics"]["emd"] == 0 and actual["aesthetics"]["spearman"] > 0.97
    assert actual["emotion"]["spearman_valence"] > 0.8 and actual["emotion"]["emd"] is None
