"""The attribution study, whole, on a few tiny networks; and its tables against what they are made of."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from aesthemo_lib.attribution.ledger import trunk_ledger
from aesthemo_lib.data.readers import scenes
from aesthemo_lib.training.config import Config
from aesthemo_lib.training.run import Run
from aesthemo_scenes import drawing as scene_drawing
from aesthemo_studies.attribution_checks import ledgers as checks, plots as check_plots, study as check_study

CELLS = [check_study.Cell(kind, "scenes-0.5", 0) for kind in check_study.KINDS]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The study on 96 scenes of 32 pixels and one epoch."""
    folder, made = tmp_path_factory.mktemp("étude"), check_study.config_of
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"PHOTOS": 12, "FEW": 2, "LAYER": 2, "cells": lambda *_: CELLS,
                            "SETTINGS": {"resize": 36, "crop": 32, "epochs": 1}}.items():
            patch.setattr(check_study, name, value)

        def tiny(*which):
            config = made(*which)
            return Config(**{**vars(config), "preset": "smoke"})

        patch.setattr(check_study, "config_of", tiny)
        check_study.networks(folder).run(at_once=1)
        study = check_study.study(folder)
        study.run(at_once=1)
        check_study.keep(study, folder / "tables")
        folder = folder / "attribution"
        of = check_study.explained(check_study.Workplace(folder, None), "scenes-0.5", 0)
    return folder, of, {path.stem: pd.read_csv(path) for path in (folder.parent / "tables").glob("*.csv")}


def test_every_network_is_trained_as_it_says(out):
    folder, _, _ = out
    runs = {path.relative_to(folder).parts[1] for path in (folder / "scenes-0.5").rglob("metrics.json")}
    links = {f"without-{i}-{task}" for i in (1, 2) for task in check_study.TASKS}
    assert {path.relative_to(folder).parts[1] for path in folder.rglob("model.safetensors")} == runs
    assert runs == {"trained", "null-aesthetics", "null-emotion"} | links
    config = check_study.config_of("scenes-0.5", 3, "null-emotion")
    assert config.labels == {"permute": ["emotion"]} and config.split == config.seed == 3
    assert check_study.config_of("oasis", 0, "without-2-emotion").options == {"without": [[2, "emotion", "aesthetics"]]}
    assert config.data_options == {"relatedness": 0.5} and check_study.config_of("oasis", 0).data_options == {}


def test_every_question_is_asked_of_scenes_and_of_photographs():
    asked = {(cell.kind, cell.setting) for cell in check_study.cells(1)}
    assert asked == {(kind, setting) for kind in ("null", "flow", "links", "faithful", "exact", "training")
                     for setting in ("scenes-0.5", "oasis")} | {
                         (kind, f"scenes-{r}") for kind in ("null", "flow") for r in (0.0, 1.0)} | {
                         ("pointing", f"scenes-{r}") for r in (0.0, 0.5, 1.0)}
    assert len(set(check_study.cells(3))) == 3 * len(asked)
    assert set(check_study.cells(1, oasis=False)) == {cell for cell in check_study.cells(1) if cell.setting != "oasis"}


def test_the_tables_hold_what_the_ledgers_say(out):
    _, of, tables = out
    assert set(tables) == set(check_study.KINDS)
    null = tables["null"].query("run == 'trained' and task == 'emotion'").set_index("image")
    found = trunk_ledger(of.network, of.batches[0])["emotion"]
    shares = null.loc[of.rows[:8], ["share own", "share borrowed at 1", "share borrowed at 2"]]
    assert np.allclose(shares, checks.shares(found)[:8], rtol=1e-2)
    assert len(checks.excess(tables["null"].query("task == 'aesthetics'"))) == 4
    flow = tables["flow"].query("task == 'emotion' and by == 'aesthetics' and player == 'own'")
    assert set(flow["class"]) <= {"low", "high"} and len(flow) == 8 * flow["class"].nunique()
    links = tables["links"]
    assert len(links) == 4 * 12 and set(links["receiver"]) == set(check_study.TASKS)
    retrained = links.query("layer == 1 and receiver == 'emotion'")["retrained size"]
    assert (retrained > 0).all() and links.filter(like="loss").notna().all(axis=None)


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
    assert tables["training"].groupby(["task", "epoch"])["share"].sum().round(3).eq(1).all()
    assert set(tables["training"]["epoch"]) == {0, 1}


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


