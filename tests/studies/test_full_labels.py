"""Full labels: drawn data whose answer is known, and the kept tables anew."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, cross_val_predict

from aesthemo_studies.contrasts import contrasts
from aesthemo_studies.few_labels.material import Material, replicates
from aesthemo_studies.full_labels import study as full_labels, verdicts
from aesthemo_studies.full_labels.study import Cell, Sample

PROJECT = Path(__file__).resolve().parents[2]
PLAN = full_labels.protocol()


@pytest.fixture(scope="module")
def made() -> Material:
    """Two tasks that are the same one, on 12 features."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2600, 12)).astype(np.float32)
    positive = x @ rng.normal(size=12) / np.sqrt(12) + 0.3 * rng.normal(size=len(x)) > 0
    y = np.stack([rng.random(len(x)) < 0.5, positive], axis=1).astype(np.int64)
    return Material(x, y, replicates(np.arange(1500), 2, 1, 600), np.arange(1500, 2600))


def test_samples_of_para_share_no_photograph_and_controls_change_training_labels_only(made, monkeypatch):
    monkeypatch.setattr(full_labels, "material", lambda root, out: made)
    at = lambda setting, number: full_labels.para_sample(Cell("para", setting, number), None, None)  # noqa: E731
    first, second = at("700", 0), at("700", 1)
    rows = {tuple(row) for row in first.x}
    assert len(rows) == 700 and not rows & {tuple(row) for row in second.x}
    plain, copies, permuted = at("500", 0), at("copies", 0), at("permuted", 0)
    assert (plain.x == copies.x).all() and (plain.truth == permuted.truth).all()
    assert (permuted.y[:, 0] == plain.y[:, 0]).all() and (permuted.y[:, 1] != plain.y[:, 1]).any()
    assert sorted(permuted.y[:, 1]) == sorted(plain.y[:, 1])
    turned = copies.y != plain.y[:, [1, 1]]
    assert (abs(turned.mean(axis=0) - full_labels.TURNED) < 0.06).all() and (turned[:, 0] != turned[:, 1]).any()
    assert (copies.truth == plain.truth[:, [1, 1]]).all()


def test_two_noisy_copies_of_a_task_are_learnt_better_together(made, monkeypatch):
    """The positive control in small."""
    monkeypatch.setattr(full_labels, "NETWORKS", ("independent", "cross_branch.diagonal"))
    rng, rows = np.random.default_rng(1), np.arange(150)
    y = made.y[rows][:, [1, 1]] ^ (rng.random((len(rows), 2)) < 1 / 3)
    sample = Sample(made.x[rows], y, rows, made.x[made.test], made.y[made.test][:, [1, 1]])
    table = pd.DataFrame(full_labels.compared(sample, 0))
    assert set(table["contender"]) == {"linear_probe", "late_fusion", *full_labels.NETWORKS}
    assert table.groupby("contender").size().eq(2).all() and table["auc"].between(0.4, 1).all()
    auc = table.groupby("contender")["auc"].mean()
    assert auc["cross_branch.diagonal"] > auc["independent"] + 0.01
    assert table["training_loss"].max() < np.log(2)


def test_strengths_are_chosen_on_photographs_of_other_groups(made):
    rows = np.arange(120)
    groups = rows // 4
    sample = Sample(made.x[rows], made.y[rows], groups, made.x[made.test], made.y[made.test])
    folds = list(GroupKFold(3).split(sample.x, groups=groups))
    found, held = full_labels.chosen("linear_probe", sample, folds, 0)
    losses = {}
    for c in PLAN["strengths"]["linear_probe"]:
        logits = cross_val_predict(LogisticRegression(C=c, tol=1e-8, max_iter=1000), sample.x, sample.y[:, 1],
                                   groups=groups, cv=GroupKFold(3), method="decision_function")
        losses[c] = log_loss(sample.y[:, 1], 1 / (1 + np.exp(-logits)))
        if c == found[1]:
            np.testing.assert_allclose(held[:, 1], logits, atol=1e-3)
    assert found[1] == min(losses, key=losses.get)


def test_log_losses_are_those_of_the_formula():
    y = np.array([[0, 1], [1, 1], [0, 0]])
    logits = np.array([[0.3, -2.0], [1.0, 0.2], [-1.0, 0.0]])
    p = 1 / (1 + np.exp(-logits))
    expected = -np.log(np.where(y == 1, p, 1 - p)).mean(axis=0)
    np.testing.assert_allclose(full_labels.log_losses(logits, y), expected)


# --- the kept tables


