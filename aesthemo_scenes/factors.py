"""The factors of drawn scenes, what ten raters say of them, and the best possible answer.

With r = ``relatedness`` and independent standard normal factors::

    aesthetics_score = sqrt(r) * shared + sqrt(1 - r) * own        shared = (light + lamp) / sqrt(2)
    emotion_score    = sqrt(r) * shared + sqrt(1 - r) * mood
    own              = sqrt(.4) * sharpness - sqrt(.35) * clutter + sqrt(.25) * composition

so both scores are N(0, 1) and correlate by exactly r. Raters judge aesthetics by the first score, emotion by the sign
of the second and the motif's kind. The pictures are the same at every r, and the first n of more pictures are the same
as n: all random numbers of an image come from (seed, its number). Of every 20 pictures the last 5 to 8 are a series,
near-duplicates of one scene in other light.
"""

import math

import numpy as np
import pandas as pd

from .drawing import PLACES, scene_of
from .motifs import STYLES

NORMAL = ("light", "lamp", "sharpness", "composition", "clutter", "mood")
LOCAL = ("lamp", "clutter")
"""The factors that stand at a place in the picture; each has a mask."""

PAIRS = (("amusement", "disgust"), ("awe", "fear"), ("contentment", "sadness"), ("excitement", "anger"))
"""Opposites: the four kinds of emotion, each as (positive, negative)."""
EMOTIONS = tuple(STYLES)
"""The patent's eight, in its order: the classes of the raters' answers."""
_CLASS = np.array([[EMOTIONS.index(name) for name in side] for side in zip(*PAIRS, strict=True)])  # (sign, kind)

OWN_WEIGHTS = {"sharpness": math.sqrt(0.4), "clutter": -math.sqrt(0.35), "composition": math.sqrt(0.25)}
SCALE_MIDDLE = 4
BIAS = np.array([-0.5, 0.3, -0.1, 0.5, 0.1, -0.3, 0.4, -0.4, 0.2, -0.2])  # ten annotators, in units of the score
NOISE = np.array([0.8, 1.2, 0.9, 1.1, 1.0, 1.3, 0.7, 1.0, 0.9, 1.1])
SLIP = 0.25  # how often an annotator names another kind of emotion than the motif's
TIE_SHIFT = 0.06  # a tie goes to the first class (low; the positive emotions): this evens the classes out


def sample(images: int, seed: int = 0, relatedness: float = 0.5) -> pd.DataFrame:
    """The pictures' factors and scores, one row per image, without drawing them; only the scores depend on r."""
    check(images, seed, relatedness)
    rows = []
    for number in range(images):
        rng = np.random.default_rng([seed, number, 0])
        normal = rng.standard_normal(len(NORMAL))
        motif = PAIRS[rng.integers(len(PAIRS))][int(normal[-1] < 0)]
        rows.append((motif, PLACES[rng.integers(len(PLACES))], *normal))
    table = pd.DataFrame(rows, columns=["motif", "place", *NORMAL])
    light = table["light"]
    table = table.iloc[scene_of(np.arange(images))].reset_index(drop=True).assign(light=light)
    shared = (table["light"] + table["lamp"]) / math.sqrt(2)
    own = sum(weight * table[name] for name, weight in OWN_WEIGHTS.items())
    for name, single in (("aesthetics_score", own), ("emotion_score", table["mood"])):
        table[name] = math.sqrt(relatedness) * shared + math.sqrt(1 - relatedness) * single
    return table


def rate(factors: pd.DataFrame, seed: int = 0) -> dict[str, pd.DataFrame]:
    """What the ten annotators say of pictures with these factors, as ``sample`` returns them.

    Returns:
        by task name a table (image, annotator, value): aesthetics 1..7, emotion a class number.
    """
    count, people = len(factors), len(BIAS)
    normal, chance, other = np.empty((count, 2, people)), np.empty((count, people)), np.empty((count, people), int)
    for number in range(count):
        rng = np.random.default_rng([seed, number, 5])
        normal[number], chance[number] = rng.standard_normal((2, people)), rng.random(people)
        other[number] = rng.integers(1, len(PAIRS), people)
    seen = factors["aesthetics_score"].to_numpy()[:, None] + TIE_SHIFT + BIAS + NOISE * normal[:, 0]
    felt = factors["emotion_score"].to_numpy()[:, None] - TIE_SHIFT + BIAS[::-1] + NOISE * normal[:, 1]
    kind = _kind(factors)[:, None]
    kind = np.where(chance < SLIP, (kind + other) % len(PAIRS), kind)
    values = {
        "aesthetics": np.clip(np.rint(SCALE_MIDDLE + 1.2 * seen), 1, 7).astype(int),
        "emotion": _CLASS[(felt < 0).astype(int), kind],
    }
    image, person = np.divmod(np.arange(count * people), people)
    return {name: pd.DataFrame({"image": image, "annotator": person, "value": value.ravel()})
            for name, value in values.items()}


def best_guess(factors: pd.DataFrame) -> dict[str, np.ndarray]:
    """The (N,) classes that a classifier would name if it read all factors of ``sample`` without error, by task name.

    Its accuracy on the consensus labels is the ceiling for any network, about .89 in aesthetics and .85 in emotion.
    """
    negative = (factors["emotion_score"] < 0).to_numpy().astype(int)
    return {"aesthetics": (factors["aesthetics_score"] > 0).to_numpy().astype(int),
            "emotion": _CLASS[negative, _kind(factors)]}


def _kind(factors: pd.DataFrame) -> np.ndarray:
    kinds = {motif: kind for kind, pair in enumerate(PAIRS) for motif in pair}
    return factors["motif"].map(kinds).to_numpy()


def check(images: int, seed: int, relatedness: float, size: int = 256) -> None:
    """Raise ValueError for a parameter that is out of its range."""
    for name, value, low, high in (("images", images, 1, 99_999), ("seed", seed, 0, 2**32 - 1),
                                   ("relatedness", relatedness, 0, 1), ("size", size, 32, 1024)):
        if not low <= value <= high:
            raise ValueError(f"scenes: {name} must be in {low} .. {high}, got {value}")
