"""Each way to make one step of several losses, on problems of two parameters, against its paper worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from aesthemo_lib.models import inference
from aesthemo_lib.models.networks import build
from aesthemo_lib.tasks import PATENT_TASKS, Task
from aesthemo_lib.training import fit as loop
from aesthemo_lib.training.aggregation import AGGREGATIONS, aggregation
from aesthemo_lib.training.config import Config
from aesthemo_lib.training.fit import Data, Settings, fit
from aesthemo_lib.training.losses import joint_loss, task_losses
from aesthemo_studies.gradient_aggregation import gramian

CPU = torch.device("cpu")
CONFLICT = [[2.0, 0.0], [-1.0, 1.0]]
AGREE = [[2.0, 0.0], [1.0, 1.0]]
THREE = [[2.0, 0.3], [-1.0, 1.0], [0.2, -1.5]]


def tasks(number: int, weights=None) -> tuple[Task, ...]:
    return tuple(Task(f"t{i}", ("no", "yes"), 1.0 if weights is None else weights[i]) for i in range(number))


def step(name: str, gradients, weights=None) -> torch.Tensor:
    """The gradient that two shared parameters get from linear losses with these gradients, the rows."""
    pytest.importorskip("torchjd")
    x = nn.Parameter(torch.zeros(2))
    of = tasks(len(gradients), weights)
    losses = {task.name: torch.tensor(row) @ x for task, row in zip(of, gradients, strict=True)}
    aggregation(name, of, [x]).backward(losses)
    return x.grad


def cagrad_by_search(gradients, c: float) -> np.ndarray:
    """Liu et al. 2021, equation 3: of all d within c |g0| of the mean g0 the one whose worst task gains most."""
    g = np.array(gradients)
    mean, angle = g.mean(axis=0), np.linspace(0, 2 * np.pi, 400_001)
    around = mean + c * np.linalg.norm(mean) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return around[(around @ g.T).min(axis=1).argmax()]


@pytest.mark.parametrize("name", ["upgrad", "pcgrad"])
def test_two_tasks_in_conflict_are_projected(name):
    """g1 - (g1.g2 / |g2|^2) g2 = (1, 1) and g2 - (g1.g2 / |g1|^2) g1 = (0, 1); of two tasks UPGrad is PCGrad."""
    np.testing.assert_allclose(step(name, CONFLICT), [1, 2], atol=5e-3)
    np.testing.assert_allclose(step(name, CONFLICT, weights=[1, 0.25]), [1, 1.25], atol=5e-3)  # .25 (0, 1) then


@pytest.mark.parametrize("name", ["sum", "upgrad", "pcgrad"])
def test_without_a_conflict_it_is_the_sum(name):
    np.testing.assert_allclose(step(name, AGREE), [3, 1], atol=2e-3)
    np.testing.assert_allclose(step(name, AGREE, weights=[1, 0.25]), [2.25, 0.25], atol=2e-3)


@pytest.mark.parametrize("gradients", [CONFLICT, AGREE, THREE])
def test_cagrad_is_the_best_for_the_worst_task(gradients):
    expected = len(gradients) * cagrad_by_search(gradients, 0.4)
    np.testing.assert_allclose(step("cagrad", gradients), expected, atol=5e-3)


def test_upgrad_of_three_tasks_is_the_sum_of_projections_on_the_dual_cone():
    """Each gradient's nearest point that no task objects to, found on a fine grid."""
    g = np.array(THREE)
    axis = np.linspace(-3, 3, 1201)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    cone = grid[(grid @ g.T >= -1e-9).all(axis=1)]
    nearest = [cone[((cone - row) ** 2).sum(axis=1).argmin()] for row in g]
    np.testing.assert_allclose(step("upgrad", THREE), np.sum(nearest, axis=0), atol=0.02)


def test_pcgrad_of_three_tasks_is_algorithm_1():
    """One after another, in one of the two orders that each task may meet the others in."""
    g = np.array(THREE)

    def projected(i, order):
        d = g[i].copy()
        for j in order:
            if d @ g[j] < 0:
                d -= (d @ g[j]) / (g[j] @ g[j]) * g[j]
        return d

    possible = [projected(0, a) + projected(1, b) + projected(2, c) for a in ([1, 2], [2, 1])
                for b in ([0, 2], [2, 0]) for c in ([0, 1], [1, 0])]
    torch.manual_seed(0)
    steps = {tuple(step("pcgrad", THREE).numpy().round(4)) for _ in range(40)}
    assert len(steps) > 1 and steps <= {tuple(p.round(4) + 0.0) for p in np.float32(possible)}


def test_uncertainty_is_kendalls_formula():
    """L1 / sigma1^2 + L2 / sigma2^2 + log sigma1 + log sigma2, and its gradients."""
    x, of = nn.Parameter(torch.tensor([0.7, 0.2])), tasks(2, weights=[1, 0.25])
    made = aggregation("uncertainty", of, [x])
    with torch.no_grad():
        made.log_variance.copy_(torch.tensor([0.4, -1.0]))
    a, b = torch.tensor(CONFLICT)
    made.backward({"t0": 3 + a @ x, "t1": 5 + b @ x})
    sigma = np.exp([0.2, -0.5])
    np.testing.assert_allclose(x.grad, a / sigma[0] ** 2 + b / sigma[1] ** 2, rtol=1e-5)
    values = np.array([3 + 1.4, 5 - 0.7 + 0.2])

    def kendall(s):
        return (values / np.exp(s / 2) ** 2 + np.log(np.exp(s / 2))).sum()

    s, h = np.array([0.4, -1.0]), 1e-5
    slopes = [(kendall(s + h * e) - kendall(s - h * e)) / (2 * h) for e in np.eye(2)]
    np.testing.assert_allclose(made.log_variance.grad, slopes, rtol=1e-4)
    assert made.weights() == pytest.approx({"weight_t0": math.exp(-0.4), "weight_t1": math.e})


