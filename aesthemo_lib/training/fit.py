"""The training loop: SGD on random crops [0056, 0061], the best validation loss kept, resumable to the same bits."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import distributed
from ..data.batches import TrainingBatches, send
from ..device import fast_precision
from ..files import show_progress
from ..models.checkpointing import checkpointed
from ..models.inference import fast, predict_logits
from ..models.quick_cpu import quick_cpu
from .aggregation import aggregation
from .losses import joint_loss, labelled, task_losses
from .optimiser import sgd
from .resume import best_weights, resume, save_state
from .settings import Settings, learning_rate

COMPILER = "inductor"
"""What torch.compile makes a network into, see its documentation."""


class Diverged(RuntimeError):
    """The loss is no longer a finite number."""


@dataclass
class Data:
    """What the loop reads.

    Attributes:
        pixels: (N, S, S, 3) uint8.
        mean: (S, S, 3) float32, of the training rows.
        labels: (N,) int64 by task name, negative where unlabelled.
        train, validation: row numbers.
        targets: by task name (N, C) float32 rows that sum to 1, which are learned in place of the labels where these
            are not negative; in training and for the validation loss, which decides what is kept.
    """

    pixels: np.ndarray
    mean: np.ndarray
    labels: dict[str, np.ndarray]
    train: np.ndarray
    validation: np.ndarray
    targets: dict[str, np.ndarray] = field(default_factory=dict)

    def learned(self, device: torch.device) -> dict[str, Tensor]:
        """What the loss takes, see ``losses.task_losses``."""
        soft = {name: values * (self.labels[name] >= 0)[:, None] for name, values in self.targets.items()}
        return {name: torch.as_tensor(soft.get(name, values), device=device) for name, values in self.labels.items()}






def fit(
    network: nn.Module, data: Data, settings: Settings, seed: int, device: torch.device,
    state: Path | None = None, title: str = "", after_epoch: Callable[[dict], None] | None = None,
) -> list[dict[str, float]]:
    """Train a network in place; it ends with the weights of the epoch with the best validation loss.

    Args:
        network: any with ``tasks``, ``std`` and ``exchange_parameters``; moved to ``device``.
        data: pixels, labels and rows.
        settings: how.
        seed: of batch order, crops, flips and dropout.
        state: a folder for what resuming needs; if it holds a state of this training, that is gone on with.
        title: what the progress bar says.
        after_epoch: called with the newest history row.

    Returns:
        the history, one row an epoch: epoch, learning_rate, and the losses of training and validation.

    Raises:
        Diverged: the loss is not finite.
    """
    network.to(device, memory_format=torch.channels_last)
    torch.backends.cudnn.benchmark = device.type == "cuda"  # all batches are alike: the best convolution is tried out
    batches = TrainingBatches(
        data.pixels, data.train, data.mean, network.std, settings.crop, settings.batch, seed, device
    )
    labels = data.learned(device)
    loop = _Loop(network, settings, batches, labels, seed, device, title)
    history, best, first = [], {}, distributed.rank() == 0
    if state is not None and first:
        history = resume(state, loop)
    history = loop.spread(history)
    thrifty = checkpointed(network) if settings.checkpoint else contextlib.nullcontext()
    with thrifty, contextlib.nullcontext() if settings.compile else quick_cpu(network):
        for epoch in range(len(history), settings.epochs):
            if _stopped_early(history, settings.patience):
                break
            row = {"epoch": epoch + 1, **loop.train(epoch), **_validate(network, data, labels, settings, device)}
            history.append(distributed.broadcast(row, device))  # or processes that differ in a bit would stop apart
            better = row["validation_loss"] == min(past["validation_loss"] for past in history)
            if first and state is not None:
                save_state(state, epoch + 1, loop, better, history)
            elif first and better:  # a state holds the best weights too, so that memory need not
                best = {name: value.detach().clone() for name, value in network.state_dict().items()}
            if first and after_epoch:
                after_epoch(row)
    if first:
        network.load_state_dict(best if state is None else best_weights(state))
    distributed.copy(network.state_dict().values())
    network.eval()
    return history


def _stopped_early(history: list[dict], patience: int) -> bool:
    losses = [row["validation_loss"] for row in history]
    return bool(losses) and len(losses) - 1 - int(np.argmin(losses)) >= patience


class _Loop:
    """One training epoch after another."""

    def __init__(self, network, settings, batches, labels, seed, device, title):
        self.network, self.settings, self.batches, self.labels = network, settings, batches, labels
        self.seed, self.device, self.title, self.forward = seed, device, title, network
        own_rate = [
            (settings.exchange_factor, list(network.exchange_parameters())),
            (settings.head_factor, list(network.fresh_parameters())),
        ]
        self.aggregation = aggregation(settings.aggregation, network.tasks, network.parameters()).to(device)
        # float16 holds small gradients only when the loss is scaled up
        self.scaler = torch.amp.GradScaler(device.type, enabled=fast_precision(device) == torch.float16)
        if not self.aggregation.divisible and (distributed.size(), settings.accumulate) != (1, 1):
            raise ValueError(f"aggregation {settings.aggregation!r} needs a batch as a whole: train in one process, "
                             f"with accumulate 1")
        known = {id(parameter) for _, parameters in own_rate for parameter in parameters}
        rest = [parameter for parameter in network.parameters() if id(parameter) not in known]
        groups = [{"params": params, "factor": factor} for factor, params in ((1.0, rest), *own_rate) if params]
        if weights := list(self.aggregation.parameters()):
            groups.append({"params": weights, "factor": 1.0, "weight_decay": 0.0})
        self.optimiser = sgd(groups, settings.momentum, settings.weight_decay)

    def spread(self, history: list[dict]) -> list[dict]:
        """Give every process the first one's state, and get the network ready for several; returns its history."""
        history, scaler = distributed.broadcast([history, self.scaler.state_dict()], self.device)
        self.scaler.load_state_dict(scaler)
        if history and distributed.size() > 1:
            trained = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
            distributed.copy(self.optimiser.state[parameter]["momentum_buffer"] for parameter in trained)
        distributed.copy(self.aggregation.state_dict().values())
        self.forward = distributed.wrap_ddp(self.network, self.device)
        if self.settings.compile:
            self.forward = torch.compile(self.forward, backend=COMPILER)
        return history

    def train(self, epoch: int) -> dict[str, float]:
        """All batches of an epoch; returns the mean losses."""
        # dropout's, so that a resumed epoch draws the same; another in each process
        torch.manual_seed(self.seed * 1_000_003 + epoch + distributed.rank() * 1_000_000_007)
        self.network.train()
        if self.settings.keep_statistics:
            pretrained = [part for groups, head in self.network.parts() for part in (*groups, head)]
            for module in (m for part in pretrained for m in part.modules()):  # an exchange layer's start from nothing
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        steps, weight = len(self.batches), 0
        totals = torch.zeros(len(self.network.tasks) + 1, device=self.device)
        seen, began = 0, time.perf_counter()
        with tqdm(total=self.settings.epochs * steps, initial=epoch * steps, desc=self.title, unit="step",
                  disable=not show_progress() or distributed.rank() > 0, leave=False) as bar:
            for number, rows in enumerate(self.batches.order(epoch)):
                rate = learning_rate(epoch * steps + number, self.settings.epochs * steps, self.settings)
                totals += self._step(epoch, rows, rate) * len(rows)
                weight += len(rows)
                seen += len(rows)
                bar.update()
                # Reading a number from a GPU waits for it, so not at every step.
                if number % 20 == 19 or number == steps - 1:
                    self._check(float(totals[0]), epoch, rate)
                    speed = seen / (time.perf_counter() - began)
                    bar.set_postfix_str(f"loss {float(totals[0]) / weight:.3f}, {speed:.0f} images/s")
        mean = (distributed.total(totals) / weight).tolist()
        row = {"learning_rate": rate, "train_loss": mean[0], **self.aggregation.weights()}
        return row | {f"train_loss_{t.name}": value for t, value in zip(self.network.tasks, mean[1:], strict=True)}

    def _step(self, epoch: int, rows: np.ndarray, rate: float) -> Tensor:
        """One step on a batch; returns the joint loss and the tasks', of this process' part of it."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        self.optimiser.zero_grad(set_to_none=True)
        counts = {name: labelled(values).sum() for name, values in self._labels(rows).items()}
        # A batch that is too small to go round leaves a process without images: it goes through the motions with one.
        own, share = distributed.part(rows), 1.0
        if not len(own):
            own, share = rows[:1], 0.0
        parts = np.array_split(own, min(self.settings.accumulate, len(own)))
        done = torch.stack([self._part(epoch, part, counts, share, len(parts), part is parts[-1]) for part in parts])
        for weight in self.aggregation.parameters() if distributed.size() > 1 else ():
            weight.grad = distributed.total(weight.grad) / distributed.size()  # the network's are exchanged already
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return done.sum(dim=0)

    def _labels(self, rows: np.ndarray) -> dict[str, Tensor]:
        index = send(torch.from_numpy(rows), self.device)
        return {task.name: self.labels[task.name][index] for task in self.network.tasks}

    def _part(self, epoch: int, rows: np.ndarray, counts: dict, share: float, parts: int, last: bool) -> Tensor:
        """The gradient of one of the ``parts`` of this process' images, added to what is there."""
        images = self.batches.images(epoch, rows)
        with distributed.unsynchronised(self.forward, last):
            with fast(self.device):
                logits = self.forward(images)
            losses = task_losses(logits, self._labels(rows), counts)
            # Where several processes' mean is taken, their sum is wanted.
            wanted = {name: loss * (share * distributed.size()) for name, loss in losses.items()}
            self.aggregation.backward(wanted, 1 / parts, self.scaler.scale)
        loss = joint_loss(losses, self.network.tasks)
        return share * torch.stack([loss, *(losses[task.name] for task in self.network.tasks)]).detach()

    def _check(self, total: float, epoch: int, rate: float) -> None:
        if not math.isfinite(total):
            raise Diverged(
                f"the training loss became {total} in epoch {epoch + 1} at learning rate {rate:.2g}; "
                f"lower learning_rate (or exchange_factor), and check the images and labels"
            )


def _validate(network, data: Data, labels, settings: Settings, device) -> dict[str, float]:
    rows = data.validation
    logits = predict_logits(network, data.pixels, rows, data.mean, settings.crop, device)
    logits = {name: torch.from_numpy(values) for name, values in logits.items()}
    index = torch.from_numpy(rows)
    losses = task_losses(logits, {task.name: labels[task.name].cpu()[index] for task in network.tasks})
    row = {"validation_loss": float(joint_loss(losses, network.tasks))}
    for task in network.tasks:
        truth = data.labels[task.name][rows]
        right = logits[task.name].argmax(1).numpy() == truth
        row[f"validation_loss_{task.name}"] = float(losses[task.name])
        row[f"validation_accuracy_{task.name}"] = float(right[truth >= 0].mean()) if (truth >= 0).any() else math.nan
    if not math.isfinite(row["validation_loss"]):
        raise Diverged("the validation loss is not finite; lower learning_rate")
    return row
