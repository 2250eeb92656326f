"""Who is compared: probes, late fusion, and small heads on frozen features that exchange maps or answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold
from torch import Tensor, nn

from aesthemo_lib.models.fusion import CrossBranchLayer, CrossStitchUnit, ExchangeLayer, NDDRLayer

HIDDEN, EXPERTS, STEPS = 16, 4, 40
"""Units of a head's hidden layer; hidden layers that 'mmoe' mixes; iterations of L-BFGS on all photographs at once,
which needs no learning rate."""
PROBE_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""C of the logistic regressions, chosen by inner folds in every draw."""
FOLDS = 5


@dataclass(frozen=True)
class Draw:
    """One draw: the rich task's photographs, of which the first ``labels`` also have the few task's label.

    Attributes:
        x, test: (n, D) and (M, D) features.
        few, rich: (labels,) and (n,) training labels.
        truth: the (M,) labels of the test, few task first.
    """

    x: np.ndarray
    few: np.ndarray
    rich: np.ndarray
    test: np.ndarray
    truth: tuple[np.ndarray, np.ndarray]

    def aucs(self, few: np.ndarray, rich: np.ndarray) -> dict[str, float]:
        """AUC of both tasks' scores on the test."""
        return {"auc_few": roc_auc_score(self.truth[0], few), "auc_rich": roc_auc_score(self.truth[1], rich)}


def regression(x: np.ndarray, y: np.ndarray, strength: float) -> LogisticRegression:
    """A logistic regression with a quadratic penalty, by Newton's method."""
    return LogisticRegression(C=strength, solver="newton-cholesky", max_iter=50).fit(x, y)


def probe(x: np.ndarray, y: np.ndarray) -> tuple[LogisticRegression, np.ndarray]:
    """A logistic regression whose C has the best log-loss over inner folds, and the logits of the held-out folds."""
    x, held = x.astype(np.float64), {c: np.zeros(len(y)) for c in PROBE_STRENGTHS}
    for train, rest in KFold(FOLDS, shuffle=True, random_state=0).split(x):
        if len(np.unique(y[train])) == 2:
            for strength, logits in held.items():
                logits[rest] = regression(x[train], y[train], strength).decision_function(x[rest])
    best = min(held, key=lambda c: np.logaddexp(0, np.where(y == 1, -1, 1) * held[c]).sum())
    return regression(x, y, best), held[best]


def probes(draw: Draw, rich: tuple[LogisticRegression, np.ndarray]) -> dict[str, dict[str, float]]:
    """The frozen probe, late fusion of two probes, and a probe that also receives the rich task's answer."""
    n = len(draw.few)
    (rich_model, rich_held), (few_model, few_held) = rich, probe(draw.x[:n], draw.few)
    few_test, rich_test = few_model.decision_function(draw.test), rich_model.decision_function(draw.test)
    few_train = np.concatenate([few_held, few_model.decision_function(draw.x[n:])]) if n < len(draw.x) else few_held
    both, both_test = np.stack([few_train, rich_held], axis=1), np.stack([few_test, rich_test], axis=1)
    fused = [regression(both[:len(y)], y, 1.0).decision_function(both_test) for y in (draw.few, draw.rich)]
    after = receiving(draw.x[:n], draw.few, rich_held[:n])(draw.test, rich_test)
    return {
        "linear_probe": draw.aucs(few_test, rich_test), "late_fusion": draw.aucs(*fused),
        "cross_branch.answers_in_turn": draw.aucs(after, rich_test),
    }


