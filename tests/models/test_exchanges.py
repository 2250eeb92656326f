"""Cross-stitch units, NDDR layers and the control without exchange, against their papers' formulas worked by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from aesthemo_lib.attribution.cuts import cut
from aesthemo_lib.attribution.ledger import layer_ledger, trunk_ledger
from aesthemo_lib.attribution.streams import streams
from aesthemo_lib.models.fusion import CrossBranchLayer, CrossStitchUnit, NDDRLayer
from aesthemo_lib.models.networks import build, count_multiplies, count_parameters
from aesthemo_lib.tasks import PATENT_TASKS
from aesthemo_lib.training.fit import Data, _Loop
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import Config, train

GROUPS = (64, 128, 256, 512)  # VGG16's channels where something is exchanged
SMOKE = {"data": "csv", "preset": "smoke"}


def pixel(*values):
    return torch.tensor([float(v) for v in values]).view(1, -1, 1, 1)


def test_a_cross_stitch_unit_by_hand():
    """Misra et al., equation 1, channel by channel: x~A = a_AA xA + a_AB xB, x~B = a_BA xA + a_BB xB."""
    unit = CrossStitchUnit(2, 2)
    assert unit.shares[..., 0].tolist() == pytest.approx(torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    with torch.no_grad():
        unit.shares.copy_(torch.tensor([[[1, 2], [3, 4]], [[5, 6], [7, 8]]]))  # (receiver, source, channel)
    first, second = unit([pixel(1, 10), pixel(100, 1000)])
    assert first.flatten().tolist() == [1 * 1 + 3 * 100, 2 * 10 + 4 * 1000]
    assert second.flatten().tolist() == [5 * 1 + 7 * 100, 6 * 10 + 8 * 1000]


def test_an_nddr_layer_by_hand():
    """Gao et al.: 1x1 conv without bias on the concatenation, batch normalisation, ReLU."""
    torch.manual_seed(0)
    layer, maps = NDDRLayer(2, 3), [torch.randn(4, 3, 5, 5) for _ in range(2)]
    mixed = 0.9 * maps[1] + 0.1 * maps[0]  # the diagonal start, for branch 1
    mean, variance = mixed.mean((0, 2, 3), keepdim=True), mixed.var((0, 2, 3), unbiased=False, keepdim=True)
    torch.testing.assert_close(layer(maps)[1], ((mixed - mean) / (variance + 1e-5).sqrt()).clamp(min=0))
    weight = torch.randn(3, 6)
    with torch.no_grad():
        layer.convs[0].weight.copy_(weight[:, :, None, None])
    stacked = torch.einsum("kc,bchw->bkhw", weight, torch.cat(maps, 1))
    reference = nn.functional.batch_norm(stacked, None, None, training=True)
    torch.testing.assert_close(layer(maps)[0], reference.relu(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("least", [-1.0, 0.0], ids=["linear maps", "rectified maps"])
def test_an_nddr_layer_starts_as_the_mix_of_the_maps_it_saw(least):
    torch.manual_seed(0)
    layer, maps = NDDRLayer(2, 3).eval(), [torch.randn(4, 3, 5, 5).mul(3).add(1).clamp(min=least) for _ in range(2)]
    with layer.start_norms(), torch.no_grad():
        layer(maps)
    torch.testing.assert_close(layer(maps)[0], 0.9 * maps[0] + 0.1 * maps[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.train()(maps)[1], 0.9 * maps[1] + 0.1 * maps[0], rtol=1e-4, atol=1e-5)
    assert layer.rectified == (least == 0)
    again = NDDRLayer(2, 3)
    again.load_state_dict(layer.state_dict())
    assert again.rectified == layer.rectified


def test_own_twice_mixes_the_own_map_alone():
    torch.manual_seed(0)
    plain, twice = (CrossBranchLayer(2, 4, "default", own_twice=own) for own in (False, True))
    twice.load_state_dict(plain.state_dict())
    x, y = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(twice([x, y])[0], plain([x, x])[0])
    torch.testing.assert_close(twice([x, y])[1], plain([y, y])[1])


def test_parameters_and_multiplies_by_formula():
    with torch.device("meta"):
        names = ("independent", "cross_stitch", "nddr")
        networks = {name: build(name, PATENT_TASKS, "vgg16", "none") for name in names}
        joint = build("cross_branch", PATENT_TASKS, "vgg16", "none", "random")
        twice = build("cross_branch", PATENT_TASKS, "vgg16", "none", "random", own_twice=True)
    apart = count_parameters(networks["independent"])
    assert count_parameters(networks["cross_stitch"]) - apart == sum(4 * k for k in GROUPS)
    assert count_parameters(networks["nddr"]) - apart == sum(2 * (2 * k * k + 2 * k) for k in GROUPS)
    assert count_parameters(twice) == count_parameters(joint)
    assert count_multiplies(twice, 32) == count_multiplies(joint, 32)
    assert list(twice.state_dict()) == list(joint.state_dict())


def test_keys_of_earlier_runs():
    network = build("cross_branch", PATENT_TASKS, "tiny", "none", "random")
    assert [key for key in network.state_dict() if not key.startswith("branches.")] == [
        f"exchanges.{i}.convs.{t}.{what}" for i in range(2) for t in range(2) for what in ("weight", "bias")]


@pytest.mark.parametrize(("method", "options", "crosses"), [
    ("cross_stitch", {}, True), ("nddr", {}, True), ("cross_branch", {"own_twice": True}, False),
])
def test_whether_the_emotion_loss_reaches_the_aesthetics_branch(method, options, crosses):
    torch.manual_seed(0)
    network = build(method, PATENT_TASKS, "tiny", "none", **options)
    network(torch.randn(2, 3, 32, 32))["emotion"].sum().backward()
    reached = [any(p.grad is not None and p.grad.any() for p in group.parameters())
               for group in network.branches[0].groups]
    assert reached == [crosses, crosses, False]


@pytest.mark.parametrize("method", ["cross_stitch", "nddr"])
def test_streams_are_watched_cut_and_summed(method):
    torch.manual_seed(0)
    network = build(method, PATENT_TASKS, "tiny", "none").eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        whole = network(images)
        with cut(network, [s for s in streams(network) if s.borrowed]) as unaided:
            without = unaided(images)
        for layer in network.exchanges:  # the same, done to the weights
            if method == "nddr":
                k = layer.channels
                layer.convs[0].weight[:, k:] = 0
                layer.convs[1].weight[:, :k] = 0
            else:
                layer.shares[0, 1] = layer.shares[1, 0] = 0
        for task, logits in network(images).items():
            torch.testing.assert_close(without[task], logits)
            assert not torch.allclose(whole[task], logits)
    network = build(method, PATENT_TASKS, "tiny", "none", seed=1).eval()
    for ledger in (*trunk_ledger(network, images).values(), *layer_ledger(network, images).values()):
        gained = torch.tensor(ledger.logits - ledger.baseline)
        torch.testing.assert_close(torch.tensor(ledger.values.sum(axis=2)), gained, rtol=1e-4, atol=1e-5)


def test_own_twice_has_no_streams_and_says_so():
    network = build("cross_branch", PATENT_TASKS, "tiny", "none", own_twice=True)
    with pytest.raises(ValueError, match="own_twice feeds each branch only its own maps: nothing is borrowed"):
        streams(network)


def test_nddrs_factor_is_a_default_that_settings_override():
    assert Config(method="nddr").training_settings().exchange_factor == 100
    assert Config(method="nddr", settings={"exchange_factor": 10.0}).training_settings().exchange_factor == 10
    assert Config(method="cross_stitch").training_settings().exchange_factor == 1
    assert Config().training_settings().exchange_factor == 1


def test_kept_statistics_are_the_pretrained_ones_not_the_layers_own():
    settings = Config(method="nddr").training_settings()
    assert settings.keep_statistics
    network = build("nddr", PATENT_TASKS, "efficientnet_lite0", "none")
    pixels, rows = np.zeros((2, 210, 210, 3), np.uint8), np.arange(2)
    data = Data(pixels, pixels[0].astype(np.float32), {task.name: rows for task in PATENT_TASKS}, rows, rows)
    loop = _Loop(network, replace(settings, frozen_groups=0), data, 0, torch.device("cpu"), "")
    loop.batches = _NoBatches()
    with pytest.raises(StopIteration):
        loop.train(0)
    norms = {name: m.training for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert all(mode == name.startswith("exchanges.") for name, mode in norms.items()) and any(norms.values())
    rates = {id(p): group["factor"] for group in loop.optimiser.param_groups for p in group["params"]}
    assert {rates[id(p)] for p in network.exchanges.parameters()} == {100.0}
    assert all(group["weight_decay"] == settings.weight_decay for group in loop.optimiser.param_groups)


class _NoBatches:
    """The epoch ends before its first batch, after the modules' modes are set."""

    def __len__(self):
        return 0

    def order(self, number):
        raise StopIteration


