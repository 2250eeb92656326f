"""Anyone's own images: one CSV with a path, and for each task a label, vote counts or single ratings.

One row per image, with labels, or with counts of votes (``<task>:<class>``); empty cells are unlabelled::

    path,aesthetics,emotion:awe,emotion:fear,group,split
    photos/a.jpg,high,7,1,walk 1,train

or one row per rating, from which the votes are counted. ``<task>><middle>`` holds numbers on a scale: the task is then
low or high, and its agreement at interval level::

    path,annotator,aesthetics>4,emotion
    photos/a.jpg,anna,6,awe

``group`` (images that never part in a split) and ``split`` (train, validation, test) may be left out. A column whose
name starts with ``_`` is no task; it is kept in the facts. UTF-8; commas, semicolons or tabs; any line ends.
"""

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...tasks import Task
from .. import ratings as rating
from ..copies import group_copies
from ..table import AnnotatedImages
from . import infer_task, inside
from .sheet import RESERVED, Sheet, file_named, hint, load
from .spelling import NUMBER, check_cells, check_names, counted, is_no_label

SPLITS = ("train", "validation", "test")
MANY = 50  #: More classes than this in a column of labels are taken for text that is no task


def read(root: str | Path, tasks: Sequence[Task] | None = None,
         classes: Mapping[str, Sequence[str]] | None = None) -> AnnotatedImages:
    """Read a CSV of annotated images (the layouts stand above).

    Args:
        root: the CSV, or a folder with ``labels.csv``. Paths in it are relative to its folder and stay inside.
        tasks: what to read. By default every column but path, annotator, group, split and ``_...`` is a task: classes
            of vote counts in the order of the columns, those of labels as ``infer_task`` says.
        classes: by task name, classes that a column of labels may hold even if it holds only some of them; 'NA' and
            the like are labels if they are among them.

    Raises:
        ValueError: a fault in it; the message names file, line, what was expected and what to do.
    """
    file = Path(root) / "labels.csv" if Path(root).is_dir() else Path(root)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: not found; expected a CSV file, or a folder that holds labels.csv")
    sheet = load(file)
    image, paths = _images(sheet)
    columns = _task_columns(sheet)
    classes = dict(classes or {})
    known = {*classes, *(task.name for task in tasks or ())}
    if tasks is None:
        tasks = [_infer(sheet, name, marks, classes.get(name, ())) for name, marks in columns.items()]
    single = "annotator" in sheet.columns
    votes, ratings, rating_votes, levels = {}, {}, {}, {}
    for task in tasks:
        marks = _checked_columns(sheet, task, columns.get(task.name, {}))
        if ":" in next(iter(marks)):
            votes[task.name] = _counts(sheet, [f"{task.name}:{label}" for label in task.classes])
            continue
        table, each = _judgements(sheet, task, image, next(iter(marks)))
        votes[task.name] = rating.add_votes(table["image"], each, len(paths))
        if task.name not in known and len(each) > 4 and not each.any(axis=0).all():
            raise sheet.fault(f"all scores of {task.name} lie on one side of the middle ({table['value'].min():g} to "
                              f"{table['value'].max():g}); write the middle of the scale after '>'")
        if single:
            ratings[task.name], rating_votes[task.name] = table, each
            levels[task.name] = "interval" if ">" in next(iter(marks)) else "nominal"
    own, first = [path.relative_to(file.parent).as_posix() for path in paths], np.unique(image, return_index=True)[1]
    facts = {n[1:]: [c[row] for row in first] for n, c in sheet.columns.items() if n.startswith("_")}
    groups, fixed = _groups(sheet, image, first)
    return group_copies(AnnotatedImages(
        "csv", tuple(tasks), paths, votes, ratings, levels, rating_votes, facts=pd.DataFrame({"path": own} | facts),
        groups=np.array([group or path for group, path in zip(groups or own, own, strict=True)]),
        fixed=np.array(fixed) if fixed else None, folder=file.parent))


