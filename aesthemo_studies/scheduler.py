"""Independent jobs, several at a time, with the machine's cores and memory divided among them.

Two single-threaded trainings on two cores finish sooner than two of two threads each, one after the other: no thread
waits for another at each layer. Two of two threads each at once would slow each other down tenfold.
"""

import contextlib
import multiprocessing
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import Any, NamedTuple

from aesthemo_lib.device import allowed_cores, free_memory
from aesthemo_lib.files import read_json
from aesthemo_lib.headless.execute import environment

MEMORY = 5e9
"""Bytes that a training of the preset 'teach' takes at most."""


def parallelism(jobs: int, device: str, threads: int | None = None, memory: float = MEMORY) -> tuple[int, int]:
    """How many jobs to run at once, and how many threads each has (by default ``OMP_NUM_THREADS``, else a fair share).

    Args:
        device: 'cpu', or a device that each job needs for itself.
        memory: bytes that each job takes.
    """
    given, cores = threads or int(os.environ.get("OMP_NUM_THREADS", 0)), allowed_cores()
    room = int(free_memory() // memory) if device == "cpu" else 1
    at_once = max(1, min(jobs, cores // (given or 1), room))
    return at_once, given or cores // at_once


WORKERS = ("ipykernel", "multiprocessing.spawn", "multiprocessing.forkserver")
"""By these words of their command lines the processes are known that jobs have started."""


class Job(NamedTuple):
    """A call with a name, and the run folder if it trains: a terminal then shows the epochs."""

    name: str
    call: Callable[[], Any]
    folder: Path | None = None


class Scheduler:
    """Runs jobs, several at a time, and records their times.

    Args:
        at_once: how many at a time.
        threads: of each; processes and kernels that a job starts find it in their environment.
    """

    def __init__(self, at_once: int, threads: int):
        self.at_once, self.threads, self.began = at_once, threads, time.time()
        self.times: list[tuple[str, float, float]] = []  # name, beginning and duration in seconds

    def seconds(self) -> float:
        """Since the beginning."""
        return time.time() - self.began

    def run(self, jobs: Sequence[Job], processes: bool = False, report: Callable[[Any], None] | None = None) -> None:
        """Start the jobs in this order and return when all have ended.

        After a failure no other job is started; the exception is raised when those at work have ended.

        Args:
            processes: in processes of their own, for what computes; in threads otherwise, for what starts kernels.
            report: is given what a job returned, as soon as it has ended.
        """
        pool = partial(ProcessPoolExecutor, mp_context=multiprocessing.get_context("spawn"),
                       initializer=end_with_parent) if processes else ThreadPoolExecutor
        with environment(OMP_NUM_THREADS=str(self.threads)), pool(self.at_once) as executor:
            futures = {executor.submit(_timed, job.call): job for job in jobs}
            for future in futures:
                future.add_done_callback(partial(_cancel_after_failure, futures))
            try:
                self._wait(futures, report)
            except KeyboardInterrupt:
                for future in futures:
                    future.cancel()
                while wait(futures, timeout=0.2).not_done:
                    _end_children()  # then each job clears away what it had begun
                raise

    def _wait(self, futures: dict[Future, Job], report: Callable[[Any], None] | None) -> None:
        waiting, watched = set(futures), sys.stderr.isatty()
        while waiting:
            done, waiting = wait(waiting, timeout=1, return_when=FIRST_COMPLETED)
            for future, job in futures.items():
                if future in done and not future.cancelled():
                    began, seconds, result = future.result()
                    self.times.append((job.name, began - self.began, seconds))
                    if report:
                        report(result)
            if watched:
                self._show([futures[future] for future in waiting if future.running()])

    def _show(self, running: Sequence[Job]) -> None:
        line = "; ".join(f"{job.name}{_epoch(job.folder)}" for job in running)
        line = f"{self.seconds():.0f} s: {line}"[:shutil.get_terminal_size().columns - 1] if line else ""
        print(f"\r\033[K{line}\r", end="", file=sys.stderr, flush=True)


def _timed(call: Callable[[], Any]) -> tuple[float, float, Any]:
    began = time.time()
    result = call()
    return began, time.time() - began, result


def _cancel_after_failure(futures: dict[Future, Job], done: Future) -> None:
    if not done.cancelled() and done.exception():
        for future in futures:
            future.cancel()


def end_with_parent() -> None:
    """End this worker as soon as the process that started it is gone, however that ended."""

    def watch(sentinel: int) -> None:
        connection.wait([sentinel])
        os._exit(1)

    if parent := multiprocessing.parent_process():
        threading.Thread(target=watch, args=[parent.sentinel], daemon=True).start()


def _end_children() -> None:
    """Kill the kernels and workers that this process has started."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(name in word for word in child.cmdline() for name in WORKERS):
                child.kill()


def _epoch(folder: Path | None) -> str:
    """What the newest checkpoint of a training says, if there is one."""
    if folder is None:
        return ""
    with contextlib.suppress(OSError, ValueError):  # it may be replaced while it is read
        states = folder.with_name(folder.name + ".resume").glob("*/*/epoch-*/history.json")
        newest = max(states, key=os.path.getmtime)
        last = read_json(newest)[-1]
        return f", {newest.parent.parent.name}: epoch {last['epoch']}, validation loss {last['validation_loss']:.3f}"
    return ""
