"""Studies: which contenders, on which splits, tuned how. ``results/protocol.json`` says so before any run is made.

A study is a grid of cells, one a condition, contender, split and seed; a cell trains every candidate of the tuning and
leaves its rows in a file, so a study that was cut off goes on with the next cell. ``selected`` keeps the candidate that
did best on the *validation* images: no test image ever takes part in a choice.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from .calibration import endpoints, truth_and_probabilities
from .consistency import contradictions
from .data.table import TEST_FOLDS
from .evaluation import paired_differences, task_metrics
from .files import atomic, digest, project_folder, read_json
from .references import references
from .training.config import Config
from .training.fit import Diverged
from .training.runs import open_data, train

FORMS = ("first", "long")
"""The first form fits two hours on two cores; the long one has teach's own image size and epochs, and more splits."""
PLACE = ("study", "form", "condition", "contender", "candidate", "split", "seed", "task")
"""The columns that say where a row belongs; all others are measured."""
OVERLAP = 1 / (TEST_FOLDS - 1)
"""A test set's size over its training set's, see ``evaluation.mean_interval``."""


@dataclass(frozen=True)
class Study:
    """One study of the protocol, in one of its forms.

    Args:
        name: its name in ``results/protocol.json``.
        form: one of ``FORMS``.
        told: what the protocol says of it.
    """

    name: str
    form: str
    told: dict

    @cached_property
    def splits(self) -> int:
        """How many splits each contender is trained on."""
        return self.told["splits"][self.form]

    def conditions(self) -> list[tuple[str, dict]]:
        """The (name, changes) that all contenders are compared under: one without a name where nothing varies."""
        return [(name, changes) for name, changes in self.told.get("conditions", {"": {}}).items()]

    def candidates(self) -> list[tuple[str, dict]]:
        """The (name, settings) that each contender is tuned over."""
        grid = self.told.get("tuning", {})
        choices = itertools.product(*([(key, value) for value in values] for key, values in grid.items()))
        return [(" ".join(f"{key}={value}" for key, value in choice), dict(choice)) for choice in choices]

    def config(self, cell: Cell, settings: dict) -> Config:
        """What one candidate of a cell trains: the study's base, the condition, the contender, the candidate."""
        whole: dict = {"data": self.told["data"], "preset": self.told.get("preset", "teach")}
        base = {"settings": self.told.get("settings", {}).get(self.form, {})}
        contender = dict(self.told["contenders"][cell.contender])
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

    @property
    def slug(self) -> str:
        """A file name."""
        words = [self.condition, self.contender, f"split{self.split}-seed{self.seed}"]
        return "_".join(re.sub(r"[^\w.]+", "-", word) for word in words if word)


def protocol() -> dict:
    """The protocol as committed, ``results/protocol.json``."""
    return read_json(project_folder() / "results" / "protocol.json")


def study(name: str, form: str = "first") -> Study:
    """A study of the protocol.

    Raises:
        ValueError: an unknown name or form; lists what there is.
    """
    known = protocol()["studies"]
    if name not in known:
        raise ValueError(f"unknown study {name!r}; results/protocol.json has {', '.join(known)}")
    if form not in FORMS:
        raise ValueError(f"unknown form {form!r}; choose one of {', '.join(FORMS)}")
    return Study(name, form, known[name])


def cells(of: Study) -> list[Cell]:
    """All cells of a study, whole splits first, so that what is there when it is cut off compares like with like."""
    return [
        Cell(condition, contender, split, 0)
        for split in range(of.splits) for condition, _ in of.conditions() for contender in of.told["contenders"]
    ]


def rows_file(of: Study, cell: Cell, out: Path) -> Path:
    """Where a cell's rows lie; the name holds a hash of all that decides them, so a changed study starts anew."""
    configs = [of.config(cell, settings) for _, settings in of.candidates()]
    plans = [[_unusual(config), _unusual(config.training_settings())] for config in configs]
    return Path(out) / of.name / "rows" / f"{cell.slug}-{digest(plans)[:10]}.csv"


def _unusual(made) -> dict:
    """A dataclass's values that are not its defaults: a field that it gains later changes no hash."""
    bare = {f.name: f.default_factory() if callable(f.default_factory) else f.default for f in fields(made)}
    return {name: value for name, value in vars(made).items() if value != bare[name]}


