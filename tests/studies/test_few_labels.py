"""Few labels: drawn data whose answer is known, formulas by hand, and the kept tables worked out anew."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression

from aesthemo_studies.cells import STUDIES, read_protocol
from aesthemo_studies.few_labels import contenders, material as few_material, study as few_labels, verdicts
from aesthemo_studies.few_labels.material import Material
from aesthemo_studies.few_labels.study import Cell

PROJECT = Path(__file__).resolve().parents[2]
NETWORKS = {"independent": [0.1, 0.1], "shared_bottom": [0.1, 0.1], "cross_branch.answers": [0.1, 0.1]}


@pytest.fixture(scope="module")
def made() -> Material:
    """Two tasks that are the same one, seen through noise, on 24 features: who knows one knows the other."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 24)).astype(np.float32)
    score = x @ rng.normal(size=24) / np.sqrt(24)
    y = np.stack([score + 0.3 * rng.normal(size=len(x)) > 0 for _ in range(2)], axis=1).astype(np.int64)
    return Material(x, y, few_material.replicates(np.arange(2000), 4, 1, 400), np.arange(2000, 3000))


@pytest.fixture(scope="module")
def rows(made) -> pd.DataFrame:
    return pd.concat([few_labels.measured(made, Cell(control, "emotion", r, 30), NETWORKS).assign(control=control)
                      for control in ("", "permuted") for r in range(4)])


def gains(rows: pd.DataFrame, control: str, reference: str) -> pd.Series:
    auc = rows[rows["control"] == control].pivot(index="replicate", columns="contender", values="auc_few")
    return auc.sub(auc[reference], axis=0).agg(["mean", "min"]).T["mean"]


def test_what_is_there_is_carried_and_what_is_not_there_is_not(rows):
    there, not_there = gains(rows, "", "linear_probe"), gains(rows, "permuted", "linear_probe")
    for name in ("cross_branch.answers_in_turn", "late_fusion"):
        assert there[name] > 0.08 and not_there[name] < 0.02, name
    assert there["oracle"] > 0.08 and gains(rows, "", "independent")["cross_branch.answers"] > 0.04
    assert gains(rows, "permuted", "independent")["cross_branch.answers"] < 0.03


def test_controls_change_training_labels_only(made):
    cells = [Cell(control, "aesthetics", 1, 400) for control in ("", "noisy_copy", "permuted")]
    plain, copy, permuted = (few_labels.drawn(made, cell) for cell in cells)
    assert (plain.few == made.y[made.replicates[1], 0]).all() and (plain.truth[0] == made.y[made.test, 0]).all()
    assert 0.05 < (copy.few != copy.rich).mean() < 0.16 and (copy.truth[0] == made.y[made.test, 1]).all()
    assert sorted(permuted.rich) == sorted(plain.rich) and (permuted.rich != plain.rich).any()
    assert all((permuted.truth[t] == plain.truth[t]).all() for t in range(2)) and (permuted.few == plain.few).all()


def test_training_sets_share_no_photograph():
    sets = few_material.replicates(np.arange(100, 400), 5, 2, 50)
    assert [len(rows) for rows in sets] == [50] * 5 + [25] * 2
    assert sorted(np.concatenate(sets)) == list(range(100, 400))
    assert not set(sets[0]) & set(sets[-1])
    with pytest.raises(ValueError, match="300 training photographs are too few for 6 disjoint sets of 50"):
        few_material.replicates(np.arange(300), 6, 2, 50)


def test_components_are_those_of_the_training_rows():
    rng = np.random.default_rng(1)
    x, train = rng.normal(size=(60, 6)) @ rng.normal(size=(6, 6)), np.arange(60) < 40
    z = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
    expected = z @ np.linalg.svd(z[train], full_matrices=False)[2][:3].T
    actual = few_material.components(x, train, 3)
    np.testing.assert_allclose(np.abs(actual), np.abs(expected / np.sqrt((expected[train] ** 2).mean())), atol=1e-4)


