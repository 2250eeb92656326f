"""``scenes``: drawn pictures with known factors and simulated raters; the default data set, without a download.

``aesthemo_scenes`` draws and rates them (see its ``factors``, and docs/scenes.md); here they become a data set in a
folder. The pictures of a series, near-duplicates of one scene, are a group.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from aesthemo_scenes.drawing import PLACES, scene_of
from aesthemo_scenes.factors import LOCAL, NOISE, NORMAL, PAIRS, SCALE_MIDDLE, best_guess, check, rate, sample
from aesthemo_scenes.folder import VERSION, parameters_of, write

from ...files import atomic_folder, file_lock, show_progress
from ...tasks import EMOTION, PATENT_TASKS, Task
from .. import ratings as rating
from ..table import AnnotatedImages

__all__ = ["NOISE", "PAIRS", "best_guess", "draw", "rate", "read", "sample", "votes"]


def votes(ratings: dict[str, pd.DataFrame], images: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The votes of the single ratings, (R, C), and their sums by image, (N, C); both by task name."""
    single = {
        "aesthetics": rating.scale_votes(ratings["aesthetics"]["value"], SCALE_MIDDLE),
        "emotion": rating.class_votes(ratings["emotion"]["value"], len(EMOTION.classes)),
    }
    return single, {name: rating.add_votes(ratings[name]["image"], single[name], images) for name in single}


def draw(root: Path, images: int = 600, seed: int = 0, relatedness: float = 0.5, size: int = 256) -> None:
    """Draw the data set into a folder, unless it is there, whole, with these parameters and at least as many images.

    Files: ``images/``, ``masks/``, ``factors.csv`` (one row per image), ``ratings.csv`` (task, image, annotator, value)
    and ``scenes.json`` (the parameters, and a hash of all files). A damaged set, or another one, is replaced. A
    ValueError says that a parameter is out of range, or that the folder holds something else.
    """
    from tqdm import tqdm

    check(images, seed, relatedness, size)
    root = Path(root).resolve()
    wanted = {"version": VERSION, "images": images, "seed": seed, "relatedness": float(relatedness), "size": size}
    with file_lock(root.parent / f".{root.name}.lock", f"drawing scenes into {root}"):
        drawn = parameters_of(root)
        if drawn and drawn | {"images": images} == wanted and drawn["images"] >= images:
            return
        with atomic_folder(root) as folder:
            write(folder, wanted, lambda made: tqdm(made, "Drawing scenes", images, disable=not show_progress()))


ATTRIBUTES = {**{name: ("low", "high") for name in NORMAL}, "place": tuple(PLACES), "motif": tuple(EMOTION.classes)}
"""The factors as tasks: above or below their middle, 0, or by name. Mood and motif can contradict one another."""


def read(
    root: Path, images: int = 600, seed: int = 0, relatedness: float = 0.5, size: int = 256,
    tasks: Sequence[str] = ("aesthetics", "emotion"),
) -> AnnotatedImages:
    """The drawn data set with the patent's two tasks; it is drawn first if need be (see ``draw``).

    ``facts`` holds the factors, the scores and the masks' paths (``lamp_mask``, ``clutter_mask``).

    Args:
        tasks: what is predicted, in this order: of 'aesthetics', 'emotion' and the ``ATTRIBUTES``, which nobody rates
            (each image has one vote). A ValueError names an unknown one.
    """
    known = {task.name: task for task in PATENT_TASKS} | {n: Task(n, classes) for n, classes in ATTRIBUTES.items()}
    if unknown := [name for name in tasks if name not in known]:
        raise ValueError(f"scenes: unknown task {unknown[0]!r}; choose of {', '.join(known)}")
    draw(root, images, seed, relatedness, size)
    root = Path(root).resolve()
    facts = pd.read_csv(root / "factors.csv", encoding="utf-8", nrows=images)
    for name in LOCAL:
        facts[f"{name}_mask"] = [str(root / "masks" / f"{stem}_{name}.png") for stem in facts["image"]]
    table = pd.read_csv(root / "ratings.csv", encoding="utf-8")
    table = table[table["image"] < images]
    ratings = {name: rows.drop(columns="task").reset_index(drop=True) for name, rows in table.groupby("task")}
    single, summed = votes(ratings, images)
    levels = {"aesthetics": "interval", "emotion": "nominal"}
    for name, classes in ATTRIBUTES.items():
        values = facts[name] > 0 if name in NORMAL else facts[name].map(classes.index)
        summed[name] = rating.class_votes(values.to_numpy().astype(int), len(classes))
    rated, of_tasks = [name for name in tasks if name in ratings], lambda tables: {name: tables[name] for name in rated}
    return AnnotatedImages(
        name="scenes", tasks=tuple(known[name] for name in tasks),
        paths=tuple(root / "images" / f"{stem}.jpg" for stem in facts["image"]),
        votes={name: summed[name] for name in tasks}, ratings=of_tasks(ratings), levels=of_tasks(levels),
        rating_votes=of_tasks(single), groups=facts["image"].to_numpy()[scene_of(np.arange(images))], facts=facts,
    )
