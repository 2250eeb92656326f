"""The few pictures that README shows, each drawn by ``aesthemo figures`` from the model, the scenes or ``results/``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from .attribution import image_batches
from .data import readers
from .data.images import decode
from .data.ratings import consensus_share
from .data.table import TEST_FOLDS, AnnotatedImages
from .evaluation import read_runs
from .files import digest, project_folder
from .ledger import trunk_ledger
from .models.networks import build
from .plots import ledger_bars, network_diagram, save, use_style, vote_bars
from .pretrained import packaged_run
from .run_plots import paired
from .tasks import EMOTION, PATENT_TASKS

OASIS_RUNS = "results/oasis-teach.csv"


def sources() -> dict[str, tuple[str, Callable[[], Figure]]]:
    """By file name: the hash of what the picture is drawn from, and how to draw it."""
    with torch.device("meta"):  # shapes alone
        network = build("cross_branch", PATENT_TASKS, "vgg16", "none", "random")
    drawn = [[name, list(values.shape)] for name, values in network.state_dict().items()]
    scenes = readers.read("scenes", readers.data_root("scenes"), images=96)
    runs, weights = project_folder() / OASIS_RUNS, packaged_run().folder / "model.safetensors"
    return {
        "network.png": (digest(drawn), lambda: network_diagram(network)),
        "scenes.png": (scenes.fingerprint(), lambda: vote_bars(scenes, _one_of_each_emotion(scenes))),
        "oasis-auc.png": (
            hashlib.sha256(runs.read_bytes()).hexdigest(),
            lambda: paired(read_runs(runs), "auc", "independent", 1 / (TEST_FOLDS - 1)),
        ),
        "ledger.png": (digest([hashlib.sha256(weights.read_bytes()).hexdigest(), scenes.fingerprint()]),
                       lambda: _ledger_of_a_borrower(scenes)),
    }


def _one_of_each_emotion(scenes: AnnotatedImages) -> list[int]:
    """For each emotion the row of the scene that most annotators agree on."""
    share, labels = consensus_share(scenes.votes["emotion"]), scenes.labels("emotion")
    return [int(np.where(labels == emotion, share, -1).argmax()) for emotion in range(len(EMOTION.classes))]


def _ledger_of_a_borrower(scenes: AnnotatedImages) -> Figure:
    """The trunk ledger of that test scene, of those judged rightly, for whose answers most is borrowed."""
    run = packaged_run()
    network, mean = run.network("cpu")
    told = run.predictions()
    right = np.logical_and.reduce([told[t.name] == told[f"true_{t.name}"] for t in run.tasks])
    number = told["image"].str.extract(r"(\d+)", expand=False).astype(int)
    rows = number[right & (number < len(scenes))].to_numpy()
    pixels = np.stack([decode(scenes.paths[row], run.settings.resize) for row in rows])
    batches = image_batches(network, pixels, np.arange(len(rows)), mean, run.settings.crop, batch=len(rows))
    ledgers = trunk_ledger(network, next(batches))
    answers = {name: ledger.logits.argmax(1) for name, ledger in ledgers.items()}
    borrowed = sum(ledger.borrowed()[np.arange(len(rows)), answers[name]] for name, ledger in ledgers.items())
    most = int(borrowed.argmax())
    return ledger_bars(list(ledgers.values()), {t.name: t.classes for t in run.tasks}, most, pixels[most])


def draw_all(folder: Path) -> list[Path]:
    """Draw every picture; each carries the command and its source's hash in its metadata, so that a stale one shows."""
    use_style()
    drawn = []
    for name, (source, draw) in sources().items():
        path = folder / name
        save(draw(), path, {"Comment": "aesthemo figures", "Source": source})
        drawn.append(path)
    return drawn
