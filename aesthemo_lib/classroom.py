"""A class at work: checks that say one line, a class's votes as one panel, and a class's runs as one table."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .data import ratings as rating
from .data.table import TEST_FOLDS, AnnotatedImages
from .evaluation import METRICS, paired_differences, rows_of
from .files import atomic, read_json
from .tasks import PATENT_TASKS, Task


def check(what: str, test: Callable[[], object]) -> None:
    """Say in one line whether an exercise holds; a fault in the student's code is named and never raised.

    Args:
        what: what is checked.
        test: true if it holds.

    >>> check("one and one are two", lambda: 1 + 1 == 2)
    ok: one and one are two
    """
    why = "the result is another one"
    try:
        held = bool(test())
    except NotImplementedError:
        held, why = False, "still to be written"
    except Exception as fault:  # whatever a student's code can raise
        held, why = False, " ".join(f"{type(fault).__name__}: {fault}".split())[:120]
    print(f"ok: {what}" if held else f"not yet: {what} ({why})")


# --- the class is the panel


VOTE_COLUMNS = ("path", "annotator")
NAME = re.compile(r"\w[\w .-]{0,39}")
"""A rater's name or pseudonym: letters of any script, digits, space, dot, hyphen; a table takes none for a formula."""


def checked_name(name: str) -> str:
    """A rater's name without surrounding space.

    Raises:
        ValueError: it is empty, longer than 40 characters, or has other characters than ``NAME`` allows.

    >>> checked_name(" Zoë 2 ")
    'Zoë 2'
    """
    name = name.strip()
    if not NAME.fullmatch(name):
        raise ValueError(f"{name[:60]!r} can't be a name here; use 1 to 40 letters, digits, spaces, dots or hyphens, "
                         f"a letter or digit first")
    return name


def write_votes(path: Path, name: str, votes: Sequence[dict[str, str]], tasks: tuple[Task, ...]) -> Path:
    """One rater's ballot, whole or not at all, as a CSV that the reader ``csv`` takes.

    Args:
        path: the CSV; it lies beside the photographs' folder.
        name: the rater's.
        votes: a row a photograph: its ``path`` as seen from the CSV, and a class by task name ('' where there is none).
        tasks: what was asked.

    >>> votes = [{"path": "photos/a.jpg", "aesthetics": "high", "emotion": "awe"}]
    >>> write_votes(Path("votes-zoe.csv"), "Zoë", votes, PATENT_TASKS).read_text(encoding="utf-8").splitlines()
    ['path,annotator,aesthetics,emotion', 'photos/a.jpg,Zoë,high,awe']
    """
    with atomic(Path(path)) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [*VOTE_COLUMNS, *(task.name for task in tasks)], restval="")
        writer.writeheader()
        writer.writerows({"annotator": checked_name(name), **row} for row in votes)
    return Path(path)


def merge_votes(folder: Path, tasks: tuple[Task, ...] = PATENT_TASKS) -> list[str]:
    """All ballots ``votes-*.csv`` of a folder as its ``labels.csv``, which ``data="csv", root=folder`` reads.

    A ballot that can't be used is left out, so that one broken file doesn't hold up a class of sixty. Of the same
    ballot handed in twice one is taken.

    Returns:
        one line for each ballot left out, with the reason.

    Raises:
        ValueError: no ballot is left.

    >>> (photos := Path("class/photos")).mkdir(parents=True)
    >>> (photos / "a.jpg").touch()
    >>> for name, emotion in (("Zoë", "awe"), ("Ben", "fear")):
    ...     vote = {"path": "photos/a.jpg", "aesthetics": "high", "emotion": emotion}
    ...     _ = write_votes(Path(f"class/votes-{name}.csv"), name, [vote], PATENT_TASKS)
    >>> merge_votes(Path("class")), len(pd.read_csv("class/labels.csv"))
    ([], 2)
    """
    folder, rows, first, left_out = Path(folder), [], {}, []
    for path in sorted(folder.glob("votes-*.csv")):
        try:
            name, ballot = _ballot(path, tasks)
            if first.setdefault(name, (path, ballot)) == (path, ballot):
                rows += ballot
            elif first[name][1] != ballot:
                raise ValueError(f"{name!r} also voted in {first[name][0].name}; two people need two names")
        except (ValueError, OSError, csv.Error) as fault:
            left_out.append(f"left out {path.name!r}: {' '.join(str(fault).split())[:160]}")
    if not rows:
        raise ValueError(f"{folder}: no ballot votes-*.csv that can be used. {' '.join(left_out[:3])}".strip())
    with atomic(folder / "labels.csv") as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return left_out


