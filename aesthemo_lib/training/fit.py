"""The training loop: SGD on random crops [0056, 0061], the best validation loss kept, resumable to the same bits."""

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
from ..models.inference import evaluating, fast, logits_of
from ..models.networks import NDDR, LinearProbe
from ..models.quick_cpu import quick_cpu
from .aggregation import aggregation
from .config import Settings, learning_rate
from .frozen import FrozenBatches
from .losses import joint_loss, labelled, task_losses
from .optimiser import optimiser, state_tensors
from .probe import start_heads
from .resume import best_weights, resume, save_state

COMPILER = "inductor"  #: What torch.compile makes a network into, see its documentation
NORM_ROWS = 256  #: Images from whose maps NDDR's normalisations start
START_ROWS = 4000  #: So many training images at most say where the last layers start


class Diverged(RuntimeError):
    """The loss is no longer a finite number."""


@dataclass
class Data:
    """What the loop reads.

    Attributes:
        pixels, mean: (N, S, S, 3) uint8, and the training rows' mean (S, S, 3) float32.
        labels: (N,) int64 by task name, negative where unlabelled.
        train, validation: row numbers.
        targets: by task name (N, C) float32 rows that sum to 1, which are learned in place of the labels where these
            are not negative; in training and for the validation loss, which decides what is kept.
        groups: (N,) names of near-duplicates, kept together where a probe is cross-validated; each image its own if
            not given.
    """

    pixels: np.ndarray
    mean: np.ndarray
    labels: dict[str, np.ndarray]
    train: np.ndarray
    validation: np.ndarray
    targets: dict[str, np.ndarray] = field(default_factory=dict)
    groups: np.ndarray | None = None

    def learned(self) -> dict[str, np.ndarray]:
        """What the loss takes, see ``losses.task_losses``."""
        soft = {name: values * (self.labels[name] >= 0)[:, None] for name, values in self.targets.items()}
        return {name: soft.get(name, values) for name, values in self.labels.items()}