def _groups(sheet: Sheet, image: np.ndarray, first: np.ndarray) -> tuple[list[str], list[str]]:
    """Each image's group and part of the split; empty where the column is not there."""
    if "_path" in sheet.columns:
        raise sheet.fault("column '_path' has the name of the images' own; call it otherwise")
    groups, fixed = _by_image(sheet, "group", image) or [], _by_image(sheet, "split", image) or []
    parts: dict[str, int] = {}
    for number, row in enumerate(first if groups and fixed else ()):
        earlier = parts.setdefault(groups[number], number)
        if groups[number] and fixed[earlier] != fixed[number]:
            raise sheet.fault(f"group {groups[number]!r} is in {fixed[number]} here and in {fixed[earlier]} on line "
                              f"{sheet.lines[first[earlier]]}; keep a group in one part, or leave out 'group'", row)
    return groups, fixed


def _images(sheet: Sheet) -> tuple[np.ndarray, tuple[Path, ...]]:
    """The image number of each row, and the images in the order in which they first appear."""
    folder, places, image = sheet.file.parent, {}, []
    files = {cell: file_named(folder, cell) for cell in dict.fromkeys(sheet.columns["path"])}
    for row, cell in enumerate(sheet.columns["path"]):
        path = files[cell]
        if path is None:
            try:
                inside(folder, cell.strip())
            except ValueError as error:
                raise sheet.fault(str(error), row) from None
            raise sheet.fault(f"image {cell.strip()!r} not found in {folder}{hint(folder, cell)}", row)
        if path in places and "annotator" not in sheet.columns:
            earlier = sheet.lines[image.index(places[path])]
            raise sheet.fault(f"path {cell!r} stands on line {earlier} too; keep one row an image, or name each row's "
                              f"rater in a column 'annotator'", row)
        image.append(places.setdefault(path, len(places)))
    return np.array(image), tuple(places)


def _task_columns(sheet: Sheet) -> dict[str, dict[str, str]]:
    """For each task's name its columns, and what follows the mark in each: a class after ':', a middle after '>'."""
    tasks: dict[str, dict[str, str]] = {}
    for column in sheet.columns:
        if column not in RESERVED and not column.startswith("_"):
            name = re.split("[:>]", column)[0]
            tasks.setdefault(name, {})[column] = column[len(name) + 1:]
    if not tasks:
        raise sheet.fault("no task in it; expected a column such as aesthetics, or emotion:awe, emotion:fear and so on")
    return tasks


def _infer(sheet: Sheet, name: str, marks: dict[str, str], classes: Sequence[str]) -> Task:
    """The task of some columns; ``classes`` are those that were named for it, if any."""
    first = next(iter(marks))
    named = ":" in first or ">" in first or bool(classes)
    counts = counted(sheet.columns[first])
    labels = list(marks.values()) if ":" in first else ["low", "high"] if ">" in first else sorted(counts)
    if classes and set(labels) <= set(classes):
        return Task(name, tuple(classes), infer_task(name, classes).loss_weight)
    cure = f"if the column is no task, call it '_{name}'"
    if not 2 <= len(labels) <= MANY:
        there = f"the single class {labels[0]!r}" if len(labels) == 1 else f"{len(labels)} classes"
        raise sheet.fault(f"{name} has {there}; expected 2 to {MANY}; add images of other classes, or count "
                          f"votes in a column for each class, such as "
                          f"'{name}:{labels[0] if len(labels) == 1 else 'awe'}'; {cure}")
    try:
        if named:
            check_names(dict.fromkeys(labels, 1), name)
        else:
            check_cells(counts, name)
            check_names(counts, name)
        task = infer_task(name, labels)
    except ValueError as error:
        raise sheet.fault(f"{error}; {cure}" if f"'_{name}'" not in str(error) else str(error)) from error
    return Task(name, tuple(labels), task.loss_weight) if ":" in first else task


