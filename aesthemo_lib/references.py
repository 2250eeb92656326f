"""What a comparison needs beside the networks: a frozen probe, late fusion, one human rater, and a whole new panel.

The first two give predictions in the form of a run's ``predictions.csv``, so ``calibration.endpoints`` measures them as
it measures runs; of people there are only answers, which are measured here under the same names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from .calibration import DISTANCES, GAPS, endpoints, scales, spearman, truth_and_probabilities
from .data import ratings as rating
from .data.images import pixels_sha256
from .data.table import AnnotatedImages
from .device import pick_device
from .evaluation import METRICS, bootstrap_interval, prediction_table
from .files import atomic, cache_folder, digest
from .models.backbones import HALF, IMAGENET_STD
from .models.networks import build
from .tasks import Task
from .training.config import Config
from .training.fit import predict_logits
from .training.labels import told
from .training.runs import Prepared, prepare

STRENGTHS = tuple(10.0**power for power in range(-5, 1))
"""C of scikit-learn's logistic regression, from which cross-validation chooses; smaller is simpler."""
RECIPE_MEANS = {HALF: HALF, IMAGENET_STD: (0.485, 0.456, 0.406)}
"""What a frozen network's weights expect to be subtracted, by the std that they expect; no data set has a say in it."""


def references(config: Config, predictions: pd.DataFrame, root: Path | None = None) -> dict[str, dict[str, dict]]:
    """All four of a split, by name and task, in the form of ``calibration.endpoints``.

    Args:
        config: of the run of ``independent`` on that split.
        predictions: that run's ``predictions.csv``, all parts.
        root: the data's folder.

    >>> from .training.runs import train
    >>> config = Config("scenes", "independent", preset="smoke", data_options={"images": 48, "size": 40})
    >>> predictions = pd.read_csv(train(config, "runs", "scenes").folder / "predictions.csv")
    >>> list(references(config, predictions, Path("scenes")))
    ['linear_probe', 'late_fusion', 'one_rater', 'new_panel']
    """
    images, split = (prepared := prepare(config, root)).images, prepared.split
    return {
        "linear_probe": endpoints(linear_probe(config, root), images),
        "late_fusion": endpoints(late_fusion(predictions, images.tasks), images),
        "one_rater": one_rater(images, split.test), "new_panel": new_panel(images, split.test),
    }


def linear_probe(config: Config, root: Path | None = None) -> pd.DataFrame:
    """Frozen features, and a logistic regression for each task: what pretraining alone is worth.

    Trained on the labels and images that a run of this configuration trains on. C has the best log-loss in a
    cross-validation over the training groups.

    Args:
        config: its data, split, backbone, weights, image size and labels count; its method doesn't.
        root: the data's folder.

    Returns:
        predictions of all parts, as a run's ``predictions.csv``.

    >>> config = Config("scenes", preset="smoke", data_options={"images": 48, "size": 40})
    >>> table = linear_probe(config, Path("scenes"))
    >>> len(table), table["part"].unique().tolist()
    (48, ['train', 'validation', 'test'])
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
        images.tasks, {name: p[rows] for name, p in found.items()}, image=[images.paths[row].name for row in rows],
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

    >>> from .tasks import AESTHETICS
    >>> high = np.tile([0.1, 0.2, 0.9, 0.8], 10)
    >>> predictions = pd.DataFrame({"image": range(40), "group": range(40), "part": ["validation"] * 20 + ["test"] * 20,
    ...                             "true_aesthetics": np.where(high > 0.5, "high", "low"),
    ...                             "aesthetics_low": 1 - high, "aesthetics_high": high})
    >>> late_fusion(predictions, (AESTHETICS,))["aesthetics"].tolist()[:4]
    ['low', 'low', 'high', 'high']
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

    >>> config = Config("scenes", preset="smoke", data_options={"images": 48, "size": 40})
    >>> frozen_features(config, prepare(config, Path("scenes"))).shape
    (48, 64)
    """
    settings = config.training_settings()
    network = build("independent", prepared.images.tasks[:1], settings.backbone, settings.weights, seed=config.seed)
    network.branches[0]["head"][-1] = nn.Identity()
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

    >>> x, y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([0, 0, 1, 1])
    >>> fitted(x, y, groups=np.array(list("abcd")), classes=2)(np.array([[3.0]])).argmax().item()
    1
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