def run_cell(of: Study, cell: Cell, out: Path, root: Path | None = None) -> Path:
    """Train every candidate of a cell, unless that is done, and write its rows.

    Args:
        of: the study.
        cell: which cell of it.
        out: the folder of all studies; runs lie below it.
        root: the data's folder; scenes are drawn below ``out`` instead, a folder for each setting.

    Returns:
        the CSV with one row a candidate and task.
    """
    target = rows_file(of, cell, out)
    if target.exists():
        return target
    rows = [row for name, settings in of.candidates()
            for row in _candidate_rows(of, cell, name, settings, Path(out), root)]
    place = {"study": of.name, "form": of.form, "condition": cell.condition, "contender": cell.contender}
    table = pd.DataFrame([{**place, "split": cell.split, "seed": cell.seed, **row} for row in rows])
    with atomic(target) as temporary:
        _write(table, temporary)
    return target


def _candidate_rows(of: Study, cell: Cell, name: str, settings: dict, out: Path, root: Path | None) -> Iterator[dict]:
    config = of.config(cell, settings)
    place = data_place(config, out, root)
    images = open_data(config, place)
    try:
        run = train(config, run_folder(of, cell, name, out), place, redo=True)
    except Diverged:  # a candidate that diverges has lost; the study goes on without it
        yield from ({"candidate": name, "task": task.name, "diverged": True} for task in images.tasks)
        return
    predictions = _predictions(of, cell, name, out)
    measured = endpoints(predictions, images)
    validation = predictions[predictions["part"] == "validation"]
    strange = contradictions(predictions, images.tasks)
    for task in images.tasks:
        chosen_by = task_metrics(*truth_and_probabilities(validation, task), 0)
        yield {
            "candidate": name, "task": task.name, "diverged": False, **measured[task.name],
            "validation_log_loss": chosen_by["log_loss"], "validation_auc": chosen_by["auc"],
            "majority_accuracy": run.metrics[task.name]["majority_accuracy"], "n": run.metrics[task.name]["n"],
            **{f"contradictions_{name}": share for name, share in strange.items()},
            "seconds": run.timing["training_seconds"],
        }


def data_place(config: Config, out: Path, root: Path | None) -> Path | None:
    """The data's folder: scenes of another setting would replace those at the same place, so each has its own."""
    if config.data != "scenes":
        return root
    return Path(out) / "data" / f"scenes-{digest([config.preset, config.data_options])[:8]}"


def run_study(of: Study, out: Path, root: Path | None = None, part: tuple[int, int] = (0, 1)) -> pd.DataFrame:
    """Run the cells that are not done, one after another, and say how far it is.

    Args:
        of: the study.
        out, root: see ``run_cell``.
        part: (i, n): every n-th cell from the i-th on, for several processes at once.

    Returns:
        all rows there are; also kept as they come, see ``gather``.
    """
    todo = cells(of)[part[0]::part[1]]
    begun, made = time.monotonic(), 0
    for number, cell in enumerate(todo, 1):
        fresh = not rows_file(of, cell, out).exists()
        run_cell(of, cell, out, root)
        made += fresh
        left = (time.monotonic() - begun) / max(made, 1) * (len(todo) - number) / 60
        print(f"[{number}/{len(todo)}] {of.name}: {cell.slug}"
              + (f", at most {left:.0f} min left" if fresh else " (was finished)"), flush=True)
    return gather(of, out)


def gather(of: Study, out: Path) -> pd.DataFrame:
    """The rows of all finished cells, in the study's order.

    Raises:
        FileNotFoundError: no cell is finished.
    """
    files = [path for path in (rows_file(of, cell, out) for cell in cells(of)) if path.exists()]
    if not files:
        raise FileNotFoundError(f"{Path(out) / of.name}: no finished cell of study {of.name} ({of.form} form); "
                                f"run it: make study STUDY={of.name}")
    return pd.concat([_load(path) for path in files], ignore_index=True)


def _load(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, encoding="utf-8", dtype={"condition": str, "candidate": str})
    return table.fillna({"condition": "", "candidate": ""})


def lines(of: Study, out: Path, root: Path | None = None) -> pd.DataFrame:
    """What stands beside a study's contenders: frozen features, late fusion, one rater, a new panel of raters.

    Args:
        of: a study without conditions, with the contender 'independent', whose tuned predictions late fusion joins.
        out, root: see ``run_cell``.

    Returns:
        one row a line, split and task, in the columns of ``gather``; of the splits that are finished.
    """
    rows = []
    for cell in cells(of):
        if cell.contender != "independent" or not rows_file(of, cell, out).exists():
            continue
        chosen = selected(_load(rows_file(of, cell, out))).set_index("task")["candidate"]
        tables = {task: _predictions(of, cell, candidate, out) for task, candidate in chosen.items()}
        whole = next(iter(tables.values())).copy()
        for task, table in tables.items():
            mine = [column for column in table if column == task or column.startswith(f"{task}_")]
            whole[mine] = table[mine]
        config = of.config(cell, dict(of.candidates())[chosen.iloc[0]])
        found = references(config, whole, data_place(config, out, root))
        place = {"study": of.name, "form": of.form, "condition": "", "candidate": "", "split": cell.split}
        rows += [{**place, "contender": name.replace("_", " "), "seed": cell.seed, "task": task, **values}
                 for name, by_task in found.items() for task, values in by_task.items()]
    return pd.DataFrame(rows)


