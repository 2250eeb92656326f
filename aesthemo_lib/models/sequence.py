"""A bidirectional LSTM over the tasks (CN109190514B): what they share passes along the sequence of them.

The source has a CNN front, one feature per task, a forward and a backward scan over the sequence of these, one fully
connected layer, and a reshape to the tasks' outputs; nobody groups the tasks by hand. The widths, the layer that makes
each task's feature, the order and the front's sharing are not in the text available to us: they are ours. So is the
loss, see ``training.aggregation.HardTasks``.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ..tasks import Task
from .backbones import Backbone, Network


class TaskSequence(Network):
    r"""CNN front -> T task features -> bidirectional LSTM -> one fully connected layer -> T tasks' logits.

    With the front's features :math:`f` and the tasks in the order :math:`1 .. T`,

    .. math:: s_j = ReLU(P_j f + p_j), \quad h_1 .. h_T = BiLSTM(s_1 .. s_T), \quad
              [l_1; ..; l_T] = W [h_1; ..; h_T] + b

    Args:
        tasks: T tasks.
        backbones: one per task; the first one's groups, and its head but for the last layer, are the front.
        order: the tasks' names in the order of the scan; the tasks' own by default.
        width: of each task's feature and of each direction's state.
    """

    def __init__(
        self, tasks: tuple[Task, ...], backbones: Sequence[Backbone], *, order: Sequence[str] | None = None,
        width: int = 128,
    ):
        super().__init__(tasks, backbones[:1])
        names = [task.name for task in tasks]
        if sorted(order or names) != sorted(names):
            raise ValueError(f"order: expected each of {', '.join(names)} once, got {list(order or ())}")
        self.places = [names.index(name) for name in order or names]
        self.front = nn.Sequential(*backbones[0].groups, *backbones[0].head[:-1])
        self.features = nn.ModuleList(nn.Linear(backbones[0].head[-1].in_features, width) for _ in tasks)
        self.scan = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.last = nn.Linear(len(tasks) * 2 * width, sum(len(task.classes) for task in tasks))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) to {task name: (B, C)}."""
        return self.after_frozen(self.frozen(images))

    def after_frozen(self, maps: Tensor) -> dict[str, Tensor]:
        """From what the frozen groups put out (the images themselves, if there are none) to the logits."""
        front = self.front(maps).float()  # (B, F)
        with torch.autocast(front.device.type, enabled=False):  # the scan is tiny, and exact in float32
            sequence = torch.stack([self.features[i](front).relu() for i in self.places], dim=1)  # (B, T, D)
            scanned, _ = self.scan(sequence)  # (B, T, 2D)
            pieces = self.last(scanned.flatten(1)).split([len(task.classes) for task in self.tasks], dim=1)
        return {task.name: piece for task, piece in zip(self.tasks, pieces, strict=True)}

    def parts(self) -> list[tuple[list[nn.Module], nn.Sequential]]:
        return [(list(self.front[:len(self.channels)]), self.front[len(self.channels):])]

    def fresh_parameters(self) -> Iterator[nn.Parameter]:
        """What starts at random: all behind the front."""
        for part in (self.features, self.scan, self.last):
            yield from part.parameters()
