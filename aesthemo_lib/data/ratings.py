"""From the judgements of several annotators to votes, a consensus and their agreement.

A **rating** is one person's judgement of one image: a row (image, annotator, value).
A **vote** is what a rating says about the classes: a row of C non-negative numbers that sum to 1.
Adding the votes of an image gives its row of the (N, C) vote table, from which the label follows:
the category with the highest agreement [0042].
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

UNLABELLED = -1  #: The label of an image that nobody voted on for a task; its loss is masked
RATING_COLUMNS = ("image", "annotator", "value")


def check_votes(votes: np.ndarray, classes: int, where: str = "votes") -> np.ndarray:
    """Votes as a float64 (N, C) array, or a ValueError that names the first bad row.

    ``votes``: (N, C), non-negative and finite, fractions included; ``where``: what the message calls the table.
    """
    votes = np.asarray(votes, dtype=np.float64)
    if votes.ndim != 2 or votes.shape[1] != classes:
        raise ValueError(f"{where}: expected one column per class, shape (N, {classes}), got {votes.shape}")
    bad = np.flatnonzero(~(np.isfinite(votes) & (votes >= 0)).all(axis=1))
    if len(bad):
        raise ValueError(f"{where}: row {bad[0]} holds {votes[bad[0]].tolist()}; expected finite counts of 0 or more. "
                         f"Leave an image that nobody rated at 0 for every class")
    return votes


def consensus(votes: np.ndarray) -> np.ndarray:
    """The class with most of each image's (N, C) votes (equation 1.2 of lesson 01), (N,); UNLABELLED without votes.

    A tie goes to the class that stands first in the task's order, so that the label depends neither on
    the order of the annotators nor on the other images. For (low, high) that means: 'high' needs a majority.

    >>> consensus(np.array([[1, 2], [3, 3], [0, 0]])).tolist()
    [1, 0, -1]
    """
    return np.where(votes.sum(axis=1) > 0, _is_top(votes).argmax(axis=1), UNLABELLED)


def tied(votes: np.ndarray) -> np.ndarray:
    """Whether more than one class shares the highest vote, (N,) bool; False where nobody voted."""
    return (_is_top(votes).sum(axis=1) > 1) & (votes.sum(axis=1) > 0)


def _is_top(votes: np.ndarray) -> np.ndarray:
    # A tolerance, since thirds added in another order differ in the last bit and must still tie.
    top = votes.max(axis=1, keepdims=True)
    return votes >= top - 1e-9 * np.maximum(top, 1)


def distribution(votes: np.ndarray) -> np.ndarray:
    """Each image's votes divided by their sum, (N, C); a row of NaN where nobody voted."""
    total = votes.sum(axis=1, keepdims=True)
    return np.divide(votes, total, out=np.full(votes.shape, np.nan), where=total > 0)


def consensus_share(votes: np.ndarray) -> np.ndarray:
    """The share of the votes that the winning class holds, (N,), in [1/C, 1]; NaN where nobody voted."""
    return distribution(votes).max(axis=1)


def check_ratings(ratings: pd.DataFrame, images: int, where: str = "ratings") -> pd.DataFrame:
    """Ratings, one row per judgement: image (in [0, N)), annotator and value; a ValueError names the first bad row."""
    if missing := set(RATING_COLUMNS) - set(ratings.columns):
        raise ValueError(f"{where}: column {sorted(missing)[0]!r} is missing; expected {', '.join(RATING_COLUMNS)}")
    image = ratings["image"].to_numpy()
    fits = (image >= 0) & (image < images) & (image % 1 == 0)  # False for NaN too
    bad = np.flatnonzero(~fits | ratings["value"].isna().to_numpy())
    if len(bad):
        row = ratings.iloc[bad[0]]
        raise ValueError(f"{where}: row {bad[0]} has image {row['image']} and value {row['value']}; "
                         f"expected an image in 0..{images - 1} and a value")
    ratings = ratings.loc[:, list(RATING_COLUMNS)].astype({"image": np.int64}).reset_index(drop=True)
    twice = ratings.duplicated(["image", "annotator"]).to_numpy()
    if twice.any():
        row = ratings.iloc[int(np.flatnonzero(twice)[0])]
        raise ValueError(f"{where}: annotator {row['annotator']!r} rated image {row['image']} more than once")
    return ratings


def scale_votes(values: np.ndarray, middle: float) -> np.ndarray:
    """One vote per rating on an ordered scale: (R,) ratings to (R, 2) votes for (low, high).

    Below the middle of the scale (4 for 1..7) low, above it high, on it half a vote each.
    """
    high = (np.sign(np.asarray(values, dtype=np.float64) - middle) + 1) / 2
    return np.stack([1 - high, high], axis=1)


