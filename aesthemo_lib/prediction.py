"""From photographs to judgements, with a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from .data.images import AHEAD, CHUNK, BadImages, decoded
from .data.table import AnnotatedImages
from .device import allowed_cores, set_threads
from .evaluation.metrics import majority_class, prediction_table, softmax, task_metrics
from .files import project_folder
from .models.inference import predict_logits
from .training.run import Run
from .training.runs import Config, open_data

BATCH = CHUNK


class Predictor:
    """A trained network that takes files.

    Args:
        run: a finished run, or its folder.
        device: see ``device.pick_device``.

    >>> from PIL import Image
    >>> from .prediction import packaged_run
    >>> Image.new("RGB", (64, 64), "orange").save("orange.jpg")
    >>> Predictor(packaged_run()).predict(["orange.jpg"]).columns[:4].tolist()
    ['photo', 'aesthetics', 'aesthetics_low', 'aesthetics_high']
    """

    def __init__(self, run: Run | Path | str, device: str | None = None):
        set_threads()
        self.run = run if isinstance(run, Run) else Run(run)
        self.tasks = self.run.tasks
        self.network, self.mean = self.run.network(device)
        self.device = next(self.network.parameters()).device

    def probabilities(self, paths: Sequence[Path | str]) -> dict[str, np.ndarray]:
        """Each photo's class probabilities, {task name: (N, C) float64}.

        A photo is read and resized exactly as in training's cache and then as [0063] says, so its answer does not
        depend on whether it was cached.

        Raises:
            BadImages: files that can't be read, all of them, by name and reason.
        """
        files = [Path(path) for path in paths]
        if not files:
            raise ValueError("no photographs were given")
        bad: dict[Path, str] = {}
        parts: list[dict[str, np.ndarray]] = []
        # A processor's cores either decode or compute; a GPU computes while they decode what comes next.
        ahead, starts = 0 if self.device.type == "cpu" else AHEAD, range(0, len(files), CHUNK)
        with ThreadPoolExecutor(allowed_cores()) as pool:
            for pixels, faults in decoded(files, starts, self.run.settings.resize, pool, ahead):
                bad |= {files[int(row)]: reason for row, reason in faults.items()}
                if not bad:
                    rows = np.arange(len(pixels))
                    parts.append(predict_logits(
                        self.network, pixels, rows, self.mean, self.run.settings.crop, self.device, BATCH
                    ))
        if bad:
            raise BadImages(bad)
        return {t.name: softmax(np.concatenate([part[t.name] for part in parts])) for t in self.tasks}

    def predict(self, paths: Sequence[Path | str]) -> pd.DataFrame:
        """A table of answers, one row a photo: photo, and for each task the answer and every class's probability."""
        return prediction_table(self.tasks, self.probabilities(paths), photo=[str(path) for path in paths])


def evaluate(run: Run | Path | str, data: str, root: Path | None = None, device: str | None = None) -> dict:
    """Test a finished run on a data set.

    On the set that it was trained on, the run's own test images alone count; on any other, all labelled images.

    Args:
        run: a finished run, or its folder.
        data: a data set's name.
        root: its folder.

    Returns:
        {'tasks': metrics as in metrics.json, 'data', 'run', 'images': what was tested on}. Only tasks that the run
        and the data share are in it.

    Raises:
        ValueError: they share no task with the same classes.

    >>> from .training.runs import train
    >>> config = Config("scenes", preset="smoke", settings={"epochs": 1}, data_options={"images": 24, "size": 40})
    >>> told = evaluate(train(config, "runs", "scenes"), "scenes", Path("scenes"))
    >>> told["images"], sorted(told["tasks"])
    ("the run's 6 test images", ['aesthetics', 'emotion'])
    """
    predictor = Predictor(run, device)
    run = predictor.run
    told = run.described
    same = data == told["data"]
    options = told["data_options"] if same else {}
    images = open_data(Config(data=data, preset=told["preset"], data_options=options), root)
    shared = _shared_tasks(run, images)
    same = images.fingerprint() == told["images"]
    rows = images.split(told["split"]).test if same else np.arange(len(images))
    probabilities = predictor.probabilities([images.paths[int(row)] for row in rows])
    metrics = {}
    for name in shared:
        labels = images.labels(name)
        # 'majority' is the training set's most frequent class: of another set it is not known, so its own is taken.
        known = labels[images.split(told["split"]).train] if same else labels
        metrics[name] = task_metrics(labels[rows], probabilities[name], majority_class(known))
    return {
        "tasks": metrics, "data": data, "run": str(run.folder), "method": told["method"], "variant": told["variant"],
        "images": f"the run's {len(rows)} test images" if same else f"all {len(rows)} images",
    }


def _shared_tasks(run: Run, images: AnnotatedImages) -> list[str]:
    theirs = {task.name: task.classes for task in images.tasks}
    shared = [task.name for task in run.tasks if theirs.get(task.name) == task.classes]
    if not shared:
        raise ValueError(
            f"{images.name} has {({n: list(c) for n, c in theirs.items()})} but the run predicts "
            f"{({t.name: list(t.classes) for t in run.tasks})}; expected a task with the same name and classes"
        )
    return shared


PACKED = "results/pretrained"


def packaged_run() -> Run:
    """The run that comes with the project.

    Raises:
        FileNotFoundError: this is not the project's checkout, or the folder is gone.

    >>> packaged_run().name
    'cross_branch.diagonal'
    """
    return Run(project_folder() / PACKED)
