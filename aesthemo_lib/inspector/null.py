"""The null behind the inspector's bars: how far they reach in networks that had nothing to borrow."""

from __future__ import annotations

from ..files import project_folder, read_json
from ..training.run import Run

NULL = "results/attribution/null-bars.json"
KIND = ("data", "method", "variant", "preset")


def null_bars(run: Run) -> dict:
    """What the inspector shows behind the bars of a run.

    Returns:
        {'tasks': {name: {'low', 'high': (C, P)}}, 'note'} where ``results/attribution`` has them for this kind of run;
        else the 'note' alone, which says so.
    """
    try:
        found = read_json(project_folder() / NULL)["networks"]
    except FileNotFoundError:
        return {"note": f"No null stands behind the bars: {NULL} is not there."}
    same = [entry for entry in found if all(entry[key] == run.described[key] for key in KIND)]
    if not same:
        return {"note": f"No null stands behind the bars: {NULL} has none for {run.name}, "
                        f"{run.described['preset']}, {run.described['data']}."}
    return {"tasks": same[0]["tasks"], "note": same[0]["note"]}
