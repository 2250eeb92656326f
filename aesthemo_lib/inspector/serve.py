"""The inspector alone, in a browser tab: Voila on this machine's own address, for one person."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from ..files import write_json
from ..prediction import packaged_run
from ..training.run import Run
from .subject import Subject

PARTS = ("@voila-dashboards/widgets-manager8", "anywidget")
"""The only lab extensions that its page loads: nbgrader's and the notebook's own throw errors there."""
IDLE = 120
"""Seconds after which the kernel of a closed tab is ended."""
SOURCE = """import os
from pathlib import Path
from aesthemo_lib.inspector import Inspector
root = os.environ["AESTHEMO_INSPECT_ROOT"]
Inspector([os.environ["AESTHEMO_INSPECT"]], Path(root) if root else None, int(os.environ["AESTHEMO_INSPECT_COUNT"]))"""


def serve(run: Path | str | None = None, root: Path | None = None, count: int = 24, options: tuple = ()) -> int:
    """Open the inspector of a run in the browser and wait until it is closed with Ctrl+C.

    The address holds a token, so that others who are logged in on this machine don't get in.

    Args:
        run: a finished run's folder; None: the network that comes with the project.
        root: the data's folder.
        count: how many of its test photos are offered.
        options: more of Voila's own.

    Returns:
        Voila's exit status.

    Raises:
        ValueError: Voila is not installed.
        FileNotFoundError: there is no such run, or its data are not there.
    """
    if not find_spec("voila"):
        raise ValueError("'inspect' needs Voila, which is not installed here: pip install voila")
    folder = Path((Run(run) if run else packaged_run()).folder).resolve()
    Subject(folder).test_photos(1, root)  # what is wrong with either is said here, not in the page
    settings = os.environ | {
        "AESTHEMO_INSPECT": str(folder), "AESTHEMO_INSPECT_ROOT": "" if root is None else str(Path(root).resolve()),
        "AESTHEMO_INSPECT_COUNT": str(count), "JUPYTER_PREFER_ENV_PATH": "1",
    }
    with tempfile.TemporaryDirectory() as place:
        notebook = Path(place) / "inspector.ipynb"
        write_notebook(notebook)
        with subprocess.Popen(command(notebook, options), env=settings, cwd=place) as voila:
            try:
                return voila.wait()
            except KeyboardInterrupt:
                voila.terminate()  # in a terminal it got the interrupt too; either way it ends its kernels
                return voila.wait()


def command(notebook: Path, options: tuple = ()) -> list[str]:
    """Voila's command line for one notebook: on loopback, kernels culled, no source, traceback or file shown."""
    return [
        sys.executable, "-m", "voila", str(notebook), "--Voila.ip=127.0.0.1", "--Voila.auto_token=True",
        "--VoilaConfiguration.strip_sources=True", "--VoilaConfiguration.show_tracebacks=False",
        *(f"--VoilaConfiguration.extension_allowlist={part}" for part in PARTS),
        f"--MappingKernelManager.cull_idle_timeout={IDLE}", "--MappingKernelManager.cull_interval=30",
        "--MappingKernelManager.cull_connected=False", *options,
    ]


def write_notebook(path: Path) -> None:
    """A notebook with one cell, the inspector."""
    cell = {"cell_type": "code", "id": "inspector", "metadata": {}, "source": SOURCE, "outputs": [],
            "execution_count": None}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    write_json(path, {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": [cell]})
