"""Figures of lesson 8: the null, rank agreements, faithfulness, and what flows between the tasks over a data set.

Style and task colours are those of ``plots``; each function returns a matplotlib ``Figure``. Thick bars are intervals
over images; thin ones, where there are several, over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from aesthemo_lib.plots.runs import panels
from aesthemo_lib.plots.style import NEUTRAL, task_colour, use_style

from .subjects import OTHER


def _bars(ax: Axes, at: float, row: Mapping, colour: str, shift: float = 0.0, marker: str = "D") -> None:
    """A mean with its interval over images (thick) and over networks (thin), moved by ``shift``."""
    ax.hlines(at, row["image_low"] + shift, row["image_high"] + shift, color=colour, lw=3.5)
    if np.isfinite(row["low"]):
        ax.hlines(at, row["low"] + shift, row["high"] + shift, color=colour, lw=1.2)
    ax.plot(row.get("mean", row.get("excess")) + shift, at, marker, color=colour, ms=6)


def null_shadows(excesses: dict[str, pd.DataFrame], what: str = "share of the ledger") -> Figure:
    """A task's ledger, and that of its null as a grey shadow: only what stands out of it is borrowed from the task.

    Args:
        excesses: by task name, ``checks.excess``; the intervals are of the difference to the shadow.
    """
    figure, axes = panels(len(excesses), height=3.4, sharey=True)
    for ax, (task, table) in zip(axes, excesses.items(), strict=True):
        for at, (_, row) in enumerate(table.iterrows()):
            ax.barh(at, row["null"], 0.72, color="#C9C9C9", label="null" if not at else None)
            _bars(ax, at, row, task_colour(task), shift=row["null"])
        ax.set(title=f"{task}: its logits", xlabel=what, ylim=(len(table) - 0.4, -0.6))
        ax.set_yticks(range(len(table)), table["player"].replace("borrowed", "all that is borrowed"))
        ax.grid(axis="y", visible=False)
        reach = np.nanmax(np.abs(table[["trained", "null"]])) * 1.25
        ax.set_xlim(min(0, 1.25 * np.nanmin(table[["trained", "null"]])), reach)
    axes[0].legend(loc="lower right")
    return figure


def dots(
    rows: pd.DataFrame, line: str, xlabel: str, part: str | None = None, mark: tuple[float, float] | None = None,
    grey: str | None = None,
) -> Figure:
    """Means with their intervals: a panel a task, a line for each of ``line``, a dot for each of ``part``.

    Args:
        rows: task, mean, low and high (over networks), image_low and image_high where images give an interval too.
        part: 'own' has the task's colour, 'borrowed' the other task's, all else is black; each has its marker.
        mark: where a test is passed; the region is green.
        grey: the column of what lies in the grey around zero.
    """
    names = list(rows[part].unique()) if part else ["own"]
    lines = list(rows[line].unique())
    figure, axes = panels(rows["task"].nunique(), height=1.3 + 0.22 * len(lines) * (1 + 0.4 * (len(names) > 1)),
                          sharex=True, sharey=True)
    for ax, (task, table) in zip(axes, rows.groupby("task", sort=False), strict=True):
        if mark:
            ax.axvspan(*mark, color="#D9EAD3", lw=0)
        for k, name in enumerate(names):
            known = {"own": task_colour(task), "borrowed": task_colour(OTHER[task])}
            colour, marker = known.get(name, "black"), "Dso^v"[k % 5]
            for _, row in (table[table[part] == name] if part else table).iterrows():
                at = lines.index(row[line]) + 0.22 * (k - (len(names) - 1) / 2)
                if grey:
                    ax.barh(at, 2 * row[grey], 0.6, left=-row[grey], color="#DDDDDD")
                _bars(ax, at, {"image_low": np.nan, "image_high": np.nan} | dict(row), colour, marker=marker)
            if part:
                ax.plot([], [], marker, color="black", label=name)
        ax.axvline(0, color=NEUTRAL, lw=1)
        ax.set(title=task, xlabel=fill(xlabel, 36), ylim=(len(lines) - 0.4, -0.6))
        ax.locator_params(axis="x", nbins=5)
        ax.set_yticks(range(len(lines)), lines)
        ax.grid(axis="y", visible=False)
    if part:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names))
    return figure


DELETED = {"map": ("-", "o", "as the map ranks"), "random": (":", "", "at random"),
           "reverse": ("--", "s", "in reverse")}


def deletion_curves(rows: pd.DataFrame) -> Figure:
    """How the answer's logit changes while borrowed channels are deleted, in three orders.

    Args:
        rows: ``checks.summary`` by task, case and step.
    """
    figure, axes = panels(rows["task"].nunique(), 4.4, 3.2)
    for ax, (task, part) in zip(axes, rows.groupby("task", sort=False), strict=True):
        for case, (line, marker, label) in DELETED.items():
            curve = part[part["case"] == case]
            ax.plot(curve["step"], curve["mean"], line, marker=marker, color=task_colour(task), label=label)
            ax.fill_between(curve["step"], curve["image_low"], curve["image_high"], color=task_colour(task), alpha=0.12)
        ax.axhline(0, color=NEUTRAL, lw=1)
        ax.set(title=task, xlabel="share of the borrowed channels deleted", ylabel="change of the answer's logit")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2, columnspacing=0.9)
    return figure


def destroyed(rows: pd.DataFrame) -> Figure:
    """How alike a map is to the original's while the weights are destroyed from the top down.

    Args:
        rows: ``checks.summary`` by task, stage (its name), sign and step.
    """
    figure, axes = panels(rows["task"].nunique(), height=3.4, sharey=True)
    for ax, (task, part) in zip(axes, rows.groupby("task", sort=False), strict=True):
        for sign, line in (("signed", "-"), ("size alone", ":")):
            curve = part[part["sign"] == sign].sort_values("step")
            ax.plot([0, *curve["step"]], [1, *curve["mean"]], line, marker="o", color=task_colour(task), label=sign)
            ax.fill_between(curve["step"], curve["image_low"], curve["image_high"], color=task_colour(task), alpha=0.12)
        ax.axhline(0, color=NEUTRAL, lw=1)
        ax.set_xticks([0, *curve["step"]], ["nothing", *curve["stage"]], rotation=60, ha="right")
        ax.set(title=task, xlabel="destroyed from the top down to", ylim=(-0.6, 1.05))
        ax.legend()
    axes[0].set_ylabel("rank correlation with the map")
    return figure


# --- flow over a data set


def flow_diagram(excesses: dict[str, pd.DataFrame]) -> Figure:
    """What flows between two tasks: at each layer an arrow as wide as the receiver's share of its ledger.

    The outline is the null's: so much flows from a branch that has learnt permuted labels. The excess has its interval
    over splits and seeds; over images, where there is one split.

    Args:
        excesses: by receiving task, ``checks.excess`` of shares.
    """
    use_style()
    (upper, lower), first = excesses, next(iter(excesses.values()))
    layers = [player for player in first["player"] if player.startswith("borrowed at")]
    figure = Figure((2.0 * len(layers) + 2.2, 3.3), layout="none")
    ax = figure.add_axes((0, 0, 1, 1), xlim=(-0.75, len(layers) + 0.35), ylim=(-0.35, 1.35))
    ax.set_axis_off()
    for height, task in ((1, upper), (0, lower)):
        ax.plot([-0.1, len(layers)], [height, height], color=task_colour(task), lw=5, solid_capstyle="round")
        ax.text(-0.15, height, task, ha="right", va="center", color=task_colour(task), fontweight="bold")
    for receiver, source, start, end, shift in ((upper, lower, 0.06, 0.9, 0.2), (lower, upper, 0.94, 0.1, 0.62)):
        rows = excesses[receiver].set_index("player")
        for i, player in enumerate(layers):
            row, x = rows.loc[player], i + shift
            for value, face, edge in ((row["trained"], task_colour(source), "none"), (row["null"], "none", "#404040")):
                width = max(120 * value, 0.6)
                ax.add_patch(FancyArrowPatch((x, start), (x + 0.12, end), lw=1.2, facecolor=face, edgecolor=edge,
                             arrowstyle=f"simple,tail_width={width},head_width={width + 6},head_length=9",
                             shrinkA=0, shrinkB=0))
            low, high = (row["low"], row["high"]) if np.isfinite(row["low"]) else row[["image_low", "image_high"]]
            excess = f"excess {round(100 * low):+d} to {round(100 * high):+d}%"
            text = f"{row['trained']:.0%}\nnull {row['null']:.0%}\n{excess}"
            up = end > start
            ax.text(x + 0.12, 1.08 if up else -0.08, text, ha="center", va="bottom" if up else "top", fontsize=9)
    for i in range(len(layers)):
        ax.text(i + 0.47, 0.5, f"layer {i + 1}", ha="center", va="center", fontsize=9, color=NEUTRAL,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})
    return figure


def flow_matrix(means: pd.DataFrame, title: str, label: str) -> Figure:
    """A table of mean flows as colours: red speaks for, blue against.

    Args:
        means: numbers in logits; rows and columns named.
        label: of the colours.
    """
    import seaborn

    use_style()
    figure = Figure((2.6 + 0.85 * means.shape[1], 1.3 + 0.36 * len(means)))
    ax, most = figure.subplots(), np.nanmax(np.abs(means.to_numpy())) or 1.0
    seaborn.heatmap(means, vmin=-most, vmax=most, cmap="RdBu_r", annot=True, fmt="+.2f", ax=ax,
                    cbar_kws={"label": label})
    for text, value in zip(ax.texts, means.to_numpy().ravel(), strict=True):
        text.set_color("white" if abs(value) > 0.7 * most else "black")
    ax.set_title(title)
    ax.set(xlabel="", ylabel="")
    ax.tick_params(axis="y", rotation=0)
    ax.set_xticklabels([name.replace(" at ", "\nat ") for name in means], rotation=0)
    return figure