def test_a_probe_is_scikit_learns_regression_with_the_best_of_its_strengths(made):
    x, y = made.x[:200].astype(np.float64), made.y[:200, 0]
    model, held = contenders.probe(x, y)
    again = LogisticRegression(C=model.C, tol=1e-8, max_iter=1000).fit(x, y)
    np.testing.assert_allclose(model.coef_, again.coef_, atol=1e-3)
    seen = model.decision_function(x)
    assert 0.8 < np.corrcoef(held, seen)[0, 1] < 0.9999


@torch.no_grad()
def test_heads_exchange_what_their_name_says():
    x = torch.randn(5, 7)
    torch.manual_seed(0)
    network = contenders.Heads("cross_branch.answers", 7, hidden=3)
    maps = [torch.relu(x @ layer.weight.T + layer.bias) for layer in network.hidden]
    own = [z @ layer.weight.T + layer.bias for z, layer in zip(maps, network.answer, strict=True)]
    for actual, mine, other in zip(network(x), own, own[::-1], strict=True):
        torch.testing.assert_close(actual, 0.9 * mine + 0.1 * other)
    torch.manual_seed(0)
    whole = contenders.Heads("cross_branch.diagonal", 7, hidden=3)
    torch.manual_seed(0)
    part = contenders.Heads("cross_branch.channels_1", 7, hidden=3)
    first = torch.tensor([1.0, 0, 0])
    for t in range(2):
        for network, sent in ((whole, 1), (part, first)):
            layer = network.answer[t]
            mixed = 0.9 * maps[t] + 0.1 * maps[1 - t] * sent
            torch.testing.assert_close(network(x)[t], mixed @ layer.weight.T + layer.bias)
    trunk = contenders.Heads("shared_bottom", 7, hidden=3)
    z = torch.relu(x @ trunk.hidden[0].weight.T + trunk.hidden[0].bias)
    for found, layer in zip(trunk(x), trunk.answer, strict=True):
        torch.testing.assert_close(found, z @ layer.weight.T + layer.bias)
    twice = contenders.Heads("cross_branch.own_twice", 7, hidden=3)
    for found, hidden, layer in zip(twice(x), twice.hidden, twice.answer, strict=True):
        z = torch.relu(x @ hidden.weight.T + hidden.bias)
        torch.testing.assert_close(found, z @ layer.weight.T + layer.bias)


@torch.no_grad()
def test_experts_are_mixed_by_gates_and_units_are_attended_to():
    x = torch.randn(5, 7)

    def dense(layer: torch.nn.Linear, z: torch.Tensor) -> torch.Tensor:
        return z @ layer.weight.T + layer.bias

    network = contenders.Heads("mmoe", 7, hidden=3)
    experts = [torch.relu(dense(layer, x)) for layer in network.hidden]
    assert len(experts) == contenders.EXPERTS
    for found, gate, layer in zip(network(x), network.route, network.answer, strict=True):
        shares = dense(gate, x).exp() / dense(gate, x).exp().sum(1, keepdim=True)
        torch.testing.assert_close(found, dense(layer, sum(shares[:, [e]] * z for e, z in enumerate(experts))))
    network = contenders.Heads("mtan", 7, hidden=3)
    z = torch.relu(dense(network.hidden[0], x))
    for found, attention, layer in zip(network(x), network.route, network.answer, strict=True):
        torch.testing.assert_close(found, dense(layer, z / (1 + (-dense(attention, z)).exp())))