def test_photos_are_of_as_many_groups_as_there_are(out, monkeypatch):
    folder, of, _ = out
    assert np.array_equal(of.rows, of.prepared.split.test[:12]) and len(of.batches[0]) == 8  # each its own group
    groups = np.array([f"theme {n // 5}" for n in range(len(of.prepared.images))])
    themes = replace(of.prepared, images=replace(of.prepared.images, groups=groups))
    monkeypatch.setattr(check_study, "prepare", lambda *_: themes)
    monkeypatch.setattr(check_study, "config_of", lambda *_: None)
    monkeypatch.setattr(check_study.Workplace, "run", lambda *_: Run(next(folder.rglob("split0-seed0"))))
    found = check_study.explained(check_study.Workplace(folder, None), "scenes-0.5", 0, photos=12)
    test = of.prepared.split.test
    assert len(set(groups[found.rows])) == min(12, len(set(groups[test])))
    assert np.array_equal(found.rows, test[found.places])


def test_what_is_not_there_is_said(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="no cell of the study attribution is finished"):
        check_study.keep(check_study.study(tmp_path))
    assert check_study.read("nothing") is None and "attribution-study" in capsys.readouterr().out


COMMITTED = sorted((check_study.project_folder() / "results" / "attribution").glob("*.csv"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_tables_hang_together(path):
    table = check_study.read(path.stem)
    assert path.stem in check_study.KINDS and len(table) and set(table["setting"]) <= {
        "scenes-0.0", "scenes-0.5", "scenes-1.0", "oasis"}
    if path.stem == "null":
        shares = table.filter(like="share ").sum(axis=1)
        assert np.allclose(shares, 1, atol=2e-3)
        for _, rows in table.groupby(["setting", "task"]):
            checks.excess(rows)  # each trained network has its null


def test_figures_show_the_tables_numbers(out):
    _, _, tables = out
    found = {task: checks.excess(rows) for task, rows in tables["null"].groupby("task")}
    shadows = check_plots.null_shadows(found)
    for ax, table in zip(shadows.axes, found.values(), strict=True):
        assert [bar.get_width() for bar in ax.patches] == pytest.approx(list(table["null"]))
        points = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "D"]
        assert points == pytest.approx(list(table["trained"]))
    words = " ".join(text.get_text() for text in check_plots.flow_diagram(found).axes[0].texts)
    assert f"{found['emotion'].set_index('player').loc['borrowed at 1', 'trained']:.0%}" in words
    rows = pd.concat([table.query("player == 'borrowed'").assign(task=task, relatedness=0.5)
                      for task, table in found.items()])
    assert [ax.lines[1].get_ydata()[0] for ax in check_plots.doses(rows).axes] == pytest.approx(list(rows["excess"]))
    deletion = checks.summary(tables["faithful"].query("check == 'deletion'"), "value", ["task", "case", "step"])
    curve = check_plots.deletion_curves(deletion).axes[0].lines[0].get_ydata()
    expected = tables["faithful"].query("check == 'deletion' and case == 'map' and task == 'aesthetics'")
    assert np.allclose(curve, expected.groupby("step")["value"].mean())
    stages = tables["faithful"].query("check == 'destroyed'").copy()
    stages[["stage", "sign"]] = stages["case"].str.split(", ", expand=True)
    stages = checks.summary(stages, "value", ["task", "stage", "sign", "step"])
    assert len(check_plots.destroyed(stages).axes[0].lines[0].get_xdata()) == 7
    points = tables["pointing"].assign(relatedness=0.5, gain=lambda rows: rows["hit"] - rows["chance"])
    check_plots.pointing_game(checks.summary(points, "gain", ["task", "mask", "relatedness"]))
    borrowed = tables["training"][tables["training"]["player"] != "own"]
    first = check_plots.over_training(borrowed).axes[0].lines[1].get_ydata()[0]
    assert first == pytest.approx(borrowed["share"].iloc[0])
    means = tables["links"].groupby(["layer", "receiver"], as_index=False)[["trunk size", "zero size"]].mean()
    assert check_plots.link_scatter(means, "trunk size", ["zero size"]).axes[0].lines
    alike = checks.photo_agreements(tables["links"], [("layer support", "mean loss")], resamples=5)
    assert [line.get_ydata()[0] for line in check_plots.photo_agreements(alike).axes[0].lines[:2]] == pytest.approx(
        [alike.query("receiver == @task")["correlation"].iloc[0] for task in alike["receiver"].unique()])
    shares = checks.summary(tables["exact"].query("check == 'borrowed'"), "value", ["task", "case"])
    drawn = [line.get_ydata()[0] for line in check_plots.baseline_shares(shares).axes[0].lines]
    assert drawn == pytest.approx(list(shares[shares["task"] == shares["task"].iloc[0]]["mean"]))
    check_plots.agreements(pd.DataFrame({"what": ["a"], "correlation": [0.5], "low": [0.1], "high": [0.8]}))
    check_plots.flow_matrix(means.set_index("layer")[["zero size"]], "a", "b")