def fit(
    network: nn.Module, data: Data, settings: Settings, seed: int, device: torch.device,
    state: Path | None = None, title: str = "", after_epoch: Callable[[dict], None] | None = None,
) -> list[dict[str, float]]:
    """Train a network in place; it ends with the weights of the epoch with the best validation loss.

    Args:
        network: any ``models.backbones.Network``; moved to ``device``.
        data, settings: what it learns from, and how.
        seed: of batch order, crops, flips and dropout.
        state: a folder for what resuming needs; a state of this training in it is resumed.
        title, after_epoch: what the progress bar says; called with the newest history row.

    Returns:
        the history, one row per epoch: epoch, learning_rate, and the losses of training and validation.

    Raises:
        Diverged: the loss is not finite.
    """
    network.to(device, memory_format=torch.channels_last)
    loop = _Loop(network, settings, data, seed, device, title)
    history, best, first = [], {}, distributed.rank() == 0
    if state is not None and first:
        history = resume(state, loop)
    history = loop.begin(history, data)
    if not settings.epochs or isinstance(network, LinearProbe):
        return [{"epoch": 0, **loop.validate(data)}]
    thrifty = checkpointed(network) if settings.checkpoint else contextlib.nullcontext()
    with thrifty, contextlib.nullcontext() if settings.compile else quick_cpu(network):
        for epoch in range(len(history), settings.epochs):
            if _stopped_early(history, settings.patience):
                break
            row = {"epoch": epoch + 1, **loop.train(epoch), **loop.validate(data)}
            history.append(distributed.broadcast(row, device))  # or processes that differ in a bit would stop apart
            better = row["validation_loss"] == min(past["validation_loss"] for past in history)
            if first and state is not None:
                save_state(state, epoch + 1, loop, better, history)
            elif first and better:  # a state holds the best weights too, so that memory need not
                best = {name: value.detach().clone() for name, value in loop.tested().items()}
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

    def __init__(self, network, settings: Settings, data: Data, seed: int, device: torch.device, title: str):
        self.network, self.settings, self.seed, self.device, self.title = network, settings, seed, device, title
        self.labels = {name: torch.as_tensor(values, device=device) for name, values in data.learned().items()}
        crops = (data.pixels, data.train, data.mean, network.std, settings.crop, settings.batch, seed, device)
        self.batches, self.forward = TrainingBatches(*crops), network
        if settings.frozen_groups:
            used = np.union1d(data.train, data.validation)
            self.batches = FrozenBatches(network.frozen.eval(), *crops, settings.views, used)
            self.forward = _AfterFrozen(network)
        self.aggregation = aggregation(settings.aggregation, network.tasks, network.parameters()).to(device)
        # float16 holds small gradients only when the loss is scaled up
        self.scaler = torch.amp.GradScaler(device.type, enabled=fast_precision(device) == torch.float16)
        if not self.aggregation.divisible and (distributed.size(), settings.accumulate) != (1, 1):
            raise ValueError(f"aggregation {settings.aggregation!r} needs a batch as a whole: train in one process, "
                             f"with accumulate 1")
        self.optimiser = optimiser(settings.optimiser, _rates(network, settings, self.aggregation), settings.momentum,
                                   settings.weight_decay)
        self.average = {name: value.detach().clone() for name, value in network.state_dict().items()
                        if settings.averaging and value.is_floating_point()}

    def begin(self, history: list[dict], data: Data) -> list[dict]:
        """Start the last layers if nothing was resumed, and give every process the first one's state and history."""
        history, scaler = distributed.broadcast([history, self.scaler.state_dict()], self.device)
        if isinstance(self.network, NDDR) and not history:
            self._start_norms(data)
        if self.settings.probe_start and not history:
            self._start_heads(data)
        self.scaler.load_state_dict(scaler)
        if history and distributed.size() > 1:
            distributed.copy(state_tensors(self.optimiser).values())
            distributed.copy(self.average.values())
        distributed.copy(self.aggregation.state_dict().values())
        self.forward = distributed.wrap_ddp(self.forward, self.device)
        if self.settings.compile:
            self.forward = torch.compile(self.forward, backend=COMPILER)
        return history

    def _start_norms(self, data: Data) -> None:
        with contextlib.ExitStack() as started, evaluating(self.network), torch.no_grad():
            for layer in self.network.exchanges:
                started.enter_context(layer.start_norms())
            self.forward(self.batches.plain(data.train[:NORM_ROWS]))

    def _start_heads(self, data: Data) -> None:
        rows = data.train
        if self.settings.epochs and not isinstance(self.network, LinearProbe):
            rows = np.sort(np.random.default_rng([self.seed, 4]).permutation(rows)[:START_ROWS])
        groups = np.arange(len(data.pixels)) if data.groups is None else data.groups
        start_heads(self.network, self.forward, self.batches.plain, rows, data.learned(), groups, self.device)
        for name, value in self.network.state_dict().items():
            if name in self.average:
                self.average[name].copy_(value)

    def tested(self) -> dict[str, Tensor]:
        """The weights that are validated and kept: the moving average, or the newest."""
        return self.network.state_dict() | self.average

    def validate(self, data: Data) -> dict[str, float]:
        """Losses and accuracies on the validation rows."""
        newest = {name: value.detach().clone() for name, value in self.network.state_dict().items()
                  if name in self.average}
        self.network.load_state_dict(self.tested())
        with evaluating(self.network):
            logits = logits_of(self.forward, self.batches.plain, data.validation, self.device)
        self.network.load_state_dict(self.network.state_dict() | newest)
        return _validation_row(logits, data, self.network.tasks)

    def train(self, epoch: int) -> dict[str, float]:
        """All batches of an epoch; returns the mean losses."""
        # dropout's, so that a resumed epoch draws the same; another in each process
        torch.manual_seed(self.seed * 1_000_003 + epoch + distributed.rank() * 1_000_000_007)
        self.network.train()
        self.network.frozen.eval()
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
        # A batch with fewer images than processes leaves one without: it computes with one image that doesn't count.
        own, counted = distributed.part(rows), 1.0
        if not len(own):
            own, counted = rows[:1], 0.0
        parts = np.array_split(own, min(self.settings.accumulate, len(own)))
        done = torch.stack([self._part(epoch, part, counts, counted, len(parts), part is parts[-1]) for part in parts])
        for weight in self.aggregation.parameters() if distributed.size() > 1 else ():
            weight.grad = distributed.total(weight.grad) / distributed.size()  # the network's are exchanged already
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average:
            now = self.network.state_dict()
            torch._foreach_lerp_(list(self.average.values()), [now[name] for name in self.average],
                                 1 - self.settings.averaging)
        return done.sum(dim=0)

    def _labels(self, rows: np.ndarray) -> dict[str, Tensor]:
        index = send(torch.from_numpy(rows), self.device)
        return {task.name: self.labels[task.name][index] for task in self.network.tasks}

    def _part(self, epoch: int, rows: np.ndarray, counts: dict, counted: float, parts: int, last: bool) -> Tensor:
        """The gradient of one of the ``parts`` of this process' images, added to what is there."""
        images = self.batches.images(epoch, rows)
        with distributed.unsynchronised(self.forward, last):
            with fast(self.device):
                logits = self.forward(images)
            losses = task_losses(logits, self._labels(rows), counts)
            # Where several processes' mean is taken, their sum is wanted.
            wanted = {name: loss * (counted * distributed.size()) for name, loss in losses.items()}
            self.aggregation.backward(wanted, 1 / parts, self.scaler.scale)
        loss = joint_loss(losses, self.network.tasks)
        return counted * torch.stack([loss, *(losses[task.name] for task in self.network.tasks)]).detach()

    def _check(self, total: float, epoch: int, rate: float) -> None:
        if not math.isfinite(total):
            raise Diverged(f"the training loss became {total} in epoch {epoch + 1} at learning rate {rate:.2g}; "
                           f"lower learning_rate (or exchange_factor), and check the images and labels")