def one_rater(images: AnnotatedImages, rows: np.ndarray, resamples: int = 200) -> dict[str, dict]:
    """How well one person does what the networks do: against the consensus of the *others* who rated an image.

    - ``accuracy``, ``balanced_accuracy``: of a vote that is split over two classes each counts for half. Images count
      alike, whatever their number of raters.
    - ``auc``, ``spearman``, where ratings lie on a scale: each person ranks the images that they rated, against the
      others' consensus (and mean rating); the mean over people, each on a scale of their own.

    Args:
        images: with single ratings; a task without them gets None everywhere.
        rows: the images to look at, such as a split's test rows.
        resamples: of whole groups of images, for the 95 % intervals ``<name>_low`` and ``<name>_high``.

    Returns:
        by task what ``calibration.endpoints`` returns, and ``n``, the images that say something.

    >>> from .data.readers import read
    >>> images = read("scenes", "scenes", images=30, size=32)
    >>> 0.5 < one_rater(images, np.arange(30), resamples=9)["aesthetics"]["accuracy"] < 1
    True
    """
    part, found = images.select(rows), {}
    for task in part.tasks:
        empty = _undefined()
        found[task.name] = empty | (_one_rater(part, task, resamples) if task.name in part.rating_votes else {"n": 0})
    return found


def _undefined() -> dict[str, None]:
    return dict.fromkeys([*METRICS, "ece", *DISTANCES, "spearman", *GAPS])


def _one_rater(images: AnnotatedImages, task: Task, resamples: int) -> dict[str, float | None]:
    table, votes = images.ratings[task.name], images.rating_votes[task.name]
    others = rating.consensus(rating.others_votes(table["image"], votes, len(images)))
    keep = others != rating.UNLABELLED
    if not keep.any():
        return {"n": 0}
    table, others = table[keep], others[keep]
    image, right = table["image"].to_numpy(), votes[keep, others]
    each = 1 / np.bincount(image, minlength=len(images))[image]  # images count alike
    on_scale = images.levels.get(task.name) in ("ordinal", "interval") and len(task.classes) == 2

    def measure(times: np.ndarray) -> np.ndarray:
        weight = each * times[image]
        hits = np.bincount(others, weight * right, len(task.classes))
        total = np.bincount(others, weight, len(task.classes))
        auc = rater_auc(table["annotator"], table["value"], others, times[image]) if on_scale else np.nan
        return np.array([hits.sum() / total.sum(), (hits[total > 0] / total[total > 0]).mean(), auc])

    once, names = np.ones(len(images)), ("accuracy", "balanced_accuracy", "auc")
    values = pd.DataFrame({"row": np.arange(len(images))})
    low, high = bootstrap_interval(
        values, lambda drawn: measure(np.bincount(drawn["row"], minlength=len(images))), images.groups, resamples
    )
    found: dict[str, float | None]
    found = {f"{name}{end}": float(value) for end, ends in (("", measure(once)), ("_low", low), ("_high", high))
             for name, value in zip(names, ends, strict=True) if np.isfinite(value)}
    if on_scale:
        found["spearman"] = _rater_spearman(table)
    return found | {"n": len(np.unique(image))}


def rater_auc(rater, value, truth, weight) -> float:
    """The mean over raters of the AUC of each one's own ratings; NaN if none has rated images of both classes.

    Args:
        rater, value, truth, weight: (R,) who, the rating, the class 0 or 1, and how often the image counts.

    >>> rater_auc(rater=["anna"] * 4, value=[1, 4, 4, 7], truth=[0, 0, 1, 1], weight=[1, 1, 1, 1])
    0.875
    """
    person, who = np.unique(np.asarray(rater), return_inverse=True)
    level, value = np.unique(np.asarray(value), return_inverse=True)
    shape = (len(person), 2, len(level))
    count = np.bincount(np.ravel_multi_index((who, truth, value), shape), weight, np.prod(shape)).reshape(shape)
    low, high = count[:, 0], count[:, 1]
    pairs = low.sum(axis=1) * high.sum(axis=1)
    in_order = (high * (low.cumsum(axis=1) - low / 2)).sum(axis=1)
    return float((in_order[pairs > 0] / pairs[pairs > 0]).mean()) if (pairs > 0).any() else float("nan")


