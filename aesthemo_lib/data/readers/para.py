"""PARA (Yang et al., CVPR 2022): 31,220 photographs with aesthetics scores and emotion votes of 438 people.

Tried on the 31,220 photographs of a public copy at 224 x 224 pixels, on the official ``PARA-GiaaTest.csv`` and
``PARA-UserInfo.csv``, and on a ``PARA-GiaaTrain.csv`` that holds each photograph's mean score and emotion votes only.
The single ratings of ``PARA-Images.csv`` were tried on a small imitation. For research and learning only.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...tasks import AESTHETICS, Task
from .. import ratings as rating
from ..copies import identical_files
from ..table import AnnotatedImages
from .published import needed, present, read_table, with_validation

EMOTIONS = ("neutral", "amusement", "awe", "contentment", "excitement", "disgust", "fear", "sadness")
"""The eight answers that people could choose from; 'anger' was not among them."""
FORMS = {"positive": ("neutral_or_negative", "positive"), "eight": EMOTIONS, "felt": EMOTIONS[1:]}
"""The emotion task's classes in its three forms; see ``read``."""
LEAST_FELT = 8  #: With fewer votes for anything but neutral, an image is unlabelled in the form 'felt'
SCORES = np.arange(1, 5.1, 0.5)
MIDDLE = 3.0
SPREAD = 0.37
"""Where only mean scores are there, the share of votes above the middle is taken as 1 / (1 + exp((3 - mean) / .37)). It
was fitted to the 3,000 photographs of the official test, whose scores are counted: root mean square error .034."""
_GIAA = ("imageName", "sessionId", "aestheticScore_mean", *(f"imgEmotion_{name}" for name in EMOTIONS))
_SINGLE = ("sessionId", "imageName", "userId", "aestheticScore", "imgEmotion")
_COUNTS = tuple(f"aestheticScore_{score:.1f}" for score in SCORES)


def read(
    root: str | Path, emotion: str = "positive", tasks: Sequence[str] = ("aesthetics", "emotion")
) -> AnnotatedImages:
    """Read PARA with its official test set; a tenth of the training groups is kept for validation.

    Aesthetics: a score above 3 is a vote for high, below 3 for low, 3 half a vote each. Where a file gives the mean
    score only, each image has one vote, split as ``SPREAD`` says. Emotion comes in three forms, because 84 % of the
    photographs are 'neutral' by plurality:

    - 'positive' (default): the votes for the four positive emotions against all others; the majority class holds 73 %.
    - 'eight': all answers, as published. Its vote shares are informative; its accuracy says little.
    - 'felt': the seven without neutral, where at least 8 people named one of these; 27 % are unlabelled then.

    Byte-identical files are a group. A training photograph with a copy in the official test is left out.

    Args:
        root: the folder with annotation/ and imgs/; a FileNotFoundError names a table that is missing in it.
        emotion: the form, one of ``FORMS``.
        tasks: which of 'aesthetics' and 'emotion' are predicted, in this order.
    """
    root = Path(root)
    if emotion not in FORMS:
        raise ValueError(f"para: unknown form of emotion {emotion!r}; choose from {', '.join(FORMS)}")
    known = {"aesthetics": AESTHETICS, "emotion": Task("emotion", FORMS[emotion], 0.25)}
    if unknown := [name for name in tasks if name not in known]:
        raise ValueError(f"para: unknown task {unknown[0]!r}; choose from {', '.join(known)}")
    table = pd.concat([_giaa(root, part).assign(part=part.lower()) for part in ("Train", "Test")], ignore_index=True)
    if (twice := table["imageName"].duplicated()).any():
        raise ValueError(f"para: {table['imageName'][twice.idxmax()]} has two rows in the official tables")
    felt = table[[f"imgEmotion_{name}" for name in EMOTIONS]].to_numpy(dtype=np.float64)
    single, scored = _single_ratings(root, table, emotion, felt)
    votes = {"aesthetics": scored, "emotion": _emotion_votes(felt, emotion)}
    rated = [name for name in tasks if name in single]
    facts = pd.DataFrame({
        "session": table["sessionId"], "semantic": table["semantic"] if "semantic" in table else "",
        "official_part": table["part"], "score_mean": table["aestheticScore_mean"],
        "positive_share": felt[:, 1:5].sum(axis=1) / felt.sum(axis=1),
    })
    images = present(AnnotatedImages(
        "para", tuple(known[name] for name in tasks),
        [f"{root}/imgs/{session}/{name}" for session, name in zip(table["sessionId"], table["imageName"], strict=True)],
        votes={name: votes[name] for name in tasks}, ratings={name: single[name][0] for name in rated},
        rating_votes={name: single[name][1] for name in rated},
        levels={name: {"aesthetics": "interval", "emotion": "nominal"}[name] for name in rated}, facts=facts,
        folder=root / "imgs",
    ))
    return _with_official_split(images)


def people(root: str | Path) -> pd.DataFrame:
    """What ``PARA-UserInfo.csv`` says of the raters: age, gender, education, experience and Big Five, by ``userId``."""
    file = needed(Path(root) / "annotation" / "PARA-UserInfo.csv", "PARA's table of its 438 raters")
    return _table(file, ("userId",)).set_index("userId")


def _table(file: Path, columns: Sequence[str], more: Sequence[str] | None = None) -> pd.DataFrame:
    """These columns of a table, and those of ``more`` that it has (by default all)."""
    wanted = None if more is None else lambda name: name in (*columns, *more)
    return read_table(file, columns, "PARA's table as published", usecols=wanted)


