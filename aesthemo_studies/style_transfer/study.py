"""The study of ``results/style_transfer.csv``: what a change of camera costs a classifier, and how much is recovered.

On each split of the photographs, by groups: only the first camera photographs a third of the training groups, which
give no labels; only the second camera photographs the others and the validation set. The style is trained on both
without labels, the classifier on the second camera's with labels. Both cameras take the test photographs, so that each
translated one has its ground truth. Every set is a folder that the reader ``csv`` takes, so the classifier is an
ordinary run, tested in the ordinary way.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from aesthemo_lib.data import readers
from aesthemo_lib.data.images import load_pixels
from aesthemo_lib.data.table import AnnotatedImages
from aesthemo_lib.device import set_threads
from aesthemo_lib.evaluation.metrics import METRICS
from aesthemo_lib.files import atomic_folder, digest, read_json, write_json, write_table
from aesthemo_lib.prediction import evaluate
from aesthemo_lib.training.config import SCENES, Config
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import train
from aesthemo_studies.style_transfer.networks import RECIPES, Recipe

from ..cells import Study, committed, key
from .cameras import CAMERAS, seen, shoot
from .colour_matching import histogram_matched, likeness, looked_up
from .training import Style, train_style

CONDITIONS = {
    "in_style": "the second camera's photographs",
    "out_of_style": "the first camera's, as they are",
    "histogram": "each brought to the second camera's mean histogram",
    "lookup": "all through one table a channel",
    "translated": "through the generator",
}
"""What the classifier is tested on, by the name in the table."""
SETTINGS = {"teach": {"resize": 128, "crop": 112, "epochs": 5}}
"""Where the classifier is trained otherwise than its preset says: the studies' own size."""
TASKS = {"oasis": {"tasks": ["aesthetics", "emotion", "category"]}}
"""What is classified, where it is not all that the reader gives: 'category' too, which short training learns well."""
SPLITS = 3


@dataclass(frozen=True)
class Plan:
    """All that decides the rows of one split.

    Args:
        data: a data set's name.
        preset: of the classifier, and of the recipe if that is not given.
        split: which split, and the seed of style and classifier.
        recipe: how the style is trained.
    """

    data: str = "oasis"
    preset: str = "teach"
    split: int = 0
    recipe: Recipe = None  # type: ignore[assignment]  # None: the preset's, see __post_init__

    def __post_init__(self):
        if self.recipe is None:
            object.__setattr__(self, "recipe", RECIPES[self.preset])

    def config(self, images: AnnotatedImages) -> Config:
        """The classifier's run, on the folder that ``write_set`` makes of the second camera's photographs."""
        return Config("csv", "shared_bottom", preset=self.preset, seed=self.split,
                      settings=SETTINGS.get(self.preset, {}), loss_weights={task.name: 1.0 for task in images.tasks})

    def open(self, root: Path | None) -> tuple[AnnotatedImages, np.ndarray]:
        """The photographs that stand for scenes, and their pixels at the classifier's size."""
        options = {"images": SCENES[self.preset]} if self.data == "scenes" else TASKS.get(self.data, {})
        images = readers.read(self.data, root, **options)
        return load_pixels(images, self.config(images).training_settings().resize)


class Roles(NamedTuple):
    """Rows by what they are for; no group is in two of them."""

    first: np.ndarray  # unlabelled photographs of the first camera
    train: np.ndarray  # labelled ones of the second
    validation: np.ndarray  # and those that say which epoch is kept
    test: np.ndarray  # taken by both


