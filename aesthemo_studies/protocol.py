"""Studies: which contenders, on which splits, tuned how. ``results/protocol.json`` says so, and when it was written.

A study is a grid with a cell for each condition, contender, split and seed; a cell trains every candidate of the
hyperparameter search (``comparisons``). ``selected`` keeps the candidate with the best score on the *validation*
images: no test image ever takes part in a choice.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from aesthemo_lib.data.table import TEST_FOLDS
from aesthemo_lib.evaluation.comparison import paired_differences
from aesthemo_lib.files import project_folder, read_json
from aesthemo_lib.training.config import Config

from . import gradient_aggregation  # noqa: F401  (so that a study can name them)
from .cells import short

FORMS = ("first", "long")
"""The first form fits two hours on two cores; the long one has teach's own image size and epochs, and more splits."""
PLACE = ("study", "form", "condition", "contender", "candidate", "split", "seed", "task")
"""The columns that say where a row belongs; all others are measured."""
OVERLAP = 1 / (TEST_FOLDS - 1)
"""A test set's size over its training set's, see ``evaluation.mean_interval``."""


@dataclass(frozen=True)
class Grid:
    """One study of the protocol, in one of its forms.

    Args:
        name: its name in ``results/protocol.json``.
        form: one of ``FORMS``.
        spec: its entry in the protocol.
    """

    name: str
    form: str
    spec: dict

    @cached_property
    def splits(self) -> int:
        """How many splits each contender is trained on."""
        return self.spec["splits"][self.form]

    def conditions(self) -> list[tuple[str, dict]]:
        """The (name, changes) that all contenders are compared under: one without a name where nothing varies."""
        return [(name, changes) for name, changes in self.spec.get("conditions", {"": {}}).items()]

    def candidates(self) -> list[tuple[str, dict]]:
        """The (name, settings) that each contender is tuned over."""
        grid = self.spec.get("tuning", {})
        choices = itertools.product(*([(key, value) for value in values] for key, values in grid.items()))
        return [(" ".join(f"{key}={value}" for key, value in choice), dict(choice)) for choice in choices]

    def config(self, cell: Cell, settings: dict) -> Config:
        """What one candidate of a cell trains: the study's base, the condition, the contender, the candidate."""
        whole: dict = {"data": self.spec["data"], "preset": self.spec.get("preset", "teach")}
        base = {"settings": self.spec.get("settings", {}).get(self.form, {})}
        contender = dict(self.spec["contenders"][cell.contender])
        for part in (base, dict(self.conditions())[cell.condition], contender, {"settings": settings}):
            for key, value in part.items():
                whole[key] = {**whole.get(key, {}), **value} if isinstance(value, dict) else value
        return Config(**whole, split=cell.split, seed=cell.seed)


@dataclass(frozen=True)
class Cell:
    """One contender under one condition on one split."""

    condition: str
    contender: str
    split: int
    seed: int


def protocol() -> dict:
    """The protocol as committed, ``results/protocol.json``."""
    return read_json(project_folder() / "results" / "protocol.json")


def study(name: str, form: str = "first") -> Grid:
    """A study of the protocol.

    Raises:
        ValueError: an unknown name or form; lists what there is.
    """
    known = protocol()["studies"]
    if name not in known:
        raise ValueError(f"unknown study {name!r}; results/protocol.json has {', '.join(known)}")
    if form not in FORMS:
        raise ValueError(f"unknown form {form!r}; choose one of {', '.join(FORMS)}")
    return Grid(name, form, known[name])


def cells(grid: Grid) -> list[Cell]:
    """All cells of a study, whole splits first, so that what is there when it is cut off compares like with like."""
    first, contenders = grid.spec.get("first_split", 0), grid.spec["contenders"]
    return [
        Cell(condition, contender, split, seed)
        for split in range(first, first + grid.splits) for seed in range(grid.spec.get("seeds", 1))
        for condition, _ in grid.conditions() for contender in contenders
    ]


def load(path: Path) -> pd.DataFrame:
    """A table of rows, with empty names read as empty."""
    table = pd.read_csv(path, encoding="utf-8", dtype={"condition": str, "candidate": str})
    return table.fillna({"condition": "", "candidate": ""})


def read(name: str) -> pd.DataFrame:
    """A study's rows as committed; the lines beside ``compare`` are read as 'compare.lines'.

    Raises:
        FileNotFoundError: it has not been run; the message says how to.
    """
    path = project_folder() / "results" / "studies" / f"{name}.csv"
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: this study has not been run; make study STUDY={name}")
    return load(path)


