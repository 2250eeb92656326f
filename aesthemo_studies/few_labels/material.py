"""PARA's photographs as frozen features, their labels, and training sets that share no photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from aesthemo_lib.data.images import decode
from aesthemo_lib.data.readers import para
from aesthemo_lib.files import atomic, digest
from aesthemo_lib.models.backbones import HALF
from aesthemo_lib.models.inference import predict_logits
from aesthemo_lib.models.networks import build
from aesthemo_lib.tasks import AESTHETICS

from ..cells import read_protocol

TASKS = ("aesthetics", "emotion")
SIDE, COMPONENTS = 192, 128


@dataclass(frozen=True)
class Material:
    """Features and labels of all photographs, and who trains on which.

    Attributes:
        x: (N, D) float32, principal components of the training photographs' standardised features.
        y: (N, 2) class numbers 0 or 1, by ``TASKS``.
        replicates: (R, n) row numbers of training sets that share no photograph.
        test: (M,) row numbers of the official test.
    """

    x: np.ndarray
    y: np.ndarray
    replicates: Sequence[np.ndarray]
    test: np.ndarray


@lru_cache(maxsize=1)
def material(root: Path, out: Path) -> Material:
    """PARA's, with features that are computed once (about twenty minutes on a core) and kept below ``out``."""
    images, plan = para.read(root), read_protocol("few_labels")
    test = np.asarray(images.fixed) == "test"
    x = components(_features(images.paths, images.names, out), ~test, COMPONENTS)
    y = np.stack([images.labels(name) for name in TASKS], axis=1)
    rows = np.flatnonzero(~test)
    rows = rows[np.unique(np.asarray(images.groups)[rows], return_index=True)[1]]  # one of several identical files
    return Material(x, y, replicates(rows, plan["replicates"], plan["pilot"], plan["rich"]), np.flatnonzero(test))


def replicates(rows: np.ndarray, many: int, pilot: int, size: int, seed: int = 0) -> list[np.ndarray]:
    """Disjoint training sets: ``many`` of ``size`` rows, then what is left in ``pilot`` equal parts."""
    if many * size >= len(rows):
        raise ValueError(f"{len(rows)} training photographs are too few for {many} disjoint sets of {size} and a pilot")
    order = np.random.default_rng(seed).permutation(rows)
    cut = many * size
    left = (len(order) - cut) // pilot
    return [*order[:cut].reshape(many, size), *order[cut:cut + left * pilot].reshape(pilot, left)]


def components(features: np.ndarray, fitted_on: np.ndarray, many: int) -> np.ndarray:
    """(N, F) features to their first principal components, with a mean variance of 1 (not whitened)."""
    x = np.asarray(features, dtype=np.float32)
    z = (x - x[fitted_on].mean(axis=0)) / np.maximum(x[fitted_on].std(axis=0), 1e-6)
    values, axes = np.linalg.eigh(z[fitted_on].T @ z[fitted_on] / fitted_on.sum())
    return (z @ axes[:, ::-1][:, :many] / np.sqrt(values[::-1][:many].mean())).astype(np.float32)


def _features(paths: Sequence[Path], names: Sequence[str], out: Path) -> np.ndarray:
    """(N, 1280) float16: what enters Lite0's last layer, photographs at ``SIDE`` pixels."""
    target = Path(out) / "few_labels" / f"features-{digest([list(names), SIDE])[:12]}.npy"
    if not target.exists():
        parts = [features_of(paths[start:start + 256]) for start in range(0, len(paths), 256)]
        with atomic(target) as temporary, open(temporary, "wb") as file:
            np.save(file, np.concatenate(parts))
    return np.load(target, allow_pickle=False)


def features_of(paths: Sequence[Path]) -> np.ndarray:
    """Frozen features (N, 1280) float16 of some photographs."""
    network = build("independent", (AESTHETICS,), "efficientnet_lite0", "imagenet")
    network.branches[0].head[-1] = nn.Identity()
    pixels = np.stack([decode(path, SIDE) for path in paths])
    mean = np.full(pixels.shape[1:], 255 * HALF[0], np.float32)
    (logits,) = predict_logits(network, pixels, np.arange(len(pixels)), mean, SIDE, torch.device("cpu")).values()
    return logits.astype(np.float16)
