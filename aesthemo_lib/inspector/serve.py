"""The inspector in a browser tab of its own: Voila on this machine's own address, for one person."""

import os
import signal
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from ..prediction import packaged_run
from ..training.run import Run
from .subject import Subject

PARTS = ("@voila-dashboards/widgets-manager8", "anywidget")
"""The only lab extensions that its page loads: nbgrader's and the notebook's own throw errors there."""
POLICY = ("default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; connect-src 'self' ws: data: blob:; "
          "frame-ancestors 'self'")
"""The page may ask no host but this one: Voila's template names fonts and styles elsewhere, which are not needed."""
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
IDLE = 120
"""Seconds after which the kernel of a closed tab is ended."""
SOURCE = """import os
from pathlib import Path
from aesthemo_lib.inspector import Inspector
root = os.environ["AESTHEMO_INSPECT_ROOT"]
Inspector([os.environ["AESTHEMO_INSPECT"]], Path(root) if root else None, int(os.environ["AESTHEMO_INSPECT_COUNT"]))"""


def serve(run: Path | str | None = None, root: Path | None = None, count: int = 24, options: tuple = ()) -> int:
    """Open the inspector of a run in the browser, wait until Ctrl+C closes it, and return Voila's exit status.

    The address holds a token, so that others who are logged in on this machine don't get in.

    Args:
        run: a finished run's folder; None: the bundled network.
        count: how many of the test photos in ``root`` are offered.
        options: more of Voila's own; without Voila there is a ValueError.
    """
    if not find_spec("voila"):
        raise ValueError("'inspect' needs Voila, which is not installed here: pip install voila")
    import nbformat

    folder = Path((Run(run) if run else packaged_run()).folder).resolve()
    settings = os.environ | {
        "AESTHEMO_INSPECT": str(folder), "AESTHEMO_INSPECT_ROOT": "" if root is None else str(Path(root).resolve()),
        "AESTHEMO_INSPECT_COUNT": str(count), "JUPYTER_PREFER_ENV_PATH": "1",
    }
    with tempfile.TemporaryDirectory() as place:
        notebook = Path(place) / "inspector.ipynb"
        cells = [nbformat.v4.new_code_cell(SOURCE)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), notebook)
        with subprocess.Popen(command(notebook, options), env=settings, cwd=place) as voila:
            before = signal.signal(signal.SIGTERM, lambda *_: voila.terminate())  # either way it ends its kernels
            try:
                Subject(folder).test_photos(1, root)  # while Voila starts: what is wrong is said here, not in the page
                return voila.wait()
            except KeyboardInterrupt:  # in a terminal Voila got it too
                voila.terminate()
                return voila.wait()
            except (ValueError, OSError):
                voila.terminate()
                raise
            finally:
                signal.signal(signal.SIGTERM, before)


def command(notebook: Path, options: tuple = ()) -> list[str]:
    """Voila's command line for one notebook: on loopback, kernels culled, no source, traceback or file shown."""
    return [
        sys.executable, "-m", "voila", str(notebook), "--Voila.ip=127.0.0.1", "--Voila.auto_token=True",
        "--VoilaConfiguration.strip_sources=True", "--VoilaConfiguration.show_tracebacks=False",
        f"--Voila.tornado_settings={{'headers': {{'Content-Security-Policy': {POLICY!r}}}}}",
        *(f"--VoilaConfiguration.extension_allowlist={part}" for part in PARTS),
        f"--MappingKernelManager.cull_idle_timeout={IDLE}", "--MappingKernelManager.cull_interval=30",
        "--MappingKernelManager.cull_connected=False", *options,
    ]