@pytest.mark.parametrize("name", ["upgrad", "pcgrad", "cagrad"])
def test_a_task_without_a_gradient_has_no_say_and_a_head_keeps_its_own(name):
    np.testing.assert_allclose(step(name, [[2.0, 1.0], [0.0, 0.0]]), [2, 1], atol=1e-6)
    shared, head = nn.Parameter(torch.tensor([1.0, 3.0])), nn.Parameter(torch.ones(2))
    a, b = torch.tensor(CONFLICT)
    losses = {"t0": a @ shared, "t1": b @ shared * (head * torch.tensor([2.0, 3.0])).sum() / 5}
    aggregation(name, tasks(2, [1, 0.25]), [shared, head]).backward(losses)
    b_shared = b @ shared.detach()
    assert b_shared == 2
    np.testing.assert_allclose(head.grad, 0.25 * b_shared * torch.tensor([2.0, 3.0]) / 5, atol=1e-6)
    assert not torch.allclose(shared.grad, a + 0.25 * b, atol=0.05)


def test_inner_products_over_pieces():
    flat = torch.randn(2, 7)
    pieces = [(flat[0, :3], flat[1, :3]), (flat[0, 3:].reshape(2, 2), flat[1, 3:].reshape(2, 2))]
    torch.testing.assert_close(gramian(pieces), (flat @ flat.T).double())


SETTINGS = Settings("tiny", "none", resize=20, crop=16, batch=8, epochs=2, patience=2, learning_rate=0.02)


def data(n=40) -> Data:
    rng = np.random.default_rng(0)
    labels = {"aesthetics": np.arange(n) % 2, "emotion": np.where(np.arange(n) % 5 == 4, -1, np.arange(n) % 8)}
    pixels = rng.integers(0, 256, (n, 20, 20, 3), dtype=np.uint8)
    return Data(pixels, pixels.mean(axis=0).astype(np.float32), labels, np.arange(n - 8), np.arange(n - 8, n))


def trained(name: str, method="cross_branch", **changes) -> tuple[torch.Tensor, list[dict]]:
    if name not in ("sum", "uncertainty"):
        pytest.importorskip("torchjd")
    net = build(method, PATENT_TASKS, "tiny", "none", "diagonal" if method == "cross_branch" else None)
    history = fit(net, data(), replace(SETTINGS, aggregation=name), 0, CPU, **changes)
    return torch.cat([p.detach().flatten() for p in net.parameters()]), history


@pytest.fixture
def one_precision(monkeypatch):
    for module in (loop, inference):
        monkeypatch.setattr(module, "fast_precision", lambda device: torch.float32)


def test_the_sum_is_the_joint_losss_own_gradient_to_the_bit():
    nets = [build("cross_branch", PATENT_TASKS, "tiny", "none", "diagonal") for _ in range(2)]
    images, d = torch.randn(8, 3, 16, 16), data()
    labels = {name: torch.tensor(values[:8]) for name, values in d.labels.items()}
    joint_loss(task_losses(nets[0](images), labels), PATENT_TASKS).backward()
    aggregation("sum", PATENT_TASKS, nets[1].parameters()).backward(task_losses(nets[1](images), labels))
    for p, q in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


@pytest.mark.parametrize("method", ["cross_branch", "shared_bottom"])
def test_each_trains_to_something_of_its_own(method, one_precision):
    ends = {name: trained(name, method)[0] for name in AGGREGATIONS if name != "pcgrad"}  # of two tasks, UPGrad's
    names = list(ends)
    assert all(torch.isfinite(end).all() for end in ends.values())
    for i, name in enumerate(names):
        for other in names[i + 1:]:
            assert not torch.allclose(ends[name], ends[other], rtol=1e-3, atol=1e-5), (name, other)


def test_one_task_has_nothing_to_weigh(one_precision):
    """The branches of 'independent' are trained one by one: whatever is asked for, by their own loss."""
    ends = []
    for name in ("sum", "uncertainty", "cagrad"):
        net = build("independent", PATENT_TASKS, "tiny", "none").single_task(1)
        fit(net, data(), replace(SETTINGS, aggregation=name), 0, CPU)
        ends.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[0], ends[2])


@pytest.mark.parametrize("name", ["uncertainty", "upgrad"])
def test_cut_off_it_resumes_to_the_same_bits(name, tmp_path, one_precision):
    end, history = trained(name)
    if name == "uncertainty":
        learned = [row["weight_emotion"] for row in history]
        assert 1 > learned[0] > learned[1]  # the larger loss is weighed less and less

    def cut(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(name, state=tmp_path, after_epoch=cut)
    again, history_again = trained(name, state=tmp_path)
    assert torch.equal(again, end) and history_again == history


def test_unknown_names_are_refused_before_any_work():
    said = "aggregation: unknown 'mgda'; choose one of sum, uncertainty, hard_tasks, upgrad"
    with pytest.raises(ValueError, match=said):
        Config(settings={"aggregation": "mgda"})


def test_without_torchjd_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchjd", None)
    with pytest.raises(ImportError, match=r"aggregation 'upgrad' needs the package torchjd.*pip install"):
        aggregation("upgrad", PATENT_TASKS, [])
