"""The ledgers: against networks worked out by hand, captum's ShapleyValues, and the definition spelt out."""

import itertools
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from math import factorial

import numpy as np
import pandas as pd
import pytest
import torch
from captum.attr import ShapleyValues
from torch import nn

from aesthemo_lib import plots
from aesthemo_lib.attribution import ledger, mixtures
from aesthemo_lib.attribution.baselines import baseline
from aesthemo_lib.attribution.cuts import cut
from aesthemo_lib.attribution.ledger import layer_ledger, play, trunk_ledger
from aesthemo_lib.attribution.maps import integrated_gradients, stream_map
from aesthemo_lib.attribution.players import layer_games, trunk_games
from aesthemo_lib.attribution.streams import Stream, hook_point, record, replaced, streams
from aesthemo_lib.models.backbones import Backbone
from aesthemo_lib.models.networks import METHODS, CrossBranch, Exchanging, build
from aesthemo_lib.tasks import PATENT_TASKS, Task
from aesthemo_studies.attribution_checks.ledgers import over_set
from aesthemo_studies.attribution_checks.maps import patch_shapley, shapley
from aesthemo_studies.attribution_checks.paths import owen_plan, path_ledger
from aesthemo_studies.attribution_checks.study import class_means
from bench import ledgers as bench

TASKS = (
    *PATENT_TASKS, Task("arousal", ("calm", "aroused")), Task("valence", ("bad", "good")), Task("fame", ("no", "yes")),
)


def network_of(tasks: int = 2, **options) -> nn.Module:
    """A small network with ReLUs and pools whose logits are far from additive in its streams."""
    network = build("cross_branch", TASKS[:tasks], "tiny", "none", "random", seed=5, **options)
    random = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for branch in network.branches:
            branch.head[-1].weight.mul_(100)
        for exchange in network.exchanges:
            for conv in exchange.convs:
                conv.bias.normal_(0, 0.2, generator=random)
    return network.eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def by_definition(value, players: int) -> np.ndarray:
    """The mean, over all orders in which players can join, of what each adds. value: a set of players -> array."""
    total = 0
    for order in itertools.permutations(range(players)):
        gains = [value(frozenset(order[:k + 1])) - value(frozenset(order[:k])) for k in range(players)]
        total = total + np.stack([gains[order.index(p)] for p in range(players)])
    return total / factorial(players)


def linear_network(weights: dict) -> CrossBranch:
    """Two branches of linear groups on one pixel: a_i, b_i the groups, p_i q_i r_i s_i the exchanges, h the heads."""
    def branch(name, heads):
        groups = nn.ModuleList()
        for i in range(len(weights[name])):
            conv = nn.Conv2d(1, 1, 1, bias=False)
            conv.weight.data = torch.full((1, 1, 1, 1), weights[name][i], dtype=torch.float64)
            groups.append(conv)
        last = nn.Linear(1, len(heads))
        last.weight.data = torch.tensor(heads, dtype=torch.float64)[:, None]
        head, channels = nn.Sequential(nn.Flatten(), last), [1] * len(groups)
        return Backbone("linear", groups, head, channels, (1.0, 1.0, 1.0), "by hand")

    tasks = (Task("aesthetics", ("low", "high")), Task("emotion", ("sad", "glad", "calm")))
    network = CrossBranch(tasks, [branch("a", weights["ha"]), branch("b", weights["hb"])])
    for exchange, (own, taken, given, kept) in zip(network.exchanges, weights["exchange"], strict=True):
        exchange.convs[0].weight.data = torch.tensor([own, taken], dtype=torch.float64).reshape(1, 2, 1, 1)
        exchange.convs[1].weight.data = torch.tensor([given, kept], dtype=torch.float64).reshape(1, 2, 1, 1)
        for conv in exchange.convs:
            conv.bias.data.fill_(0.7)
    return network.double().eval()


