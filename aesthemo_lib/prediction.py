"""From photographs to judgements, with a finished run."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from glob import glob, has_magic
from itertools import compress
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from .data import readers
from .data.decoding import RAW_SUFFIXES
from .data.images import AHEAD, CHUNK, BadImages, decoded, pixel_digests
from .data.ratings import UNLABELLED, consensus
from .data.readers import folders
from .data.readers.folders import IMAGE_SUFFIXES, SYSTEMS
from .data.table import AnnotatedImages
from .device import allowed_cores, set_threads
from .evaluation.metrics import majority_class, prediction_table, softmax, task_metrics
from .files import BUNDLED, show_progress
from .models.inference import predict_logits
from .training.run import Run
from .training.runs import Config, open_data


class Predictor:
    """A trained network that takes files: that of a finished ``run``; ``device``: see ``device.pick_device``.

    With ``direct``, photos are resized to the network's side at once, as [0063] says, not by way of training's pixels.
    """

    def __init__(self, run: Run | Path | str, device: str | None = None, direct: bool = False):
        set_threads()
        self.run = run if isinstance(run, Run) else Run(run)
        self.tasks, settings = self.run.tasks, self.run.settings
        self.sides = (settings.resize, settings.crop) if direct else (settings.resize,)
        self.network, self.mean = self.run.network(device)
        self.device = next(self.network.parameters()).device

    def answers(self, paths: Sequence[Path | str], exact: bool = False) -> Answers:
        """What it says to the photos that can be read, and what is wrong with the others.

        A photo is read and resized as in training's cache, by which it is known again, and then to the network's side.
        """
        files = [Path(path) for path in paths]
        if not files:
            raise ValueError("no photographs were given")
        bad: dict[Path, str] = {}
        parts: list[dict[str, np.ndarray]] = []
        rows, digests = [], []
        # A processor's cores either decode or compute; a GPU computes while they decode what comes next.
        ahead, starts = 0 if self.device.type == "cpu" else AHEAD, range(0, len(files), CHUNK)
        with (ThreadPoolExecutor(allowed_cores()) as pool,
              tqdm(total=len(files), desc="judging", unit="photo", disable=not show_progress()) as bar):
            chunks = zip(*(decoded(files, starts, side, pool, ahead) for side in self.sides), strict=True)
            for start, ((pixels, faults), *direct) in zip(starts, chunks, strict=True):
                bad |= {files[start + int(row)]: reason for row, reason in faults.items()}
                good = np.setdiff1d(np.arange(len(pixels)), [int(row) for row in faults])
                rows.append(start + good)
                digests += pixel_digests(pixels[good])
                if len(good):
                    shown = direct[0][0] if direct else pixels
                    parts.append(predict_logits(self.network, shown, good, self.mean, self.run.settings.crop,
                                                self.device, CHUNK, exact))
                bar.update(len(pixels))
        shares = {t.name: softmax(np.concatenate([p[t.name] for p in parts])) for t in self.tasks} if parts else {}
        return Answers(shares, np.concatenate(rows), digests, bad)

    def predict(self, paths: Sequence[Path | str], on_bad_image: str = "error") -> pd.DataFrame:
        """A table of answers, one row per photo: photo, and for each task the answer and every class's probability.

        ``on_bad_image``: 'error' raises ``BadImages``; 'skip' warns of what can't be read, and raises if nothing can.
        """
        answers = self.answers(paths, exact=True)  # the same answers on every processor
        if answers.bad and (on_bad_image != "skip" or not answers.probabilities):
            raise BadImages(answers.bad)
        answers.warn("photographs")
        photo = [str(paths[row]) for row in answers.rows]
        return prediction_table(self.tasks, answers.probabilities, photo=photo)


@dataclass(frozen=True)
class Answers:
    """What a network says to N of M photos.

    Args:
        probabilities: (N, C) by task; empty if no photo could be read.
        rows, digests: (N,) which of the M these are, and N digests of their pixels.
        bad: why the others can't be read.
    """

    probabilities: dict[str, np.ndarray]
    rows: np.ndarray
    digests: list[str]
    bad: dict[Path, str]

    def select(self, keep: Sequence[bool]) -> Answers:
        """Those for which ``keep`` is true."""
        mask = np.asarray(keep, dtype=bool)
        return replace(self, rows=self.rows[mask], digests=list(compress(self.digests, mask)),
                       probabilities={name: values[mask] for name, values in self.probabilities.items()})

    def warn(self, what: str) -> None:
        """Name the photos that are left out, if there are any."""
        if self.bad:
            warnings.warn(f"{what}: left out {BadImages(self.bad)}", stacklevel=3)


def is_run(path: Path) -> bool:
    """Whether the command line's first argument is a run, not a photograph; FileNotFoundError if it is neither."""
    if path.is_dir() and ((path / "metrics.json").exists() or _inside(path)[0]):
        return (path / "metrics.json").exists()
    suffixes = IMAGE_SUFFIXES | RAW_SUFFIXES | set(Image.registered_extensions())
    if not path.is_dir() and (path.exists() or path.suffix.lower() in suffixes or has_magic(str(path))):
        return False
    raise FileNotFoundError(f"{path} holds no finished run and no photographs, or is not there; a run is a folder like "
                            f"runs/scenes/cross_branch.diagonal/teach/split0-seed0")


