"""The sequence of tasks: rules counted by hand, networks against the library's and against a plain rewrite."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from aesthemo_lib.data.readers import scenes as reader
from aesthemo_lib.models.backbones import Backbone
from aesthemo_lib.models.sequence import TaskSequence
from aesthemo_lib.tasks import Task
from aesthemo_studies.cells import STUDIES
from aesthemo_studies.few_labels.contenders import regression
from aesthemo_studies.task_sequence import heads
from aesthemo_studies.task_sequence.attributes import FREE, RULED, categories, decoded, faults, sheets


def sheet(*yes: str) -> np.ndarray:
    return np.isin(RULED, yes)


def test_faults_by_hand():
    answers = np.stack([
        sheet("mood", "awe", "sea"),                  # a right sheet
        sheet("mood", "awe", "contentment", "sea"),   # two motifs
        sheet("mood", "awe"),                         # no place
        sheet("awe", "sea"),                          # a positive motif in a negative mood
        sheet("fear", "awe", "sea", "city"),          # two motifs, two places, and one motif of the other mood
    ])
    actual = faults(answers)
    assert actual["two"].tolist() == [False, True, False, False, True]
    assert actual["none"].tolist() == [False, False, True, False, False]
    assert actual["mood"].tolist() == [False, False, False, True, True]
    assert actual["any"].tolist() == [False, True, True, True, True]
    actual = categories(np.array([[1, 1, 0, 0, 1, 0, 0], [0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0, 0]], bool))
    assert actual["two"].tolist() == [False, True, False] and actual["none"].tolist() == [False, False, True]


def test_true_sheets_break_no_rule_and_free_attributes_know_nothing_of_one_another():
    factors = reader.sample(4000, seed=3)
    assert not faults(sheets(factors)).to_numpy().any()
    first = np.unique(reader.scene_of(np.arange(4000)))
    free = sheets(factors.iloc[first], FREE)
    links = np.corrcoef(free.T)[np.triu_indices(len(FREE), 1)]
    assert np.abs(links).max() < 0.08 and np.allclose(free.mean(axis=0), 0.5, atol=0.04)


def test_who_knows_the_rules_breaks_none():
    logits = np.random.default_rng(0).normal(size=(50, len(RULED)))
    answers = decoded(logits)
    assert not faults(answers).to_numpy().any()
    assert np.array_equal(answers[:, :5], logits[:, :5] > 0)
    assert (answers[:, 6:14].argmax(axis=1) == logits[:, 6:14].argmax(axis=1)).all()


def test_the_bilstm_is_the_librarys():
    torch.manual_seed(0)
    tasks = tuple(Task(f"t{i}", ("no", "yes")) for i in range(4))
    backbone = Backbone("none", nn.ModuleList([nn.Identity()]), nn.Sequential(nn.Identity(), nn.Linear(6, 2)), [6],
                        (1, 1, 1), "none")
    order = [2, 0, 3, 1]
    library = TaskSequence(tasks, [backbone] * 4, order=[f"t{i}" for i in order], width=heads.WIDTH)
    mine = heads.BiLSTM(6, 4, order)
    with torch.no_grad():
        mine.features.layer.weight.copy_(torch.cat([layer.weight for layer in library.features]))
        mine.features.layer.bias.copy_(torch.cat([layer.bias for layer in library.features]))
        mine.scan.load_state_dict(library.scan.state_dict())
        mine.last.weight.copy_(library.last.weight[1::2])
        mine.last.bias.copy_(library.last.bias[1::2])
        x = torch.randn(5, 6)
        expected = torch.stack([library(x)[f"t{i}"][:, 1] for i in range(4)], dim=1)
        assert torch.allclose(mine(x), expected, atol=1e-6)


def test_an_lstm_that_is_fed_its_own_answers_says_what_it_says_when_told_them():
    torch.manual_seed(0)
    network, x = heads.AnswersLSTM(6, 5, [3, 1, 4, 0, 2]), torch.randn(9, 6)
    nn.init.normal_(network.scan.weight_ih_l0, std=1.0)
    with torch.no_grad():
        free = network(x)
        assert torch.allclose(network(x, (free > 0).float()), free, atol=1e-5)
        other = network(x, (free <= 0).float())
    assert torch.allclose(other[:, 3], free[:, 3], atol=1e-5), "the first has heard of no answer"
    assert not torch.allclose(other, free, atol=1e-2)


def test_networks_have_the_sizes_that_are_said():
    bilstm, mlp = (heads.size(heads.HEADS[name](128, 18, range(18))) for name in ("bilstm", "mlp"))
    assert abs(mlp / bilstm - 1) < 0.01
    x = torch.randn(4, 128)
    for kind in heads.HEADS.values():
        assert kind(128, 18, range(18))(x).shape == (4, 18)


def test_separate_heads_are_separate_and_cross_branch_is_not():
    x = torch.randn(4, 6)
    for name, heard in (("separate", False), ("cross_branch", True), ("bilstm", True)):
        torch.manual_seed(0)
        network = heads.HEADS[name](6, 3, range(3))
        seen = []
        network.features.register_forward_hook(lambda _, given, actual, seen=seen: seen.append(actual))
        logits = network(x)
        slope = torch.autograd.grad(logits[:, 0].sum(), seen[0])[0].abs().sum(dim=(0, 2))
        assert (slope[1:] > 0).all() == heard


def test_a_chain_by_hand():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 3)), rng.random((80, 2)) < 0.5
    y[:, 0] = y[:, 1] ^ (rng.random(80) < 0.1)
    y = y.astype(int)
    actual = heads.chain(x[:60], y[:60], x[60:], order=[1, 0])
    first = regression(x[:60], y[:60, 1], heads.CHAIN_STRENGTH)
    assert np.allclose(actual[:, 1], first.decision_function(x[60:]))
    fed = np.column_stack([x[:60], 20 * y[:60, 1] - 10])
    second = regression(fed, y[:60, 0], heads.CHAIN_STRENGTH)
    answer = np.where(first.decision_function(x[60:]) > 0, 10, -10)
    assert np.allclose(actual[:, 0], second.decision_function(np.column_stack([x[60:], answer])))
    assert ((actual[:, 0] > 0) == (actual[:, 1] > 0)).mean() > 0.8, "it has learnt that the two go together"


def test_a_rule_is_learnt_from_answers_by_the_smallest_of_trainings(monkeypatch):
    """Two tasks that exclude one another, and features that hardly say which: fed answers exclude one another too."""
    monkeypatch.setattr(heads, "EPOCHS", 30)
    rng = np.random.default_rng(0)
    y = np.eye(2)[rng.integers(0, 2, 400)]
    x = torch.from_numpy((y[:, :1] + rng.normal(0, 2, (400, 1))).astype(np.float32))
    y = torch.from_numpy(y).float()
    network = heads.trained("answers", x[:300], y[:300], (x[300:350], y[300:350]), range(2), 0)
    with torch.no_grad():
        answers = network(x[350:]) > 0
    assert (answers.sum(1) == 1).float().mean() > 0.9


def test_the_committed_verdicts_follow_from_the_committed_rows():
    rows, verdicts = (pd.read_csv(STUDIES / name) for name in ("task_sequence.csv", "task_sequence.verdicts.csv"))
    ruled = rows[rows["source"] == "ruled"].pivot(index="collection", columns="contender", values="any")
    row = verdicts.query("source == 'ruled' and measure == 'any' and contender == 'answers' and reference == 'bilstm'")
    d = ruled["answers"] - ruled["bilstm"]
    assert row["mean"].item() == pytest.approx(d.mean(), abs=1e-4) and row["above"].item() == (d > 0).sum()
    assert (rows.groupby(["source", "collection"])["contender"].nunique().groupby("source").nunique() == 1).all()
