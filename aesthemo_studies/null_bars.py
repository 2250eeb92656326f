"""The shadow behind the inspector's ledgers: how far its bars reach where there was nothing to borrow.

A stream that carries pretrained features looks borrowed even if it is useless. So networks are trained alike while the
*other* task's labels are permuted (``Config.labels``); what their ledgers say of test photos is the shadow. Where such
trainings take hours, as for the bundled network for photographs, there is a cheaper null: the other branch is put back
to what it was before its training.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import stats
from torch import Tensor, nn

from aesthemo_lib.attribution.ledger import Ledger, layer_ledger, trunk_ledger
from aesthemo_lib.data.images import decode
from aesthemo_lib.files import project_folder, read_json, write_json
from aesthemo_lib.inspector.null import KIND, NULL, shown_rows
from aesthemo_lib.models.inference import image_batches
from aesthemo_lib.models.networks import build
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import Config, open_data, prepare, train

from .attribution_checks.ledgers import over_set

INSIDE = 0.9
"""The share of the null's bars that the shadow covers."""
PHOTOS, AVERAGED = 96, 24
"""The test photos of the cheaper null; those that lesson 6 averages over."""
NOTE = f"Grey: where {INSIDE:.0%} of the borrowed bars lie if there is nothing to borrow: "


def write_null(
    run: Run, runs: Path, seeds: int, root: Path | None = None, out: Path | None = None, null: str = "permuted"
) -> Path:
    """Make the null of a kind of run, and write how far its ledgers reach.

    Args:
        run: a finished run; its kind (``KIND``) and its split are taken.
        runs: the folder for the networks that are trained; finished ones are read.
        seeds: networks for each task, of null 'permuted'.
        root: the data's folder.
        out: the file; by default ``NULL``. What it says of other kinds stays.
        null: 'permuted' trains networks, and is also that of lesson 6's layer ledgers and means; 'untrained' changes
            the run's own network, and is that of trunk ledgers only.
    """
    out = out or project_folder() / NULL
    described, names = run.described, [task.name for task in run.tasks]
    parts: dict[str, dict] = {}  # what a ledger is called, and its bars by task
    for name in names:
        others = [other for other in names if other != name]
        found = ([_untrained(run, name, root)] if null == "untrained" else
                 list(_permuted(run, others, runs / f"without-{'-'.join(others)}", seeds, root)))
        trunk = [ledgers[name] for ledgers in found]
        photos = len(trunk[0].values)
        parts.setdefault("tasks", {})[name] = _reach(trunk)
        if null == "permuted":
            parts.setdefault("means", {})[name] = _reach_of_means(trunk)
        for layer in (key[0] for key in found[0] if key[1:] == (name,)):
            parts.setdefault(f"layer {layer}", {})[name] = _reach([ledgers[layer, name] for ledgers in found])
    note = NOTE + (f"{photos} test photos, this network with the other branch as it was before its training."
                   if null == "untrained" else
                   f"{photos} test photos, {seeds} network{'s' * (seeds > 1)} a task, trained alike while the other "
                   "task's labels were permuted.")
    known = read_json(out)["networks"] if out.exists() else []
    kind = {key: described[key] for key in KIND}
    kept = [entry for entry in known if any(entry[key] != value for key, value in kind.items())]
    write_json(out, {"networks": [*kept, kind | parts | {"note": note}]})
    return out


def _reach(ledgers: Sequence[Ledger]) -> dict[str, list]:
    """(rows, P) between which values ``INSIDE`` of several networks' bars lie; the own bar has none."""
    values = shown_rows(np.concatenate([ledger.values for ledger in ledgers]))  # of two classes their difference
    low, high = np.quantile(values, [(1 - INSIDE) / 2, (1 + INSIDE) / 2], axis=0)
    own = [s is None or not s.borrowed and s.receiver == ledgers[0].task for s in ledgers[0].streams]
    low[:, own] = high[:, own] = 0  # the question is what is borrowed
    return {"low": low.round(4).tolist(), "high": high.round(4).tolist()}


def _reach_of_means(ledgers: Sequence[Ledger]) -> dict[str, list]:
    """(P,) between which the mean over ``AVERAGED`` photos of what a player adds to the answer's logit lies with a
    probability of ``INSIDE``, from the lowest to the highest network."""
    answers = [ledger.values[np.arange(len(ledger.values)), ledger.logits.argmax(axis=1)] for ledger in ledgers]
    room = [stats.norm.ppf((1 + INSIDE) / 2) * of.std(axis=0, ddof=1) / AVERAGED**0.5 for of in answers]
    low = np.min([of.mean(axis=0) - half for of, half in zip(answers, room, strict=True)], axis=0)
    high = np.max([of.mean(axis=0) + half for of, half in zip(answers, room, strict=True)], axis=0)
    return {"low": low.round(4).tolist(), "high": high.round(4).tolist()}


def before_training(run: Run) -> nn.Module:
    """A run's network as it began, with pretrained branches; its heads are random."""
    config, settings = run.described, run.settings
    weights = "imagenet" if settings.weights.startswith("run ") else settings.weights  # a run's began with these too
    return build(config["method"], run.tasks, settings.backbone, weights, config["variant"],
                 frozen=settings.frozen_groups, **config["options"]).eval()


def with_branch_of(network: nn.Module, other: nn.Module, branch: int) -> nn.Module:
    """A copy of a network, one of its branches being another network's."""
    made = copy.deepcopy(network)
    made.branches[branch].load_state_dict(other.branches[branch].state_dict())
    return made


def _untrained(run: Run, task: str, root: Path | None) -> dict:
    """The trunk ledgers over some of the split's test photos, all branches but the task's being untrained."""
    described, settings = run.described, run.settings
    (network, mean), start = run.network("cpu"), before_training(run)
    for branch, other in enumerate(network.tasks):
        if other.name != task:
            network = with_branch_of(network, start, branch)
    images = open_data(Config(described["data"], preset=described["preset"],
                              data_options=described["data_options"]), root)
    rows = images.split(described["split"]).test[:PHOTOS]
    pixels = np.stack([decode(images.paths[row], settings.resize) for row in rows])
    return over_set(trunk_ledger, network, image_batches(network, pixels, range(len(rows)), mean, settings.crop))


def _permuted(run: Run, permuted: list[str], runs: Path, seeds: int, root: Path | None) -> Iterator[dict]:
    """The ledgers over the split's test photos, of each seed's network."""
    described = run.described
    for seed in range(seeds):
        same = {key: described[key] for key in (*KIND, "split", "settings", "options", "data_options")}
        config = Config(seed=seed, labels={"permute": permuted}, **same)
        network, mean = train(config, runs, root).network()
        prepared = prepare(config, root)
        yield _ledgers(network, image_batches(network, prepared.pixels, prepared.split.test, mean, run.settings.crop))


def _ledgers(network: nn.Module, batches: Iterable[Tensor]) -> dict:
    """The trunk ledger of each task by its name, and its layer ledgers by layer and name."""
    images = list(batches)
    return {**over_set(trunk_ledger, network, images), **over_set(layer_ledger, network, images)}
