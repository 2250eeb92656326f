"""Ratings, votes, consensus and agreement, against plain rewrites and the krippendorff package's raw-matrix call."""

import krippendorff
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from aesthemo_lib.data import ratings as rating

COUNTS = hnp.arrays(np.int64, st.tuples(st.integers(1, 8), st.integers(2, 5)), elements=st.integers(0, 6))


@st.composite
def judgements(draw):
    """A table of single ratings (image, annotator, value = class number) and the numbers of images and classes."""
    images, raters, c = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(2, 4))
    cells = draw(st.lists(st.one_of(st.none(), st.integers(0, c - 1)), min_size=images * raters,
                          max_size=images * raters))
    rows = [(n // raters, n % raters, value) for n, value in enumerate(cells) if value is not None]
    assume(rows)
    return pd.DataFrame(rows, columns=["image", "annotator", "value"]), images, c


def plain_alpha(ratings: pd.DataFrame, distance) -> float:
    """1 - observed / expected disagreement, pair by pair (Krippendorff 2004), with no coincidence matrix."""
    units = [list(unit) for _, unit in ratings.groupby("image")["value"] if len(unit) > 1]
    values = [value for unit in units for value in unit]
    observed = sum(distance(a, b) / (len(unit) - 1) for unit in units
                   for i, a in enumerate(unit) for j, b in enumerate(unit) if i != j) / max(len(values), 1)
    expected = sum(distance(a, b) for i, a in enumerate(values) for j, b in enumerate(values) if i != j)
    return 1 - observed * len(values) * (len(values) - 1) / expected if expected else float("nan")


@settings(deadline=None)
@given(COUNTS)
def test_consensus_is_the_first_of_the_highest(counts):
    for votes, label, tie, share in zip(counts, rating.consensus(counts), rating.tied(counts),
                                        rating.consensus_share(counts), strict=True):
        votes = votes.tolist()
        assert label == (votes.index(max(votes)) if sum(votes) else rating.UNLABELLED)
        assert tie == (sum(votes) > 0 and votes.count(max(votes)) > 1)
        assert share == pytest.approx(max(votes) / sum(votes), nan_ok=True) if sum(votes) else np.isnan(share)


@settings(deadline=None)
@given(COUNTS, st.floats(1e-3, 1e6))
def test_weights_do_not_move_the_consensus(counts, weight):
    """Votes may be fractions: a common factor changes neither labels nor ties nor shares."""
    assert (rating.consensus(counts * weight) == rating.consensus(counts)).all()
    assert (rating.tied(counts * weight) == rating.tied(counts)).all()
    np.testing.assert_allclose(rating.consensus_share(counts * weight), rating.consensus_share(counts))


def test_a_weight_can_decide():
    image, one_hot = np.array([0, 0]), rating.class_votes([0, 1], 2)
    assert rating.consensus(rating.add_votes(image, one_hot, 1)).tolist() == [0]
    assert rating.consensus(rating.add_votes(image, one_hot * [[1.0], [1.5]], 1)).tolist() == [1]


def test_thirds_tie_in_any_order():
    thirds = np.array([[1 / 3 + 1 / 3 + 1 / 3 + 0.1, 0.1 + 1 / 3 + 1 / 3 + 1 / 3], [0.1 + 0.2, 0.3]])
    assert rating.tied(thirds).all() and rating.tied(thirds[:, ::-1]).all()
    assert rating.consensus(thirds).tolist() == rating.consensus(thirds[:, ::-1]).tolist() == [0, 0]


@settings(deadline=None)
@given(judgements(), st.randoms(use_true_random=False))
def test_annotators_can_be_permuted(table_images_classes, random):
    """Neither the order of the rows nor the annotators' names change votes, consensus or agreement."""
    table, images, classes = table_images_classes
    order = list(range(len(table)))
    random.shuffle(order)
    names = list(range(100, 100 + table["annotator"].max() + 1))
    random.shuffle(names)
    other = table.iloc[order].assign(annotator=lambda t: [names[a] for a in t["annotator"]])
    votes, others = (rating.add_votes(t["image"], rating.class_votes(t["value"], classes), images)
                     for t in (table, other))
    np.testing.assert_array_equal(votes, others)
    np.testing.assert_array_equal(rating.consensus(votes), rating.consensus(others))
    for level in ("nominal", "interval"):
        assert rating.krippendorff_alpha(table, level) == pytest.approx(
            rating.krippendorff_alpha(other, level), nan_ok=True)


@settings(deadline=None)
@given(judgements())
def test_add_votes_is_a_count(table_images_classes):
    table, images, classes = table_images_classes
    votes = rating.add_votes(table["image"], rating.class_votes(table["value"], classes), images)
    for image in range(images):
        mine = table.loc[table["image"] == image, "value"].tolist()
        assert votes[image].tolist() == [mine.count(c) for c in range(classes)]


@settings(max_examples=60, deadline=None)
@given(judgements(), st.sampled_from(["nominal", "ordinal", "interval"]))
def test_alpha_is_that_of_the_raw_matrix(table_images_classes, level):
    table, images, _ = table_images_classes
    value = [1, 2, 4, 7]  # unevenly spaced, so that interval and ordinal differ
    table = table.assign(value=[value[v] for v in table["value"]])
    ours = rating.krippendorff_alpha(table, level)
    paired = table[table.groupby("image")["value"].transform("size") > 1]
    if paired["value"].nunique() < 2:
        assert np.isnan(ours)
        return
    raw = np.full((table["annotator"].max() + 1, images), np.nan)
    raw[table["annotator"], table["image"]] = table["value"]
    # The package counts values that cannot be paired into its ordinal ranks, unless they are left out.
    raw[:, ~np.isin(np.arange(images), paired["image"])] = np.nan
    assert ours == pytest.approx(krippendorff.alpha(reliability_data=raw, level_of_measurement=level), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(judgements())
def test_alpha_is_that_of_a_plain_rewrite(table_images_classes):
    table, _, _ = table_images_classes
    for level, distance in (("nominal", lambda a, b: float(a != b)), ("interval", lambda a, b: float((a - b) ** 2))):
        assert rating.krippendorff_alpha(table, level) == pytest.approx(plain_alpha(table, distance), nan_ok=True)


def test_alpha_of_named_classes_and_of_nobody():
    table = pd.DataFrame({"image": [0, 0, 1, 1, 2], "annotator": list("ababa"),
                          "value": ["awe", "awe", "fear", "fear", "joy"]})
    assert rating.krippendorff_alpha(table, "nominal") == 1
    assert np.isnan(rating.krippendorff_alpha(table.iloc[:2], "nominal"))  # all the same
    assert np.isnan(rating.krippendorff_alpha(table.iloc[[0, 2, 4]], "nominal"))  # nothing to pair


@settings(deadline=None)
@given(judgements(), st.booleans())
def test_one_rater_against_a_loop(table_images_classes, halves):
    table, images, classes = table_images_classes
    each = rating.class_votes(table["value"], classes)
    if halves:  # the last class stands for 'half a vote for each of the first two'
        each[table["value"] == classes - 1] = np.eye(classes)[:2].sum(axis=0) / 2
    by_image = []
    for image in range(images):
        mine = each[table["image"] == image]
        hits = []
        for rater in range(len(mine)):
            others = np.delete(mine, rater, axis=0).sum(axis=0)
            if others.sum():
                hits.append(mine[rater][others.tolist().index(others.max())])
        by_image += [np.mean(hits)] if hits else []
    expected = np.mean(by_image) if by_image else np.nan
    assert rating.one_rater_accuracy(table["image"], each, images) == pytest.approx(expected, nan_ok=True)


def test_scale_votes_are_of_one_vote_each():
    votes = rating.scale_votes(np.array([1, 3.9, 4, 4.1, 7]), middle=4)
    assert votes.tolist() == [[1, 0], [1, 0], [0.5, 0.5], [0, 1], [0, 1]]


def test_ceiling_is_the_binomial_probability():
    """Of a panel of three that stands 2 : 1, a new one has two or three for the first class with 20 / 27."""
    votes = np.tile([2.0, 1.0], (2000, 1))
    assert rating.panel_ceiling(votes, resamples=50) == pytest.approx(20 / 27, abs=0.01)
    assert rating.panel_ceiling(np.array([[3.0, 0.0], [0.0, 5.0]])) == 1
    assert np.isnan(rating.panel_ceiling(np.eye(2)))  # a single vote never disagrees with itself


def test_ceiling_draws_whole_ballots():
    """Raters in the middle who give half a vote to each class stay undecided when they are drawn again."""
    image, values = np.repeat(np.arange(300), 10), np.tile([4, 4, 4, 4, 4, 4, 4, 4, 7, 7], 300)
    each = rating.scale_votes(values, 4)
    counts, kinds = rating.count_ballots(image, each, 300)
    assert kinds.tolist() == [[0, 1], [0.5, 0.5]] and counts[0].tolist() == [2, 8]
    np.testing.assert_allclose(counts @ kinds, rating.add_votes(image, each, 300))
    ballots = rating.panel_ceiling(counts, kinds)
    assert ballots == pytest.approx(1 - 0.8**10, abs=0.01)  # one rater who says 'high' among ten is enough
    assert rating.panel_ceiling(rating.add_votes(image, each, 300)) < ballots - 0.1  # drawn as whole votes


@pytest.mark.parametrize("bad", [[[1, -1]], [[np.nan, 1]], [[np.inf, 0]], [[1, 2, 3]], [1, 2]])
def test_bad_votes_are_named(bad):
    with pytest.raises(ValueError, match="my votes.*expected"):
        rating.check_votes(bad, 2, "my votes")


@pytest.mark.parametrize(("column", "value", "message"), [
    ("image", 2, r"row 1.*0\.\.1"), ("image", -1, r"row 1.*0\.\.1"), ("image", np.nan, "row 1"),
    ("image", 0.5, "row 1"), ("value", np.nan, "row 1"), ("annotator", "a", "'a' rated image 0 more than once"),
])
def test_bad_ratings_are_named(column, value, message):
    table = pd.DataFrame({"image": [0.0, 0.0, 1.0], "annotator": ["a", "b", "a"], "value": [1.0, 2.0, 3.0]})
    assert len(rating.check_ratings(table, 2)) == 3
    table.loc[1, column] = value
    with pytest.raises(ValueError, match=message):
        rating.check_ratings(table, 2)
    with pytest.raises(ValueError, match=f"column '{column}' is missing"):
        rating.check_ratings(table.drop(columns=column), 2)
