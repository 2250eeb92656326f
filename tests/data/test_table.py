"""AnnotatedImages: its checks, selection and splits."""


import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from aesthemo_lib.data import ratings as rating, table
from aesthemo_lib.data.table import AnnotatedImages
from aesthemo_lib.tasks import AESTHETICS, OASIS_TASKS, Task


def annotated(labels, quadrants=None, groups=None, **more) -> AnnotatedImages:
    """One vote an image; -1 is unlabelled. Tasks aesthetics and, with quadrants, emotion."""
    tasks = OASIS_TASKS if quadrants is not None else OASIS_TASKS[:1]
    votes = {
        task.name: np.array([np.eye(len(task.classes))[label] if label >= 0 else np.zeros(len(task.classes))
                             for label in numbers]).reshape(len(labels), len(task.classes))
        for task, numbers in zip(tasks, (labels, quadrants), strict=False)
    }
    paths = tuple(f"{number:04}.jpg" for number in range(len(labels)))
    return AnnotatedImages("toy", tasks, paths, votes, groups=groups, **more)


def rated(images=12, seed=0) -> AnnotatedImages:
    rng = np.random.default_rng(seed)
    rows = [(i, a, rng.integers(1, 8)) for i in range(images) for a in range(1 + rng.integers(4))]
    table = pd.DataFrame(rows, columns=["image", "annotator", "value"]).sample(frac=1, random_state=seed)
    each = rating.scale_votes(table["value"], 4)
    return AnnotatedImages(
        "toy", (AESTHETICS,), tuple(f"{i}.jpg" for i in range(images)),
        {"aesthetics": rating.add_votes(table["image"], each, images)}, {"aesthetics": table},
        {"aesthetics": "interval"}, {"aesthetics": each}, groups=np.array([f"g{i // 2}" for i in range(images)]),
        facts=pd.DataFrame({"number": range(images)}),
    )


@settings(deadline=None)
@given(st.lists(st.integers(0, 11), unique=True))
def test_select_keeps_ratings_aligned(rows):
    whole = rated()
    part = whole.select(rows)
    assert [p.name for p in part.paths] == [f"{row}.jpg" for row in rows]
    assert part.facts["number"].tolist() == rows and part.groups.tolist() == [f"g{row // 2}" for row in rows]
    table, each = part.ratings["aesthetics"], part.rating_votes["aesthetics"]
    np.testing.assert_array_equal(rating.add_votes(table["image"], each, len(rows)), part.votes["aesthetics"])
    np.testing.assert_array_equal(rating.scale_votes(table["value"], 4), each)
    original = whole.ratings["aesthetics"]
    for new, old in enumerate(rows):
        assert (sorted(table.loc[table["image"] == new, ["annotator", "value"]].itertuples(index=False))
                == sorted(original.loc[original["image"] == old, ["annotator", "value"]].itertuples(index=False)))


def test_select_takes_a_mask():
    whole = rated()
    mask = whole.facts["number"].to_numpy() % 3 == 1
    assert whole.select(mask).facts["number"].tolist() == [1, 4, 7, 10]


def test_select_twice_is_select_once():
    whole = rated()
    twice, once = whole.select([5, 3, 9, 0]).select([2, 0]), whole.select([9, 5])
    assert twice.paths == once.paths and twice.fingerprint() == once.fingerprint()
    pd.testing.assert_frame_equal(twice.ratings["aesthetics"], once.ratings["aesthetics"])


def test_rater_figures_are_those_of_the_ratings():
    whole = rated(40)
    table, each = whole.ratings["aesthetics"], whole.rating_votes["aesthetics"]
    assert whole.one_rater_accuracy("aesthetics") == rating.one_rater_accuracy(table["image"], each, 40)
    ballots = rating.count_ballots(table["image"], each, 40)
    assert whole.panel_ceiling("aesthetics") == rating.panel_ceiling(*ballots)
    unrated = annotated([0, 1])
    assert np.isnan(unrated.one_rater_accuracy("aesthetics")) and np.isnan(unrated.panel_ceiling("aesthetics"))


@st.composite
def grouped(draw):
    sizes = draw(st.lists(st.integers(1, 9), min_size=10, max_size=40))
    n = sum(sizes)
    labels = draw(st.lists(st.integers(-1, 1), min_size=n, max_size=n))
    quadrants = draw(st.lists(st.integers(-1, 3), min_size=n, max_size=n))
    return annotated(labels, quadrants, np.repeat([f"g{number}" for number in range(len(sizes))], sizes))


@settings(max_examples=50, deadline=None)
@given(grouped(), st.integers(0, 3))
def test_splits_respect_groups_and_test_each_image_once(images, shuffle):
    tested = []
    for number in range(4 * shuffle, 4 * shuffle + 4):
        split = images.split(number)
        rows = np.concatenate(split)
        assert sorted(rows) == list(range(len(images)))  # each image in just one part
        parts = [set(images.groups[part]) for part in split]
        assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
        assert all(len(part) for part in split)
        assert all((np.diff(part) > 0).all() for part in split)
        tested.append(split.test)
    assert sorted(np.concatenate(tested)) == list(range(len(images)))


