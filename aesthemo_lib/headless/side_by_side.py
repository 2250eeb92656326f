"""Several jobs beside one another, with the machine's cores and memory shared out among them.

A training of one thread on each of two cores gets more done than one of two threads: none waits for the other at each
layer, and what one thread does alone (starting, drawing, writing) is done beside a training. Two of two threads each on
two cores would slow one another tenfold.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue

from ..device import allowed_cores, free_memory
from ..files import read_json

MEMORY = 5e9
"""Bytes that a training of the preset 'teach' takes at most."""


def share(jobs: int, device: str, memory: float = MEMORY) -> tuple[int, int]:
    """How many jobs to run at once, and how many threads each has.

    Args:
        jobs: how many there are.
        device: 'cpu', or another of which each job would want the whole.
        memory: bytes that each takes.
    """
    given, cores = int(os.environ.get("OMP_NUM_THREADS", 0)), allowed_cores()
    room = int(free_memory() // memory) if device == "cpu" else 1
    at_once = max(1, min(jobs, cores // (given or 1), room))
    return at_once, given or cores // at_once


class Jobs:
    """Runs jobs from a list, several at a time, and keeps their times.

    Args:
        at_once: how many at a time.
        threads: of each; the kernels that a job starts find it in their environment.
    """

    def __init__(self, at_once: int, threads: int):
        self.at_once, self.threads, self.began = at_once, threads, time.monotonic()
        self.times: list[tuple[str, float, float]] = []
        self.at_work: dict[str, Path | None] = {}

    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.began

    def run(self, jobs: Sequence[tuple]) -> None:
        """Start the jobs in this order and return when all have ended.

        After a job that failed no other is started, and its fault is raised when those at work have ended.

        Args:
            jobs: (name, what to call, and if it trains: the run's folder).
        """
        left: SimpleQueue = SimpleQueue()
        for job in jobs:
            left.put(job)
        faults: list[BaseException] = []
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = str(self.threads)
        try:
            workers = [threading.Thread(target=self._work, args=(left, faults), daemon=True)
                       for _ in range(min(self.at_once, len(jobs)))]
            for worker in workers:
                worker.start()
            self._watch(workers)
        except KeyboardInterrupt as stop:
            faults.append(stop)
            _end_kernels()
            for worker in workers:
                worker.join(10)  # it clears away what its notebook had begun
            raise
        finally:
            os.environ.pop("OMP_NUM_THREADS")
            if before is not None:
                os.environ["OMP_NUM_THREADS"] = before
        if faults:
            raise faults[0]

    def _work(self, left: SimpleQueue, faults: list) -> None:
        while not left.empty() and not faults:
            with contextlib.suppress(Exception):
                name, call, *folder = left.get_nowait()
                began = self.seconds()
                self.at_work[name] = folder[0] if folder else None
                try:
                    call()
                except BaseException as fault:
                    faults.append(fault)
                self.at_work.pop(name)
                self.times.append((name, began, self.seconds() - began))

    def _watch(self, workers: Sequence[threading.Thread]) -> None:
        """Wait for the workers; on a terminal, say meanwhile which epochs have been reached."""
        told = sys.stderr.isatty()
        for worker in workers:
            while worker.is_alive():
                worker.join(1)
                if told and self.at_work:
                    line = "; ".join(f"{name}{_epoch(folder)}" for name, folder in dict(self.at_work).items())
                    line = f"{self.seconds():.0f} s: {line}"[:shutil.get_terminal_size().columns - 1]
                    print(f"\r\033[K{line}\r", end="", file=sys.stderr, flush=True)
        if told:
            print("\033[K", end="", file=sys.stderr, flush=True)


def _end_kernels() -> None:
    """End the notebooks' kernels that this process has started."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any("ipykernel" in word for word in child.cmdline()):
                child.kill()


def _epoch(folder: Path | None) -> str:
    """What a training's newest state says, if there is one."""
    if folder is None:
        return ""
    with contextlib.suppress(OSError, ValueError):  # it may be replaced while one reads it
        states = folder.with_name(folder.name + ".resume").glob("*/*/epoch-*/history.json")
        newest = max(states, key=os.path.getmtime)
        last = read_json(newest)[-1]
        return f", {newest.parent.parent.name}: epoch {last['epoch']}, validation loss {last['validation_loss']:.3f}"
    return ""
