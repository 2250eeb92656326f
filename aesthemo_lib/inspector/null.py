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
    values, borrowed = shown_rows(ledger.values[0]), [stream is not None for stream in ledger.streams]
    return (values - values.clip(bars["low"], bars["high"]))[:, borrowed].sum(axis=1)


def null_bars(run: Run, players: int) -> dict:
    """What the inspector shows behind the bars of a run, whose ledgers have so many players.

    Returns:
        {'tasks': {name: {'low', 'high': (rows, P)}}, 'note'} where ``results/attribution`` has them for such a run;
        else only the 'note', which says so.
    """
    networks: list[dict] = []
    with contextlib.suppress(FileNotFoundError):  # a wheel has no checkout around it
        networks = read_json(project_folder() / NULL)["networks"]
    for entry in networks:
        if (all(entry[key] == run.described[key] for key in KIND)
                and all(len(bars["low"][0]) == players for bars in entry["tasks"].values())):
            return {"tasks": entry["tasks"], "note": entry["note"]}
    return {"note": f"No null stands behind the bars: {NULL} has none for {run.name}, {run.described['preset']}, "
                    f"{run.described['data']}."}
