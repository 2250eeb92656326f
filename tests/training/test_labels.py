"""What a training is told of the truth, against plain counts; whole groups stay together."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from aesthemo_lib.data.table import AnnotatedImages, Split
from aesthemo_lib.tasks import OASIS_TASKS
from aesthemo_lib.training.config import Config
from aesthemo_lib.training.labels import check, targets, training_labels


def example(images=120, seed=0):
    rng = np.random.default_rng(seed)
    votes = {task.name: rng.integers(0, 5, (images, len(task.classes))) for task in OASIS_TASKS}
    paths = [f"{i}.jpg" for i in range(images)]
    annotated = AnnotatedImages("made", OASIS_TASKS, paths, votes, groups=rng.integers(0, 30, images).astype(str))
    return annotated, Split(np.arange(0, 80), np.arange(80, 100), np.arange(100, images))


@given(st.integers(0, 1000))
def test_permuted_labels_keep_the_class_shares_of_each_part(seed):
    images, split = example()
    labels, rows = training_labels(images, split, {"permute": ["emotion"]}, seed)
    true = images.labels("emotion")
    for part in (split.train, split.validation):
        assert sorted(labels["emotion"][part]) == sorted(true[part])
    assert (labels["emotion"][split.train] != true[split.train]).any()
    assert (labels["emotion"][split.test] == true[split.test]).all()
    assert (labels["aesthetics"] == images.labels("aesthetics")).all() and (rows == split.train).all()


@given(st.floats(0.01, 1), st.integers(0, 1000))
def test_a_share_of_the_labels_goes_by_whole_groups(share, seed):
    images, split = example()
    labels, rows = training_labels(images, split, {"keep": {"emotion": share}}, seed)
    removed = set(split.train[(labels["emotion"] < 0)[split.train] & (images.labels("emotion") >= 0)[split.train]])
    kept = set(split.train) - removed
    assert {images.groups[row] for row in removed}.isdisjoint(
        images.groups[row] for row in kept if images.labels("emotion")[row] >= 0)
    largest = np.bincount(np.unique(images.groups[split.train], return_inverse=True)[1]).max()
    unlabelled = (images.labels("emotion")[split.train] < 0).sum()
    assert share * 80 - unlabelled <= len(kept) <= share * 80 + largest + unlabelled
    others = np.setdiff1d(np.arange(len(images)), split.train)
    assert (labels["emotion"][others] == images.labels("emotion")[others]).all()
    assert (rows == split.train).all()


def test_halves_leave_each_image_and_its_group_one_task():
    images, split = example()
    labels, rows = training_labels(images, split, {"halves": True}, 1)
    lost = {name: labels[name][split.train] != images.labels(name)[split.train] for name in labels}
    had = {name: images.labels(name)[split.train] >= 0 for name in labels}
    assert not (lost["aesthetics"] & lost["emotion"]).any()
    assert (lost["aesthetics"] | lost["emotion"])[had["aesthetics"] & had["emotion"]].all()
    groups = images.groups[split.train]
    assert not set(groups[lost["aesthetics"]]) & set(groups[lost["emotion"]])
    assert 0.3 < lost["emotion"].mean() < 0.7 and (rows == split.train).all()


def test_smaller_shares_lie_within_larger_ones():
    images, split = example()
    rows = [training_labels(images, split, {"train_share": share}, 3)[1] for share in (0.25, 0.5, 1.0)]
    assert set(rows[0]) < set(rows[1]) < set(rows[2]) == set(split.train)
    assert 0.25 * 80 <= len(rows[0]) < 0.4 * 80


def test_targets_are_the_vote_shares():
    images, _ = example()
    votes = images.votes["emotion"]
    for row in range(len(images)):
        total = votes[row].sum()
        expected = votes[row] / total if total else np.zeros(4)
        assert targets(images, example()[1], {}, 0)["emotion"][row] == pytest.approx(expected)


def test_targets_are_permuted_as_their_labels_are():
    images, split = example()
    images.votes["emotion"][:, 0] += 6 * (np.arange(120) % 3 == 0)  # no ties, so that a consensus is the largest share
    images.votes["emotion"][:, 1:] += np.arange(120)[:, None] % 2 * np.array([3, 1, 0]) + np.array([.2, .1, 0])
    spec = {"permute": ["emotion"]}
    labels, shares = training_labels(images, split, spec, 7)[0]["emotion"], targets(images, split, spec, 7)
    assert (shares["emotion"].argmax(1) == labels).all() and (labels != images.labels("emotion")).any()
    assert (shares["aesthetics"] == targets(images, split, {}, 7)["aesthetics"]).all()


@pytest.mark.parametrize("wrong, said", [
    ({"permut": ["emotion"]}, "unknown 'permut'"), ({"permute": "emotion"}, "expects list"),
    ({"keep": {"emotion": 0}}, "above 0"), ({"keep": {"emotion": 1.5}}, "at most 1"), ({"train_share": True}, "float"),
])
def test_what_cannot_be_meant_is_refused_before_any_work(wrong, said):
    with pytest.raises(ValueError, match=said):
        Config(labels=wrong)


def test_unknown_tasks_are_named():
    check({"permute": ["mood"]})
    with pytest.raises(ValueError, match="no task 'mood'; the tasks are aesthetics, emotion"):
        training_labels(*example(), {"permute": ["mood"]}, 0)
