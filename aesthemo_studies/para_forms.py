"""PARA's official test in each form of the emotion: last layers on ImageNet's features, and on the bundled network's.

The bundled network for photographs was trained on the form 'positive'. Here its two branches and their exchange stay as
they are, and each task gets a new last layer, a logistic regression on the shares of the training photographs' votes:

    python -m aesthemo_studies para-forms --root <PARA's folder>
"""

from __future__ import annotations

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
from aesthemo_lib.evaluation import task_metrics
from aesthemo_lib.evaluation.health import accuracy_interval, auc_interval
from aesthemo_lib.evaluation.metrics import majority_class, softmax
from aesthemo_lib.files import BUNDLED, atomic, digest, project_folder, show_progress
from aesthemo_lib.models.inference import predict_logits
from aesthemo_lib.models.networks import build
from aesthemo_lib.training.labels import targets
from aesthemo_lib.training.probe import NEVER, regression
from aesthemo_lib.training.run import Run

STARTS = ("imagenet", "photographs")
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
    images, rows = forms["positive"], []
    for start in STARTS:
        x = features(start, images, out)
        rows.append(answers(start, "", "aesthetics", images, x["aesthetics"]))
        for form, of_form in forms.items():
            rows.append(answers(start, form, "emotion", of_form, x["emotion"]))
            print(rows[-1], flush=True)
    to = to or project_folder() / "results"
    with atomic(to / "para_forms.csv") as temporary:
        pd.DataFrame(rows).round(5).to_csv(temporary, index=False)
    return to / "para_forms.csv"


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
    split, shares, labels = images.split(0), targets(images, images.split(0), {}, 0)[name], images.labels(name)
    train = split.train[shares[split.train].sum(axis=1) > 0]
    weight, bias = regression(x[train], shares[train], np.asarray(images.groups)[train], shares.shape[1])
    p = softmax(x[split.test] @ weight.T + np.maximum(bias, NEVER))
    measured = task_metrics(labels[split.test], p, majority_class(labels[split.train]))
    low, high = accuracy_interval(measured["accuracy"], measured["n"])
    worst, best = auc_interval(measured["auc"], measured["confusion"])
    return {
        "start": start, "task": name, "form": form, "classes": shares.shape[1], "train": len(train),
        "test": measured["n"], "auc": measured["auc"], "auc_low": worst, "auc_high": best,
        "accuracy": measured["accuracy"], "accuracy_low": low, "accuracy_high": high,
        "majority_accuracy": measured["majority_accuracy"], "balanced_accuracy": measured["balanced_accuracy"],
        "log_loss": measured["log_loss"],
    }


def markdown(table: pd.DataFrame) -> str:
    """The table as results/README shows it: for each task and form, AUC and accuracy from either start."""
    lines = ["| task | classes | tested on | start | AUC (95 % interval) | accuracy (95 % interval) | majority class |",
             "|---|---|---|---|---|---|---|"]
    order = ["", *FORMS]
    table = table.fillna({"form": ""}).sort_values("form", key=lambda form: form.map(order.index), kind="stable")
    for row in table.itertuples():
        form = f", {row.form}" if row.form else ""
        lines.append(f"| {row.task}{form} | {row.classes} | {row.test:,} | {row.start} | {_interval(row, 'auc')} | "
                     f"{_interval(row, 'accuracy')} | {_short(row.majority_accuracy)} |")
    return "\n".join(lines)


def _interval(row, name: str) -> str:
    value, low, high = (_short(getattr(row, f"{name}{end}")) for end in ("", "_low", "_high"))
    return f"{value} ({low}, {high})"


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")
