"""The numbers of ``results/retrieval.csv``: who finds photographs of the same emotion, and the best of several takes.

Four contenders on the same splits: the improved CNN (pixels, colour and texture), the same CNN without them, colour and
texture alone, and the joint network. All are brought to the same number of dimensions by the training images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from aesthemo_lib.data.batches import resize, to_device
from aesthemo_lib.data.images import pixels_sha256
from aesthemo_lib.data.table import AnnotatedImages
from aesthemo_lib.device import set_threads
from aesthemo_lib.evaluation.calibration import truth_and_probabilities
from aesthemo_lib.evaluation.comparison import bootstrap_interval
from aesthemo_lib.files import atomic, cache_folder, digest
from aesthemo_lib.models.appearance import MEAN, Appearance
from aesthemo_lib.models.backbones import HALF
from aesthemo_lib.models.inference import predict_logits
from aesthemo_lib.training.probe import fitted
from aesthemo_lib.training.run import Run, stored_hash
from aesthemo_lib.training.runs import Config, Prepared, prepare
from aesthemo_studies.endpoints import image_rows, scales

from .. import comparisons, protocol
from ..cells import Study, committed, key
from .gallery import Gallery, Space, class_map, search_measures, takes

CONTENDERS = {
    "colour_texture": ("colour", "independent, colour and texture"),
    "independent": ("compare", "independent"),
    "cross_branch": ("compare", "cross_branch.diagonal"),
}
"""By the name in the table: study and contender of ``results/protocol.json``. 'descriptors' need no run."""
MEASURED = ("precision", "map", "ndcg")
RESAMPLES = 500


def features(run: Run | Path, pixels: np.ndarray, task: str, device: str | None = None) -> np.ndarray:
    """What enters the last fully connected layer of a trained network's branch for a task.

    Args:
        run: a finished run of a method that has a branch, or at least a head, for each task.
        pixels: (N, S, S, 3) uint8, of the run's own size (``Run.settings.resize``).
        task: which task's.
        device: see ``device.pick_device``.

    Returns:
        (N, F) float32.

    Raises:
        ValueError: the run doesn't know the task, or its method has no last layer for it alone.
    """
    run = run if isinstance(run, Run) else Run(run)
    names = [one.name for one in run.tasks]
    if task not in names:
        raise ValueError(f"features: {run.folder} has no task {task!r}; its tasks are {', '.join(names)}")
    network, mean = run.network(device)
    i, where = names.index(task), next(network.parameters()).device
    if len(network.parts()) != len(names):
        raise ValueError(f"features: {run.name} has no last layer for {task} alone; use a method with a head a task")
    (_, head), seen = network.parts()[i], []
    network = network.single_task(i).eval() if hasattr(network, "single_task") else network
    hook = head[-1].register_forward_pre_hook(lambda _, given: seen.append(given[0].float().cpu().numpy()))
    try:
        predict_logits(network, pixels, np.arange(len(pixels)), mean, run.settings.crop, where)
    finally:
        hook.remove()
    return np.concatenate(seen)


@torch.inference_mode()
def descriptors(images: AnnotatedImages, pixels: np.ndarray, side: int, batch: int = 64) -> np.ndarray:
    """Colour and texture of each image, (N, D) float32: computed once a data set and image size, and kept.

    Args:
        images: whose pixels these are; its name names the file.
        pixels: (N, S, S, 3) uint8.
        side: what they are resized to first, as a network sees them.
    """
    look, std = Appearance(HALF), torch.tensor(HALF)
    mean = (255 * torch.tensor(MEAN)).expand(pixels.shape[1:])  # one colour as an image
    key = digest([pixels_sha256(pixels), side, look(torch.ones(1, 3, 64, 64)).tolist()])
    target = cache_folder() / "features" / f"{images.name}-colour-texture-{side}-{key[:16]}.npy"
    try:
        return np.load(target, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # not there, or damaged
        set_threads()
    rows = [np.arange(start, min(start + batch, len(pixels))) for start in range(0, len(pixels), batch)]
    parts = [look(resize(to_device(pixels, part, torch.device("cpu")), mean, std, side)) for part in rows]
    values = torch.cat(parts).numpy()
    with atomic(target) as temporary:
        np.save(temporary, values)
    return values


def gallery(run: Run | Path, root: Path | None = None, part: str = "test", task: str = "emotion") -> Gallery:
    """A run's own photographs as a gallery to search.

    Args:
        run: a finished run, on data that is at ``root``.
        root: the data's folder.
        part: 'test', 'validation' or 'train'.
        task: whose features say what is near.
    """
    run = run if isinstance(run, Run) else Run(run)
    prepared = prepare(_config(run), root)
    x, table = features(run, prepared.pixels, task), run.predictions(part)
    rows, space = image_rows(table, prepared.images), Space.fit(x[prepared.split.train])
    probabilities = {t.name: truth_and_probabilities(table, t)[1] for t in run.tasks}
    names = tuple(prepared.images.names[row] for row in rows)
    return Gallery(run.tasks, names, prepared.images.groups[rows], space(x[rows]), probabilities, space)


def _config(run: Run) -> Config:
    config = run.described
    changed = {"resize": run.settings.resize, "crop": run.settings.crop}
    return Config(config["data"], config["method"], config["variant"], config["preset"], config["split"],
                  config["seed"], settings=changed, options=config["options"], data_options=config["data_options"])


# --- the comparison


@dataclass(frozen=True)
class Seen:
    """What a contender sees in all N images of a split: features (N, F), and probabilities by task name."""

    features: np.ndarray
    probabilities: dict[str, np.ndarray]


def measure(seen: Seen, prepared: Prepared, k: int = 10) -> Iterator[dict]:
    """One contender on one split, a row for the test images and one for the training images: their gap is over-fitting.

    Photographs are searched by features (``precision``, ``map``, ``ndcg``) and by the answers alone (``answers_..``):
    there the vector is the root of the emotion's probabilities, whose cosine is the Bhattacharyya coefficient. The
    intervals ``.._low`` and ``.._high`` resample whole series.
    """
    images = prepared.images
    labels, answers = images.labels("emotion"), seen.probabilities["emotion"]
    vectors = Space.fit(seen.features[prepared.split.train])(seen.features)
    liked = scales(images.tasks[0], images).get("aesthetics")
    for part in ("test", "train"):
        rows = getattr(prepared.split, part)
        row: dict = {"part": part}
        for prefix, by in (("", vectors), ("answers_", np.sqrt(answers))):
            found = search_measures(by[rows], labels[rows], images.groups[rows], k).dropna()
            values = found[list(MEASURED)].add_prefix(prefix)
            row |= {"queries": len(found), **values.mean(), **_ends(values, found["group"])}
        row |= dict(found.filter(like="chance_").mean()) | {"class_map": class_map(answers[rows], labels[rows])}
        if liked is not None:
            series = takes(seen.probabilities["aesthetics"][rows][:, 1], liked[1][rows], images.groups[rows])
            row |= {"series": len(series), **series[["agree", "best", "chance_best"]].mean()}
            row |= _ends(series[["agree", "best"]], series["group"]) if len(series) else {}
        yield row


def _ends(values: pd.DataFrame, groups: pd.Series) -> dict[str, float]:
    low, high = bootstrap_interval(values, lambda table: table.mean().to_numpy(), groups.to_numpy(), RESAMPLES)
    return {f"{name}_{end}": value for end, ends in (("low", low), ("high", high))
            for name, value in zip(values, ends, strict=True)}


def chosen(out: Path, root: Path | None = None, form: str = "first") -> dict[int, dict[str, dict[str, Path]]]:
    """Of each split that all contenders have finished, their tuned runs' folders by contender and task.

    Args:
        out: the folder of all studies.
        root: the data's folder.
        form: of the studies.
    """
    folders: dict[int, dict[str, dict[str, Path]]] = {}
    for name, (study_name, contender) in CONTENDERS.items():
        grid = protocol.study(study_name, form)
        rows = protocol.selected(comparisons.study(grid, out, root).gather()).query("contender == @contender")
        for (split, seed), table in rows.groupby(["split", "seed"]):
            cell = protocol.Cell("", contender, split, seed)
            for task, candidate in table.set_index("task")["candidate"].items():
                config = grid.config(cell, dict(grid.candidates())[candidate])
                folder = config.folder(comparisons.run_folder(grid, cell, candidate, out))
                folders.setdefault(split, {}).setdefault(name, {})[task] = folder
    return {split: runs for split, runs in sorted(folders.items()) if len(runs) == len(CONTENDERS)}


def study(out: Path, root: Path | None = None, form: str = "first") -> Study:
    """The study, a cell for each split: the folders of the runs that are compared. Arguments as in ``chosen``.

    Raises:
        FileNotFoundError: no split is finished by all contenders; the message says what to run.
    """
    splits = chosen(Path(out), root, form)
    if not splits:
        needed = " and ".join(f"make study STUDY={name}" for name in dict.fromkeys(s for s, _ in CONTENDERS.values()))
        raise FileNotFoundError(f"{out}: no split is finished by all of {', '.join(CONTENDERS)}; run {needed}")
    cells = {}
    for split, runs in splits.items():
        hashes = {name: [stored_hash(folder) for folder in folders.values()] for name, folders in runs.items()}
        cells[key(f"split{split}", plan=hashes)] = split, runs
    return Study("retrieval", cells, partial(compare, root=root), Path(out))


def compare(cell: tuple[int, dict[str, dict[str, Path]]], root: Path | None = None) -> list[dict]:
    """The rows of a split, one for each contender and part of the images; see ``measure``."""
    set_threads()
    split, folders = cell
    runs = {name: {task: Run(folder) for task, folder in by_task.items()} for name, by_task in folders.items()}
    prepared, rows = prepare(_config(runs["independent"]["emotion"]), root), []
    for name in (*CONTENDERS, "descriptors"):
        seen = _described(prepared, runs) if name == "descriptors" else _network(prepared, runs[name])
        rows += [{"split": split, "contender": name, **row} for row in measure(seen, prepared)]
    return rows


def read() -> pd.DataFrame:
    """The table as committed; see ``cells.committed``."""
    return committed("retrieval", "make study STUDY=compare, make study STUDY=colour, "
                                  "python -m aesthemo_studies retrieval runs/studies --root <folder>")


def _network(prepared: Prepared, runs: dict[str, Run]) -> Seen:
    probabilities = {}
    for task in prepared.images.tasks:
        table = pd.concat([runs[task.name].predictions(part) for part in prepared.split._fields], ignore_index=True)
        probabilities[task.name] = np.empty((len(prepared.images), len(task.classes)))
        at = image_rows(table, prepared.images)
        probabilities[task.name][at] = truth_and_probabilities(table, task)[1]
    return Seen(features(runs["emotion"], prepared.pixels, "emotion"), probabilities)


def _described(prepared: Prepared, runs: dict[str, dict[str, Run]]) -> Seen:
    """Colour and texture alone: the descriptors themselves, and logistic regressions of them."""
    images, train = prepared.images, prepared.split.train
    x = descriptors(images, prepared.pixels, runs["independent"]["emotion"].settings.crop)
    probabilities = {}
    for task in images.tasks:
        labels = images.labels(task.name)
        rows = train[labels[train] >= 0]
        probabilities[task.name] = fitted(x[rows], labels[rows], images.groups[rows], len(task.classes))(x)
    return Seen(x, probabilities)