def photographs(named: Sequence[str]) -> list[Path]:
    """Files, folders (with all images below them) and patterns, as a list of files; a ValueError if one is empty."""
    files: list[Path] = []
    for name in named:
        path = Path(name)
        if path.is_dir():
            more, others = _inside(path)
            if others:
                logging.getLogger(__name__).warning("%s: %d files are not read: no images by their suffix, such as %s",
                                                    path, len(others), others[0].name)
        elif has_magic(name) and not path.exists():
            more = [Path(match) for match in sorted(glob(name, recursive=True)) if Path(match).is_file()]
        else:
            more = [path]
        if not more:
            raise ValueError(f"{name}: no photographs {'in this folder' if path.is_dir() else 'match this pattern'}")
        files += more
    return list(dict.fromkeys(files))


def _inside(folder: Path) -> tuple[list[Path], list[Path]]:
    """The images below a folder, and all other files, but for hidden ones and those of the system."""
    there = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")
                   and not any(SYSTEMS.fullmatch(part) for part in path.relative_to(folder).parts[:-1]))
    images = [path for path in there if path.suffix.lower() in IMAGE_SUFFIXES]
    return images, sorted({*there}.difference(images))


def evaluate(run: Run | Path | str, data: str, root: Path | None = None, device: str | None = None,
             direct: bool = False) -> dict:
    """Test a finished run on a data set.

    On the set that it was trained on, only the run's own test images (by its predictions.csv) count, with the labels
    that they have now; on any other set, all images that the run was neither trained nor selected on. Images are
    recognised by names and pixels. ``data`` names a data set, ``root`` is its folder; ``direct``: see ``Predictor``.

    Returns:
        {'tasks': metrics as in metrics.json, 'data', 'run', 'images': what was tested on, 'left_out': why, by task}.

    Raises:
        ValueError: the run and the data share no task, or the run knows all images.
    """
    predictor = Predictor(run, device, direct)
    run = predictor.run
    images = _opened(run, data, root)
    labels, left_out = _shared_labels(run, images)
    own = data == run.described["data"]
    rows, answers, tested = _answered(predictor, images, own)
    answers.warn(images.name)
    metrics = {}
    for name, truth in labels.items():
        # 'majority' is the training set's most frequent class: of another set it is not known, so its own is taken.
        majority = _train_majority(run, name) if own else majority_class(truth)
        metrics[name] = task_metrics(truth[rows], answers.probabilities[name], majority)
    return {"tasks": metrics, "data": data, "run": str(run.folder), "method": run.described["method"],
            "variant": run.described["variant"], "images": tested, "left_out": left_out}


def _opened(run: Run, data: str, root: Path | None) -> AnnotatedImages:
    """The data, read with the run's classes: they may lack some, or stand in another order."""
    described = run.described
    options = dict(described["data_options"]) if data == described["data"] else {}
    if data == "csv":
        options.setdefault("classes", {task.name: task.classes for task in run.tasks})
    if data == "folders":
        names = folders.class_names(readers.data_root(data, root))
        fits = [task for task in run.tasks if names <= set(task.classes)]
        options["task"] = fits[0] if fits else options.get("task", "emotion")
    return open_data(Config(data=data, preset=described["preset"], data_options=options), root)


