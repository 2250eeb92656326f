"""PARA's official test in each form of the emotion: last layers on frozen features, and networks trained as a whole.

The bundled network for photographs was trained on the form 'positive'. Here its two branches and their exchange stay as
they are, and each task gets a new last layer, a logistic regression on the shares of the training photographs' votes.
``--train`` first fine-tunes two whole branches for each form, which asks for a GPU (`small-para` makes a copy of PARA
that can travel to one):

    python -m aesthemo_studies para-forms --root <PARA's folder> [--train]
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from aesthemo_lib.data import readers
from aesthemo_lib.data.images import load_pixels, mean_image
from aesthemo_lib.data.readers.para import FORMS
from aesthemo_lib.data.table import AnnotatedImages
from aesthemo_lib.device import pick_device, set_threads
from aesthemo_lib.evaluation import task_metrics
from aesthemo_lib.evaluation.health import accuracy_interval, auc_interval
from aesthemo_lib.evaluation.metrics import majority_class, softmax
from aesthemo_lib.files import BUNDLED, atomic, digest, project_folder, show_progress
from aesthemo_lib.models.inference import predict_logits
from aesthemo_lib.models.networks import build
from aesthemo_lib.training import Config
from aesthemo_lib.training.fit import Data, fit
from aesthemo_lib.training.labels import targets
from aesthemo_lib.training.probe import NEVER, regression
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import build_network, weighed

from .cells import Study, key, short
from .whole_networks.study import WEIGHTS

STARTS = ("imagenet", "photographs")
WHOLE = "all layers"  #: How the rows of networks that were trained as a whole are called
TRAINING = {"epochs": 2, "patience": 2}
"""What differs from preset teach's recipe for PARA: a second pass, since two branches start from ImageNet at once."""
SIDE = 192
"""Of what the bundled network was trained on last, and so of both."""
CHUNK = 512


def measure(root: Path, out: Path, to: Path | None = None) -> Path:
    """Write ``results/para_forms.csv``; features are kept below ``out`` (about 15 CPU-minutes in all).

    Args:
        root: PARA's folder.
        out: the folder of all studies.
        to: the folder of the table.
    """
    forms = {form: readers.read("para", root, emotion=form) for form in FORMS}
    images, rows, whole = forms["positive"], [], trainings(out, root)
    for start in STARTS:
        x = features(start, images, out)
        rows.append(answers(start, "", "aesthetics", images, x["aesthetics"]))
        for form, of_form in forms.items():
            rows.append(answers(start, form, "emotion", of_form, x["emotion"]))
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    if any(whole.path(name).exists() for name in whole.cells):
        table = pd.concat([table, whole.gather()], ignore_index=True)
    to = to or project_folder() / "results"
    with atomic(to / "para_forms.csv") as temporary:
        table.round(5).to_csv(temporary, index=False)
    return to / "para_forms.csv"


def trainings(out: Path, root: Path) -> Study:
    """Two branches and their exchange, fine-tuned as a whole for each form; a cell is a form."""
    return Study("para_forms", {key(WHOLE, form, plan=TRAINING): form for form in FORMS},
                 partial(whole_network, root=Path(root)), Path(out))


def whole_network(form: str, root: Path) -> Iterator[dict]:
    """Train both tasks on the official training part, from ImageNet and a linear probe; a row for each task."""
    set_threads()
    weights = Path(root) / WEIGHTS
    config = Config("para", "cross_branch", data_options={"emotion": form},
                    settings={"weights": str(weights) if weights.exists() else "imagenet"} | TRAINING)
    settings, device = config.training_settings(), pick_device()
    images, pixels = load_pixels(readers.read("para", root, emotion=form), settings.resize)
    split, shares = images.split(0), targets(images, images.split(0), {}, 0)
    network = build_network(config, weighed(config, images.tasks))
    labels = {task.name: images.labels(task.name) for task in images.tasks}
    data = Data(pixels, mean_image(pixels, split.train), labels, split.train, split.validation, shares,
                np.asarray(images.groups))
    fit(network, data, settings, 0, device, title=form)
    logits = predict_logits(network, pixels, split.test, data.mean, settings.crop, device)
    for task in images.tasks:
        trained = int((shares[task.name][split.train].sum(axis=1) > 0).sum())
        yield _row(WHOLE, form, task.name, images, softmax(logits[task.name]), trained)


