"""The studies of ``results/protocol.json``: each cell trains every candidate of one contender on one split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path

import pandas as pd

from aesthemo_lib.evaluation.calibration import truth_and_probabilities
from aesthemo_lib.evaluation.metrics import task_metrics
from aesthemo_lib.files import digest, project_folder, write_table
from aesthemo_lib.training.config import Config
from aesthemo_lib.training.fit import Diverged
from aesthemo_lib.training.runs import open_data, train

from .baselines import baseline_metrics
from .cells import Study, key
from .endpoints import endpoints
from .protocol import PLACE, Cell, Grid, cells, load, selected
from .task_sequence.contradictions import contradictions


def study(grid: Grid, out: Path, root: Path | None = None) -> Study:
    """A study of the protocol, ready to be run.

    Args:
        grid: see ``protocol.study``.
        out: the folder of all studies; runs lie below it.
        root: the data's folder; scenes are drawn below ``out`` instead, a folder for each setting.
    """
    measured = partial(measure, grid, out=Path(out), root=root)
    return Study(grid.name, {cell_key(grid, cell): cell for cell in cells(grid)}, measured, Path(out), load)


def cell_key(grid: Grid, cell: Cell) -> str:
    """A cell's name, with a hash of all that decides its rows, so that a cell that is planned anew is run anew."""
    configs = [grid.config(cell, settings) for _, settings in grid.candidates()]
    plans = [[_changed(config), _changed(config.training_settings())] for config in configs]
    return key(*_words(cell), plan=plans)


def _words(cell: Cell) -> tuple[str, ...]:
    return cell.condition, cell.contender, f"split{cell.split}-seed{cell.seed}"


def _changed(made) -> dict:
    """A dataclass's values that are not its defaults: a field that is added later changes no hash."""
    bare = {f.name: f.default_factory() if callable(f.default_factory) else f.default for f in fields(made)}
    return {name: value for name, value in vars(made).items() if value != bare[name]}


def measure(grid: Grid, cell: Cell, out: Path, root: Path | None = None) -> pd.DataFrame:
    """Train every candidate of a cell; one row for each candidate and task. Arguments as in ``study``."""
    table = _measured_elsewhere(grid, cell, out)
    if table is None:
        rows = [row for name, settings in grid.candidates()
                for row in _candidate_rows(grid, cell, name, settings, out, root)]
        table = pd.DataFrame([{"split": cell.split, "seed": cell.seed, **row} for row in rows])
    return _ordered(table.assign(study=grid.name, form=grid.form, condition=cell.condition, contender=cell.contender))


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    return table[[c for c in PLACE if c in table] + [c for c in table if c not in PLACE]]


def _measured_elsewhere(grid: Grid, cell: Cell, out: Path) -> pd.DataFrame | None:
    """The rows of the same run if another study has made it: one study's 'all layers' is the next one's 'diagonal'.

    The same run is one with the same plan, split and seed, which a cell's key ends with.
    """
    if len(grid.candidates()) > 1 or grid.spec.get("lines"):  # reference lines read the study's own runs
        return None
    name = cell_key(grid, cell)
    same = sorted(out.glob(f"*/rows/*_{name[name.rindex('split'):]}.csv"))
    return load(same[0]).assign(candidate="") if same else None


def _candidate_rows(grid: Grid, cell: Cell, name: str, settings: dict, out: Path, root: Path | None) -> Iterator[dict]:
    config = grid.config(cell, settings)
    place = data_place(config, out, root)
    images = open_data(config, place)
    try:
        run = train(config, run_folder(grid, cell, name, out), place, redo=True)
    except Diverged:  # the candidate has lost; the study goes on without it
        yield from ({"candidate": name, "task": task.name, "diverged": True} for task in images.tasks)
        return
    predictions = _predictions(grid, cell, name, out)
    measured = endpoints(predictions, images)
    validation = predictions[predictions["part"] == "validation"]
    shares, history = contradictions(predictions, images.tasks), run.history()
    best = history.loc[history.groupby("network")["validation_loss"].idxmin()]
    for task in images.tasks:
        chosen_by = task_metrics(*truth_and_probabilities(validation, task), 0)
        yield {
            "candidate": name, "task": task.name, "diverged": False, **measured[task.name],
            "validation_loss": best[f"validation_loss_{task.name}"].dropna().iloc[0],
            "validation_log_loss": chosen_by["log_loss"], "validation_auc": chosen_by["auc"],
            "majority_accuracy": run.metrics[task.name]["majority_accuracy"], "n": run.metrics[task.name]["n"],
            **{f"contradictions_{kind}": share for kind, share in shares.items()},
            "seconds": run.timing["training_seconds"],
        }


def data_place(config: Config, out: Path, root: Path | None) -> Path | None:
    """The data's folder: scenes of another setting would replace those at the same place, so each has its own."""
    if config.data != "scenes":
        return root
    return Path(out) / "data" / f"scenes-{digest([config.preset, config.data_options])[:8]}"


def run_folder(grid: Grid, cell: Cell, candidate: str, out: Path) -> Path:
    """The folder below which ``train`` puts a candidate's run."""
    return Path(out) / grid.name / key(*_words(cell)) / (candidate or "only")


def _predictions(grid: Grid, cell: Cell, candidate: str, out: Path) -> pd.DataFrame:
    folder = grid.config(cell, dict(grid.candidates())[candidate]).folder(run_folder(grid, cell, candidate, out))
    return pd.read_csv(folder / "predictions.csv", encoding="utf-8", keep_default_na=False)


def reference_lines(grid: Grid, out: Path, root: Path | None = None) -> pd.DataFrame:
    """What a study's contenders are compared with: frozen features, late fusion, one rater, a new panel of raters.

    Args:
        grid: a study without conditions, with the contender 'independent', whose tuned predictions late fusion joins.
        out, root: see ``study``.

    Returns:
        one row for each line, split and task, in the columns of the study's rows; of the finished splits.
    """
    rows, made = [], study(grid, out, root)
    for name, cell in made.cells.items():
        if cell.contender != "independent" or not made.path(name).exists():
            continue
        chosen = selected(load(made.path(name))).set_index("task")["candidate"]
        tables = {task: _predictions(grid, cell, candidate, out) for task, candidate in chosen.items()}
        joined = next(iter(tables.values())).copy()
        for task, table in tables.items():
            own = [column for column in table if column == task or column.startswith(f"{task}_")]
            joined[own] = table[own]
        config = grid.config(cell, dict(grid.candidates())[chosen.iloc[0]])
        lines = baseline_metrics(config, joined, data_place(config, out, root))
        place = {"study": grid.name, "form": grid.form, "condition": "", "candidate": "", "split": cell.split}
        rows += [{**place, "contender": line.replace("_", " "), "seed": cell.seed, "task": task, **values}
                 for line, by_task in lines.items() for task, values in by_task.items()]
    return _ordered(pd.DataFrame(rows))


def keep(grid: Grid, out: Path, root: Path | None = None, target: Path | None = None) -> Path:
    """Write the finished cells to ``results/studies/<name>.csv``, and the reference lines, if it has any, beside it."""
    target = target or project_folder() / "results" / "studies" / f"{grid.name}.csv"
    study(grid, out, root).keep(target)
    if grid.spec.get("lines"):
        write_table(target.with_suffix(".lines.csv"), reference_lines(grid, out, root), "%.5f")
    return target
