"""The study of ``results/studies/whole_networks.csv``: full labels, and every layer is trained.

Where ``full_labels`` joins small heads on frozen features, here the networks of the lessons are fine-tuned as a whole,
each from its linear probe, on training sets of PARA that share no photograph. A cell is one training.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from aesthemo_lib.data.images import load_pixels, mean_image
from aesthemo_lib.data.readers import para
from aesthemo_lib.data.table import AnnotatedImages
from aesthemo_lib.device import pick_device, set_threads
from aesthemo_lib.evaluation import task_metrics
from aesthemo_lib.evaluation.metrics import softmax
from aesthemo_lib.models.inference import predict_logits
from aesthemo_lib.training import Config
from aesthemo_lib.training.fit import Data, fit
from aesthemo_lib.training.runs import build_network, weighed

from ..cells import Study, key, read_protocol

TASKS = ("aesthetics", "emotion")
TURNED = 0.2  #: Share of the labels that the positive control turns
WEIGHTS = "efficientnet_lite0.safetensors"
"""ImageNet's weights in PARA's folder, for a machine that lacks the package with them."""


@dataclass(frozen=True)
class Cell:
    """A setting (so many photographs, a control, or 'pilot'), the training set's number, a contender and its rate."""

    setting: str
    number: int
    contender: str
    rate: float


@dataclass(frozen=True)
class Material:
    """PARA decoded, and the order in which its training photographs go to the sets.

    Attributes:
        images, pixels: (N,) and (N, side, side, 3) uint8.
        order: row numbers of the training photographs that are here, by their place in the whole order; -1 elsewhere.
        test: row numbers of the official test.
    """

    images: AnnotatedImages
    pixels: np.ndarray
    order: np.ndarray
    test: np.ndarray


def protocol() -> dict:
    """What was fixed before the runs."""
    return read_protocol("whole_networks")


def study(out: Path, root: Path, pilot: bool = False) -> Study:
    """The study's trainings, whole sets first, so that what is there when it is cut off compares like with like.

    Args:
        out: the folder of all studies.
        root: PARA's folder, or that of a small copy, see ``small_copy``.
        pilot: the trainings that the rates were chosen with, and no others.
    """
    plan = protocol()
    cells = list(_pilot_cells(plan) if pilot else _cells(plan))
    fixed = {name: plan[name] for name in ("side", "batch", "epochs", "validation")}
    plans = [[fixed, str(places(c)), plan["contenders"][c.contender]] for c in cells]
    named = {key(c.setting, c.number, c.contender, c.rate, plan=one): c for c, one in zip(cells, plans, strict=True)}
    return Study("whole_networks", named, partial(measure, root=Path(root)), Path(out))


def _pilot_cells(plan: dict) -> Iterator[Cell]:
    for contender in (name for name in plan["contenders"] if name not in plan["pilot"]["without"]):
        for rate in plan["pilot"]["rates"] if contender != "linear_probe" else [0.0]:
            yield Cell("pilot", 0, contender, rate)


def _cells(plan: dict) -> Iterator[Cell]:
    for part in plan["parts"]:
        for number in range(part["sets"]):
            for contender in part["contenders"]:
                for setting in part["settings"]:
                    yield Cell(setting, number, contender, plan["rates"].get(contender, 0.0))


@lru_cache(maxsize=1)
def material(root: Path) -> Material:
    """PARA's. The order is of the names in the official table, so that a copy with a part of the images has the same
    sets."""
    images, pixels = load_pixels(para.read(root), protocol()["side"])
    names = ordered_names(root)
    row_of = {Path(name).name: row for row, name in enumerate(images.names)}
    order = np.array([row_of.get(name, -1) for name in names])
    return Material(images, pixels, order, np.flatnonzero(np.asarray(images.fixed) == "test"))


def ordered_names(root: Path) -> np.ndarray:
    """The training photographs' file names in the order in which they go to the sets."""
    names = pd.read_csv(root / "annotation" / "PARA-GiaaTrain.csv", usecols=["imageName"], encoding="utf-8-sig")
    return np.random.default_rng(0).permutation(names["imageName"].to_numpy())


def places(cell: Cell) -> slice:
    """Where in the order a cell's training set lies; smaller ones are the beginning of the sets of 2,000."""
    plan = protocol()
    if cell.setting == "pilot":
        return slice(plan["pilot"]["from"], plan["pilot"]["from"] + plan["pilot"]["photographs"])
    size = plan["sizes"][cell.setting]
    first = cell.number * max(size, plan["apart"])
    return slice(first, first + size)


