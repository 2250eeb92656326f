"""The attribution study, whole, on a few tiny networks; and its tables against what they are made of."""

import numpy as np
import pandas as pd
import pytest

from aesthemo_lib import check_study, checks
from aesthemo_lib.data.readers import scene_drawing, scenes
from aesthemo_lib.ledger import trunk_ledger
from aesthemo_lib.training.config import Config

CELLS = [check_study.Cell(kind, "scenes-0.5", 0) for kind in check_study.KINDS]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The study on 96 scenes of 32 pixels and one epoch."""
    folder, made = tmp_path_factory.mktemp("étude"), check_study.config_of
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"PHOTOS": 12, "FEW": 2, "LAYER": 2, "cells": lambda seeds: CELLS,
                            "SETTINGS": {"resize": 36, "crop": 32, "epochs": 1}}.items():
            patch.setattr(check_study, name, value)

        def tiny(*which):
            config = made(*which)
            return Config(**{**vars(config), "preset": "smoke"})

        patch.setattr(check_study, "config_of", tiny)
        check_study.run(folder, seeds=1)
        trained = sorted(path.parent for path in folder.rglob("metrics.json"))
        stamps = [path.stat().st_mtime_ns for path in trained]
        check_study.run(folder, seeds=1)  # nothing is left to do
        assert [path.stat().st_mtime_ns for path in trained] == stamps
        check_study.gather(folder, folder / "tables", seeds=1)
        of = check_study.explained(check_study.Workplace(folder, None), "scenes-0.5", 0)
    return folder, of, {path.stem: pd.read_csv(path) for path in (folder / "tables").glob("*.csv")}


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


def test_the_tables_hold_what_the_ledgers_say(out):
    _, of, tables = out
    assert set(tables) == set(check_study.TABLES)
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
    assert set(tables["pointing"]["mask"]) >= {"lamp", "motif"}
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


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="attribution-study"):
        check_study.gather(tmp_path)
    with pytest.raises(FileNotFoundError, match="attribution-study"):
        check_study.read("nothing")