def test_a_linear_network_worked_out_by_hand():
    a, b, ha, hb = (2.0, -1.0, 3.0), (1.0, 4.0, 0.5), [-1.0, 2.0], [1.0, 0.5, -3.0]
    (p1, q1, r1, s1), (p2, q2, r2, s2) = exchange = [(0.9, 0.1, 0.2, 0.8), (0.7, -0.3, 0.4, 0.6)]
    network = linear_network({"a": a, "b": b, "ha": ha, "hb": hb, "exchange": exchange})
    x, base = torch.full((1, 1, 1, 1), 5.0).double(), torch.full((1, 1, 1, 1), 1.5).double()
    d, tail = 3.5, a[2] * np.array(ha)[:, None]  # the pixel's change; group 3 and the two heads
    trunk = trunk_ledger(network, x, base)["aesthetics"]
    by_hand = [p2 * a[1] * p1 * a[0], p2 * a[1] * q1 * b[0], q2 * b[1] * (r1 * a[0] + s1 * b[0])]
    assert trunk.players == ("own", "borrowed at 1", "borrowed at 2")
    assert np.allclose(trunk.values[0], d * tail * by_hand, rtol=1e-12)
    first, second = (layer_ledger(network, x, base)[i, "aesthetics"] for i in (1, 2))
    assert first.players == ("own", "borrowed", "via emotion: own", "via emotion: borrowed")
    by_hand = [p2 * a[1] * p1 * a[0], p2 * a[1] * q1 * b[0], q2 * b[1] * s1 * b[0], q2 * b[1] * r1 * a[0]]
    assert np.allclose(first.values[0], d * tail * by_hand, rtol=1e-12)
    by_hand = [p2 * a[1] * (p1 * a[0] + q1 * b[0]), q2 * b[1] * (r1 * a[0] + s1 * b[0]), 0, 0]
    assert np.allclose(second.values[0], d * tail * by_hand, rtol=1e-12) and not second.values[0, :, 2:].any()
    other = trunk_ledger(network, x, base)["emotion"]
    by_hand = [s2 * b[1] * s1 * b[0], s2 * b[1] * r1 * a[0], r2 * a[1] * (p1 * a[0] + q1 * b[0])]
    assert np.allclose(other.values[0], d * b[2] * np.array(hb)[:, None] * by_hand, rtol=1e-12)
    assert np.allclose(trunk.borrowed(), trunk.values[:, :, 1:].sum(2))
    assert np.allclose(first.borrowed(), first.values[:, :, 1])


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", [{}, {"after_last": True}, {"tasks": 3}])
def test_sums_are_the_logit_beyond_the_baseline(kind, options, images):
    network, images = network_of(**options).to(kind), images.to(kind)
    base = torch.full_like(images[:1], 0.4)
    with torch.no_grad():
        change = {name: (values - network(base)[name]).double().numpy() for name, values in network(images).items()}
    for ledgers in (trunk_ledger(network, images, base), layer_ledger(network, images, base)):
        for result in ledgers.values():
            off = np.abs(result.values.sum(2) - change[result.task]).max()
            assert off <= (1e-5 if kind == torch.float32 else 1e-10) * np.abs(result.values).max()
            assert result.residual().max() <= (1e-5 if kind == torch.float32 else 1e-10)
            assert result.standard_error is None
            broken = replace(result, values=result.values + 0.01)
            largest = np.abs(np.concatenate([broken.values, result.logits[..., None], result.baseline[..., None]], 2))
            expected = 0.01 * len(result.players) / largest.max((1, 2))
            assert np.allclose(broken.residual(), expected, rtol=1e-2)


def flows_by_hook(network, images, base, choice: dict, start: torch.Tensor) -> dict:
    """Logits with chosen streams held, by hooks alone. choice: stream -> the image's (or the baseline's)?"""
    natural = {bit: record(network, list(choice), x.expand_as(images)) for bit, x in ((True, images), (False, base))}
    with ExitStack() as stack, torch.no_grad():
        for stream, bit in choice.items():
            stack.enter_context(replaced(hook_point(network, stream), lambda x, flow=natural[bit][stream]: flow))
        return network(start)


