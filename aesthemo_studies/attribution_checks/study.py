"""The trainings and measurements of lesson 8: ``python -m aesthemo_studies attribution-study``.

A *cell* is one kind of check in one setting with one network: it trains what it needs, unless that exists, and
measures. ``keep`` writes a table for each kind to ``results/attribution/``. A setting is scenes at one relatedness,
with networks of preset teach, or 'photographs': the bundled network for them, on OASIS, which it never saw. The column
``seed`` is a network's number, see ``subjects``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from aesthemo_lib.attribution.ledger import Ledger, layer_ledger, trunk_ledger
from aesthemo_lib.attribution.streams import streams
from aesthemo_lib.evaluation.metrics import METRICS
from aesthemo_lib.files import BUNDLED, project_folder
from aesthemo_lib.training.run import Run
from aesthemo_scenes.drawing import motif_mask

from ..cells import Study, key
from ..null_bars import before_training, with_branch_of
from . import contents, ledgers as checks, map_rows, maps as faithfulness
from .paths import path_ledger
from .subjects import NULLS, OTHER, PHOTOGRAPHS, SETTINGS, TASKS, Workplace, explained

PHOTOS, FEW, PAIRS = 48, 8, 16
"""Test images of a ledger and of what is slow; pairs of scenes."""
MAIN = "scenes-0.5"
"""The setting that every kind is measured in."""
OF_PHOTOGRAPHS = ("null", "concepts", "paths")
FORMAT = "%.4g"
FACTS = {PHOTOGRAPHS: ("valence_mean", "arousal_mean", "category")}
"""What probes look for in photographs, beyond what pixels say; in scenes, for the factors."""


class Cell(NamedTuple):
    """One kind of check in one setting, such as ('null', 'scenes-0.5', 0)."""

    kind: str
    setting: str
    seed: int


def cells(seeds: int = 8, photographs: bool = True) -> list[Cell]:
    """What is measured, the first network of everything first; with or without the photographs of OASIS."""
    asked = [Cell(kind, MAIN, seed) for seed in range(seeds) for kind in KINDS]
    return asked + [Cell(kind, PHOTOGRAPHS, 0) for kind in OF_PHOTOGRAPHS if photographs]


# --- the kinds of cells, called by their names in KINDS: each yields parts of its table


def _null(place: Workplace, setting: str, seed: int) -> Iterator[pd.DataFrame]:
    """The trunk ledgers of the trained network and of three nulls: the other task's labels permuted (twice), the other
    branch as it was before its training, the whole network before its training; of photographs only the second."""
    trained = explained(place, setting, seed, PHOTOS)
    start = before_training(Run(BUNDLED / PHOTOGRAPHS)) if setting == PHOTOGRAPHS else place.network(setting, seed)
    for task in TASKS:
        networks = {("trained", 0): trained.network,
                    ("untrained", 0): with_branch_of(trained.network, start, TASKS.index(OTHER[task]))}
        if setting != PHOTOGRAPHS:
            networks |= {("start", 0): start} | {
                ("permuted", k): place.network(setting, seed, f"{null}-{OTHER[task]}") for k, null in enumerate(NULLS)}
        for (run, number), network in networks.items():
            ledger = checks.over_set(trunk_ledger, network, trained.batches)[task]
            yield checks.image_table(ledger, trained.truth[task], run=run, permutation=number,
                                     **trained.columns(setting, seed))


def _layers(place: Workplace, setting: str, seed: int) -> Iterator[pd.DataFrame]:
    """The layer ledgers of the trained network and of both its permuted nulls, in shares: a row an image and layer."""
    of = explained(place, setting, seed, PHOTOS)
    for task in TASKS:
        networks = {("trained", 0): of.network} | {
            ("permuted", k): place.network(setting, seed, f"{null}-{OTHER[task]}") for k, null in enumerate(NULLS)}
        for (run, number), network in networks.items():
            for (layer, receiver), ledger in checks.over_set(layer_ledger, network, of.batches).items():
                if receiver == task:
                    players = ("own", f"borrowed at {layer}", "via the other: own", "via the other: borrowed")
                    table = pd.DataFrame({"task": task, "run": run, "permutation": number, "layer": layer,
                                          **of.columns(setting, seed)})
                    table[[f"share {player}" for player in players]] = checks.shares(ledger)
                    yield table


def _flow(place: Workplace, setting: str, seed: int) -> Iterator[pd.DataFrame]:
    """What flows on average into each logit, by the photos' class in each task: a row for each logit and player."""
    of = explained(place, setting, seed, PHOTOS)
    ledgers, rows = checks.over_set(trunk_ledger, of.network, of.batches), []
    for task, by in product(of.network.tasks, of.network.tasks):
        means, _ = class_means(ledgers[task.name], of.truth[by.name], len(by.classes))
        counts = np.bincount(of.truth[by.name][of.truth[by.name] >= 0], minlength=len(by.classes))
        rows += [{"task": task.name, "by": by.name, "class": by.classes[k], "photos": counts[k],
                  "logit": task.classes[c], "player": ledgers[task.name].players[p], "mean": means[k, c, p]}
                 for k, c, p in np.ndindex(means.shape) if counts[k]]
    yield pd.DataFrame(rows).assign(setting=setting, seed=seed)


