"""One machine for every study: cells that are run, kept, resumed and gathered, whatever they measure.

A study is a list of cells and a function from a cell to its rows. Each finished cell is one CSV, written atomically, so
a study that was interrupted resumes with the cells that are missing, and any number of them can run at once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from aesthemo_lib.device import pick_device
from aesthemo_lib.files import digest, file_lock, project_folder, read_json, write_table
from aesthemo_lib.headless.execute import environment

from .scheduler import Job, Scheduler, parallelism

STUDIES = project_folder() / "results" / "studies"
"""The protocols and results that are committed."""


def key(*words: object, plan: object = None) -> str:
    """A cell's name, which is a file name: its words, and a hash of everything else that decides its rows.

    Args:
        words: what tells the cells of a study apart; empty ones are left out.
        plan: anything that JSON can hold; a cell with another plan is another cell, and is run anew.
    """
    slug = "_".join(re.sub(r"[^\w.]+", "-", str(word)) for word in words if word != "")
    return slug if plan is None else f"{slug}-{digest(plan)[:10]}"


def short(value: float) -> str:
    """A number with three digits behind the point and, below 1, none before it, as tables have them: '-.012'."""
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1).replace("-.000", ".000") if abs(value) < 1 else text


@dataclass(frozen=True)
class Sample:
    """A cell that asks one sample: a collection's seed, a split's or a training set's number, of some source."""

    source: str
    number: int


def samples(numbers: Mapping[str, Iterable[int]], plan: object) -> dict[str, Sample]:
    """A cell for each sample, by ``key``.

    Args:
        numbers: of the samples, by source.
        plan: see ``key``.
    """
    return {key(source, number, plan=plan): Sample(source, number) for source in numbers for number in numbers[source]}


def read_protocol(study: str) -> dict:
    """What was fixed before a study's runs, ``results/studies/<study>.json``."""
    return read_json(STUDIES / f"{study}.json")


def read_rows(path: Path) -> pd.DataFrame:
    """A table of rows."""
    return pd.read_csv(path, encoding="utf-8")


def committed(name: str, command: str) -> pd.DataFrame:
    """A study's table as committed, ``results/<name>.csv``.

    Raises:
        FileNotFoundError: it has not been made; ``command`` makes it.
    """
    path = project_folder() / "results" / f"{name}.csv"
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there; make it with: {command}")
    return read_rows(path)


@dataclass(frozen=True)
class Study:
    """Cells, and how one of them is measured.

    Args:
        name: of the study's folder.
        cells: what is measured, by ``key``.
        measure: returns a cell's rows, as a table or as dictionaries. A function of a module or a ``partial`` of one,
            since it is sent to other processes.
        out: the folder of all studies.
        read: reads a table of rows, where some columns need their types named.
        float_format: of the numbers in the tables.
    """

    name: str
    cells: Mapping[str, Any]
    measure: Callable[[Any], pd.DataFrame | Iterable[dict]]
    out: Path
    read: Callable[[Path], pd.DataFrame] = read_rows
    float_format: str = "%.5f"

    @property
    def folder(self) -> Path:
        """Where the study's rows and runs lie."""
        return Path(self.out) / self.name

    def path(self, key: str) -> Path:
        """The CSV of a cell, which is there when the cell is finished."""
        return self.folder / "rows" / f"{key}.csv"

    def run_cell(self, key: str) -> Path:
        """Measure a cell, unless that is done, and write its rows; ``seconds.csv`` records how long it took.

        Raises:
            ValueError: the study has no such cell.
        """
        if key not in self.cells:
            raise ValueError(f"study {self.name} has no cell {key!r}; its cells are {', '.join(self.cells)}")
        if not self.path(key).exists():
            began = time.monotonic()
            rows = self.measure(self.cells[key])
            write_table(self.path(key), rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows),
                        self.float_format)
            with open(self.folder / "seconds.csv", "a", encoding="utf-8") as file:
                file.write(f"{key},{time.monotonic() - began:.1f}\n")
        return self.path(key)

    def run(self, at_once: int | None = None) -> None:
        """Run the cells that are not finished, each with one thread, so that the number of processes changes no bit.

        Args:
            at_once: how many; by default as many as cores and memory allow. 1 runs them in this process.

        Raises:
            RuntimeError: another process runs this study, or cells failed; the others are finished all the same.
        """
        left = [key for key in self.cells if not self.path(key).exists()]
        at_once = min(at_once or parallelism(len(left), pick_device().type, threads=1)[0], max(1, len(left)))
        report = _Report(self.name, len(self.cells), len(left))
        jobs = [Job(key, partial(_attempt, self, key)) for key in left]
        with file_lock(self.folder / "study.lock", f"running the study {self.name}", 0):
            if at_once > 1:
                Scheduler(at_once, threads=1).run(jobs, processes=True, report=report)
            else:
                with environment(OMP_NUM_THREADS="1"):
                    for job in jobs:
                        report(job.call())
        if report.failures:
            raise RuntimeError(f"study {self.name}: {len(report.failures)} of {len(left)} cells failed; the finished "
                               f"ones are kept, and the same command runs the rest. {'; '.join(report.failures)}")

    def gather(self, select: Callable[[Any], bool] = lambda cell: True) -> pd.DataFrame:
        """The rows of all finished cells (of those that ``select`` takes), in the study's order.

        Raises:
            FileNotFoundError: no cell is finished.
        """
        paths = [self.path(key) for key, cell in self.cells.items() if select(cell) and self.path(key).exists()]
        if not paths:
            raise FileNotFoundError(f"{self.folder}: no cell of the study {self.name} is finished; run it first "
                                    f"(python -m aesthemo_studies --help)")
        return pd.concat([self.read(path) for path in paths], ignore_index=True)

    def keep(self, target: Path | None = None, select: Callable[[Any], bool] = lambda cell: True) -> Path:
        """Write what ``gather`` returns to a table, by default ``results/<name>.csv``, and return its path."""
        target = target or project_folder() / "results" / f"{self.name}.csv"
        write_table(target, self.gather(select), self.float_format)
        return target


def _attempt(study: Study, key: str) -> tuple[str, str]:
    """Run a cell; returns its key, and what went wrong: the other cells don't depend on it."""
    try:
        study.run_cell(key)
    except Exception as fault:
        return key, f"{key}: {type(fault).__name__}: {fault}"
    return key, ""


class _Report:
    """Prints how far a study is, and collects the failures."""

    def __init__(self, name: str, cells: int, left: int):
        self.name, self.cells, self.left, self.done = name, cells, left, 0
        self.began, self.failures = time.monotonic(), list[str]()

    def __call__(self, outcome: tuple[str, str]) -> None:
        key, failure = outcome
        self.done += 1
        minutes = (time.monotonic() - self.began) / self.done * (self.left - self.done) / 60
        print(f"[{self.cells - self.left + self.done}/{self.cells}] {self.name}: {failure or key}, at most "
              f"{minutes:.0f} min left", flush=True)
        self.failures += [failure] if failure else []
