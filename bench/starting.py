"""Whole commands: what they take to start, and the main job from nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from aesthemo_lib.files import read_json

from .child import Job
from .measure import processor_time
from .rows import AVX512

IMPORT = ("import time, torch; began = time.process_time(); import aesthemo_lib.training.runs; "
          "print(time.process_time() - began)")
MINUTES = {"scenes": {AVX512: 2.0}, "oasis": {AVX512: 3.0}}
"""What the main job may take with AVX-512 and bfloat16; the rows name the other kind's minutes."""


def python(arguments: Sequence[str], environment: dict | None = None) -> tuple[float, float]:
    """Seconds from a Python's start to its end, and those of all cores.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    began, spent = time.perf_counter(), processor_time()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL,
                   env=os.environ | (environment or {}))
    return time.perf_counter() - began, processor_time() - spent


def starting(job: Job) -> Iterator[tuple]:
    """The command's help, and what a training imports beyond torch."""
    rounds = 1 if job.small else 4
    helped = [python(["-m", "aesthemo_lib.cli", "--help"])[1] for _ in range(rounds + 1)][1:]
    yield "start_help", helped, {"profile": [f"- {', '.join(f'{value:.2f}' for value in helped)} s"]}
    imported = [float(subprocess.run([sys.executable, "-c", IMPORT], check=True, stdout=subprocess.PIPE,
                                     encoding="utf-8").stdout) for _ in range(rounds + 1)][1:]
    yield "start_training", imported, {"profile": [f"- {', '.join(f'{value:.2f}' for value in imported)} s"]}


def reproduce(job: Job) -> Iterator[tuple]:
    """The main job on drawn scenes, in empty folders."""
    yield from _reproduce(job, "scenes", [], "reproduce")


def reproduce_oasis(job: Job) -> Iterator[tuple]:
    """The main job on photographs; then its trainings once more, with the maps of frozen groups that it has kept.

    Raises:
        ValueError: without their folder.
    """
    if not job.root:
        raise ValueError("reproduce_oasis: name the photographs' folder, with ROOT=<folder> or --root")
    yield from _reproduce(job, "oasis", ["--data", "oasis", "--root", job.root], "reproduce_oasis")
    spent = processor_time()
    with ThreadPoolExecutor(2) as pool:
        one_thread = partial(python, environment={"OMP_NUM_THREADS": "1"})
        took = [seconds for seconds, _ in pool.map(one_thread, _trainings(job))]
    spent = processor_time() - spent
    yield "oasis_trainings", [spent / 60], {"profile": [f"- {', '.join(f'{seconds:.0f}' for seconds in took)} s"]}


def _trainings(job: Job) -> list[list[str]]:
    """The main job's trainings, each a command of its own."""
    from aesthemo_studies.reproduce import planned

    commands = []
    for config in planned("oasis", "smoke" if job.small else "teach", fixed=False):
        parameters = {"data": "oasis", "root": job.root} | {
            name: getattr(config, name) for name in ("method", "preset", "split", "seed")}
        named = [word for name, value in parameters.items() for word in ("-p", name, str(value))]
        commands.append(["-m", "aesthemo_lib.cli", "train", *named, "--out", str(job.folder / "trainings")])
    return commands


def _reproduce(job: Job, data: str, more: list[str], row: str) -> Iterator[tuple]:
    command = ["-m", "aesthemo_lib.cli", "reproduce", *more, "--out", str(job.folder / "runs")]
    command += ["--preset", "smoke"] if job.small else []
    wall, spent = python(command, {"AESTHEMO_DATA": str(job.folder / "data")})
    lines = parts(read_json(job.folder / "runs" / data / "timing.json"))
    target = MINUTES[data].get(job.kind)
    yield f"{row}_wall", [wall / 60], {"profile": lines} | ({"target": target} if target else {})
    yield f"{row}_cpu", [spent / 60], {"profile": lines}


def parts(timing: dict) -> list[str]:
    """Where the time of ``reproduce`` went, in lines.

    Args:
        timing: what it keeps, see ``aesthemo_studies.reproduce``.
    """
    kinds: dict[str, list[float]] = {"training": [], "reading": []}
    for job in timing["jobs"]:
        kinds["training" if " split" in job["name"] else "reading"].append(job["seconds"])
    lines = [f"- {timing['seconds']:.0f} s in all, {timing['at_once']} at a time, threads of each: {timing['threads']}"]
    return lines + [f"- {kind}: {len(took)} job{'s' * (len(took) > 1)} of {np.mean(took):.0f} s"
                    for kind, took in kinds.items() if took]
