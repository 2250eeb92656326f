"""Intervals that keep to their bounds, verdicts, and Holm's correction, against scipy and numbers by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from aesthemo_studies.attribution_checks import marks


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9), st.sampled_from(["correlation", "share", "positive", "fit"]))
def test_intervals_stay_inside_their_bounds(values, scale):
    low, high = marks.SCALES[scale][2:]
    actual = marks.bounded_interval(np.clip(values, low, high), scale)
    assert all(low <= value <= high for value in actual if math.isfinite(value))
    assert actual[1] <= actual[0] <= actual[2] or not np.isfinite(actual).all()


def test_a_correlations_interval_is_fishers_and_a_plain_one_nadeaus_and_bengios():
    values = np.array([0.2, 0.5, 0.9])
    z = np.arctanh(values)
    half = stats.t.ppf(0.975, 2) * z.std(ddof=1) * math.sqrt(1 / 3 + marks.OVERLAP)
    assert marks.bounded_interval(values, "correlation") == pytest.approx(
        (math.tanh(z.mean()), math.tanh(z.mean() - half), math.tanh(z.mean() + half)))
    assert marks.OVERLAP == pytest.approx(0.25 / 0.6)  # a quarter is tested, three fifths are learned from
    plain = marks.bounded_interval(values)
    p = marks.p_value(values)
    assert (plain[1] > 0) == (p < 0.05) and 0 < p < 1
    edge = stats.t.ppf(0.975, 2) * values.std(ddof=1) * math.sqrt(1 / 3 + marks.OVERLAP)
    assert marks.p_value(values - values.mean() + edge) == pytest.approx(0.05)


@pytest.mark.parametrize(("value", "low", "high", "said"), [
    (0.1, 0.05, 0.15, "passed"), (0.1, 0.05, 0.25, "undecided"), (0.3, 0.1, 0.5, "failed"), (0.3, 0.25, 0.4, "failed"),
])
def test_a_test_passes_only_if_its_interval_does(value, low, high, said):
    assert marks.verdict("sensitivity", value, low, high) == said
    row = pd.DataFrame([{"task": "emotion", "mean": value, "low": low, "high": high, "image_low": 0, "image_high": 0}])
    assert marks.judged("sensitivity", row)["verdict"].tolist() == [said]
    one = row.assign(low=np.nan, high=np.nan, image_low=low, image_high=high)  # one network: over its images
    assert marks.judged("sensitivity", one)[["over", "verdict"]].values.tolist() == [["images", said]]


def test_networks_are_averaged_before_they_are_compared():
    table = pd.DataFrame({"seed": [0, 0, 0, 1], "task": "t", "value": [1.0, 1.0, 4.0, 6.0]})
    row = marks.over_networks(table, ["task"]).iloc[0]
    assert (row["mean"], row["networks"], row["part"]) == (4.0, 2, "value")
    tests = marks.with_holm(pd.DataFrame({"p": [0.01, np.nan, 0.04]}))
    assert tests["p_holm"].tolist() == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)


def test_what_would_have_been_seen_is_found_in_four_of_five_draws_of_networks():
    """Draws whose scatter is known, and correlated as overlapping splits are, against the formula's promise."""
    rng, n, rho = np.random.default_rng(0), 8, marks.OVERLAP / (1 + marks.OVERLAP)
    values = np.array([0.1, 0.4, 0.2, 0.5, 0.3, 0.2, 0.6, 0.1])
    effect = marks.detectable(values) / values.std(ddof=1)
    common = rng.normal(size=(4000, 1)) * math.sqrt(rho)
    drawn = effect * math.sqrt(1 - rho) + common + rng.normal(size=(4000, n)) * math.sqrt(1 - rho)
    power = np.mean([marks.p_value(one) < 0.05 for one in drawn])
    assert 0.75 < power < 0.85
    assert math.isnan(marks.detectable(values[:1]))


def test_splits_and_seeds_are_told_apart():
    splits, seeds = np.array([0.0, 0.1, 0.2, 0.3]), np.array([-0.02, 0.02])
    parts = marks.scatter(pd.Series((seeds[:, None] + splits).ravel()))  # network n has split n % 4, seed n // 4
    assert parts["between seeds"] == pytest.approx(np.std(seeds, ddof=1))
    assert parts["between splits"] == pytest.approx(math.sqrt(np.var(splits, ddof=1) - np.var(seeds, ddof=1) / 2))
