"""The labels that a training gets: the consensus labels, or fewer, permuted or softer ones.

Only what the network learns from changes. The test images keep their labels, and so do all metrics.
"""

import numpy as np

from ..data.table import AnnotatedImages, Split

KINDS = {"permute": list, "keep": dict, "halves": bool, "train_share": float, "soft": bool}
"""What ``Config.labels`` may hold: 'permute' [task, ..], 'keep' {task: share}, 'halves', 'train_share', 'soft'."""


def check(spec: dict) -> None:
    """Raise ValueError for an unknown key in a ``Config.labels``, a value of another kind, or a share outside 0..1."""
    for key, value in spec.items():
        if key not in KINDS:
            raise ValueError(f"labels: unknown {key!r}; choose one of {', '.join(KINDS)}")
        if not isinstance(value, KINDS[key]):
            raise ValueError(f"labels: {key} expects {KINDS[key].__name__}, got {value!r}")
    for share in (spec.get("train_share", 1.0), *spec.get("keep", {}).values()):
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
            raise ValueError(f"labels: a share lies above 0 and is at most 1, got {share!r}")


def training_labels(
    images: AnnotatedImages, split: Split, spec: dict, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The labels and training rows that a training gets.

    - ``permute``: these tasks' labels change places among the training images, and among the validation images: the
      null of a comparison.
    - ``keep``: a task's labels stay for about this part of the training images. Whole groups lose theirs, since
      another photograph of the same theme would give the label away.
    - ``halves``: each training image is labelled for only one task; whole groups go to the tasks in turn.
    - ``train_share``: about this part of the training images is used at all, again by whole groups.

    Args:
        spec: see ``KINDS``; 'soft' is for ``targets``.
        seed: of what is drawn. Larger parts of one seed hold the smaller ones.

    Returns:
        labels (N,) int64 by task name, -1 where unlabelled, and the training rows.
    """
    names = [task.name for task in images.tasks]
    if unknown := {*spec.get("permute", ()), *spec.get("keep", ())} - set(names):
        raise ValueError(f"labels: no task {sorted(unknown)[0]!r}; the tasks are {', '.join(names)}")
    labels = {name: images.labels(name).copy() for name in names}
    for name in spec.get("permute", ()):
        labels[name] = labels[name][_exchanged(len(images), split, seed, names.index(name))]
    for name, share in spec.get("keep", {}).items():
        labels[name][_beyond(images.groups, split.train, share, [seed, 100 + names.index(name)])] = -1
    if spec.get("halves"):
        groups, member = np.unique(images.groups[split.train], return_inverse=True)
        turn = np.random.default_rng([seed, 2000]).permutation(len(groups))[member] % len(names)
        for i, name in enumerate(names):
            labels[name][split.train[turn != i]] = -1
    dropped = _beyond(images.groups, split.train, spec.get("train_share", 1.0), [seed, 1000])
    return labels, np.setdiff1d(split.train, dropped)


def _beyond(groups: np.ndarray, rows: np.ndarray, share: float, seed: list[int]) -> np.ndarray:
    """The rows of the groups that come, in a drawn order, after the first ``share`` of all rows."""
    names, member = np.unique(groups[rows], return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    before = np.zeros(len(names), dtype=np.int64)
    before[order[1:]] = np.cumsum(np.bincount(member, minlength=len(names))[order])[:-1]
    return rows[before[member] >= share * len(rows)]


def _exchanged(images: int, split: Split, seed: int, task: int) -> np.ndarray:
    """(N,) the image from which each image gets its label when a task is permuted; both are of the same part."""
    source, rng = np.arange(images), np.random.default_rng([seed, task])
    for rows in (split.train, split.validation):
        source[rows] = rng.permutation(rows)
    return source


def targets(images: AnnotatedImages, split: Split, spec: dict, seed: int) -> dict[str, np.ndarray]:
    """The vote distributions as soft targets: (N, C) float32 rows that sum to 1 (0 where nobody voted), by task.

    They are permuted as ``training_labels`` are.
    """
    shares = {}
    for number, task in enumerate(images.tasks):
        votes = np.asarray(images.votes[task.name], dtype=np.float64)
        shares[task.name] = (votes / np.maximum(votes.sum(axis=1, keepdims=True), 1e-12)).astype(np.float32)
        if task.name in spec.get("permute", ()):
            shares[task.name] = shares[task.name][_exchanged(len(images), split, seed, number)]
    return shares
