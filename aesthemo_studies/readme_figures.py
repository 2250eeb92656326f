"""README's and the site's pictures: ``python -m aesthemo_studies figures`` draws them from models and ``results/``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aesthemo_lib.attribution.ledger import Ledger, trunk_ledger
from aesthemo_lib.data import readers
from aesthemo_lib.data.images import decode
from aesthemo_lib.data.ratings import consensus_share
from aesthemo_lib.data.table import AnnotatedImages
from aesthemo_lib.evaluation import calibration
from aesthemo_lib.evaluation.calibration import truth_and_probabilities
from aesthemo_lib.files import digest, project_folder
from aesthemo_lib.inspector.null import NULL, beyond, null_bars, shown_rows
from aesthemo_lib.models.inference import image_batches
from aesthemo_lib.models.networks import build
from aesthemo_lib.plots.data import contact_sheet, label_table, vote_bars
from aesthemo_lib.plots.network import network_diagram
from aesthemo_lib.plots.runs import confusion, learning_curves, paired, reliability
from aesthemo_lib.plots.style import NEUTRAL, save, task_colour, use_style
from aesthemo_lib.prediction import packaged_run
from aesthemo_lib.tasks import EMOTION, PATENT_TASKS

from . import protocol as studies
from .few_labels import verdicts as few_labels
from .protocol import OVERLAP

OASIS_SEEDS = "results/studies/oasis_seeds.csv"
COMPARED = "results/studies/compare.csv"
SHOWN = "scene_00079.jpg"
"""The test scene of the ledger: both answers are right."""
TEXTS = {
    "inspector.png":
        "The inspector: a photograph of a pavilion above a lake, the probabilities of both tasks, and the network with "
        "the mean maps in its boxes and eight switches. One cut, of what emotion borrows from aesthetics at layer 2, "
        "has turned it from positive to neutral or negative, a close decision. All eight borrowed lines are grey: no "
        "more flows there than with the other branch untrained.",
    "network.png":
        "The network: two columns of five conv groups, aesthetics left and emotion right. Between neighbouring groups "
        "each branch receives a 1x1 mix of both branches' maps.",
    "shared-trunk.png":
        "Hard sharing, the alternative: one column of five conv groups for both tasks, which part only at their fully "
        "connected layers.",
    "scenes.png":
        "Eight drawn scenes, one for each emotion, above the votes of their ten annotators on aesthetics and emotion.",
    "labels.png":
        "A table of 96 drawn scenes by emotion and aesthetics: disgust, fear and sadness are mostly judged low, "
        "excitement slightly more often high; the other emotions are about even.",
    "answers.png":
        "Eight test scenes above the probabilities that the trained network gives to low and high aesthetics and to "
        "each of the eight emotions; its answers stand out.",
    "ledger.png":
        "A drawn forest in fog, and next to it both answers' logits, a bar for each part: of aesthetics' -0.79 for "
        "'high', +0.06 is borrowed, all of it within the grey null; of emotion's +2.33 for 'fear' +0.38 is borrowed, "
        "0.08 of it beyond the null.",
    "learning-curves.png":
        "Training and validation loss of both tasks over three epochs: the training losses fall, the validation losses "
        "fall until epoch 2 and hardly after it; a dot marks the epoch that was kept.",
    "confusion.png":
        "The confusion matrix of eight emotions, rows are the truth: most scenes lie on the diagonal, but awe is as "
        "often taken for fear as it is found, and a third of the disgusting scenes for amusement.",
    "reliability.png":
        "How often answers of a given confidence are right, for both tasks, and the diagonal of calibrated answers: "
        "emotion lies above it, and aesthetics mostly, so the network is underconfident.",
    "oasis-auc.png":
        "Each method's AUC minus the frozen probe's on three splits of OASIS, a mean of five seeds each: all means lie "
        "above zero, by .007 to .025 for aesthetics and .005 to .009 for emotion; all intervals contain zero.",
    "few-labels.png":
        "AUC minus the frozen probe's against 50 to 2,000 labels of one task, with 2,000 of the other: the exchange of "
        "answers learnt in turn starts at .07 and .05 and falls to zero, close to what is there; late fusion lies "
        "below it; a shared trunk lies around zero, exchanged hidden maps and independent heads around or below it.",
    "compare-auc.png":
        "Each contender's AUC minus the independent networks' on the same eight splits: for both tasks the intervals "
        "of cross-branch with a diagonal start, of its control, of cross-stitch and of the shared trunk contain zero; "
        "a random start and NDDR lie below it.",
}
"""What each picture shows, for readers who can't see it."""


class Picture(NamedTuple):
    """One picture: the hash of what it is drawn from, and how to draw it."""

    source: str
    draw: Callable[[], Figure]


def sources() -> dict[str, Picture]:
    """The pictures by file name."""
    seeds, compared = project_folder() / OASIS_SEEDS, project_folder() / COMPARED
    return {
        **_of_networks(), **_of_scenes(), **_of_the_packaged_run(),
        "oasis-auc.png": Picture(_hash(seeds), lambda: paired(seeds_of_oasis(), "auc", "linear_probe", OVERLAP)),
        "few-labels.png": Picture(_hash(few_labels.DRAWS), lambda: few_labels.curves(few_labels.read())),
        "compare-auc.png": Picture(_hash(compared), lambda: paired(compared_runs(), "auc", "independent", OVERLAP)),
    }


