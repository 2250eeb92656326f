"""What the study of full labels says: planned comparisons, the table for ``results/README.md``, and the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aesthemo_lib.evaluation.comparison import mean_interval
from aesthemo_lib.files import write_table
from aesthemo_lib.plots.runs import panels
from aesthemo_lib.plots.style import MORE_COLOURS, NEUTRAL, save

from ..cells import Study, short
from ..contrasts import contrasts
from ..few_labels.verdicts import detectable
from .study import JOINT, PROTOCOL, TASKS, protocol

APART, PROBE = "independent", "linear_probe"
CONTENDERS = (PROBE, "late_fusion", *JOINT)
PAIRS = (*((name, APART) for name in CONTENDERS), *((name, PROBE) for name in (APART, "late_fusion", *JOINT)),
         ("cross_branch.diagonal", "cross_branch.own_twice"), ("cross_branch.diagonal", "shared_bottom"))
CONTROLS = ("copies", "permuted")
SHOWN = -0.035  #: The picture's left edge; a mean beyond it is written there
GROWTH = "1 minus 0"
"""The setting of the difference between a contender at relatedness 1 and at 0, collection by collection."""
TABLES = {name: PROTOCOL.with_suffix(f".{name}") for name in ("csv", "verdicts.csv", "png")}


def read(path: Path = TABLES["csv"]) -> pd.DataFrame:
    """The kept rows."""
    return pd.read_csv(path, encoding="utf-8", dtype={"setting": str}, keep_default_na=False)


def verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a comparison and task, Holm's family being a source's; controls are a family of their own.

    Args:
        rows: as ``read`` returns them.
    """
    scenes = rows[rows["source"] == "scenes"].set_index(["replicate", "contender", "task", "setting"])["auc"].unstack()
    rows = rows.assign(family=np.where(rows["setting"].isin(CONTROLS), "controls", rows["source"]))
    if {"0", "1"} <= set(scenes):
        grown = (scenes["1"] - scenes["0"]).rename("auc").reset_index().assign(family="scenes", setting=GROWTH)
        rows = pd.concat([rows, grown], ignore_index=True)
    found = []
    for family, part in rows.groupby("family", sort=False):
        overlap = protocol()["oasis"]["overlap"] if family == "oasis" else 0.0
        found.append(compared(part, PAIRS, overlap))
        if overlap:  # a t interval over overlapping splits is wider by this
            found[-1]["detectable"] *= np.sqrt(1 + overlap * found[-1]["n"])
    return pd.concat(found, ignore_index=True)


def compared(part: pd.DataFrame, pairs: Sequence[tuple[str, str]], overlap: float = 0.0) -> pd.DataFrame:
    """``contrasts`` of the AUC within one family of comparisons, with the difference that each would have found."""
    table = contrasts(part, pairs, ["auc"], ["family", "setting", "task"], "replicate", overlap)
    table.insert(len(table.columns) - 1, "detectable", [detectable(_differences(part, row)) for row in
                                                        table.itertuples()])
    return table.drop(columns="measure")


def _differences(rows: pd.DataFrame, row) -> np.ndarray:
    here = rows[(rows["setting"] == row.setting) & (rows["task"] == row.task)]
    auc = here.pivot(index="replicate", columns="contender", values="auc")
    return (auc[row.contender] - auc[row.reference]).dropna().to_numpy()


def verdict(row) -> str:
    """A comparison's verdict in words, by Holm's p."""
    return "no detectable difference" if row.p_holm >= 0.05 else "ahead" if row.mean > 0 else "behind"


def health(rows: pd.DataFrame) -> pd.DataFrame:
    """By source, setting and task: the probe's AUC, the worst network's, the highest training loss, and C at an edge.

    A network that learnt nothing has a training loss of log 2 = .693.
    """
    networks = rows[rows["contender"].isin([APART, *JOINT])]
    edges = networks["strength"].isin([protocol()["strengths"]["networks"][place] for place in (0, -1)])
    by = ["source", "setting", "task"]
    parts = networks.assign(edge=edges).groupby(by, sort=False)
    return pd.DataFrame({
        "probe": rows[rows["contender"] == PROBE].groupby(by, sort=False)["auc"].mean(),
        "worst network": parts["auc"].min(), "training loss": parts["training_loss"].max(), "C at an edge":
        parts["edge"].mean()}).reset_index()


