"""Can a ledger be believed? What it says of each image, next to a null and to interventions, with intervals.

``maps`` does the same for maps; ``study`` trains the networks that have to be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from aesthemo_lib.attribution.cuts import cut
from aesthemo_lib.attribution.ledger import Ledger
from aesthemo_lib.attribution.streams import Stream, record, streams
from aesthemo_lib.evaluation.metrics import majority_class, softmax, task_metrics
from aesthemo_lib.inspector.null import beyond, shown_rows
from aesthemo_lib.models.inference import evaluating, predict_logits

from .marks import bounded_interval, detectable, p_value, scatter


def over_set(ledger: Callable, network: nn.Module, batches: Iterable[Tensor], **options) -> dict:
    """``trunk_ledger`` or ``layer_ledger``, with ``options``, over (B, 3, H, W) ``batches``."""
    parts = [ledger(network, images, **options) for images in batches]
    if not parts:
        raise ValueError("no images were given")
    return {key: _joined([part[key] for part in parts]) for key in parts[0]}


def _joined(parts: Sequence[Ledger]) -> Ledger:
    def whole(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    error = None if parts[0].standard_error is None else whole("standard_error")
    return replace(parts[0], values=whole("values"), logits=whole("logits"), baseline=whole("baseline"),
                   standard_error=error)


def channel_means(network: nn.Module, batches: Iterable[Tensor], stream: Stream) -> np.ndarray:
    """(N, K) each photo's mean activation of each channel of a stream: sort a column to find what excites it most."""
    return np.concatenate([record(network, [stream], images)[stream].mean((2, 3)).cpu().numpy() for images in batches])


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


def along(ledger: Ledger) -> np.ndarray:
    """(N, P) each player's part of the squared size of an image's whole change: negative where it works against it.

    They add up to that squared size; the players' sums over images, divided by the sum of all, are signed shares.
    """
    against = ledger.values - ledger.values.mean(axis=1, keepdims=True)
    return (against * against.sum(axis=2, keepdims=True)).mean(axis=1)


def signed_shares(table: pd.DataFrame) -> pd.DataFrame:
    """(networks, players) signed shares of one task from rows of ``image_table``: each row adds up to 1."""
    sums = table.groupby("seed")[[name for name in table if name.startswith("along ")]].sum()
    return sums.div(sums.sum(axis=1), axis=0).rename(columns=lambda name: name.removeprefix("along "))


def cancelled(table: pd.DataFrame) -> pd.Series:
    """By network, what part of the borrowed streams' sizes cancels among them; rows of ``image_table`` of one task."""
    borrowed = table[[name for name in table if name.startswith("share ") and name != "share own"]].sum(axis=1)
    return 1 - table.groupby("seed")["net borrowed"].sum() / borrowed.groupby(table["seed"]).sum()


def beyond_null(ledger: Ledger, bars: dict, classes: Sequence[str]) -> str:
    """How much the first image's answer borrows and what of it lies beyond the null, in words.

    Args:
        bars: the task's 'low' and 'high', see ``inspector.null.null_bars``.
        classes: of the ledger's task; of two, their logits' difference is what is split.
    """
    two, at = len(classes) == 2, int(ledger.logits[0].argmax())
    part, outside = shown_rows(ledger.borrowed()[0])[0 if two else at], beyond(ledger, bars)[0 if two else at]
    of = f"{classes[1]} minus {classes[0]}" if two else classes[at]
    return f"{ledger.task}, {of}: borrowed {part:+.2f}; {outside:+.2f} of it lies beyond the null"


def image_table(ledger: Ledger, truth: np.ndarray, **columns) -> pd.DataFrame:
    """One row an image: the given columns, 'share ..', 'support ..' and 'along ..' of each player, and 'net borrowed'.

    'net borrowed' is the size of the sum of all that is borrowed, on the scale of the shares: where streams cancel it
    is less than the sum of their shares.
    """
    table = pd.DataFrame({"task": ledger.task, **columns}, index=range(len(truth)))
    for what, values in (("share", shares(ledger)), ("support", support(ledger, truth)), ("along", along(ledger))):
        table[[f"{what} {player}" for player in ledger.players]] = values
    borrowed = ledger.borrowed() - ledger.borrowed().mean(axis=1, keepdims=True)
    whole = np.maximum(sizes(ledger).sum(axis=1), np.finfo(np.float64).tiny)
    return table.assign(**{"net borrowed": np.sqrt((borrowed**2).mean(axis=1)) / whole})


