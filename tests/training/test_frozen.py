"""Frozen groups: their cached maps are the network's own, and what would be exchanged in vain is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_fit import CPU, SETTINGS, data, one_precision, weights  # noqa: F401

from aesthemo_lib.models.networks import build
from aesthemo_lib.tasks import PATENT_TASKS
from aesthemo_lib.training.fit import fit
from aesthemo_lib.training.frozen import CHUNK, FrozenBatches


def frozen_network(method="cross_branch", frozen=1, seed=0):
    return build(method, PATENT_TASKS, "tiny", "none", "diagonal" if method == "cross_branch" else None, seed, frozen)


def batches(net, tmp_path, n=40, **more) -> FrozenBatches:
    d = data(n)
    return FrozenBatches(net.frozen.eval(), d.pixels, d.train, d.mean, net.std, 16, 8, 0, CPU, 2,
                         np.union1d(d.train, d.validation), tmp_path, **more)


def test_cached_maps_are_what_the_groups_make_of_the_pixels(tmp_path):
    net = frozen_network().eval()
    made, rows = batches(net, tmp_path), np.array([3, 11, 35])
    with torch.no_grad():
        pixels = super(FrozenBatches, made).plain(rows)
        torch.testing.assert_close(made.plain(rows), net.frozen(pixels), rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(net.after_frozen(made.plain(rows))["emotion"], net(pixels)["emotion"],
                                   rtol=1e-2, atol=1e-2)
        views = torch.stack([net.frozen(super(FrozenBatches, made).images(v, rows)) for v in (1, 2)])
    drawn = [made.images(epoch, rows) for epoch in range(8)]
    error = torch.stack([(views - maps).abs().amax((2, 3, 4)) for maps in drawn])  # epoch, view, image
    assert (error.min(1).values < 2e-3).all(), "each is one of the views"
    assert len(set(error.argmin(1).flatten().tolist())) == 2, "both views are used"


def test_maps_are_computed_once_and_building_them_resumes(tmp_path, monkeypatch):
    net, n = frozen_network(), 2 * CHUNK + 5
    whole = batches(net, tmp_path / "a", n)
    calls = []

    def counted(view, rows):
        calls.append(len(rows))
        if len(calls) == 3:  # one for the shape, one chunk, and then it is interrupted
            raise KeyboardInterrupt
        return made(view, rows)

    made = whole._maps
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FrozenBatches, "_maps", lambda self, view, rows: counted(view, rows))
        batches(net, tmp_path / "b", n)
    assert len(list((tmp_path / "b").glob("*.partial"))) == 1
    resumed = batches(net, tmp_path / "b", n)
    assert all(np.array_equal(x, y) for x, y in zip(whole.maps, resumed.maps, strict=True))
    with monkeypatch.context() as patch:
        patch.setattr(FrozenBatches, "_maps", lambda *_: pytest.fail("computed twice"))
        batches(net, tmp_path / "b", n)
    other = frozen_network(seed=1)
    assert not np.array_equal(batches(other, tmp_path / "b", n).maps[0], whole.maps[0]), "other weights, other maps"


@pytest.mark.parametrize("method", ["cross_branch", "shared_bottom", "cross_stitch", "nddr", "bilstm", "linear_probe"])
def test_frozen_groups_stay_and_the_rest_learns(method, monkeypatch, tmp_path):
    monkeypatch.setenv("AESTHEMO_CACHE", str(tmp_path))
    net, settings = frozen_network(method), replace(SETTINGS, frozen_groups=1, epochs=2, probe_start=method != "bilstm")
    before, rest = net.frozen[0][0].weight.clone(), weights(net)
    fit(net, data(), settings, 0, CPU)
    assert torch.equal(net.frozen[0][0].weight, before) and not torch.equal(weights(net), rest)


def test_an_exchange_of_equal_maps_is_refused():
    with pytest.raises(ValueError, match=r"frozen_groups=2: tiny has 3 groups.*borrows nothing.*freeze at most 1"):
        frozen_network(frozen=2)
    assert len(build("cross_branch", PATENT_TASKS, "tiny", "none", "diagonal", 0, 2, after_last=True).exchanges) == 1
    assert len(frozen_network(frozen=1).exchanges) == 1
    assert frozen_network("shared_bottom", 2).frozen is not None
    with pytest.raises(ValueError, match="'colour_texture' reads the pixels themselves"):
        build("colour_texture", PATENT_TASKS, "tiny", "none", frozen=1)


def test_independent_networks_share_the_frozen_groups():
    net = frozen_network("independent")
    images = torch.rand(2, 3, 32, 32)
    for i, task in enumerate(PATENT_TASKS):
        torch.testing.assert_close(net.single_task(i).eval()(images)[task.name], net.eval()(images)[task.name])
