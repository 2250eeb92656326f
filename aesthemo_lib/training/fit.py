"""The training loop: SGD on random crops [0056, 0061], the best validation loss kept, resumable to the same bits."""

from __future__ import annotations

import contextlib
import csv
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from ..data.batches import TrainingBatches, resize, to_device
from ..device import fast_precision
from ..files import atomic_folder, read_json, read_tensors, show_progress, write_json
from .aggregation import AGGREGATIONS, aggregation
from .losses import joint_loss, task_losses


@dataclass(frozen=True)
class Settings:
    """How a network is trained. [0056-0061] fix the crops, the flips and SGD; the other numbers are ours.

    >>> settings = Settings("tiny", "none", resize=36, crop=32, batch=16, epochs=2, patience=2, learning_rate=0.02)
    >>> settings.momentum
    0.9
    """

    backbone: str
    weights: str
    resize: int  # side of the cached pixels
    crop: int  # side of what a network sees
    batch: int
    epochs: int
    patience: int  # stop after this many epochs without a better validation loss
    learning_rate: float  # at its peak
    exchange_factor: float = 1.0  # the cross-branch layers' learning rate, times the rest's
    head_factor: float = 1.0  # that of what starts at random: the last fully connected layers
    keep_statistics: bool = False  # batch normalisation keeps the pretrained means and variances
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warm_up: float = 0.3  # share of the steps over which the learning rate rises
    aggregation: str = "sum"  # how the tasks' losses make one step, see ``training.aggregation``

    def __post_init__(self):
        if self.aggregation not in AGGREGATIONS:
            raise ValueError(f"settings: aggregation: unknown {self.aggregation!r}; "
                             f"choose one of {', '.join(AGGREGATIONS)}")


class Diverged(RuntimeError):
    """The loss is no longer a finite number.

    >>> issubclass(Diverged, RuntimeError)
    True
    """


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

    >>> pixels, mean = np.zeros((3, 8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.float32)
    >>> len(Data(pixels, mean, {"aesthetics": np.array([0, 1, 1])}, np.array([0, 1]), np.array([2])).train)
    2
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


def learning_rate(step: int, steps: int, settings: Settings) -> float:
    """Rises linearly over the warm-up, then falls to zero along a cosine. A function of the step, so it can't drift.

    >>> settings = Settings("tiny", "none", 36, 32, batch=16, epochs=2, patience=2, learning_rate=0.5, warm_up=0.5)
    >>> [round(learning_rate(step, 4, settings), 3) for step in range(4)]
    [0.25, 0.5, 0.5, 0.25]
    """
    rise = max(1, round(settings.warm_up * steps))
    if step < rise:
        return settings.learning_rate * (step + 1) / rise
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))


@contextlib.contextmanager
def fast(device: torch.device):
    """Matrix products in the precision that the device is good at; everything else in float32.

    >>> with fast(torch.device("cpu")):
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).float().sum().item()
    8.0
    """
    precision = fast_precision(device)
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        yield


