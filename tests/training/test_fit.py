"""The training loop: one step by hand, the same bits after an interruption, and what stops it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from aesthemo_lib.models import inference
from aesthemo_lib.models.networks import build
from aesthemo_lib.tasks import PATENT_TASKS
from aesthemo_lib.training import fit as loop_fit
from aesthemo_lib.training.fit import Data, Diverged, Settings, fit, learning_rate

CPU = torch.device("cpu")
SETTINGS = Settings("tiny", "none", resize=20, crop=16, batch=8, epochs=3, patience=3, learning_rate=0.02)


@pytest.fixture(autouse=True)
def one_precision(monkeypatch):
    """float32 wherever the tests run, so that they mean the same on every processor."""
    for module in (loop_fit, inference):
        monkeypatch.setattr(module, "fast_precision", lambda device: torch.float32)


def data(n=40) -> Data:
    rng = np.random.default_rng(0)
    labels = {"aesthetics": np.arange(n) % 2, "emotion": np.where(np.arange(n) % 5 == 4, -1, np.arange(n) % 8)}
    pixels = rng.integers(0, 100, (n, 20, 20, 3), dtype=np.uint8)
    pixels[labels["aesthetics"] == 1] += 120
    rows = np.arange(n)
    return Data(pixels, pixels.mean(axis=0).astype(np.float32), labels, rows[: n - 8], rows[n - 8:])


def network(seed=0, method="cross_branch"):
    return build(method, PATENT_TASKS, "tiny", "none", "diagonal" if method == "cross_branch" else None, seed=seed)


def weights(net) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_a_step_is_sgd_with_momentum_on_the_joint_loss():
    """Two epochs of one batch each against torch's own SGD driven by hand."""
    settings = replace(SETTINGS, batch=40, epochs=2, patience=99, warm_up=0.5, exchange_factor=3.0, head_factor=0.5)
    one, other, d = network(), network(), data()
    fit(one, d, settings, 5, CPU)
    batches = loop_fit.TrainingBatches(d.pixels, d.train, d.mean, other.std, 16, 40, 5, CPU)
    factor = {id(p): 3.0 for p in other.exchanges.parameters()}
    factor |= {id(p): 0.5 for branch in other.branches for p in branch.head[-1].parameters()}
    best, kept = math.inf, None
    velocity = [torch.zeros_like(p) for p in other.parameters()]
    for epoch in range(2):
        (rows, images), = batches.epoch(epoch)
        rows = torch.from_numpy(rows)
        logits = other.train()(images)
        a = torch.nn.functional.cross_entropy(logits["aesthetics"], torch.tensor(d.labels["aesthetics"])[rows])
        e = torch.nn.functional.cross_entropy(
            logits["emotion"], torch.tensor(d.labels["emotion"])[rows], ignore_index=-1
        )
        grads = torch.autograd.grad(a + e / 4, list(other.parameters()))
        with torch.no_grad():
            for p, g, v in zip(other.parameters(), grads, velocity, strict=True):
                v.mul_(0.9).add_(g + 5e-4 * p)
                p -= learning_rate(epoch, 2, settings) * factor.get(id(p), 1.0) * v
        logits = inference.predict_logits(other, d.pixels, d.validation, d.mean, 16, CPU)
        held = {k: torch.tensor(x)[d.validation] for k, x in d.labels.items()}
        a, e = (torch.nn.functional.cross_entropy(torch.tensor(logits[k]), held[k], ignore_index=-1) for k in held)
        if a + e / 4 <= best:
            best, kept = a + e / 4, weights(other).clone()
    torch.testing.assert_close(weights(one), kept, rtol=1e-4, atol=1e-6)


def test_kept_statistics_stay_the_pretrained_ones():
    settings = replace(SETTINGS, epochs=1, resize=20, crop=16)
    for keep in (True, False):
        net = build("shared_bottom", PATENT_TASKS, "efficientnet_lite0", "none")
        before = {name: value.clone() for name, value in net.state_dict().items() if "running" in name}
        fit(net, data(), replace(settings, keep_statistics=keep), 0, CPU)
        same = [torch.equal(value, net.state_dict()[name]) for name, value in before.items()]
        assert all(same) if keep else not any(same)


