"""The attribution study, whole, on a few tiny networks; and its tables against what they are made of."""

import numpy as np
import pandas as pd
import pytest

from aesthemo_lib.attribution.ledger import trunk_ledger
from aesthemo_lib.data.readers import scenes
from aesthemo_lib.training.config import Config
from aesthemo_scenes import drawing as scene_drawing
from aesthemo_studies.attribution_checks import (
    contents,
    ledgers as checks,
    plots as check_plots,
    study as check_study,
    subjects,
)
from aesthemo_studies.attribution_checks.marks import over_networks

CELLS = [check_study.Cell(kind, "scenes-0.5", 0) for kind in check_study.KINDS]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The study on 96 scenes of 32 pixels and one epoch."""
    folder, made = tmp_path_factory.mktemp("étude"), subjects.config_of
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"PHOTOS": 12, "FEW": 2, "PAIRS": 2, "cells": lambda *_: CELLS}.items():
            patch.setattr(check_study, name, value)

        def tiny(*which):
            config = made(*which)
            return Config(**{**vars(config), "preset": "smoke", "settings": {"epochs": 1} | config.settings})

        patch.setattr(subjects, "config_of", tiny)
        check_study.networks(folder).run(at_once=1)
        study = check_study.study(folder)
        study.run(at_once=1)
        check_study.keep(study, folder / "tables")
        folder = folder / "attribution"
        of = subjects.explained(subjects.Workplace(folder, None), "scenes-0.5", 0, 12)
    return folder, of, {path.stem: pd.read_csv(path) for path in (folder.parent / "tables").glob("*.csv")}


def test_every_network_is_trained_as_it_says(out):
    folder, _, _ = out
    runs = {path.relative_to(folder).parts[1] for path in (folder / "scenes-0.5").rglob("metrics.json")}
    assert {path.relative_to(folder).parts[1] for path in folder.rglob("model.safetensors")} == runs
    assert runs == {"trained", "start", "null-aesthetics", "null-emotion", "second-aesthetics", "second-emotion"}
    config = subjects.config_of("scenes-0.5", 7, "null-emotion")
    assert config.labels == {"permute": ["emotion"]} and (config.split, config.seed) == (3, 1)
    again = subjects.config_of("scenes-0.5", 7, "second-emotion")
    assert again.labels == config.labels and again.split == config.split and again.seed != config.seed
    assert subjects.config_of("scenes-1.0", 0).data_options == {"relatedness": 1.0}
    assert subjects.config_of("scenes-0.5", 0, "start").training_settings().learning_rate == 0


def test_eight_networks_for_what_is_claimed_and_the_bundled_one_for_photographs():
    asked = check_study.cells()
    counts = pd.Series([f"{cell.kind} {cell.setting}" for cell in asked]).value_counts()
    of_photographs = counts.filter(regex="photographs")
    assert len(set(asked)) == len(asked) and set(counts.drop(of_photographs.index)) == {8} == {*8 * of_photographs}
    assert set(check_study.cells(photographs=False)) == {cell for cell in asked if cell.setting != "photographs"}


def test_the_tables_hold_what_the_ledgers_say(out):
    _, of, tables = out
    assert set(tables) == set(check_study.KINDS)
    null = tables["null"].query("run == 'trained' and task == 'emotion'").set_index("image")
    ledger = trunk_ledger(of.network, of.batches[0])["emotion"]
    shares = null.loc[of.rows[:8], ["share own", "share borrowed at 1", "share borrowed at 2"]]
    assert np.allclose(shares, checks.shares(ledger)[:8], rtol=1e-2)
    for null in ("permuted", "untrained", "start"):
        assert len(checks.excess(tables["null"].query("task == 'aesthetics'"), null=null)) == 4
    untrained = tables["null"].query("run == 'untrained' and task == 'emotion'").set_index("image")
    assert not np.allclose(untrained.loc[of.rows[:8], shares.columns], shares)
    flow = tables["flow"].query("task == 'emotion' and by == 'aesthetics' and player == 'own'")
    assert set(flow["class"]) <= {"low", "high"} and len(flow) == 8 * flow["class"].nunique()
    links = tables["links"]
    assert len(links) == 4 * 12 and set(links["receiver"]) == set(check_study.TASKS)
    assert (links["mean size"] > 0).all() and links.filter(like="loss").notna().all(axis=None)


def test_maps_are_tested_for_each_task(out):
    _, of, tables = out
    faithful = tables["faithful"]
    assert set(faithful["check"]) == {"deletion", "infidelity", "sensitivity", "destroyed"}
    starts = faithful.query("check == 'deletion' and step == 0")
    assert (starts["value"] == 0).all() and len(starts) == 2 * 3 * 4
    assert set(faithful["image"]) <= set(of.rows)
    last = faithful.query("check == 'destroyed'")["step"].max()
    assert last == 6  # heads, three groups and two layers
    exact = tables["exact"].set_index(["check", "case"])["value"]
    assert exact["patches", "correlation"].between(-1, 1).all() and len(exact["patches", "distance"]) == 2 * 2
    assert np.allclose(exact["alike", "mean"], 1) and (exact["alike", "black"] < 1).any()
    borrowed = exact["borrowed"]
    assert len(borrowed["blur"]) == 2 * 4 and borrowed.between(0, 1).all()
    assert set(borrowed.index) == {"mean", "black", "blur", "set"}
    assert set(tables["pointing"]["mask"]) >= {"lamp", "motif"}
    assert all({"setting", "seed", "task", "image", "group"} <= {*tables[name]} for name in ("faithful", "pointing"))


def test_what_is_borrowed_is_read_and_exchanged_in_every_network(out):
    _, of, tables = out
    moved = tables["interchange"]
    assert set(moved["factor"]) == set(contents.FACTORS) and set(moved["run"]) == {"trained", "permuted"}
    assert len(moved) == 2 * 2 * 2 * len(contents.FACTORS) and (moved["whole"] != 0).all()
    concepts = tables["concepts"]
    assert set(concepts["run"]) == {"trained", "start"} and set(concepts["task"]) == set(check_study.TASKS)
    assert (concepts[["own", "borrowed", "both"]] <= 1).all(axis=None) and "motif" in set(concepts["concept"])
    paths = tables["paths"].query("task == 'emotion'")
    trunk = tables["null"].query("run == 'trained' and task == 'emotion'")
    both = paths["along seen at 2"] + paths["along round trip at 2"]
    assert np.allclose(both, trunk["along borrowed at 2"], rtol=1e-2, atol=1e-6)


def test_a_motifs_mask_is_where_another_motif_changes_the_picture():
    factors = scenes.sample(6)
    for number, row in factors.iterrows():
        mask = scene_drawing.motif_mask(row, (0, number), 96)
        with pytest.MonkeyPatch.context() as patch:
            picture = np.asarray(scene_drawing.picture(row, (0, number), 96)[0], dtype=float)
            style = scene_drawing.STYLES[row["motif"]]._replace(draw=lambda *_: None)
            patch.setitem(scene_drawing.STYLES, row["motif"], style)
            without = np.asarray(scene_drawing.picture(row, (0, number), 96)[0], dtype=float)
        changed = np.abs(picture - without).mean(axis=2)
        assert 0.02 < mask.mean() < 0.95 and changed[mask].mean() > 1.5 * changed[~mask].mean()
    assert mask.shape == (96, 96) and mask.dtype == bool


def test_photos_are_of_as_many_groups_as_there_are(out):
    _, of, _ = out
    assert np.array_equal(of.rows, of.split.test[:12]) and len(of.batches[0]) == 8  # each its own group
    groups = np.array([f"theme {n // 5}" for n in range(24)])
    places = subjects._chosen(groups, 12)
    assert len(set(groups[places])) == 5 and len(set(places)) == 12


def test_what_is_not_there_is_said(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="no cell of the study attribution is finished"):
        check_study.keep(check_study.study(tmp_path))
    assert check_study.read("nothing") is None and "attribution-study" in capsys.readouterr().out


COMMITTED = sorted((check_study.project_folder() / "results" / "attribution").glob("*.csv"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_tables_hang_together(path):
    table = check_study.read(path.stem)
    assert path.stem in check_study.KINDS and len(table) and set(table["setting"]) <= {
        check_study.MAIN, check_study.PHOTOGRAPHS}
    if path.stem == "null":
        shares = table.filter(like="share ").sum(axis=1)
        assert np.allclose(shares, 1, atol=2e-3)
        for _, rows in table[table["setting"] == check_study.MAIN].groupby("task"):
            assert set(rows[rows["run"] == "permuted"]["permutation"]) == {0, 1} and rows["seed"].nunique() == 8
            for null in ("permuted", "untrained", "start"):
                assert np.isfinite(checks.excess(rows, null=null)["p"]).all()  # each trained network has its null


def test_figures_show_the_tables_numbers(out):
    _, _, tables = out
    excesses = {task: checks.excess(rows) for task, rows in tables["null"].groupby("task")}
    shadows = check_plots.null_shadows(excesses)
    for ax, table in zip(shadows.axes, excesses.values(), strict=True):
        assert [bar.get_width() for bar in ax.patches] == pytest.approx(list(table["null"]))
        points = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "D"]
        assert points == pytest.approx(list(table["trained"]))
    words = " ".join(text.get_text() for text in check_plots.flow_diagram(excesses).axes[0].texts)
    assert f"{excesses['emotion'].set_index('player').loc['borrowed at 1', 'trained']:.0%}" in words
    deletion = checks.summary(tables["faithful"].query("check == 'deletion'"), "value", ["task", "case", "step"])
    curve = check_plots.deletion_curves(deletion).axes[0].lines[0].get_ydata()
    expected = tables["faithful"].query("check == 'deletion' and case == 'map' and task == 'aesthetics'")
    assert np.allclose(curve, expected.groupby("step")["value"].mean())
    stages = tables["faithful"].query("check == 'destroyed'").copy()
    stages[["stage", "sign"]] = stages["case"].str.split(", ", expand=True)
    stages = checks.summary(stages, "value", ["task", "stage", "sign", "step"])
    assert len(check_plots.destroyed(stages).axes[0].lines[0].get_xdata()) == 7
    points = tables["pointing"].assign(gain=lambda rows: rows["hit"] - rows["chance"])
    points = checks.summary(points, "gain", ["task", "mask"])
    drawn = check_plots.dots(points, "mask", "hits beyond chance", mark=(0, 1)).axes[0]
    assert [line.get_xdata()[0] for line in drawn.lines if line.get_marker() == "D"] == pytest.approx(
        list(points[points["task"] == points["task"].iloc[0]]["mean"]))
    moved = over_networks(tables["interchange"].query("run == 'trained'"), ["task", "factor"], ["whole", "borrowed"])
    assert len(check_plots.dots(moved, "factor", "logits", "part").legends[0].get_texts()) == 2
    check_plots.flow_matrix(tables["links"].groupby("layer")[["zero size"]].mean(), "a", "b")