def test_nddr_starts_as_the_diagonal_mix(made, monkeypatch):
    monkeypatch.setattr(contenders, "STEPS", 0)
    x, y = made.x[:100], made.y[:100]
    nddr, mix = (contenders.trained(name, x, y[:, 0], y[:, 1], [1.0, 1.0], 0)
                 for name in ("nddr", "cross_branch.diagonal"))
    for found, expected in zip(nddr(torch.from_numpy(x)), mix(torch.from_numpy(x)), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_independent_heads_do_not_meet_and_the_penalty_leaves_the_exchanges_start():
    network = contenders.Heads("independent", 7)
    network(torch.randn(5, 7))[0].sum().backward()
    assert network.hidden[0].weight.grad is not None and network.hidden[1].weight.grad is None
    with torch.no_grad():
        plain, joint = contenders.Heads("cross_stitch", 7), contenders.Heads("cross_branch.diagonal", 7)
        for one in (plain, joint):
            expected = [sum(layer[t].weight.square().sum() / 2 for layer in (one.hidden, one.answer)) for t in range(2)]
            torch.testing.assert_close(one.penalties(), expected)
        joint.exchange.convs[0].weight += 1
        torch.testing.assert_close(joint.penalties()[0] - expected[0], torch.tensor(16 * 32 / 2.0), rtol=1e-4, atol=0)


# --- the kept tables


PLAN = read_protocol("few_labels")


def test_the_table_has_a_row_a_draw():
    table = verdicts.read()
    assert list(table) == ["direction", "labels", "contender", "replicate", "auc_few", "auc_rich"]
    assert not table.duplicated(["direction", "labels", "contender", "replicate"]).any()
    names = {"linear_probe", "late_fusion", "oracle", verdicts.IN_TURN, *PLAN["networks"]}
    counts = table.groupby(["direction", "labels", "contender"]).size()
    assert (counts == PLAN["replicates"]).all() and PLAN["replicates"] >= 12
    for direction in ("aesthetics", "emotion"):
        assert PLAN["main"] in set(table["labels"]) <= set(PLAN["labels"])
        for labels in table["labels"].unique():
            more = set()
            if labels == PLAN["main"]:
                more = {verdicts.MAPS, *(name for name in PLAN["strengths"] if "channels" in name)}
            assert set(counts[direction, labels].index) == names | more
    assert table[["auc_few", "auc_rich"]].stack().between(0.2, 1).all()


def test_strengths_are_the_pilots_best_and_lie_inside_the_grid():
    losses = pd.read_csv(STUDIES / "few_labels.pilot-losses.csv")
    best = losses.loc[losses.groupby(["contender", "task"])["log_loss"].idxmin()].set_index(["contender", "task"])
    for name in PLAN["networks"]:
        assert PLAN["strengths"][name] == [best.loc[(name, task), "strength"] for task in ("few", "rich")]
    assert losses.groupby(["contender", "task"]).size().min() >= 4


def test_verdicts_are_what_the_draws_give():
    draws, kept = verdicts.read(), pd.read_csv(verdicts.VERDICTS)
    auc = draws.pivot(index=["direction", "labels", "replicate"], columns="contender", values="auc_few")
    for row in kept.itertuples():
        a = auc.loc[row.direction, row.labels]
        d = a[row.contender] - a[row.reference]
        if row.question == "half":
            d = a[row.contender] - (a["linear_probe"] + a["oracle"]) / 2
            share = (a[row.contender] - a["linear_probe"]).mean() / (a["oracle"] - a["linear_probe"]).mean()
            assert abs(row.share - share) < 1e-3
        interval = stats.t.interval(0.95, len(d) - 1, d.mean(), stats.sem(d))
        np.testing.assert_allclose([row.mean, row.low, row.high], [d.mean(), *interval], atol=2e-5)
        assert (row.above, row.replicates) == ((d > 0).sum(), PLAN["replicates"])
        assert abs(row.p - stats.ttest_rel(d, 0 * d).pvalue) < 2e-5
    family = kept[kept["labels"] == PLAN["main"]].sort_values("p", kind="stable")
    running = 0.0
    for rank, row in enumerate(family.itertuples()):
        running = min(1.0, max(running, row.p * (len(family) - rank)))
        assert abs(row.p_holm - running) < 2e-3
        assert (row.p_holm < 0.05) == (row.verdict in ("ahead", "behind", "at least half", "less than half"))


def test_the_positive_control_is_found_and_the_negative_one_is_not():
    table = pd.read_csv(verdicts.CONTROLS)
    for (control, _), rows in table.groupby(["control", "direction"]):
        auc = rows.pivot(index="replicate", columns="contender", values="auc_few")
        gain = auc[verdicts.IN_TURN] - auc["linear_probe"]
        low, high = stats.t.interval(0.95, len(gain) - 1, gain.mean(), stats.sem(gain))
        assert low > 0 if control == "noisy_copy" else low <= 0


def test_the_table_in_the_results_is_that_of_the_draws():
    text = (PROJECT / "results" / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"<!-- few labels -->\n(.*?)\n<!-- end of few labels -->", text, flags=re.S)
    assert shown == verdicts.summary(verdicts.read(), verdicts.read(verdicts.VERDICTS), PLAN["main"])


def test_the_numbers_in_the_results_are_those_of_the_tables():
    kept, draws = verdicts.read(verdicts.VERDICTS), verdicts.read()
    kept, draws = kept[kept["labels"] == PLAN["main"]], draws[draws["labels"] == PLAN["main"]]
    at = kept.set_index(["question", "contender", "reference", "direction"])
    few = ("aesthetics", "emotion")
    text = " ".join((PROJECT / "results" / "README.md").read_text(encoding="utf-8").split())
    text = text[text.index("## Few labels of one task"):]

    def short(value: float) -> str:
        return f"{value:.3f}".replace("0.", ".", 1).replace("-.000", ".000")

    def interval(*row: str) -> str:
        return "{} ({}, {})".format(*(short(at.loc[row, name]) for name in ("mean", "low", "high")))

    trunk = [interval("difference", verdicts.IN_TURN, "shared_bottom", d) for d in few]
    above = [at.loc[("difference", verdicts.IN_TURN, "shared_bottom", d), "above"] for d in few]
    p = at.loc[("difference", verdicts.IN_TURN, "shared_bottom", few[0]), "p_holm"]
    half = [interval("half", verdicts.IN_TURN, "oracle", d) for d in few]
    share = [at.loc[("half", verdicts.IN_TURN, "oracle", d), "share"] for d in few]
    assert (f"shared trunk: {trunk[0]}, {above[0]} of 12, on aesthetics (Holm's p {short(p)}), {trunk[1]}, {above[1]} "
            f"of 12, on emotion. {100 * share[0]:.0f} % and {100 * share[1]:.0f} % are carried; minus half, {half[0]} "
            f"and {half[1]}, which does not survive Holm.") in text
    assert {at.loc[("half", verdicts.IN_TURN, "oracle", d), "verdict"] for d in few} == {"undecided"}
    one = [at.loc[("difference", "cross_branch.channels_1", "cross_branch.diagonal", d)] for d in few]
    maps = [interval("difference", verdicts.MAPS, "linear_probe", d) for d in few]
    assert (f"worse in 12 of 12 ({short(one[0]['mean'])}, {short(one[1]['mean'])}); all 16 of a head "
            f"learnt before, read by a probe, gain {maps[0]} and {maps[1]}.") in text
    assert [row["above"] for row in one] == [0, 0]
    rich = draws.groupby(["direction", "contender"])["auc_rich"].mean().unstack()
    cost = (rich["independent"] - rich["cross_branch.answers"])[[*few]]
    assert f"cost the rich task {short(cost.iloc[0])} and {short(cost.iloc[1])}." in text


def test_the_controls_in_the_results_are_those_of_their_table():
    auc = verdicts.read(verdicts.CONTROLS).groupby(["control", "direction", "contender"])["auc_few"].mean().unstack()
    copied, permuted = (auc.loc[name].loc[["aesthetics", "emotion"]] for name in PLAN["controls"])
    text = " ".join((PROJECT / "results" / "README.md").read_text(encoding="utf-8").split())

    def gain(table: pd.DataFrame, contender: str, reference: str) -> list[str]:
        return [f"{d:.3f}".replace("0.", ".", 1) for d in table[contender] - table[reference]]

    maps, answers = (gain(copied, name, "independent") for name in ("cross_branch.diagonal", verdicts.IN_TURN))
    said = f"control: {maps[0]} and {maps[1]} over independent heads; answers in turn {answers[0]} and {answers[1]})"
    assert said in text
    over = gain(permuted, verdicts.IN_TURN, "linear_probe")
    assert (f"over the probe {over[0]} and {over[1]}, but over independent heads "
            f"{gain(permuted, verdicts.IN_TURN, 'independent')[1]} on emotion") in text
