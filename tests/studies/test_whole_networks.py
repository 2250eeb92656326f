"""Whole networks: sets of a small PARA, the controls' labels, and the kept tables anew."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import stats

from aesthemo_lib.data.readers import para
from aesthemo_lib.evaluation.comparison import mean_interval
from aesthemo_lib.models.backbones import backbone
from aesthemo_studies.cells import short
from aesthemo_studies.full_labels.verdicts import markdown
from aesthemo_studies.whole_networks import small_copy as copying, study as whole, verdicts
from aesthemo_studies.whole_networks.study import Cell

PROJECT = Path(__file__).resolve().parents[2]
PLAN = whole.protocol()
SMALL = PLAN | {"side": 64, "batch": 4, "epochs": 1, "apart": 10,
                "sizes": {"10": 10, "20": 20, "copies": 8, "permuted": 8, "halves": 10},
                "pilot": {"from": 20, "photographs": 5, "rates": [1e-3, 2e-3]}, "validation": 0.2}


@pytest.fixture(scope="module")
def para_root(tmp_path_factory) -> Path:
    """PARA's layout: 30 and 12 plain pictures, bright ones high and positive."""
    root, rng = tmp_path_factory.mktemp("para"), np.random.default_rng(0)
    (root / "annotation").mkdir()
    (root / "imgs" / "session1").mkdir(parents=True)
    for part, names in (("Train", range(30)), ("Test", range(30, 42))):
        rows = []
        for i in names:
            pixels = rng.integers(0, 60, (70, 70, 3)) + 150 * (i % 2)
            Image.fromarray(pixels.astype(np.uint8)).save(root / "imgs" / "session1" / f"iaa_pub{i}_.jpg")
            votes = {"neutral": 5 - 4 * (i % 2), "amusement": 1 + 4 * (i % 2)}
            rows.append({"imageName": f"iaa_pub{i}_.jpg", "sessionId": "session1",
                         "aestheticScore_mean": 2 + 2 * (i % 2),
                         **{f"imgEmotion_{name}": votes.get(name, 0) for name in para.EMOTIONS}})
        pd.DataFrame(rows).to_csv(root / "annotation" / f"PARA-Giaa{part}.csv", index=False)
    return root


@pytest.fixture
def small(monkeypatch, para_root):
    monkeypatch.setattr(whole, "protocol", lambda: SMALL)
    kept = whole.material
    kept.cache_clear()
    yield para_root
    kept.cache_clear()


def test_sets_share_no_photograph_and_those_of_the_pilot_no_other(small):
    made = whole.material(small)
    at = lambda setting, number: set(made.order[whole.places(Cell(setting, number, "", 0.0))])  # noqa: E731
    assert not at("10", 0) & at("10", 1) and at("10", 0) | at("10", 1) == at("20", 0)
    assert at("copies", 1) < at("10", 1) and not at("pilot", 0) & (at("20", 0) | set(made.test))
    names = [Path(made.images.names[row]).name for row in made.order]
    table = pd.read_csv(small / "annotation" / "PARA-GiaaTrain.csv")
    assert names == list(np.random.default_rng(0).permutation(table["imageName"].to_numpy()))
    assert set(made.images.facts["official_part"].iloc[made.test]) == {"test"} and len(made.test) == 12


def test_controls_change_what_is_learnt_and_nothing_that_is_tested(small):
    images = whole.material(small).images
    train, validation = np.arange(20), np.arange(20, 30)
    aesthetics, emotion = images.labels("aesthetics"), images.labels("emotion")
    labels, targets = whole.learned(Cell("10", 0, "", 0.0), images, train, validation)
    assert (labels["aesthetics"] == aesthetics).all() and (labels["emotion"] == emotion).all()
    np.testing.assert_allclose(targets["emotion"][:2], [[5 / 6, 1 / 6], [1 / 6, 5 / 6]], atol=1e-6)
    labels, targets = whole.learned(Cell("permuted", 0, "", 0.0), images, train, validation)
    assert (labels["aesthetics"] == aesthetics).all() and (labels["emotion"][train] != emotion[train]).any()
    assert sorted(labels["emotion"][train]) == sorted(emotion[train])
    assert (targets["emotion"].argmax(axis=1) == labels["emotion"]).all()
    labels, targets = whole.learned(Cell("copies", 0, "", 0.0), images, train, validation)
    turned = {task: labels[task] != emotion for task in whole.TASKS}
    assert not targets and (turned["aesthetics"] != turned["emotion"]).any() and 0 < turned["emotion"].mean() < 0.5
    labels, targets = whole.learned(Cell("halves", 0, "", 0.0), images, train, validation)
    has = {task: labels[task] >= 0 for task in whole.TASKS}
    assert (has["aesthetics"] != has["emotion"]).all() and 5 < has["emotion"].sum() < 37
    assert all((labels[task][has[task]] == emotion[has[task]]).all() for task in whole.TASKS)
    assert (targets["aesthetics"] == targets["emotion"]).all()