def features(start: str, images: AnnotatedImages, out: Path) -> dict[str, np.ndarray]:
    """(N, 1280) of each task: what enters its last layer, photographs seen whole."""
    folder = Path(out) / "para_forms" / f"{start}-{digest([list(images.names), SIDE])[:12]}"
    files = {task.name: folder / f"{task.name}.npy" for task in images.tasks}
    if not all(file.exists() for file in files.values()):
        images, pixels = load_pixels(images, SIDE)
        if start == "photographs":
            network, mean = Run(BUNDLED / start).network("cpu")
        else:
            network = build("linear_probe", images.tasks, "efficientnet_lite0", start)
            mean = mean_image(pixels, images.split(0).train)
        made = last_inputs(network, pixels, mean)
        for name, file in files.items():
            with atomic(file) as temporary, open(temporary, "wb") as opened:
                np.save(opened, made[name].astype(np.float16))
    return {name: np.load(file, allow_pickle=False).astype(np.float32) for name, file in files.items()}


def last_inputs(network: nn.Module, pixels: np.ndarray, mean: np.ndarray) -> dict[str, np.ndarray]:
    """What enters each task's last layer, (N, F); the network keeps no last layers."""
    for branch in network.branches:
        branch.head[-1] = nn.Identity()
    parts = [predict_logits(network, pixels, rows, mean, SIDE, torch.device("cpu")) for rows in tqdm(
        np.array_split(np.arange(len(pixels)), -(-len(pixels) // CHUNK)), "Features", disable=not show_progress())]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def answers(start: str, form: str, name: str, images: AnnotatedImages, x: np.ndarray) -> dict:
    """The row of one task: a last layer learnt from the official training part, and its answers to the official test.

    Args:
        start, form, name: what the row is called by; the task.
        images: in this form.
        x: (N, F) features of all of them.
    """
    split, shares = images.split(0), targets(images, images.split(0), {}, 0)[name]
    train = split.train[shares[split.train].sum(axis=1) > 0]
    weight, bias = regression(x[train], shares[train], np.asarray(images.groups)[train], shares.shape[1])
    return _row(start, form, name, images, softmax(x[split.test] @ weight.T + np.maximum(bias, NEVER)), len(train))


def _row(start: str, form: str, name: str, images: AnnotatedImages, p: np.ndarray, trained: int) -> dict:
    """``p``: (N, C) the answers to the official test."""
    split, labels = images.split(0), images.labels(name)
    measured = task_metrics(labels[split.test], p, majority_class(labels[split.train]))
    low, high = accuracy_interval(measured["accuracy"], measured["n"])
    worst, best = auc_interval(measured["auc"], measured["confusion"])
    return {
        "start": start, "task": name, "form": form, "classes": p.shape[1], "train": trained,
        "test": measured["n"], "auc": measured["auc"], "auc_low": worst, "auc_high": best,
        "accuracy": measured["accuracy"], "accuracy_low": low, "accuracy_high": high,
        "majority_accuracy": measured["majority_accuracy"], "balanced_accuracy": measured["balanced_accuracy"],
        "log_loss": measured["log_loss"],
    }


def markdown(table: pd.DataFrame) -> str:
    """The table as results/README shows it: for each task and form, AUC and accuracy of each start."""
    lines = ["| task | classes | tested on | start | AUC (95 % interval) | accuracy (95 % interval) | majority class |",
             "|---|---|---|---|---|---|---|"]
    order = ["", *FORMS]
    table = table.fillna({"form": ""}).sort_values("form", key=lambda form: form.map(order.index), kind="stable")
    for row in table.itertuples():
        form = f", {'' if row.task == 'emotion' else 'trained with '}{row.form}" if row.form else ""
        lines.append(f"| {row.task}{form} | {row.classes} | {row.test:,} | {row.start} | {_interval(row, 'auc')} | "
                     f"{_interval(row, 'accuracy')} | {short(row.majority_accuracy)} |")
    return "\n".join(lines)


def _interval(row, name: str) -> str:
    value, low, high = (short(getattr(row, f"{name}{end}")) for end in ("", "_low", "_high"))
    return f"{value} ({low}, {high})"