def run_folder(of: Study, cell: Cell, candidate: str, out: Path) -> Path:
    """The folder below which ``train`` puts a candidate's run."""
    return Path(out) / of.name / cell.slug / (candidate or "only")


def _predictions(of: Study, cell: Cell, candidate: str, out: Path) -> pd.DataFrame:
    folder = of.config(cell, dict(of.candidates())[candidate]).folder(run_folder(of, cell, candidate, out))
    return pd.read_csv(folder / "predictions.csv", encoding="utf-8", keep_default_na=False)


def _write(table: pd.DataFrame, path: Path) -> None:
    columns = [c for c in PLACE if c in table] + [c for c in table if c not in PLACE]
    table[columns].to_csv(path, index=False, encoding="utf-8", float_format="%.5f", lineterminator="\n")


def keep(of: Study, out: Path, root: Path | None = None, target: Path | None = None) -> Path:
    """Write what is finished to ``results/studies/<name>.csv``, and its lines, where it has some, beside it."""
    target = target or project_folder() / "results" / "studies" / f"{of.name}.csv"
    tables = {target: gather(of, out)}
    if of.told.get("lines"):
        tables[target.with_suffix(".lines.csv")] = lines(of, out, root)
    for path, table in tables.items():
        with atomic(path) as temporary:
            _write(table, temporary)
    return target


def read(name: str) -> pd.DataFrame:
    """A study's rows as committed; the lines beside ``compare`` are read as 'compare.lines'.

    Raises:
        FileNotFoundError: it has not been run; the message says how to.
    """
    path = project_folder() / "results" / "studies" / f"{name}.csv"
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: this study has not been run; make study STUDY={name}")
    return _load(path)


def selected(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each cell the candidate with the best validation log-loss.

    A joint network is one network: its candidate is best in the mean over its tasks. Independent networks, and what is
    computed for each task apart, choose task by task.

    Args:
        rows: as ``read`` returns them.

    Returns:
        one row a cell and task, with a column ``method`` for ``evaluation.paired_differences``.
    """
    rows = rows[~rows["diverged"].astype(bool)].copy()
    where = ["condition", "contender", "split", "seed"]
    score = rows.groupby([*where, "candidate"], sort=False)["validation_log_loss"].transform("mean")
    apart = rows["contender"].str.startswith("independent")
    rows["_score"] = np.where(apart, rows["validation_log_loss"], score)
    rows["_score"] = rows["_score"].fillna(np.inf)
    best = rows.sort_values("_score", kind="stable").drop_duplicates([*where, "task"]).sort_index()
    return best.drop(columns="_score").assign(method=best["contender"]).reset_index(drop=True)


def differences(rows: pd.DataFrame, metric: str, reference: str = "independent") -> pd.DataFrame:
    """Each contender minus the reference on the same splits, with the protocol's interval; by condition.

    Args:
        rows: as ``selected`` returns them.
        metric: a measured column.
        reference: a contender.

    Returns:
        columns condition, task, method, mean, low, high, pairs.
    """
    parts = [
        paired_differences(part, metric, reference, OVERLAP).assign(condition=condition)
        for condition, part in rows.groupby("condition", sort=False) if reference in set(part["method"])
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(
        columns=["task", "method", "mean", "low", "high", "pairs", "condition"])


def smallest_effect(spread: float, splits: int, power: float = 0.8, level: float = 0.95) -> float:
    r"""The difference that a study finds with this power: :math:`(t_{.975} + t_{.8})\, s \sqrt{1/n + 1/3}`.

    Args:
        spread: s, the standard deviation of the paired differences between splits.
        splits: n.

    >>> round(smallest_effect(0.018, 8), 3)
    0.04
    """
    from scipy import stats

    t = stats.t.ppf((1 + level) / 2, splits - 1) + stats.t.ppf(power, splits - 1)
    return float(t * spread * np.sqrt(1 / splits + OVERLAP))