def selected(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each cell the candidate with the best validation loss (in older studies log-loss: against the consensus).

    A joint network is one network: its candidate is best in the mean over its tasks. Independent networks, and what is
    computed for each task apart, choose task by task.

    Args:
        rows: as ``read`` returns them.

    Returns:
        one row a cell and task, with a column ``method`` for ``evaluation.paired_differences``.
    """
    rows = rows[~rows["diverged"].astype(bool)].copy()
    where = ["condition", "contender", "split", "seed"]
    loss = "validation_loss" if "validation_loss" in rows else "validation_log_loss"
    score = rows.groupby([*where, "candidate"], sort=False)[loss].transform("mean")
    apart = rows["contender"].str.startswith("independent")
    rows["_score"] = np.where(apart, rows[loss], score)
    rows["_score"] = rows["_score"].fillna(np.inf)
    best = rows.sort_values("_score", kind="stable").drop_duplicates([*where, "task"]).sort_index()
    return best.drop(columns="_score").assign(method=best["contender"]).reset_index(drop=True)


def over_seeds(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The mean over a split's seeds, which share their photographs and so are one pair: columns as needed for pairs."""
    means = rows.groupby(["condition", "method", "split", "task"], sort=False)[[metric]].mean()
    return means.reset_index().assign(seed=0)


def differences(rows: pd.DataFrame, metric: str, reference: str = "independent") -> pd.DataFrame:
    """Each contender minus the reference on the same splits, with the protocol's interval; by condition.

    Args:
        rows: as ``selected`` returns them.
        metric: a measured column.
        reference: a contender.

    Returns:
        columns condition, task, method, mean, low, high, pairs.
    """
    rows = over_seeds(rows, metric)
    parts = [
        paired_differences(part, metric, reference, OVERLAP).assign(condition=condition)
        for condition, part in rows.groupby("condition", sort=False) if reference in set(part["method"])
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(
        columns=["task", "method", "mean", "low", "high", "pairs", "condition"])


def auc_table(rows: pd.DataFrame, tasks: tuple[str, ...], reference: str = "independent") -> str:
    """Each contender's mean AUC by task, and what it is ahead of the reference by, as Markdown.

    Args:
        rows: as ``selected`` returns them, of one condition.
    """
    ahead = differences(rows, "auc", reference).set_index(["method", "task"])
    lines = ["| contender | " + " | ".join(f"AUC {task} | minus {reference}'s" for task in tasks) + " |",
             "|---" * (1 + 2 * len(tasks)) + "|"]
    for contender, of in rows.groupby("contender", sort=False):
        cells = []
        for task in tasks:
            cells.append(short(of.loc[of["task"] == task, "auc"].mean()))
            one = None if contender == reference else ahead.loc[(contender, task)]
            cells.append("" if one is None else f"{short(one['mean'])} ({short(one['low'])}, {short(one['high'])})")
        lines.append(f"| `{contender}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def against_lowest(rows: pd.DataFrame) -> pd.DataFrame:
    """Settings on the same splits, each against the one whose validation loss (the mean of the tasks) is lowest.

    Args:
        rows: of one contender, its conditions the settings, as ``read`` returns them.

    Returns:
        by setting: loss, seconds of a training, and mean, low and high of what its loss lies above the lowest's
        (NaN for itself).
    """
    losses = rows.assign(method=rows["condition"]).groupby(["method", "split", "seed"], sort=False)
    runs = losses[["validation_loss", "seconds"]].mean().reset_index().assign(task="all")
    table = runs.groupby("method", sort=False)[["validation_loss", "seconds"]].mean()
    above = paired_differences(runs, "validation_loss", table["validation_loss"].idxmin(), OVERLAP)
    table = table.rename(columns={"validation_loss": "loss"})
    return table.join(above.set_index("method")[["mean", "low", "high"]])


def settings_table(rows: pd.DataFrame, tasks: tuple[str, ...]) -> str:
    """``against_lowest`` with the test themes' AUC, which decides nothing, as Markdown."""
    lines = ["| setting | validation loss | above the lowest | " + " | ".join(f"AUC {task}" for task in tasks) +
             " | seconds |", "|---" * (4 + len(tasks)) + "|"]
    auc = rows.pivot_table(index="condition", columns="task", values="auc")
    for name, one in against_lowest(rows).iterrows():
        apart = "" if np.isnan(one["mean"]) else f"{short(one['mean'])} ({short(one['low'])}, {short(one['high'])})"
        lines.append(f"| {name} | {short(one['loss'])} | {apart} | "
                     f"{' | '.join(short(auc.loc[name, task]) for task in tasks)} | {one['seconds']:.0f} |")
    return "\n".join(lines)


def recipe(rows: pd.DataFrame, method: str = "cross_branch", endpoint: str = "auc") -> dict:
    """What ``results/recipe.json`` holds: a method minus each other contender, on the same splits, each tuned alike.

    Args:
        rows: of a study whose conditions are the settings, as ``read`` returns them.
        method: the contender that the recipe is for.
        endpoint: a measured column.

    Returns:
        setting -> task -> baseline -> endpoint, mean, low, high (the protocol's interval) and splits.
    """
    table: dict = {}
    chosen = selected(rows)
    for baseline in (name for name in chosen["method"].unique() if name != method):
        pair = chosen[chosen["method"].isin([method, baseline])]
        for one in differences(pair, endpoint, baseline).itertuples():
            table.setdefault(one.condition, {}).setdefault(one.task, {})[baseline] = {
                "endpoint": endpoint, **{end: round(float(getattr(one, end)), 5) for end in ("mean", "low", "high")},
                "splits": int(one.pairs)}
    return table


def smallest_effect(deviation: float, splits: int, power: float = 0.8, level: float = 0.95) -> float:
    r"""The difference that a study finds with this power: :math:`(t_{.975} + t_{.8})\, s \sqrt{1/n + 1/3}`.

    Args:
        spread: s, the standard deviation of the paired differences between splits.
        splits: n.
    """
    from scipy import stats

    t = stats.t.ppf((1 + level) / 2, splits - 1) + stats.t.ppf(power, splits - 1)
    return float(t * deviation * np.sqrt(1 / splits + OVERLAP))
