"""What is borrowed, not only how much: what probes read from a stream, and whether an answer follows a swapped one.

Probing with a control task follows Hewitt and Liang (EMNLP 2019), interchange interventions Geiger et al. (NeurIPS
2021): a stream carries what it carries for a scene that differs in one factor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from aesthemo_lib.attribution.streams import Stream, record
from aesthemo_lib.inspector.answers import all_logits, switches
from aesthemo_lib.models.inference import evaluating
from aesthemo_scenes.drawing import picture, scene_of
from aesthemo_scenes.factors import PAIRS, sample

PIXELS = ("brightness", "colourfulness", "sharpness of pixels")
FACTORS = {"light": "both", "lamp": "both", "sharpness": "aesthetics", "composition": "aesthetics",
           "clutter": "aesthetics", "mood": "emotion", "place": "none"}
"""The factors of a drawn scene, and which task's labels depend on each."""
FIRST_PAIR = 5000
"""The number of the first scene of a pair: none of these is in any data set."""
STRENGTH = 1.2
"""A factor goes from minus this to plus this, in standard deviations."""
ALPHAS = np.logspace(0, 5, 11)
POSITIVE = len(PAIRS)


# --- probes


def pooled(network: nn.Module, batches: Iterable[Tensor], streams: Sequence[Stream]) -> dict[Stream, np.ndarray]:
    """(N, 2K) the mean and deviation of each channel of a stream, image by image."""
    parts: dict[Stream, list[np.ndarray]] = {stream: [] for stream in streams}
    for images in batches:
        for stream, maps in record(network, streams, images).items():
            cells = maps.float().flatten(2)
            parts[stream].append(torch.cat([cells.mean(2), cells.std(2)], dim=1).cpu().double().numpy())
    return {stream: np.concatenate(values) for stream, values in parts.items()}


def pixel_facts(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """``PIXELS`` of (N, S, S, 3) uint8: mean grey level, Hasler and Suesstrunk's (2003) colourfulness, log steps."""
    red, green, blue = np.moveaxis(np.asarray(pixels, dtype=np.float32), 3, 0)
    grey, first, second = (red + green + blue) / 3, red - green, (red + green) / 2 - blue
    deviation = np.sqrt(first.std((1, 2)) ** 2 + second.std((1, 2)) ** 2)
    level = np.sqrt(first.mean((1, 2)) ** 2 + second.mean((1, 2)) ** 2)
    steps = np.abs(np.diff(grey, axis=2)).mean((1, 2))
    return dict(zip(PIXELS, (grey.mean((1, 2)), deviation + 0.3 * level, np.log1p(steps)), strict=True))


def readable(features: np.ndarray, target: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    """What share of a target's variance a ridge regression on features explains in the test rows (R squared).

    Args:
        features: (N, K).
        target: (N,) numbers, or names, which are read as one number each (0 or 1) and averaged.
    """
    scaled = StandardScaler().fit(features[train])
    wanted = pd.get_dummies(target).to_numpy(float) if target.dtype == object else target.astype(float)[:, None]
    probe = RidgeCV(ALPHAS).fit(scaled.transform(features[train]), wanted[train])
    error = (wanted[test] - probe.predict(scaled.transform(features[test])).reshape(len(test), -1)) ** 2
    return float(1 - error.sum() / ((wanted[test] - wanted[test].mean(0)) ** 2).sum())


def concepts(
    own: np.ndarray, borrowed: np.ndarray, targets: dict[str, np.ndarray], train: np.ndarray, test: np.ndarray,
    seed: int = 0,
) -> Iterator[dict]:
    """What is read from a branch's own stream, from what it borrows, and from both.

    Yields:
        a row a target: 'own', 'borrowed', 'both' (R squared), each also as 'control ..', where the same probe learns
        the target with its values permuted among the images: what it reads there it has learnt by heart.
    """
    features = {"own": own, "borrowed": borrowed, "both": np.concatenate([own, borrowed], axis=1)}
    for name, target in targets.items():
        mixed = target[np.random.default_rng(seed).permutation(len(target))]
        yield {"concept": name, **{key: readable(x, target, train, test) for key, x in features.items()},
               **{f"control {key}": readable(x, mixed, train, test) for key, x in features.items()}}


# --- interchange interventions


@lru_cache(maxsize=2)
def pairs(count: int, size: int) -> dict[str, np.ndarray]:
    """(2, count, size, size, 3) uint8 by factor: scenes that differ in this factor alone, low and high (or two places).

    Emotions have a kind and a sign; 'mood' changes the sign, and with it the motif to its opposite.
    """
    numbers = [n for n in range(FIRST_PAIR, FIRST_PAIR + 2 * count) if scene_of(n) == n][:count]
    factors = sample(max(numbers) + 1).loc[numbers]
    return {name: np.stack([[_drawn(row, number, name, high, size) for number, row in factors.iterrows()]
                            for high in (False, True)]) for name in FACTORS}


def _drawn(row: pd.Series, number: int, factor: str, high: bool, size: int) -> np.ndarray:
    changed = dict(row) | {factor: STRENGTH if high else -STRENGTH}
    if factor == "place":
        changed["place"] = ("hills", "city")[high]
    if factor == "mood":
        kind = next(pair for pair in PAIRS if row["motif"] in pair)
        changed["motif"] = kind[0 if high else 1]
    return np.asarray(picture(changed, (0, number))[0].resize((size, size)))


def score(logits: Tensor) -> np.ndarray:
    """What is followed: 'high' minus 'low', or the log odds of the positive emotions; (..., C) to (...)."""
    if logits.shape[-1] == 2:
        return (logits[..., 1] - logits[..., 0]).cpu().double().numpy()
    return (logits[..., :POSITIVE].logsumexp(-1) - logits[..., POSITIVE:].logsumexp(-1)).cpu().double().numpy()


def interchanged(network: nn.Module, low: Tensor, high: Tensor) -> Iterator[dict]:
    """How far an answer follows when single streams carry what they carry for the partner of a pair.

    Args:
        low, high: (N, 3, s, s), pair by pair.

    Yields:
        a row a task and pair, in logits: 'whole' (from low to high), 'borrowed' (all that the task borrows is the
        partner's, and nothing else), 'borrowed at i', 'own' (everything but that).
    """
    known = switches(network)
    with evaluating(network), torch.inference_mode():
        moved, back = all_logits(network, low, high), all_logits(network, high, low)
    for task in network.tasks:
        mine = {k: s for k, s in enumerate(known) if s.receiver == task.name}
        to_high, to_low = score(moved[task.name]), score(back[task.name])
        every = sum(1 << k for k in mine)
        before, after = to_high[0], to_low[0]
        parts = {"whole": after - before, "own": to_low[every] - before, "borrowed": to_high[every] - before,
                 **{f"borrowed at {s.layer}": to_high[1 << k] - before for k, s in mine.items()}}
        for n in range(len(low)):
            yield {"task": task.name, "pair": n, **{name: values[n] for name, values in parts.items()}}
