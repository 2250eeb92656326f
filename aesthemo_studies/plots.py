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

from aesthemo_lib.evaluation.comparison import mean_interval
from aesthemo_lib.plots.runs import endpoint_name, panels
from aesthemo_lib.plots.style import MORE_COLOURS, NEUTRAL, task_colour

from . import protocol as studies
from .endpoints import LOWER_IS_BETTER, relative_gain


def load(name: str) -> pd.DataFrame | None:
    """A study's tuned rows in the protocol's order, told in a line that a notebook shows.

    Splits that lack a contender are left out, so that all are compared on the same ones; None if no split is whole.
    """
    from IPython.display import Markdown, display

    try:
        told = studies.read(name)
    except FileNotFoundError:
        display(Markdown(f"**The study `{name}` has not been run yet, so this section has no figure.** "
                         f"It will have one after `make study STUDY={name}`."))
        return None
    of = studies.study(name, told["form"].iloc[0])
    cells = told.drop_duplicates(["condition", "contender", "split"]).groupby("split").size()
    many = len(of.spec["contenders"])
    whole = cells.index[cells == len(of.conditions()) * many]
    said = f"Study `{name}`, {of.form} form: {many} contenders, {len(whole)} of {of.splits} splits"
    if len(whole) < of.splits:
        said += " (**not complete**" + (": one split gives no interval)" if len(whole) == 1 else ")")
    display(Markdown(f"{said}. Made by `make study STUDY={name}`, kept in `results/studies/{name}.csv`."))
    rows, keys = studies.selected(told), ("task", "split", "contender", "condition")  # chosen rows come in any order
    order = np.lexsort([pd.Categorical(rows[key], told[key].unique()).codes for key in keys])
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


def relative_gains(rows: pd.DataFrame, endpoint: str = "auc", reference: str = "independent") -> pd.DataFrame:
    """Delta_m of each contender, split by split, then mean and interval: columns method, mean, low, high, pairs.

    Args:
        rows: as ``studies.selected`` returns them, under one condition.
        endpoint: see ``calibration.relative_gain``.
    """
    table = rows.pivot_table(index=["split", "seed"], columns=["method", "task"], values=endpoint, sort=False)
    found = []
    for method in rows["method"].drop_duplicates():
        if method == reference:
            continue
        both = pd.concat([table[method], table[reference]], axis=1, keys=["joint", "single"]).dropna()
        gains = [relative_gain(one["joint"].to_dict(), one["single"].to_dict(), endpoint) for _, one in both.iterrows()]
        mean, low, high = mean_interval(np.array(gains), overlap=studies.OVERLAP)
        found.append({"method": method, "mean": mean, "low": low, "high": high, "pairs": len(gains)})
    return pd.DataFrame(found)


def layer_effects(rows: pd.DataFrame, metric: str = "auc") -> pd.DataFrame:
    """What each exchange layer adds, of the study ``where``: columns kind, layer, task, method, mean, low, high, pairs.

    Kind 'alone' is that layer alone minus no layer; 'beside the others' is all layers minus all but that one.
    """
    found = []
    for layer in sorted({int(n) for n in rows["method"].str.extract(r"layer (\d+)")[0].dropna()}):
        pairs = {"alone": (f"layer {layer} alone", "no layer"),
                 "beside the others": ("all layers", f"without layer {layer}")}
        for kind, (method, reference) in pairs.items():
            if {method, reference} <= set(rows["method"]):
                table = studies.differences(rows[rows["method"].isin([method, reference])], metric, reference)
                found.append(table.assign(kind=kind, layer=layer))
    return pd.concat(found, ignore_index=True)


def doses(rows: pd.DataFrame, metric: str = "auc") -> pd.DataFrame:
    """The study ``dose`` as three differences: columns kind, relatedness, share, task, mean, low, high, pairs.

    Kind 'gain' is cross-branch minus independent; 'null' the same with the *other* task's labels permuted, so that
    there is nothing to learn from it; 'excess' is gain minus null.
    """
    tasks, found = list(rows["task"].drop_duplicates()), []
    for task in tasks:
        (other,) = [name for name in tasks if name != task]
        mine, null = rows[rows["task"] == task], f"{other} permuted"
        for kind, method, reference in (("gain", "cross_branch", "independent"), ("null", null, "independent"),
                                        ("excess", "cross_branch", null)):
            both = mine[mine["method"].isin([method, reference])]
            found.append(studies.differences(both, metric, reference).assign(kind=kind))
    table = pd.concat(found, ignore_index=True)
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
    figure.legend(known.values(), known.keys(), loc="outside upper center", ncols=4, fontsize=10)