def _ballot(path: Path, tasks: tuple[Task, ...]) -> tuple[str, list[dict[str, str]]]:
    """One rater's name and rows, checked: known photographs, known classes, one name."""
    columns = [*VOTE_COLUMNS, *(task.name for task in tasks)]
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        rows = list(reader)
    if reader.fieldnames != columns or any(None in row or None in row.values() for row in rows):
        raise ValueError(f"expected the columns {','.join(columns)}, as the ballot writes them")
    names, photos = {row["annotator"] for row in rows}, [row["path"] for row in rows]
    if len(names) != 1 or len(set(photos)) < len(photos):
        raise ValueError(f"{len(names)} raters and {len(photos)} rows; expected one rater, and each photograph once")
    there = {file.relative_to(path.parent).as_posix() for file in path.parent.glob("*/*") if file.is_file()}
    for row in rows:
        if row["path"] not in there:
            raise ValueError(f"photograph {row['path'][:60]!r} is not among the class's")
        for task in tasks:
            if row[task.name]:
                task.index(row[task.name])
    return checked_name(names.pop()), rows


def panel(images: AnnotatedImages) -> pd.DataFrame:
    """What a class's votes say of themselves, a column a task: raters, alpha, ties, one rater, ceiling.

    >>> from .data.readers import read
    >>> panel(read("scenes", "scenes", images=20, size=32)).loc[["raters", "ratings"]].astype(int).to_dict("list")
    {'aesthetics': [10, 200], 'emotion': [10, 200]}
    """
    told = {}
    for task in images.tasks:
        table, votes = images.ratings[task.name], images.votes[task.name]
        told[task.name] = {
            "raters": table["annotator"].nunique(), "ratings": len(table),
            "mean share of the winner": float(np.nanmean(rating.consensus_share(votes))),
            "Krippendorff's alpha": rating.krippendorff_alpha(table, images.levels[task.name]),
            "ties": int(rating.tied(votes).sum()), "one rater": images.one_rater_accuracy(task.name),
            "panel ceiling": images.panel_ceiling(task.name),
        }
    return pd.DataFrame(told)


# --- the class is the cluster


WORD = re.compile(r"[\w.-]{1,60}")
FREE = ("method", "variant", "split", "seed", "options")
"""What may differ among the runs that a class pools."""


