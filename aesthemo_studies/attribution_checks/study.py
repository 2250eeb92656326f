"""The trainings and measurements behind lesson 8: ``python -m aesthemo_studies attribution-study``, resumable.

A *cell* is one kind of check in one setting (a data set, scenes at one relatedness) with one split and seed: it trains
the networks that it needs, unless they exist, and measures. ``keep`` writes a table for each kind to
``results/attribution/``. Split and seed have the same number, so other seeds mean other test images too.
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
from torch import Tensor, nn

from aesthemo_lib.attribution.ledger import Ledger, layer_ledger, over_set, trunk_ledger
from aesthemo_lib.attribution.streams import Stream, streams
from aesthemo_lib.evaluation.metrics import METRICS
from aesthemo_lib.files import project_folder
from aesthemo_lib.models.inference import image_batches
from aesthemo_lib.tasks import PATENT_TASKS
from aesthemo_lib.training.config import Config
from aesthemo_lib.training.fit import Data, fit
from aesthemo_lib.training.labels import training_labels
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import Prepared, build_network, pick_device, prepare, train
from aesthemo_scenes.drawing import motif_mask

from ..cells import Study, key
from . import ledgers as checks, map_rows, maps as faithfulness

SETTINGS = {"resize": 110, "crop": 96, "epochs": 5}
"""Of every training: small, since some ninety networks are trained."""
PHOTOS, FEW = 48, 8
"""Test images of a ledger, and of what is slow."""
LAYER = 3
"""Whose borrowed maps are tested: late enough to mean something, early enough to say where."""
TASKS = tuple(task.name for task in PATENT_TASKS)
FORMAT = "%.4g"
OTHER = dict(zip(TASKS, TASKS[::-1], strict=True))


class Cell(NamedTuple):
    """One kind of check in one setting, such as ('null', 'scenes-0.5', 0)."""

    kind: str
    setting: str
    seed: int


def cells(seeds: int = 3, oasis: bool = True) -> list[Cell]:
    """What is measured, the first seed of everything first; with or without the photographs of OASIS."""
    settings = ("scenes-0.5", "oasis") if oasis else ("scenes-0.5",)
    asked = [(kind, setting) for setting in settings for kind in KINDS if kind != "pointing"]
    asked += [(kind, setting) for kind in ("null", "flow") for setting in ("scenes-0.0", "scenes-1.0")]
    asked += [("pointing", f"scenes-{r}") for r in (0.0, 0.5, 1.0)]  # photographs have no drawn masks
    return [Cell(kind, setting, seed) for seed in range(seeds) for kind, setting in asked]


def config_of(setting: str, seed: int, run: str = "trained") -> Config:
    """What one network of the study is trained on.

    Args:
        setting: 'oasis', or 'scenes-0.5' with its relatedness.
        run: 'trained', 'null-<task>' (that task's labels permuted) or 'without-<layer>-<receiver>' (one link left out).
    """
    data, _, relatedness = setting.partition("-")
    kind, *which = run.split("-")
    return Config(
        data, "cross_branch", "diagonal", split=seed, seed=seed, settings=SETTINGS,
        labels={"permute": which} if kind == "null" else {},
        options={"without": [[int(which[0]), which[1], OTHER[which[1]]]]} if kind == "without" else {},
        data_options={"relatedness": float(relatedness)} if relatedness else {},
    )


class Workplace(NamedTuple):
    """Where the study's runs and scenes lie, and where OASIS does."""

    out: Path
    root: Path | None

    def data(self, setting: str) -> Path | None:
        """Scenes of another relatedness would replace those at the same place, so each has its own."""
        return self.root if setting == "oasis" else self.out / "data" / setting

    def run(self, setting: str, seed: int, run: str = "trained") -> Run:
        """A network of the study, trained if it isn't yet."""
        return train(config_of(setting, seed, run), self.out / setting / run, self.data(setting), redo=True)


class Explained(NamedTuple):
    """A trained network with the test images that it is asked about."""

    network: nn.Module
    prepared: Prepared
    places: np.ndarray  # among the test images
    rows: np.ndarray
    batches: list[Tensor]

    @property
    def truth(self) -> dict[str, np.ndarray]:
        return {task.name: self.prepared.images.labels(task.name)[self.rows] for task in self.network.tasks}

    def columns(self, setting: str, seed: int) -> dict:
        """What says whose a row of a table is."""
        return {"setting": setting, "seed": seed, "image": self.rows, "group": self.prepared.images.groups[self.rows]}


def explained(place: Workplace, setting: str, seed: int, run: str = "trained", photos: int | None = None) -> Explained:
    """A network of the study (trained if it isn't yet) with some test images: first one of each group, then others."""
    network, mean = place.run(setting, seed, run).network()
    prepared = prepare(config_of(setting, seed), place.data(setting))
    places = _chosen(prepared, photos or PHOTOS)
    rows = prepared.split.test[places]
    return Explained(network, prepared, places, rows,
                     list(image_batches(network, prepared.pixels, rows, mean, SETTINGS["crop"], batch=8)))


def _chosen(prepared: Prepared, photos: int) -> np.ndarray:
    groups = prepared.images.groups[prepared.split.test]
    return np.argsort(pd.Series(groups).groupby(groups).cumcount().to_numpy(), kind="stable")[:photos]


# --- the kinds of cells, called by their names in KINDS: each yields parts of its table


def _null(place: Workplace, setting: str, seed: int) -> Iterator[pd.DataFrame]:
    """The trunk ledgers of the trained network, and of those for which the other task's labels were permuted."""
    for permuted in ("", *TASKS):
        of = explained(place, setting, seed, f"null-{permuted}" if permuted else "trained")
        ledgers, columns = over_set(trunk_ledger, of.network, of.batches), of.columns(setting, seed)
        for task in [OTHER[permuted]] if permuted else TASKS:
            columns["run"] = "permuted" if permuted else "trained"
            yield checks.image_table(ledgers[task], of.truth[task], **columns)


def _flow(place: Workplace, setting: str, seed: int) -> Iterator[pd.DataFrame]:
    """What flows on average into each logit, by the photos' class in each task: a row for each logit and player."""
    of = explained(place, setting, seed)
    ledgers, rows = over_set(trunk_ledger, of.network, of.batches), []
    for task, by in product(of.network.tasks, of.network.tasks):
        means, _ = class_means(ledgers[task.name], of.truth[by.name], len(by.classes))
        counts = np.bincount(of.truth[by.name][of.truth[by.name] >= 0], minlength=len(by.classes))
        rows += [{"task": task.name, "by": by.name, "class": by.classes[k], "photos": counts[k],
                  "logit": task.classes[c], "player": ledgers[task.name].players[p], "mean": means[k, c, p]}
                 for k, c, p in np.ndindex(means.shape) if counts[k]]
    yield pd.DataFrame(rows).assign(setting=setting, seed=seed)


def _links(place: Workplace, setting: str, seed: int) -> Iterator[pd.DataFrame]:
    """Each borrowed stream by every measure: both ledgers, three cuts, and a network retrained without its link."""
    of = explained(place, setting, seed)
    trunk, layer = (over_set(ledger, of.network, of.batches) for ledger in (trunk_ledger, layer_ledger))
    reference = torch.cat(of.batches)
    cuts = {how: checks.cut_changes(of.network, of.batches, of.truth, how, reference)
            for how in ("zero", "mean", "resample")}
    whole = _log_probabilities(place.run(setting, seed), of)
    for stream in (s for s in streams(of.network) if s.borrowed):
        task, table = stream.receiver, {}
        for name, ledger in (("trunk", trunk[task]), ("layer", layer[stream.layer, task])):
            p = ledger.streams.index(stream)
            table |= {f"{name} size": checks.sizes(ledger)[:, p],
                      f"{name} support": checks.support(ledger, of.truth[task])[:, p]}
        without = place.run(setting, seed, f"without-{stream.layer}-{task}")
        changes = {how: found[stream] for how, found in cuts.items()}
        changes["retrained"] = checks.change(whole[task], _log_probabilities(without, of)[task], of.truth[task])
        table |= {f"{how} {what}": values for how, found in changes.items() for what, values in found.items()}
        yield pd.DataFrame({**of.columns(setting, seed), "layer": stream.layer, "receiver": task, **table})


def _log_probabilities(run: Run, of: Explained) -> dict[str, np.ndarray]:
    """(N, C) by task, from a run's predictions of the same test images (which are in the split's order)."""
    table = run.predictions().iloc[of.places]
    return {t.name: np.log(table[[f"{t.name}_{c}" for c in t.classes]].to_numpy().clip(1e-9)) for t in run.tasks}


def _faithful(place: Workplace, setting: str, seed: int) -> Iterator[pd.DataFrame]:
    """Deletion, captum's two metrics and destroyed weights, at what each task borrows at ``LAYER``."""
    of = explained(place, setting, seed, photos=2 * FEW)
    for task in TASKS:
        stream = Stream(LAYER, task, OTHER[task])
        targets = torch.cat([of.network(x)[task].argmax(1) for x in of.batches]).detach()
        given = of.network, torch.cat(of.batches), stream, targets
        rows = [*map_rows.deleted(*given), *map_rows.by_captum(*given, FEW), *map_rows.destroyed(*given, FEW)]
        table = pd.DataFrame(rows, columns=["check", "case", "step", "at", "value"])
        table[["image", "group"]] = np.array([of.columns(setting, seed)[c] for c in ("image", "group")]).T[table["at"]]
        yield table.drop(columns="at").assign(setting=setting, seed=seed, task=task)


def _exact(place: Workplace, setting: str, seed: int) -> Iterator[pd.DataFrame]:
    """Maps by gradients against Shapley values of patches, and ledgers against other baselines than the mean image."""
    of = explained(place, setting, seed, photos=2 * FEW + map_rows.OTHERS)
    links, images = [Stream(LAYER, task, OTHER[task]) for task in TASKS], torch.cat(of.batches)
    found = [*map_rows.patches(of.network, images, links, FEW),
             *map_rows.baselines(of.network, images, of.prepared.mean)]
    table = pd.DataFrame(found, columns=["task", "check", "case", "at", "value"])
    table[["image", "group"]] = np.array([of.columns(setting, seed)[c] for c in ("image", "group")]).T[table["at"]]
    yield table.drop(columns="at").assign(setting=setting, seed=seed)


def _pointing(place: Workplace, setting: str, seed: int) -> Iterator[pd.DataFrame]:
    """Do borrowed maps point at the lamp, which both tasks share, rather than at clutter or at the motif?"""
    of = explained(place, setting, seed)
    facts = of.prepared.images.facts.iloc[of.rows]
    masks = {name: np.stack([np.array(Image.open(path)) > 0 for path in facts[f"{name}_mask"]])
             for name in ("lamp", "clutter")}
    masks["motif"] = np.stack([motif_mask(row, (0, int(number)), masks["lamp"].shape[1])
                               for number, (_, row) in zip(of.rows, facts.iterrows(), strict=True)])
    for task in TASKS:
        found = []
        for images in of.batches:
            targets = of.network(images)[task].argmax(1).detach()
            stream = Stream(LAYER, task, OTHER[task])
            found.append(faithfulness.stream_gradients(of.network, images, stream, task, targets).sum(1)[:, None])
        side = masks["lamp"].shape[1:]
        maps = nn.functional.interpolate(torch.cat(found), side, mode="bilinear")[:, 0].cpu().numpy()
        for name, mask in masks.items():
            table = faithfulness.pointing(maps, mask).assign(setting=setting, seed=seed, task=task, mask=name)
            whose = {name: of.columns(setting, seed)[name][table["image"]] for name in ("image", "group")}
            yield table.assign(**whose)


def _training(place: Workplace, setting: str, seed: int) -> Iterator[pd.DataFrame]:
    """The trunk ledger after each epoch of a training, and before the first, over a few test images."""
    config, rows = config_of(setting, seed), []
    prepared = prepare(config, place.data(setting))
    network = build_network(config, prepared.images.tasks).to(pick_device())
    test = prepared.split.test[_chosen(prepared, 2 * FEW)]

    def look(epoch: int) -> None:
        batches = image_batches(network, prepared.pixels, test, prepared.mean, SETTINGS["crop"], batch=8)
        for task, ledger in over_set(trunk_ledger, network, batches).items():
            truth = prepared.images.labels(task)[test]
            values = checks.shares(ledger).mean(0), np.nanmean(checks.support(ledger, truth), axis=0)
            rows.extend({"setting": setting, "seed": seed, "epoch": epoch, "task": task, "player": player,
                         "share": share, "support": support}
                        for player, share, support in zip(ledger.players, *values, strict=True))

    look(0)
    labels, train_rows = training_labels(prepared.images, prepared.split, config.labels, config.seed)
    data = Data(prepared.pixels, prepared.mean, labels, train_rows, prepared.split.validation)
    fit(network, data, config.training_settings(), seed, pick_device(), after_epoch=lambda row: look(row["epoch"]))
    yield pd.DataFrame(rows)


KINDS = {kind.__name__[1:]: kind for kind in (_null, _flow, _links, _faithful, _exact, _pointing, _training)}


# --- running, keeping, reading


def networks(out: Path, root: Path | None = None, seeds: int = 3) -> Study:
    """The networks that several cells explain, which are trained first: their test results. See ``study``."""
    which = dict.fromkeys((cell.setting, cell.seed) for cell in cells(seeds, root is not None))
    place = Workplace(Path(out) / "attribution", root)
    return Study("attribution", {key("trained", *one, plan=SETTINGS): one for one in which},
                 partial(_trained, place), Path(out), _read, FORMAT)


def _trained(place: Workplace, which: tuple[str, int]) -> list[dict]:
    return [{"setting": which[0], "seed": which[1], "task": task, **{metric: values[metric] for metric in METRICS}}
            for task, values in place.run(*which).metrics.items()]


def study(out: Path, root: Path | None = None, seeds: int = 3) -> Study:
    """The measurements of lesson 8; ``networks`` is run first.

    Args:
        out: the folder of all studies.
        root: OASIS' folder; without it, its cells are left out.
        seeds: how many splits and seeds.
    """
    plan = [SETTINGS, PHOTOS, FEW, LAYER]
    return Study("attribution", {key(*cell, plan=plan): cell for cell in cells(seeds, root is not None)},
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
