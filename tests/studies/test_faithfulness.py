"""Faithfulness: against a linear network whose channels can be worked out by hand, hooks on ports, scipy and captum."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from aesthemo_lib.attribution.maps import stream_map
from aesthemo_lib.attribution.streams import Stream, hook_point, replaced
from aesthemo_lib.models.backbones import Backbone
from aesthemo_lib.models.networks import CrossBranch, build
from aesthemo_lib.tasks import PATENT_TASKS, Task
from aesthemo_studies.attribution_checks import maps as faithfulness

BORROWED = Stream(1, "aesthetics", "emotion")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    made = build("cross_branch", PATENT_TASKS, "tiny", "none", "random", seed=3)
    with torch.no_grad():
        for branch in made.branches:
            branch.head[-1].weight.mul_(100)
    return made.eval()


@pytest.fixture(scope="module")
def linear() -> nn.Module:
    """Two branches of two linear groups with 6 channels: each logit is a sum over the channels of any one stream."""
    random = torch.Generator().manual_seed(1)

    def branch(classes: int) -> Backbone:
        groups = nn.ModuleList([nn.Conv2d(3, 6, 1, bias=False), nn.Conv2d(6, 6, 1, bias=False)])
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes))
        for values in (*groups.parameters(), *head.parameters()):
            values.data.normal_(generator=random)
        return Backbone("linear", groups, head, [6, 6], (1.0, 1.0, 1.0), "by hand")

    tasks = (Task("aesthetics", ("low", "high")), Task("emotion", ("sad", "glad", "calm")))
    made = CrossBranch(tasks, [branch(2), branch(3)])
    for exchange in made.exchanges:
        for conv in exchange.convs:
            conv.weight.data.normal_(generator=random)
    return made.double().eval()


def by_channel(linear: nn.Module, images: torch.Tensor, target: int) -> np.ndarray:
    """(B, 6) what each channel of emotion's map at layer 1 gives to aesthetics' logit, by matrices alone."""
    flow = linear.branches[1].groups[0](images).mean((2, 3))  # (B, 6)
    taken = linear.exchanges[0].convs[0].weight[:, 6:, 0, 0]
    rest = linear.branches[0].head[-1].weight @ linear.branches[0].groups[1].weight[:, :, 0, 0] @ taken
    return (flow * rest[target]).detach().numpy()


def test_a_streams_logits_as_a_function_of_its_map_alone(network, images):
    flow, forward = faithfulness.through(network, images, BORROWED, "emotion")
    assert torch.allclose(forward(flow), network(images)["emotion"], atol=1e-5)
    other = torch.randn(flow.shape, generator=torch.Generator().manual_seed(4))
    with replaced(hook_point(network, BORROWED), lambda x: other):
        expected = network(images)["emotion"]
    actual = forward(torch.cat([flow, other]))  # two copies of the batch, one after another
    assert torch.allclose(actual[3:], expected, atol=1e-5) and torch.allclose(actual[:3], forward(flow), atol=1e-5)
    assert not network.exchanges[0]._forward_pre_hooks
    with pytest.raises(ValueError, match="no stream"):
        faithfulness.through(network, images, Stream(9, "aesthetics", "emotion"), "emotion")


def test_gradients_are_those_of_captum_at_the_port(network, images):
    targets = torch.tensor([1, 0, 1])
    actual = faithfulness.stream_gradients(network, images, BORROWED, "aesthetics", targets, steps=64)
    for target in (0, 1):
        slow = stream_map(network, images, BORROWED, "aesthetics", target, steps=64)
        for i in np.flatnonzero(targets == target):
            assert np.allclose(actual[i].sum(0), slow.cells[i], atol=1e-3 * np.abs(slow.cells).max())
            assert np.allclose(actual[i].sum((1, 2)), slow.channels[i], atol=1e-3 * np.abs(slow.channels).max())


def test_deleting_channels_of_a_linear_network_by_hand(linear, images):
    images, targets = images.double(), torch.tensor([1, 0, 1])
    curves = faithfulness.deletion(linear, images, BORROWED, "aesthetics", targets, points=6, draws=200)
    logits = linear(images)["aesthetics"].detach().numpy()
    for i, target in enumerate(targets):
        parts = np.sort(by_channel(linear, images, target)[i])
        for name, order in (("map", parts[::-1]), ("reverse", parts)):
            assert np.allclose(curves[name][i], logits[i, target] - np.cumsum([0, *order]), atol=1e-9), name
        straight = np.linspace(curves["map"][i, 0], curves["map"][i, -1], 7)
        assert np.allclose(curves["random"][i], straight, atol=0.25 * np.abs(parts).sum())
    gain = faithfulness.area_between(curves["map"], curves["random"])
    loss = faithfulness.area_between(curves["random"], curves["reverse"])
    assert (gain > 0).all() and (loss > 0).all()
    total = faithfulness.area_between(curves["map"], curves["reverse"])
    assert np.allclose(total, gain + loss) and np.allclose(total, (curves["reverse"] - curves["map"]).sum(1) / 6)


def test_infidelity_of_a_linear_network_is_none_and_of_an_empty_map_all(linear, network, images):
    image = images[:1].double()

    def judged(values, of=linear, image=image):
        return faithfulness.infidelity(of, image, BORROWED, "aesthetics", 1, values)

    values = faithfulness.stream_gradients(linear, image, BORROWED, "aesthetics", torch.tensor([1]))
    assert judged(values) < 1e-12
    assert judged(torch.zeros_like(values)) == pytest.approx(1) and judged(2 * values) == pytest.approx(1)
    assert judged(1.5 * values) == pytest.approx(0.25)


def test_infidelity_by_its_formula(network, images):
    values = faithfulness.stream_gradients(network, images[:1], BORROWED, "aesthetics", torch.tensor([1]))
    actual = faithfulness.infidelity(network, images[:1], BORROWED, "aesthetics", 1, values, samples=10, grid=2)
    gone = torch.rand(10, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    gone = gone.view(10, 1, 2, 2).repeat_interleave(4, 2).repeat_interleave(4, 3)  # layer 1's maps are 8 x 8
    with torch.no_grad():
        flow, rest = (network.branches[1].groups[0](x) for x in (images[:1], torch.zeros_like(images[:1])))
        with replaced(hook_point(network, BORROWED), lambda x: torch.where(gone, rest, flow)):
            without = network(images[:1].expand(10, -1, -1, -1))["aesthetics"][:, 1]
        does = network(images[:1])["aesthetics"][:, 1] - without
    says = (values * gone).flatten(1).sum(1)
    assert actual == pytest.approx(float(((says - does) ** 2).mean() / (does**2).mean()), rel=1e-3)


def test_sensitivity_of_a_linear_network_grows_with_the_noise(linear, images):
    image = images[:1].double()
    small, large = (faithfulness.sensitivity(linear, image, BORROWED, "aesthetics", 1, r) for r in (0.01, 0.02))
    assert 0 < small < 0.03 and large == pytest.approx(2 * small)
    before = torch.random.get_rng_state()
    faithfulness.sensitivity(linear, image, BORROWED, "aesthetics", 1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_weights_are_destroyed_from_the_top_and_the_maps_with_them(network, images):
    original = {name: values.clone() for name, values in network.state_dict().items()}
    targets = torch.tensor([1, 0, 1])

    def cells(of):
        return faithfulness.stream_gradients(of, images, BORROWED, "aesthetics", targets).sum(1).numpy()

    names, alike = [], []
    for name, broken in faithfulness.randomised(network):
        names.append(name)
        alike.append(faithfulness.rank_similarity(cells(network), cells(broken), absolute=False).mean())
        if name == "heads":
            for key, values in broken.state_dict().items():
                assert torch.equal(values, original[key]) or ".head." in key
    assert names == ["heads", "group 3", "layer 2", "group 2", "layer 1", "group 1"]
    changed = 0
    for key, values in broken.state_dict().items():  # shuffled, so the values are the same
        assert torch.equal(values.flatten().sort()[0], original[key].flatten().sort()[0])
        changed += not torch.equal(values, original[key])
    assert changed > 10 and abs(alike[-1]) < 0.35
    assert all(torch.equal(values, original[key]) for key, values in network.state_dict().items())


def test_randomising_resets_batch_statistics_of_what_it_has_reached():
    network = build("nddr", PATENT_TASKS, "tiny", "none")
    for norm in (norm for exchange in network.exchanges for norm in exchange.norms):
        norm.running_mean.fill_(3.0)
    for name, broken in faithfulness.randomised(network):
        learnt = [bool((norm.running_mean == 3).all()) for exchange in broken.exchanges for norm in exchange.norms]
        if name in ("group 3", "layer 2", "layer 1"):
            kept = {"group 3": [True] * 4, "layer 2": [True, True, False, False], "layer 1": [False] * 4}
            assert learnt == kept[name]


def test_rank_similarity_is_spearmans():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 4, 5, 5)).round(1)  # with ties
    for absolute in (False, True):
        a, b = (np.abs(x) if absolute else x for x in (first, second))
        expected = [spearmanr(x.ravel(), y.ravel())[0] for x, y in zip(a, b, strict=True)]
        assert np.allclose(faithfulness.rank_similarity(first, second, absolute), expected)
    assert np.allclose(faithfulness.rank_similarity(first, -first, False), -1)
    assert not faithfulness.rank_similarity(first, np.zeros_like(first), False).any()


def test_the_pointing_game_by_hand():
    maps, masks = np.zeros((4, 3, 3)), np.zeros((4, 3, 3), bool)
    for i, place in enumerate([(0, 0), (1, 1), (1, 1), (2, 2)]):
        maps[i][place] = -5.0 if i == 1 else 1.0  # the largest of any sign
    maps[1, 0, 0] = 4.0
    masks[0, 0], masks[1, 1, 1], masks[2, 2, 2] = True, True, True  # the fourth image has no mask
    table = faithfulness.pointing(maps, masks)
    assert list(table["image"]) == [0, 1, 2] and list(table["hit"]) == [1, 1, 0]
    assert list(table["chance"]) == [0, 0, 0.5]  # of the two other masks one is where the third map points
    assert np.allclose(table["area"], [3 / 9, 1 / 9, 1 / 9])
