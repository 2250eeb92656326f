"""Every notebook, headless: what ``make notebooks`` does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from aesthemo_lib.files import project_folder
from aesthemo_lib.headless.execute import execute


def all_notebooks(out: Path) -> None:
    """Every notebook with the preset 'smoke', headless through papermill; those with kept outputs through nbval too."""
    folder = project_folder() / "notebooks"
    notebooks = [path for path in sorted(folder.rglob("*.ipynb"))  # an unsolved exercise is meant to fail
                 if not {".ipynb_checkpoints", "exercises"} & set(path.parts)]
    for path in notebooks:
        began = time.monotonic()
        parameters = {"preset": "smoke", "out": str(out)}
        execute(path.relative_to(folder).with_suffix("").as_posix(), parameters, out / path.name)
        print(f"papermill {path.name}: {time.monotonic() - began:.0f} s", flush=True)
    compared = [str(path) for path in notebooks if re.search(r'"output_type"', path.read_text(encoding="utf-8"))]
    executed = [str(out / path.name) for path in notebooks if str(path) not in compared]
    environment = os.environ | {"AESTHEMO_HEADLESS": "1"}
    environment.pop("MPLBACKEND", None)
    # Kept outputs must come out the same (--nbval); prepared copies must run again as they are (--nbval-lax).
    for options, files in ((["--nbval"], compared), (["--nbval-lax"], executed)):
        if files:
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull,
                       "--rootdir", str(folder), *options, *files]
            subprocess.run(command, check=True, env=environment)
