"""Figures and sentences of studies, drawn from ``results/studies/*.csv`` (see ``studies``).

Dots are means over splits, bars the protocol's intervals of paired differences, in the tasks' own colours. Whether a
bar leaves out zero is the whole message, so zero is always drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aesthemo_lib.plots.runs import endpoint_name, panels
from aesthemo_lib.plots.style import NEUTRAL, task_colour

from . import protocol as studies
from .endpoints import LOWER_IS_BETTER


def load(name: str) -> pd.DataFrame | None:
    """A study's tuned rows in the protocol's order; a line in the notebook says which.

    Splits that lack a contender are left out, so that all are compared on the same ones; None if no split is whole.
    """
    from IPython.display import Markdown, display

    try:
        table = studies.read(name)
    except FileNotFoundError:
        display(Markdown(f"**The study `{name}` has not been run yet, so this section has no figure.** "
                         f"It will have one after `make study STUDY={name}`."))
        return None
    of = studies.study(name, table["form"].iloc[0])
    cells = table.drop_duplicates(["condition", "contender", "split"]).groupby("split").size()
    many = len(of.spec["contenders"])
    whole = cells.index[cells == len(of.conditions()) * many]
    said = f"Study `{name}` on `{of.spec['data']}`: {many} contenders, {len(whole)} of {of.splits} splits"
    if len(whole) < of.splits:
        said += " (**not complete**" + (": one split gives no interval)" if len(whole) == 1 else ")")
    display(Markdown(f"{said}. Made by `make study STUDY={name}`, kept in `results/studies/{name}.csv`."))
    rows, keys = studies.selected(table), ("task", "split", "contender", "condition")  # chosen rows come in any order
    order = np.lexsort([pd.Categorical(rows[key], table[key].unique()).codes for key in keys])
    rows = rows.iloc[order]
    return rows[rows["split"].isin(whole)].reset_index(drop=True) if len(whole) else None


def lines(name: str, rows: pd.DataFrame, metric: str, shown: Sequence[str]) -> dict[str, dict[str, float]]:
    """Lines beside a study's differences: by task, the mean over splits of a line minus the independent networks.

    Args:
        name: the study's; its lines are read from ``results/studies/<name>.lines.csv``.
        rows: as ``load`` returns them.
        shown: which lines, such as 'one rater'; what is not defined or not there is left out.
    """
    try:
        beside = studies.read(f"{name}.lines")
    except FileNotFoundError:
        return {}
    reference = rows[rows["method"] == "independent"].set_index(["task", "split", "seed"])[metric]
    table = beside.pivot_table(index=["task", "split", "seed"], columns="contender", values=metric)
    table = table[[one for one in shown if one in table]].sub(reference, axis=0)
    means = table.groupby("task").mean()
    return {task: means.loc[task].dropna().to_dict() for task in means.index}


# --- sentences and tables


def verdicts(table: pd.DataFrame, metric: str, reference: str) -> str:
    """Markdown, a line a task (and condition): who is ahead, behind, or without a detectable difference.

    Args:
        table: as ``studies.differences`` returns it.
        metric: its endpoint, which says whether less is better.
        reference: its name.
    """
    sign, lines = -1 if metric in LOWER_IS_BETTER else 1, []
    for (condition, task), rows in table.groupby(["condition", "task"], sort=False):
        ends = np.sort(sign * rows[["low", "high"]].to_numpy(), axis=1)
        marks = {"ahead": ends[:, 0] > 0, "behind": ends[:, 1] < 0}
        marks["no detectable difference"] = ~(marks["ahead"] | marks["behind"])
        parts = [f"**{word}** " + ", ".join(f"{one.method} ({one.mean:+.3f})" for one in rows[there].itertuples())
                 for word, there in marks.items() if there.any()]
        where = f", {condition}" if condition else ""
        lines.append(f"- {task}{where}, {endpoint_name(metric)} against {reference}: {'; '.join(parts)}.")
    return "\n".join(lines)


def doses(rows: pd.DataFrame, metric: str = "auc") -> pd.DataFrame:
    """The study ``dose`` as three differences: columns kind, relatedness, share, task, mean, low, high, pairs.

    Kind 'gain' is cross-branch minus independent; 'null' the same with the *other* task's labels permuted, so that
    there is nothing to learn from it; 'excess' is gain minus null.
    """
    tasks, tables = list(rows["task"].drop_duplicates()), []
    for task in tasks:
        (other,) = [name for name in tasks if name != task]
        mine, null = rows[rows["task"] == task], f"{other} permuted"
        for kind, method, reference in (("gain", "cross_branch", "independent"), ("null", null, "independent"),
                                        ("excess", "cross_branch", null)):
            both = mine[mine["method"].isin([method, reference])]
            tables.append(studies.differences(both, metric, reference).assign(kind=kind))
    table = pd.concat(tables, ignore_index=True)
    numbers = table["condition"].str.extract(r"relatedness ([\d.]+), (\d+) %").astype(float)
    return table.assign(relatedness=numbers[0], share=numbers[1].astype(int))


# --- figures


def _marks(ax: Axes, at, table: pd.DataFrame, colour: str, upright: bool = True, **how) -> None:
    """Means at these places with their intervals as bars, upright or lying."""
    mean = table["mean"].to_numpy()
    ends = np.abs(table[["low", "high"]].to_numpy().T - mean)
    place, bars = ((at, mean), {"yerr": ends}) if upright else ((mean, at), {"xerr": ends})
    ax.errorbar(*place, **bars, color=colour, **{"marker": "D", "ms": 6, "lw": 1.5, "elinewidth": 2, "ls": "-", **how})


def _legend(figure: Figure, axes: Iterable[Axes]) -> None:
    known = {name: line for ax in axes for line, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(known.values(), known.keys(), loc="outside upper center", ncols=4)


def dose_lines(table: pd.DataFrame, kinds: dict[str, str], ylabel: str) -> Figure:
    """Differences over relatedness: a column a task, a row a share of the training data.

    Args:
        table: as ``doses`` returns it.
        kinds: which of its kinds, with their words; 'null' is grey, the others have the task's colour.
    """
    tasks, shares = list(table["task"].drop_duplicates()), sorted(table["share"].unique(), reverse=True)
    figure, axes = panels(len(tasks), width=4.2, height=2.4, rows=max(2, len(shares)), sharex=True, sharey=True)
    for row, share in zip(axes, shares, strict=False):
        for ax, task in zip(row, tasks, strict=True):
            mine = table[(table["task"] == task) & (table["share"] == share)]
            for number, (kind, words) in enumerate(kinds.items()):
                part = mine[mine["kind"] == kind].sort_values("relatedness")
                colour, label = (NEUTRAL, words) if kind == "null" else (task_colour(task), f"{words}, {task}")
                _marks(ax, part["relatedness"] + 0.03 * number, part, colour, label=label)
            ax.axhline(0, color=NEUTRAL, ls=":")
            ax.set(title=f"{task}, {share} % of the training data", xticks=sorted(table["relatedness"].unique()))
        row[0].set_ylabel(ylabel)
    for ax in axes[len(shares) - 1]:
        ax.set_xlabel("relatedness of the labels")
    _legend(figure, axes.ravel())
    return figure


def soft_against_hard(rows: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    """The study ``soft``: vote shares as targets minus the consensus as target, a panel an endpoint.

    Args:
        rows: as ``studies.selected`` returns them.
    """
    swapped = rows.assign(method=rows["condition"], condition=rows["contender"])
    order = list(swapped["condition"].drop_duplicates())
    figure, axes = panels(len(metrics), width=2.9, height=1.9 + 0.3 * len(order), sharey=True)
    for ax, metric in zip(axes, metrics, strict=True):
        table = studies.differences(swapped.dropna(subset=metric), metric, "hard consensus")
        for number, (task, mine) in enumerate(table.groupby("task", sort=False)):
            at = np.array([order.index(name) for name in mine["condition"]]) + 0.24 * number - 0.12
            _marks(ax, at, mine, task_colour(task), upright=False, ls="none", label=task)
        ax.axvline(0, color=NEUTRAL, ls=":")
        better = "left" if metric in LOWER_IS_BETTER else "right"
        ax.set(title=f"{endpoint_name(metric)} ({better}: better)", xlabel="soft minus hard",
               ylim=(len(order) - 0.5, -0.5))
        ax.locator_params(axis="x", nbins=3)
        ax.set_yticks(range(len(order)), order)
    _legend(figure, axes)
    return figure
