"""The shadow behind the inspector's ledgers: how far its bars reach where there was nothing to borrow.

A stream that carries pretrained features looks borrowed even if it is useless. So networks are trained alike while the
*other* task's labels are permuted (``Config.labels``); what their ledgers say of test photos is the shadow.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from aesthemo_lib.attribution.ledger import Ledger, over_set, trunk_ledger
from aesthemo_lib.files import project_folder, read_json, write_json
from aesthemo_lib.inspector.null import KIND, NULL, shown_rows
from aesthemo_lib.models.inference import image_batches
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import Config, prepare, train

INSIDE = 0.9
"""The share of the null's bars that the shadow covers."""


def write_null(run: Run, runs: Path, seeds: int, root: Path | None = None, out: Path | None = None) -> Path:
    """Train a kind of run without anything to borrow, and write how far its ledgers reach.

    Args:
        run: a finished run; its kind (``KIND``) and its split are taken.
        runs: the folder for the trained networks; finished ones are read.
        seeds: networks for each task.
        root: the data's folder.
        out: the file; by default ``NULL``. What it says of other kinds stays.
    """
    out = out or project_folder() / NULL
    described, names = run.described, [task.name for task in run.tasks]
    tasks, photos = {}, 0
    for name in names:
        others = [other for other in names if other != name]
        parts = list(_ledgers(run, others, name, runs / f"without-{'-'.join(others)}", seeds, root))
        values = shown_rows(np.concatenate([part.values for part in parts]))  # of two classes their difference
        photos = len(parts[0].values)
        low, high = np.quantile(values, [(1 - INSIDE) / 2, (1 + INSIDE) / 2], axis=0)  # (rows, P)
        own = [stream is None for stream in parts[0].streams]
        low[:, own] = high[:, own] = 0  # the question is what is borrowed
        tasks[name] = {"low": low.round(4).tolist(), "high": high.round(4).tolist()}
    note = (f"Grey: where {INSIDE:.0%} of the borrowed bars lie if there is nothing to borrow: {photos} test photos, "
            f"{seeds} network{'s' * (seeds > 1)} a task, trained alike while the other task's labels were permuted.")
    known = read_json(out)["networks"] if out.exists() else []
    kind = {key: described[key] for key in KIND}
    kept = [entry for entry in known if any(entry[key] != value for key, value in kind.items())]
    write_json(out, {"networks": [*kept, kind | {"tasks": tasks, "note": note}]})
    return out


def _ledgers(
    run: Run, permuted: list[str], task: str, runs: Path, seeds: int, root: Path | None
) -> Iterator[Ledger]:
    """The task's trunk ledger over the split's test photos, of each seed's network."""
    described = run.described
    for seed in range(seeds):
        same = {key: described[key] for key in (*KIND, "split", "settings", "options", "data_options")}
        config = Config(seed=seed, labels={"permute": permuted}, **same)
        network, mean = train(config, runs, root).network()
        prepared = prepare(config, root)
        batches = image_batches(network, prepared.pixels, prepared.split.test, mean, run.settings.crop)
        yield over_set(trunk_ledger, network, batches)[task]
