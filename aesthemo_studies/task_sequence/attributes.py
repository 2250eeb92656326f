"""Answer sheets of yes/no attributes with logical rules, and how often a sheet breaks them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from aesthemo_lib.tasks import EMOTION
from aesthemo_scenes.drawing import PLACES
from aesthemo_scenes.factors import PAIRS

FACTORS = ("light", "lamp", "sharpness", "composition", "clutter", "mood")
MOTIFS = EMOTION.classes
RULED = (*FACTORS, *MOTIFS, *PLACES)
"""18 attributes. A picture shows one motif and one place; a motif belongs to a positive or to a negative mood."""
FREE = (*FACTORS, "amusing_or_awesome", "hills_or_sea")
"""Eight attributes without a rule: two halves of the motifs and of the places, which know nothing of the factors."""
POSITIVE = np.isin(MOTIFS, [pair[0] for pair in PAIRS])
GROUPS = {"motif": slice(len(FACTORS), len(FACTORS) + len(MOTIFS)), "place": slice(len(FACTORS) + len(MOTIFS), None)}


def sheets(factors: pd.DataFrame, names: tuple[str, ...] = RULED) -> np.ndarray:
    """The true answers (N, T) bool of drawn pictures.

    Args:
        factors: as ``scenes.sample`` returns them.
        names: ``RULED`` or ``FREE``.
    """
    columns = {name: factors[name] > 0 for name in FACTORS}
    columns |= {name: factors["motif"] == name for name in MOTIFS} | {name: factors["place"] == name for name in PLACES}
    columns["amusing_or_awesome"] = factors["motif"].isin([name for pair in PAIRS[:2] for name in pair])
    columns["hills_or_sea"] = factors["place"].isin(PLACES[:2])
    return np.stack([columns[name].to_numpy() for name in names], axis=1)


def faults(answers: np.ndarray) -> pd.DataFrame:
    """Which rules each sheet breaks.

    Args:
        answers: (N, 18) bool, in the order of ``RULED``.

    Returns:
        a row a sheet: ``two`` (two motifs or two places), ``none`` (no motif or no place), ``mood`` (a motif of the
        other mood than the one answered), and ``any`` of these.
    """
    counts = {name: answers[:, group].sum(axis=1) for name, group in GROUPS.items()}
    positive = answers[:, [RULED.index("mood")]]
    table = pd.DataFrame({
        "two": np.any([count > 1 for count in counts.values()], axis=0),
        "none": np.any([count == 0 for count in counts.values()], axis=0),
        "mood": (answers[:, GROUPS["motif"]] & (POSITIVE != positive)).any(axis=1),
    })
    return table.assign(any=table.any(axis=1))


def decoded(logits: np.ndarray) -> np.ndarray:
    """The answers of someone who knows the rules: the likeliest motif, the likeliest place, and the motif's mood.

    Args:
        logits: (N, 18), in the order of ``RULED``.
    """
    answers = logits > 0
    for group in GROUPS.values():
        best = logits[:, group].argmax(axis=1)
        answers[:, group] = best[:, None] == np.arange(logits[:, group].shape[1])
    answers[:, RULED.index("mood")] = POSITIVE[logits[:, GROUPS["motif"]].argmax(axis=1)]
    return answers


def categories(answers: np.ndarray) -> pd.DataFrame:
    """Which rules OASIS' sheets break: beauty, valence, arousal, then the four categories, of which one is right."""
    count = answers[:, 3:].sum(axis=1)
    table = pd.DataFrame({"two": count > 1, "none": count == 0})
    return table.assign(any=table.any(axis=1))
