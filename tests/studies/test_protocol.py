"""The protocol: the choice on validation images only, the corrected interval, and the committed plan."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from aesthemo_lib.files import project_folder, read_json
from aesthemo_studies import comparisons, protocol


def test_the_choice_is_made_on_validation_images_alone():
    """Joint networks by the mean over tasks, independent ones task by task; test scores point the other way."""
    losses = {("joint", "a"): (1.0, 3.0), ("joint", "b"): (1.5, 2.0),
              ("independent", "a"): (1.0, 3.0), ("independent", "b"): (1.5, 2.0)}
    rows = pd.DataFrame([
        {"condition": "", "contender": contender, "candidate": candidate, "split": 0, "seed": 0, "task": task,
         "validation_log_loss": loss, "auc": loss / 10, "diverged": False}
        for (contender, candidate), pair in losses.items() for task, loss in zip(("x", "y"), pair, strict=True)
    ])
    chosen = protocol.selected(rows).set_index(["method", "task"])["candidate"].to_dict()
    assert chosen == {("joint", "x"): "b", ("joint", "y"): "b", ("independent", "x"): "a", ("independent", "y"): "b"}
    other = rows.assign(validation_loss=rows["validation_log_loss"], validation_log_loss=-rows["validation_log_loss"])
    newer = protocol.selected(other).set_index(["method", "task"])["candidate"].to_dict()
    assert newer == chosen, "where the loss against what was learnt is there, it decides"


def test_differences_by_the_corrected_formula():
    auc = {"independent": [0.7, 0.6, 0.8, 0.75], "cross": [0.72, 0.66, 0.79, 0.8]}
    rows = pd.DataFrame([{"condition": "c", "task": "t", "method": m, "split": j, "seed": 0, "auc": v}
                         for m, values in auc.items() for j, v in enumerate(values)])
    actual = protocol.differences(rows, "auc").iloc[0]
    d = np.subtract(auc["cross"], auc["independent"])
    half = stats.t.ppf(0.975, 3) * d.std(ddof=1) * np.sqrt(1 / 4 + 1 / 3)
    assert actual[["mean", "low", "high"]].tolist() == pytest.approx([d.mean(), d.mean() - half, d.mean() + half])
    assert (actual["condition"], actual["method"], actual["pairs"]) == ("c", "cross", 4)
    noise = [0.01, -0.03, 0.02]  # of three seeds: their mean counts once, so the interval stays as it is
    seeds = pd.concat([rows.assign(seed=j, auc=rows["auc"] + noise[j] * (rows["method"] == "cross"))
                       for j in range(3)])
    pd.testing.assert_frame_equal(protocol.differences(seeds, "auc"), protocol.differences(rows, "auc"))


def test_the_recipe_is_the_methods_paired_differences_after_the_choice():
    auc = {"independent": [0.7, 0.6, 0.8], "cross_branch": [0.72, 0.66, 0.79]}
    rows = pd.DataFrame([
        {"condition": "all labels", "contender": method, "candidate": candidate, "split": split, "seed": 0, "task": "t",
         "validation_log_loss": loss, "auc": value + loss - 1, "diverged": False}
        for method, values in auc.items() for split, value in enumerate(values)
        for candidate, loss in (("a", 1.0), ("b", 2.0))  # b is better on the test images, a is chosen
    ])
    one = protocol.recipe(rows)["all labels"]["t"]["independent"]
    d = np.subtract(auc["cross_branch"], auc["independent"])
    half = stats.t.ppf(0.975, 2) * d.std(ddof=1) * np.sqrt(1 / 3 + 1 / 3)
    by_hand = [d.mean(), d.mean() - half, d.mean() + half]
    assert [one["mean"], one["low"], one["high"]] == pytest.approx(by_hand, abs=1e-5)
    assert (one["endpoint"], one["splits"]) == ("auc", 3)


def test_the_committed_recipe_is_that_of_the_committed_study():
    assert read_json(project_folder() / "results" / "recipe.json") == protocol.recipe(protocol.read("recipe"))


@pytest.mark.parametrize("form", protocol.FORMS)
def test_the_protocol_plans_runs_that_can_be_made(form):
    for name, spec in protocol.protocol()["studies"].items():
        grid = protocol.study(name, form)
        configs = [grid.config(cell, settings) for cell in protocol.cells(grid) for _, settings in grid.candidates()]
        assert len(configs) == spec["runs"][form], name  # each is checked when it is made
        assert len(comparisons.study(grid, project_folder()).cells) == len(protocol.cells(grid))
        assert form == "long" or spec["minutes"]["first"] <= 120


def test_the_protocols_smallest_effect_is_the_formulas():
    said = protocol.protocol()["smallest_effect"]
    n = said["splits"]
    by_hand = (stats.t.ppf(0.975, n - 1) + stats.t.ppf(said["power"], n - 1)) * said["spread"] * (1 / n + 1 / 3) ** 0.5
    assert said["auc"] == pytest.approx(by_hand, abs=1e-3)
    assert protocol.smallest_effect(said["spread"], n) == pytest.approx(by_hand)


def test_unknown_studies_and_forms_are_named():
    with pytest.raises(ValueError, match="unknown study 'x'; results/protocol.json has rehearsal, compare"):
        protocol.study("x")
    with pytest.raises(ValueError, match="unknown form 'x'; choose one of first, long"):
        protocol.study("compare", "x")
    with pytest.raises(FileNotFoundError, match="make study STUDY=nothing"):
        protocol.read("nothing")


def test_seeds_are_cells_of_their_own():
    grid = protocol.Grid("x", "first", {"data": "scenes", "splits": {"first": 2}, "seeds": 2, "first_split": 3,
                                        "contenders": {"a": {}, "b": {}}})
    cells = [(cell.split, cell.seed, cell.contender) for cell in protocol.cells(grid)]
    assert cells == [(split, seed, name) for split in (3, 4) for seed in (0, 1) for name in "ab"]


def test_settings_against_the_lowest_validation_loss():
    losses = {"lowest": [0.5, 0.6, 0.7, 0.6], "noisy": [0.55, 0.55, 0.75, 0.57], "worse": [0.6, 0.7, 0.8, 0.71]}
    seconds = {"lowest": 50.0, "noisy": 40.0, "worse": 10.0}
    rows = pd.DataFrame([
        {"condition": name, "split": split, "seed": 0, "task": task, "validation_loss": loss + sign * 0.2,
         "auc": 0.7, "seconds": seconds[name]}
        for name, values in losses.items() for split, loss in enumerate(values)
        for task, sign in (("aesthetics", -1), ("emotion", 1))])
    table = protocol.against_lowest(rows)
    apart = np.subtract(losses["noisy"], losses["lowest"])
    half = stats.t.ppf(0.975, 3) * apart.std(ddof=1) * (1 / 4 + 1 / 3) ** 0.5
    assert table.loc["noisy", ["mean", "low", "high"]].tolist() == pytest.approx(
        [apart.mean(), apart.mean() - half, apart.mean() + half])
    assert table["loss"].idxmin() == "lowest" and table["seconds"].to_dict() == seconds
    assert "| noisy | .605 |" in protocol.settings_table(rows, ("aesthetics", "emotion"))