@pytest.mark.parametrize("options", [{}, {"after_last": True}, {"tasks": 3}])
def test_trunk_ledger_is_captums_shapley_values_of_its_players(options, images):
    network, base = network_of(**options), torch.full((1, 3, 16, 16), 0.4)
    result = trunk_ledger(network, images, base)["emotion"]
    incoming = result.streams[1:]
    assert result.streams[0] is None and all(s.receiver == "emotion" and s.borrowed for s in incoming)

    @cache
    def logits(own: bool, *rest: bool) -> torch.Tensor:
        start = images if own else base.expand_as(images)
        return flows_by_hook(network, images, base, dict(zip(incoming, rest, strict=True)), start)["emotion"]

    for image, target in ((0, 3), (1, 7)):
        value = ShapleyValues(lambda bits, i=image, c=target: logits(*bits[0].bool().tolist())[i:i + 1, c]).attribute(
            torch.ones(1, len(result.players)))
        assert np.allclose(result.values[image, target], value[0], atol=1e-5 * np.abs(result.values).max())


@pytest.mark.parametrize("options", [{}, {"after_last": True}])
def test_layer_ledger_is_captums_shapley_values_of_its_players(options, images):
    network, base = network_of(**options), torch.full((1, 3, 16, 16), 0.4)
    result = layer_ledger(network, images, base)
    assert list(result) == [(i + 1, t.name) for i in range(len(network.exchanges)) for t in network.tasks]
    for (layer, task), part in result.items():
        here = [s for s in streams(network) if s.layer == layer]
        order = [here.index(s) for s in part.streams]
        scale = np.abs(part.values).max()
        if task == "emotion":
            slow = bench.captum_layer(network, images, base, layer, task, 1)
            assert np.allclose(part.values[:, 1], slow[:, order], atol=1e-5 * scale)

        @cache
        def logit(*bits: bool, here=here, task=task) -> torch.Tensor:
            return flows_by_hook(network, images, base, dict(zip(here, bits, strict=True)), images)[task][:1, 1]

        value = ShapleyValues(lambda bits, logit=logit: logit(*bits[0].bool().tolist())).attribute(torch.ones(1, 4))[0]
        assert np.allclose(part.values[0, 1], value[order], atol=1e-5 * scale)


def test_three_branches_by_every_order(images):
    network, image, base = network_of(tasks=3).double(), images[:1].double(), torch.zeros(1, 3, 16, 16).double()
    result = trunk_ledger(network, image, base)["arousal"]
    assert result.players == ("own", "borrowed at 1 from aesthetics", "borrowed at 1 from emotion",
                              "borrowed at 2 from aesthetics", "borrowed at 2 from emotion")
    known: dict[frozenset, np.ndarray] = {}

    def value(players: frozenset) -> np.ndarray:
        if players not in known:
            choice = {s: p in players for p, s in enumerate(result.streams) if s}
            start = image if 0 in players else base
            known[players] = flows_by_hook(network, image, base, choice, start)["arousal"][0].numpy()
        return known[players]

    assert np.allclose(result.values[0], by_definition(value, 5).T, rtol=1e-9)
    part = layer_ledger(network, image, base)[1, "arousal"]
    assert part.players[:3] == ("own", "borrowed from aesthetics", "borrowed from emotion")
    assert part.players[3:6] == ("via aesthetics: own", "via aesthetics: borrowed from emotion",
                                 "via aesthetics: borrowed from arousal")
    drawn = layer_ledger(network, image, base, draws=200)[1, "arousal"]
    assert (np.abs(drawn.values - part.values) <= 4.5 * drawn.standard_error + 1e-12).all()