def predict_logits(
    network: nn.Module, pixels: np.ndarray, rows: np.ndarray, mean: np.ndarray, side: int, device: torch.device,
    batch: int = 64,
) -> dict[str, np.ndarray]:
    """The logits of images as prediction sees them [0063]: resized, not cropped.

    Args:
        pixels: (N, S, S, 3) uint8.
        rows: (M,) which of them.
        mean: (S, S, 3).
        side: what they are resized to.

    Returns:
        (M, C) float32 by task name.

    >>> from ..models.networks import build
    >>> from ..tasks import PATENT_TASKS
    >>> network, pixels = build("shared_bottom", PATENT_TASKS, "tiny", "none"), np.zeros((3, 36, 36, 3), np.uint8)
    >>> logits = predict_logits(network, pixels, np.arange(3), pixels[0].astype(np.float32), 32, torch.device("cpu"), 2)
    >>> logits["emotion"].shape
    (3, 8)
    """
    mean, std = torch.as_tensor(mean, device=device), torch.tensor(network.std, device=device)
    was_training = network.training
    network.eval()
    parts: list[dict[str, Tensor]] = []
    with torch.inference_mode(), fast(device):
        for start in range(0, len(rows), batch):
            images = resize(to_device(pixels, rows[start:start + batch], device), mean, std, side)
            parts.append({name: values.float() for name, values in network(images).items()})
    network.train(was_training)
    return {task.name: torch.cat([part[task.name] for part in parts]).cpu().numpy() for task in network.tasks}


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

    >>> from ..models.networks import build
    >>> from ..tasks import AESTHETICS
    >>> network = build("shared_bottom", (AESTHETICS,), "tiny", "none")
    >>> pixels = np.random.default_rng(0).integers(0, 256, (6, 36, 36, 3), dtype=np.uint8)
    >>> data = Data(pixels, np.full((36, 36, 3), 128, np.float32), {"aesthetics": np.arange(6) % 2}, np.arange(4),
    ...             np.arange(4, 6))
    >>> settings = Settings("tiny", "none", 36, 32, batch=4, epochs=1, patience=1, learning_rate=0.01)
    >>> [row["epoch"] for row in fit(network, data, settings, 0, torch.device("cpu"), Path("resume"), "an example")]
    [1]
    """
    network.to(device, memory_format=torch.channels_last)
    batches = TrainingBatches(
        data.pixels, data.train, data.mean, network.std, settings.crop, settings.batch, seed, device
    )
    labels = data.learned(device)
    loop = _Loop(network, settings, batches, labels, seed, device, title)
    history, best = [], {}
    if state is not None:
        history, best = _resume(state, loop)
    for epoch in range(len(history), settings.epochs):
        if _stopped_early(history, settings.patience):
            break
        row = {"epoch": epoch + 1, **loop.train(epoch), **_validate(network, data, labels, settings, device)}
        history.append(row)
        if row["validation_loss"] == min(past["validation_loss"] for past in history):
            best = {name: value.detach().clone() for name, value in network.state_dict().items()}
        if state is not None:
            _save_state(state, epoch + 1, loop, best, history)
        if after_epoch:
            after_epoch(row)
    network.load_state_dict(best)
    network.eval()
    return history


def _stopped_early(history: list[dict], patience: int) -> bool:
    losses = [row["validation_loss"] for row in history]
    return bool(losses) and len(losses) - 1 - int(np.argmin(losses)) >= patience


class _Loop:
    """One training epoch after another."""

    def __init__(self, network, settings, batches, labels, seed, device, title):
        self.network, self.settings, self.batches, self.labels = network, settings, batches, labels
        self.seed, self.device, self.title = seed, device, title
        own_rate = [
            (settings.exchange_factor, list(network.exchange_parameters())),
            (settings.head_factor, list(network.fresh_parameters())),
        ]
        self.aggregation = aggregation(settings.aggregation, network.tasks, network.parameters()).to(device)
        known = {id(parameter) for _, parameters in own_rate for parameter in parameters}
        rest = [parameter for parameter in network.parameters() if id(parameter) not in known]
        groups = [{"params": params, "factor": factor} for factor, params in ((1.0, rest), *own_rate) if params]
        if weights := list(self.aggregation.parameters()):
            groups.append({"params": weights, "factor": 1.0, "weight_decay": 0.0})
        # lr is set at each step; foreach updates many tensors in one call
        self.optimiser = torch.optim.SGD(
            groups, lr=0.0, momentum=settings.momentum, weight_decay=settings.weight_decay, foreach=True
        )

    def train(self, epoch: int) -> dict[str, float]:
        """All batches of an epoch; returns the mean losses."""
        torch.manual_seed(self.seed * 1_000_003 + epoch)  # dropout's, so that a resumed epoch draws the same
        self.network.train()
        if self.settings.keep_statistics:
            pretrained = [m for b in self.network.built for m in (*b.groups.modules(), *b.head.modules())]
            for module in pretrained:  # an exchange layer's own statistics start from nothing
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        steps, weight = len(self.batches), 0
        totals = torch.zeros(len(self.network.tasks) + 1, device=self.device)
        seen, began = 0, time.perf_counter()
        with tqdm(total=self.settings.epochs * steps, initial=epoch * steps, desc=self.title, unit="step",
                  disable=not show_progress(), leave=False) as bar:
            for number, (rows, images) in enumerate(self.batches.epoch(epoch)):
                rate = learning_rate(epoch * steps + number, self.settings.epochs * steps, self.settings)
                totals += self._step(rows, images, rate) * len(rows)
                weight += len(rows)
                seen += len(rows)
                bar.update()
                # Reading a number from a GPU waits for it, so not at every step.
                if number % 20 == 19 or number == steps - 1:
                    self._check(float(totals[0]), epoch, rate)
                    speed = seen / (time.perf_counter() - began)
                    bar.set_postfix_str(f"loss {float(totals[0]) / weight:.3f}, {speed:.0f} images/s")
        mean = (totals / weight).tolist()
        row = {"learning_rate": rate, "train_loss": mean[0], **self.aggregation.weights()}
        return row | {f"train_loss_{t.name}": value for t, value in zip(self.network.tasks, mean[1:], strict=True)}

    def _step(self, rows: np.ndarray, images: Tensor, rate: float) -> Tensor:
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        with fast(self.device):
            logits = self.network(images)
        index = torch.from_numpy(rows).to(self.device)
        losses = task_losses(logits, {task.name: self.labels[task.name][index] for task in self.network.tasks})
        self.optimiser.zero_grad(set_to_none=True)
        self.aggregation.backward(losses)
        self.optimiser.step()
        loss = joint_loss(losses, self.network.tasks)
        return torch.stack([loss, *(losses[task.name] for task in self.network.tasks)]).detach()

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


def contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors takes them: on the CPU, in plain layout.

    >>> contiguous({"x": torch.zeros(2, 3).T})["x"].is_contiguous()
    True
    """
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _save_state(folder: Path, epoch: int, loop: _Loop, best: dict[str, Tensor], history: list[dict]) -> None:
    """Write the state after an epoch, whole or not at all, then drop the one before."""
    optimiser, target = loop.optimiser, folder / f"epoch-{epoch}"
    momentum = [optimiser.state[p].get("momentum_buffer") for g in optimiser.param_groups for p in g["params"]]
    known = {str(i): m for i, m in enumerate(momentum) if m is not None}
    with atomic_folder(target) as whole:
        save_file(contiguous(loop.network.state_dict()), whole / "model.safetensors")
        save_file(contiguous(loop.aggregation.state_dict()), whole / "aggregation.safetensors")
        save_file(contiguous(best), whole / "best.safetensors")
        save_file(contiguous(known), whole / "momentum.safetensors")
        write_json(whole / "history.json", [{k: None if v != v else v for k, v in row.items()} for row in history])
    for old in folder.glob("epoch-*"):
        if old != target:
            shutil.rmtree(old, ignore_errors=True)


