"""Who is compared: heads on frozen features that answer T yes/no tasks apart, in a sequence, or fed earlier answers."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from aesthemo_lib.models.fusion import CrossBranchLayer

from ..few_labels.contenders import regression

WIDTH = 32
"""Units of each task's feature, and of each direction's state."""
BATCH, EPOCHS, PATIENCE, RATE, DECAY = 50, 100, 10, 1e-3, 0.02
"""Pictures a step, most passes, passes without a better validation loss before it stops, and AdamW's numbers."""
CHAIN_STRENGTH = 0.3
"""C of the chain's logistic regressions, chosen on the pilot's collections."""


class TaskFeatures(nn.Module):
    """One feature a task, s_j = ReLU(P_j f + p_j): (B, D) to (B, T, W)."""

    def __init__(self, inputs: int, tasks: int, width: int = WIDTH):
        super().__init__()
        self.layer, self.shape = nn.Linear(inputs, tasks * width), (tasks, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).unflatten(1, self.shape).relu()


class OneEach(nn.Module):
    """A linear layer of its own for each task: (B, T, W) to (B, T) logits."""

    def __init__(self, tasks: int, width: int = WIDTH):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(tasks, width) / width**0.5), nn.Parameter(torch.zeros(tasks))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight).sum(-1) + self.bias


class Separate(nn.Module):
    """Each task has a hidden layer and an answer of its own: nothing is shared but the frozen features."""

    def __init__(self, inputs: int, tasks: int, order: Sequence[int]):
        super().__init__()
        self.features, self.answer = TaskFeatures(inputs, tasks), OneEach(tasks)

    def forward(self, x: Tensor, truth: Tensor | None = None) -> Tensor:
        return self.answer(self.features(x))


class CrossBranch(Separate):
    """``Separate`` with a cross-branch layer between the hidden layers and the answers."""

    def __init__(self, inputs: int, tasks: int, order: Sequence[int]):
        super().__init__(inputs, tasks, order)
        self.exchange = CrossBranchLayer(tasks, WIDTH)

    def forward(self, x: Tensor, truth: Tensor | None = None) -> Tensor:
        maps = self.exchange([s[..., None, None] for s in self.features(x).unbind(1)])
        return self.answer(torch.stack(maps, 1)[..., 0, 0])


class MLP(nn.Sequential):
    """Two shared hidden layers, as wide as gives it the BiLSTM's number of parameters."""

    def __init__(self, inputs: int, tasks: int, order: Sequence[int]):
        wanted, b = size(BiLSTM(inputs, tasks, order)), inputs + tasks + 2
        hidden = round((-b + (b**2 + 4 * (wanted - tasks)) ** 0.5) / 2)
        super().__init__(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                         nn.Linear(hidden, tasks))

    def forward(self, x: Tensor, truth: Tensor | None = None) -> Tensor:
        return super().forward(x)


class BiLSTM(nn.Module):
    """The source's network behind its front, as ``models.sequence.TaskSequence`` has it: scans, one layer, reshape."""

    def __init__(self, inputs: int, tasks: int, order: Sequence[int]):
        super().__init__()
        self.order, self.features = list(order), TaskFeatures(inputs, tasks)
        self.scan = nn.LSTM(WIDTH, WIDTH, batch_first=True, bidirectional=True)
        self.last = nn.Linear(tasks * 2 * WIDTH, tasks)

    def forward(self, x: Tensor, truth: Tensor | None = None) -> Tensor:
        scanned, _ = self.scan(self.features(x)[:, self.order])  # (B, T, 2W)
        return self.last(scanned.flatten(1))


class AnswersLSTM(nn.Module):
    """An LSTM that is fed each task's feature and the answer before: the true one in training, its own afterwards."""

    def __init__(self, inputs: int, tasks: int, order: Sequence[int]):
        super().__init__()
        self.order, self.back = list(order), torch.tensor(np.argsort(order))
        self.features, self.answer = TaskFeatures(inputs, tasks), OneEach(tasks, 2 * WIDTH)
        self.scan = nn.LSTM(WIDTH + 1, 2 * WIDTH, batch_first=True)

    def forward(self, x: Tensor, truth: Tensor | None = None) -> Tensor:
        features = self.features(x)[:, self.order]  # (B, T, W)
        weight, bias = self.answer.weight[self.order], self.answer.bias[self.order]
        start = x.new_zeros(len(x), 1)
        if truth is not None:
            before = torch.cat([start, 2 * truth[:, self.order[:-1]] - 1], 1)[..., None]
            scanned, _ = self.scan(torch.cat([features, before], 2))
            return ((scanned * weight).sum(-1) + bias)[:, self.back]
        logits, state, before = [], None, start
        for j in range(len(self.order)):
            scanned, state = self.scan(torch.cat([features[:, j], before], 1)[:, None], state)
            logits.append((scanned[:, 0] * weight[j]).sum(-1) + bias[j])
            before = logits[-1][:, None].sign()
        return torch.stack(logits, 1)[:, self.back]


HEADS: dict[str, type[nn.Module]] = {
    "separate": Separate, "mlp": MLP, "cross_branch": CrossBranch, "bilstm": BiLSTM, "answers": AnswersLSTM,
}


def size(network: nn.Module) -> int:
    """The number of parameters."""
    return sum(p.numel() for p in network.parameters())


def trained(kind: str, x: Tensor, y: Tensor, held: tuple[Tensor, Tensor], order: Sequence[int], seed: int) -> nn.Module:
    """A network of ``HEADS`` that is trained until the validation loss stops falling; its best state.

    The loss is the sum of the tasks' cross-entropies, so that a task's step does not shrink with their number.

    Args:
        x, y: (N, D) features and (N, T) true answers, 0 or 1.
        held: the same for validation.
        order: in which a sequence reads the tasks.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = HEADS[kind](x.shape[1], y.shape[1], order)
    search = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    loss_of = lambda x, y: functional.binary_cross_entropy_with_logits(network(x, y), y) * y.shape[1]  # noqa: E731
    best, state, since = float("inf"), network.state_dict(), 0
    for _ in range(EPOCHS):
        for rows in np.array_split(rng.permutation(len(x)), len(x) // BATCH):
            search.zero_grad()
            loss_of(x[rows], y[rows]).backward()
            search.step()
        with torch.no_grad():
            loss = float(loss_of(*held))
        since += 1
        if loss < best:
            best, state, since = loss, copy.deepcopy(network.state_dict()), 0
        if since == PATIENCE:
            break
    network.load_state_dict(state)
    return network.eval()


def chain(x: np.ndarray, y: np.ndarray, test: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """A classifier chain (Read et al. 2011): logistic regressions, each also fed the answers before; (M, T) logits.

    Answers are scaled up, so that the penalty that the features need leaves their weights nearly free.
    """
    logits = np.zeros((len(test), y.shape[1]))
    for place, task in enumerate(order):
        before = list(order[:place])
        model = regression(np.column_stack([x, 10 * (2 * y[:, before] - 1)]), y[:, task], CHAIN_STRENGTH)
        answers = 10 * np.sign(logits[:, before])
        logits[:, task] = model.decision_function(np.column_stack([test, answers]))
    return logits
