"""README's and the site's pictures: ``python -m aesthemo_studies figures`` draws them from models and ``results/``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from aesthemo_lib.attribution.ledger import trunk_ledger
from aesthemo_lib.data import readers
from aesthemo_lib.data.images import decode
from aesthemo_lib.data.ratings import consensus_share
from aesthemo_lib.data.table import AnnotatedImages
from aesthemo_lib.evaluation import calibration
from aesthemo_lib.evaluation.calibration import truth_and_probabilities
from aesthemo_lib.evaluation.comparison import read_runs
from aesthemo_lib.files import digest, project_folder
from aesthemo_lib.inspector.null import null_bars
from aesthemo_lib.models.inference import image_batches
from aesthemo_lib.models.networks import build
from aesthemo_lib.plots.attribution import ledger_bars
from aesthemo_lib.plots.data import contact_sheet, label_table, vote_bars
from aesthemo_lib.plots.network import network_diagram
from aesthemo_lib.plots.runs import confusion, learning_curves, paired, reliability
from aesthemo_lib.plots.style import save, task_colour, use_style
from aesthemo_lib.prediction import packaged_run
from aesthemo_lib.tasks import EMOTION, PATENT_TASKS

from . import protocol as studies
from .few_labels import verdicts as few_labels
from .protocol import OVERLAP

OASIS_RUNS = "results/oasis-teach.csv"
COMPARED = "results/studies/compare.csv"
SHOWN = "scene_00030.jpg"
"""The test scene of the ledger: both answers are right."""
TEXTS = {
    "inspector.png":
        "The inspector: a drawn lamp by a lake at dusk, the probabilities of both tasks, and the network with the mean "
        "maps in its boxes and four switches. One cut, of what emotion borrows from aesthetics at layer 2, has turned "
        "it from contentment to sadness, which is what people said.",
    "network.png":
        "The network: two rows of five conv groups, aesthetics above and emotion below. Between neighbouring groups "
        "each branch receives a 1x1 mix of both branches' maps.",
    "shared-trunk.png":
        "Hard sharing, the alternative: one row of five conv groups for both tasks, which part only at their fully "
        "connected layers.",
    "scenes.png":
        "Eight drawn scenes, one an emotion, each above the votes of its ten annotators on aesthetics and emotion.",
    "labels.png":
        "A table of 96 drawn scenes by emotion and aesthetics: awe and excitement are mostly judged high, anger and "
        "fear mostly low.",
    "answers.png":
        "Ten test scenes above the probabilities that the trained network gives to low and high aesthetics and to "
        "each of the eight emotions; its answers stand out.",
    "ledger.png":
        "A drawn night of fireworks, and next to it one bar for each class: a third of aesthetics' high comes from "
        "emotion's maps, and a tenth of emotion's excitement from aesthetics'.",
    "learning-curves.png":
        "Training and validation loss of both tasks over five epochs: the training losses fall, the validation losses "
        "fall slowly; a dot marks the epoch that was kept.",
    "confusion.png":
        "The confusion matrix of eight emotions, rows are the truth: most scenes lie on the diagonal, but contentment "
        "is mostly taken for sadness, and disgust for amusement.",
    "reliability.png":
        "How often answers of a given confidence are right, for both tasks, and the diagonal of calibrated answers: "
        "aesthetics lies above it, so the network is underconfident.",
    "oasis-auc.png":
        "Each method's AUC minus the independent networks' on the same three splits, 192 px: for both tasks the "
        "intervals of cross-branch, the linear probe and the shared trunk hold zero.",
    "few-labels.png":
        "AUC minus the frozen probe's against 50 to 2,000 labels of one task, with 2,000 of the other: the exchange of "
        "answers learnt in turn starts at .07 and .05 and falls to zero, close to what is there; late fusion lies "
        "below it; a shared trunk lies around zero, exchanged hidden maps and independent heads around or below it.",
    "compare-auc.png":
        "Each contender's AUC minus the independent networks' on the same eight splits: for both tasks the intervals "
        "of cross-branch with a diagonal start, of its control, of cross-stitch and of the shared trunk hold zero; a "
        "random start and NDDR lie below it.",
}
"""What each picture shows, for who can't see it."""


class Picture(NamedTuple):
    """One picture: the hash of what it is drawn from, and how to draw it."""

    source: str
    draw: Callable[[], Figure]


def sources() -> dict[str, Picture]:
    """The pictures by file name."""
    runs, compared = project_folder() / OASIS_RUNS, project_folder() / COMPARED
    return {
        **_of_networks(), **_of_scenes(), **_of_the_packaged_run(),
        "oasis-auc.png": Picture(_hash(runs), lambda: paired(read_runs(runs), "auc", "independent", OVERLAP)),
        "few-labels.png": Picture(_hash(few_labels.DRAWS), lambda: few_labels.curves(few_labels.read())),
        "compare-auc.png": Picture(_hash(compared), lambda: paired(compared_runs(), "auc", "independent", OVERLAP)),
    }


