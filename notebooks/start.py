"""The lessons' first cell runs this file where the library is not installed: a hub, Colab, or the wrong kernel.

It needs only the standard library, since nothing else may be installed, and does one of three things: where all
packages are there (a hub, ``NOENV=1``) it makes the checkout importable; on Colab it installs what is missing; and
anywhere else it says which kernel is wanted. It has not been tested on Colab itself.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
KEPT = ("torch", "torchvision", "ipython", "ipykernel", "ipywidgets", "jupyterlab", "jupyter-client", "traitlets")
"""What a running kernel stands on: never installed and never moved by a cell of that kernel."""


def missing(project: Path = PROJECT) -> list[str]:
    """The requirements of ``pyproject.toml`` whose package is not installed here, but for those of ``KEPT``.

    >>> missing()  # this kernel has everything
    []
    """
    content = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = {re.split(r"[^\w.-]", line)[0]: line for line in content["project"]["dependencies"]}
    return [line for name, line in wanted.items() if name.lower() not in KEPT and not _version(name)]


def start(project: Path = PROJECT, colab: bool | None = None) -> None:
    """Make ``aesthemo_lib`` importable in this kernel.

    Args:
        project: the checkout.
        colab: whether this is Colab; found out if None.

    Raises:
        ModuleNotFoundError: packages are missing and this is not Colab: it is the wrong kernel.

    >>> start()  # nothing to do
    >>> str(PROJECT) in sys.path
    True
    """
    absent = missing(project)
    if absent and not ("google.colab" in sys.modules if colab is None else colab):
        raise ModuleNotFoundError(
            f"this kernel ({sys.executable}) lacks {', '.join(re.split('[<>=!~]', r)[0] for r in absent)}. "
            f"Choose the kernel 'Python 3' of {_environment(project)}: 'python run.py lab' opens JupyterLab with it; "
            f"in VS Code it is under 'Select Kernel'"
        )
    if absent:
        _install(absent)
    if str(project) not in sys.path:
        sys.path.insert(0, str(project))


def _install(requirements: list[str]) -> None:
    """pip, with the versions of ``KEPT`` held where they are."""
    held = "".join(f"{name}=={version}\n" for name in KEPT if (version := _version(name)))
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "held.txt"
        constraints.write_text(held, encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(constraints), *requirements]
        subprocess.run(command, check=True)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _environment(project: Path) -> Path:
    return project / ".venv" / ("Scripts" if os.name == "nt" else "bin") / "python"


if __name__ == "__main__":
    start()
