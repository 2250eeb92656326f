"""A study through Snakemake: cells in parallel, on this machine or a cluster; a killed one goes on."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from aesthemo_lib.device import allowed_cores
from aesthemo_lib.files import project_folder

from .protocol import Study


def run_workflow(of: Study, out: Path, root: Path | None = None, arguments: Sequence[str] = ()) -> None:
    """Run a study's unfinished cells with Snakemake, one thread each, as many at once as there are cores.

    After a SIGKILL Snakemake refuses to start over its own lock, and then over files that may be incomplete. A lock of
    ours, which the system gives up with its process, says whether another start lives; if none does, both are mended.

    Args:
        of: the study.
        out, root: see ``study_runs.run_cell``.
        arguments: handed on to Snakemake, such as ``--executor slurm --jobs 50``.

    Raises:
        ValueError: Snakemake is not installed.
        RuntimeError: another process runs this study, or a cell failed (its own words stand above).
    """
    from filelock import FileLock, Timeout

    if importlib.util.find_spec("snakemake") is None:
        raise ValueError("make study needs Snakemake: pip install \"aesthemo-lib[study]\"; "
                         f"without it: python -m aesthemo_studies study --study {of.name} --loop")
    folder = Path(out).resolve() / of.name
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(project_folder() / "Snakefile"),
               "--directory", str(folder), "--quiet", "rules", "--nocolor"]
    settings = ["--config", f"study={of.name}", f"form={of.form}"]
    settings += [f"root={Path(root).resolve()}"] if root else []
    try:
        with FileLock(folder / "study.lock", timeout=0) as lock:
            # Snakemake holds the lock with us: one that outlives its killed starter is not joined by a second one.
            number = lock._context.lock_file_fd
            held = (number,) if number and os.name == "posix" else ()
            if any((folder / ".snakemake" / "locks").glob("*")):
                subprocess.run([*command, "--unlock", *settings], check=True)
            cores = [] if "--executor" in arguments else ["--cores", str(allowed_cores())]
            subprocess.run([*command, *cores, "--rerun-incomplete", "--rerun-triggers", "mtime", "--keep-going",
                            *arguments, *settings], check=True, pass_fds=held)
    except Timeout:
        raise RuntimeError(f"{folder}: another process runs this study; wait for it, or stop it first") from None
    except subprocess.CalledProcessError as fault:
        raise RuntimeError(f"study {of.name}: Snakemake ended with {fault.returncode}; the cells that are finished "
                           f"stay, and the same command goes on with the rest") from None
