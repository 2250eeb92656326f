"""Sets with one of the two judgements, as published: EmoSet, Abstract, ArtPhoto (emotion) and AVA (aesthetics).

A set's one task has loss weight 1. Classes always come in the order of ``tasks``, whatever the order in the files.
Images that a list names and that are not there are left out, and a log line says how many. Each reader was tried on
small imitations of its published layout; the rows of ``emoset`` and ``ava`` also on lists of the published length.
"""

import csv
import logging
import os
import zlib
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
VALIDATION_SHARE = 10
"""Where a publisher fixed only the test set, one training group in this many is kept for validation."""
EMOSET_PARTS = {"train": "train", "val": "validation", "test": "test"}
AVA_COLUMNS = ("index", "image", *(f"votes_{score}" for score in range(1, 11)), "tag_1", "tag_2", "challenge")
AVA_KAGGLE = ("image_num", *(f"vote_{score}" for score in range(1, 11)))
AVA_MIDDLE = 5.0  #: Where Murray et al. (2012) cut AVA's means; a vote of 5 is half a vote each


def emotion_number(word: str, where: str | Path) -> int:
    """An emotion's class number in ``tasks.EMOTION``, 'Content' and 'Sad' included; or a ValueError with ``where``."""
    name = SPELLINGS.get(word.strip().lower(), word.strip().lower())
    if name not in EMOTION.classes:
        raise ValueError(f"{where}: unknown emotion {word!r}; expected one of {', '.join(EMOTION.classes)}")
    return EMOTION.index(name)


def needed(path: Path, expected: str) -> Path:
    """A file or folder that must be there; a FileNotFoundError says what was expected."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: not found; expected {expected}")
    return path


def read_table(file: Path, columns: Sequence[str], expected: str, **how) -> pd.DataFrame:
    """A publisher's CSV with at least these columns; a ValueError says how it differs from what is ``expected``."""
    try:
        table = pd.read_csv(file, encoding="utf-8-sig", **how)
    except ValueError as fault:  # pandas' parser errors and undecodable text are ValueErrors
        raise ValueError(f"{file}: {' '.join(str(fault).split())}; expected {expected}") from None
    if missing := [name for name in columns if name not in table]:
        raise ValueError(f"{file}: column {missing[0]!r} is missing; expected {expected}")
    return table


def present(images: AnnotatedImages) -> AnnotatedImages:
    """The images whose files are there; a FileNotFoundError where none is."""
    here = np.array(list(map(os.path.isfile, images.paths)), dtype=bool)
    if not here.any():
        first = f", such as {images.paths[0]}" if len(images) else ""
        raise FileNotFoundError(f"{images.name}: none of the {len(images)} images listed is here{first}")
    if not here.all():
        logging.getLogger(__name__).warning(
            "%s: %d of the %d images listed are not here, such as %s; reading the others", images.name,
            (~here).sum(), len(images), images.paths[int(np.argmin(here))])
    return images if here.all() else images.select(here)


def with_validation(images: AnnotatedImages, test: np.ndarray, groups: np.ndarray) -> AnnotatedImages:
    """The images with a published test set, (N,) bool; a tenth of the other groups is kept for validation.

    Which tenth depends on the groups' names only, so it is the same whatever other images are there.
    """
    groups = np.asarray(groups, dtype=str)
    held = np.array([zlib.crc32(name.encode()) % VALIDATION_SHARE == 0 for name in groups])
    return replace(images, groups=groups, fixed=np.where(test, "test", np.where(held, "validation", "train")))


def _one_task(name: str, paths: Sequence[Path], task: str, votes: np.ndarray, **more) -> AnnotatedImages:
    return present(AnnotatedImages(name, (ALONE[task],), tuple(paths), {task: votes}, **more))


def emoset(root: str | Path) -> AnnotatedImages:
    """EmoSet-118K (Yang et al. 2023): ``train.json``, ``val.json``, ``test.json`` and ``image/``; a fixed split.

    An entry is a list that begins with the emotion. The image is its last field with an image's suffix: the annotation
    may come before or after it, and some releases have an identifier.
    """
    root, paths, labels, fixed = Path(root), [], [], []
    for part, name in EMOSET_PARTS.items():
        file = needed(root / f"{part}.json", "EmoSet-118K's train.json, val.json, test.json and image/ in one folder")
        for row, entry in enumerate(read_json(file)):
            image = _image_field(entry)
            if image is None:
                raise ValueError(f"{file}: entry {row} is {str(entry)[:80]}; expected [emotion, image, annotation], "
                                 f'such as ["awe", "image/awe/awe_00000.jpg", "annotation/awe/awe_00000.json"]')
            paths.append(inside(root, image, f"{file}, entry {row}"))
            labels.append(emotion_number(entry[0], f"{file}, entry {row}"))
            fixed.append(name)
    votes = rating.class_votes(labels, len(EMOTION.classes))
    return _one_task("emoset", paths, "emotion", votes, fixed=np.array(fixed, dtype=str), folder=root)


