"""The runs of a class as one table and one figure."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from aesthemo_lib.data.table import TEST_FOLDS
from aesthemo_lib.evaluation.comparison import paired_differences, rows_of
from aesthemo_lib.evaluation.metrics import METRICS
from aesthemo_lib.files import read_json

WORD = re.compile(r"[\w.-]{1,60}")
FREE = ("method", "variant", "split", "seed", "options")
"""What may differ among the runs that a class pools."""


def pool(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """The runs that students handed in, as ``evaluation.collect`` returns runs.

    Each hands in a run folder, or its ``metrics.json`` (any name with 'metrics' in it) with the ``config.json``
    in the same folder. An unreadable file is left out; of one method, split and seed the first by name counts.

    Returns:
        the table, and one line for each file left out or counted once.

    Raises:
        ValueError: runs of different configurations, or none at all.
    """
    rows, notes, taken, fixed_of = [], [], {}, {}
    for path in sorted(Path(folder).rglob("*metrics*.json")):
        if path.name.startswith("."):
            continue  # some systems add such files
        place = path.relative_to(folder).as_posix()
        try:
            run, config = _handed_in(path)
            fixed_of[place] = _fixed(run, config)
        except (LookupError, TypeError, AttributeError, RecursionError):
            notes.append(f"left out {place!r}: metrics or configuration are not as training writes them")
            continue
        except (ValueError, OSError) as fault:
            notes.append(f"left out {place!r}: {' '.join(str(fault).split())[:160]}")
            continue
        _same(fixed_of, place)
        key, of_run = (run["method"], run["variant"], run["split"], run["seed"]), rows_of(run, path.parent)
        if key in taken:
            notes.append(_again(place, taken[key], of_run))
            continue
        taken[key] = (place, of_run)
        rows += of_run
    if not rows:
        raise ValueError(f"{folder}: no metrics.json of a finished run below it. {' '.join(notes[:3])}".strip())
    without = sum("images" not in fixed for fixed in fixed_of.values())
    if without:
        notes.append(f"{without} came without a config.json: their settings and images could not be compared")
    return pd.DataFrame(rows), notes


def pool_figure(runs: pd.DataFrame, reference: str = "independent", metric: str = "auc") -> Figure:
    """Lesson 04's paired plot of pooled runs: each method minus the reference on the same split and seed.

    Raises:
        ValueError: no split was trained with both the reference and another method.
    """
    overlap = 1 / (TEST_FOLDS - 1) if runs["split"].nunique() > 1 else 0.0
    if reference not in set(runs["method"]) or paired_differences(runs, metric, reference).empty:
        raise ValueError(f"nothing to pair: no split and seed has both {reference!r} and another method; the runs are "
                         f"of {', '.join(sorted(set(runs['method'])))}")
    from aesthemo_lib.plots.runs import paired

    return paired(runs, metric, reference, overlap)


def _handed_in(path: Path) -> tuple[dict, dict]:
    """A student's metrics, checked, and the configuration in the same folder ({} if there is none)."""
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


def _same(fixed_of: dict[str, dict], place: str) -> None:
    """A ValueError if this run is of another configuration than one before it."""
    for other, fixed in fixed_of.items():
        mine, both = fixed_of[place], "images" in fixed and "images" in fixed_of[place]
        keys = fixed.keys() | mine.keys() if both else fixed.keys() & mine.keys()
        for key in sorted(keys, key=lambda name: (name not in ("data", "preset", "tasks"), name)):
            if fixed.get(key) != mine.get(key):
                here, there = (str(one.get(key))[:40] for one in (mine, fixed))
                raise ValueError(f"mixed configurations: {key} is {there!r} in {other!r}, {here!r} in {place!r}; "
                                 f"pool runs of one configuration at a time")


def _again(place: str, first: tuple[str, list[dict]], again: list[dict]) -> str:
    """What to say of a run of a method, split and seed that is there already."""
    pairs = [(a[m], b[m]) for a, b in zip(first[1], again, strict=True) for m in METRICS]
    apart = max((abs(a - b) for a, b in pairs if a == a and b == b), default=0.0)
    how = "the same numbers" if apart < 1e-9 else f"numbers up to {apart:.3g} apart, on other machines or threads"
    return f"{place!r} is the run of {first[0]!r} again ({how}); the first counts"
