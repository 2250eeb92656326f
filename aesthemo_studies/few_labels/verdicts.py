"""What the draws say: paired differences with intervals, verdicts by the protocol's rules, and the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from aesthemo_lib.evaluation.comparison import mean_interval
from aesthemo_lib.plots.runs import panels
from aesthemo_lib.plots.style import NEUTRAL

from ..cells import STUDIES, read_protocol, short
from .material import TASKS

DRAWS, CONTROLS, VERDICTS = (STUDIES / f"few_labels{part}.csv" for part in ("", ".controls", ".verdicts"))
PROBE, ORACLE, ALONE, TRUNK = "linear_probe", "oracle", "independent", "shared_bottom"
IN_TURN = "cross_branch.answers_in_turn"
MAPS = "cross_branch.maps_in_turn"
JOINT = (TRUNK, "cross_stitch", "cross_branch.diagonal", "cross_branch.answers", IN_TURN, "late_fusion")
SHOWN = {
    ORACLE: (NEUTRAL, ":", "o", "what is there (answer learnt from 26,000 labels)"),
    IN_TURN: ("#D55E00", "-", "s", "exchange of answers, learnt in turn"),
    "late_fusion": ("#E69F00", "-", "D", "late fusion of two probes"),
    "cross_branch.answers": ("#CC79A7", "-", "^", "exchange of answers, learnt jointly"),
    TRUNK: ("#56B4E9", "--", "v", "shared trunk"),
    "cross_branch.diagonal": ("#009E73", "--", "P", "cross-branch (hidden maps)"),
    "cross_stitch": ("#0072B2", "--", "X", "cross-stitch (hidden maps)"),
    ALONE: ("#000000", "-", ".", "independent"),
}
"""Colour, line, marker and label of each contender in the picture; all are compared with the frozen probe."""


def contrasts(draws: pd.DataFrame, column: str = "auc_few") -> dict[tuple[str, str, int, str, str], np.ndarray]:
    """The paired differences, one number a replicate, by (question, direction, labels, contender, reference).

    'difference' is contender minus reference. 'half' is the contender's gain over the probe minus half of the
    oracle's: above 0, at least half of what is there is carried.
    """
    differences = {}
    for (direction, labels), rows in draws.groupby(["direction", "labels"], sort=False):
        auc = rows.pivot(index="replicate", columns="contender", values=column)
        pairs = [(c, r) for c in JOINT for r in (ALONE, TRUNK, PROBE) if c != r] + [(ALONE, PROBE), (ORACLE, PROBE)]
        pairs += [(c, "cross_branch.diagonal") for c in auc if "channels" in c]
        pairs += [(MAPS, ALONE), (MAPS, PROBE), (MAPS, IN_TURN)]
        for contender, reference in pairs:
            if {contender, reference} <= set(auc):
                difference = (auc[contender] - auc[reference]).to_numpy()
                differences["difference", direction, labels, contender, reference] = difference
        if ORACLE in auc:
            gains = auc.sub(auc[PROBE], axis=0)
            for c in gains.columns.intersection([*JOINT, MAPS]):
                differences["half", direction, labels, c, ORACLE] = (gains[c] - gains[ORACLE] / 2).to_numpy()
    return differences


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's (1979) adjusted p values of a family of tests."""
    order = np.argsort(p)
    adjusted = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted[np.argsort(order)]


def detectable(differences: np.ndarray, power: float = 0.8) -> float:
    """The difference that so many disjoint replicates find with this power, from their scatter."""
    n = len(differences)
    t = stats.t.ppf(0.975, n - 1) + stats.t.ppf(power, n - 1)
    return float(t * np.std(differences, ddof=1) / np.sqrt(n))