def owen_by_definition(value, unions: list[list[int]]) -> np.ndarray:
    """The mean gain over all orders in which the members of a union join one behind another (Owen 1977)."""
    orders = [list(itertools.chain(*joined)) for whole in itertools.permutations(unions)
              for joined in itertools.product(*map(itertools.permutations, whole))]
    total = np.zeros((sum(map(len, unions)), *np.shape(value(frozenset()))))
    for order in orders:
        for k, player in enumerate(order):
            total[player] += value(frozenset(order[:k + 1])) - value(frozenset(order[:k]))
    return total / len(orders)


def test_owen_values_are_the_mean_over_all_orders_that_keep_unions_together():
    unions = [[0], [2, 1], [3], [5, 4, 6]]
    table = np.random.default_rng(1).normal(size=(2**7, 3))
    expected = owen_by_definition(lambda who: table[sum(2**p for p in who)], unions)
    asked = []

    def game(masks):
        asked.extend(map(tuple, masks))
        return table[masks @ 2 ** np.arange(7)]

    result, error = shapley(game, unions, plan=owen_plan)
    assert error is None and np.allclose(result, expected)
    assert len(asked) == len(set(asked)) == 2**4 + (2 + 6) * 2**3
    whole = shapley(lambda masks: table[masks[:, [0, 1, 1, 2, 3, 3, 3]] @ 2 ** np.arange(7)], 4)[0]
    assert np.allclose([result[union].sum(0) for union in unions], whole)  # a union gets what it gets as one player
    drawn, error = shapley(game, unions, draws=400, plan=owen_plan)
    assert (np.abs(drawn - expected) <= 4.5 * error).all() and error.max() < 0.5


def test_round_trips_of_a_linear_network_of_five_groups_by_every_path():
    """A path is the branch that a pixel's change is in at each group. Its last crossing into the receiver says where it
    is borrowed; it is a round trip if it was in the receiver before that."""
    rng = np.random.default_rng(0)
    gains, exchange, heads = rng.normal(size=(2, 5)), rng.normal(size=(4, 2, 2)), ([-1.0, 2.0], [1.0, 0.5, -3.0])
    network = linear_network({"a": gains[0].tolist(), "b": gains[1].tolist(), "ha": heads[0], "hb": heads[1],
                              "exchange": exchange.reshape(4, 4).tolist()})  # [layer][receiver][source]
    x, base = torch.full((1, 1, 1, 1), 5.0).double(), torch.full((1, 1, 1, 1), 1.5).double()
    result = path_ledger(network, x, base)
    for t, task in enumerate(network.tasks):
        expected = dict.fromkeys(["own", "seen at 1", *(f"{kind} at {i}" for i in (2, 3, 4)
                                                        for kind in ("seen", "round trip"))], 0.0)
        for path in itertools.product((0, 1), repeat=5):
            crossings = [i for i in range(1, 5) if path[i] == t != path[i - 1]]
            if path[-1] != t:
                continue
            kind = "own" if not crossings else "round trip" if t in path[:crossings[-1]] else "seen"
            amount = 3.5 * np.prod([gains[branch, i] for i, branch in enumerate(path)])
            amount *= np.prod([exchange[i, path[i + 1], path[i]] for i in range(4)])
            expected[kind if kind == "own" else f"{kind} at {crossings[-1]}"] += amount
        assert list(result[task.name].players) == list(expected)
        by_hand = np.array(heads[t])[:, None] * list(expected.values())
        assert np.allclose(result[task.name].values[0], by_hand, rtol=1e-10)


