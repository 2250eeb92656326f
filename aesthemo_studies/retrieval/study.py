"""The study of ``results/studies/retrieval.csv``: what colour and texture add to a search by emotion.

On drawn scenes the cause is known: ``relatedness`` is how much of the emotion light and lamp decide, which colour
shows. The same on photographs of OASIS and PARA. The protocol, with its predictions, was committed before the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from aesthemo_lib.data.images import decode
from aesthemo_lib.data.ratings import class_votes
from aesthemo_lib.data.readers import oasis, para
from aesthemo_lib.data.table import AnnotatedImages
from aesthemo_lib.device import set_threads
from aesthemo_lib.files import digest

from ..cells import Sample, Study, read_protocol, samples
from ..contrasts import contrasts_by_source, keep_results
from ..drawn import Collection, collection, kept, look
from ..few_labels.material import components
from ..neighbour_plots import gains
from . import early
from .measures import by_answers

NAME = "retrieval"
PAIRS = (("both", "pixels"), ("both_shuffled", "pixels"), ("both", "both_shuffled"), ("descriptors", "pixels"),
         ("early", "fine_tuned"), ("early_shuffled", "fine_tuned"), ("early", "early_shuffled"))


def study(out: Path, root: Path | None = None, oasis_root: Path | None = None) -> Study:
    """The study: a cell for each collection of scenes, split of OASIS and training set of PARA.

    Args:
        out: the folder of all studies.
        root, oasis_root: PARA's and OASIS' folders; without them their cells are left out.
    """
    plan = read_protocol(NAME)
    numbers = {"drawn": plan["collections"], "early": plan["early"]["collections"],
               "oasis": range(plan["oasis"]["splits"] if oasis_root else 0),
               "para": range(plan["para"]["sets"] if root else 0)}
    cells = samples(numbers, {name: plan[name] for name in ("labels", "doses", "test", "strengths", "early", "para")})
    return Study(NAME, cells, partial(measure, out=Path(out), root=root, oasis_root=oasis_root), Path(out))


def measure(cell: Sample, out: Path, root: Path | None, oasis_root: Path | None) -> pd.DataFrame:
    """The rows of a cell: one for each dose, number of labels and contender."""
    set_threads()
    places: dict[str, Any] = {"drawn": None, "early": None, "oasis": oasis_root, "para": root}
    rows = {"drawn": _drawn, "early": _early, "oasis": _oasis, "para": _para}[cell.source](
        cell.number, out, places[cell.source])
    return pd.DataFrame([{"source": cell.source, "collection": cell.number, **row} for row in rows])


def views(seen: tuple[np.ndarray, np.ndarray], train: np.ndarray, test: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """What each contender is given of all N pictures.

    'pixels' has the frozen features' principal components; 'both' also the descriptors, before the last layer;
    'both_shuffled' those of another picture; 'descriptors' nothing else. Everything is scaled by the training pictures.
    """
    fitted = np.isin(np.arange(len(seen[0])), train)
    pixels, look = components(seen[0], fitted, read_protocol(NAME)["components"]), seen[1]
    described = (look - look[train].mean(axis=0)) / np.maximum(look[train].std(axis=0), 1e-6)
    others, rng = described.copy(), np.random.default_rng(seed)
    for rows in (train, test):
        others[rows] = described[rng.permutation(rows)]
    return {"pixels": pixels, "both": np.hstack([pixels, described]), "both_shuffled": np.hstack([pixels, others]),
            "descriptors": described}


def found_by(x: np.ndarray, votes: np.ndarray, train: np.ndarray, strength: float) -> np.ndarray:
    """The (N, C) answers of a logistic regression, learnt from the ``train`` rows' (N, C) votes."""
    shares = votes[train] / votes[train].sum(axis=1, keepdims=True)
    row, emotion = np.nonzero(shares)
    model = LogisticRegression(C=strength, max_iter=300).fit(x[train][row], emotion, sample_weight=shares[row, emotion])
    answers = np.zeros((len(x), votes.shape[1]))
    answers[:, model.classes_] = model.predict_proba(x)
    return answers