def _rater_spearman(table: pd.DataFrame) -> float | None:
    """The mean over raters (of ten images or more) of the rank correlation with the others' mean rating."""
    by_image = table.groupby("image")["value"]
    table = table.assign(others=(by_image.transform("sum") - table["value"]) / (by_image.transform("size") - 1))
    each = [spearman(mine["value"].to_numpy(), mine["others"].to_numpy())
            for _, mine in table.groupby("annotator") if len(mine) >= 10]
    each = [value for value in each if value is not None]
    return float(np.mean(each)) if each else None


def new_panel(images: AnnotatedImages, rows: np.ndarray, draws: int = 200, resamples: int = 200) -> dict[str, dict]:
    """The ceiling: how well a new panel of the same size, drawn from the old one, does what the networks do.

    ``accuracy``, ``balanced_accuracy`` and (of two classes) ``auc`` of its votes against the label; ``spearman`` of its
    mean rating with the published one. See ``ratings.panel_ceiling``.

    Args:
        images, rows, resamples: see ``one_rater``.
        draws: how many panels are drawn; the means over them are returned.

    Returns:
        by task what ``one_rater`` returns; None where nobody had two raters.

    >>> from .data.readers import read
    >>> images = read("scenes", "scenes", images=30, size=32)
    >>> 0.5 < new_panel(images, np.arange(30), draws=9, resamples=9)["aesthetics"]["accuracy"] <= 1
    True
    """
    part = images.select(rows)
    return {task.name: _undefined() | _new_panel(part, task, draws, resamples) for task in part.tasks}


def _new_panel(images: AnnotatedImages, task: Task, draws: int, resamples: int) -> dict[str, float | None]:
    from sklearn.metrics import roc_auc_score

    counts, votes, values = _ballots(images, task)
    keep = counts.sum(axis=1) > 1
    if not keep.any():
        return {"n": 0}
    counts, groups = counts[keep], images.groups[keep]
    label, size = rating.consensus(counts @ votes), np.ceil(counts.sum(axis=1)).astype(int)
    shares, rng = rating.distribution(counts), np.random.default_rng(0)
    right, auc, rank = np.zeros(len(counts)), [], []
    for _ in range(draws):
        drawn = rng.multinomial(size, shares)
        right += (rating.consensus(drawn @ votes) == label) / draws
        if len(task.classes) == 2 and len(np.unique(label)) == 2:
            auc.append(roc_auc_score(label, rating.distribution(drawn @ votes)[:, 1]))
        if values is not None:
            rank.append(spearman(drawn @ values / size, counts @ values / size))
    table = pd.DataFrame({"right": right, "label": label})
    measure = lambda t: np.array([t["right"].mean(), t.groupby("label")["right"].mean().mean()])  # noqa: E731
    low, high = bootstrap_interval(table, measure, groups, resamples)
    found: dict[str, float | None]
    found = {f"{name}{end}": float(value) for end, ends in (("", measure(table)), ("_low", low), ("_high", high))
             for name, value in zip(("accuracy", "balanced_accuracy"), ends, strict=True)}
    return found | {"auc": float(np.mean(auc)) if auc else None, "n": len(table),
                    "spearman": float(np.mean(rank)) if rank and None not in rank else None}  # type: ignore[arg-type]


def _ballots(images: AnnotatedImages, task: Task) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(N, K) how often each kind of ballot was cast, its (K, C) votes, and its (K,) rating where it is on a scale."""
    if task.name not in images.rating_votes:
        return images.votes[task.name], np.eye(len(task.classes)), None
    table, votes = images.ratings[task.name], images.rating_votes[task.name]
    if task.name not in scales(task, images):
        return *rating.count_ballots(table["image"], votes, len(images)), None
    kinds, first, kind = np.unique(table["value"].to_numpy(), return_index=True, return_inverse=True)
    return rating.add_votes(table["image"], rating.class_votes(kind, len(kinds)), len(images)), votes[first], kinds