@pytest.mark.parametrize("tasks", [2, 3])
def test_path_ledger_is_its_players_owen_values_and_refines_the_trunk_ledger(tasks, images):
    """Every coalition by hooks alone: what a stream carries if its senders saw one photo and were sent another's."""
    network, image = network_of(tasks=tasks).double(), images[:1].double()
    base = torch.full_like(image, 0.4)
    result, trunk = path_ledger(network, image, base)["emotion"], trunk_ledger(network, image, base)["emotion"]
    incoming = list(dict.fromkeys(result.streams[1:]))
    leaving = [s for s in streams(network) if s.borrowed and s.source == "emotion"]
    natural = {bit: record(network, leaving, x) for bit, x in ((True, image), (False, base))}

    @cache
    def carried(stream: Stream, seen: bool, sent: bool) -> torch.Tensor:
        with ExitStack() as stack:
            for edge in leaving:
                stack.enter_context(replaced(hook_point(network, edge), lambda x, flow=natural[sent][edge]: flow))
            return record(network, [stream], image if seen else base)[stream]

    @cache
    def value(who: frozenset) -> np.ndarray:
        choice = {}
        for stream in incoming:
            bits = [p in who for p, s in enumerate(result.streams) if s == stream]
            choice[stream] = carried(stream, bits[0], bits[-1])
        with ExitStack() as stack, torch.no_grad():
            for stream, flow in choice.items():
                stack.enter_context(replaced(hook_point(network, stream), lambda x, flow=flow: flow))
            return network(image if 0 in who else base)["emotion"][0].numpy()

    unions = [[0], *([p for p, s in enumerate(result.streams) if s == stream] for stream in incoming)]
    assert np.allclose(result.values[0], owen_by_definition(value, unions).T, rtol=1e-9)
    assert np.allclose(np.stack([result.values[..., u].sum(-1) for u in unions], -1), trunk.values, rtol=1e-9)
    assert np.allclose(result.borrowed(), trunk.borrowed()) and result.residual().max() < 1e-10
    assert np.abs(result.values[..., -1]).max() > 1e-3 * np.abs(result.values).max()  # there are round trips


@pytest.mark.parametrize("method", ["cross_branch", "cross_stitch", "nddr"])
def test_one_task_has_nothing_to_explain_and_says_so(method, images):
    network = build(method, TASKS[:1], "tiny", "none").eval()
    for asked in (trunk_ledger, path_ledger, layer_ledger):
        with pytest.raises(ValueError, match="one task has no second branch to borrow from.*integrated_gradients"):
            asked(network, images)
    assert np.isfinite(integrated_gradients(network, images, "aesthetics", 1, steps=2).cells).all()


def test_ten_layers(monkeypatch):
    """Eleven groups: the trunk ledger is exact, the path ledger drawn; a map and a cut work at the last layer."""
    rng = np.random.default_rng(4)
    network = linear_network({"a": rng.uniform(0.5, 1.5, 11).tolist(), "b": rng.uniform(0.5, 1.5, 11).tolist(),
                              "ha": [1.0, 2.0], "hb": [1.0, 0.5, -3.0], "exchange": [(0.7, 0.3, 0.2, 0.8)] * 10})
    monkeypatch.setattr(ledger, "DRAWS", 3)
    x = torch.full((1, 1, 1, 1), 5.0).double()
    trunk, path = trunk_ledger(network, x)["emotion"], path_ledger(network, x)["emotion"]
    assert trunk.players[-1] == "borrowed at 10" and trunk.standard_error is None
    assert len(path.players) == 20 and path.players[-1] == "round trip at 10" and path.standard_error.max() < 1e-9
    pairs = np.stack([path.values[..., [p for p, s in enumerate(path.streams) if s == stream]].sum(-1)
                      for stream in trunk.streams], -1)
    assert np.allclose(pairs, trunk.values)  # a linear network's gains are the same in each order
    assert len(layer_ledger(network, x)) == 20 and len(streams(network)) == 40
    last = Stream(10, "emotion", "aesthetics")
    effect = stream_map(network, x, last, "emotion", 1, "ablation").effect
    with cut(network, last, "mean", torch.zeros_like(x)), torch.no_grad():
        assert np.allclose(trunk.logits[:, 1] - network(x)["emotion"][:, 1].numpy(), effect)