def _giaa(root: Path, part: str) -> pd.DataFrame:
    """One of the two official tables: a row per photograph."""
    file = needed(root / "annotation" / f"PARA-Giaa{part}.csv", "PARA as published: annotation/ and imgs/")
    table = _table(file, _GIAA, (*_COUNTS, "semantic"))
    numbers = table[list(_GIAA[2:])].apply(pd.to_numeric, errors="coerce").to_numpy()
    bad = ~((numbers >= 0).all(axis=1) & (numbers[:, 1:].sum(axis=1) > 0)
            & (numbers[:, 0] >= SCORES[0]) & (numbers[:, 0] <= SCORES[-1]))
    for column in _GIAA[:2]:  # names that would lead out of the folder
        bad |= table[column].astype(str).str.contains(r"[/\\]|^\.\.$").to_numpy()
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"{file}: row {row + 1} ({table['imageName'][row]}) has no plain names of session and image, "
                         f"mean score of 1..5 and emotion votes of 0 or more; expected the table as published")
    return table


def _emotion_votes(felt: np.ndarray, form: str) -> np.ndarray:
    """(N, C) votes in a form, from (N, 8) votes for ``EMOTIONS``."""
    if form == "eight":
        return felt
    if form == "positive":
        positive = felt[:, 1:5].sum(axis=1)
        return np.stack([felt.sum(axis=1) - positive, positive], axis=1)
    return felt[:, 1:] * (felt[:, 1:].sum(axis=1) >= LEAST_FELT)[:, None]


def _single_ratings(root: Path, table: pd.DataFrame, form: str, felt: np.ndarray) -> tuple[dict, np.ndarray]:
    """By task the single ratings and their votes, where they are published; and the (N, 2) aesthetics votes."""
    counted = set(_COUNTS) <= set(table) and not table[list(_COUNTS)].isna().any(axis=None)
    file = root / "annotation" / "PARA-Images.csv"
    if not file.is_file():
        if counted:
            return {}, table[list(_COUNTS)].to_numpy(dtype=np.float64) @ rating.scale_votes(SCORES, MIDDLE)
        logging.getLogger(__name__).warning("para: neither PARA-Images.csv nor the counts of all scores are here; "
                                            "aesthetics is the mean score's side of %g, one vote per image", MIDDLE)
        high = 1 / (1 + np.exp((MIDDLE - table["aestheticScore_mean"].to_numpy()) / SPREAD))
        return {}, np.stack([1 - high, high], axis=1)
    rows = _rows(file, table)
    image, annotator = rows["image"], rows["userId"]
    scores = pd.DataFrame({"image": image, "annotator": annotator, "value": rows["aestheticScore"]})
    score_votes = rating.scale_votes(scores["value"], MIDDLE)
    named = _emotion_votes(np.eye(len(EMOTIONS))[rows["number"]], form if form != "felt" else "eight")
    if form == "felt":
        named = named[:, 1:] * (felt[rows["image"], 1:].sum(axis=1) >= LEAST_FELT)[:, None]
    keep = named.any(axis=1)
    answers = pd.DataFrame({"image": image, "annotator": annotator, "value": named.argmax(axis=1)})[keep]
    votes = rating.add_votes(image, score_votes, len(table))
    return {"aesthetics": (scores, score_votes), "emotion": (answers, named[keep])}, votes


def _rows(file: Path, table: pd.DataFrame) -> pd.DataFrame:
    """The single ratings of the images in ``table``: image (row number), userId, aestheticScore, emotion number."""
    rows = _table(file, _SINGLE, ())
    numbers = pd.Series(np.arange(len(table)), index=table["imageName"])
    rows["image"] = rows["imageName"].astype(str).map(numbers)
    rows["number"] = rows["imgEmotion"].astype(str).str.strip().map({name: n for n, name in enumerate(EMOTIONS)})
    score = pd.to_numeric(rows["aestheticScore"], errors="coerce")
    if (bad := (rows["number"].isna() | ~score.isin(SCORES)).to_numpy()).any():
        row = int(np.argmax(bad))
        raise ValueError(f"{file}: row {row + 1} has the score {rows['aestheticScore'][row]} and the emotion "
                         f"{rows['imgEmotion'][row]!r}; expected 1, 1.5, .. 5 and one of {', '.join(EMOTIONS)}")
    rows = rows.assign(aestheticScore=score)[rows["image"].notna()].astype({"image": np.int64})
    again = rows.duplicated(["image", "userId"])
    if again.any():
        logging.getLogger(__name__).warning("para: %d ratings of %s repeat one by the same person of the same image; "
                                            "the first counts", again.sum(), file.name)
    return rows[~again].reset_index(drop=True)


def _with_official_split(images: AnnotatedImages) -> AnnotatedImages:
    """Identical files as groups, and the fixed split; training photographs with a copy in the test are left out."""
    first = identical_files(images.paths)
    test = (images.facts["official_part"] == "test").to_numpy()
    across = ~test & np.isin(first, first[test])
    if across.any():
        logging.getLogger(__name__).warning(
            "para: %d groups of identical files lie on both sides of the official split; their %d training "
            "photographs are left out", len(np.unique(first[across])), across.sum())
    names = np.array([path.name for path in images.paths])
    return with_validation(images, test, names[first]).select(~across)