def _shared_labels(run: Run, images: AnnotatedImages) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The labels of the tasks that the run and the data share, as the run's class numbers; why others are left out."""
    labels, left_out = {}, {}
    theirs = {task.name: task for task in images.tasks}
    for task in run.tasks:
        if task.name not in theirs:
            left_out[task.name] = f"the data have no such task, only {', '.join(theirs)}"
        elif unknown := [label for label in theirs[task.name].classes if label not in task.classes]:
            left_out[task.name] = (f"the data have the class {unknown[0]!r}, but the run's are "
                                   f"{', '.join(task.classes)}; rename it, or leave its images unlabelled")
        else:
            votes = np.zeros((len(images), len(task.classes)))
            votes[:, [task.index(label) for label in theirs[task.name].classes]] = images.votes[task.name]
            labels[task.name] = consensus(votes)
    if not labels:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise ValueError(f"{images.name}: expected a task with the same name and classes ({reasons})")
    return labels, left_out


def own_test_rows(run: Run, images: AnnotatedImages) -> np.ndarray:
    """The rows of the images that a run's predictions.csv calls its test images, (N,) int64; there may be none."""
    return np.flatnonzero(np.isin(_names(run, images), run.predictions("test")["image"]))


def _names(run: Run, images: AnnotatedImages) -> np.ndarray:
    """What a run calls the images, whose files may have got another suffix."""
    seen, names = pd.concat([run.predictions(part)["image"] for part in ("train", "validation", "test")]), images.names
    if not set(names) & set(seen):  # exported anew in another format
        known = {os.path.splitext(name)[0]: name for name in seen}
        names = [known.get(os.path.splitext(name)[0], name) for name in names]
    return np.array(names)


def _answered(predictor: Predictor, images: AnnotatedImages, own: bool) -> tuple[np.ndarray, Answers, str]:
    """The rows that are tested, what the network says to them, and which they are, in words."""
    run = predictor.run
    test, seen = run.predictions("test"), pd.concat([run.predictions("train"), run.predictions("validation")])
    names = _names(run, images)
    tested = own_test_rows(run, images) if own else np.array([], dtype=np.int64)
    rows = tested if len(tested) else np.flatnonzero(~(np.isin(names, seen["image"]) & own))
    if not len(rows):
        raise ValueError(f"{images.name}: {run.folder} was trained or selected on all of these {len(images)} images; "
                         f"name others")
    answers = predictor.answers([images.paths[row] for row in rows])
    trained, as_tested = set(seen["pixels"]), set(zip(test["image"], test["pixels"], strict=True))
    answers = answers.select([digest not in trained or (names[rows[row]], digest) in as_tested
                              for row, digest in zip(answers.rows, answers.digests, strict=True)])
    if not len(answers.rows):
        reason = f"{len(answers.bad)} can't be read" if answers.bad else "their pixels are those of its training"
        raise ValueError(f"{images.name}: none of the {len(rows)} images can be tested; {reason}")
    said = _which(len(answers.rows), len(images), len(test) if len(tested) else None)
    if len(tested):
        changed = len(answers.rows) - len(set(zip(names[rows[answers.rows]], answers.digests, strict=True)) & as_tested)
        said += f", {changed} with other pixels than then" if changed else ""
    return rows[answers.rows], answers, said


def _which(count: int, there: int, own: int | None) -> str:
    """In words, which images were tested; ``own`` is how many test images the run has, if it was on these."""
    if own is not None:
        return f"the run's {count} test images" if count == own else f"{count} of the run's {own} test images"
    return f"all {count} images" if count == there else f"the {count} of {there} images that the run never saw"


def _train_majority(run: Run, name: str) -> int:
    """The most frequent class among a run's training labels."""
    task = next(task for task in run.tasks if task.name == name)
    labels = run.predictions("train")[f"true_{name}"]
    return majority_class(np.array([task.index(label) if label else UNLABELLED for label in labels]))


def packaged_run(name: str = "scenes") -> Run:
    """One of the runs that come with the library, see ``BUNDLED``."""
    return Run(BUNDLED / name)
