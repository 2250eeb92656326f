"""Frozen features with a logistic regression per task (linear probe), and late fusion of two networks' answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from ..data.images import pixels_sha256
from ..device import pick_device
from ..evaluation.calibration import truth_and_probabilities
from ..evaluation.metrics import prediction_table
from ..files import atomic, cache_folder, digest
from ..models.backbones import HALF, IMAGENET_STD
from ..models.inference import predict_logits
from ..models.networks import build
from ..tasks import Task
from .config import Config
from .labels import told
from .runs import Prepared, prepare

STRENGTHS = tuple(10.0**power for power in range(-5, 1))
"""C of scikit-learn's logistic regression, from which cross-validation chooses; smaller is simpler."""


RECIPE_MEANS = {HALF: HALF, IMAGENET_STD: (0.485, 0.456, 0.406)}
"""What a frozen network's weights expect to be subtracted, by the std that they expect; no data set has a say in it."""


def linear_probe(config: Config, root: Path | None = None) -> pd.DataFrame:
    """Frozen features, and a logistic regression for each task: what pretraining alone is worth.

    Trained on the labels and images that a run of this configuration trains on. C has the best log-loss in a
    cross-validation over the training groups.

    Args:
        config: its data, split, backbone, weights, image size and labels count; its method doesn't.
        root: the data's folder.

    Returns:
        predictions of all parts, as a run's ``predictions.csv``.
    """
    prepared = prepare(config, root)
    images, split = prepared.images, prepared.split
    labels, train = told(images, split, config.labels, config.seed)
    x = frozen_features(config, prepared)
    found = {
        task.name: fitted(x[rows], labels[task.name][rows], images.groups[rows], len(task.classes))(x)
        for task in images.tasks for rows in (train[labels[task.name][train] >= 0],)
    }
    rows = np.concatenate(split)
    part = np.repeat(split._fields, [len(of_part) for of_part in split])
    truth = {f"true_{t.name}": np.array([*t.classes, ""], dtype=object)[images.labels(t.name)[rows]]
             for t in images.tasks}
    return prediction_table(
        images.tasks, {name: p[rows] for name, p in found.items()}, image=[images.names[row] for row in rows],
        group=images.groups[rows], part=part, **truth,
    )


def late_fusion(predictions: pd.DataFrame, tasks: tuple[Task, ...]) -> pd.DataFrame:
    """Two single-task networks that talk at the very end: each task from both networks' log-probabilities.

    A logistic regression a task, fitted on the validation images (the networks have learned the training images by
    heart); its C is chosen by a cross-validation over their groups.

    Args:
        predictions: of a run of ``independent``, all parts.
        tasks: its tasks.

    Returns:
        predictions of the same images.
    """
    read = {task.name: truth_and_probabilities(predictions, task) for task in tasks}
    x = np.concatenate([np.log(np.maximum(p, 1e-12)) for _, p in read.values()], axis=1)
    held, found = predictions["part"].to_numpy() == "validation", {}
    for task in tasks:
        rows = held & (read[task.name][0] >= 0)
        truth, groups = read[task.name][0][rows], predictions["group"].astype(str).to_numpy()[rows]
        found[task.name] = fitted(x[rows], truth, groups, len(task.classes))(x)
    kept = ["image", "group", "part", *(f"true_{task.name}" for task in tasks)]
    return prediction_table(tasks, found, **predictions[kept])


def frozen_features(config: Config, prepared: Prepared) -> np.ndarray:
    """(N, D) what enters the last fully connected layer of an untrained branch, computed once and kept.

    One pass a data set, backbone and image size, whatever the split: kept in the cache under a name that holds a hash
    of the pixels and of the weights.
    """
    settings = config.training_settings()
    network = build("independent", prepared.images.tasks[:1], settings.backbone, settings.weights, seed=config.seed)
    network.branches[0].head[-1] = nn.Identity()
    weights = hashlib.sha256()
    for value in network.state_dict().values():
        weights.update(value.contiguous().numpy())
    key = digest([pixels_sha256(prepared.pixels), weights.hexdigest(), settings.crop])
    target = cache_folder() / "features" / f"{prepared.images.name}-{settings.backbone}-{settings.crop}-{key[:16]}.npy"
    try:
        return np.load(target, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # not there, or damaged
        features = _features(network, prepared.pixels, settings.crop)
    with atomic(target) as temporary:
        np.save(temporary, features)
    return features


def _features(network: nn.Module, pixels: np.ndarray, side: int) -> np.ndarray:
    device = pick_device(None)
    network = network.to(device, memory_format=torch.channels_last)
    mean = np.broadcast_to(np.array(RECIPE_MEANS[network.std], np.float32) * 255, pixels.shape[1:]).copy()
    (features,) = predict_logits(network, pixels, np.arange(len(pixels)), mean, side, device).values()
    return features.reshape(len(pixels), -1)


def fitted(x: np.ndarray, y: np.ndarray, groups: np.ndarray, classes: int) -> Callable[[np.ndarray], np.ndarray]:
    """A logistic regression on standardised columns whose C is chosen by cross-validation over whole groups.

    Args:
        x: (N, D).
        y: (N,) class numbers.
        groups: (N,) names; with fewer than two of them C is 1e-3, since there is nothing to choose it by.
        classes: C; those that don't occur get probability 0.

    Returns:
        a function from (M, D) to (M, C) probabilities.
    """
    from sklearn.metrics import log_loss
    from sklearn.model_selection import GroupKFold

    x, folds = np.asarray(x, dtype=np.float64), min(5, len(np.unique(groups)))
    if folds < 2:
        return _regressions(x, y, classes)(1e-3)
    loss = np.zeros(len(STRENGTHS))
    for train, test in GroupKFold(folds, shuffle=True, random_state=0).split(x, y, groups):
        make = _regressions(x[train], y[train], classes)
        loss += [log_loss(y[test], make(c)(x[test]), labels=np.arange(classes), normalize=False) for c in STRENGTHS]
    return _regressions(x, y, classes)(STRENGTHS[int(loss.argmin())])


def _regressions(x: np.ndarray, y: np.ndarray, classes: int) -> Callable[[float], Callable[[np.ndarray], np.ndarray]]:
    """By C, a logistic regression of these rows."""
    from sklearn.linear_model import LogisticRegression

    mean, std, present = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6), np.unique(y)
    turn = np.eye(x.shape[1])
    if len(x) < x.shape[1]:  # the penalty's optimum lies in the rows' span: in its coordinates the fit is the same
        turn = np.linalg.svd((x - mean) / std, full_matrices=False)[2].T
    turn = turn / std[:, None]

    def make(strength: float) -> Callable[[np.ndarray], np.ndarray]:
        model = LogisticRegression(C=strength, max_iter=1000)
        if len(present) > 1:
            model.fit((x - mean) @ turn, y)

        def predict(x: np.ndarray) -> np.ndarray:
            p = np.zeros((len(x), classes))
            p[:, present] = model.predict_proba((x - mean) @ turn) if len(present) > 1 else 1.0
            return p

        return predict

    return make