def receiving(x: np.ndarray, y: np.ndarray, more: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A probe that receives more numbers from the other task; returns a function from features and these to logits.

    They are scaled up, so that the penalty that 128 features need leaves their weights nearly free.

    Args:
        more: (n,) answers, or (n, K) channels of a map.
    """
    scale = 10 / np.maximum(more.std(axis=0), 1e-6)
    model, _ = probe(np.column_stack([x, more * scale]), y)
    return lambda x, more: model.decision_function(np.column_stack([x, more * scale]))


class SomeChannels(CrossBranchLayer):
    """A cross-branch layer that sends the first ``sent`` channels only."""

    def __init__(self, channels: int, sent: int):
        super().__init__(2, channels)
        self.register_buffer("sent", (torch.arange(channels) < sent).float()[:, None, None])

    def unwatched(self, maps: Sequence[Tensor]) -> list[Tensor]:
        sent = [x * self.sent for x in maps]
        return [self.receive(t, [x if s == t else sent[s] for s, x in enumerate(maps)]) for t in range(2)]


class Heads(nn.Module):
    """Two heads with a hidden layer on frozen features, that are joined as the contender's name says.

    Args:
        contender: 'independent', 'shared_bottom', 'cross_stitch', 'nddr', 'cross_branch.<start>' (hidden maps; its
            start, or 'own_twice'), 'cross_branch.channels_<k>' (k of their channels), 'cross_branch.answers' (logits: K
            is the number of classes; ours), 'mmoe' (a gate of each task mixes four hidden layers; Ma et al., KDD 2018)
            or 'mtan' (each task attends to the units of a shared hidden layer; Liu et al., CVPR 2019).
    """

    def __init__(self, contender: str, inputs: int, hidden: int = HIDDEN):
        super().__init__()
        kind, _, variant = contender.partition(".")
        hiddens = {"shared_bottom": 1, "mtan": 1, "mmoe": EXPERTS}.get(kind, 2)
        self.hidden = nn.ModuleList([nn.Linear(inputs, hidden) for _ in range(hiddens)])
        self.answer = nn.ModuleList([nn.Linear(hidden, 2) for _ in range(2)])
        routed = {"mmoe": (inputs, EXPERTS), "mtan": (hidden, hidden)}.get(kind)
        self.route = nn.ModuleList([nn.Linear(*routed) for _ in range(2)]) if routed else None
        self.after = variant == "answers"
        self.exchange = _exchange(kind, variant, 2 if self.after else hidden)
        self.start = [[w.detach().clone() for w in self._received(t)] for t in range(2)]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, D) to the (N, 2) logits of the few and of the rich task."""
        maps = self._routed(x, [torch.relu(layer(x)) for layer in self.hidden])  # (N, H)
        if self.exchange is not None and not self.after:
            maps = self._exchanged(maps)
        logits = [layer(z) for layer, z in zip(self.answer, maps, strict=True)]
        return self._exchanged(logits) if self.after else logits

    def _routed(self, x: Tensor, maps: list[Tensor]) -> list[Tensor]:
        """Each task's hidden map."""
        if self.route is None:
            return maps if len(maps) == 2 else 2 * maps
        if len(maps) == 1:
            return [maps[0] * attention(maps[0]).sigmoid() for attention in self.route]
        experts = torch.stack(maps, dim=2)  # (N, H, E)
        return [(experts @ gate(x).softmax(1)[..., None])[..., 0] for gate in self.route]

    def _exchanged(self, values: Sequence[Tensor]) -> list[Tensor]:
        return [z[..., 0, 0] for z in self.exchange([v[..., None, None] for v in values])]

    def penalties(self) -> list[Tensor]:
        """Half the squared distance of each task's own weights from 0, and of what it receives by from its start."""
        total = []
        for t in range(2):
            own = [self.hidden[t]] if len(self.hidden) == 2 else [*self.hidden] if t else []  # else the rich task's
            layers = [self.answer[t], *own, *([self.route[t]] if self.route else [])]
            moved = [received - start for received, start in zip(self._received(t), self.start[t], strict=True)]
            total.append(sum(w.square().sum() / 2 for w in [*(layer.weight for layer in layers), *moved]))
        return total

    def _received(self, t: int) -> list[Tensor]:
        """The weights by which a task receives."""
        if self.exchange is None:
            return []
        stitched = isinstance(self.exchange, CrossStitchUnit)
        return [self.exchange.shares[t] if stitched else self.exchange.convs[t].weight]


def _exchange(kind: str, variant: str, channels: int) -> ExchangeLayer | None:
    sent = variant.removeprefix("channels_")
    if kind == "cross_branch" and sent.isdigit():
        return SomeChannels(channels, int(sent))
    if kind == "cross_branch":
        start = "random" if variant == "random" else "diagonal"
        return CrossBranchLayer(2, channels, start, own_twice=variant == "own_twice")
    return {"cross_stitch": CrossStitchUnit, "nddr": NDDRLayer}[kind](2, channels) if kind in (
        "cross_stitch", "nddr") else None


def trained(contender: str, x: np.ndarray, few: np.ndarray, rich: np.ndarray, strengths: Sequence[float],
            seed: int) -> Heads:
    """Heads that minimise the mean cross-entropies of both tasks, weights alike, plus penalties / (C labels).

    NDDR's normalisations start from what enters them and keep these statistics, as in preset teach.

    Args:
        x: (n, D) float32; ``few`` labels its first rows, ``rich`` all.
        strengths: C of what serves only the few task, and of the rest, as in a logistic regression.
    """
    torch.manual_seed(seed)
    network = Heads(contender, x.shape[1])
    inputs, truths = torch.from_numpy(x), [torch.from_numpy(few), torch.from_numpy(rich)]
    if isinstance(network.exchange, NDDRLayer):
        with torch.no_grad(), network.exchange.start_norms():
            network(inputs)
    network.eval()
    search = torch.optim.LBFGS(network.parameters(), max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        loss = torch.zeros(())
        for logits, truth, penalty, c in zip(network(inputs), truths, network.penalties(), strengths, strict=True):
            n = len(truth)
            loss = loss + nn.functional.cross_entropy(logits[:n], truth) + penalty / (c * n)
        loss.backward()
        return loss

    search.step(closure)
    return network


def scores(network: Heads, x: np.ndarray) -> list[np.ndarray]:
    """(N,) logit of class 1 minus that of class 0, for the few and the rich task."""
    with torch.no_grad():
        return [(logits[:, 1] - logits[:, 0]).numpy() for logits in network(torch.from_numpy(x))]


def maps_in_turn(network: Heads, draw: Draw) -> dict[str, float]:
    """The experiment between: a probe that receives all channels of the hidden map of a rich head learnt before."""
    n = len(draw.few)
    with torch.no_grad():
        own, test = (torch.relu(network.hidden[1](torch.from_numpy(x))).numpy() for x in (draw.x, draw.test))
    return draw.aucs(receiving(draw.x[:n], draw.few, own[:n])(draw.test, test), scores(network, draw.test)[1])
