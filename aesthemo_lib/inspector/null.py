"""The null behind the inspector's bars: how far they reach in networks that had nothing to borrow."""

import contextlib

import numpy as np

from ..attribution.ledger import Ledger
from ..files import project_folder, read_json
from ..training.run import Run

NULL = "results/attribution/null-bars.json"
KIND = ("data", "method", "variant", "preset")


def shown_rows(values: np.ndarray) -> np.ndarray:
    """What is shown of (.., C, P) or (C,) values: each class; of two the difference, the second's minus the first's."""
    axis = max(values.ndim - 2, 0)
    return np.diff(values, axis=axis) if values.shape[axis] == 2 else values


def beyond(ledger: Ledger, bars: dict) -> np.ndarray:
    """(rows,) how much of what the first image's logits borrow lies outside a task's 'low' and 'high' of the null."""
    mine = [s is not None and s.borrowed and s.receiver == ledger.task for s in ledger.streams]
    values = shown_rows(ledger.values[0])
    return (values - values.clip(bars["low"], bars["high"]))[:, mine].sum(axis=1)


def null_bars(run: Run, players: int, part: str = "tasks") -> dict:
    """{'tasks': {name: {'low', 'high'}}, 'note'} for runs of its kind, with so many players; without any, only 'note'.

    ``part``: 'tasks' (rows, P) of trunk ledgers, 'layer 1' (rows, P) of a layer's, 'means' (P,) of many photos.
    """
    networks: list[dict] = []
    with contextlib.suppress(FileNotFoundError):  # a wheel has no checkout around it
        networks = read_json(project_folder() / NULL)["networks"]
    for entry in networks:
        if (all(entry[key] == run.described[key] for key in KIND)
                and part in entry and all(len(bars["low"][0]) == players for bars in entry["tasks"].values())):
            return {"tasks": entry[part], "note": entry["note"]}
    return {"note": f"No null stands behind the bars: {NULL} has none for {run.name}, {run.described['preset']}, "
                    f"{run.described['data']}."}