def _links(place: Workplace, setting: str, seed: int) -> Iterator[pd.DataFrame]:
    """Each borrowed stream by every measure: both ledgers and three cuts."""
    of = explained(place, setting, seed, PHOTOS)
    trunk, layer = (checks.over_set(ledger, of.network, of.batches) for ledger in (trunk_ledger, layer_ledger))
    reference = torch.cat(of.batches)
    cuts = {how: checks.cut_changes(of.network, of.batches, of.truth, how, reference)
            for how in ("zero", "mean", "resample")}
    for stream in (s for s in streams(of.network) if s.borrowed):
        task, table = stream.receiver, {}
        for name, ledger in (("trunk", trunk[task]), ("layer", layer[stream.layer, task])):
            p = ledger.streams.index(stream)
            table |= {f"{name} size": checks.sizes(ledger)[:, p],
                      f"{name} support": checks.support(ledger, of.truth[task])[:, p]}
        table |= {f"{how} {what}": values for how, changes in cuts.items() for what, values in changes[stream].items()}
        yield pd.DataFrame({**of.columns(setting, seed), "layer": stream.layer, "receiver": task, **table})


def _faithful(place: Workplace, setting: str, seed: int) -> Iterator[pd.DataFrame]:
    """Deletion, captum's two metrics and destroyed weights, at what each task borrows last."""
    of = explained(place, setting, seed, 2 * FEW)
    for task in TASKS:
        stream = of.last(task)
        targets = torch.cat([of.network(x)[task].argmax(1) for x in of.batches]).detach()
        given = of.network, torch.cat(of.batches), stream, targets
        rows = [*map_rows.deleted(*given), *map_rows.by_captum(*given, FEW), *map_rows.destroyed(*given, FEW)]
        table = pd.DataFrame(rows, columns=["check", "case", "step", "at", "value"])
        table[["image", "group"]] = np.array([of.columns(setting, seed)[c] for c in ("image", "group")]).T[table["at"]]
        yield table.drop(columns="at").assign(setting=setting, seed=seed, task=task)


def _exact(place: Workplace, setting: str, seed: int) -> Iterator[pd.DataFrame]:
    """Maps by gradients against Shapley values of patches, and ledgers against other baselines than the mean image."""
    of = explained(place, setting, seed, 2 * FEW + map_rows.OTHERS)
    links, images = [of.last(task) for task in TASKS], torch.cat(of.batches)
    rows = [*map_rows.patches(of.network, images, links, FEW),
            *map_rows.baselines(of.network, images, of.mean)]
    table = pd.DataFrame(rows, columns=["task", "check", "case", "at", "value"])
    table[["image", "group"]] = np.array([of.columns(setting, seed)[c] for c in ("image", "group")]).T[table["at"]]
    yield table.drop(columns="at").assign(setting=setting, seed=seed)


def _pointing(place: Workplace, setting: str, seed: int) -> Iterator[pd.DataFrame]:
    """Do borrowed maps point at the lamp, which both tasks share, rather than at clutter or at the motif?"""
    of = explained(place, setting, seed, PHOTOS)
    facts = of.images.facts.iloc[of.rows]
    masks = {name: np.stack([np.array(Image.open(path)) > 0 for path in facts[f"{name}_mask"]])
             for name in ("lamp", "clutter")}
    masks["motif"] = np.stack([motif_mask(row, (0, int(number)), masks["lamp"].shape[1])
                               for number, (_, row) in zip(of.rows, facts.iterrows(), strict=True)])
    for task in TASKS:
        gradients, stream = [], of.last(task)
        for images in of.batches:
            targets = of.network(images)[task].argmax(1).detach()
            slope = faithfulness.stream_gradients(of.network, images, stream, task, targets)
            gradients.append(slope.sum(1)[:, None])
        side = masks["lamp"].shape[1:]
        maps = nn.functional.interpolate(torch.cat(gradients), side, mode="bilinear")[:, 0].cpu().numpy()
        for name, mask in masks.items():
            table = faithfulness.pointing(maps, mask).assign(setting=setting, seed=seed, task=task, mask=name)
            whose = {name: of.columns(setting, seed)[name][table["image"]] for name in ("image", "group")}
            yield table.assign(**whose)


def _concepts(place: Workplace, setting: str, seed: int) -> Iterator[pd.DataFrame]:
    """What probes read from each branch's own stream at the last exchange, from the borrowed one, and from both."""
    for run in ("trained",) if setting == PHOTOGRAPHS else ("trained", "start"):
        of = explained(place, setting, seed, 1, run)
        names = FACTS.get(setting, (*contents.FACTORS, "motif"))
        targets = {name: of.images.facts[name].to_numpy() for name in names} | contents.pixel_facts(of.pixels)
        here = [stream for stream in streams(of.network) if stream.layer == len(of.network.exchanges)]
        maps = contents.pooled(of.network, of.shown(of.pixels, np.arange(len(of.pixels))), here)
        for task in TASKS:
            own, borrowed = maps[of.last(task)._replace(source=task)], maps[of.last(task)]
            rows = contents.concepts(own, borrowed, targets, of.split.train, of.split.test, seed)
            yield pd.DataFrame(rows).assign(setting=setting, seed=seed, run=run, task=task)


