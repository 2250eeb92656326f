"""Figures and sentences of studies, against numbers worked out by hand on small tables."""

import math

import numpy as np
import pandas as pd
import pytest

from aesthemo_lib.evaluation.calibration import reliability
from aesthemo_lib.plots.runs import paired, reliability as reliability_diagram
from aesthemo_lib.plots.style import NEUTRAL, TASK_COLOURS
from aesthemo_studies import plots as study_plots, protocol as studies

TASKS = ("aesthetics", "emotion")


def table(values: dict, metric: str = "auc") -> pd.DataFrame:
    """Rows as ``studies.selected`` returns them, from {(condition, contender, task): one number a split}."""
    rows = [{"condition": condition, "contender": method, "method": method, "task": task, "split": j, "seed": 0,
             metric: value}
            for (condition, method, task), numbers in values.items() for j, value in enumerate(numbers)]
    return pd.DataFrame(rows)


def half(differences) -> float:
    """Nadeau and Bengio's half width of three pairs, test sets being a quarter."""
    return 4.302653 * np.std(differences, ddof=1) * math.sqrt(1 / 3 + 1 / 3)


def bars(ax) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Colour, places and the two ends of every error bar that is drawn."""
    drawn = []
    for container in ax.containers:
        line, _, (ends,) = container
        drawn.append((line.get_color(), line.get_xydata(), np.array(ends.get_segments())))
    return drawn


BASE = {("", "independent", "aesthetics"): [0.70, 0.72, 0.80], ("", "independent", "emotion"): [0.60, 0.60, 0.60]}
DEPTHS = BASE | {
    ("", "depth 1", "aesthetics"): [0.72, 0.74, 0.83], ("", "depth 1", "emotion"): [0.58, 0.59, 0.57],
    ("", "depth 2", "aesthetics"): [0.71, 0.70, 0.81], ("", "depth 2", "emotion"): [0.60, 0.60, 0.60],
}


def test_verdicts_follow_the_intervals_and_know_when_less_is_better():
    said = study_plots.verdicts(studies.differences(table(DEPTHS), "auc", "independent"), "auc", "independent")
    aesthetics, emotion = said.splitlines()
    # means and half widths: .0233 +- .0203, .0000 +- .0608; -.0200 +- .0351, and .0000 +- .0000
    assert "**ahead** depth 1 (+0.023); **no detectable difference** depth 2 (+0.000)" in aesthetics
    assert "ahead" not in emotion and "behind" not in emotion and "depth 1 (-0.020)" in emotion
    other = {("", "worse", "aesthetics"): [0.80, 0.83, 0.90], ("", "better", "aesthetics"): [0.60, 0.63, 0.70]}
    loss = table(BASE | other, "log_loss")
    said = study_plots.verdicts(studies.differences(loss, "log_loss", "independent"), "log_loss", "independent")
    assert "**ahead** better (-0.097); **behind** worse (+0.103)" in said and "log-loss" in said


def test_one_split_tells_nothing_apart():
    one = table({key: values[:1] for key, values in DEPTHS.items()})
    assert "ahead" not in study_plots.verdicts(studies.differences(one, "auc", "independent"), "auc", "independent")


@pytest.fixture(scope="module")
def doses() -> pd.DataFrame:
    """Gain .1 x relatedness, null .02, on a quarter of the data .03 more gain."""
    values = {}
    for relatedness in (0.0, 0.5, 1.0):
        for share in (25, 100):
            place = f"relatedness {relatedness}, {share} % of the data"
            for task, other in zip(TASKS, TASKS[::-1], strict=True):
                values[place, "independent", task] = [0.6, 0.7]
                gain = 0.1 * relatedness + 0.03 * (share == 25)
                values[place, "cross_branch", task] = [0.6 + gain, 0.7 + gain]
                values[place, f"{other} permuted", task] = [0.62, 0.72]  # the null of this task
                values[place, f"{task} permuted", task] = [0.5, 0.5]  # of no use to it: its own labels are noise
    return study_plots.doses(table(values))


def test_gain_null_and_excess_of_each_dose(doses):
    means = doses.set_index(["task", "kind", "relatedness", "share"])["mean"].round(6)
    assert means["aesthetics", "gain", 1.0, 25] == 0.13 and means["emotion", "gain", 0.5, 100] == 0.05
    assert set(means.xs("null", level="kind")) == {0.02}
    assert means["emotion", "excess", 0.0, 100] == -0.02 and len(doses) == 2 * 3 * 6


def test_dose_lines_have_a_row_a_share_and_a_grey_null(doses):
    figure = study_plots.dose_lines(doses, {"gain": "gain", "null": "null"}, "AUC")
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == ["aesthetics, 100 % of the training data", "emotion, 100 % of the training data",
                      "aesthetics, 25 % of the training data", "emotion, 25 % of the training data"]
    (gain, points, _), (null, flat, _) = bars(figure.axes[3])
    assert (gain, null) == (TASK_COLOURS["emotion"], NEUTRAL)
    np.testing.assert_allclose(points, [[0, 0.03], [0.5, 0.08], [1, 0.13]], atol=1e-9)
    np.testing.assert_allclose(flat[:, 1], 0.02, atol=1e-9)


def test_soft_is_compared_with_hard_of_the_same_contender():
    values = {("hard consensus", "independent"): 0.6, ("soft votes", "independent"): 0.55,
              ("hard consensus", "cross_branch"): 0.5, ("soft votes", "cross_branch"): 0.52}
    rows = table({(*key, task): [value, value + 0.1] for key, value in values.items() for task in TASKS}, "log_loss")
    (ax,) = study_plots.soft_against_hard(rows, ["log_loss"]).axes
    np.testing.assert_allclose(bars(ax)[0][1], [[-0.05, -0.12], [0.02, 0.88]], atol=1e-9)
    assert ax.get_title(loc="left") == "log-loss (left: better)"


def test_an_endpoint_that_a_task_lacks_is_left_out():
    rows = table({(place, "independent", task): [value] * 2 for place, value in
                  (("hard consensus", 0.3), ("soft votes", 0.2)) for task in TASKS}, "emd")
    rows.loc[rows["task"] == "emotion", "emd"] = np.nan
    (ax,) = study_plots.soft_against_hard(rows, ["emd"]).axes
    assert [colour for colour, *_ in bars(ax)] == [TASK_COLOURS["aesthetics"]]


def test_a_study_that_has_not_been_run_is_one_sentence(monkeypatch, tmp_path, capsys):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *what: shown.extend(what))
    monkeypatch.setattr(studies, "project_folder", lambda: tmp_path)
    assert study_plots.load("depth") is None
    (text,) = (one.data for one in shown)
    assert "`depth` has not been run yet" in text and "make study STUDY=depth" in text


@pytest.fixture
def kept(monkeypatch) -> tuple[list[dict], list]:
    """Rows of the study ``start`` as its file would hold them (fill them in), and what is displayed."""
    rows, shown = [], []
    monkeypatch.setattr("IPython.display.display", lambda *what: shown.extend(one.data for one in what))
    monkeypatch.setattr(studies, "read", lambda name: pd.DataFrame(rows))
    return rows, shown


def fill(rows: list[dict], split: int, contenders) -> None:
    """On one split candidate b is better for aesthetics and on the whole, a for emotion."""
    same = {"study": "start", "form": "first", "condition": "", "split": split, "seed": 0, "diverged": False}
    rows += [same | {"contender": name, "candidate": candidate, "task": task, "auc": auc, "validation_log_loss": loss}
             for name in contenders for candidate, task, loss, auc in (
                 ("a", "aesthetics", 0.9, 0.1), ("a", "emotion", 0.2, 0.2),
                 ("b", "aesthetics", 0.3, 0.3), ("b", "emotion", 0.6, 0.4))]


def test_tuned_rows_come_in_the_protocols_order_from_whole_splits(kept):
    rows, shown = kept
    names = list(studies.protocol()["studies"]["start"]["contenders"])
    fill(rows, 0, names)
    fill(rows, 1, names[:-1])  # one contender has not come so far
    fill(rows, 2, names)
    for row in rows[-4:]:  # the last contender was trained there, and diverged
        row["diverged"] = True
    actual = study_plots.load("start")
    assert list(zip(actual["method"], actual["split"], actual["task"], strict=True)) == [
        (name, split, task) for name in names for split in (0, 2) for task in TASKS if (name, split) != (names[-1], 2)]
    assert set(actual[actual["split"] == 0]["auc"]) == {0.3, 0.4}, "a joint network takes b for both tasks"
    assert f"{len(names)} contenders, 2 of 4 splits (**not complete**)" in shown[0]
    assert "make study STUDY=start" in shown[0]


def test_one_whole_split_has_no_interval_and_none_has_no_figure(kept):
    rows, shown = kept
    names = list(studies.protocol()["studies"]["start"]["contenders"])
    fill(rows, 0, names[1:])
    assert study_plots.load("start") is None and "0 of 4 splits" in shown[-1]
    fill(rows, 0, names[:1])
    assert len(study_plots.load("start")) == 2 * len(names) and "one split gives no interval" in shown[-1]


def test_lines_are_differences_on_the_same_splits(monkeypatch):
    beside = table({("", "one rater", "aesthetics"): [0.80, 0.85, 0.90], ("", "linear probe", "aesthetics"): [0.6] * 3,
                    ("", "linear probe", "emotion"): [0.5, 0.6, 0.7], ("", "new panel", "emotion"): [1.0] * 3})
    beside.loc[len(beside)] = beside.iloc[0].to_dict() | {"task": "emotion", "auc": np.nan}  # no raters are published
    monkeypatch.setattr(studies, "read", lambda name: {"compare.lines": beside}[name])
    actual = study_plots.lines("compare", table(DEPTHS), "auc", ("one rater", "linear probe", "late fusion"))
    assert actual["aesthetics"] == pytest.approx({"one rater": 0.11, "linear probe": -0.14})
    assert actual["emotion"] == pytest.approx({"linear probe": 0.0})
    ax = paired(table(DEPTHS), "auc", "independent", lines=actual).axes[0]
    drawn = {line.get_label(): line.get_xdata()[0] for line in ax.lines if not line.get_label().startswith("_")}
    assert drawn == pytest.approx({"no difference": 0.0, "one rater": 0.11, "linear probe": -0.14})


def test_a_study_without_lines_has_none(monkeypatch, tmp_path):
    monkeypatch.setattr(studies, "project_folder", lambda: tmp_path)
    assert study_plots.lines("compare", table(DEPTHS), "auc", ("one rater",)) == {}


def test_the_reliability_diagram_draws_the_bins():
    truth = np.array([0, 0, 1, 1] * 3 + [0])
    high = np.array([0.05, 0.25, 0.25, 0.95] * 3 + [0.45])  # confidences .95, .75, .75, .95; right, right, wrong, right
    bins = reliability(truth, np.stack([1 - high, high], axis=1), bins=8)
    (ax,) = reliability_diagram({"aesthetics": {"independent": bins}}).axes
    diagonal, line = ax.lines
    np.testing.assert_allclose(line.get_xydata(), [[0.75, 0.5], [0.95, 1.0]], err_msg="a bin of one image is no corner")
    np.testing.assert_allclose(ax.collections[0].get_offsets(), [[0.55, 1.0], [0.75, 0.5], [0.95, 1.0]])
    np.testing.assert_allclose(ax.collections[0].get_sizes(), [20, 120, 120])
    assert diagonal.get_label() == "calibrated"
