"""Can a ledger be believed? What it says an image, beside a null and beside interventions, with intervals.

Whether the maps can be is in ``faithfulness.py``; ``check_study.py`` trains the networks that have to be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from aesthemo_lib.attribution.cuts import cut
from aesthemo_lib.attribution.ledger import Ledger
from aesthemo_lib.attribution.streams import Stream, streams
from aesthemo_lib.evaluation.comparison import bootstrap_interval, mean_interval
from aesthemo_lib.models.inference import evaluating

# --- what a ledger says of an image, comparable between networks


def sizes(ledger: Ledger) -> np.ndarray:
    """(N, P) by how much each player moves an image's classes against one another: a root mean square, in logits.

    A softmax sees differences alone, so what raises all classes of a task alike counts as nothing.
    """
    against = ledger.values - ledger.values.mean(axis=1, keepdims=True)
    return np.sqrt((against**2).mean(axis=1))


def shares(ledger: Ledger) -> np.ndarray:
    """(N, P) ``sizes`` as shares of their sum: no longer in logits, whose scale differs from network to network."""
    size = sizes(ledger)
    return size / np.maximum(size.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)


def support(ledger: Ledger, truth: np.ndarray) -> np.ndarray:
    """(N, P) what each player adds to the right class's logit, minus the mean of what it adds to the wrong ones.

    Args:
        truth: (N,) class numbers; NaN comes out where they are negative.
    """
    right = ledger.values[np.arange(len(truth)), truth]
    wrong = (ledger.values.sum(axis=1) - right) / (ledger.values.shape[1] - 1)
    return np.where(truth[:, None] >= 0, right - wrong, np.nan)


def image_table(ledger: Ledger, truth: np.ndarray, **columns) -> pd.DataFrame:
    """One row an image: the given columns, then 'share ..' and 'support ..' of each player."""
    table = pd.DataFrame({"task": ledger.task, **columns}, index=range(len(truth)))
    for what, values in (("share", shares(ledger)), ("support", support(ledger, truth))):
        table[[f"{what} {player}" for player in ledger.players]] = values
    return table


def excess(table: pd.DataFrame, what: str = "share", level: float = 0.95) -> pd.DataFrame:
    """What is borrowed beyond the null: the trained network's ledger minus that of the null of the same split and seed.

    Args:
        table: rows of ``image_table`` with columns run ('trained', or 'permuted', which is the null: the *other* task's
            labels were), seed, image and group, of one task and one data set.
        what: 'share' or 'support'.

    Returns:
        a row a player, and one for all that is borrowed: trained and null (means), excess (mean), the interval over
        seeds (low, high; NaN of one seed) and that over images, whole groups drawn again (image_low, image_high).

    Raises:
        ValueError: a null is missing.
    """
    columns = [name for name in table if name.startswith(f"{what} ")]
    both = {run: rows.set_index(["seed", "image"]) for run, rows in table.groupby("run")}
    if set(both) != {"trained", "permuted"} or not both["trained"].index.sort_values().equals(
            both["permuted"].index.sort_values()):
        raise ValueError("each trained network needs a null on the same images: the same split and seed")
    values = {run: rows[columns].rename(columns=lambda name: name.removeprefix(f"{what} "))
              for run, rows in both.items()}
    for rows in values.values():
        rows["borrowed"] = rows[[name for name in rows if name.startswith("borrowed at")]].sum(axis=1, skipna=False)
    difference = (values["trained"] - values["permuted"]).dropna()
    groups = both["trained"].loc[difference.index, "group"]
    ends = _image_interval(difference, groups.to_numpy(), level)
    of_seeds = difference.groupby("seed").mean()
    rows = []
    for p, player in enumerate(difference):
        mean, low, high = mean_interval(of_seeds[player], level)
        means = [values[run].loc[difference.index, player].mean() for run in ("trained", "permuted")]
        rows.append({"player": player, "trained": means[0], "null": means[1], "excess": mean, "low": low, "high": high,
                     "image_low": ends[0][p], "image_high": ends[1][p]})
    return pd.DataFrame(rows)


def _image_interval(values: pd.DataFrame, groups: np.ndarray, level: float, resamples: int = 1000) -> np.ndarray:
    """(2, columns), ``evaluation.bootstrap_interval`` of the columns' means, from the groups' sums and so at once."""
    sums, counts = values.groupby(groups).sum().to_numpy(), values.groupby(groups).size().to_numpy()
    drawn = np.random.default_rng(0).integers(0, len(counts), (resamples, len(counts)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)[:, None]
    return np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)


def summary(table: pd.DataFrame, value: str, by: Sequence[str], level: float = 0.95) -> pd.DataFrame:
    """Means over images, with two intervals: one answers for other images, the other for other splits and seeds.

    Args:
        table: a row an image, with columns seed and group, and one or several rows for each of ``by``.
        value: the column to be averaged.
        by: what the rows are grouped by.

    Returns:
        a row a group of rows: mean, low and high (Student's, over the seeds' means; NaN of one seed), image_low and
        image_high (whole groups of images drawn again), images, seeds.
    """
    rows = []
    for key, part in table.dropna(subset=value).groupby(list(by), sort=False):
        of_seeds = part.groupby("seed")[value].mean()
        mean, low, high = mean_interval(of_seeds.to_numpy(), level)
        groups = part["seed"].astype(str) + " " + part["group"].astype(str)
        ends = _image_interval(part[[value]], groups.to_numpy(), level)[:, 0]
        rows.append({**dict(zip(by, key, strict=True)), "mean": mean, "low": low, "high": high, "image_low": ends[0],
                     "image_high": ends[1], "images": part[["seed", "image"]].drop_duplicates().shape[0],
                     "seeds": len(of_seeds)})
    return pd.DataFrame(rows)


# --- interventions


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """(N, C) logits, or log-probabilities up to a constant a row, to log-probabilities."""
    top = logits.max(axis=1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))


def change(before: np.ndarray, after: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """What an intervention does to one task, image by image.

    Args:
        before, after: (N, C) logits or log-probabilities.
        truth: (N,) class numbers.

    Returns:
        'size': the root mean square of the classes' shifts against one another, in logits; 'loss': by how much the
        log-loss rises, NaN where unlabelled.
    """
    shift = after - before
    shift = shift - shift.mean(axis=1, keepdims=True)
    at = np.arange(len(truth)), truth
    loss = log_probabilities(before)[at] - log_probabilities(after)[at]
    return {"size": np.sqrt((shift**2).mean(axis=1)), "loss": np.where(truth >= 0, loss, np.nan)}


def logits_of(network: nn.Module, batches: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """(N, C) float64 logits by task name, in full precision."""
    with evaluating(network), torch.inference_mode():
        parts = [network(images) for images in batches]
    return {task.name: torch.cat([part[task.name] for part in parts]).cpu().double().numpy() for task in network.tasks}


def cut_changes(
    network: nn.Module, batches: Sequence[Tensor], truth: dict[str, np.ndarray], how: str, reference: Tensor
) -> dict[Stream, dict[str, np.ndarray]]:
    """``change`` of the receiver's answers for each borrowed stream, cut alone.

    Args:
        how, reference: see ``attribution.cut``.
    """
    before, found = logits_of(network, batches), {}
    for stream in (s for s in streams(network) if s.borrowed):
        with cut(network, stream, how, reference):
            after = logits_of(network, batches)
        task = stream.receiver
        found[stream] = change(before[task], after[task], truth[task])
    return found


def rank_agreement(
    first: pd.DataFrame, second: pd.DataFrame, groups: np.ndarray, resamples: int = 1000
) -> tuple[float, float, float]:
    """Spearman's rank correlation of two measures over links, each the mean of its images, and its interval.

    Args:
        first, second: N rows (images, of all seeds) by L links.
        groups: (N,) names; whole groups are drawn again.

    Returns:
        (correlation, low, high); NaN where a measure doesn't vary.
    """
    from scipy.stats import rankdata

    links = len(first.columns)

    def spearman(rows: pd.DataFrame) -> float:
        means = np.nanmean(rows.to_numpy(), axis=0)
        ranks = rankdata(means[:links]), rankdata(means[links:])
        if min(np.ptp(r) for r in ranks) == 0:
            return np.nan
        return float(np.corrcoef(*ranks)[0, 1])

    both = pd.concat([first, second[first.columns]], axis=1)
    return spearman(both), *bootstrap_interval(both, spearman, groups, resamples)


def link_agreements(links: pd.DataFrame, pairs: Sequence[tuple[str, str]], resamples: int = 500) -> pd.DataFrame:
    """``rank_agreement`` of pairs of measures over all links.

    Args:
        links: a row a link and image: seed, image, group, layer, receiver, and the measures.
        pairs: names of two measures each.

    Returns:
        columns what, correlation, low, high.
    """
    wide = links.pivot(index=["seed", "image"], columns=["layer", "receiver"])
    groups = links.drop_duplicates(["seed", "image"]).set_index(["seed", "image"])["group"].loc[wide.index]
    names = groups.index.get_level_values("seed").astype(str) + " " + groups.astype(str)
    found = [(f"{a} and {b}", *rank_agreement(wide[a], wide[b], names.to_numpy(), resamples)) for a, b in pairs]
    return pd.DataFrame(found, columns=["what", "correlation", "low", "high"])


def photo_agreements(
    links: pd.DataFrame, pairs: Sequence[tuple[str, str]], resamples: int = 300
) -> pd.DataFrame:
    """Rank correlation of two measures over the images, link by link: in which photos does a link matter?

    Args:
        links, pairs: see ``link_agreements``.

    Returns:
        columns what, layer, receiver, correlation, low, high (whole groups of images drawn again).
    """
    found, links = [], links.reset_index(drop=True)
    for (first, second), ((layer, receiver), rows) in product(pairs, links.groupby(["layer", "receiver"])):
        values = rows[[first, second]].dropna()
        groups = (rows["seed"].astype(str) + " " + rows["group"].astype(str)).loc[values.index].to_numpy()

        def spearman(part: pd.DataFrame) -> float:
            return float(part.corr("spearman").iloc[0, 1])

        ends = bootstrap_interval(values, spearman, groups, resamples)
        found.append((f"{first} and {second}", layer, receiver, spearman(values), *ends))
    return pd.DataFrame(found, columns=["what", "layer", "receiver", "correlation", "low", "high"])


def leanings(flow: pd.DataFrame, task: str, by: str, columns: str, logit: str | None = None) -> pd.DataFrame:
    """What a task's classes gain from all that it borrows, by the photos' class in another task: who leans on what.

    Args:
        flow: mean flows, a row a seed, task, by, class (of the photos), logit and player.
        columns: 'logit', or 'player' for one ``logit``.

    Returns:
        a row a class and column: mean over seeds of what the logit gains against the mean of all, low, high.
    """
    rows = flow[(flow["task"] == task) & (flow["by"] == by) & (flow["player"] != "own")].copy()
    rows["mean"] -= rows.groupby(["seed", "class", "player"])["mean"].transform("mean")
    rows = rows if logit is None else rows[rows["logit"] == logit]
    total = rows.groupby(["class", columns, "seed"], sort=False)["mean"].sum()
    found = [(*key, *mean_interval(values.to_numpy())) for key, values in total.groupby(level=[0, 1], sort=False)]
    return pd.DataFrame(found, columns=["class", columns, "mean", "low", "high"])
