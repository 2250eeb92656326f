"""Retrieval: its measures, its descriptor maps and its contenders against scikit-learn, scikit-image and by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from skimage.feature import local_binary_pattern
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from aesthemo_lib.models.backbones import HALF
from aesthemo_lib.tasks import EMOTION
from aesthemo_studies.cells import STUDIES
from aesthemo_studies.retrieval import early, study as retrieval
from aesthemo_studies.retrieval.measures import by_answers, measures, search_measures


def test_measures_are_scikit_learns():
    rng = np.random.default_rng(0)
    scores, relevant = rng.random((20, 30)), rng.random((20, 30)) < 0.3
    relevant[3] = False
    actual = measures(scores, relevant, k=7)
    for row in range(20):
        if not relevant[row].any():
            assert actual.iloc[row].isna().all()
            continue
        assert actual["map"][row] == pytest.approx(average_precision_score(relevant[row], scores[row]))
        assert actual["precision"][row] == relevant[row][np.argsort(-scores[row])[:7]].mean()


def test_chance_is_the_mean_over_all_orders():
    relevant = np.array([[True, True, False, False, False]])
    orders = [measures(np.array([order], float), relevant, k=2).iloc[0] for order in itertools.permutations(range(5))]
    for name in ("map", "precision"):
        assert np.mean([one[name] for one in orders]) == pytest.approx(orders[0][f"chance_{name}"])


def test_the_own_series_is_no_feat_and_each_emotion_counts_alike():
    vectors = np.eye(3)[[0, 0, 1, 0]]
    actual = search_measures(vectors, np.array([0, 0, 0, 1]), np.array(["a", "a", "b", "c"]))
    assert actual["map"][0] == 1 / 2  # its twin is left out: the other emotion comes first, then the third picture
    answers = np.array([[1.0, 0], [1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
    truth = np.array([0, 0, 0, 1, 1])
    single = search_measures(np.sqrt(answers), truth, np.arange(5))["map"]
    assert by_answers(answers, truth, np.arange(5))["map"] == (single[:3].mean() + single[3:].mean()) / 2


def test_binary_patterns_are_scikit_images():
    grey = np.random.default_rng(1).integers(0, 256, (2, 14, 15)).astype(np.uint8)
    grey[1, 3:9, 4:11] = 90  # a flat region: neighbours that are equal count as bright
    actual = early.binary_patterns(torch.from_numpy(grey).float()).numpy()
    # scikit-image takes the four corners between pixels; the sides of its circle of radius 1 are ours
    ring = [(0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1)]
    for image in range(2):
        for y, x in itertools.product(range(1, 13), range(1, 14)):
            bright = [grey[image, y + a, x + b] >= grey[image, y, x] for a, b in ring]
            changes = sum(bright[i] != bright[i - 1] for i in range(8))
            assert actual[image, y, x] == (sum(bright) if changes <= 2 else 9)
    edges = np.zeros((20, 20), np.uint8)
    edges[:, 10:] = 200  # along straight edges both circles see the same
    expected = local_binary_pattern(edges, 8, 1, "uniform")
    mine = early.binary_patterns(torch.from_numpy(edges[None]).float())[0].numpy()
    assert np.array_equal(mine[2:-2, 2:-2], expected[2:-2, 2:-2])


def test_maps_are_the_shares_of_a_window():
    pixels = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    actual = early.descriptor_maps(pixels)[0]
    assert actual.shape == (early.CHANNELS, 20, 20)
    each = torch.stack([actual[:12].view(early.BINS, 3, 20, 20).sum(0)[c] for c in range(3)] + [actual[12:].sum(0)])
    assert torch.allclose(each, torch.ones_like(each), atol=1e-5)
    grey = (255 * (pixels * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)).round()
    patterns = early.binary_patterns(grey)[0, 6:15, 6:15]
    assert torch.allclose(actual[12:, 10, 10], torch.bincount(patterns.flatten(), minlength=10) / 81, atol=1e-6)


def test_the_early_network_starts_as_the_pretrained_one():
    torch.manual_seed(0)
    model = early.Early(torch.zeros(early.CHANNELS, 1, 1)).eval()
    pixels, maps = torch.rand(2, 3, 64, 64), torch.rand(2, early.CHANNELS, 64, 64)
    plain = early.build("independent", (EMOTION,), "efficientnet_lite0", "imagenet").eval()
    plain.branches[0].head[-1].load_state_dict(model.network.branches[0].head[-1].state_dict())
    with torch.no_grad():
        expected = plain((pixels - HALF[0]) / HALF[0])[EMOTION.name]
        assert torch.allclose(model(pixels, maps), expected, atol=1e-5)
        model.first.weight[:, 3:] = 0.1
        assert not torch.allclose(model(pixels, maps), expected, atol=1e-2)


def test_what_each_contender_sees():
    rng = np.random.default_rng(0)
    features, look = rng.normal(size=(300, 140)).astype(np.float32), rng.normal(3, 2, (300, 5)).astype(np.float32)
    train, test = np.arange(200), np.arange(200, 300)
    actual = retrieval.views((features, look), train, test, seed=1)
    described = actual["descriptors"]
    assert np.allclose(described[train].mean(axis=0), 0, atol=1e-5) and np.allclose(described[train].std(axis=0), 1)
    assert np.array_equal(actual["both"], np.hstack([actual["pixels"], described]))
    shuffled = actual["both_shuffled"][:, -5:]
    for rows in (train, test):
        assert np.array_equal(np.sort(shuffled[rows], axis=0), np.sort(described[rows], axis=0))
        assert (shuffled[rows] != described[rows]).any(axis=1).mean() > 0.9


def test_votes_are_learnt_as_they_fell():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    expected = LogisticRegression(C=0.1, max_iter=300).fit(x[:40], labels[:40]).predict_proba(x)
    actual = retrieval.found_by(x, 7.0 * np.eye(3)[labels], np.arange(40), 0.1)
    assert np.allclose(actual, expected, atol=1e-3)
    split = retrieval.found_by(x[:, :1] * 0, np.full((60, 3), [3.0, 1.0, 0.0]), np.arange(40), 0.1)
    assert np.allclose(split, [0.75, 0.25, 0], atol=0.02)


def test_the_committed_verdicts_follow_from_the_committed_rows(tmp_path):
    rows = pd.read_csv(STUDIES / "retrieval.csv")
    drawn = rows[(rows["source"] == "drawn") & (rows["dose"] == 1) & (rows["labels"] == 200)]
    gain = drawn.pivot(index="collection", columns="contender", values="map").eval("both - pixels")
    verdict = pd.read_csv(STUDIES / "retrieval.verdicts.csv").query(
        "source == 'drawn' and dose == 1 and labels == 200 and contender == 'both' and reference == 'pixels'")
    assert verdict["mean"].item() == pytest.approx(gain.mean(), abs=1e-4)
    assert verdict["above"].item() == (gain > 0).sum() and verdict["n"].item() == len(gain)