def test_nddr_starts_from_its_own_maps():
    """At a rate of nothing its normalisations keep the mean and deviation of what the diagonal mix puts out."""
    net, plain, d = network(method="nddr"), network().eval(), data()
    fit(net, d, replace(SETTINGS, learning_rate=0.0, epochs=1), 0, CPU)
    seen = []
    plain.exchanges[0].register_forward_hook(lambda _, __, out: seen.append(out[0]))
    with torch.no_grad():
        plain(loop_fit.TrainingBatches(d.pixels, d.train, d.mean, net.std, 16, 8, 0, CPU).plain(d.train))
    norm = net.exchanges[0].norms[0]
    torch.testing.assert_close(norm.bias, seen[0].mean((0, 2, 3)))
    torch.testing.assert_close(norm.weight, seen[0].std((0, 2, 3), correction=0), rtol=1e-3, atol=3e-3)


def test_learning_rate_rises_then_falls_to_nothing():
    settings = replace(SETTINGS, learning_rate=0.1, warm_up=0.3)
    rates = [learning_rate(step, 100, settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.1 / 30) and max(rates) == rates[29] == pytest.approx(0.1)
    assert all(a < b for a, b in zip(rates[:29], rates[1:30], strict=True))
    assert all(a > b for a, b in zip(rates[30:], rates[31:], strict=False))
    assert rates[65] == pytest.approx(0.05) and rates[-1] < 1e-4


@pytest.mark.parametrize("cut_after", [1, 2])
def test_a_training_that_was_cut_off_ends_with_the_same_bits(tmp_path, cut_after):
    undisturbed = network()
    expected = fit(undisturbed, data(), SETTINGS, 1, CPU)

    def cut(row):
        if row["epoch"] == cut_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(network(), data(), SETTINGS, 1, CPU, tmp_path, after_epoch=cut)
    resumed = network(seed=9)  # its own start must not matter any more
    assert fit(resumed, data(), SETTINGS, 1, CPU, tmp_path) == expected
    assert torch.equal(weights(resumed), weights(undisturbed))


def test_resuming_restores_batchnorm_dropout_and_the_layout(tmp_path):
    """EfficientNet-Lite0 has batch statistics, dropout and channels_last weights: all must come back."""
    settings = replace(SETTINGS, backbone="efficientnet_lite0", resize=36, crop=32, epochs=2, batch=16)
    d = data()
    doubled = np.repeat(np.repeat(d.pixels, 2, 1), 2, 2)[:, :36, :36]
    d = replace(d, pixels=doubled, mean=np.full((36, 36, 3), 90, np.float32))
    nets = [build("cross_branch", PATENT_TASKS, "efficientnet_lite0", "none", "diagonal", seed=0) for _ in range(2)]
    fit(nets[0], d, settings, 1, CPU)

    def cut(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(nets[1], d, settings, 1, CPU, tmp_path, after_epoch=cut)
    resumed = build("cross_branch", PATENT_TASKS, "efficientnet_lite0", "none", "diagonal", seed=5)
    fit(resumed, d, settings, 1, CPU, tmp_path)
    for name, value in nets[0].state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_best_epoch_is_kept_and_patience_ends_it(on_disk, tmp_path, monkeypatch):
    losses = iter([0.9, 0.5, 0.7, 0.8, 0.1])
    monkeypatch.setattr(loop_fit._Loop, "validate", lambda *_: {"validation_loss": next(losses)})
    at_best = {}
    net = network()

    def note(row):
        if row["epoch"] == 2:
            at_best["weights"] = weights(net).clone()

    settings, state = replace(SETTINGS, epochs=5, patience=2), tmp_path if on_disk else None
    history = fit(net, data(), settings, 0, CPU, state, after_epoch=note)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert torch.equal(weights(net), at_best["weights"])


def test_divergence_stops_with_a_clear_message():
    with pytest.raises(Diverged, match=r"became (nan|inf) in epoch 1.*lower learning_rate"):
        fit(network(), data(), replace(SETTINGS, learning_rate=1e12, warm_up=0), 0, CPU)


def test_one_batch_can_be_learnt_by_heart():
    d = data(16)
    d = replace(d, train=np.arange(8), validation=np.arange(8))
    settings = replace(SETTINGS, resize=20, crop=20, epochs=120, patience=120, learning_rate=0.05)
    history = fit(network(), d, settings, 0, CPU)
    assert history[0]["train_loss_aesthetics"] == pytest.approx(math.log(2), abs=0.1)
    assert history[0]["train_loss_emotion"] == pytest.approx(math.log(8), abs=0.2)
    assert history[-1]["train_loss"] < 0.2


def test_three_tasks_and_an_unlabelled_batch():
    d = data()
    d.labels["emotion"][:] = -1
    history = fit(network(), d, replace(SETTINGS, epochs=1), 0, CPU)
    assert history[0]["train_loss_emotion"] == 0 and math.isnan(history[0]["validation_accuracy_emotion"])


def test_bfloat16_stays_near_float32(monkeypatch):
    """The fast path against its plain form: equal but for bfloat16's eight bits."""
    plain = fit(network(), data(), SETTINGS, 0, CPU)
    for module in (loop_fit, inference):
        monkeypatch.setattr(module, "fast_precision", lambda device: torch.bfloat16)
    quick = fit(network(), data(), SETTINGS, 0, CPU)
    for a, b in zip(plain, quick, strict=True):
        assert b["train_loss"] == pytest.approx(a["train_loss"], rel=0.03)


def test_soft_targets_are_learned_in_place_of_labels():
    """Two like images with unlike votes: the network ends at the share of the votes, not at the label."""
    d = data(16)
    d.pixels[:] = 128
    d.labels["aesthetics"][:] = 1
    d.labels["aesthetics"][10:] = -1
    shares = np.tile(np.float32([0.3, 0.7]), (16, 1))
    shares[10:] = [1, 0]  # unlabelled: these must not count
    d = replace(d, train=np.arange(16), validation=np.arange(16), targets={"aesthetics": shares})
    net = network()
    history = fit(net, d, replace(SETTINGS, crop=20, epochs=60, patience=60, learning_rate=0.05), 0, CPU)
    entropy = -0.3 * math.log(0.3) - 0.7 * math.log(0.7)
    assert history[-1]["validation_loss_aesthetics"] == pytest.approx(entropy, abs=5e-3)
    logits = inference.predict_logits(net, d.pixels, np.arange(2), d.mean, 20, CPU)["aesthetics"]
    assert torch.tensor(logits).softmax(1)[:, 1].tolist() == pytest.approx([0.7, 0.7], abs=0.05)
    assert history[-1]["validation_accuracy_aesthetics"] == 1  # of the ten that are labelled


def test_groups_further_from_the_head_learn_more_slowly():
    net, settings = network(), replace(SETTINGS, group_decay=0.5, exchange_factor=3.0, head_factor=2.0)
    rates = {id(p): g["factor"] for g in loop_fit._rates(net, settings, torch.nn.Module()) for p in g["params"]}
    assert [rates[id(group[0].weight)] for group in net.branches[1].groups] == [0.125, 0.25, 0.5]
    head = net.branches[0].head
    assert (rates[id(head[2].weight)], rates[id(head[-1].weight)]) == (1.0, 2.0)
    assert rates[id(net.exchanges[0].convs[1].weight)] == 3.0 and len(rates) == len(list(net.parameters()))


def test_what_is_tested_and_kept_is_the_moving_average():
    """Two steps by hand; without averaging the newest weights are kept."""
    settings = replace(SETTINGS, batch=40, epochs=2, patience=99, averaging=0.75)
    plain, averaged, seen = network(), network(), [weights(network())]
    fit(plain, data(), replace(settings, averaging=0.0), 5, CPU, after_epoch=lambda _: seen.append(weights(plain)))
    history = fit(averaged, data(), settings, 5, CPU)
    average = seen[0]
    kept = []
    for newest in seen[1:]:
        average = 0.75 * average + 0.25 * newest
        kept.append(average)
    best = min(range(2), key=lambda i: history[i]["validation_loss"])
    torch.testing.assert_close(weights(averaged), kept[best], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("settings", [{"averaging": 0.9}, {"optimiser": "adamw", "learning_rate": 0.003},
                                      {"probe_start": True}])
def test_every_kind_of_training_resumes_to_the_same_bits(settings, tmp_path):
    settings = replace(SETTINGS, **settings)
    undisturbed, resumed = network(), network(seed=9)
    expected = fit(undisturbed, data(), settings, 1, CPU)

    def cut(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(network(), data(), settings, 1, CPU, tmp_path, after_epoch=cut)
    assert fit(resumed, data(), settings, 1, CPU, tmp_path) == expected
    assert torch.equal(weights(resumed), weights(undisturbed))