def test_more_players_are_drawn_with_an_error_that_holds(images, monkeypatch):
    monkeypatch.setattr(ledger, "DRAWS", 20)
    network, image = network_of(tasks=5, after_last=True).double(), images[:1].double()
    result = trunk_ledger(network, image)["fame"]
    assert 2 ** len(result.players) == 2**13 > ledger.EXACT
    assert result.standard_error.shape == result.values.shape and (result.standard_error > 0).all()
    assert result.residual().max() < 1e-10  # drawn orders are complete, each
    monkeypatch.setattr(ledger, "EXACT", 2**13)
    exact = trunk_ledger(network, image)["fame"]
    z = (result.values - exact.values) / result.standard_error
    assert np.abs(z).max() < 5 and 0.5 < np.sqrt((z**2).mean()) < 2
    both = [trunk_ledger(network, image, draws=20, seed=s)["fame"].values for s in (0, 0, 1)]
    assert np.array_equal(both[0], both[1]) and not np.array_equal(both[0], both[2])


def test_shapley_of_games_whose_values_are_known():
    def gloves(masks):  # one left glove, two right ones: a pair is worth 1 (Shapley: 2/3, 1/6, 1/6)
        return (masks[:, 0] & (masks[:, 1] | masks[:, 2])).astype(float)

    assert np.allclose(shapley(gloves, 3)[0], [2 / 3, 1 / 6, 1 / 6])
    airport = np.array([1.0, 2.0, 4.0, 7.0])  # a runway as long as its longest user needs (Littlechild & Owen 1973)
    values, _ = shapley(lambda masks: (masks * airport).max(axis=1), 4)
    assert np.allclose(values, np.cumsum(np.diff(airport, prepend=0) / [4, 3, 2, 1]))
    table = np.random.default_rng(0).normal(size=(32, 2))

    def game(masks):
        return table[masks @ 2 ** np.arange(5)]

    expected = by_definition(lambda who: table[sum(2**p for p in who)], 5)
    assert np.allclose(shapley(game, 5)[0], expected) and np.allclose(shapley(game, 5, chunk=3)[0], expected)
    pairs = shapley(lambda masks: masks @ np.arange(5) + 2.0 * masks[:, 0] * masks[:, 3], 5, draws=4)
    assert np.allclose(pairs, [[1, 1, 2, 4, 4], [0] * 5])  # an order and its reverse leave no error in pairs
    z = []
    for seed in range(40):
        values, error = shapley(game, 5, draws=30, seed=seed)
        z.append((values - expected) / error)
        assert np.allclose(values.sum(0), table[31] - table[0])
    assert 0.8 < np.std(z) < 1.3 and abs(np.mean(z)) < 0.2


def test_baselines_one_an_image_and_averaged_over_a_set(images):
    network = network_of()
    several = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    result = trunk_ledger(network, images, baseline("set", images, others=several))["emotion"]
    apart = [trunk_ledger(network, images, several[i:i + 1])["emotion"] for i in range(3)]
    assert np.allclose(result.values, np.mean([part.values for part in apart], 0), atol=1e-6)
    assert np.allclose(result.baseline, np.mean([part.baseline for part in apart], 0))
    assert result.residual().max() < 1e-5
    own_baseline = layer_ledger(network, images, several[:2])[1, "emotion"]
    for i in range(2):
        single = layer_ledger(network, images[i:i + 1], several[i:i + 1])[1, "emotion"]
        assert np.allclose(own_baseline.values[i], single.values[0], atol=1e-4)
    drawn = trunk_ledger(network, images, baseline("set", images, others=several), draws=5)["emotion"]
    assert drawn.standard_error.shape == drawn.values.shape


def test_a_set_in_batches_and_what_flows_by_class():
    network = network_of()
    photos = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    for function, key in ((trunk_ledger, "emotion"), (layer_ledger, (2, "aesthetics"))):
        whole, parts = function(network, photos)[key], over_set(function, network, photos.split(2))[key]
        for name in ("values", "logits", "baseline"):
            assert np.allclose(getattr(parts, name), getattr(whole, name), atol=1e-4)
        assert parts.residual().max() < 1e-5
    labels = np.array([0, 2, 0, -1, 2])
    means, errors = class_means(whole, labels, 4)
    grouped = pd.DataFrame(whole.values.reshape(5, -1)).groupby(labels)
    assert np.allclose(means[[0, 2]].reshape(2, -1), grouped.mean().loc[[0, 2]])
    assert np.allclose(errors[[0, 2]].reshape(2, -1), grouped.sem().loc[[0, 2]])
    assert np.isnan(means[[1, 3]]).all() and np.isnan(errors[[1, 3]]).all()
    assert over_set(trunk_ledger, network, photos.split(2), draws=3)["emotion"].standard_error.shape == (5, 8, 3)
    with pytest.raises(ValueError, match="no images"):
        over_set(trunk_ledger, network, [])


