"""The few pictures that README shows, each drawn by ``aesthemo figures`` from the model, the scenes or ``results/``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from .data import readers
from .data.ratings import consensus_share
from .data.table import TEST_FOLDS, AnnotatedImages
from .evaluation import read_runs
from .files import digest, project_folder
from .models.networks import build
from .plots import network_diagram, save, use_style, vote_bars
from .run_plots import paired
from .tasks import EMOTION, PATENT_TASKS

OASIS_RUNS = "results/oasis-teach.csv"


def sources() -> dict[str, tuple[str, Callable[[], Figure]]]:
    """By file name: the hash of what the picture is drawn from, and how to draw it."""
    with torch.device("meta"):  # shapes alone
        network = build("cross_branch", PATENT_TASKS, "vgg16", "none", "random")
    drawn = [[name, list(values.shape)] for name, values in network.state_dict().items()]
    scenes = readers.read("scenes", readers.data_root("scenes"), images=96)
    runs = project_folder() / OASIS_RUNS
    return {
        "network.png": (digest(drawn), lambda: network_diagram(network)),
        "scenes.png": (scenes.fingerprint(), lambda: vote_bars(scenes, _one_of_each_emotion(scenes))),
        "oasis-auc.png": (
            hashlib.sha256(runs.read_bytes()).hexdigest(),
            lambda: paired(read_runs(runs), "auc", "independent", 1 / (TEST_FOLDS - 1)),
        ),
    }


def _one_of_each_emotion(scenes: AnnotatedImages) -> list[int]:
    """For each emotion the row of the scene that most annotators agree on."""
    share, labels = consensus_share(scenes.votes["emotion"]), scenes.labels("emotion")
    return [int(np.where(labels == emotion, share, -1).argmax()) for emotion in range(len(EMOTION.classes))]


def draw_all(folder: Path) -> list[Path]:
    """Draw every picture; each carries the command and its source's hash in its metadata, so that a stale one shows."""
    use_style()
    drawn = []
    for name, (source, draw) in sources().items():
        path = folder / name
        save(draw(), path, {"Comment": "aesthemo figures", "Source": source})
        drawn.append(path)
    return drawn