def compared(
    given: dict[str, np.ndarray], votes: np.ndarray, truth: np.ndarray, groups: np.ndarray, train: np.ndarray,
    test: np.ndarray,
) -> Iterator[dict]:
    """A row for each contender: its search among the test pictures after learning from the training pictures."""
    strengths = read_protocol(NAME)["strengths"]
    for contender, x in given.items():
        answers = found_by(x, votes, train, strengths[contender])
        yield {"contender": contender, "labels": len(train), **by_answers(answers[test], truth[test], groups[test])}


def _drawn(seed: int, out: Path, _) -> Iterator[dict]:
    plan = read_protocol(NAME)
    most, count = max(plan["labels"]), max(plan["labels"]) + plan["test"]
    pictures, train, test = collection(seed, count), np.arange(most), np.arange(most, count)
    given = views(pictures.seen(out), train, test, seed)
    for dose in plan["doses"]:
        truth = pictures.labels(dose)["emotion"]
        for labels in plan["labels"]:
            for row in compared(given, np.eye(8)[truth], truth, np.arange(count), train[:labels], test):
                yield {"dose": dose, **row}


def _early(seed: int, out: Path, _) -> Iterator[dict]:
    plan = read_protocol(NAME)["early"]
    numbers = collection(seed, plan["labels"] + plan["test"]).numbers
    pictures = Collection(seed, numbers)
    truth, pixels = pictures.labels(plan["dose"])["emotion"], pictures.pixels(early.SIDE)
    train, test = np.split(np.arange(len(numbers)), [plan["labels"]])
    for contender in ("fine_tuned", "early", "early_shuffled"):
        answers = early.answers(pixels, truth, train, test, contender, seed)
        yield {"contender": contender, "labels": len(train), "dose": plan["dose"],
               **by_answers(answers, truth[test], test)}


def photograph_views(images: AnnotatedImages, rows: np.ndarray, out: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features and descriptors of some photographs, computed once and kept."""
    side = read_protocol(NAME)["side"]
    target = Path(out) / "collections" / f"{digest([[images.names[row] for row in rows], side])[:16]}.npy"
    parts = np.array_split(rows, max(1, len(rows) // 256))
    return kept(target, lambda: np.concatenate([
        np.concatenate(look(np.stack([decode(images.paths[row], side) for row in part])), axis=1) for part in parts]))


def _oasis(split: int, out: Path, root: Path) -> Iterator[dict]:
    images = oasis.read(root)
    seen, truth = photograph_views(images, np.arange(len(images)), out), images.labels("emotion")
    parts = images.split(split)
    train = np.concatenate([parts.train, parts.validation])
    given = views(seen, train, parts.test, split)
    votes = class_votes(truth, len(images.tasks[1].classes))
    yield from compared(given, votes, truth, images.groups, train, parts.test)


def _para(number: int, out: Path, root: Path) -> Iterator[dict]:
    plan, images = read_protocol(NAME)["para"], para.read(root, emotion="felt")
    truth = images.labels("emotion")
    rng, official = np.random.default_rng(0), np.asarray(images.fixed)
    sample = [rng.permutation(np.flatnonzero(known & (truth >= 0)))[:count] for known, count in (
        (official != "test", plan["sets"] * plan["labels"]), (official == "test", plan["test"]))]
    rows = np.concatenate(sample)
    train = np.arange(number * plan["labels"], (number + 1) * plan["labels"])
    test = np.arange(len(sample[0]), len(rows))
    given = views(photograph_views(images, rows, out), train, test, number)
    yield from compared(given, images.votes["emotion"][rows], truth[rows], images.groups[rows], train, test)


def keep(made: Study, folder: Path) -> list[Path]:
    """Write the rows, the verdicts and the picture; returns their paths. Holm's family: a source's."""
    rows = made.gather()
    rows["dose"] = rows["dose"].fillna("")
    verdicts = contrasts_by_source(
        rows, PAIRS, dict.fromkeys(rows["source"], ["map"]), {"drawn": ["source", "dose", "labels"]},
        {"oasis": read_protocol(NAME)["oasis"]["overlap"]})
    return keep_results(NAME, folder, rows, verdicts, gains(rows))