@pytest.mark.parametrize("contender", ["independent", "cross_branch.diagonal", "linear_probe"])
def test_a_cell_trains_and_reports_both_tasks(small, contender):
    """Bright against dark is learnt from eight pictures, from a probe's start by one step as well."""
    rows = pd.DataFrame(whole.measure(Cell("10", 0, contender, 1e-5), small)).set_index("task")
    assert list(rows.index) == list(whole.TASKS) and (rows["auc"] > 0.9).all() and (rows["seconds"] > 0).all()
    if contender != "linear_probe":
        assert np.isfinite(rows["first_loss"]).all() and (rows["best_epoch"] == 1).all()


def test_a_copy_that_lacks_a_sets_photographs_says_so(small, monkeypatch):
    made = whole.material(small)
    monkeypatch.setattr(whole, "material", lambda root: whole.Material(
        made.images, made.pixels, np.where(np.arange(30) < 15, made.order, -1), made.test))
    with pytest.raises(FileNotFoundError, match="5 of the 10 photographs of set 1 are not here"):
        whole.measure(Cell("10", 1, "linear_probe", 0.0), small)


def test_the_small_copy_is_in_paras_layout_and_has_its_weights(small, tmp_path, monkeypatch):
    monkeypatch.setattr(copying, "protocol", lambda: SMALL)
    copying.small_copy(small, tmp_path)
    images = para.read(tmp_path)
    assert len(images) == 42 and (np.asarray(images.fixed) == "test").sum() == 12
    with Image.open(images.paths[0]) as photo:
        assert photo.size == (64, 64) and photo.format == "WEBP"
    assert list(whole.ordered_names(tmp_path)) == list(whole.ordered_names(small))
    carried = backbone("efficientnet_lite0", 2, str(tmp_path / whole.WEIGHTS)).state_dict()
    for name, value in backbone("efficientnet_lite0", 2).state_dict().items():
        if value.is_floating_point() and not name.startswith("head.") or "head.0" in name:
            torch.testing.assert_close(carried[name], value, rtol=1e-3, atol=1e-6)


def test_rates_are_chosen_by_both_tasks_log_losses():
    pilot = pd.DataFrame([{"contender": c, "learning_rate": r, "task": t, "log_loss": loss} for c, r, t, loss in (
        ("a", 1e-4, "aesthetics", 0.5), ("a", 1e-4, "emotion", 0.7), ("a", 2e-4, "aesthetics", 0.55),
        ("a", 2e-4, "emotion", 0.6), ("linear_probe", 0.0, "emotion", 0.1))])
    assert verdicts.chosen_rates(pilot) == {"a": 2e-4}


# --- the kept tables


def test_the_rates_are_those_that_the_pilot_chose():
    pilot = verdicts.read(verdicts.FILE.with_suffix(".pilot.csv"))
    chosen, added = verdicts.chosen_rates(pilot), PLAN["pilot"]["without"]
    assert set(pilot["contender"]) == set(PLAN["contenders"]) - set(added) and not set(added) & set(chosen)
    assert {name: rate for name, rate in PLAN["rates"].items() if name not in added} == chosen
    assert PLAN["rates"][verdicts.APART_FASTER] == PLAN["rates"]["cross_branch.diagonal"]


def test_verdicts_are_what_the_rows_give():
    rows, kept = verdicts.read(verdicts.FILE), verdicts.read(verdicts.FILE.with_suffix(".verdicts.csv"))
    assert len(kept) and not rows.duplicated(["setting", "replicate", "contender", "task"]).any()
    for row in kept.itertuples():
        here = rows[(rows["setting"] == row.setting) & (rows["task"] == row.task)]
        auc = here.pivot(index="replicate", columns="contender", values="auc")
        d = (auc[row.contender] - auc[row.reference]).dropna()
        error = d.std(ddof=1) / np.sqrt(len(d))
        half, more = stats.t.ppf(0.975, len(d) - 1) * error, stats.t.ppf(0.8, len(d) - 1) * error
        np.testing.assert_allclose([row.mean, row.low, row.high, row.detectable], [
            d.mean(), d.mean() - half, d.mean() + half, half + more], atol=1e-4)
        assert row.n == len(d) and row.above == (d > 0).sum()