def markdown(rows: pd.DataFrame, table: pd.DataFrame, family: str, settings: Sequence[str],
             contenders: Sequence[str] = CONTENDERS, apart: str = APART) -> str:
    """The AUC minus that of ``apart``, by setting and task, as a Markdown table; bold where Holm's p < .05."""
    heads = [f"{setting} {task}".strip() for setting in settings for task in TASKS]
    lines = ["| contender | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    source = family if family in set(rows["source"]) else "para"
    means = rows[rows["source"] == source].groupby(["setting", "contender", "task"])["auc"].mean()
    lines.append(f"| `{apart}`, AUC | " + " | ".join(
        short(means[setting, apart, task]) for setting in settings for task in TASKS) + " |")
    at = table[(table["family"] == family) & (table["reference"] == apart)].set_index(["contender", "setting", "task"])
    for name in contenders:
        cells = []
        for setting in settings:
            for task in TASKS:
                if (name, setting, task) not in at.index:
                    cells.append("")
                    continue
                row = at.loc[(name, setting, task)]
                text = f"{short(row['mean'])} ({short(row['low'])}, {short(row['high'])})"
                cells.append(f"**{text}**" if row["p_holm"] < 0.05 else text)
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def picture(rows: pd.DataFrame) -> Figure:
    """Each contender's AUC minus the independent networks': by training photographs of PARA, by what scenes share, and
    on OASIS, where the splits overlap."""
    shown = {"para": ({"500": "500", "2000": "2,000", "5000": "5,000"}, "PARA, by training photographs"),
             "scenes": ({"0": "0", "0.5": "0.5", "1": "1"}, "drawn scenes, by relatedness"),
             "oasis": ({"": "all 814"}, "OASIS")}
    shown = {source: of for source, of in shown.items() if source in set(rows["source"])}
    figure, axes = panels(2, width=4.6, height=4.3, rows=len(shown), sharey=True)
    for line, (source, (settings, words)) in zip(axes, shown.items(), strict=True):
        for ax, task in zip(line, TASKS, strict=True):
            overlap = protocol()["oasis"]["overlap"] if source == "oasis" else 0.0
            here = rows[(rows["source"] == source) & (rows["task"] == task)]
            draw_differences(ax, here, settings, CONTENDERS, overlap)
            ax.set_title(f"{task}\n{words}")
        line[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    axes[0, 0].invert_yaxis()
    return figure


def draw_differences(ax: Axes, rows: pd.DataFrame, settings: Mapping[str, str], contenders: Sequence[str],
                     overlap: float = 0.0) -> None:
    """One task's AUC minus that of independent networks, a line a contender, a mark and an interval a setting.

    Args:
        rows: of one source and task.
        settings: what each is called.
        overlap: see ``mean_interval``.
    """
    ax.axvline(0, color=NEUTRAL, linewidth=1)
    for number, (setting, label) in enumerate(settings.items()):
        auc = rows[rows["setting"] == setting].pivot(index="replicate", columns="contender", values="auc")
        there = {place: auc[c] for place, c in enumerate(contenders) if c in auc}
        mean, low, high = np.array([mean_interval((of - auc[APART]).to_numpy(), overlap=overlap)
                                    for of in there.values()]).T
        y = np.array(list(there)) + 0.22 * (number - 1)
        ax.errorbar(np.where(mean < SHOWN, np.nan, mean), y, xerr=[mean - low, high - mean], fmt="osDv"[number],
                    markersize=4, linewidth=1.2, color=MORE_COLOURS[number],
                    label=f"{label} ({len(auc)} {'splits' if overlap else 'sets'})")
        for at, value in zip(y[mean < SHOWN], mean[mean < SHOWN], strict=True):
            ax.text(SHOWN, at, f" \u2190 {value:.2f}", va="center", color=MORE_COLOURS[number])
    ax.set(yticks=range(len(contenders)), yticklabels=contenders, xlabel="AUC minus that of\nindependent networks")
    ax.set_xlim(SHOWN if ax.texts else max(SHOWN, ax.get_xlim()[0]), None)


def keep(made: Study, folder: Path) -> list[Path]:
    """Write the rows, the verdicts and the picture; returns their paths.

    A setting enters when all its cells are finished: a mean over some would be of another collection than the next's.
    """
    missing = {(c.source, c.setting) for name, c in made.cells.items() if not made.path(name).exists()}
    paths = [folder / path.name for path in TABLES.values()]
    write_table(paths[0], made.gather(lambda cell: (cell.source, cell.setting) not in missing), "%.5f")
    rows = read(paths[0])
    write_table(paths[1], verdicts(rows), "%.5f")
    if {"para", "scenes"} <= set(rows["source"]):
        save(picture(rows), paths[2])
    return [path for path in paths if path.exists()]