def class_votes(values: np.ndarray | Sequence[int], classes: int) -> np.ndarray:
    """One vote per rating that names a class: (R,) class numbers to (R, C) one-hot rows."""
    return np.eye(classes)[np.asarray(values, dtype=np.int64)]


def add_votes(image: np.ndarray, rating_votes: np.ndarray, images: int) -> np.ndarray:
    """Sum the (R, C) votes of single ratings by image, (R,) row numbers, to (N, C): equation 1.1 of lesson 01."""
    votes = np.zeros((images, rating_votes.shape[1]))
    np.add.at(votes, np.asarray(image, dtype=np.int64), rating_votes)
    return votes


def krippendorff_alpha(ratings: pd.DataFrame, level: str) -> float:
    """Krippendorff's alpha of the raw ratings: 1 is perfect agreement, 0 what chance gives (equation 1.3 of lesson 01).

    Args:
        ratings: columns image, annotator, value.
        level: of measurement: 'nominal', 'ordinal', 'interval' or 'ratio'.

    Returns:
        alpha; NaN where no image has two ratings, or all those that can be paired are the same.
    """
    import krippendorff

    # A single rating of an image holds no pair to compare.
    ratings = ratings[ratings.groupby("image")["value"].transform("size") > 1]
    values, coded = np.unique(ratings["value"].to_numpy(), return_inverse=True)
    if len(values) < 2:
        return float("nan")
    # Counts per image and value are all that alpha needs, and far smaller than annotators x images.
    _, image = np.unique(ratings["image"].to_numpy(), return_inverse=True)
    counts = np.zeros((image.max() + 1, len(values)), dtype=np.int64)
    np.add.at(counts, (image, coded), 1)
    domain = np.arange(len(values)) if level == "nominal" else values
    return float(krippendorff.alpha(value_counts=counts, value_domain=domain, level_of_measurement=level))


def others_votes(image: np.ndarray, rating_votes: np.ndarray, images: int) -> np.ndarray:
    """(R, C) for each rating the votes of its image's *other* raters; 0 where there are none."""
    others = np.maximum(add_votes(image, rating_votes, images)[np.asarray(image, dtype=np.int64)] - rating_votes, 0)
    others[others < 1e-9] = 0
    return others


def one_rater_accuracy(image: np.ndarray, rating_votes: np.ndarray, images: int) -> float:
    """How often a single rating agrees with the consensus of the *other* raters of its image: equation 1.4.

    A rating of half a vote each counts as half right. Images are weighted equally, whatever their number of raters;
    those with a single rater say nothing and are left out. Args: see ``add_votes``.
    """
    image = np.asarray(image, dtype=np.int64)
    label = consensus(others_votes(image, rating_votes, images))
    keep = label != UNLABELLED
    agrees = rating_votes[keep, label[keep]]
    raters = np.bincount(image[keep], minlength=images)
    hits = np.bincount(image[keep], weights=agrees, minlength=images)
    rated = raters > 0
    return float((hits[rated] / raters[rated]).mean()) if rated.any() else float("nan")


def panel_ceiling(votes: np.ndarray, ballots: np.ndarray | None = None, resamples: int = 200, seed: int = 0) -> float:
    """How often a new panel of the same size, drawn from the old one, would give the same label.

    The best accuracy that the labels' own uncertainty allows. Each image's panel is drawn with replacement from its
    own ballots (a multinomial). Images with a single ballot say nothing and are left out.

    Args:
        votes: (N, C) votes, each taken for one whole ballot (a sum that is no whole number is rounded up); or, with
            ``ballots``, (N, K): how many ballots of each kind an image got, as ``count_ballots`` returns them.
        ballots: (K, C) the votes of one ballot of each kind. It matters where one ballot is split over classes: a
            panel that is drawn as whole votes varies more than the real one.

    Returns:
        a proportion; NaN if no image has two ballots.
    """
    votes = votes[votes.sum(axis=1) > 1 + 1e-9]  # shares of one vote miss 1 by a rounding error
    if not len(votes):
        return float("nan")
    ballots = np.eye(votes.shape[1]) if ballots is None else ballots
    size, shares = np.ceil(votes.sum(axis=1)).astype(np.int64), distribution(votes)
    label, rng = consensus(votes @ ballots), np.random.default_rng(seed)
    again = [consensus(rng.multinomial(size, shares) @ ballots) == label for _ in range(resamples)]
    return float(np.mean(again))


def count_ballots(image: np.ndarray, rating_votes: np.ndarray, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Single ratings' votes counted: (N, K) how many ballots of each kind an image got, and the (K, C) kinds."""
    kinds, kind = np.unique(rating_votes, axis=0, return_inverse=True)
    return add_votes(image, class_votes(kind.ravel(), len(kinds)), images), kinds
