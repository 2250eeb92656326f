"""What the study of whole networks says: the rates' choice, the runs' health and the planned comparisons."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from aesthemo_lib.files import write_table
from aesthemo_lib.plots.runs import panels
from aesthemo_lib.plots.style import save

from ..cells import STUDIES, Study
from ..full_labels.verdicts import APART, CONTROLS as FIRST_CONTROLS, PROBE, compared, draw_differences, read
from .study import TASKS, protocol

FILE = STUDIES / "whole_networks.csv"
APART_FASTER = "independent, 8e-4"
"""Independent networks at the rate of most joint ones, added when all else had been seen."""
CONTROLS = (*FIRST_CONTROLS, "halves")
JOINT = tuple(name for name in protocol()["rates"] if name not in (APART, *protocol()["pilot"]["without"]))
*DEPTHS, WHOLE_TRUNK = (name for name in protocol()["pilot"]["without"] if name != APART_FASTER)
"""Trunks of one to four groups and the whole one, all at its rate and on a processor, added last."""
PAIRS = (*((name, APART) for name in (PROBE, *JOINT)), ("cross_branch.diagonal", "cross_branch.own_twice"),
         ("cross_branch.diagonal", "shared_bottom"), ("cross_branch.random", "cross_branch.diagonal"))
AS_FAST = tuple(name for name in JOINT if protocol()["rates"][name] == protocol()["rates"][APART_FASTER])
ADDED = tuple((name, APART_FASTER) for name in (APART, PROBE, *AS_FAST))


def verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a comparison and task; Holm's family is PARA's settings. The controls are a family of their own, and so are
    the two groups of comparisons that were added when others had been seen.

    Args:
        rows: as ``full_labels.verdicts.read`` returns them.
    """
    control = rows["setting"].isin(CONTROLS)
    main, controls = rows[~control].assign(family="para"), rows[control].assign(family="controls")
    halves = ("shared_bottom", APART_FASTER), ("cross_branch.diagonal", APART_FASTER)
    depths = [(name, WHOLE_TRUNK) for name in DEPTHS]
    return pd.concat([compared(main, PAIRS), compared(main.assign(family="added"), ADDED),
                      compared(main.assign(family="depth"), depths),
                      compared(controls, (*PAIRS, *halves))], ignore_index=True)


def chosen_rates(pilot: pd.DataFrame) -> dict[str, float]:
    """Each contender's learning rate: the best mean of both tasks' log-losses on photographs that no set holds."""
    losses = pilot.groupby(["contender", "learning_rate"])["log_loss"].mean().unstack("contender")
    return losses.drop(columns=PROBE, errors="ignore").idxmin().to_dict()


def health(rows: pd.DataFrame) -> pd.DataFrame:
    """By setting and contender: trainings, those whose loss did not fall, the lowest AUC, how many ended at epoch 1."""
    trained = rows[rows["contender"] != PROBE]
    parts = trained.assign(stuck=trained["last_loss"] >= trained["first_loss"], first=trained["best_epoch"] == 1,
                           failed=trained["auc"] < 0.6).groupby(["setting", "contender"], sort=False)
    return parts.agg(trainings=("replicate", "nunique"), stuck=("stuck", "sum"), lowest_auc=("auc", "min"),
                     first_epoch_best=("first", "sum"), failed=("failed", "sum")).reset_index()


def picture(rows: pd.DataFrame) -> Figure:
    """Each contender's AUC minus the independent networks', at their own rate and at the joint networks'."""
    as_fast = rows[(rows["setting"] == "2000") & rows["contender"].isin([APART_FASTER, *AS_FAST])]
    as_fast = as_fast.assign(setting="same rate").replace({"contender": {APART_FASTER: APART}})
    rows = pd.concat([rows, as_fast], ignore_index=True)
    words = {"500": "500", "2000": "2,000", "5000": "5,000", "same rate": "2,000, at one rate"}
    figure, axes = panels(2, width=4.6, height=7.2, sharey=True)
    for ax, task in zip(axes, TASKS, strict=True):
        draw_differences(ax, rows[rows["task"] == task], words, (PROBE, *JOINT))
        ax.set_title(task)
    axes[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), title="photographs to learn from")
    axes[0].invert_yaxis()
    return figure


def keep_pilot(made: Study, folder: Path) -> list[Path]:
    """Write the pilot's rows; the rates that they choose are printed, to be put into the protocol."""
    path = folder / FILE.with_suffix(".pilot.csv").name
    write_table(path, made.gather(), "%.5f")
    print("rates:", chosen_rates(read(path)))
    return [path]


def keep(made: Study, folder: Path) -> list[Path]:
    """Write the rows, the verdicts and the picture; returns their paths. Comparisons are within sets, so that any
    number of sets will do; each row of the verdicts says how many."""
    paths = [folder / FILE.with_suffix(f".{ending}").name for ending in ("csv", "verdicts.csv", "png")]
    write_table(paths[0], made.gather(), "%.5f")
    rows = read(paths[0])
    write_table(paths[1], verdicts(rows), "%.5f")
    save(picture(rows), paths[2])
    return paths