def roles(images: AnnotatedImages, number: int) -> Roles:
    """Who photographs what on a split."""
    split = images.split(number)
    groups = np.random.default_rng(number).permutation(np.unique(images.groups[split.train]))
    unlabelled = np.isin(images.groups[split.train], groups[:max(1, len(groups) // 3)])
    return Roles(split.train[unlabelled], split.train[~unlabelled], split.validation, split.test)


def photograph(pixels: np.ndarray, rows: Iterable[int], camera: str, exposure: int = 0) -> list[bytes]:
    """The JPEG files that a camera keeps of these rows; another exposure has other noise."""
    which = list(CAMERAS).index(camera)
    return [shoot(pixels[row], CAMERAS[camera], (exposure, which, int(row))) for row in rows]


def stacked(files: Iterable[bytes]) -> np.ndarray:
    """The pixels of picture files of one size, (N, S, S, 3) uint8."""
    return np.stack([seen(file) for file in files])


def as_png(photos: np.ndarray) -> list[bytes]:
    """(N, S, S, 3) uint8 photographs as PNG files, which lose nothing."""
    files = []
    for photo in photos:
        file = io.BytesIO()
        Image.fromarray(photo).save(file, "PNG")
        files.append(file.getvalue())
    return files


def write_set(
    folder: Path, images: AnnotatedImages, rows: np.ndarray, parts: Iterable[str], files: list[bytes],
) -> Path:
    """Photographs with their votes as a folder that the reader ``csv`` takes; written whole or not at all.

    Args:
        folder: where.
        images: whose votes and groups.
        rows: (N,) of them.
        parts: N of 'train', 'validation', 'test'.
        files: N JPEG or PNG files.
    """
    suffix = ".png" if files[0].startswith(b"\x89PNG") else ".jpg"
    table = pd.DataFrame({"path": [f"{row:05}{suffix}" for row in rows], "group": images.groups[rows], "split": parts})
    for task in images.tasks:
        votes = images.votes[task.name][rows]
        for name, column in zip(task.classes, votes.T, strict=True):
            table[f"{task.name}:{name}"] = np.where(votes.any(axis=1), column, np.nan)
    with atomic_folder(folder) as whole:
        for name, file in zip(table["path"], files, strict=True):
            (whole / name).write_bytes(file)
        write_table(whole / "labels.csv", table)
    return folder


# --- one split


class Taken(NamedTuple):
    """The photographs of a split, (N, S, S, 3) uint8 each, and where the data sets of both cameras lie."""

    roles: Roles
    first: np.ndarray  # the first camera's, unlabelled
    second: np.ndarray  # the second camera's, for training and validation
    test_first: np.ndarray
    test_second: np.ndarray  # the truth of what is made of those above
    again: np.ndarray  # the truth, exposed once more
    folder: Path


def take(plan: Plan, images: AnnotatedImages, pixels: np.ndarray, out: Path) -> Taken:
    """Take all photographs of a split, and write the second camera's as the classifier's data set."""
    who = roles(images, plan.split)
    rows = np.concatenate([who.train, who.validation, who.test])
    files = photograph(pixels, rows, "second")
    sizes = [len(part) for part in (who.train, who.validation, who.test)]
    parts, stamp = np.repeat(["train", "validation", "test"], sizes), out / "second.json"
    content = {"sha": digest([images.fingerprint(), rows.tolist(), [digest(file.hex()) for file in files]])}
    if not (stamp.exists() and (out / "second").is_dir() and read_json(stamp) == content):  # new files are decoded anew
        write_set(out / "second", images, rows, parts, files)
        write_json(stamp, content)
    second = stacked(files)
    return Taken(who, stacked(photograph(pixels, who.first, "first")), second[:-sizes[2]],
                 stacked(photograph(pixels, who.test, "first")), second[-sizes[2]:],
                 stacked(photograph(pixels, who.test, "second", exposure=1)), out)


def made(taken: Taken, style: Style) -> dict[str, np.ndarray]:
    """The test photographs under each of ``CONDITIONS``."""
    return {
        "in_style": taken.test_second,
        "out_of_style": taken.test_first,
        "histogram": histogram_matched(taken.test_first, taken.second),
        "lookup": looked_up(taken.test_first, taken.first, taken.second),
        "translated": style.translate(taken.test_first),
    }


def measure(plan: Plan, images: AnnotatedImages, taken: Taken, style: Style, run: Run) -> pd.DataFrame:
    """The rows of a split: one a condition and task.

    ``psnr`` and ``ssim`` compare with the second camera's photograph of the same scene; in style, where that would be
    the photograph itself, it is another exposure: as near as anything can come.
    """
    rows = []
    for name, photos in made(taken, style).items():
        near = likeness(taken.again if name == "in_style" else photos, taken.test_second).mean()
        place = write_set(taken.folder / "tested" / name, images, taken.roles.test, ["test"] * len(photos),
                          as_png(photos))
        tested = evaluate(run, "csv", place)["tasks"]
        rows += [{"data": plan.data, "split": plan.split, "seed": plan.split, "method": name, "task": task,
                   **{metric: values[metric] for metric in METRICS}, "majority_accuracy": values["majority_accuracy"],
                   "n": values["n"], **near, "steps": plan.recipe.steps} for task, values in tested.items()]
    return pd.DataFrame(rows)


def run_split(plan: Plan, out: Path, root: Path | None = None) -> pd.DataFrame:
    """Photograph, train style and classifier, test: the rows of a split, see ``measure``.

    Args:
        plan: what.
        out: the folder for the split's photographs and runs, which are trained unless they are there.
        root: the data's folder.
    """
    set_threads()
    images, pixels = plan.open(root)
    folder = out / plan.data / plan.preset / f"split{plan.split}"
    taken = take(plan, images, pixels, folder)
    style = train_style(taken.first, taken.second, folder / "style", plan.recipe, plan.split, after=_report)
    run = train(plan.config(images), folder / "classifier", folder / "second", redo=True)
    return measure(plan, images, taken, style, run)


def _report(row: dict, sample: Path) -> None:
    print(f"step {row['step']:.0f}: cycle {row['cycle']:.3f}, identity {row['identity']:.3f}, "
          f"discriminators {row['discriminators']:.3f} ({sample})", flush=True)


# --- the study


def study(
    out: Path, data: str = "oasis", root: Path | None = None, preset: str = "teach", splits: int = SPLITS,
    steps: int = 0,
) -> Study:
    """The study, a cell for each split.

    Args:
        out: the folder of all studies.
        data, root: the photographs.
        preset: see ``Plan``.
        splits: how many.
        steps: of each style's training; 0: the preset's.
    """
    recipe = replace(RECIPES[preset], steps=steps or RECIPES[preset].steps)
    cells = {}
    for plan in (Plan(data, preset, number, recipe) for number in range(splits)):
        decides = [asdict(plan), [asdict(camera) for camera in CAMERAS.values()], SETTINGS, TASKS]
        cells[key(data, preset, f"split{plan.split}", plan=decides)] = plan
    return Study("style_transfer", cells, partial(run_split, out=Path(out) / "style_transfer", root=root), Path(out))


def read() -> pd.DataFrame:
    """The table as committed; see ``cells.committed``."""
    return committed("style_transfer", "python -m aesthemo_studies style-transfer --root <OASIS' folder>")


def with_halfway(rows: pd.DataFrame) -> pd.DataFrame:
    """The table, and on each split a line 'halfway' between out of style and in style: what half of the cost is."""
    ends = rows[rows["method"].isin(["in_style", "out_of_style"])]
    between = ends.groupby(["task", "split", "seed"], sort=False).mean(numeric_only=True).reset_index()
    return pd.concat([rows, between.assign(method="halfway")], ignore_index=True)