def verdicts(draws: pd.DataFrame, main: int | None = None) -> pd.DataFrame:
    """A row a contrast: mean, interval, sign count, p, Holm's p, the smallest detectable difference, and the verdict.

    Holm's family is every contrast at the main number of labels; elsewhere the interval decides.

    Args:
        draws: with the columns of ``results/studies/few_labels.csv``.
        main: the main number of labels, by default the protocol's.
    """
    main, differences, rows = main or read_protocol("few_labels")["main"], contrasts(draws), []
    for (question, direction, labels, contender, reference), d in differences.items():
        mean, low, high = mean_interval(d)
        rows.append({
            "question": question, "direction": direction, "labels": labels, "contender": contender,
            "reference": reference, "mean": mean, "low": low, "high": high, "above": int((d > 0).sum()),
            "replicates": len(d), "p": float(stats.ttest_1samp(d, 0).pvalue), "detectable": detectable(d),
            "share": _share(differences, direction, labels, contender) if question == "half" else np.nan,
        })
    table = pd.DataFrame(rows)
    family = table["labels"] == main
    table.insert(11, "p_holm", np.nan)
    table.loc[family, "p_holm"] = holm(table.loc[family, "p"].to_numpy())
    seen = np.where(family, table["p_holm"] < 0.05, table["p"] < 0.05)
    headroom = {at: mean_interval(differences["difference", *at, ORACLE, PROBE])[1] > 0
                for at in {(row.direction, row.labels) for row in table.itertuples()}
                if ("difference", *at, ORACLE, PROBE) in differences}
    words = {"difference": ("ahead", "behind", "no detectable difference"),
             "half": ("at least half", "less than half", "undecided")}
    table["verdict"] = [
        "uninformative: nothing to gain" if row.question == "half" and not headroom[row.direction, row.labels]
        else words[row.question][2 if not there else 0 if row.mean > 0 else 1]
        for row, there in zip(table.itertuples(), seen, strict=True)]
    return table


def _share(differences: dict, direction: str, labels: int, contender: str) -> float:
    """The contender's gain over the probe, as a share of the oracle's."""
    gain, whole = (differences["difference", direction, labels, c, PROBE].mean() for c in (contender, ORACLE))
    return float(gain / whole)


def summary(draws: pd.DataFrame, table: pd.DataFrame, main: int) -> str:
    """A Markdown table for the main number of labels: AUC, gain over the probe, verdicts, by direction."""
    lines = ["| contender | " + " | ".join(f"few labels of {d}: AUC | gain over the probe | of what is there | ahead of"
                                           for d in TASKS) + " |", "|---" * 9 + "|"]
    means = draws[draws["labels"] == main].groupby(["direction", "contender"])["auc_few"].mean()
    at = table[table["labels"] == main].set_index(["question", "direction", "contender", "reference"])
    for name in (PROBE, ALONE, TRUNK, "cross_branch.diagonal", "cross_branch.answers", IN_TURN,
                 "late_fusion", ORACLE):
        cells = [f"`{name}`"]
        for direction in TASKS:
            gain = at.loc[("difference", direction, name, PROBE)] if name != PROBE else None
            half = at.loc[("half", direction, name, ORACLE)] if name in JOINT else None
            beaten = [f"`{r}`" for r in (PROBE, ALONE, TRUNK)
                      if ("difference", direction, name, r) in at.index
                      and at.loc[("difference", direction, name, r), "verdict"] == "ahead"]
            cells += [short(means[direction, name]),
                      "" if gain is None else "{} ({}, {}), {} of {}".format(
                          *map(short, gain[["mean", "low", "high"]]), gain["above"], gain["replicates"]),
                      "" if half is None else f"{half['share']:.0%}: {half['verdict']}", ", ".join(beaten)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def read(path: Path = DRAWS) -> pd.DataFrame:
    """The kept draws."""
    return pd.read_csv(path, encoding="utf-8")


def curves(draws: pd.DataFrame) -> Figure:
    """Each contender's gain over the frozen probe against the number of labels, with 95 % intervals over replicates."""
    figure, axes = panels(2, width=4.6, height=4.9, sharey=True)
    for ax, direction in zip(axes, TASKS, strict=True):
        ax.axhline(0, color=NEUTRAL, linewidth=1)
        auc = draws[draws["direction"] == direction].pivot(
            index=["labels", "replicate"], columns="contender", values="auc_few")
        for number, (name, (colour, line, marker, label)) in enumerate(SHOWN.items()):
            gains = (auc[name] - auc[PROBE]).groupby("labels")
            mean, low, high = np.array([mean_interval(d.to_numpy()) for _, d in gains]).T
            x = np.array(sorted(gains.groups)) * 1.025 ** (number - len(SHOWN) / 2)  # side by side
            ax.errorbar(x, mean, [mean - low, high - mean], color=colour, linestyle=line, marker=marker, markersize=5,
                        elinewidth=1, linewidth=1.3, label=label)
        ax.set_title(f"few labels of {direction}")
        ax.set_xscale("log")
        ticks = sorted(draws["labels"].unique())
        ax.set_xticks(ticks, [f"{n:,}" for n in ticks])
        ax.minorticks_off()
        ax.set_xlabel(f"photographs with a label of {direction}")
    axes[0].set_ylabel("AUC minus the frozen probe's")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
