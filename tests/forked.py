"""Processes that are forked from a server which has the heavy packages imported: a start costs .1 CPU-seconds, not 5.

A fork has an interpreter, environment and working folder of its own, as a fresh process has; only imports of other
people's packages (and of those modules of the library that every job needs) lie behind it.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from contextlib import contextmanager

import pytest

PRELOADED = [
    "aesthemo_lib.training.runs", "aesthemo_lib.data.readers.csv_table", "nbformat", "sklearn.metrics",
    "sklearn.model_selection", "torch._dynamo", "PIL.PngImagePlugin",
    "timm", "matplotlib.pyplot", "scipy.stats", "IPython.display", "ipywidgets", "ipykernel.kernelapp",
]  # fmt: skip
"""What jobs and notebooks would otherwise import before they work."""


def context():
    """How children are started: from the server, where the system can fork one."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    started = multiprocessing.get_context("forkserver")
    started.set_forkserver_preload(PRELOADED)
    return started


def _kernel(arguments: list[str], variables: dict[str, str], folder: str, path: list[str], begun) -> None:
    """Be the kernel that ``python -m ipykernel_launcher`` would be."""
    os.setsid()
    begun.set()
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()  # no orphan outlives the tests
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    sys.path[:], sys.argv[:] = path, ["ipykernel_launcher.py", *arguments]
    import matplotlib  # has read a variable that is another now
    from ipykernel.kernelapp import launch_new_instance

    matplotlib.rcParams["backend"] = variables.get("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    launch_new_instance(argv=arguments)


class _Forked:
    """What jupyter_client asks of a ``Popen``."""

    stdin = stdout = stderr = None

    def __init__(self, process: multiprocessing.Process):
        self.process, self.pid = process, process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int:
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


@contextmanager
def forked_kernels():
    """Jupyter's kernels are forked where they would be started (of this Python; not on Windows)."""
    from jupyter_client.provisioning import local_provisioner

    usual = local_provisioner.launch_kernel
    ours = [place for place in sys.path if os.path.basename(os.path.dirname(place)) != "tests"]

    def launch(command: list[str], cwd=None, env=None, **rest):
        if command[:3] != [sys.executable, "-m", "ipykernel_launcher"] or os.name == "nt":
            return usual(command, cwd=cwd, env=env, **rest)
        begun = context().Event()
        variables = dict(os.environ if env is None else env)
        process = context().Process(target=_kernel, args=(command[3:], variables, cwd or os.getcwd(), ours, begun),
                                    daemon=True)
        process.start()
        begun.wait()  # its group is asked for next, by which it is ended: it must not be that of the tests any more
        return _Forked(process)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_provisioner, "launch_kernel", launch)
        yield