def excess(table: pd.DataFrame, what: str = "share", level: float = 0.95, null: str = "permuted") -> pd.DataFrame:
    """What is borrowed beyond the null: the trained network's ledger minus that of the null of the same split and seed.

    Args:
        table: rows of ``image_table`` with columns run ('trained' and the nulls' names), seed, image and group, of one
            task and one data set.
        what: 'share' or 'support'.
        null: which run is the null; of 'permuted' the *other* task's labels were.

    Returns:
        a row a player, and one for all that is borrowed: trained and null (means), excess (mean), p and the interval
        over networks, corrected for the overlap of their splits (low, high; NaN of one network), and that over images,
        whole groups drawn again (image_low, image_high); ``marks.detectable`` and ``marks.scatter``.

    Raises:
        ValueError: a null is missing.
    """
    table = table.dropna(axis=1, how="all")  # the players of networks with more layers
    columns = [name for name in table if name.startswith(f"{what} ")]
    images = table.groupby(["seed", "image"])["group"].first()
    values = {run: rows.groupby(["seed", "image"])[columns].mean().rename(columns=lambda name: name.split(" ", 1)[1])
              for run, rows in table.groupby("run") if run in ("trained", null)}
    if len(values) != 2 or not values["trained"].index.equals(values[null].index):
        raise ValueError("each trained network needs a null on the same images: the same split and seed")
    for rows in values.values():
        rows["borrowed"] = rows[[name for name in rows if name.startswith("borrowed at")]].sum(axis=1, skipna=False)
    difference = (values["trained"] - values[null]).dropna()
    ends = _image_interval(difference, images[difference.index].to_numpy(), level)
    of_seeds = difference.groupby("seed").mean()
    rows = []
    for p, player in enumerate(difference):
        mean, low, high = bounded_interval(of_seeds[player], level=level)
        means = [values[run].loc[difference.index, player].mean() for run in ("trained", null)]
        rows.append({"player": player, "trained": means[0], "null": means[1], "excess": mean, "low": low, "high": high,
                     "p": p_value(of_seeds[player]), "image_low": ends[0][p], "image_high": ends[1][p],
                     "detectable": detectable(of_seeds[player]), **scatter(of_seeds[player])})
    return pd.DataFrame(rows)


def _image_interval(values: pd.DataFrame, groups: np.ndarray, level: float, resamples: int = 1000) -> np.ndarray:
    """(2, columns), ``evaluation.bootstrap_interval`` of the columns' means, from the groups' sums and so at once."""
    sums, counts = values.groupby(groups).sum().to_numpy(), values.groupby(groups).size().to_numpy()
    drawn = np.random.default_rng(0).integers(0, len(counts), (resamples, len(counts)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)[:, None]
    return np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)


def summary(
    table: pd.DataFrame, value: str, by: Sequence[str], level: float = 0.95, scale: str = ""
) -> pd.DataFrame:
    """Means over images, with two intervals: one answers for other images, the other for other splits and seeds.

    Args:
        table: a row an image, with columns seed and group, and one or several rows for each of ``by``.
        value: the column to be averaged.
        by: what the rows are grouped by.
        scale: see ``marks.bounded_interval``.

    Returns:
        a row a group of rows: mean, low and high (over the networks' means, corrected for the overlap of their splits;
        NaN of one network), image_low and image_high (whole groups of images drawn again), images, seeds.
    """
    rows = []
    for key, part in table.dropna(subset=value).groupby(list(by), sort=False):
        of_seeds = part.groupby("seed")[value].mean()
        mean, low, high = bounded_interval(of_seeds.to_numpy(), scale, level)
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
    before, changes = logits_of(network, batches), {}
    for stream in (s for s in streams(network) if s.borrowed):
        with cut(network, stream, how, reference):
            after = logits_of(network, batches)
        task = stream.receiver
        changes[stream] = change(before[task], after[task], truth[task])
    return changes


def cut_table(
    network: nn.Module, pixels: np.ndarray, rows: np.ndarray, truth: dict[str, np.ndarray], mean: np.ndarray, side: int,
    cuts: dict[str, Sequence[Stream]], how: str = "zero", reference: Tensor | None = None, seed: int = 0,
) -> pd.DataFrame:
    """The test set again with streams cut, after the uncut network as 'nothing'.

    Args:
        pixels, rows, mean, side: see ``image_batches``.
        truth: (M,) class numbers of these rows by task name, negative where unlabelled.
        cuts: the streams of each cut, by a name for it; how, reference, seed: see ``cut``.

    Returns:
        one row per cut and task: cut, task, ``evaluation.task_metrics``, and changed: the share of answers that change.
    """
    device, table, uncut = next(network.parameters()).device, [], {}
    for name, which in {"nothing": [], **cuts}.items():
        with cut(network, which, how, reference, seed):
            logits = predict_logits(network, pixels, rows, mean, side, device)
        uncut = uncut or {task: values.argmax(1) for task, values in logits.items()}
        for task, values in logits.items():
            metrics = task_metrics(truth[task], softmax(values), majority_class(truth[task]))
            changed = float((values.argmax(1) != uncut[task]).mean())
            table.append({"cut": name, "task": task, **metrics, "changed": changed})
    return pd.DataFrame(table)


def photo_correlations(links: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Rank correlation of two measures over a network's images, link by link: in which photos does a link matter?

    Args:
        links: a row a link and image: seed, image, layer, receiver, and the measures.
        pairs: names of two measures each.

    Returns:
        a row a pair, link and network: what, task, layer, seed, value.
    """
    correlations = []
    for (first, second), ((layer, task, seed), rows) in product(pairs, links.groupby(["layer", "receiver", "seed"])):
        value = rows[[first, second]].dropna().corr("spearman").iloc[0, 1]
        correlations.append((f"{first} and {second}", task, layer, seed, value))
    return pd.DataFrame(correlations, columns=["what", "task", "layer", "seed", "value"])


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
    gains = [(*key, *bounded_interval(values.to_numpy())) for key, values in total.groupby(level=[0, 1], sort=False)]
    return pd.DataFrame(gains, columns=["class", columns, "mean", "low", "high"])