def _image_field(entry) -> str | None:
    """The image of one of EmoSet's entries; None if that is not what it is."""
    if not isinstance(entry, list) or not entry or not isinstance(entry[0], str):
        return None
    images = (cell for cell in reversed(entry[1:]) if isinstance(cell, str)
              and os.path.splitext(cell)[1].lower() in IMAGE_SUFFIXES)
    return next(images, None)


def abstract(root: str | Path) -> AnnotatedImages:
    """Abstract paintings (Machajdik & Hanbury 2010): how many people chose each emotion, in ABSTRACT_groundTruth.csv.

    All 280 are kept; the authors left out the 52 without a single winner (see ``ratings.tied``).
    """
    file = needed(Path(root) / "ABSTRACT_groundTruth.csv", "the published table, next to the paintings")
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
    paths = [inside(file.parent, row[0], f"{file}, row {number + 1}") for number, row in enumerate(rows[1:])]
    return _one_task("abstract", paths, "emotion", votes)


def artphoto(root: str | Path) -> AnnotatedImages:
    """ArtPhoto (Machajdik & Hanbury 2010): the emotion that the artist meant, in each file's name, ``sad_0012.jpg``."""
    folder = needed(Path(root), "the folder with ArtPhoto's <emotion>_NNNN.jpg")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    if not paths:
        raise FileNotFoundError(f"{folder}: no images directly in it; expected ArtPhoto's <emotion>_NNNN.jpg")
    labels = [emotion_number(path.stem.partition("_")[0], path) for path in paths]
    return _one_task("artphoto", paths, "emotion", rating.class_votes(labels, len(EMOTION.classes)))


def ava(root: str | Path) -> AnnotatedImages:
    """AVA (Murray et al. 2012): the counts of the scores 1 to 10 of each photograph.

    A score above 5 is a vote for high, below 5 for low, 5 half a vote each; the literature labels by the mean instead
    (``score_mean`` in the facts), and the two differ for 2.8 % of the photographs.

    With the official test list, each photograph is its own group: AVA's challenges occur on both sides of that list.
    Without it, the photographs of one challenge are a group, since they share a subject.

    ``root`` holds AVA.txt, or Kaggle's ``ground_truth_dataset.csv`` (without tags and challenges); ``images/<id>.jpg``
    (or ``image/``, or ``images/images/``); and perhaps the test list ``aesthetics_image_lists/generic_test.jpgl``.
    """
    root, scores = Path(root), np.arange(1, 11)
    if (kaggle := root / "ground_truth_dataset.csv").is_file() and not (root / "AVA.txt").is_file():
        table = _whole_numbers(kaggle, AVA_KAGGLE, "a header image_num,vote_1 .. vote_10 and such rows", header=0)
        number, counts, more = table[:, 0], table[:, 1:], {}
    else:
        file = needed(root / "AVA.txt", "AVA.txt, or Kaggle's ground_truth_dataset.csv, and images/")
        table = _whole_numbers(file, AVA_COLUMNS, "index, image id, ten counts of votes for 1..10, two tags and the "
                                                  "challenge", sep=r"\s+", header=None)
        number, counts, more = table[:, 1], table[:, 2:12], dict(zip(AVA_COLUMNS[12:], table[:, 12:].T, strict=True))
    if not (total := counts.sum(axis=1)).all():
        raise ValueError(f"{root}: AVA's image {number[int(np.argmin(total))]} has no votes; expected some for each")
    places = ("images/images", "images", "image")
    folder = next((path for path in (root / place for place in places) if path.is_dir()), root / "images")
    images = _one_task(
        "ava", [f"{folder}/{image}.jpg" for image in number], "aesthetics",
        counts @ rating.scale_votes(scores, AVA_MIDDLE), groups=more.get("challenge"),
        facts=pd.DataFrame({"number": number, "score_mean": counts @ scores / total} | more),
    )
    official = root / "aesthetics_image_lists" / "generic_test.jpgl"
    if not official.is_file():
        return images
    test = images.facts["number"].isin(_whole_numbers(official, ("id",), "one image id", header=None)[:, 0])
    return with_validation(images, test.to_numpy(), images.facts["number"].to_numpy())


def _whole_numbers(file: Path, columns: Sequence[str], expected: str, **how) -> np.ndarray:
    """A table of whole numbers of 0 or more, (N, columns) int64."""
    expected = f"{len(columns)} whole numbers in each row, {expected}"
    table = read_table(file, columns if how["header"] == 0 else (), expected, dtype=np.int64, **how)
    if not len(table) or table.shape[1] != len(columns) or (table < 0).any(axis=None):
        raise ValueError(f"{file}: expected {expected}; found {len(table)} rows of {table.shape[1]}")
    return (table[list(columns)] if how["header"] == 0 else table).to_numpy()