def _interchange(place: Workplace, setting: str, seed: int) -> Iterator[pd.DataFrame]:
    """How far answers follow one factor through each stream, in the trained network and in its permuted nulls."""
    for run in ("trained", *(f"null-{task}" for task in TASKS)):
        of = explained(place, setting, seed, 1, run)
        for factor, pixels in contents.pairs(PAIRS, of.pixels.shape[1]).items():
            low, high = (torch.cat(list(of.shown(side, np.arange(PAIRS)))) for side in pixels)
            rows = pd.DataFrame(contents.interchanged(of.network, low, high)).assign(factor=factor)
            if run != "trained":
                rows = rows[rows["task"] == OTHER[run.partition("-")[2]]]
            yield rows.assign(setting=setting, seed=seed, run="trained" if run == "trained" else "permuted")


def _paths(place: Workplace, setting: str, seed: int) -> Iterator[pd.DataFrame]:
    """The path ledger: what is borrowed, seen by the other branch itself or a round trip."""
    of = explained(place, setting, seed, FEW if setting == PHOTOGRAPHS else PHOTOS)
    for task, ledger in checks.over_set(path_ledger, of.network, of.batches).items():
        yield checks.image_table(ledger, of.truth[task], **of.columns(setting, seed))


KINDS = {kind.__name__[1:]: kind for kind in (
    _null, _layers, _interchange, _concepts, _paths, _faithful, _exact, _flow, _pointing, _links)}


# --- running, keeping, reading


def networks(out: Path, root: Path | None = None, seeds: int = 8) -> Study:
    """The networks that several cells explain, which are trained first: their test results. See ``study``."""
    which = dict.fromkeys((cell.setting, cell.seed) for cell in cells(seeds, root is not None)
                          if cell.setting != PHOTOGRAPHS)
    place = Workplace(Path(out) / "attribution", root)
    return Study("attribution", {key("trained", *one, plan=SETTINGS): one for one in which},
                 partial(_trained, place), Path(out), _read, FORMAT)


def _trained(place: Workplace, which: tuple[str, int]) -> list[dict]:
    return [{"setting": which[0], "seed": which[1], "task": task, **{metric: values[metric] for metric in METRICS}}
            for task, values in place.run(*which).metrics.items()]


def study(out: Path, root: Path | None = None, seeds: int = 8) -> Study:
    """The measurements of lesson 8; ``networks`` is run first.

    Args:
        out: the folder of all studies.
        root: OASIS' folder; without it, its cells are left out.
        seeds: how many networks of each kind.
    """
    plan = [SETTINGS, PHOTOS, FEW, PAIRS]
    return Study("attribution", {key(*cell, plan=[*plan, NULLS] if cell.kind == "null" else plan): cell
                                 for cell in cells(seeds, root is not None)},
                 partial(measure, Workplace(Path(out) / "attribution", root)), Path(out), _read, FORMAT)


def measure(place: Workplace, cell: Cell) -> pd.DataFrame:
    """The rows of a cell."""
    return pd.concat(KINDS[cell.kind](place, cell.setting, cell.seed), ignore_index=True)


def keep(made: Study, to: Path | None = None) -> list[Path]:
    """Write the finished cells' tables to ``results/attribution/``, one for each kind; returns the files.

    Raises:
        FileNotFoundError: no cell is finished.
    """
    to = to or project_folder() / "results" / "attribution"
    done = {cell.kind for name, cell in made.cells.items() if made.path(name).exists()}
    made.gather()
    return [made.keep(to / f"{kind}.csv", lambda cell, kind=kind: cell.kind == kind) for kind in KINDS if kind in done]


def read(name: str) -> pd.DataFrame | None:
    """The table of a kind of cells as committed; without it None, and a line that says how to make it."""
    path = project_folder() / "results" / "attribution" / f"{name}.csv"
    if not path.exists():
        print(f"results/attribution has no {path.name}; make it: "
              f"python -m aesthemo_studies attribution-study --root <OASIS' folder>")
        return None
    return _read(path)


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, encoding="utf-8", dtype={"group": str})


def class_means(ledger: Ledger, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """What flows on average into each logit, by the photos' class (of this task or of another).

    Args:
        ledger: of N images.
        labels: (N,) class numbers, negative where unlabelled.
        classes: L.

    Returns:
        (L, C, P) means in logits, and their standard errors over photos; NaN where there are no (or too few) photos.
    """
    shape = (classes, *ledger.values.shape[1:])
    means, errors = np.full(shape, np.nan), np.full(shape, np.nan)
    for c in range(classes):
        values = ledger.values[labels == c]
        if len(values):
            means[c] = values.mean(axis=0)
        if len(values) > 1:
            errors[c] = values.std(axis=0, ddof=1) / len(values) ** 0.5
    return means, errors
