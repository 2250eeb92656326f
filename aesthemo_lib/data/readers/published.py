"""Sets with one of the two judgements, as published: EmoSet, Abstract, ArtPhoto (emotion) and AVA (aesthetics).

A set's one task has loss weight 1. Classes always come in the order of ``tasks``, whatever the order in the files.
Images that a list names and that are not there are left out, and a log line says how many.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ...files import read_json
from ...tasks import AESTHETICS, EMOTION
from .. import ratings as rating
from ..table import AnnotatedImages
from . import inside
from .folders import IMAGE_SUFFIXES

ALONE = {task.name: replace(task, loss_weight=1.0) for task in (AESTHETICS, EMOTION)}
SPELLINGS = {"content": "contentment", "sad": "sadness"}
EMOSET_PARTS = {"train": "train", "val": "validation", "test": "test"}
AVA_MIDDLE = 5.0
"""Where Murray et al. (2012) cut AVA's means; a vote of 5 is half a vote each."""


def emotion_number(word: str, where: str | Path) -> int:
    """The class number of an emotion, in the order of ``tasks.EMOTION``; 'Content' and 'Sad' are known too.

    Raises:
        ValueError: another word; ``where`` begins the message.
    """
    name = SPELLINGS.get(word.strip().lower(), word.strip().lower())
    if name not in EMOTION.classes:
        raise ValueError(f"{where}: unknown emotion {word!r}; expected one of {', '.join(EMOTION.classes)}")
    return EMOTION.index(name)


