"""Whole commands: how long they take to start, and the main job from nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np

from .child import Job

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
    yield "reproduce_oasis", [_reproduce(job, ["--data", "oasis", "--root", job.root])], {}


def _reproduce(job: Job, more: list[str]) -> float:
    """Minutes."""
    command = ["-m", "aesthemo_lib.cli", "reproduce", *more, "--out", str(job.folder / "runs")]
    command += ["--preset", "smoke"] if job.small else []
    return wall(command, {"AESTHEMO_CACHE": str(job.folder / "cache"), "AESTHEMO_DATA": str(job.folder / "data")}) / 60