def compared_runs() -> pd.DataFrame:
    """The tuned rows of the study ``compare``, aesthetics first."""
    return studies.selected(studies.read("compare")).sort_values("task", kind="stable")


def seeds_of_oasis() -> pd.DataFrame:
    """The rows of the study ``oasis_seeds``, the mean of a split's seeds as one."""
    return studies.over_seeds(studies.selected(studies.read("oasis_seeds")), "auc")


def _hash(*paths: Path) -> str:
    return digest([hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest() for path in paths])


def _of_networks() -> dict[str, Picture]:
    pictures = {}
    for name, method in (("network.png", "cross_branch"), ("shared-trunk.png", "shared_bottom")):
        with torch.device("meta"):  # only shapes
            network = build(method, PATENT_TASKS, "vgg16", "none")
        drawn = [[name, list(values.shape)] for name, values in network.state_dict().items()]
        pictures[name] = Picture(digest(drawn), lambda network=network: network_diagram(network))
    return pictures


def _of_scenes() -> dict[str, Picture]:
    scenes, run = readers.read("scenes", readers.data_root("scenes"), images=96), packaged_run().folder
    drawn = scenes.fingerprint()
    return {
        "scenes.png": Picture(drawn, lambda: vote_bars(scenes, _one_of_each_emotion(scenes))),
        "labels.png": Picture(drawn, lambda: label_table(scenes)),
        "answers.png": Picture(digest([_hash(run / "predictions.csv"), drawn]), lambda: _answers(scenes)),
        "ledger.png": Picture(digest([_hash(run / "model.safetensors", project_folder() / NULL), drawn, SHOWN]),
                              lambda: _ledger_of_one(scenes)),
    }


def _of_the_packaged_run() -> dict[str, Picture]:
    run = packaged_run()
    source, predictions = _hash(*(run.folder / f"{name}.csv" for name in ("history", "predictions"))), run.predictions()
    binned = {t.name: {run.name: calibration.reliability(*truth_and_probabilities(predictions, t))} for t in run.tasks}
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
    """The trunk ledgers of the scene ``SHOWN``: a bar for each player, and behind what is borrowed the null's reach."""
    run = packaged_run()
    network, mean = run.network("cpu")
    (path,) = [path for path in scenes.paths if path.name == SHOWN]
    pixels = decode(path, run.settings.resize)[None]
    ledgers = trunk_ledger(network, next(image_batches(network, pixels, [0], mean, run.settings.crop)))
    null = null_bars(run, len(ledgers["emotion"].players))["tasks"]
    figure = Figure((9.2, 3.8))
    photo, *axes = figure.subplots(1, 3, width_ratios=(2.2, 3.4, 3.4))
    photo.imshow(decode(path, 256))
    photo.set_axis_off()
    for ax, task in zip(axes, run.tasks, strict=True):
        _ledger_rows(ax, ledgers[task.name], task.classes, null[task.name])
    lowest, highest = (pick(ax.get_xlim()[end] for ax in axes) for end, pick in enumerate((min, max)))
    for ax in axes:
        ax.set_xlim(min(lowest, -0.3 * highest), 1.15 * highest)
    axes[1].set_yticklabels([])
    axes[0].legend(loc="lower right")
    return figure


def _ledger_rows(ax: Axes, ledger: Ledger, classes: Sequence[str], null: dict) -> None:
    """One answer's logit split among its players; of two classes, the difference of both logits."""
    answer, pair = int(ledger.logits[0].argmax()), len(classes) == 2
    values = shown_rows(ledger.values[0])[0 if pair else answer]
    low, high = (np.array(null[end][0 if pair else answer]) for end in ("low", "high"))
    at = np.arange(len(values))
    ax.barh(at[1:], (high - low)[1:], 0.9, left=low[1:], color="#D5D5D2", label="90 % of the null")
    colours = [task_colour(stream.source if stream else ledger.task) for stream in ledger.streams]
    ax.barh(at, values, 0.5, color=colours)
    for place, value in enumerate(values):
        ax.text(max(value, high[place], 0) + 0.05, place, f"{value:+.2f}", va="center")
    outside = beyond(ledger, null)[0 if pair else answer]
    whole = f"'{classes[1]}' minus '{classes[0]}'" if pair else f"'{classes[answer]}'"
    ax.set_title(f"{ledger.task} says '{classes[answer]}'\nlogit of {whole}: {values.sum():+.2f}\n"
                 f"borrowed {values[1:].sum():+.2f},\nbeyond the null {outside:+.2f}")
    ax.axvline(0, color=NEUTRAL, lw=1)
    ax.set(yticks=at, yticklabels=ledger.players, ylim=(len(at) - 0.4, -0.6), xlabel="logit, beyond the mean image")
    ax.grid(axis="y", visible=False)


def _answers(scenes: AnnotatedImages) -> Figure:
    """A contact sheet of the first test scenes, from the packaged run's predictions."""
    predictions = packaged_run().predictions()
    predictions = predictions[predictions["image"].isin([path.name for path in scenes.paths])].head(8)
    paths = {path.name: path for path in scenes.paths}
    return contact_sheet([paths[name] for name in predictions["image"]],
                         predictions.drop(columns=[name for name in predictions if name.startswith("true_")]))


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
