"""The running of a study: cell after cell, rows kept as they come, what is done never done twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pandas as pd

from aesthemo_lib.evaluation.calibration import truth_and_probabilities
from aesthemo_lib.evaluation.endpoints import endpoints
from aesthemo_lib.evaluation.metrics import task_metrics
from aesthemo_lib.files import atomic, digest, project_folder, write_json
from aesthemo_lib.training.config import Config
from aesthemo_lib.training.fit import Diverged
from aesthemo_lib.training.runs import open_data, train

from .baselines import references
from .protocol import PLACE, Cell, Study, cells, load, recipe, selected
from .task_sequence.contradictions import contradictions


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
    place = {"study": of.name, "form": of.form, "condition": cell.condition, "contender": cell.contender}
    table = _made_by_another(of, target, out)
    if table is None:
        rows = [row for name, settings in of.candidates()
                for row in _candidate_rows(of, cell, name, settings, Path(out), root)]
        table = pd.DataFrame([{"split": cell.split, "seed": cell.seed, **row} for row in rows])
    with atomic(target) as temporary:
        _write(table.assign(**place), temporary)
    return target


def _made_by_another(of: Study, target: Path, out: Path) -> pd.DataFrame | None:
    """The rows of the same run where another study has made it: 'all layers' of one is 'diagonal .9/.1' of the next.

    The same run is one with the same plan, split and seed, which a rows file's name ends with.
    """
    if len(of.candidates()) > 1 or of.told.get("lines"):  # what stands beside a study reads its own runs
        return None
    same = target.stem[target.stem.rindex("split"):]
    found = sorted(Path(out).glob(f"*/rows/*_{same}.csv"))
    return load(found[0]).assign(candidate="") if found else None


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
    return pd.concat([load(path) for path in files], ignore_index=True)


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
        chosen = selected(load(rows_file(of, cell, out))).set_index("task")["candidate"]
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
    """Write what is finished to ``results/studies/<name>.csv``, and its lines, where it has some, beside it.

    The study ``recipe`` also writes ``results/recipe.json``, or ``recipe.json`` beside a target of one's own.
    """
    summary = target.with_name("recipe.json") if target else project_folder() / "results" / "recipe.json"
    target = target or project_folder() / "results" / "studies" / f"{of.name}.csv"
    tables = {target: gather(of, out)}
    if of.told.get("lines"):
        tables[target.with_suffix(".lines.csv")] = lines(of, out, root)
    for path, table in tables.items():
        with atomic(path) as temporary:
            _write(table, temporary)
    if of.name == "recipe":
        write_json(summary, recipe(tables[target]))
    return target
