"""OASIS: 900 photographs with single beauty ratings and mean valence and arousal, exactly as published.

Images and affect: Kurdi, Lozano & Banaji, Behavior Research Methods 2017. Beauty: Brielmann & Pelli, Emotion 2019.
Free for research use; each image's ``source`` stands in the facts.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...tasks import AESTHETICS, OASIS_SCALES, OASIS_TASKS, Task
from .. import ratings as rating
from ..table import AnnotatedImages

VALENCE_CUT = 4.0
"""The middle of the scale from 1 to 7."""
AROUSAL_CUT = 3.7255
"""The median of all 900; a constant, so that any part of the set gets the same labels."""
BEAUTY_MIDDLE = 4.0

SENSITIVE_THEMES = frozenset({
    "BDSM", "Nude couple", "Nude man", "Nude woman",  # nudity
    "Animal carcass", "Bloody knife", "Dead bodies", "Injury", "Severed finger", "Torture chamber", "Tumor",  # harm
    "KKK rally", "Neonazi", "Skinhead",  # hate groups and their symbols
    "Feces",
})
"""Theme stems (86 of the 900 images) that are left out unless asked for: nobody meets them unprepared in a course."""
PUBLISHED, PUBLISHED_SENSITIVE = 900, 86

_AFFECT = ("Theme", "Category", "Source", "Valence_mean", "Valence_SD", "Arousal_mean", "Arousal_SD")
_FILES = ("OASIS.csv", "OASISdata.mat", "means_per_image.csv")


def theme_stem(theme: str) -> str:
    """The theme without its number, by which near-duplicates are grouped."""
    return re.sub(r"\s*\d+$", "", theme.strip())


def quadrants(valence: np.ndarray, arousal: np.ndarray) -> np.ndarray:
    """Class numbers of the four quadrants, in the order of ``tasks.AFFECT_QUADRANTS``.

    An image exactly on a cut counts as negative, or calm: as with votes, the upper class needs more than a tie.
    """
    return 2 * (np.asarray(valence) > VALENCE_CUT) + (np.asarray(arousal) > AROUSAL_CUT)


def read(
    root: str | Path, sensitive: bool = False, tasks: Sequence[str] = ("aesthetics", "emotion")
) -> AnnotatedImages:
    """Read whichever of the published images are in ``root/images``; a log line says how many are not.

    Aesthetics: one vote a beauty rating (above 4 high, below 4 low, 4 half a vote each), single ratings kept.
    Emotion: the quadrant of the mean valence and arousal, one vote an image, since no single ratings are published.

    Args:
        root: the folder with OASIS.csv, OASISdata.mat, means_per_image.csv and images/.
        sensitive: keep the images of ``SENSITIVE_THEMES``.
        tasks: which are predicted, in this order: of 'aesthetics', 'emotion', and the scales apart 'valence' and
            'arousal' (cut as the quadrants are) and 'category' (what the photograph shows).

    Raises:
        FileNotFoundError: one of the files, or every image, is missing.
        ValueError: a table is not as published, or a task is not known.
    """
    root = Path(root)
    known = {task.name: task for task in (*OASIS_TASKS, *OASIS_SCALES)}
    unknown = [name for name in tasks if name not in known]
    if unknown:
        raise ValueError(f"oasis: unknown task {unknown[0]!r}; choose of {', '.join(known)}")
    for name in _FILES:
        if not (root / name).is_file():
            raise FileNotFoundError(f"{root / name}: not found; expected the published OASIS files {', '.join(_FILES)} "
                                    f"and images/ (aesthemo_lib.data.readers.download.fetch gets them)")
    facts = _facts(root)
    if not sensitive:
        facts = facts[~facts["group"].isin(SENSITIVE_THEMES)]
    paths = [root / "images" / f"{theme}.jpg" for theme in facts["theme"]]
    here = np.array([path.is_file() for path in paths], dtype=bool)
    if not here.any():
        raise FileNotFoundError(f"{root / 'images'}: none of the photographs of OASIS.csv is here (Acorns 1.jpg ...)")
    facts = facts[here].reset_index(drop=True)
    expected = PUBLISHED - (0 if sensitive else PUBLISHED_SENSITIVE)
    if len(facts) < expected:
        logging.getLogger(__name__).warning(
            "oasis: %d of the %d photographs published%s are not in %s; reading the other %d", expected - len(facts),
            expected, "" if sensitive else f" (beside {PUBLISHED_SENSITIVE} sensitive ones)", root, len(facts))
    paths = tuple(path for path, exists in zip(paths, here, strict=True) if exists)
    return _annotated(root, facts, paths, tuple(known[name] for name in tasks))


def _annotated(root: Path, facts: pd.DataFrame, paths: tuple[Path, ...], tasks: tuple[Task, ...]) -> AnnotatedImages:
    ratings = _ratings(root / "OASISdata.mat", facts["item"])
    rating_votes = rating.scale_votes(ratings["value"], BEAUTY_MIDDLE)
    quadrant = quadrants(facts["valence_mean"], facts["arousal_mean"])
    published = {"emotion": quadrant, "valence": quadrant // 2, "arousal": quadrant % 2}
    if "category" in (task.name for task in tasks):
        published["category"] = facts["category"].str.strip().map(OASIS_SCALES[3].index).to_numpy()
    votes = {name: rating.class_votes(values, len(task.classes))
             for task in tasks for name, values in published.items() if name == task.name}
    rated = [task.name for task in tasks if task.name == AESTHETICS.name]
    return AnnotatedImages(
        "oasis", tasks, paths,
        votes=votes | {name: rating.add_votes(ratings["image"], rating_votes, len(paths)) for name in rated},
        ratings=dict.fromkeys(rated, ratings),
        levels=dict.fromkeys(rated, "interval"),
        rating_votes=dict.fromkeys(rated, rating_votes),
        groups=facts["group"].to_numpy(),
        facts=facts.drop(columns="group"),
    )


def _facts(root: Path) -> pd.DataFrame:
    """What is published of each image: one row per row of OASIS.csv, in its order."""
    # Lines end in CR alone, which pandas takes; the first column has no name and holds I1 .. I900.
    affect = _table(root / "OASIS.csv", _AFFECT)
    beauty = _table(root / "means_per_image.csv", ("item", "Theme", "beauty_mean")).set_index("item")
    item = affect.iloc[:, 0].str.removeprefix("I").astype(int)
    themes = affect["Theme"].str.strip()  # 'War 2 ' and 'Crosswalk 1 ' end in a space, their image files don't
    # means_per_image.csv writes themes without spaces; equal themes prove that the two tables are joined rightly.
    named = beauty["Theme"].reindex(item).to_numpy()
    wrong = np.flatnonzero(themes.str.replace(" ", "").to_numpy() != named)
    if len(wrong):
        raise ValueError(f"{root / 'means_per_image.csv'}: item {item[wrong[0]]} is {named[wrong[0]]!r}, but OASIS.csv "
                         f"says {themes[wrong[0]]!r}; expected the two tables of one publication")
    return pd.DataFrame({
        "item": item, "theme": themes, "group": themes.map(theme_stem),
        "category": affect["Category"], "source": affect["Source"],
        "valence_mean": affect["Valence_mean"], "valence_sd": affect["Valence_SD"],
        "arousal_mean": affect["Arousal_mean"], "arousal_sd": affect["Arousal_SD"],
        "beauty_mean": beauty["beauty_mean"].reindex(item).to_numpy(),
    })


def _table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    table = pd.read_csv(path, encoding="utf-8-sig")  # means_per_image.csv begins with a byte order mark
    missing = [column for column in columns if column not in table]
    if missing:
        raise ValueError(f"{path}: column {missing[0]!r} is missing; expected the file as published")
    return table


def _ratings(path: Path, items: pd.Series) -> pd.DataFrame:
    """The single beauty ratings of these images: image (row number), annotator, value."""
    from scipy.io import loadmat

    fields = ("subjID", "item", "beauty")
    try:
        published = loadmat(path, variable_names=fields)
    except Exception as fault:  # whatever a broken or hostile file makes the parser say
        reason = " ".join(str(fault).split())
        raise ValueError(f"{path}: not a whole MATLAB file ({reason}); fetch it again") from fault
    if not all(field in published and published[field].dtype.kind in "iuf" for field in fields):
        raise ValueError(f"{path}: expected the variables {', '.join(fields)}, numbers, as published")
    annotator, item, value = (published[field].ravel() for field in fields)
    row = pd.Series(np.arange(len(items)), index=items.to_numpy()).reindex(item).to_numpy()
    keep = ~np.isnan(row)
    return pd.DataFrame({
        "image": row[keep].astype(np.int64), "annotator": annotator[keep].astype(np.int64),
        "value": value[keep].astype(np.float64),
    })
