"""Long tables, many cells and several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from aesthemo_lib import distributed
from aesthemo_lib.data import readers
from aesthemo_lib.data.batches import TrainingBatches
from aesthemo_lib.models.networks import build
from aesthemo_lib.tasks import MIKELS_EMOTIONS, PATENT_TASKS
from aesthemo_lib.training.config import PRESETS, Settings
from aesthemo_lib.training.fit import Data, fit
from aesthemo_studies.cells import Study

from .child import Job
from .costs import Watch, own_memory
from .measure import now, processor_time

RATERS = 10
CELLS = 500


def table(job: Job) -> Iterator[tuple]:
    """A table of single ratings in the layout 'csv', until its last batch of an epoch."""
    images = 100 if job.small else 100_000
    folder, parts = write_ratings(job.folder / "ratings", images), {}
    with Watch() as watch:
        began = processor_time()

        def note(part: str) -> None:
            nonlocal began
            parts[part], began = (processor_time() - began, own_memory() / 1e9), processor_time()

        annotated = readers.read("csv", folder)
        note("reading and counting votes")
        labels = [annotated.labels(task.name) for task in annotated.tasks]
        note("labels")
        split = annotated.split(0)
        note("splitting")
        pixels = np.memmap(folder / "pixels", np.uint8, "w+", shape=(images, 8, 8, 3))
        batches = TrainingBatches(pixels, split.train, np.zeros((8, 8, 3), np.float32), (1.0, 1.0, 1.0), 8, 256, 0,
                                  torch.device("cpu"))
        for rows, _ in batches.epoch(0):
            assert len(rows) and len(labels)
        note("an epoch's batches")
    yield "table_seconds", [sum(spent for spent, _ in parts.values())], {
        "profile": [f"- {part}: {spent:.1f} s" for part, (spent, _) in parts.items()]}
    yield "table_memory", [watch.most / 1e9], {
        "profile": [f"- {part}: {held:.2f} GB" for part, (_, held) in parts.items()]}


def write_ratings(folder: Path, images: int) -> Path:
    """``labels.csv`` with ``RATERS`` ratings of each image, and files of a few bytes for them."""
    dice = np.random.default_rng(0)
    folder.mkdir()
    with open(folder / "labels.csv", "w", encoding="utf-8") as out:
        out.write("path,annotator,aesthetics>4,emotion\n")
        for i in range(images):
            path = folder / f"{i // 1000:03}" / f"{i:06}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_text(str(i), encoding="utf-8")
            name = path.relative_to(folder).as_posix()
            for k, (score, felt) in enumerate(zip(dice.integers(1, 8, RATERS), dice.integers(0, 8, RATERS),
                                                  strict=True)):
                out.write(f"{name},person {(i + 7 * k) % 997},{score},{MIKELS_EMOTIONS[felt]}\n")
    return folder


def nothing(cell: int) -> list[dict]:
    """A cell that takes no time."""
    return [{"cell": cell, "auc": 0.5}]


def cells(job: Job) -> Iterator[tuple]:
    """A study of which each cell takes no time."""
    count, spent = 4 if job.small else CELLS, []
    for number in range(1 if job.small else 3):
        study = Study(f"study {number}", {f"cell-{i}": i for i in range(count)}, nothing, job.folder)
        began = processor_time()
        study.run(at_once=2)
        study.gather()
        spent.append((processor_time() - began) / count)
    yield "cells", spent, {"profile": [f"- {', '.join(f'{value:.3f}' for value in spent)} CPU s a cell"]}


def processes(job: Job) -> Iterator[tuple]:
    """The pair of the lessons, trained by one process and by two, each with one thread; in turn."""
    runs: dict[int, list[dict]] = {1: [], 2: []}
    for _ in range(1 if job.small else 2):
        for size in runs:
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}", "-m",
                       "bench.scale", "small" if job.small else "whole"]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8",
                                  env=os.environ | {"OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "avx2"})
            runs[size].append(json.loads(done.stdout.splitlines()[-1]))
    one, two = (np.array([run["seconds"] for run in runs[size]]) for size in runs)
    lines = [f"- {size}: " + ", ".join(f"{run['seconds']:.2f}" for run in done) + " s an epoch"
            for size, done in runs.items()]
    yield "processes", one / two, {"profile": lines}
    losses = [np.array(runs[size][0]["losses"]) for size in runs]
    yield "processes_losses", [np.abs(losses[1] / losses[0] - 1).max()], {
        "profile": [f"- {size}: {', '.join(f'{loss:.6f}' for loss in values)}" for size, values in
                    zip(runs, losses, strict=True)]}


def train(small: bool) -> None:
    """One of the processes: two epochs of two steps without dropout; the first prints the second one's seconds."""
    steps, cpu = 2, torch.device("cpu")
    settings = Settings("tiny", "none", 20, 16, 8, 2, 2, 0.01) if small else Settings(
        "efficientnet_lite0", "imagenet", 128, 128, 32, 2, 2, PRESETS["teach"].learning_rate, keep_statistics=True,
        optimiser="adamw")
    count, side = steps * settings.batch + 1, settings.resize
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    labels = {task.name: np.arange(count) % len(task.classes) for task in PATENT_TASKS}
    data = Data(pixels, pixels.mean(0, dtype=np.float32), labels, np.arange(count - 1), np.array([count - 1]))
    network = build("cross_branch", PATENT_TASKS, settings.backbone, settings.weights, "diagonal")
    marks = []
    network.register_forward_pre_hook(lambda module, _: marks.append((module.training, now(cpu))))
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # each process draws its own
    torch.set_num_threads(1)
    with distributed.together(cpu):
        history = fit(network, data, settings, 0, cpu)
        if distributed.rank() == 0:
            ends = [i for i, (training, _) in enumerate(marks) if not training]
            begins = ends[-2] + 1
            seconds = marks[begins + steps][1] - marks[begins][1]
            print(json.dumps({"seconds": seconds, "losses": [row["train_loss"] for row in history]}), flush=True)


if __name__ == "__main__":
    train(sys.argv[1] == "small")