@pytest.mark.parametrize(("method", "options"), [
    ("cross_stitch", {}), ("nddr", {}), ("cross_branch", {"own_twice": True}),
])
def test_a_run(method, options, colours_root, tmp_path):
    run = train(Config(**SMOKE, method=method, options=options), tmp_path, colours_root)
    assert run.folder.parts[-3] == method + (".diagonal" if options else "")
    network = Run(run.folder).network("cpu")[0]
    start = build(method, run.tasks, "tiny", "none", run.described["variant"], **options)
    pairs = zip(network.exchanges.parameters(), start.exchanges.parameters(), strict=True)
    assert not any(torch.equal(trained, first) for trained, first in pairs) and run.described["options"] == options


def test_a_left_out_link_carries_nothing_and_never_will():
    """By hand: z_0 = (alpha + beta) x_0 whatever x_1 is, branch 1 has its .9 and .1, no gradient reaches W_01."""
    layer = CrossBranchLayer(2, 2, without=[(0, 1)])
    first, second = layer([pixel(1, 2), pixel(10, 20)])
    assert first.flatten().tolist() == pytest.approx([1.0, 2.0])
    assert second.flatten().tolist() == pytest.approx([9.1, 18.2])
    (first.sum() + second.sum()).backward()
    assert layer.convs[0].weight.grad[:, 2:].abs().sum() == 0 and layer.convs[0].weight.grad[:, :2].abs().sum() > 0
    assert "links" not in layer.state_dict()


def test_links_are_left_out_by_name():
    link = [2, "emotion", "aesthetics"]
    network = build("cross_branch", PATENT_TASKS, "tiny", "none", "diagonal", without=[link]).eval()
    assert [layer.without for layer in network.exchanges] == [(), ((1, 0),)]
    network.to(memory_format=torch.channels_last)  # as every training does
    images = torch.randn(2, 3, 32, 32)
    before = network(images)
    with torch.no_grad():  # a weight of the link that is left out may be anything
        network.exchanges[1].convs[1].weight[:, :network.channels[1]] = 7.0
    assert all(torch.equal(before[name], values) for name, values in network(images).items())
    for wrong in ([5, "emotion", "aesthetics"], [1, "emotion", "emotion"], [1, "mood", "emotion"]):
        with pytest.raises(ValueError, match="without: no link"):
            build("cross_branch", PATENT_TASKS, "tiny", "none", without=[wrong])
    with pytest.raises(ValueError, match="diagonal start only"):
        build("cross_branch", PATENT_TASKS, "tiny", "none", "random", without=[link])
