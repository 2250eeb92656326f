"""The null and the interventions: against numbers by hand, scipy, scikit-learn and networks changed by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import log_softmax
from scipy.stats import spearmanr, t
from sklearn.metrics import log_loss

from aesthemo_lib.attribution.ledger import Ledger
from aesthemo_lib.attribution.streams import Stream, streams
from aesthemo_lib.evaluation.comparison import bootstrap_interval
from aesthemo_lib.models.networks import build
from aesthemo_lib.tasks import PATENT_TASKS
from aesthemo_studies.attribution_checks import ledgers as checks
from aesthemo_studies.attribution_checks.marks import OVERLAP


def ledger_of(values) -> Ledger:
    """A ledger whose own trunk and two borrowed maps have these (N, C, 3) values."""
    values = np.asarray(values, dtype=float)
    incoming = [Stream(i, "aesthetics", "emotion") for i in (1, 2)]
    zero = np.zeros(values.shape[:2])
    return Ledger("aesthetics", ("own", "borrowed at 1", "borrowed at 2"), (None, *incoming), values,
                  values.sum(2), zero)


def test_shares_and_support_by_hand():
    result = ledger_of([[[1, 2, 0.5], [3, -2, 0.5]], [[0, 0, 4], [0, 0, 2]]])
    assert np.allclose(checks.sizes(result), [[1, 2, 0], [0, 0, 1]])  # half the distance of the two classes
    assert np.allclose(checks.shares(result), [[1 / 3, 2 / 3, 0], [0, 0, 1]])
    assert np.allclose(checks.support(result, np.array([1, 0])), [[2, -4, 0], [0, 0, 2]])
    assert np.isnan(checks.support(result, np.array([-1, 0]))[0]).all()
    lifted = ledger_of(result.values + 7.0)  # what raises both classes alike answers nothing
    assert np.allclose(checks.shares(lifted), checks.shares(result))
    table = checks.image_table(result, np.array([1, 0]), seed=3, image=["a", "b"])
    assert table.loc[0, "share borrowed at 1"] == pytest.approx(2 / 3) and table.loc[1, "support borrowed at 2"] == 2
    assert list(table["seed"]) == [3, 3] and list(table["task"]) == ["aesthetics"] * 2


def null_table(seeds: int = 3, photos: int = 40, groups: int = 40) -> pd.DataFrame:
    """Trained networks that borrow .1 more at layer 1 than their null, .03 more on every second photo."""
    rng, parts = np.random.default_rng(0), []
    for seed in range(seeds):
        noise = rng.normal(0, 0.02, (photos, 2))
        for run, more in (("trained", 0.1 + 0.06 * (np.arange(photos) % 2) + 0.01 * seed), ("permuted", 0.0)):
            shares = {"share borrowed at 1": 0.2 + more + noise[:, 0], "share borrowed at 2": 0.1 + noise[:, 1]}
            parts.append(pd.DataFrame({"run": run, "seed": seed, "image": np.arange(photos),
                                       "group": np.arange(photos) * groups // photos, "share own": 0.5, **shares}))
    return pd.concat(parts, ignore_index=True)


def test_excess_is_trained_minus_its_own_null():
    table = null_table()
    result = checks.excess(table).set_index("player")
    assert list(result.index) == ["own", "borrowed at 1", "borrowed at 2", "borrowed"]
    row = result.loc["borrowed at 1"]
    assert row["excess"] == pytest.approx(0.14) and row["trained"] - row["null"] == pytest.approx(0.14)
    half = t.ppf(0.975, 2) * np.std([0.13, 0.14, 0.15], ddof=1) * np.sqrt(1 / 3 + OVERLAP)
    assert (row["low"], row["high"]) == pytest.approx((0.14 - half, 0.14 + half))
    assert 0.13 < row["image_low"] < 0.14 < row["image_high"] < 0.15
    assert result.loc["borrowed at 2", "excess"] == pytest.approx(0)
    assert result.loc["borrowed", "excess"] == row["excess"]
    coarse = checks.excess(null_table(groups=4)).set_index("player").loc["own"]
    assert coarse["image_low"] == coarse["image_high"] == 0
    shuffled = checks.excess(table.sample(frac=1, random_state=0)).set_index("player")
    ends = ["excess", "low", "high", "image_low", "image_high"]  # pairs by seed and image, not by place
    assert shuffled.loc["borrowed at 1", ends].tolist() == pytest.approx(row[ends].tolist(), abs=2e-3)
    with pytest.raises(ValueError, match="needs a null"):
        checks.excess(table.drop(index=table[table["run"] == "permuted"].index[:1]))
    again = table[table["run"] == "permuted"].copy()  # a second permutation, which borrows .04 more at layer 1
    again["share borrowed at 1"] += 0.04
    both = checks.excess(pd.concat([table, again])).set_index("player").loc["borrowed at 1"]
    assert both["excess"] == pytest.approx(0.12) and both["null"] == pytest.approx(row["null"] + 0.02)
    one = checks.excess(table[table["seed"] == 0])
    assert one["low"].isna().all() and one["image_low"].notna().all()


def test_what_an_intervention_does_to_one_image():
    rng = np.random.default_rng(1)
    before, after, truth = rng.normal(size=(6, 3)), rng.normal(size=(6, 3)), np.array([0, 2, 1, 1, 0, 2])
    assert np.allclose(checks.log_probabilities(before), log_softmax(before, axis=1))
    result = checks.change(before, after, truth)
    worse = [log_loss(truth[[i]], np.exp(log_softmax(after[[i]], 1)), labels=[0, 1, 2])
             - log_loss(truth[[i]], np.exp(log_softmax(before[[i]], 1)), labels=[0, 1, 2]) for i in range(6)]
    assert np.allclose(result["loss"], worse)
    assert np.allclose(result["size"], np.std(after - before, axis=1))
    same = checks.change(before, before + 5, np.array([-1] * 6))
    assert np.allclose(same["size"], 0) and np.isnan(same["loss"]).all()
    probabilities = log_softmax(after, axis=1)  # log-probabilities do as well as logits
    assert np.allclose(checks.change(before, probabilities, truth)["size"], result["size"])


def test_cuts_are_networks_with_these_weights_at_zero():
    network = build("cross_branch", PATENT_TASKS, "tiny", "none", "random", seed=2).eval()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    truth = {"aesthetics": np.array([0, 1, 1, 0]), "emotion": np.array([3, 1, 0, -1])}
    result = checks.cut_changes(network, images.split(2), truth, "zero", images)
    assert list(result) == [s for s in streams(network) if s.borrowed]
    before = checks.logits_of(network, [images])
    with torch.no_grad():
        network.exchanges[1].convs[1].weight[:, :16] = 0  # what emotion takes at layer 2
    after = checks.logits_of(network, [images])
    expected = checks.change(before["emotion"], after["emotion"], truth["emotion"])
    stream = Stream(2, "emotion", "aesthetics")
    assert np.allclose(result[stream]["size"], expected["size"], rtol=1e-3) and expected["size"].min() > 0
    assert np.allclose(result[stream]["loss"], expected["loss"], rtol=1e-2, atol=1e-6, equal_nan=True)


def test_photos_are_ranked_link_by_link_and_network_by_network():
    rng, rows = np.random.default_rng(3), []
    for seed, layer, receiver in np.ndindex(2, 2, 2):
        size = rng.normal(size=9)
        rows.append(pd.DataFrame({"seed": seed, "image": range(9), "layer": layer, "receiver": "ab"[receiver],
                                  "size": size, "loss": size + rng.normal(size=9)}))
    result = checks.photo_correlations(pd.concat(rows).sample(frac=1, random_state=0), [("size", "loss")])
    assert len(result) == 8 and set(result["what"]) == {"size and loss"}
    for part in rows:
        row = result.query("seed == @part.seed[0] and layer == @part.layer[0] and task == @part.receiver[0]")
        assert row["value"].item() == pytest.approx(spearmanr(part["size"], part["loss"])[0])


def test_signed_shares_add_up_and_show_what_cancels():
    result = ledger_of([[[0, 2, -1], [0, -2, 1]], [[1, 1, -1], [-1, -1, 1]]])
    table = checks.image_table(result, np.array([0, 1]), seed=0)
    along = table[[f"along {player}" for player in result.players]].to_numpy()
    assert np.allclose(along, [[0, 2, -1], [1, 1, -1]])  # by the whole: 1 in both photos, and its sign
    signed = checks.signed_shares(table).loc[0]
    assert signed.sum() == pytest.approx(1) and signed["borrowed at 2"] == pytest.approx(-2 / 2)
    # borrowed sizes 2 and 1, then 1 and 1, of which 1 and 0 are left; shares are of 3 and 3
    assert checks.cancelled(table).loc[0] == pytest.approx(1 - (1 / 3 + 0) / (3 / 3 + 2 / 3))


def test_who_leans_on_what_by_hand():
    cells = [(0, "awe", "low", "own", 9.0), (0, "awe", "high", "own", 1.0), (0, "awe", "low", "borrowed at 1", 1.0),
             (0, "awe", "high", "borrowed at 1", 2.0), (0, "awe", "low", "borrowed at 2", 0.0),
             (0, "awe", "high", "borrowed at 2", 3.0)]
    cells += [(1, *cell[1:4], cell[4] + (cell[2] == "high")) for cell in cells]
    flow = pd.DataFrame(cells, columns=["seed", "class", "logit", "player", "mean"]).assign(task="t", by="e")
    result = checks.leanings(flow, "t", "e", "logit").set_index("logit")["mean"]
    assert result["high"] == pytest.approx((2.0 + 3.0) / 2) and result["low"] == -result["high"]  # .5 + 1.5, then 1 + 2
    by_layer = checks.leanings(flow, "t", "e", "player", "high").set_index("player")
    assert by_layer["mean"].tolist() == pytest.approx([0.75, 1.75])
    half = t.ppf(0.975, 1) * np.std([0.5, 1.0], ddof=1) * np.sqrt(1 / 2 + OVERLAP)
    assert by_layer[["low", "high"]].iloc[0].tolist() == pytest.approx([0.75 - half, 0.75 + half])


def test_the_quick_interval_is_the_bootstraps():
    rng = np.random.default_rng(4)
    values, groups = pd.DataFrame(rng.normal(size=(30, 2))), rng.integers(0, 9, 30).astype(str)
    slow = bootstrap_interval(values, lambda rows: rows.to_numpy().mean(axis=0), groups)
    assert np.allclose(checks._image_interval(values, groups, 0.95), slow)


def test_a_mean_with_its_two_intervals():
    table = pd.DataFrame({"seed": [0] * 4 + [1] * 4, "image": range(8), "group": list("aabbaabb"), "kind": "x",
                          "value": [1.0, 1, 3, 3, 4, 4, 6, 6]})
    row = checks.summary(table, "value", ["kind"]).iloc[0]
    half = t.ppf(0.975, 1) * np.std([2, 5], ddof=1) * np.sqrt(1 / 2 + OVERLAP)
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((3.5, 3.5 - half, 3.5 + half))
    ends = bootstrap_interval(table[["value"]], lambda rows: rows.to_numpy().mean(), np.repeat(list("abcd"), 2))
    assert (row["image_low"], row["image_high"]) == pytest.approx(ends)  # a group of another seed is another group
    assert (row["images"], row["seeds"]) == (8, 2)
