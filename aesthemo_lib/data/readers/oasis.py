"""OASIS: 900 photographs with single ratings of beauty, valence and arousal, exactly as published.

Images and affect: Kurdi, Lozano & Banaji, Behavior Research Methods 2017 (CC BY-NC-SA 4.0). Beauty: Brielmann & Pelli,
Emotion 2019. Each image's own ``source`` is in the facts. ``download.fetch`` gets all but ``OASIS_data.csv``, the
single ratings of valence and arousal, which is among the data files of the Open Science Framework's project 6pnd7.

Tried on all 900 photographs and their published tables (the SHA-256 of each file is as listed in oasis_sha256.txt).
``OASIS_data.csv`` and OSF's spelling of the table were tried on small imitations.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...tasks import AESTHETICS, OASIS_SCALES, OASIS_TASKS, Task
from .. import ratings as rating
from ..table import AnnotatedImages
from .published import needed, read_table

VALENCE_CUT = 4.0  #: The middle of the scale from 1 to 7
AROUSAL_CUT = 3.7255  #: The median of all 900; a constant, so that any part of the set gets the same labels
BEAUTY_MIDDLE = 4.0
SPREAD = 0.5  #: Chosen on other splits than those of the main table: study oasis_spread of results/protocol.json
SENSITIVE_THEMES = frozenset({
    "BDSM", "Nude couple", "Nude man", "Nude woman",  # nudity
    "Animal carcass", "Bloody knife", "Dead bodies", "Injury", "Severed finger", "Torture chamber", "Tumor",  # harm
    "KKK rally", "Neonazi", "Skinhead",  # hate groups and their symbols
    "Feces",
})
"""Theme stems (86 of the 900 images) that are left out unless asked for, so that no course shows them by surprise."""
PUBLISHED, PUBLISHED_SENSITIVE = 900, 86
_AFFECT = ("Theme", "Category", "Source", "Valence_mean", "Valence_SD", "Arousal_mean", "Arousal_SD")
SINGLE, PUBLISHED_FILE = "OASIS_data.csv", "the file as published"
_FILES = ("OASIS.csv", "OASISdata.mat", "means_per_image.csv")


def theme_stem(theme: str) -> str:
    """The theme without its number, by which near-duplicates are grouped."""
    return re.sub(r"\s*\d+$", "", theme.strip())


def affect_shares(facts: pd.DataFrame, spread: float = 1.0) -> dict[str, np.ndarray]:
    """People's votes on valence and arousal (N, 2), and on emotion's quadrants (N, 4), as shares of one vote an image.

    Estimated from the published means and standard deviations: ratings as if normally distributed, and valence as if
    independent of arousal, since each person rated only one. An image's largest share is the quadrant of its means. Of
    beauty, whose single ratings are known, such estimates miss the shares by .03. ``spread`` multiplies the deviations:
    below 1 the shares lie closer to the consensus.
    """
    from scipy.stats import norm

    shares = {}
    for name, cut in (("valence", VALENCE_CUT), ("arousal", AROUSAL_CUT)):
        above = norm.cdf((facts[f"{name}_mean"] - cut) / np.maximum(spread * facts[f"{name}_sd"], 1e-9))
        shares[name] = np.stack([1 - above, above], axis=1)
    return shares | {"emotion": (shares["valence"][:, :, None] * shares["arousal"][:, None]).reshape(-1, 4)}


def read(
    root: str | Path, sensitive: bool = False, tasks: Sequence[str] = ("aesthetics", "emotion"), spread: float = SPREAD
) -> AnnotatedImages:
    """Read whichever of the published images are in ``root/images``; a log line says how many are not.

    Aesthetics: one vote per beauty rating (above 4 high, below 4 low, 4 half a vote each), single ratings kept.
    Emotion: one vote per image, shared out among the quadrants, see ``affect_shares``.
    Valence and arousal: one vote per single rating where OASIS_data.csv is there, else estimated shares.

    Args:
        root: the folder with OASIS.csv, OASISdata.mat, means_per_image.csv, images/ and perhaps OASIS_data.csv.
        sensitive: keep the images of ``SENSITIVE_THEMES``.
        tasks: which are predicted, in this order: of 'aesthetics', 'emotion', 'valence', 'arousal' (cut as the
            quadrants are) and 'category' (what the photograph shows).
        spread: see ``affect_shares``; 0 gives the whole vote to the consensus.
    """
    root = Path(root)
    known = {task.name: task for task in (*OASIS_TASKS, *OASIS_SCALES)}
    if unknown := [name for name in tasks if name not in known]:
        raise ValueError(f"oasis: unknown task {unknown[0]!r}; choose of {', '.join(known)}")
    for name in _FILES:
        needed(root / name, f"the published OASIS files {', '.join(_FILES)} and images/ "
                            f"(aesthemo_lib.data.readers.download.fetch gets them)")
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
    return _annotated(root, facts, paths, tuple(known[name] for name in tasks), spread)


def _annotated(
    root: Path, facts: pd.DataFrame, paths: tuple[Path, ...], tasks: tuple[Task, ...], spread: float
) -> AnnotatedImages:
    names = [task.name for task in tasks]
    single = {}
    if AESTHETICS.name in names:
        ratings = _ratings(root / "OASISdata.mat", facts["item"])
        single[AESTHETICS.name] = ratings, rating.scale_votes(ratings["value"], BEAUTY_MIDDLE)
    if (root / SINGLE).is_file() and {"valence", "arousal"} & set(names):
        single |= {name: rated for name, rated in _affect_ratings(root / SINGLE, facts).items() if name in names}
    votes = affect_shares(facts, spread)
    if "category" in names:
        kind = facts["category"].map(OASIS_SCALES[3].index).to_numpy()
        votes["category"] = rating.class_votes(kind, len(OASIS_SCALES[3].classes))
    votes = {name: shares for name, shares in votes.items() if name in names}
    votes |= {name: rating.add_votes(table["image"], cast, len(paths)) for name, (table, cast) in single.items()}
    return AnnotatedImages(
        "oasis", tasks, paths, votes=votes,
        ratings={name: table for name, (table, _) in single.items()}, levels=dict.fromkeys(single, "interval"),
        rating_votes={name: cast for name, (_, cast) in single.items()},
        groups=facts["group"].to_numpy(), facts=facts.drop(columns="group"),
    )


def _facts(root: Path) -> pd.DataFrame:
    """What is published of each image: one row per row of OASIS.csv, in its order."""
    # Lines end in a bare CR, which pandas takes; the first column has no name and holds I1 .. I900.
    affect = read_table(root / "OASIS.csv", _AFFECT, PUBLISHED_FILE)
    means = read_table(root / "means_per_image.csv", ("item", "Theme", "beauty_mean"), PUBLISHED_FILE)
    beauty = means.set_index("item")
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
        "category": affect["Category"].str.strip().replace("Scene", "Scenery"),  # the table at OSF says 'Scene'
        "source": affect["Source"],
        "valence_mean": affect["Valence_mean"], "valence_sd": affect["Valence_SD"],
        "arousal_mean": affect["Arousal_mean"], "arousal_sd": affect["Arousal_SD"],
        "beauty_mean": beauty["beauty_mean"].reindex(item).to_numpy(),
    })


def _affect_ratings(path: Path, facts: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, np.ndarray]]:
    """The single ratings of valence and of arousal, and their votes; a row of the file is a person, who rated one."""
    items = [f"I{item}" for item in facts["item"]]
    table = read_table(path, ("valar", *items), PUBLISHED_FILE)
    scale = table["valar"].astype(str).str.strip().str.lower()
    if strange := set(scale) - {"valence", "arousal"}:
        raise ValueError(f"{path}: column 'valar' holds {min(strange)!r}; expected Valence or Arousal in each row")
    single = {}
    for name, cut in (("valence", VALENCE_CUT), ("arousal", AROUSAL_CUT)):
        cells = table.loc[scale == name, items].apply(pd.to_numeric, errors="coerce")  # (people, images)
        values, mean = cells.to_numpy(), cells.mean().to_numpy()
        far = np.abs(mean - facts[f"{name}_mean"].to_numpy()) > 1e-3  # the published means are of these ratings
        if far.any():
            row = int(np.argmax(far))
            raise ValueError(f"{path}: the {name} ratings of {items[row]} have the mean {mean[row]:.3f}, but OASIS.csv "
                             f"says {facts[f'{name}_mean'][row]:.3f}; expected the two files of one publication")
        person, image = np.nonzero(~np.isnan(values))
        ratings = pd.DataFrame({"image": image, "annotator": np.flatnonzero(scale == name)[person],
                                "value": values[person, image]})
        single[name] = ratings, rating.scale_votes(ratings["value"], cut)
    return single


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