def ladder(
    table: pd.DataFrame, order: dict[str, str], xlabel: str, ylabel: str, joined: Sequence[str] = (),
) -> Figure:
    """Differences to a reference over steps that have an order, all tasks in one picture.

    Args:
        table: as ``studies.differences`` returns it, of one condition.
        order: the contenders from left to right, with the words below each.
        joined: those that a line joins; the others stand alone.
    """
    figure, (ax,) = panels(1, width=2.2 + 0.75 * len(order), height=3.4)
    tasks, line = list(table["task"].drop_duplicates()), np.isin(list(order), list(joined))
    for number, task in enumerate(tasks):
        mine = table[table["task"] == task].set_index("method").reindex(list(order))
        at = np.arange(len(order)) + 0.14 * (number - (len(tasks) - 1) / 2)
        for part, style in ((line, "-"), (~line, "none")):
            if part.any():
                _marks(ax, at[part], mine[part], task_colour(task), ls=style, label=task)
    ax.axhline(0, color=NEUTRAL, ls=":")
    ax.set_xticks(range(len(order)), list(order.values()))
    ax.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.5, len(order) - 0.5))
    ax.grid(axis="x", visible=False)
    _legend(figure, [ax])
    return figure


def layer_ladder(effects: pd.DataFrame, metric: str = "auc") -> Figure:
    """What each exchange layer adds, alone and beside the others.

    Args:
        effects: as ``layer_effects`` returns them.
    """
    kinds = list(effects["kind"].drop_duplicates())
    figure, axes = panels(len(kinds), width=4.2, height=3.4, sharey=True)
    for ax, kind in zip(axes, kinds, strict=True):
        for number, (task, mine) in enumerate(effects[effects["kind"] == kind].groupby("task", sort=False)):
            _marks(ax, mine["layer"].to_numpy() + 0.12 * number - 0.06, mine, task_colour(task), label=task)
        ax.axhline(0, color=NEUTRAL, ls=":")
        ax.set(title=f"a layer {kind}", xlabel="cross-branch layer", xticks=sorted(effects["layer"].unique()))
    axes[0].set_ylabel(f"what it adds to the {endpoint_name(metric)}")
    _legend(figure, axes)
    return figure


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
        ax.set_xlabel("what the labels have in common (relatedness)")
    _legend(figure, axes.ravel())
    return figure


CONTENDER_MARKS = {"cross_branch": {"marker": "D"}, "shared_bottom": {"marker": "s", "mfc": "white"}}


def scarce(table: pd.DataFrame, metric: str = "auc") -> Figure:
    """Few labels for one task: what joint training gains there (left), and in the task that keeps its labels (right).

    Args:
        table: ``studies.differences`` of the study ``partial`` to independent networks.
    """
    lacking = table["condition"].str.extract(r"of the (\w+) labels")[0]  # NaN: each image has one task's label
    poor = lacking.isna() | (lacking == table["task"])
    names = table["condition"].where(lacking.notna(), table["condition"] + ": " + table["task"])
    order = list(dict.fromkeys(names))
    figure, axes = panels(2, width=5.2, height=1.4 + 0.42 * len(order), sharey=True, sharex=True)
    for ax, there, title in zip(axes, (poor, ~poor), ("the task that lacks labels", "the other task"), strict=True):
        for (method, task), mine in table[there].groupby(["method", "task"], sort=False):
            shift = 0.14 if method == "cross_branch" else -0.14
            at = np.array([order.index(name) for name in names[mine.index]]) + shift
            how = {"marker": "o"} | CONTENDER_MARKS.get(method, {})
            _marks(ax, at, mine, task_colour(task), upright=False, ls="none", label=f"{method}, {task}", **how)
        ax.axvline(0, color=NEUTRAL, ls=":")
        ax.set(title=title, xlabel=f"{endpoint_name(metric)}, minus independent's", ylim=(len(order) - 0.5, -0.5))
        ax.set_yticks(range(len(order)), order)
    _legend(figure, axes)
    return figure


