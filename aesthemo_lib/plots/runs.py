"""Figures of finished runs: learning curves, comparisons with intervals, confusion matrices.

Style and task colours are those of ``plots``; each function returns a matplotlib ``Figure``.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..evaluation.comparison import check_metric, mean_interval
from .style import MORE_COLOURS, NEUTRAL, task_colour, use_style

METHOD_COLOURS = dict(zip(("independent", "shared_bottom", "cross_branch.diagonal", "cross_branch.random"),
                          ("#000000", "#56B4E9", "#009E73", "#CC79A7"), strict=True))
LINES = (":", "--", "-.", (0, (1, 3)), (0, (6, 2, 1, 2, 1, 2)))


def panels(count: int, width: float = 4.6, height: float = 3.0, rows: int = 1, **how) -> tuple[Figure, np.ndarray]:
    """A figure of panels in the project's style: (count,) axes, or (rows, count) of several rows; inches a panel."""
    use_style()
    figure = Figure((width * count, height * rows))
    axes = figure.subplots(rows, count, squeeze=False, **how)
    return figure, axes[0] if rows == 1 else axes


def _method_colour(name: str) -> str:
    return METHOD_COLOURS.get(name) or MORE_COLOURS[sum(name.encode()) % len(MORE_COLOURS)]


def learning_curves(history: pd.DataFrame, constant: dict[str, float] | None = None) -> Figure:
    """Training and validation loss of each task by ``Run.history``; the dot is the epoch that was kept.

    ``constant``: by task name, the loss of the best answer that looks at no image.
    """
    tasks = [name.removeprefix("validation_loss_") for name in history if name.startswith("validation_loss_")]
    figure, axes = panels(len(tasks), height=3.5)
    for ax, task in zip(axes, tasks, strict=True):
        rows = history[history[f"validation_loss_{task}"].notna()]
        kept, colour = rows.loc[rows["validation_loss"].idxmin()], task_colour(task)
        ax.plot(rows["epoch"], rows[f"train_loss_{task}"], "--", color=colour, label="training")
        ax.plot(rows["epoch"], rows[f"validation_loss_{task}"], "-", color=colour, label="validation")
        label = f"kept: epoch {kept['epoch']:.0f}"
        ax.plot(kept["epoch"], kept[f"validation_loss_{task}"], "o", color=colour, ms=9, label=label)
        if constant and task in constant:
            ax.axhline(constant[task], ls=":", color=NEUTRAL, label="best constant answer")
        ax.set(title=task, xlabel="epoch", ylabel="cross-entropy (nats)")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2, columnspacing=0.9)
    return figure


def comparison(runs: pd.DataFrame, metric: str, lines: dict[str, dict[str, float]] | None = None) -> Figure:
    """A metric by task and method: dots are runs, the bar is mean and interval (cut off at the picture's edge).

    ``lines``: by task, values to compare with by name, such as that of the majority class.
    """
    check_metric(runs, metric)
    values = {task: {method: part[metric] for method, part in rows.groupby("method", sort=False)}
              for task, rows in runs.groupby("task", sort=False)}
    return _intervals(values, endpoint_name(metric), lines or {})


def paired(
    runs: pd.DataFrame, metric: str, reference: str, overlap: float = 0.0,
    lines: dict[str, dict[str, float]] | None = None,
) -> Figure:
    """Each method minus the reference on the same split and seed, by task: dots are pairs, bars are intervals.

    Args:
        runs, metric, reference, overlap: see ``evaluation.paired_differences``; the thin bar has the overlap.
        lines: by task, further differences to the reference by name, besides zero.
    """
    table = runs.pivot_table(index=["task", "split", "seed"], columns="method", values=metric, sort=False)
    order = [method for method in runs["method"].unique() if method != reference]
    pairs = table[order].sub(table[reference], axis=0)
    values = {task: {m: rows[m].dropna() for m in rows} for task, rows in pairs.groupby("task", sort=False)}
    zero = {task: {"no difference": 0.0} | (lines or {}).get(task, {}) for task in values}
    return _intervals(values, f"{endpoint_name(metric)}, minus {reference}'s", zero, overlap)


ENDPOINT_NAMES = {
    "auc": "AUC", "macro_f1": "macro F1", "log_loss": "log-loss", "ece": "calibration error",
    "emd": "earth mover's distance", "jensen_shannon": "Jensen-Shannon distance", "spearman": "Spearman's rho",
}


def endpoint_name(metric: str) -> str:
    """An endpoint in words, for axes and sentences."""
    return ENDPOINT_NAMES.get(metric, metric.replace("_", " "))


