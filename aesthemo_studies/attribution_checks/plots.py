"""Figures of lesson 8: the null, rank agreements, faithfulness, and what flows between the tasks over a data set.

Style and task colours are those of ``plots``; each function returns a matplotlib ``Figure``. Thick bars are intervals
over images; thin ones, where there are several, over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from aesthemo_lib.plots.style import MORE_COLOURS, NEUTRAL, task_colour, use_style


def _panels(count: int, width: float, height: float, **how) -> tuple[Figure, np.ndarray]:
    use_style()
    figure = Figure((width * count, height))
    return figure, figure.subplots(1, count, squeeze=False, **how)[0]


def _bars(ax: Axes, at: float, row: pd.Series, colour: str, shift: float = 0.0, across: bool = True) -> None:
    """A mean with its interval over images (thick) and over seeds (thin), moved by ``shift``."""
    draw, marker = (ax.hlines, "D") if across else (ax.vlines, "o")
    draw(at, row["image_low"] + shift, row["image_high"] + shift, color=colour, lw=3.5)
    if np.isfinite(row["low"]):
        draw(at, row["low"] + shift, row["high"] + shift, color=colour, lw=1.2)
    mean = row.get("mean", row.get("excess")) + shift
    ax.plot(*((mean, at) if across else (at, mean)), marker, color=colour, ms=7)


def null_shadows(found: dict[str, pd.DataFrame], what: str = "share of the ledger") -> Figure:
    """A task's ledger, and that of its null as a grey shadow: only what stands out of it is borrowed from the task.

    Args:
        found: by task name, ``checks.excess``; the intervals are of the difference to the shadow.
    """
    figure, axes = _panels(len(found), 4.8, 3.4, sharey=True)
    for ax, (task, table) in zip(axes, found.items(), strict=True):
        for at, (_, row) in enumerate(table.iterrows()):
            ax.barh(at, row["null"], 0.72, color="#C9C9C9", label="null" if not at else None)
            _bars(ax, at, row, task_colour(task), shift=row["null"])
        ax.set(title=f"{task}: its logits", xlabel=what, ylim=(len(table) - 0.4, -0.6))
        ax.set_yticks(range(len(table)), table["player"].replace("borrowed", "all that is borrowed"))
        ax.grid(axis="y", visible=False)
        reach = np.nanmax(np.abs(table[["trained", "null"]])) * 1.25
        ax.set_xlim(min(0, 1.25 * np.nanmin(table[["trained", "null"]])), reach)
    axes[0].legend(loc="lower right", fontsize=9)
    return figure


def doses(rows: pd.DataFrame) -> Figure:
    """What is borrowed in excess against how much the tasks share.

    Args:
        rows: columns task, relatedness, and those of ``checks.excess``.
    """
    figure, axes = _panels(rows["task"].nunique(), 4.2, 3.0, sharey=True)
    for ax, (task, part) in zip(axes, rows.groupby("task", sort=False), strict=True):
        part = part.sort_values("relatedness")
        ax.plot(part["relatedness"], part["excess"], color=task_colour(task), lw=1, ls=":")
        for _, row in part.iterrows():
            _bars(ax, row["relatedness"], row, task_colour(task), across=False)
        ax.axhline(0, color=NEUTRAL, lw=1)
        ax.set(title=task, xlabel="relatedness of the tasks")
        ax.set_ylabel("share borrowed in excess" if ax is axes[0] else "")
        reach = 1.4 * np.nanmax(np.abs(rows[["image_low", "image_high"]]))
        ax.set(xlim=(-0.12, 1.12), ylim=(-reach, reach))
    return figure


def agreements(rows: pd.DataFrame, what: str = "Spearman's rank correlation over the links") -> Figure:
    """Rank correlations over links with their intervals.

    Args:
        rows: columns what (a line of the figure), correlation, low, high.
    """
    figure, (ax,) = _panels(1, 7.6, 0.9 + 0.34 * len(rows))
    for at, (_, row) in enumerate(rows.iterrows()):
        ax.hlines(at, row["low"], row["high"], color=NEUTRAL, lw=3.5)
        ax.plot(row["correlation"], at, "D", color="black", ms=7)
    ax.axvline(0, color=NEUTRAL, lw=1)
    ax.set(xlim=(-1.05, 1.05), ylim=(len(rows) - 0.4, -0.6), xlabel=what)
    ax.set_yticks(range(len(rows)), rows["what"])
    ax.grid(axis="y", visible=False)
    return figure


def photo_agreements(rows: pd.DataFrame) -> Figure:
    """Rank correlations over photos, one a link: by layer, in the receiver's colour.

    Args:
        rows: ``checks.photo_agreements``, a panel for each of ``what``.
    """
    figure, axes = _panels(rows["what"].nunique(), 3.7, 3.2, sharey=True)
    for ax, (what, part) in zip(axes, rows.groupby("what", sort=False), strict=True):
        for k, (receiver, links) in enumerate(part.groupby("receiver", sort=False)):
            at = links["layer"] + 0.2 * (k - 0.5)
            ax.vlines(at, links["low"], links["high"], color=task_colour(receiver), lw=3)
            ax.plot(at, links["correlation"], "o", color=task_colour(receiver), ms=7, label=f"{receiver} borrows")
        ax.axhline(0, color=NEUTRAL, lw=1)
        ax.set(title=what.replace(" and ", "\nand "), xlabel="layer", ylim=(-1.05, 1.05))
        ax.set_ylabel("rank correlation over photos" if ax is axes[0] else "")
        ax.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    return figure


def link_scatter(means: pd.DataFrame, first: str, seconds: Sequence[str]) -> Figure:
    """Links by one measure against others; a number is the layer, a colour the receiver.

    Args:
        means: a row a link: layer, receiver, and the measures.
    """
    figure, axes = _panels(len(seconds), 3.9, 3.3)
    for ax, second in zip(axes, seconds, strict=True):
        for _, row in means.iterrows():
            ax.plot(row[first], row[second], "o", color=task_colour(row["receiver"]), ms=13, alpha=0.85)
            ax.text(row[first], row[second], f"{row['layer']:.0f}", color="white", ha="center", va="center", fontsize=8)
        ax.set(xlabel=first, ylabel=second)
        ax.margins(0.15)
    for task in means["receiver"].unique():
        axes[0].plot([], [], "o", color=task_colour(task), label=f"{task} borrows")
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return figure


DELETED = {"map": ("-", "o", "as the map ranks"), "random": (":", "", "at random"),
           "reverse": ("--", "s", "in reverse")}


def deletion_curves(rows: pd.DataFrame) -> Figure:
    """How the answer's logit changes while borrowed channels are deleted, in three orders.

    Args:
        rows: ``checks.summary`` by task, case and step.
    """
    figure, axes = _panels(rows["task"].nunique(), 4.4, 3.2)
    for ax, (task, part) in zip(axes, rows.groupby("task", sort=False), strict=True):
        for case, (line, marker, label) in DELETED.items():
            curve = part[part["case"] == case]
            ax.plot(curve["step"], curve["mean"], line, marker=marker, color=task_colour(task), label=label)
            ax.fill_between(curve["step"], curve["image_low"], curve["image_high"], color=task_colour(task), alpha=0.12)
        ax.axhline(0, color=NEUTRAL, lw=1)
        ax.set(title=task, xlabel="share of the borrowed channels deleted", ylabel="change of the answer's logit")
        ax.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=3, columnspacing=0.9)
    return figure


def destroyed(rows: pd.DataFrame) -> Figure:
    """How alike a map is to the original's while the weights are destroyed from the top down.

    Args:
        rows: ``checks.summary`` by task, stage (its name), sign and step.
    """
    figure, axes = _panels(rows["task"].nunique(), 4.6, 3.4, sharey=True)
    for ax, (task, part) in zip(axes, rows.groupby("task", sort=False), strict=True):
        for sign, line in (("signed", "-"), ("size alone", ":")):
            curve = part[part["sign"] == sign].sort_values("step")
            ax.plot([0, *curve["step"]], [1, *curve["mean"]], line, marker="o", color=task_colour(task), label=sign)
            ax.fill_between(curve["step"], curve["image_low"], curve["image_high"], color=task_colour(task), alpha=0.12)
        ax.axhline(0, color=NEUTRAL, lw=1)
        ax.set_xticks([0, *curve["step"]], ["nothing", *curve["stage"]], rotation=60, ha="right", fontsize=8)
        ax.set(title=task, ylabel="rank correlation with the map" if ax is axes[0] else "", ylim=(-0.6, 1.05))
        ax.legend(fontsize=9, title="destroyed from the top to ..", title_fontsize=8)
    return figure


def pointing_game(rows: pd.DataFrame) -> Figure:
    """How much more often than by chance borrowed maps point at the lamp, the clutter, the motif.

    Args:
        rows: ``checks.summary`` of hit - chance by task, mask and relatedness.
    """
    figure, axes = _panels(rows["task"].nunique(), 4.4, 3.0, sharey=True)
    masks = list(rows["mask"].unique())
    for ax, (task, part) in zip(axes, rows.groupby("task", sort=False), strict=True):
        for k, mask in enumerate(masks):
            colour = (task_colour(task), NEUTRAL, MORE_COLOURS[0])[k % 3]
            for _, row in part[part["mask"] == mask].iterrows():
                _bars(ax, row["relatedness"] + 0.08 * (k - 1), row, colour, across=False)
            ax.plot([], [], "o", color=colour, label=mask)
        ax.axhline(0, color=NEUTRAL, lw=1)
        ax.set(title=f"what {task} borrows", xlabel="relatedness of the tasks", xlim=(-0.2, 1.2),
               ylabel="hits beyond chance" if ax is axes[0] else "")
        ax.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=3)
    return figure


def baseline_shares(rows: pd.DataFrame) -> Figure:
    """What share of a task's ledger is borrowed, against one baseline or another.

    Args:
        rows: ``checks.summary`` by task and case (the baseline).
    """
    figure, axes = _panels(rows["task"].nunique(), 3.9, 3.0, sharey=True)
    for ax, (task, part) in zip(axes, rows.groupby("task", sort=False), strict=True):
        for at, (_, row) in enumerate(part.iterrows()):
            _bars(ax, at, row, task_colour(task), across=False)
        ax.set_xticks(range(len(part)), part["case"])
        ax.set(title=task, xlabel="baseline", ylim=(0, 1), xlim=(-0.5, len(part) - 0.5),
               ylabel="borrowed share of the ledger" if ax is axes[0] else "")
    return figure


# --- flow over a data set


def flow_diagram(found: dict[str, pd.DataFrame]) -> Figure:
    """What flows between two tasks: at each layer an arrow as wide as the receiver's share of its ledger.

    The outline is the null's: so much flows from a branch that has learnt permuted labels. The excess has its interval
    over splits and seeds; over images, where there is one split.

    Args:
        found: by receiving task, ``checks.excess`` of shares.
    """
    use_style()
    (upper, lower), layers = found, [p for p in next(iter(found.values()))["player"] if p.startswith("borrowed at")]
    figure = Figure((2.0 * len(layers) + 2.2, 3.3), layout="none")
    ax = figure.add_axes((0, 0, 1, 1), xlim=(-0.75, len(layers) + 0.35), ylim=(-0.35, 1.35))
    ax.set_axis_off()
    for height, task in ((1, upper), (0, lower)):
        ax.plot([-0.1, len(layers)], [height, height], color=task_colour(task), lw=5, solid_capstyle="round")
        ax.text(-0.15, height, task, ha="right", va="center", color=task_colour(task), fontweight="bold")
    for receiver, source, start, end, shift in ((upper, lower, 0.06, 0.9, 0.2), (lower, upper, 0.94, 0.1, 0.62)):
        rows = found[receiver].set_index("player")
        for i, player in enumerate(layers):
            row, x = rows.loc[player], i + shift
            for value, face, edge in ((row["trained"], task_colour(source), "none"), (row["null"], "none", "#404040")):
                width = max(120 * value, 0.6)
                ax.add_patch(FancyArrowPatch((x, start), (x + 0.12, end), lw=1.2, facecolor=face, edgecolor=edge,
                             arrowstyle=f"simple,tail_width={width},head_width={width + 6},head_length=9",
                             shrinkA=0, shrinkB=0))
            low, high = (row["low"], row["high"]) if np.isfinite(row["low"]) else row[["image_low", "image_high"]]
            text = f"{row['trained']:.0%}\nnull {row['null']:.0%}\nexcess {100 * low:+.0f} to {high:+.0%}"
            up = end > start
            ax.text(x + 0.12, 1.08 if up else -0.08, text, ha="center", va="bottom" if up else "top", fontsize=8)
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
    ax.set_title(title)
    ax.set(xlabel="", ylabel="")
    ax.tick_params(axis="y", rotation=0)
    ax.set_xticks(ax.get_xticks(), list(means.columns), rotation=30, ha="right")
    return figure


def over_training(rows: pd.DataFrame) -> Figure:
    """How the shares of the borrowed maps change over a training; thin lines are seeds.

    Args:
        rows: columns task, player, epoch, seed, share, of borrowed maps alone.
    """
    figure, axes = _panels(rows["task"].nunique(), 4.4, 3.2, sharey=True)
    for ax, (task, part) in zip(axes, rows.groupby("task", sort=False), strict=True):
        players = list(part["player"].unique())
        for k, player in enumerate(players):
            table = part[part["player"] == player].pivot(index="epoch", columns="seed", values="share")
            shade = dict(color=task_colour(task), alpha=0.35 + 0.65 * k / max(len(players) - 1, 1))
            ax.plot(table, lw=0.7, **shade)
            ax.plot(table.mean(axis=1), lw=2.4, marker="os^Dv"[k % 5], label=player, **shade)
        ax.set(title=f"{task}: its ledger", xlabel="epoch (0: before the first)", ylim=(0, None),
               ylabel="share of the ledger" if ax is axes[0] else "")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)
    return figure
