"""The pictures of the three neighbouring systems: each study's result at a glance."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from aesthemo_lib.evaluation.comparison import mean_interval
from aesthemo_lib.plots.runs import panels
from aesthemo_lib.plots.style import MORE_COLOURS, NEUTRAL

GAINS = {"both": ("pixels, colour and texture", "o-", MORE_COLOURS[0]),
         "both_shuffled": ("pixels, another picture's colour and texture", "s--", NEUTRAL),
         "descriptors": ("colour and texture only", "^:", MORE_COLOURS[1])}
SHEETS = {"separate": "separate heads", "mlp": "MLP of the same size", "cross_branch": "cross-branch",
          "bilstm": "BiLSTM", "answers": "LSTM, fed answers", "chain": "classifier chain"}
VERSIONS = {"untouched": "as the first camera took it",
            "lookup": "lookup table", "lookup_sharpened": "table, sharpened",
            "matrix": "3x3 matrix", "matrix_sharpened": "matrix, sharpened", "unpaired": "translated, without pairs",
            "paired": "translated, with pairs (nobody has them)", "in_style": "the second camera's own"}


def gains(rows: pd.DataFrame) -> Figure:
    """What colour and texture add to a search on drawn scenes, by dose and by number of labels.

    Args:
        rows: of ``results/studies/retrieval.csv``.
    """
    drawn = rows[rows["source"] == "drawn"].astype({"dose": float})
    figure, axes = panels(2, width=4.6, height=3.9, sharey=True)
    for ax, column, part, label in (
        (axes[0], "dose", drawn[drawn["labels"] == 200], "dose: how much of the emotion\ncolour shows (200 labels)"),
        (axes[1], "labels", drawn[drawn["dose"] == 1], "labels (dose 1)"),
    ):
        ax.axhline(0, color=NEUTRAL, linewidth=1)
        for name, (words, line, colour) in GAINS.items():
            wide = part.pivot(index=[column, "collection"], columns="contender", values="map")
            d = (wide[name] - wide["pixels"]).groupby(column)
            mean, low, high = np.array([mean_interval(values.to_numpy()) for _, values in d]).T
            ax.errorbar(list(d.groups), mean, [mean - low, high - mean], fmt=line, color=colour, label=words)
        ax.set_xlabel(label)
        ax.set_xticks(sorted(part[column].unique()))
    axes[0].set_ylabel("mAP minus that of the pixels only")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def broken_rules(rows: pd.DataFrame) -> Figure:
    """How many answer sheets break a rule, and how many are right in all 18 answers.

    Args:
        rows: of ``results/studies/task_sequence.csv``.
    """
    ruled = rows[rows["source"] == "ruled"]
    kinds = {"none": "no motif or no place", "two": "two motifs or two places", "mood": "a motif of the other mood",
             "whole_sheet": "right in all 18 answers"}
    figure, axes = panels(2, height=2.7, rows=2, sharey=True)
    for ax, (measure, title) in zip(axes.ravel(), kinds.items(), strict=True):
        wide = ruled.pivot(index="collection", columns="contender", values=measure)[list(SHEETS)]
        mean, low, high = np.array([mean_interval(wide[name].to_numpy()) for name in SHEETS]).T
        colour, low = MORE_COLOURS[0 if measure == "whole_sheet" else 1], np.maximum(low, 0)
        ax.barh(range(len(SHEETS)), 100 * mean, xerr=100 * np.array([mean - low, high - mean]), color=colour)
        ax.set(title=title, xlabel="% of the sheets", yticks=range(len(SHEETS)), yticklabels=SHEETS.values())
        ax.set_xlim(0, max(104 * high.max(), 10))
    axes[0, 0].invert_yaxis()
    return figure


def recovered(rows: pd.DataFrame) -> Figure:
    """How near each version of the first camera's photographs comes to the truth, and what the classifiers reach.

    Args:
        rows: of ``results/studies/style_transfer.csv``.
    """
    titles = {"psnr": "nearness to the truth\n(PSNR, dB)", "auc_aesthetics": "AUC, aesthetics",
              "auc_emotion": "AUC, emotion"}
    shown = [name for name in VERSIONS if name in set(rows["contender"])]
    figure, axes = panels(3, width=3.05, height=3.6, sharey=True)
    for ax, (measure, title) in zip(axes, titles.items(), strict=True):
        wide = rows.pivot(index="collection", columns="contender", values=measure)
        mean, low, high = np.array([mean_interval(wide[name].to_numpy()) for name in shown]).T
        ax.errorbar(mean, range(len(shown)), xerr=[mean - low, high - mean], fmt="o", color=MORE_COLOURS[0])
        line = wide["best_table"] if measure == "psnr" else wide[["untouched", "in_style"]].mean(axis=1)
        ax.axvline(line.mean(), color=NEUTRAL, ls=":")
        ax.set(title=title, yticks=range(len(shown)), yticklabels=[VERSIONS[name] for name in shown],
               xlabel="dotted: no table\nis nearer" if measure == "psnr" else "dotted: half\nof the cost")
        if measure != "psnr":
            ax.set_xlim(max(0.5, np.nanmin(low) - 0.01), 1)
    axes[0].invert_yaxis()
    return figure
