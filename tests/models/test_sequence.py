"""The BiLSTM over tasks against a plain rewrite of its recurrence, and its loss by hand."""

import pytest
import torch

from aesthemo_lib.models.networks import build
from aesthemo_lib.tasks import PATENT_TASKS, Task
from aesthemo_lib.training.aggregation import HardTasks, aggregation
from aesthemo_lib.training.config import Config
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import train

TASKS = (Task("x", ("a", "b")), Task("y", ("a", "b", "c")), Task("z", ("a", "b")))


def cell(x, h, c, lstm, suffix):
    """One step of an LSTM, from its equations (Hochreiter & Schmidhuber; PyTorch's order of gates i, f, g, o)."""
    w = {name: getattr(lstm, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    i, f, g, o = (x @ w["weight_ih"].T + w["bias_ih"] + h @ w["weight_hh"].T + w["bias_hh"]).chunk(4, dim=1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


@pytest.mark.parametrize("order", [None, ["z", "x", "y"]])
@torch.no_grad()
def test_logits_are_the_recurrence_worked_out_step_by_step(order):
    network = build("bilstm", TASKS, "tiny", "none", seed=1, order=order, width=5).eval()
    images = torch.randn(2, 3, 32, 32)
    front = network.front(images)
    places = [[t.name for t in TASKS].index(name) for name in order or "xyz"]
    steps = [torch.relu(network.features[i](front)) for i in places]
    states = []
    for suffix, walk in (("", steps), ("_reverse", steps[::-1])):
        h, c, outputs = torch.zeros(2, 5), torch.zeros(2, 5), []
        for x in walk:
            h, c = cell(x, h, c, network.scan, suffix)
            outputs.append(h)
        states.append(outputs if not suffix else outputs[::-1])
    flat = torch.cat([torch.cat(pair, dim=1) for pair in zip(*states, strict=True)], dim=1)  # (B, T * 2D)
    logits = network.last(flat)
    expected = {"x": logits[:, :2], "y": logits[:, 2:5], "z": logits[:, 5:]}
    for name, values in network(images).items():
        torch.testing.assert_close(values, expected[name])


def test_every_task_reaches_every_other():
    network = build("bilstm", TASKS, "tiny", "none").eval()
    network(torch.randn(2, 3, 32, 32))["x"].sum().backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in network.features)


def test_an_order_names_each_task_once():
    with pytest.raises(ValueError, match="each of x, y, z once, got"):
        build("bilstm", TASKS, "tiny", "none", order=["x", "y", "y"])


def test_the_loss_weights_by_hand():
    """a = 1, 2, 6: l_avg 3, l_max - l_min 5, so w = .6, .8, 1.6 and L = (.6 + 1.6 + 9.6) / 3."""
    values = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    assert HardTasks.shares(values.detach()).tolist() == pytest.approx([0.6, 0.8, 1.6])
    losses = {task.name: value for task, value in zip(TASKS, values, strict=True)}
    aggregation("hard_tasks", TASKS, ()).backward(losses)
    assert values.grad.tolist() == pytest.approx([0.6 / 3, 0.8 / 3, 1.6 / 3])  # none through the weights
    assert HardTasks.shares(torch.ones(3)).tolist() == [1, 1, 1]


def test_it_trains_and_is_read_back(tmp_path):
    run = train(Config("scenes", "bilstm", preset="smoke"), tmp_path / "runs", tmp_path / "scenes")
    assert run.settings.aggregation == "hard_tasks" and set(run.metrics) == {task.name for task in PATENT_TASKS}
    network, _ = Run(run.folder).network("cpu")
    assert set(network(torch.zeros(1, 3, 32, 32))) == {"aesthetics", "emotion"}
