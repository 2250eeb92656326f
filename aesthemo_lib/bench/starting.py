"""Whole commands: how long they take to start, and the main job from nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from ..evaluation import collect, mean_interval, read_runs
from ..files import project_folder, read_json
from .child import Job

SLOWER = "results/oasis-teach.csv"
"""The same runs, one after another, before anything here was made fast."""
ENDPOINTS = ("Test AUC, means over the splits, beside those of the slower runs of `results/oasis-teach.csv` with their "
             "interval over splits and seeds:")
TORCH = "import torch"
WITH = {"start_import": "import torch, aesthemo_lib",
        "start_training": "import torch; import aesthemo_lib.training.runs"}


def wall(arguments: Sequence[str], environment: dict | None = None) -> float:
    """Seconds from a Python's start to its end.

    Raises:
        subprocess.CalledProcessError: it failed.

    >>> wall(["-c", "pass"]) > 0
    True
    """
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL,
                   env=os.environ | (environment or {}))
    return time.perf_counter() - began


def starting(job: Job) -> Iterator[tuple]:
    """Each beside torch's own import, in turn.

    >>> [name for name, *_ in starting(Job("cpu", True, None, None))]  # doctest: +SKIP
    """
    rounds = 1 if job.small else 5
    commands = {"start_help": ["-m", "aesthemo_lib.cli", "--help"], "torch": ["-c", TORCH]}
    commands |= {name: ["-c", code] for name, code in WITH.items() if not (job.small and name == "start_training")}
    times = np.array([[wall(command) for command in commands.values()] for _ in range(rounds + 1)])[1:]
    spent = dict(zip(commands, times.T, strict=True))
    for name, values in spent.items():
        if name != "torch":
            beyond = values - (0 if name == "start_help" else spent["torch"])
            yield name, beyond, {"profile": [f"- {', '.join(f'{value:.3f}' for value in values)} s in all"]}


def reproduce(job: Job) -> Iterator[tuple]:
    """The main job on drawn scenes, in empty folders.

    >>> [name for name, *_ in reproduce(Job("cpu", True, None, None))]  # doctest: +SKIP
    """
    yield "reproduce_scenes", [_reproduce(job, [])], {}


def reproduce_oasis(job: Job) -> Iterator[tuple]:
    """The main job on photographs.

    Raises:
        ValueError: without their folder.

    >>> list(reproduce_oasis(Job("cpu", True, None, None)))
    Traceback (most recent call last):
    ValueError: reproduce_oasis: name the photographs' folder, with ROOT=<folder> or --root
    """
    if not job.root:
        raise ValueError("reproduce_oasis: name the photographs' folder, with ROOT=<folder> or --root")
    minutes = _reproduce(job, ["--data", "oasis", "--root", job.root])
    done = job.folder / "runs"
    told = [] if job.small else endpoints(collect(done, "teach"), read_runs(project_folder() / SLOWER))
    spent = parts(read_json(done / "oasis" / "timing.json"))
    yield "reproduce_oasis", [minutes], {"profile": [*spent, "", ENDPOINTS, "", *told]}


def parts(timing: dict) -> list[str]:
    """Where the time of ``reproduce`` went, in lines.

    Args:
        timing: what it keeps, see ``jobs.reproduce``.

    >>> parts({"seconds": 90.0, "at_once": 2, "threads": 1, "jobs": [
    ...     {"name": "nddr split0-seed0", "began": 0.0, "seconds": 60.0},
    ...     {"name": "04_compare", "began": 60.0, "seconds": 30.0}]})
    ['- 90 s in all, 2 at a time, threads of each: 1', '- training: 1 job of 60 s', '- reading: 1 job of 30 s']
    """
    kinds: dict[str, list[float]] = {"training": [], "reading": []}
    for job in timing["jobs"]:
        kinds["training" if " split" in job["name"] else "reading"].append(job["seconds"])
    lines = [f"- {timing['seconds']:.0f} s in all, {timing['at_once']} at a time, threads of each: {timing['threads']}"]
    return lines + [f"- {kind}: {len(found)} job{'s' * (len(found) > 1)} of {np.mean(found):.0f} s"
                    for kind, found in kinds.items() if found]


def endpoints(runs: pd.DataFrame, slower: pd.DataFrame) -> list[str]:
    """Whether speed has cost anything: test AUC of the same runs, trained now and when nothing was fast yet.

    Args:
        runs, slower: tables as ``evaluation.collect`` makes them.

    Returns:
        a line for each method and task: both means over the splits, the slower runs' interval over their splits and
        seeds, and whether the new mean lies in it.

    >>> old = pd.DataFrame({"method": "nddr", "task": "emotion", "split": [0, 1], "auc": [0.7, 0.8]})
    >>> endpoints(old.assign(auc=[0.72, 0.8]), old)
    ['- nddr, emotion: .760; slower .750 (.115, 1.000): within']
    """
    lines = []
    for (method, task), before in slower.groupby(["method", "task"]):
        now = runs[(runs["method"] == method) & (runs["task"] == task)]["auc"].mean()
        mean, low, high = mean_interval(before["auc"].to_numpy())
        told = [f"{value:.3f}".removeprefix("0") for value in (now, mean, max(low, 0), min(high, 1))]
        within = "within" if low <= now <= high else "**outside**"
        lines.append("- {}, {}: {}; slower {} ({}, {}): {}".format(method, task, *told, within))
    return lines


def _reproduce(job: Job, more: list[str]) -> float:
    """Minutes."""
    command = ["-m", "aesthemo_lib.cli", "reproduce", *more, "--out", str(job.folder / "runs")]
    command += ["--preset", "smoke"] if job.small else []
    return wall(command, {"AESTHEMO_CACHE": str(job.folder / "cache"), "AESTHEMO_DATA": str(job.folder / "data")}) / 60