def test_the_table_has_every_contender_in_every_cell():
    rows = verdicts.read()
    assert not rows.duplicated(["source", "setting", "replicate", "contender", "task"]).any()
    counts = rows.groupby(["source", "setting", "contender", "task"]).size().unstack(["contender", "task"])
    assert set(counts.columns.get_level_values(0)) == {"independent", *verdicts.CONTENDERS}
    for (source, setting), row in counts.iterrows():
        expected = {"scenes": len(PLAN["scenes"]["collections"]), "oasis": PLAN["oasis"]["splits"],
                    "para": PLAN["para"]["photographs"].get(setting, 12)}[source]
        assert (row == expected).all(), (source, setting)
    assert set(counts.loc["para"].index) == {*PLAN["para"]["photographs"], *PLAN["para"]["controls"]}
    assert len(counts.loc["scenes"]) == len(PLAN["scenes"]["relatedness"]) and ("oasis", "") in counts.index


def test_verdicts_are_what_the_rows_give():
    rows, kept = verdicts.read(), verdicts.read(verdicts.TABLES["verdicts.csv"])
    for row in kept.sample(60, random_state=0).itertuples():
        source = {"controls": "para"}.get(row.family, row.family)
        here = rows[(rows["source"] == source) & (rows["task"] == row.task)]
        auc = here.pivot(index=["setting", "replicate"], columns="contender", values="auc")
        d = auc[row.contender] - auc[row.reference]
        d = d.loc["1"] - d.loc["0"] if row.setting == verdicts.GROWTH else d.loc[row.setting]
        width = np.sqrt(1 / len(d) + (PLAN["oasis"]["overlap"] if row.family == "oasis" else 0)) * d.std(ddof=1)
        half = stats.t.ppf(0.975, len(d) - 1) * width
        np.testing.assert_allclose([row.mean, row.low, row.high], [d.mean(), d.mean() - half, d.mean() + half],
                                   atol=3e-5)
        smallest = (stats.t.ppf(0.975, len(d) - 1) + stats.t.ppf(0.8, len(d) - 1)) * width
        assert row.detectable == pytest.approx(smallest, abs=5e-5) and row.above == (d > 0).sum()
    for _, family in kept.groupby("family"):
        running, order = 0.0, family.sort_values("p", kind="stable")
        for rank, row in enumerate(order.itertuples()):
            running = min(1.0, max(running, row.p * (len(order) - rank)))
            assert abs(row.p_holm - running) < 3e-3


def test_the_positive_control_is_found_and_the_negative_one_is_not():
    kept = verdicts.read(verdicts.TABLES["verdicts.csv"]).query("family == 'controls' and reference == 'independent'")
    at = kept.set_index(["setting", "contender", "task"])
    trunk = [at.loc[("copies", "shared_bottom", task)] for task in full_labels.TASKS]
    assert min(row["above"] for row in trunk) >= 10 and trunk[0]["low"] > 0  # of 12; by signs p < .04
    permuted = kept[(kept["setting"] == "permuted") & (kept["task"] == "aesthetics")
                    & kept["contender"].isin(full_labels.JOINT)]
    assert not ((permuted["mean"] > 0) & (permuted["p_holm"] < 0.05)).any()


def test_the_main_contrasts_are_seen_from_a_difference_of_fifteen_thousandths():
    kept = verdicts.read(verdicts.TABLES["verdicts.csv"]).query(
        "family == 'para' and setting == '2000' and reference == 'independent'")
    assert kept["detectable"].max() <= 0.015


def test_the_tables_in_the_results_are_those_of_the_rows():
    text = (PROJECT / "results" / "README.md").read_text(encoding="utf-8")
    rows, table = verdicts.read(), verdicts.read(verdicts.TABLES["verdicts.csv"])
    shown = re.findall(r"<!-- full labels: (\w+) ([^>]*) -->\n(.*?)\n<!-- end of full labels -->", text, flags=re.S)
    assert [family for family, _, _ in shown] == ["para", "scenes", "oasis", "controls"]
    for family, settings, lines in shown:
        assert lines == verdicts.markdown(rows, table, family, [s.strip() for s in settings.split(";")])


def test_contrasts_pair_by_replicate():
    rows = pd.DataFrame([{"replicate": r, "contender": c, "auc": a, "task": "emotion"} for r, c, a in (
        (0, "a", 0.5), (1, "a", 0.7), (0, "b", 0.6), (1, "b", 0.8))])
    found = contrasts(rows, [("b", "a")], ["auc"], ["task"], "replicate")
    assert found["mean"].item() == pytest.approx(0.1) and found["above"].item() == 2