def measure(cell: Cell, root: Path) -> list[dict]:
    """Train a contender; a row for each task."""
    set_threads()
    plan, made = protocol(), material(root)
    rows = made.order[places(cell)]
    if (missing := (rows < 0).sum()) > len(rows) // 50:  # copies of test photographs are left out
        raise FileNotFoundError(f"{root}: {missing} of the {len(rows)} photographs of set {cell.number} are not here")
    rows = rows[rows >= 0]
    whole_batches = int(len(rows) * (1 - plan["validation"])) // plan["batch"] * plan["batch"]
    train, validation = np.split(rows, [whole_batches])  # a GPU plans its work anew, for seconds, for each other shape
    tested = made.test
    if cell.setting == "pilot":
        tested = made.order[plan["pilot"]["from"] + plan["pilot"]["photographs"]:]
        tested = tested[tested >= 0]
    labels, targets = learned(cell, made.images, train, validation)
    config = _config(cell, plan, root)
    network = build_network(config, weighed(config, made.images.tasks))
    data = Data(made.pixels, mean_image(made.pixels, train), labels, train, validation, targets)
    began = time.perf_counter()
    histories = _fit(network, config, data, cell.number)
    seconds = time.perf_counter() - began
    logits = predict_logits(network, made.pixels, tested, data.mean, plan["side"], pick_device())
    return [_row(cell, task, logits[task], _truth(cell, made.images, task, tested), labels[task][train],
                 histories[task], seconds) for task in TASKS]


def _config(cell: Cell, plan: dict, root: Path) -> Config:
    spec, weights = plan["contenders"][cell.contender], root / WEIGHTS
    settings = {"resize": plan["side"], "crop": plan["side"], "batch": plan["batch"], "epochs": plan["epochs"],
                "patience": plan["epochs"], "learning_rate": cell.rate,
                "weights": str(weights) if weights.exists() else "imagenet"}
    return Config("para", spec["method"], spec.get("variant"), "teach", 0, cell.number, settings,
                  spec.get("options", {}))


def learned(
    cell: Cell, images: AnnotatedImages, train: np.ndarray, validation: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What a cell learns from: (N,) labels and (N, 2) shares of the votes, by task.

    'copies' gives both tasks emotion's label, a fifth of them turned for each task apart, 'halves' those of one half of
    the photographs each: together there is twice as much to learn from. 'permuted' permutes emotion's: aesthetics has
    nothing to learn from them.
    """
    labels = {task: images.labels(task).copy() for task in TASKS}
    votes = {task: np.asarray(images.votes[task], dtype=np.float64) for task in TASKS}
    targets = {task: (v / np.maximum(v.sum(axis=1, keepdims=True), 1e-12)).astype(np.float32)
               for task, v in votes.items()}
    rng = np.random.default_rng(cell.number)
    if cell.setting == "copies":
        for task in TASKS:
            labels[task] = np.where(rng.random(len(images)) < TURNED, 1 - images.labels("emotion"),
                                    images.labels("emotion"))
        targets = {}
    elif cell.setting == "halves":
        half = rng.random(len(images)) < 0.5
        for task, own in zip(TASKS, (half, ~half), strict=True):
            labels[task] = np.where(own, images.labels("emotion"), -1)
            targets[task] = targets["emotion"]
    elif cell.setting == "permuted":
        for part in (train, validation):
            source = rng.permutation(part)
            labels["emotion"][part], targets["emotion"][part] = labels["emotion"][source], targets["emotion"][source]
    return labels, targets


def _truth(cell: Cell, images: AnnotatedImages, task: str, rows: np.ndarray) -> np.ndarray:
    return images.labels("emotion" if cell.setting in ("copies", "halves") else task)[rows]


def _fit(network, config: Config, data: Data, seed: int) -> dict[str, list[dict]]:
    """The history of each task's network; a joint network has one."""
    device, settings = pick_device(), config.training_settings()
    if not hasattr(network, "single_task"):
        return dict.fromkeys(TASKS, fit(network, data, settings, seed, device))
    network.to(device)
    return {task: fit(network.single_task(i), data, settings, seed, device) for i, task in enumerate(TASKS)}


def _row(cell: Cell, task: str, logits: np.ndarray, truth: np.ndarray, learned_from: np.ndarray, history: list[dict],
         seconds: float) -> dict:
    known = truth >= 0
    majority = int(np.bincount(learned_from[learned_from >= 0]).argmax())
    metrics = task_metrics(truth[known], softmax(logits[known]), majority)
    best = min(history, key=lambda row: row["validation_loss"])
    return {
        "source": "para", "setting": cell.setting, "replicate": cell.number, "contender": cell.contender, "task": task,
        "auc": metrics["auc"], "log_loss": metrics["log_loss"], "accuracy": metrics["accuracy"],
        "majority_accuracy": metrics["majority_accuracy"], "learning_rate": cell.rate,
        "first_loss": history[0].get(f"train_loss_{task}", np.nan),
        "last_loss": history[-1].get(f"train_loss_{task}", np.nan),
        "validation_loss": best[f"validation_loss_{task}"], "best_epoch": best["epoch"], "seconds": seconds,
    }
