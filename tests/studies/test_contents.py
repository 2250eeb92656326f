"""Probes and interchange: against what is planted in the features, and against hooks in a network."""

import numpy as np
import pytest
import torch

from aesthemo_lib.attribution.cuts import cut
from aesthemo_lib.attribution.streams import streams
from aesthemo_lib.models.networks import build
from aesthemo_lib.tasks import PATENT_TASKS
from aesthemo_scenes.drawing import scene_of
from aesthemo_studies.attribution_checks import contents


def test_a_probe_reads_what_was_planted_and_nothing_from_the_control():
    rng = np.random.default_rng(0)
    own, borrowed = rng.normal(size=(2, 300, 6))
    targets = {"in own": own[:, 0] - own[:, 1], "in borrowed": 3 * borrowed[:, 2],
               "kind": np.array(["a", "b"], dtype=object)[(borrowed[:, 0] > 0).astype(int)]}
    rows = {row["concept"]: row for row in contents.concepts(own, borrowed, targets, np.arange(200),
                                                             np.arange(200, 300))}
    assert rows["in own"]["own"] > 0.99 > 0.1 > rows["in own"]["borrowed"]
    assert rows["in borrowed"]["both"] > 0.99 and rows["in borrowed"]["own"] < 0.1
    assert 0.4 < rows["kind"]["borrowed"] < 0.9
    assert all(value < 0.15 for row in rows.values() for name, value in row.items() if name.startswith("control"))


def test_a_pair_of_scenes_differs_in_its_factor():
    pairs = contents.pairs(2, 48)
    assert set(pairs) == set(contents.FACTORS)
    assert all(values.shape == (2, 2, 48, 48, 3) and (values[0] != values[1]).any() for values in pairs.values())
    low, high = pairs["light"].astype(float).mean((2, 3, 4))
    assert (high > low + 20).all()
    assert scene_of(contents.FIRST_PAIR) == contents.FIRST_PAIR


def test_interchange_is_patching_by_hand():
    network = build("cross_branch", PATENT_TASKS, "tiny", "none", "random", seed=4).eval()
    low, high = torch.randn(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    actual = {row["task"]: row for row in contents.interchanged(network, low, high)}
    for name, row in actual.items():
        mine = [s for s in streams(network) if s.borrowed and s.receiver == name]

        def after(which, images, donor, name=name):
            with torch.no_grad(), cut(network, which, "resample", donor):
                return contents.score(network(images)[name])[0]

        before = after([], low, low)
        expected = {"whole": after([], high, high), "borrowed": after(mine, low, high), "own": after(mine, high, low),
                    **{f"borrowed at {s.layer}": after([s], low, high) for s in mine}}
        for part, value in expected.items():
            assert row[part] == pytest.approx(value - before, rel=1e-3, abs=1e-5), (name, part)
    logits = torch.tensor([[0.0, 1, 2, 3, 4, 5, 6, 7]])
    odds = np.log(np.exp(range(4)).sum() / np.exp(range(4, 8)).sum())
    assert contents.score(logits)[0] == pytest.approx(odds)