def compared_runs() -> pd.DataFrame:
    """The tuned rows of the study ``compare``, aesthetics first."""
    return studies.selected(studies.read("compare")).sort_values("task", kind="stable")


def _hash(*paths: Path) -> str:
    return digest([hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest() for path in paths])


def _of_networks() -> dict[str, Picture]:
    found = {}
    for name, method in (("network.png", "cross_branch"), ("shared-trunk.png", "shared_bottom")):
        with torch.device("meta"):  # shapes alone
            network = build(method, PATENT_TASKS, "vgg16", "none")
        drawn = [[name, list(values.shape)] for name, values in network.state_dict().items()]
        found[name] = Picture(digest(drawn), lambda network=network: network_diagram(network))
    return found


def _of_scenes() -> dict[str, Picture]:
    scenes, run = readers.read("scenes", readers.data_root("scenes"), images=96), packaged_run().folder
    drawn = scenes.fingerprint()
    return {
        "scenes.png": Picture(drawn, lambda: vote_bars(scenes, _one_of_each_emotion(scenes))),
        "labels.png": Picture(drawn, lambda: label_table(scenes)),
        "answers.png": Picture(digest([_hash(run / "predictions.csv"), drawn]), lambda: _answers(scenes)),
        "ledger.png": Picture(
            digest([_hash(run / "model.safetensors"), drawn, SHOWN]), lambda: _ledger_of_one(scenes)),
    }


def _of_the_packaged_run() -> dict[str, Picture]:
    run = packaged_run()
    source, told = _hash(*(run.folder / f"{name}.csv" for name in ("history", "predictions"))), run.predictions()
    binned = {t.name: {run.name: calibration.reliability(*truth_and_probabilities(told, t))} for t in run.tasks}
    counts = {f"emotion, {run.metrics['emotion']['n']} test scenes": np.array(run.metrics["emotion"]["confusion"])}
    return {
        "learning-curves.png": Picture(source, lambda: learning_curves(run.history())),
        "confusion.png": Picture(source, lambda: confusion(counts, EMOTION.classes, task_colour("emotion"))),
        "reliability.png": Picture(source, lambda: reliability(binned)),
    }


def _one_of_each_emotion(scenes: AnnotatedImages) -> list[int]:
    """For each emotion the row of the scene that most annotators agree on."""
    share, labels = consensus_share(scenes.votes["emotion"]), scenes.labels("emotion")
    return [int(np.where(labels == emotion, share, -1).argmax()) for emotion in range(len(EMOTION.classes))]


def _ledger_of_one(scenes: AnnotatedImages) -> Figure:
    """The trunk ledger of the scene ``SHOWN``, and in the titles what its two answers owe to the other branch."""
    run = packaged_run()
    network, mean = run.network("cpu")
    (path,) = [path for path in scenes.paths if path.name == SHOWN]
    pixels = decode(path, run.settings.resize)[None]
    ledgers = trunk_ledger(network, next(image_batches(network, pixels, [0], mean, run.settings.crop)))
    classes = {task.name: task.classes for task in run.tasks}
    null = null_bars(run, len(ledgers["emotion"].players)).get("tasks")
    figure = ledger_bars(list(ledgers.values()), classes, photo=pixels[0], null=null)
    for ax, (name, ledger) in zip(figure.axes[1:], ledgers.items(), strict=True):
        answer = ledger.logits[0].argmax()
        values = ledger.values[0, answer] - (ledger.values[0, 1 - answer] if len(classes[name]) == 2 else 0)
        whole, borrowed = values.sum(), values[1:].sum()
        ax.set_title(f"{name} says {classes[name][answer]!r}: {whole:+.2f}, {borrowed:+.2f} of it borrowed")
    return figure


def _answers(scenes: AnnotatedImages) -> Figure:
    """A contact sheet of the first test scenes, from the packaged run's predictions."""
    told = packaged_run().predictions()
    told = told[told["image"].isin([path.name for path in scenes.paths])].head(10)
    paths = {path.name: path for path in scenes.paths}
    return contact_sheet([paths[name] for name in told["image"]],
                         told.drop(columns=[name for name in told if name.startswith("true_")]))


def draw_all(folder: Path) -> list[Path]:
    """Draw every picture; each carries the command and its source's hash in its metadata, so that a stale one shows."""
    use_style()
    drawn = []
    for name, picture in sources().items():
        path = folder / name
        save(picture.draw(), path, {"Comment": "aesthemo figures", "Source": picture.source,
                                    "Description": TEXTS[name]})
        drawn.append(path)
    return drawn