def test_the_table_in_the_results_is_that_of_the_rows():
    text = (PROJECT / "results" / "README.md").read_text(encoding="utf-8")
    rows, table = verdicts.read(verdicts.FILE), verdicts.read(verdicts.FILE.with_suffix(".verdicts.csv"))
    learnt = verdicts.health(rows[~rows["setting"].isin(verdicts.CONTROLS)]).set_index(["setting", "contender"])
    assert len(rows) == 2 * 380 and not learnt["stuck"].any()
    assert learnt["failed"].sum() == learnt["failed"]["500", "cross_branch.random"] == 1
    names = (verdicts.PROBE, *verdicts.JOINT)
    shown = dict(re.findall(r"<!-- whole networks: (.*?) -->\n(.*?)\n<!-- end of whole networks -->", text, flags=re.S))
    assert shown == {
        "para": markdown(rows, table, "para", ["500", "2000", "5000"], names),
        "added": markdown(rows, table, "added", ["2000"], (verdicts.PROBE, *verdicts.AS_FAST), verdicts.APART_FASTER),
        "depth": markdown(rows, table, "depth", ["500"], verdicts.DEPTHS, verdicts.WHOLE_TRUNK),
    }


def test_what_the_text_says_of_whole_networks_is_in_the_table():
    text = " ".join((PROJECT / "results" / "README.md").read_text(encoding="utf-8").split())
    table = verdicts.read(verdicts.FILE.with_suffix(".verdicts.csv")).set_index(
        ["family", "setting", "contender", "reference", "task"])

    def both(family, setting, contender, reference, column="mean", sign=1):
        values = [sign * table[column][family, setting, contender, reference, task] for task in whole.TASKS]
        return " and ".join(f"{value:.3f}".replace("0.", ".", 1) if isinstance(value, float) else str(value)
                            for value in values)

    faster, diagonal, trunk = verdicts.APART_FASTER, "cross_branch.diagonal", "shared_bottom"
    gains = [both("para", setting, "linear_probe", "independent", sign=-1) for setting in ("500", "2000", "5000")]
    for said in (
        f"`own_twice`, which exchanges nothing, by {both('para', '2000', 'cross_branch.own_twice', 'independent')}",
        f"At 8e-4 they gain {both('added', '2000', 'independent', faster, sign=-1)}",
        f"{both('added', '2000', diagonal, faster)} remain",
        f"{both('added', '2000', diagonal, faster, 'detectable')} would have been found",
        f"the shared trunk is ahead by {both('controls', 'halves', trunk, faster)}",
        f"in {both('controls', 'halves', trunk, faster, 'above')} of 12 sets",
        f"the exchange is level with independent networks ({both('controls', 'halves', diagonal, faster)})",
        f"behind the trunk by {both('controls', 'halves', diagonal, trunk, sign=-1)}",
        f"could only have found {both('controls', 'copies', trunk, 'independent', 'detectable')}",
        f"with 5,000 it is {both('para', '5000', 'cross_branch.random', diagonal, sign=-1)} behind the diagonal start",
        f"with 2,000 {both('para', '2000', 'cross_branch.random', diagonal, sign=-1)}",
        "Minus the probe, independent networks gain {} with 500 photographs, {} with 2,000 and {} with 5,000".format(
            *gains),
    ):
        assert said in text, said
    auc = verdicts.read(verdicts.FILE).query("setting == '500'").pivot(
        index=["task", "replicate"], columns="contender", values="auc")
    ahead = auc[verdicts.WHOLE_TRUNK] - auc[trunk]
    found = [mean_interval(ahead[task].to_numpy()) for task in whole.TASKS]
    assert f"it is {' and '.join('{} ({}, {})'.format(*map(short, one)) for one in found)} ahead of its GPU run" in text
    readme = " ".join((PROJECT / "README.md").read_text(encoding="utf-8").split())
    behind = [f"{-table['mean']['para', '5000', 'cross_branch.random', diagonal, task]:.2f}".removeprefix("0")
              for task in whole.TASKS]
    for said in (
        f"with an exchange are {both('para', '2000', diagonal, 'independent')} ahead",
        f"({both('added', '2000', diagonal, faster, 'detectable')} would have been detected)",
        f"with 5,000 photographs still {' and '.join(behind)} behind",
    ):
        assert said in readme, said