def pool(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """The runs that students handed in, as ``evaluation.collect`` returns runs.

    Each hands in a run folder, or its ``metrics.json`` (any name with 'metrics' in it) with the ``config.json``
    beside it. A file that can't be read is left out; of one method, split and seed the first by name counts.

    Returns:
        the table, and one line for each file left out or counted once.

    Raises:
        ValueError: runs of different configurations, or none at all.

    >>> task = dict.fromkeys([*METRICS, "majority_accuracy"], 0.5) | {"n": 9}
    >>> run = {"data": "scenes", "method": "nddr", "variant": None, "preset": "teach", "split": 0, "seed": 0}
    >>> from .files import write_json
    >>> Path("handed in/anna").mkdir(parents=True)
    >>> write_json(Path("handed in/anna/metrics.json"), run | {"tasks": {"emotion": task}})
    >>> runs, notes = pool(Path("handed in"))
    >>> runs[["method", "split", "auc"]].values.tolist(), notes
    ([['nddr', 0, 0.5]], ['1 came without a config.json: their settings and images could not be compared'])
    """
    rows, notes, taken, told = [], [], {}, {}
    for path in sorted(Path(folder).rglob("*metrics*.json")):
        if path.name.startswith("."):
            continue  # what some systems put beside a file
        place = path.relative_to(folder).as_posix()
        try:
            run, config = _handed_in(path)
            told[place] = _fixed(run, config)
        except (LookupError, TypeError, AttributeError, RecursionError):
            notes.append(f"left out {place!r}: metrics or configuration are not as training writes them")
            continue
        except (ValueError, OSError) as fault:
            notes.append(f"left out {place!r}: {' '.join(str(fault).split())[:160]}")
            continue
        _same(told, place)
        key, found = (run["method"], run["variant"], run["split"], run["seed"]), rows_of(run, path.parent)
        if key in taken:
            notes.append(_again(place, taken[key], found))
            continue
        taken[key] = (place, found)
        rows += found
    if not rows:
        raise ValueError(f"{folder}: no metrics.json of a finished run below it. {' '.join(notes[:3])}".strip())
    without = sum("images" not in fixed for fixed in told.values())
    if without:
        notes.append(f"{without} came without a config.json: their settings and images could not be compared")
    return pd.DataFrame(rows), notes


def pool_figure(runs: pd.DataFrame, reference: str = "independent", metric: str = "auc") -> Figure:
    """Lesson 04's paired plot of pooled runs: each method minus the reference on the same split and seed.

    Raises:
        ValueError: no split was trained with both the reference and another method.

    >>> runs = pd.DataFrame({"task": "emotion", "split": [0, 1, 0, 1], "seed": 0, "auc": [0.75, 0.5, 0.5, 0.5],
    ...                      "method": ["cross_branch.diagonal"] * 2 + ["independent"] * 2})
    >>> pool_figure(runs).axes[0].get_xlabel()
    "AUC, minus independent's"
    """
    overlap = 1 / (TEST_FOLDS - 1) if runs["split"].nunique() > 1 else 0.0
    if reference not in set(runs["method"]) or paired_differences(runs, metric, reference).empty:
        raise ValueError(f"nothing to pair: no split and seed has both {reference!r} and another method; the runs are "
                         f"of {', '.join(sorted(set(runs['method'])))}")
    from .run_plots import paired

    return paired(runs, metric, reference, overlap)


def _handed_in(path: Path) -> tuple[dict, dict]:
    """A student's metrics, checked, and the configuration beside them ({} if there is none)."""
    run, beside = read_json(path), path.with_name(path.name.replace("metrics", "config"))
    words = [run.get(key) for key in ("data", "method", "preset")] if isinstance(run, dict) else [None]
    if not all(isinstance(word, str) and WORD.fullmatch(word) for word in words):
        raise ValueError("expected a run's data, method and preset, as training writes them")
    variant, numbers, tasks = run.setdefault("variant", None), [run.get("split"), run.get("seed")], run.get("tasks")
    if not (variant is None or isinstance(variant, str) and (not variant or WORD.fullmatch(variant))):
        raise ValueError("expected a variant such as 'diagonal'")
    if not all(type(number) is int and number >= 0 for number in numbers) or not (isinstance(tasks, dict) and tasks):
        raise ValueError("expected split and seed as whole numbers, and tasks with their metrics")
    for name, values in tasks.items():
        measured = [values.get(key, "") for key in (*METRICS, "majority_accuracy")]
        good = all(value is None or type(value) in (int, float) and 0 <= value < math.inf for value in measured)
        if not good or type(values["n"]) is not int or not WORD.fullmatch(name):
            raise ValueError(f"expected {', '.join(METRICS)}, majority_accuracy and n of each task")
    return run, read_json(beside)["config"] if beside.exists() else {}


def _fixed(run: dict, config: dict) -> dict:
    """All that must be the same in runs that are pooled, as far as it was handed in."""
    fixed = {"data": run["data"], "preset": run["preset"], "tasks": ", ".join(run["tasks"])}
    for key, value in config.items():
        if key == "settings":  # some methods' authors fix this factor
            fixed |= {f"settings.{name}": v for name, v in value.items() if name != "exchange_factor"}
        elif key not in (*FREE, *fixed):
            fixed[key] = value
    if config:
        fixed["loss weights"] = [task["loss_weight"] for task in config["tasks"]]
    return fixed


def _same(told: dict[str, dict], place: str) -> None:
    """A ValueError if this run is of another configuration than one before it."""
    for other, fixed in told.items():
        mine, both = told[place], "images" in fixed and "images" in told[place]
        keys = fixed.keys() | mine.keys() if both else fixed.keys() & mine.keys()
        for key in sorted(keys, key=lambda name: (name not in ("data", "preset", "tasks"), name)):
            if fixed.get(key) != mine.get(key):
                here, there = (str(one.get(key))[:40] for one in (mine, fixed))
                raise ValueError(f"mixed configurations: {key} is {there!r} in {other!r}, {here!r} in {place!r}; "
                                 f"pool runs of one configuration at a time")


def _again(place: str, first: tuple[str, list[dict]], found: list[dict]) -> str:
    """What to say of a run of a method, split and seed that is there already."""
    pairs = [(a[m], b[m]) for a, b in zip(first[1], found, strict=True) for m in METRICS]
    apart = max((abs(a - b) for a, b in pairs if a == a and b == b), default=0.0)
    how = "the same numbers" if apart < 1e-9 else f"numbers up to {apart:.3g} apart, on other machines or threads"
    return f"{place!r} is the run of {first[0]!r} again ({how}); the first counts"
