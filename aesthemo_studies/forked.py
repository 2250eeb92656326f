"""Processes that are forked from a server which has the heavy packages imported: a start costs .1 CPU-seconds, not 5.

A fork has an interpreter, environment and working folder of its own, as a fresh process has; only imports of other
people's packages (and of those modules of the library that every job needs) lie behind it.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from typing import Any, cast
from unittest import mock

from .scheduler import end_with_parent

PRELOADED = [
    "aesthemo_lib.training.runs", "aesthemo_lib.data.readers.csv_table", "nbformat", "sklearn.metrics",
    "sklearn.model_selection", "torch._dynamo", "PIL.PngImagePlugin",
    "timm", "matplotlib.pyplot", "scipy.stats", "IPython.display", "ipywidgets", "ipykernel.kernelapp",
]  # fmt: skip
"""What jobs and notebooks would otherwise import before they work."""
FORKS = sys.platform == "linux"
"""Elsewhere a fork of a process that has loaded the system's libraries may crash, or there is none."""


def context() -> Any:
    """How children are started: from the server, where the system can fork one."""
    if not FORKS:
        return multiprocessing.get_context("spawn")
    started = multiprocessing.get_context("forkserver")
    started.set_forkserver_preload(PRELOADED)
    return started


def _kernel(arguments: list[str], variables: dict[str, str], folder: str, path: list[str], begun) -> None:
    """Be the kernel that ``python -m ipykernel_launcher`` would be."""
    os.setsid()
    begun.send(None)
    end_with_parent()
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    sys.path[:], sys.argv[:] = path, ["ipykernel_launcher.py", *arguments]
    import matplotlib  # has read a variable that is another now
    from ipykernel.kernelapp import launch_new_instance
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which would outlive a kernel that is killed
    matplotlib.rcParams["backend"] = variables.get("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    launch_new_instance(argv=arguments)


class _Forked:
    """What jupyter_client asks of a ``Popen``."""

    stdin = stdout = stderr = None

    def __init__(self, process):
        self.process, self.pid = process, process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int:
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


@contextmanager
def forked_kernels(path: Sequence[str] | None = None) -> Iterator[None]:
    """In this block Jupyter's kernels of this Python are forked where they would be started, on Linux.

    A server that this block began ends with it, so that its time is part of this process'.

    Args:
        path: the kernels' ``sys.path``, by default this process'.
    """
    from jupyter_client.provisioning import local_provisioner

    usual, server = local_provisioner.launch_kernel, cast(Any, forkserver)._forkserver
    path, began = list(sys.path if path is None else path), FORKS and server._forkserver_pid is None

    def launch(command: list[str], cwd=None, env=None, **rest):
        if not FORKS or command[:3] != [sys.executable, "-m", "ipykernel_launcher"]:
            return usual(command, cwd=cwd, env=env, **rest)
        ready, begun = context().Pipe(duplex=False)
        variables = dict(os.environ if env is None else env)
        process = context().Process(target=_kernel, args=(command[3:], variables, cwd or os.getcwd(), path, begun),
                                    daemon=True)
        process.start()
        begun.close()
        ready.recv()  # its group is asked for next, by which it is ended: it must not be this process' any more
        return _Forked(process)

    with mock.patch.object(local_provisioner, "launch_kernel", launch):
        try:
            yield
        finally:
            if began:
                server._stop()
