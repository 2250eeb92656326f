"""The few pictures that README shows, each drawn by ``aesthemo figures`` from the model, the scenes or ``results/``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure

from .data import readers
from .evaluation import read_runs
from .files import digest, project_folder
from .models.networks import build
from .plots import network_diagram, save, use_style, vote_bars
from .run_plots import comparison
from .tasks import PATENT_TASKS

OASIS_RUNS = "results/oasis-teach.csv"
SHOWN_SCENES = 10


def sources() -> dict[str, tuple[str, Callable[[], Figure]]]:
    """By file name: the hash of what the picture is drawn from, and how to draw it."""
    with torch.device("meta"):  # shapes alone
        network = build("cross_branch", PATENT_TASKS, "vgg16", "none", "random")
    scenes = readers.read("scenes", readers.data_root("scenes"), images=96)
    runs = project_folder() / OASIS_RUNS
    return {
        "network.png": (digest([str(network)]), lambda: network_diagram(network)),
        "scenes.png": (scenes.fingerprint(), lambda: vote_bars(scenes, range(SHOWN_SCENES))),
        "oasis-auc.png": (hashlib.sha256(runs.read_bytes()).hexdigest(), lambda: comparison(read_runs(runs), "auc")),
    }


def draw_all(folder: Path) -> list[Path]:
    """Draw every picture; each carries the command and its source's hash in its metadata, so that a stale one shows."""
    use_style()
    drawn = []
    for name, (source, draw) in sources().items():
        path = folder / name
        save(draw(), path, {"Comment": "aesthemo figures", "Source": source})
        drawn.append(path)
    return drawn
