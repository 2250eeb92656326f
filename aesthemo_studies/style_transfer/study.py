"""The study of ``results/studies/style_transfer.csv``: what a change of camera costs, and how much is recovered.

For each fresh collection of drawn scenes, all of them different: the first camera photographs some without labels, the
second camera others with labels, on which the classifier (a linear probe of frozen features) is trained. Both cameras
take the validation and test scenes, so that a translation's truth is known. The protocol was committed before the run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from aesthemo_lib.device import set_threads

from ..cells import Sample, Study, read_protocol, samples
from ..contrasts import contrasts, keep_results
from ..drawn import collection, look
from ..neighbour_plots import recovered
from .cameras import CAMERAS, seen, shoot
from .colour_matching import best_table, likeness, looked_up, mixed, sharpened
from .networks import PAIRED, UNPAIRED
from .training import translated, with_pairs, without_pairs

NAME = "style_transfer"
RIVALS = ("lookup", "lookup_sharpened", "matrix", "matrix_sharpened")
PAIRS = (("in_style", "untouched"), *((name, "untouched") for name in (*RIVALS, "unpaired", "paired")),
         *((name, "halfway") for name in (*RIVALS, "unpaired", "paired")),
         *(("unpaired", name) for name in RIVALS), *(("paired", name) for name in RIVALS))


@dataclass(frozen=True)
class Taken:
    """The photographs of a collection, (N, S, S, 3) uint8 each, by camera and part; and the (N,) labels by task."""

    first: dict[str, np.ndarray]
    second: dict[str, np.ndarray]
    labels: dict[str, dict[str, np.ndarray]]


def study(out: Path) -> Study:
    """The study: a cell for each collection, and one more for those that are translated without pairs."""
    plan = read_protocol(NAME)
    decides = [plan["sizes"], plan["dose"], plan["strength"], vars(PAIRED), [vars(c) for c in CAMERAS.values()]]
    cells = samples({"": plan["collections"]}, decides)
    cells |= samples({"unpaired": plan["unpaired"]}, [*decides, vars(UNPAIRED)])
    return Study(NAME, cells, measure, Path(out))


def photograph(scenes: np.ndarray, camera: str, seed: int) -> np.ndarray:
    """What a camera keeps of (N, S, S, 3) uint8 scenes: the same shape."""
    which = list(CAMERAS).index(camera)
    return np.stack([seen(shoot(scene, CAMERAS[camera], (seed, which, row))) for row, scene in enumerate(scenes)])


def take(seed: int, sizes: dict[str, int], dose: float) -> Taken:
    """All photographs of a collection. No scene of the training is seen by both cameras, but for ``with_pairs``.

    Args:
        sizes: scenes by part: 'first' (unlabelled), 'train', 'validation', 'test'.
        dose: relatedness of the labels.
    """
    pictures = collection(seed, sum(sizes.values()))
    scenes, labels = pictures.pixels(), pictures.labels(dose)
    split = lambda values: dict(zip(sizes, np.split(values, np.cumsum(list(sizes.values()))[:-1]),  # noqa: E731
                                    strict=True))
    first, second = (split(photograph(scenes, camera, seed)) for camera in CAMERAS)
    return Taken(first, second, {task: split(values) for task, values in labels.items()})


def translations(taken: Taken, seed: int, unpaired: bool) -> dict[str, np.ndarray]:
    """The test photographs of the first camera, as each contender makes them; and both cameras' own."""
    first, second, test = taken.first["first"], taken.second["train"], taken.first["test"]
    if unpaired:
        near = lambda generator: float(likeness(  # noqa: E731
            translated(generator, taken.first["validation"]), taken.second["validation"])["psnr"].mean())
        generator, history = without_pairs(first, second, UNPAIRED, seed, near)
        return {"unpaired": translated(generator, test)}
    made = {"in_style": taken.second["test"], "untouched": test, "best_table": best_table(test, taken.second["test"])}
    for name, match in (("lookup", looked_up), ("matrix", mixed)):
        made[name] = match(test, first, second)
        made[f"{name}_sharpened"] = sharpened(made[name], match(first, first, second), second)
    return made | {"paired": translated(with_pairs(first, taken.second["first"], PAIRED, seed), test)}


def measure(cell: Sample) -> pd.DataFrame:
    """The rows of a cell: one for each version of the test photographs."""
    set_threads()
    plan = read_protocol(NAME)
    taken = take(cell.number, plan["sizes"], plan["dose"])
    known, _ = look(taken.second["train"])
    classifiers = {task: LogisticRegression(C=plan["strength"], max_iter=300).fit(
        (known - known.mean(axis=0)) / known.std(axis=0), labels["train"]) for task, labels in taken.labels.items()}
    rows = []
    for name, photos in translations(taken, cell.number, cell.source == "unpaired").items():
        x = (look(photos)[0] - known.mean(axis=0)) / known.std(axis=0)
        aucs = {f"auc_{task}": _auc(model, x, taken.labels[task]["test"]) for task, model in classifiers.items()}
        near = likeness(photos, taken.second["test"])["psnr"].mean() if name != "in_style" else np.nan
        rows.append({"collection": cell.number, "contender": name, "psnr": near, **aucs})
    return pd.DataFrame(rows)


def _auc(model: LogisticRegression, x: np.ndarray, truth: np.ndarray) -> float:
    """AUC of the answers; of several classes the mean over one against the rest."""
    answers = model.predict_proba(x)
    return float(np.mean([roc_auc_score(truth == c, answers[:, place]) for place, c in enumerate(model.classes_)]))


def with_halfway(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, and for each collection one more, 'halfway' between untouched and in style: half of the cost."""
    ends = rows[rows["contender"].isin(["in_style", "untouched"])]
    between = ends.groupby("collection", sort=False).mean(numeric_only=True).reset_index()
    return pd.concat([rows, between.assign(contender="halfway")], ignore_index=True)


def verdicts(rows: pd.DataFrame, measures: Iterable[str] = ("auc_aesthetics", "auc_emotion")) -> pd.DataFrame:
    """The planned comparisons; Holm's family is all of a task."""
    whole = with_halfway(rows).assign(source="drawn")
    by_task = [contrasts(whole, PAIRS, [one], ["source"]) for one in measures]
    return pd.concat(by_task, ignore_index=True).drop(columns="source")


def keep(made: Study, folder: Path) -> list[Path]:
    """Write the rows, the verdicts and the picture; returns their paths."""
    rows = made.gather()
    return keep_results(NAME, folder, rows, verdicts(rows), recovered(rows))