def test_splits_are_stratified_reproducible_and_differ():
    rng = np.random.default_rng(0)
    labels, quadrants = (rng.random(800) < 0.7).astype(int), rng.choice(4, 800, p=[0.1, 0.2, 0.4, 0.3])
    images = annotated(labels, quadrants, np.repeat([f"g{number}" for number in range(400)], 2))
    for number in range(8):
        for part in images.split(number):
            assert labels[part].mean() == pytest.approx(labels.mean(), abs=0.02)
            np.testing.assert_allclose(np.bincount(quadrants[part], minlength=4) / len(part),
                                       np.bincount(quadrants) / 800, atol=0.025)
    assert all((a == b).all() for a, b in zip(images.split(3), images.split(3), strict=True))
    assert len(images.split(0).test) == pytest.approx(200, abs=4)
    assert len(images.split(0).validation) == pytest.approx(120, abs=4)
    assert set(images.split(0).test) != set(images.split(4).test)


def test_many_groups_are_drawn_and_still_hold_even_shares(monkeypatch):
    monkeypatch.setattr(table, "MANY_GROUPS", 500)
    labels = np.arange(4000) % 5 == 0
    images = annotated(labels.astype(int), groups=np.arange(4000) // 2)
    splits = [images.split(number) for number in range(4)]
    assert sorted(np.concatenate([split.test for split in splits])) == list(range(4000))
    for split in splits:
        parts = [set(images.groups[rows]) for rows in split]
        assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
        assert len(split.test) == 1000 and len(split.validation) == 600
        assert all(abs(labels[rows].mean() - 0.2) < 0.05 for rows in split)
    assert np.array_equal(images.split(1).test, splits[1].test) and set(splits[0].test) != set(images.split(4).test)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
def test_too_few_images_are_one_clear_line(n):
    with pytest.raises(ValueError, match="groups can't be split") as error:
        annotated([i % 2 for i in range(n)]).split(0)
    assert "\n" not in str(error.value)


def test_too_few_groups_are_one_clear_line():
    with pytest.raises(ValueError, match="60 images in 3 groups can't be split"):
        annotated([0, 1] * 30, groups=["a", "b", "c"] * 20).split(0)


def test_eight_images_are_enough_even_of_one_class():
    for labels in ([0, 1] * 4, [1] * 8, [-1] * 8):
        assert sum(map(len, annotated(labels).split(1))) == 8


def test_a_fixed_split_is_used_as_it_is():
    fixed = np.array(["test", "train", "validation", "train", "test"])
    images = annotated([0, 1, 0, 1, 0], fixed=fixed)
    for number in (0, 5):
        assert [part.tolist() for part in images.split(number)] == [[1, 3], [2], [0, 4]]
    with pytest.raises(ValueError, match="no image is marked 'validation'"):
        images.select([0, 1]).split(0)
    for wrong in (["test", "train"], ["test", "dev", "train", "train", "train"]):
        with pytest.raises(ValueError, match="expected a fixed part of each image"):
            annotated([0, 1, 0, 1, 0], fixed=np.array(wrong))


def test_parts_that_do_not_fit_are_named():
    votes = {"aesthetics": np.eye(2)}
    make = lambda **new: AnnotatedImages(**{  # noqa: E731
        "name": "toy", "tasks": (AESTHETICS,), "paths": ("a.jpg", "b.jpg"), "votes": votes} | new)
    assert len(make()) == 2
    for new, message in (
        ({"tasks": ()}, "one or more tasks"),
        ({"tasks": (AESTHETICS, AESTHETICS)}, "distinct names"),
        ({"tasks": (Task("emotion", ("awe", "fear")),)}, r"votes for \['aesthetics'\] but tasks \['emotion'\]"),
        ({"paths": ("a.jpg", "a.jpg")}, "a.jpg is listed twice"),
        ({"paths": ("a.jpg",)}, "2 rows for 1 images"),
        ({"votes": {"aesthetics": -np.eye(2)}}, "toy, aesthetics votes: row 0"),
        ({"groups": ["a"]}, "1 groups for 2 images"),
        ({"facts": pd.DataFrame({"a": [1]})}, "1 facts for 2 images"),
        ({"rating_votes": {"aesthetics": np.eye(2)}}, "2 votes for 0 ratings of aesthetics"),
        ({"ratings": {"aesthetics": pd.DataFrame({"image": [5], "annotator": [0], "value": [1]})}},
         "toy, aesthetics ratings: row 0 has image 5"),
    ):
        with pytest.raises(ValueError, match=message):
            make(**new)


def test_summary_counts_by_hand():
    votes = {"aesthetics": np.array([[3, 1], [1, 1], [0, 2], [0, 0]])}
    table = AnnotatedImages("toy", (AESTHETICS,), ("a", "b", "c", "d"), votes).summary().set_index("class")
    assert table["images"].to_dict() == {"low": 2, "high": 1}
    assert table["share"].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert table["ties"].to_dict() == {"low": 1, "high": 0}
    assert table["mean_agreement"].tolist() == pytest.approx([(0.75 + 0.5) / 2, 1])