def _intervals(values: dict[str, dict[str, pd.Series]], label: str, lines: dict, overlap: float = 0.0) -> Figure:
    figure, axes = panels(len(values), height=1.5 + 0.45 * max(map(len, values.values())), sharey=True)
    for ax, (task, methods) in zip(axes, values.items(), strict=True):
        seen, ends = [value for value in lines.get(task, {}).values() if np.isfinite(value)], []
        for at, numbers in enumerate(methods.values()):
            ax.plot(numbers, at + 0.22 + 0 * numbers, "o", color=task_colour(task), alpha=0.45, ms=5, mew=0)
            for width, extra in ((3.5, 0.0), (1.2, overlap)):
                mean, *interval = mean_interval(numbers, overlap=extra)
                ax.plot(interval, [at, at], color=task_colour(task), lw=width, solid_capstyle="butt")
                ends += interval
            ax.plot(mean, at, "D", color=task_colour(task), ms=7)
            seen += [*numbers]
        for style, (name, value) in zip(LINES, lines.get(task, {}).items(), strict=False):
            if np.isfinite(value):
                ax.axvline(value, ls=style, color=NEUTRAL, label=name)
        ax.set(title=task, xlabel=label, yticks=range(len(methods)), yticklabels=list(methods))
        ax.set(xlim=_limits(seen, ends), ylim=(len(methods) - 0.5, -0.5))
        ax.locator_params(axis="x", nbins=6)
        ax.grid(axis="y", visible=False)
    known = {name: line for ax in axes for line, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    if known:
        figure.legend(known.values(), known.keys(), loc="outside lower center", ncols=min(len(known), 4))
    return figure


def _limits(seen: list[float], ends: list[float]) -> tuple[float, float]:
    """Room for all that was measured and for intervals of three runs; those of two would hide it, and are cut off."""
    low, high = np.nanmin(seen), np.nanmax(seen)
    room = max(1.5 * (high - low), 0.02)
    inner = max(np.nanmin([*ends, low]), low - room), min(np.nanmax([*ends, high]), high + room)
    return inner[0] - room / 8, inner[1] + room / 8


def reliability(tables: dict[str, dict[str, pd.DataFrame]]) -> Figure:
    """How often answers of a given confidence are right: larger dots are of more images, lines join those of five."""
    figure, axes = panels(len(tables), width=4.2, height=3.8, sharey=True)
    for ax, (task, methods) in zip(axes, tables.items(), strict=True):
        ax.plot([0, 1], [0, 1], ":", color=NEUTRAL, label="calibrated")
        for method, table in methods.items():
            table, colour = table[table["images"] > 0], _method_colour(method)
            ax.plot("confidence", "accuracy", "-", data=table[table["images"] > 4], color=colour, lw=1.5, label=method)
            ax.scatter(table["confidence"], table["accuracy"], 120 * table["images"] / table["images"].max(),
                       color=colour, alpha=0.7, lw=0)
        ax.set(title=task, xlabel="confidence: the answer's probability", xlim=(0, 1), ylim=(-0.02, 1.02))
    axes[0].set_ylabel("share of right answers")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def recalls(table: pd.DataFrame) -> Figure:
    """How often each class is recognised, by method; the columns are class, method, recall, low, high."""
    classes, methods = list(dict.fromkeys(table["class"])), list(dict.fromkeys(table["method"]))
    figure, (ax,) = panels(1, width=7.5, height=1.3 + 0.14 * len(classes) * (len(methods) + 1))
    for number, method in enumerate(methods):
        rows = table[table["method"] == method]
        at = np.array([classes.index(name) for name in rows["class"]]) + (number + 0.5) * 0.7 / len(methods) - 0.35
        ax.hlines(at, rows["low"], rows["high"], color=_method_colour(method), lw=2)
        ax.plot(rows["recall"], at, "o", color=_method_colour(method), label=method)
    ax.set(xlim=(-0.02, 1.02), ylim=(len(classes) - 0.5, -0.5), yticks=range(len(classes)), yticklabels=classes,
           xlabel="recall: share of the class that is answered with it")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def confusion(matrices: dict[str, np.ndarray], classes: tuple[str, ...], colour: str) -> Figure:
    """(C, C) confusion matrices by title, side by side: the part of its row (the colour) and the count, if any.

    ``colour``: such as ``plots.task_colour`` gives; a whole row's shade is light enough for black numbers.
    """
    shades = LinearSegmentedColormap.from_list("shares", ["white", colour])
    draw = []
    for title, counts in matrices.items():
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        draw.append((title, shares, lambda i, j, s=shares, n=counts:
                     f"{100 * s[i, j]:.0f} %\n({n[i, j]})" if n[i, j] else ""))
    return _matrices(draw, classes, shades, 0, 1.4)


def confusion_difference(difference: np.ndarray, marked: np.ndarray, classes: tuple[str, ...], title: str) -> Figure:
    """The difference of two row-normalised (C, C) confusion matrices, in percentage points; marked cells are framed."""
    most = max(0.1, np.nanmax(np.abs(difference)))
    cells = [(title, difference, lambda i, j: f"{difference[i, j]:+.0%}".rstrip("%").replace("-", "−")
              if difference[i, j] and np.isfinite(difference[i, j]) else "")]
    figure = _matrices(cells, classes, "PuOr", -most, most)
    for i, j in np.argwhere(marked):
        figure.axes[0].add_patch(Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, fill=False, lw=2.2, edgecolor="black"))
    return figure


def _matrices(draw: list[tuple[str, np.ndarray, Callable]], classes, shades, low: float, high: float) -> Figure:
    use_style()
    columns = min(len(draw), 2)
    cell, rows = 0.8 if len(classes) == 2 else 0.48 if columns == 2 else 0.6, -(-len(draw) // columns)
    figure = Figure((1.3 + (cell * len(classes) + 0.15) * columns, (cell * len(classes) + 1.4) * rows))
    for ax in (axes := figure.subplots(rows, columns, squeeze=False).ravel())[len(draw):]:
        ax.set_axis_off()
    for number, (ax, (title, values, text)) in enumerate(zip(axes, draw, strict=False)):
        shown = ax.imshow(values, cmap=shades, vmin=low, vmax=high)
        luminance = shown.to_rgba(values)[..., :3] ** 2.2 @ [0.2126, 0.7152, 0.0722]
        for (i, j), light in np.ndenumerate(luminance):
            ax.text(j, i, text(i, j), ha="center", va="center", color="white" if light < 0.18 else "black")
        ticks = range(len(classes))
        first = number % columns == 0
        ax.set(title=title, xlabel="answer", ylabel="truth" if first else "", yticks=ticks)
        ax.set_yticklabels(classes if first else [])
        ax.set_xticks(ticks, classes, **({"rotation": 45, "ha": "right"} if len(classes) > 2 else {}))
        ax.grid(visible=False)
    return figure