class _AfterFrozen(nn.Module):
    """A network from the maps of its frozen groups on."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, maps: Tensor) -> dict[str, Tensor]:
        return self.network.after_frozen(maps)


def _rates(network: nn.Module, settings: Settings, aggregation: nn.Module) -> list[dict]:
    """Parameter groups with a ``factor`` each of the step's learning rate: 1 for the head, less by ``group_decay`` for
    each conv group further from it, and their own for exchange layers and last layers."""
    factors = {id(p): settings.exchange_factor for p in network.exchange_parameters()}
    factors |= {id(p): settings.head_factor for p in network.fresh_parameters()}
    for conv_groups, _ in network.parts():
        for i, group in enumerate(conv_groups):
            for p in group.parameters():
                factors.setdefault(id(p), settings.group_decay ** (len(conv_groups) - i))
    groups: dict[float, list] = {}
    for p in network.parameters():
        if p.requires_grad:
            groups.setdefault(factors.get(id(p), 1.0), []).append(p)
    made = [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]
    if weights := list(aggregation.parameters()):
        made.append({"params": weights, "factor": 1.0, "weight_decay": 0.0})
    return made


def _validation_row(values: dict[str, np.ndarray], data: Data, tasks) -> dict[str, float]:
    rows, learned = data.validation, data.learned()
    logits = {name: torch.from_numpy(of_task) for name, of_task in values.items()}
    losses = task_losses(logits, {task.name: torch.as_tensor(learned[task.name][rows]) for task in tasks})
    row = {"validation_loss": float(joint_loss(losses, tasks))}
    for task in tasks:
        truth = data.labels[task.name][rows]
        right = values[task.name].argmax(1) == truth
        row[f"validation_loss_{task.name}"] = float(losses[task.name])
        row[f"validation_accuracy_{task.name}"] = float(right[truth >= 0].mean()) if (truth >= 0).any() else math.nan
    if not math.isfinite(row["validation_loss"]):
        raise Diverged("the validation loss is not finite; lower learning_rate")
    return row