def needed(path: Path, expected: str) -> Path:
    """A file or folder that must be there.

    Raises:
        FileNotFoundError: it isn't; the message says what was expected.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: not found; expected {expected}")
    return path


def present(images: AnnotatedImages) -> AnnotatedImages:
    """The images whose files are there.

    Raises:
        FileNotFoundError: none is.
    """
    here = np.array([path.is_file() for path in images.paths], dtype=bool)
    if not here.any():
        first = f", such as {images.paths[0]}" if len(images) else ""
        raise FileNotFoundError(f"{images.name}: none of the {len(images)} images listed is here{first}")
    if not here.all():
        logging.getLogger(__name__).warning(
            "%s: %d of the %d images listed are not here, such as %s; reading the others", images.name,
            (~here).sum(), len(images), images.paths[int(np.argmin(here))])
    return images if here.all() else images.select(here)


def _one_task(name: str, paths: Sequence[Path], task: str, votes: np.ndarray, **more) -> AnnotatedImages:
    return present(AnnotatedImages(name, (ALONE[task],), tuple(paths), {task: votes}, **more))


def _inside(folder: Path, name: str, where: str) -> Path:
    try:
        return inside(folder, name)
    except ValueError as fault:
        raise ValueError(f"{where}: {fault}") from None


def emoset(root: str | Path) -> AnnotatedImages:
    """EmoSet-118K (Yang et al. 2023): ``train.json``, ``val.json``, ``test.json`` of [emotion, image, annotation].

    Args:
        root: the folder with the three lists and ``image/``. Their fixed split is kept.
    """
    root, paths, labels, fixed = Path(root), [], [], []
    for part, name in EMOSET_PARTS.items():
        file = needed(root / f"{part}.json", "EmoSet-118K's train.json, val.json, test.json and image/ in one folder")
        for row, entry in enumerate(read_json(file)):
            if not isinstance(entry, list) or len(entry) < 2 or not all(isinstance(cell, str) for cell in entry[:2]):
                raise ValueError(f"{file}: entry {row} is {str(entry)[:80]}; expected [emotion, image, annotation], "
                                 f'such as ["awe", "image/awe/awe_00000.jpg", "annotation/awe/awe_00000.json"]')
            paths.append(_inside(root, entry[1], f"{file}, entry {row}"))
            labels.append(emotion_number(entry[0], f"{file}, entry {row}"))
            fixed.append(name)
    votes = rating.class_votes(labels, len(EMOTION.classes))
    return _one_task("emoset", paths, "emotion", votes, fixed=np.array(fixed, dtype=str))


def abstract(root: str | Path) -> AnnotatedImages:
    """Abstract paintings (Machajdik & Hanbury 2010): how many people chose each emotion, in ABSTRACT_groundTruth.csv.

    All 280 are kept; the authors left out the 52 without a single winner (``ratings.tied`` tells which).

    Args:
        root: the folder with the CSV and the paintings.
    """
    file = needed(Path(root) / "ABSTRACT_groundTruth.csv", "the published table, beside the paintings")
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = [[cell.strip(" '\"") for cell in row] for row in csv.reader(stream) if any(row)]
    order = [emotion_number(word, f"{file}, header") for word in (rows[0][1:] if rows else ())]
    if sorted(order) != list(range(len(EMOTION.classes))):
        raise ValueError(f"{file}: expected a header of a file name and the eight emotions, each once; got {rows[:1]}")
    votes = np.zeros((len(rows) - 1, len(order)))
    for number, row in enumerate(rows[1:]):
        if len(row) != len(order) + 1 or not all(cell.isdecimal() for cell in row[1:]):
            raise ValueError(f"{file}: row {number + 1} is {','.join(row)}; expected a file name and eight counts")
        votes[number, order] = [int(cell) for cell in row[1:]]
    paths = [_inside(file.parent, row[0], f"{file}, row {number + 1}") for number, row in enumerate(rows[1:])]
    return _one_task("abstract", paths, "emotion", votes)


def artphoto(root: str | Path) -> AnnotatedImages:
    """ArtPhoto (Machajdik & Hanbury 2010): the emotion that the artist meant, in each file's name, ``sad_0012.jpg``.

    Args:
        root: the folder with the photographs.
    """
    folder = needed(Path(root), "the folder with ArtPhoto's <emotion>_NNNN.jpg")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    if not paths:
        raise FileNotFoundError(f"{folder}: no images directly in it; expected ArtPhoto's <emotion>_NNNN.jpg")
    labels = [emotion_number(path.stem.partition("_")[0], path) for path in paths]
    return _one_task("artphoto", paths, "emotion", rating.class_votes(labels, len(EMOTION.classes)))


def ava(root: str | Path) -> AnnotatedImages:
    """AVA (Murray et al. 2012): AVA.txt with the counts of the scores 1 to 10 of each photograph.

    A score above 5 is a vote for high, below 5 for low, 5 half a vote each. That is the library's rule for every scale;
    the literature labels by the mean (above 5 is high), which stands in the facts as ``score_mean``. Photographs of one
    challenge are a group, since they share a subject.

    Args:
        root: the folder with AVA.txt and ``images/<id>.jpg`` (or ``image/``, or ``images/images/``).
    """
    file = needed(Path(root) / "AVA.txt", "AVA.txt and images/")
    lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    fits = [len(cells) == 15 and all(map(str.isdecimal, cells)) and any(map(int, cells[2:12])) for cells in lines]
    if not all(fits) or not lines:
        where = f"row {fits.index(False) + 1}" if lines else "it"
        raise ValueError(f"{file}: {where} does not hold 15 whole numbers; expected index, image id, ten counts of "
                         f"votes for 1..10 (not all 0), two tags and the challenge")
    table, scores = np.array(lines, dtype=np.int64), np.arange(1, 11)
    counts, places = table[:, 2:12], ("images/images", "images", "image")
    folder = next((p for p in (file.parent / place for place in places) if p.is_dir()), file.parent / "images")
    facts = {"score_mean": counts @ scores / counts.sum(axis=1), "tag_1": table[:, 12], "tag_2": table[:, 13]}
    return _one_task(
        "ava", [folder / f"{number}.jpg" for number in table[:, 1]], "aesthetics",
        counts @ rating.scale_votes(scores, AVA_MIDDLE), groups=table[:, 14], facts=pd.DataFrame(facts),
    )