def _resume(folder: Path, loop: _Loop) -> tuple[list[dict], dict[str, Tensor]]:
    """Put the newest whole state back into network, aggregation and optimiser; an empty history if there is none."""
    whole = sorted(folder.glob("epoch-*"), key=lambda path: int(path.name.split("-")[1]))
    if not whole:
        return [], {}
    try:
        return _read_state(whole[-1], loop)
    except (ValueError, OSError, RuntimeError, LookupError) as fault:
        reason = " ".join(str(fault).split())[:300]
        raise ValueError(f"{whole[-1]} is damaged, or of another version ({reason}); delete {folder} to train from the "
                         f"start") from fault


def _read_state(state: Path, loop: _Loop) -> tuple[list[dict], dict[str, Tensor]]:
    loop.network.load_state_dict(read_tensors(state / "model.safetensors"))
    if loop.aggregation.state_dict():
        loop.aggregation.load_state_dict(read_tensors(state / "aggregation.safetensors"))
    parameters = [parameter for group in loop.optimiser.param_groups for parameter in group["params"]]
    for i, buffer in read_tensors(state / "momentum.safetensors").items():
        parameter = parameters[int(i)]
        # The buffer takes the parameter's device and layout, or the next sums would run in another order.
        loop.optimiser.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(buffer)
    history = [{k: math.nan if v is None else v for k, v in row.items()} for row in read_json(state / "history.json")]
    return history, read_tensors(state / "best.safetensors", device=str(parameters[0].device))


def write_history(path: Path, rows: list[dict]) -> None:
    """A history as CSV, the columns in the order of their first appearance.

    >>> write_history(Path("history.csv"), [{"epoch": 1, "loss": 0.5}])
    >>> Path("history.csv").read_text(encoding="utf-8").split()
    ['epoch,loss', '1,0.5']
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
