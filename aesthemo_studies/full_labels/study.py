"""The study of ``results/studies/full_labels.csv``: every training photograph has both labels.

Three sources, each asked its own question: disjoint training sets of PARA of three sizes, fresh collections of drawn
scenes by what the tasks share, and OASIS whole, split by theme. The protocol was committed before the runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from aesthemo_lib.data.readers import oasis
from aesthemo_lib.device import set_threads
from aesthemo_lib.files import project_folder, read_json
from aesthemo_lib.tasks import MIKELS_EMOTIONS

from ..cells import Study, key
from ..drawn import collection
from ..few_labels.contenders import regression, scores, trained
from ..few_labels.material import components, material
from ..retrieval.study import photograph_views

TASKS = ("aesthetics", "emotion")
Folds = Sequence[tuple[np.ndarray, np.ndarray]]
JOINT = ("shared_bottom", "cross_branch.diagonal", "cross_branch.random", "cross_branch.own_twice",
         "cross_branch.answers", "cross_stitch", "nddr", "mmoe", "mtan")
NETWORKS = ("independent", *JOINT)
TURNED = 0.2  #: Share of the labels that the positive control turns
PROTOCOL = project_folder() / "results" / "studies" / "full_labels.json"


@dataclass(frozen=True)
class Cell:
    """A source ('para', 'scenes', 'oasis'), its setting (photographs, a control, relatedness), and which sample."""

    source: str
    setting: str
    replicate: int


@dataclass(frozen=True)
class Sample:
    """What is learnt and tested.

    Attributes:
        x, y: (n, D) float32 features and (n, 2) class numbers by ``TASKS``, to learn from.
        groups: (n,) what inner folds keep together.
        test, truth: the same of the test.
    """

    x: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    test: np.ndarray
    truth: np.ndarray


def protocol() -> dict:
    """What was fixed before the runs."""
    return read_json(PROTOCOL)


def study(out: Path, root: Path | None = None, oasis_root: Path | None = None) -> Study:
    """The study: scenes, and PARA's and OASIS' cells where their folders are given.

    Args:
        out: the folder of all studies; few-labels' features of PARA are there, or are computed.
        root, oasis_root: PARA's and OASIS' folders.
    """
    plan = protocol()
    cells: list[Cell] = []
    if root:
        settings = [*plan["para"]["photographs"].items(), *((control, 12) for control in plan["para"]["controls"])]
        cells += [Cell("para", setting, number) for setting, sets in settings for number in range(sets)]
    cells += [Cell("scenes", f"{dose:g}", seed) for seed in plan["scenes"]["collections"]
              for dose in plan["scenes"]["relatedness"]]
    if oasis_root:
        cells += [Cell("oasis", "", split) for split in range(plan["oasis"]["splits"])]
    fixed = {name: plan[name] for name in ("strengths", "folds", "components")} | {"contenders": NETWORKS}
    named = {key(c.source, c.setting, c.replicate, plan=[fixed, plan[c.source]]): c for c in cells}
    return Study("full_labels", named, partial(measure, root=root, oasis_root=oasis_root, out=Path(out)), Path(out))


def measure(cell: Cell, root: Path | None, oasis_root: Path | None, out: Path) -> pd.DataFrame:
    """The rows of a cell: one for each contender and task."""
    set_threads()
    if root and cell.source == "para":
        sample = para_sample(cell, root, out)
    elif oasis_root and cell.source == "oasis":
        sample = oasis_sample(cell, oasis_root, out)
    else:
        sample = scenes_sample(cell, out)
    return pd.DataFrame([{"source": cell.source, "setting": cell.setting, "replicate": cell.replicate, **row}
                         for row in compared(sample, cell.replicate)])


def compared(sample: Sample, seed: int) -> Iterator[dict]:
    """A row for each contender and task: what was chosen for it, its loss on what it learnt from, AUC and log-loss.

    Everyone's C is chosen by the log-loss over the same inner folds, that of independent networks and of probes task by
    task; a joint network has one.
    """
    folds = list(GroupKFold(protocol()["folds"]).split(sample.x, groups=sample.groups))
    held: dict[str, np.ndarray] = {}
    both = np.concatenate([sample.test, sample.x])
    for name in ("linear_probe", *NETWORKS):
        strengths, held[name] = chosen(name, sample, folds, seed)
        found = [answers(name, sample.x, sample.y, c, seed, both) for c in strengths]
        logits = np.stack([logits[:, t] for t, logits in enumerate(found)], axis=1)
        yield from _rows(name, sample, strengths, *np.split(logits, [len(sample.test)]))
        if name == "linear_probe":
            fused = [regression(held[name], sample.y[:, t], 1.0) for t in range(2)]
            joined = np.stack([model.decision_function(logits) for model in fused], axis=1)
            yield from _rows("late_fusion", sample, strengths, *np.split(joined, [len(sample.test)]))


def answers(name: str, x: np.ndarray, y: np.ndarray, strength: float, seed: int, shown: np.ndarray) -> np.ndarray:
    """The (N, 2) logits of class 1 that a contender, trained on (n, D) features, gives to (N, D) others."""
    if name == "linear_probe":
        probes = [regression(x.astype(np.float64), y[:, t], strength) for t in range(2)]
        return np.stack([model.decision_function(shown) for model in probes], axis=1)
    return np.stack(scores(trained(name, x, y[:, 0], y[:, 1], [strength] * 2, seed), shown), axis=1)


def chosen(name: str, sample: Sample, folds: Folds, seed: int) -> tuple[list[float], np.ndarray]:
    """The C of each task, and the (n, 2) logits that the inner folds gave under it to photographs held out."""
    strengths = protocol()["strengths"]["linear_probe" if name == "linear_probe" else "networks"]
    held = {c: np.zeros(sample.y.shape) for c in strengths}
    for train, rest in folds:
        for c, logits in held.items():
            logits[rest] = answers(name, sample.x[train], sample.y[train], c, seed, sample.x[rest])
    losses = np.array([log_losses(logits, sample.y) for logits in held.values()])  # (C, 2)
    apart = name in ("linear_probe", "independent")
    best = [strengths[b] for b in (losses.argmin(axis=0) if apart else np.repeat(losses.sum(axis=1).argmin(), 2))]
    return best, np.stack([held[c][:, t] for t, c in enumerate(best)], axis=1)


def log_losses(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Each task's mean log-loss of (n, 2) logits of class 1."""
    return np.logaddexp(0, np.where(y == 1, -1, 1) * logits).mean(axis=0)