def soft_against_hard(rows: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    """The study ``soft``: vote shares as targets minus the consensus as target, a panel an endpoint.

    Args:
        rows: as ``studies.selected`` returns them.
    """
    swapped = rows.assign(method=rows["condition"], condition=rows["contender"])
    order = list(swapped["condition"].drop_duplicates())
    figure, axes = panels(len(metrics), width=3.6, height=1.9 + 0.3 * len(order), sharey=True)
    for ax, metric in zip(axes, metrics, strict=True):
        table = studies.differences(swapped.dropna(subset=metric), metric, "hard consensus")
        for number, (task, mine) in enumerate(table.groupby("task", sort=False)):
            at = np.array([order.index(name) for name in mine["condition"]]) + 0.24 * number - 0.12
            _marks(ax, at, mine, task_colour(task), upright=False, ls="none", label=task)
        ax.axvline(0, color=NEUTRAL, ls=":")
        better = "left" if metric in LOWER_IS_BETTER else "right"
        ax.set(title=f"{endpoint_name(metric)} ({better}: better)", xlabel="soft minus hard",
               ylim=(len(order) - 0.5, -0.5))
        ax.set_yticks(range(len(order)), order)
    _legend(figure, axes)
    return figure


def recipe(told: dict) -> Figure:
    """results/recipe.json: the recommended cross-branch recipe minus each baseline, a panel a task."""
    rows = [{"task": task, "name": f"{setting}: minus {baseline}", **values} for setting, tasks in told.items()
            for task, baselines in tasks.items() for baseline, values in baselines.items()]
    table = pd.DataFrame(rows)
    order, tasks = list(dict.fromkeys(table["name"])), list(dict.fromkeys(table["task"]))
    figure, axes = panels(len(tasks), width=4.8, height=1.2 + 0.4 * len(order), sharey=True, sharex=True)
    for ax, task in zip(axes, tasks, strict=True):
        mine = table[table["task"] == task]
        at = [order.index(name) for name in mine["name"]]
        _marks(ax, at, mine, task_colour(task), upright=False, ls="none")
        ax.axvline(0, color=NEUTRAL, ls=":")
        ax.set(title=task, xlabel=f"{endpoint_name(mine['endpoint'].iloc[0])}: right of zero is ahead",
               ylim=(len(order) - 0.5, -0.5))
        ax.set_yticks(range(len(order)), order)
    return figure


# --- published sets


def class_orders(orders: dict[str, Sequence[str]]) -> Figure:
    """The same classes in other orders: a line a class, from its number in one set to that in the next."""
    figure, (ax,) = panels(1, width=2.6 * len(orders), height=3.6)
    names = list(orders)
    for name in orders[names[0]]:
        places = [list(orders[one]).index(name) for one in names]
        ax.plot(range(len(names)), places, "-o", lw=2, color=NEUTRAL if len(set(places)) == 1 else MORE_COLOURS[1])
        for x, y in enumerate(places):
            ax.text(x, y - 0.12, f"{y} {name}", ha="center", va="bottom", fontsize=9)
    ax.set_xticks(range(len(names)), names)
    ax.set(ylabel="number in the files", ylim=(len(orders[names[0]]) - 0.5, -0.8), xlim=(-0.4, len(names) - 0.6))
    ax.grid(visible=False)
    return figure


def cost_bars(methods: dict[str, dict], speed: float) -> Figure:
    """GPU hours and memory of one run of each method, as ``iae_protocol.expected`` counts them.

    Args:
        speed: the assumed operations a second.
    """
    figure, axes = panels(2, width=4.4, height=1.1 + 0.35 * len(methods), sharey=True)
    labels = {"gpu_hours": f"hours at {speed / 1e12:.0f} tera-operations a second", "gpu_memory_gb": "GB of GPU memory"}
    for ax, (key, label) in zip(axes, labels.items(), strict=True):
        bars = ax.barh(range(len(methods)), [cost[key] for cost in methods.values()], 0.6, color=NEUTRAL)
        ax.bar_label(bars, padding=3, fontsize=9)
        ax.set(xlabel=label, ylim=(len(methods) - 0.5, -0.5))
        ax.margins(x=0.15)
        ax.set_yticks(range(len(methods)), list(methods))
        ax.grid(axis="y", visible=False)
    return figure
