"""Contradicting answers, counted by hand."""

import pandas as pd
import pytest

from aesthemo_lib.tasks import Task
from aesthemo_studies.task_sequence.contradictions import contradictions

TASKS = (Task("x", ("a", "b")), Task("y", ("c", "d")), Task("z", ("e", "f")))


def table(train, truth, answers):
    rows = [("train", *row, *row) for row in train] + [("test", *t, *a) for t, a in zip(truth, answers, strict=True)]
    return pd.DataFrame(rows, columns=["part", "true_x", "true_y", "true_z", "x", "y", "z"])


def test_pairs_by_hand():
    """Trained on (a,c,e) and (b,d,e): x and y always agree, z is always e. 'ade' breaks xy, 'bdf' breaks xz."""
    predictions = table(["ace", "bde"], ["ace", "bde", "ade", "ace"], ["ace", "ade", "bdf", "bde"])
    actual = contradictions(predictions, TASKS)
    assert (actual["answers"], actual["truth"]) == (0.5, 0.25)


def test_each_pair_may_be_known_from_another_image():
    assert contradictions(table(["ace", "acf", "bce"], ["ace"], ["bce"]), TASKS)["answers"] == 0
    assert contradictions(table(["ace", "acf", "bce"], ["ace"], ["bcf"]), TASKS)["answers"] == 1  # b and f never met


def test_answers_dealt_out_at_random():
    """Half of x is a, half of y is c and the pairs (a,d), (b,c) are strange: by chance half of the images have one."""
    predictions = table(["ace", "bde"], ["ace"] * 20, ["ace"] * 10 + ["bde"] * 10)
    actual = contradictions(predictions, TASKS)
    assert actual["answers"] == 0 and actual["possible"] == pytest.approx(0.5, abs=0.03)


def test_unlabelled_images_take_part_in_no_pair():
    predictions = table(["ace", "bde"], ["ace", "b e"], ["ace", "bde"]).replace(" ", "")
    assert contradictions(predictions, TASKS)["truth"] == 0