def _checked_columns(sheet: Sheet, task: Task, marks: dict[str, str]) -> dict[str, str]:
    counts = [f"{task.name}:{label}" for label in task.classes]
    if not marks:
        raise sheet.fault(f"column {task.name!r} is missing; expected it, or all of {', '.join(counts)}")
    counted = [column for column in marks if ":" in column]
    if counted and (len(counted) < len(marks) or "annotator" in sheet.columns) or not counted and len(marks) > 1:
        raise sheet.fault(f"the columns {', '.join(marks)} say {task.name} in two ways; expected votes "
                          f"({counts[0]} ...) and no annotator, or one column {task.name!r}")
    for column in set(counts if counted else ()) ^ set(counted):
        raise sheet.fault(f"column {column!r} is {'missing' if column in counts else f'no class of {task.name}'}; "
                          f"expected {', '.join(counts)}")
    return marks


def _judgements(sheet: Sheet, task: Task, image: np.ndarray, column: str) -> tuple[pd.DataFrame, np.ndarray]:
    """The ratings (image, annotator, value) and the (R, C) votes of the rows that hold one."""
    cells, names, seen = sheet.columns[column], sheet.columns.get("annotator") or [], {}
    rows = [row for row, cell in enumerate(cells) if cell in task.classes or not is_no_label(cell)]
    _report_unlabelled(sheet, task, column, rows)
    if not rows:
        raise sheet.fault(f"column {column!r} is empty; fill it or remove it")
    for row in rows if names else ():
        earlier = seen.setdefault((image[row], names[row]), row)
        nobody = is_no_label(names[row])
        if nobody or earlier != row:
            said = "no annotator" if nobody else f"{names[row]!r} rated it on line {sheet.lines[earlier]} too"
            raise sheet.fault(f"{said}; expected one rating of each annotator, under one name", row)
    if ">" in column:
        middle = column.partition(">")[2]
        if not NUMBER.fullmatch(middle):
            raise sheet.fault(f"column {column!r}: expected a number after '>', the middle of the scale")
        values = [sheet.number(row, column) for row in rows]
        votes = rating.scale_votes(np.array(values), float(middle.replace(",", ".")))
    else:
        values = [cells[row] for row in rows]
        for row in rows:
            if cells[row] not in task.classes:
                raise sheet.fault(f"{column} is {cells[row]!r}; expected one of {', '.join(task.classes)}, or an empty "
                                  f"cell where nobody judged", row)
        votes = rating.class_votes([task.index(value) for value in values], len(task.classes))
    annotators = [names[row] for row in rows] if names else rows
    return pd.DataFrame({"image": image[rows], "annotator": annotators, "value": values}), votes


def _report_unlabelled(sheet: Sheet, task: Task, column: str, rows: list[int]) -> None:
    """Count aloud what was taken for no label, where it is more than empty cells."""
    cells = sheet.columns[column]
    left = Counter(cells[row] or "empty" for row in set(range(len(cells))).difference(rows))
    if set(left) - {"empty"}:
        marks = ", ".join(f"{count} {mark if mark == 'empty' else repr(mark)}" for mark, count in sorted(left.items()))
        logging.getLogger(__name__).warning(
            "%s: %s has no label in %d of %d rows (%s); if one of these is a class, count its votes in a column "
            "such as '%s:%s'", sheet.file, column, left.total(), len(cells), marks, task.name,
            min(set(left) - {"empty"}))


def _counts(sheet: Sheet, columns: list[str]) -> np.ndarray:
    votes = np.zeros((len(sheet.lines), len(columns)))
    for row in range(len(votes)):
        if not all(is_no_label(sheet.columns[column][row]) for column in columns):  # else nobody voted
            votes[row] = [sheet.number(row, column, least=0) for column in columns]
    if not votes.any():
        raise sheet.fault(f"no votes in {', '.join(columns)}; fill the columns or remove them")
    return votes


def _by_image(sheet: Sheet, column: str, image: np.ndarray) -> list[str] | None:
    """The one value of each image in a column that need not be there."""
    value: dict[int, str] = {}
    for row, cell in enumerate(sheet.columns.get(column, ())):
        cell = "" if is_no_label(cell) else cell
        if column == "split" and cell not in SPLITS:
            raise sheet.fault(f"split is {cell!r}; expected {', '.join(SPLITS)}, or no such column", row)
        if value.setdefault(image[row], cell) != cell:
            raise sheet.fault(f"{column} is {cell!r}, but {value[image[row]]!r} above; expected one an image", row)
    return list(value.values()) if value else None
