"""Whole commands: how long they take to start, and the main job from nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from aesthemo_lib.evaluation.comparison import collect, mean_interval, read_runs
from aesthemo_lib.files import project_folder, read_json

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
    """
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL,
                   env=os.environ | (environment or {}))
    return time.perf_counter() - began


def starting(job: Job) -> Iterator[tuple]:
    """Each beside torch's own import, in turn."""
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
    """The main job on drawn scenes, in empty folders."""
    yield "reproduce_scenes", [_reproduce(job, [])], {}


def reproduce_oasis(job: Job) -> Iterator[tuple]:
    """The main job on photographs.

    Raises:
        ValueError: without their folder.
    """
    if not job.root:
        raise ValueError("reproduce_oasis: name the photographs' folder, with ROOT=<folder> or --root")
    minutes = _reproduce(job, ["--data", "oasis", "--root", job.root])
    done = job.folder / "runs"
    lines = [] if job.small else endpoints(collect(done, "teach"), read_runs(project_folder() / SLOWER))
    spent = parts(read_json(done / "oasis" / "timing.json"))
    yield "reproduce_oasis", [minutes], {"profile": [*spent, "", ENDPOINTS, "", *lines]}


def parts(timing: dict) -> list[str]:
    """Where the time of ``reproduce`` went, in lines.

    Args:
        timing: what it keeps, see ``jobs.reproduce``.
    """
    kinds: dict[str, list[float]] = {"training": [], "reading": []}
    for job in timing["jobs"]:
        kinds["training" if " split" in job["name"] else "reading"].append(job["seconds"])
    lines = [f"- {timing['seconds']:.0f} s in all, {timing['at_once']} at a time, threads of each: {timing['threads']}"]
    return lines + [f"- {kind}: {len(took)} job{'s' * (len(took) > 1)} of {np.mean(took):.0f} s"
                    for kind, took in kinds.items() if took]


def endpoints(runs: pd.DataFrame, slower: pd.DataFrame) -> list[str]:
    """Whether speed has cost anything: test AUC of the same runs, trained now and when nothing was fast yet.

    Args:
        runs, slower: tables as ``evaluation.collect`` makes them.

    Returns:
        a line for each method and task: both means over the splits, the slower runs' interval over their splits and
        seeds, and whether the new mean lies in it.
    """
    lines = []
    for (method, task), before in slower.groupby(["method", "task"]):
        now = runs[(runs["method"] == method) & (runs["task"] == task)]["auc"].mean()
        mean, low, high = mean_interval(before["auc"].to_numpy())
        cells = [f"{value:.3f}".removeprefix("0") for value in (now, mean, max(low, 0), min(high, 1))]
        within = "within" if low <= now <= high else "**outside**"
        lines.append("- {}, {}: {}; slower {} ({}, {}): {}".format(method, task, *cells, within))
    return lines


def _reproduce(job: Job, more: list[str]) -> float:
    """Minutes."""
    command = ["-m", "aesthemo_lib.cli", "reproduce", *more, "--out", str(job.folder / "runs")]
    command += ["--preset", "smoke"] if job.small else []
    return wall(command, {"AESTHEMO_CACHE": str(job.folder / "cache"), "AESTHEMO_DATA": str(job.folder / "data")}) / 60