@pytest.mark.parametrize("tasks", [2, 3])
def test_both_at_once_are_each_alone_and_no_map_is_computed_twice(tasks, images, monkeypatch):
    network = network_of(tasks=tasks).double()
    games = [*trunk_games(network), *layer_games(network)]
    apart = {**trunk_ledger(network, images.double()), **layer_ledger(network, images.double())}
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(ledger, "ROWS", 4096)  # all at once
    stack = [group.register_forward_pre_hook(lambda _, args: seen.extend(args[0]))
             for branch in network.branches for group in branch.groups[1:]]
    together = play(network, images.double(), None, games, None, 0)
    assert len({x.numpy().tobytes() for x in seen}) == len(seen) > 0
    for handle in stack:
        handle.remove()
    monkeypatch.setattr(ledger, "ROWS", 10)  # five coalitions of two images at a time
    monkeypatch.setattr(mixtures, "ROWS", 3)
    few = play(network, images.double(), None, games, None, 0)
    assert list(together) == list(apart) == list(few)
    for key, result in together.items():
        assert result.players == apart[key].players and result.streams == apart[key].streams
        for other in (apart[key], few[key]):
            assert np.allclose(result.values, other.values, rtol=1e-10, atol=1e-12)
            assert np.allclose(result.logits, other.logits) and np.allclose(result.baseline, other.baseline)


def test_the_network_is_left_as_it_was(images):
    network = network_of().train()
    first = trunk_ledger(network, images)["emotion"].values
    assert network.training and not any(exchange._forward_pre_hooks for exchange in network.exchanges)
    assert np.array_equal(first, trunk_ledger(network.eval(), images)["emotion"].values)


@pytest.mark.parametrize("method", ["independent", "shared_bottom"])
def test_networks_without_streams_have_no_ledger(method, images):
    network = build(method, PATENT_TASKS, "tiny", "none")
    for function in (trunk_ledger, layer_ledger):
        with pytest.raises(ValueError, match="nothing is borrowed.*integrated_gradients"):
            function(network, images)