def _rows(
    name: str, sample: Sample, strengths: Sequence[float], logits: np.ndarray, fitted: np.ndarray
) -> Iterator[dict]:
    losses, training_losses = log_losses(logits, sample.truth), log_losses(fitted, sample.y)
    for t, task in enumerate(TASKS):
        yield {"contender": name, "task": task, "auc": roc_auc_score(sample.truth[:, t], logits[:, t]),
               "log_loss": losses[t], "training_loss": training_losses[t],
               "strength": strengths[t]}


def scenes_sample(cell: Cell, out: Path) -> Sample:
    """A fresh collection; emotion is whether the consensus is a positive one, as PARA's."""
    plan = protocol()["scenes"]
    count = plan["train"] + plan["test"]
    pictures = collection(cell.replicate, count)
    labels, positive = pictures.labels(float(cell.setting)), MIKELS_EMOTIONS[:4]
    emotion = np.isin(np.array(MIKELS_EMOTIONS)[labels["emotion"]], positive)
    y = np.stack([labels["aesthetics"], emotion], axis=1).astype(np.int64)
    return _sample(pictures.seen(out)[0], y, np.arange(count), *np.split(np.arange(count), [plan["train"]]))


def para_sample(cell: Cell, root: Path, out: Path) -> Sample:
    """A training set of PARA that shares no photograph with the others of its setting, and the official test.

    'copies' gives both tasks the same label, a fifth of them turned for each task apart: together there is twice as
    much to learn from. 'permuted' permutes emotion's training labels: aesthetics has nothing to learn from them.
    """
    data, size = material(root, out), int(cell.setting) if cell.setting.isdigit() else 500
    everything = np.concatenate(data.replicates)
    at = np.arange(size) + cell.replicate * max(size, len(data.replicates[0]))
    rows, rng = everything[at], np.random.default_rng(cell.replicate)
    y, truth = data.y[rows].copy(), data.y[data.test].copy()
    if cell.setting == "copies":
        y = data.y[rows][:, [1, 1]] ^ (rng.random(y.shape) < TURNED)
        truth = truth[:, [1, 1]]
    elif cell.setting == "permuted":
        y[:, 1] = rng.permutation(y[:, 1])
    return Sample(data.x[rows], y, np.arange(size), data.x[data.test], truth)


def oasis_sample(cell: Cell, root: Path, out: Path) -> Sample:
    """A split of OASIS by theme; emotion is whether the mean valence lies above the scale's middle."""
    images = oasis.read(root, tasks=("aesthetics", "valence"))
    y = np.stack([images.labels(task.name) for task in images.tasks], axis=1)
    parts = images.split(cell.replicate)
    known = [rows[(y[rows] >= 0).all(axis=1)] for rows in (np.concatenate(parts[:2]), parts.test)]
    return _sample(photograph_views(images, np.arange(len(images)), out)[0], y, images.groups, *known)


def _sample(features: np.ndarray, y: np.ndarray, groups: np.ndarray, train: np.ndarray, test: np.ndarray) -> Sample:
    x = components(features, np.isin(np.arange(len(y)), train), protocol()["components"])
    return Sample(x[train], y[train], np.asarray(groups)[train], x[test], y[test])