def test_patches_of_a_stream_by_every_order_and_against_gradients(images):
    network, stream = network_of(), Stream(1, "aesthetics", "emotion")
    result, error = patch_shapley(network, images, stream, "aesthetics", 1, grid=2)
    assert error is None and result.shape == (2, 2, 2)
    flow, blank = (record(network, [stream], x)[stream] for x in (images, torch.zeros_like(images)))

    def value(cells: frozenset) -> np.ndarray:
        mixed = blank.clone()
        for cell in cells:
            at = np.s_[:, :, 4 * (cell // 2):4 * (cell // 2) + 4, 4 * (cell % 2):4 * (cell % 2) + 4]
            mixed[at] = flow[at]
        with torch.no_grad(), replaced(hook_point(network, stream), lambda x: mixed):
            return network(images)["aesthetics"][:, 1].numpy().astype(float)

    expected = by_definition(value, 4)  # (patches, images)
    assert np.allclose(result.reshape(2, 4), expected.T, atol=1e-4)
    fine, _ = patch_shapley(network, images, stream, "aesthetics", 1, grid=3)
    gradients = stream_map(network, images, stream, "aesthetics", 1)
    assert np.allclose(fine.sum((1, 2)), gradients.effect, atol=1e-4)
    drawn, error = patch_shapley(network, images, stream, "aesthetics", 1, grid=4, draws=10)
    assert drawn.shape == error.shape == (2, 4, 4) and np.allclose(drawn.sum((1, 2)), gradients.effect, atol=1e-4)
    coarse = gradients.cells.reshape(2, 4, 2, 4, 2).sum((2, 4))
    assert np.corrcoef(coarse.ravel(), drawn.ravel())[0, 1] > 0.7


def test_the_ledger_is_much_faster_than_captum(images):
    row = bench.ledger_speed(network_of(), images[:1], repeats=1)
    assert row["times_faster"] > 10 and row["trunk_seconds"] > 0  # 50 and more with the networks that one explains


def test_bars_lie_end_to_end_and_an_empty_map_can_be_drawn(images):
    network = network_of(after_last=True)
    result = trunk_ledger(network, images)
    figure = plots.ledger_bars(list(result.values()), {t.name: t.classes for t in network.tasks}, image=1)
    for ax, part in zip(figure.axes, result.values(), strict=True):
        values = part.values[1]  # of two classes the difference is drawn
        for c, pieces in enumerate(values if len(values) > 2 else values[1:] - values[:1]):
            bars = [bars.patches[c] for bars in ax.containers]
            assert [bar.get_width() for bar in bars] == pytest.approx(list(pieces))
            for sign in (1, -1):
                ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars if sign * bar.get_width() > 0]
                assert [start for start, _ in ends] == pytest.approx([0, *(end for _, end in ends[:-1])][:len(ends)])
    assert len(plots.signed_maps(np.zeros((16, 16, 3)), {"none": np.zeros((4, 4))}).axes) == 2
    strong, weak = np.eye(4), 0.1 * np.eye(4)
    drawn = plots.signed_maps(np.zeros((16, 16, 3)), {"strong": strong, "weak": weak})
    assert len({ax.images[-1].get_clim() for ax in drawn.axes[1:]}) == 1, "compared maps have one scale"
    shape = result["emotion"].values[1].shape
    null = {"emotion": {"low": np.full(shape, -9.0), "high": np.full(shape, -9.0)}}
    null["emotion"]["high"][2] = 9
    figure = plots.ledger_bars([result["emotion"]], {"emotion": network.tasks[1].classes}, image=1, null=null)
    pale = [[bar.get_alpha() for bar in bars.patches] for bars in figure.axes[0].containers]
    assert all([a is not None for a in of_class] == [c == 2 for c in range(len(of_class))] for of_class in pale)
    null = {"emotion": {"low": np.full(shape, -np.inf), "high": np.full(shape, np.inf)}}
    figure = plots.ledger_bars([result["emotion"]], {"emotion": network.tasks[1].classes}, image=1, null=null)
    assert all(bar.get_alpha() == 0.35 for bars in figure.axes[0].containers for bar in bars.patches)
    assert {key.get_alpha() for key in figure.axes[0].get_legend().legend_handles} == {1}, "the legend is never pale"
    players = len(result["emotion"].players)
    null = {name: {"low": np.full(players, -1.0), "high": np.arange(players)} for name in result}
    figure = plots.flow_bars(result, {name: np.zeros(2, int) for name in result}, null)
    for ax in figure.axes:
        grey = [bar for bar in ax.patches if bar.get_height() == pytest.approx(0.9)]
        reach = [(bar.get_y() + 0.45, bar.get_x(), bar.get_width()) for bar in grey]
        assert reach == [(p, -1, p + 1) for p in range(1, players)], "the own bar has no null"
        assert len(ax.patches) == 2 * players - 1


STREAMED = [name for name, network in METHODS.items() if issubclass(network, Exchanging)]


@pytest.mark.parametrize("method", STREAMED)
def test_every_method_with_streams_has_its_ledger(method, images):
    network = build(method, PATENT_TASKS, "tiny", "none", seed=5).double().eval()
    for result in (*trunk_ledger(network, images.double()).values(), *layer_ledger(network, images.double()).values()):
        assert result.residual().max() < 1e-10 and np.abs(result.values).max() > 0
