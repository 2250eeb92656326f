"""Jobs that are killed at random moments and started again, and a look at what lies there meanwhile.

``fates`` is what both the tests (a few kills) and ``soak.py`` (many) do. Children come from a server process that has
the library loaded (``forked``), so that a kill hits work and not imports.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import forked
import nbformat
import numpy as np
import pandas as pd
from safetensors.torch import load_file

from aesthemo_lib.data.images import load_pixels
from aesthemo_lib.data.readers import read
from aesthemo_lib.files import file_lock
from aesthemo_lib.training.runs import Config, train

PROJECT = Path(__file__).resolve().parents[2]
COMMON = ("preset", "data", "root", "seed", "out")
STUDY_SETTINGS = {"epochs": 30, "patience": 30}
TRAIN = """
from pathlib import Path
from aesthemo_lib.training.runs import Config, train
train(Config(data, method, variant or None, preset, split, seed), out, Path(root) if root else None, redo)
"""
UNFINISHED = (".partial", ".done", ".lock")
"""What is not called by its final name: the cache that is being built, its journal, and locks."""
CHECKPOINT = ".epoch-*"
"""What a training's state is called while it is being written."""
TIMING = {"timing.json"}


def build_cache(root: str, out: str) -> None:
    """A job: the cache of a data set."""
    load_pixels(read("csv", root), 64, folder=Path(out))


def config(epochs: int) -> Config:
    """What ``run_training`` trains."""
    return Config(data="csv", preset="smoke", settings={"epochs": epochs, "patience": epochs})


def run_training(root: str, out: str, epochs: int) -> None:
    """A job: a training of many short epochs, each of which writes its state."""
    if hasattr(os, "sched_setscheduler"):  # a real-time process would keep whoever shall kill it from its turn
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    train(config(epochs), Path(out), Path(root))


def hold(lock: str, ready: str, release: str) -> None:
    """A job: hold a lock, as a process at work does, from the file ``ready`` to the file ``release``."""
    with file_lock(Path(lock), "at work"):
        Path(ready).touch()
        while not Path(release).exists():
            time.sleep(0.005)


def start(job: Callable, *arguments) -> multiprocessing.Process:
    """A job in a process of its own."""
    process = forked.context().Process(target=job, args=arguments)
    process.start()
    return process


def finish(job: Callable, *arguments) -> float:
    """Run a job to its end and return its seconds."""
    began, process = time.monotonic(), start(job, *arguments)
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - began


def check_whole(folder: Path) -> int:
    """Read every file that bears its final name; an assertion or the reader's error says which one is half-written.

    Returns:
        how many there are.
    """
    files = []
    for place, folders, names in os.walk(folder):  # it passes over what an orphan takes away meanwhile
        folders[:] = [name for name in folders if not name.startswith(".")]
        if ".resume" in place and "history.json" not in names:
            continue  # a state that is being cleared away
        files += [Path(place, name) for name in names if not name.startswith(".")]
    files = [path for path in files if path.suffix not in UNFINISHED]
    for path in files:
        try:
            _READERS.get(path.suffix, Path.read_bytes)(path)
        except Exception:
            if path.exists():
                raise
    return len(files)


def _check_cache(path: Path) -> None:
    pixels = np.load(path, allow_pickle=False)  # a file that was cut off is refused
    note = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert len(pixels) == note["images"], path


_READERS = {
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".csv": lambda path: pd.read_csv(path, encoding="utf-8"),
    ".safetensors": load_file,
    ".npy": _check_cache,
    ".ipynb": lambda path: nbformat.validate(nbformat.read(path, as_version=4)),
}


def contents(folder: Path, *suffixes: str) -> dict[str, bytes]:
    """The bytes of the finished files (of these kinds), by their names; timings are left out."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(Path(folder).rglob("*"))
            if path.is_file() and path.name not in TIMING and path.suffix in (suffixes or _READERS)}


def fates(job: Callable, arguments: Callable[[Path], tuple], place: Path, kills: int, dice: random.Random,
          in_writing: str = "") -> tuple[int, Path]:
    """Kill a job at random moments, as often as asked, each time starting it again; then let it end.

    A job that ends before its kill is begun anew in another folder, so that every kill hits one at work.

    Args:
        job: what runs.
        arguments: its arguments for an output folder.
        place: where output folders may lie; 'whole' is that of a job that nobody killed.
        kills: how many.
        dice: when.
        in_writing: a pattern of names; if given, the kill follows at once when one of them is there.

    Returns:
        how many starts it took, and the last output folder.
    """
    out, starts, whole = place / "0", 0, finish(job, *arguments(place / "whole"))
    while kills:
        process, starts = start(job, *arguments(out)), starts + 1
        until = time.monotonic() + dice.uniform(0, whole)
        while process.is_alive() and (time.monotonic() < until or in_writing and not exists_below(out, in_writing)):
            time.sleep(0.0005 if in_writing else 0.002)
        alive = process.is_alive()
        process.kill()
        process.join()
        check_whole(out)
        if alive and process.exitcode != 0:
            kills -= 1
        else:
            out = place / str(starts)
    finish(job, *arguments(out))
    check_whole(out)
    return starts + 1, out


def small_project(folder: Path, splits: int = 1) -> Path:
    """A checkout in a folder with a name as people give them, in which the main job and a study take seconds.

    The code is the project's own; the job has one method and one notebook that reads its runs, the study one cell.
    """
    home = folder / "Zoë's course (2)"
    for package in ("aesthemo_lib", "aesthemo_scenes", "aesthemo_studies"):
        shutil.copytree(PROJECT / package, home / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("run.py", "pyproject.toml", "requirements.lock"):
        shutil.copy(PROJECT / name, home)
    jobs = home / "aesthemo_studies" / "reproduce.py"
    text = jobs.read_text(encoding="utf-8")
    for name, value in (("MAIN_METHODS", '{"scenes": (("shared_bottom", ""),)}'), ("SPLITS", str(splits)),
                        ("READING_NOTEBOOKS", '("04_compare",)')):
        text, changed = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
        assert changed == 1, name
    jobs.write_text(text, encoding="utf-8")
    (home / "notebooks").mkdir()
    parameters = next(cell.source for cell in nbformat.read(PROJECT / "notebooks" / "03_train.ipynb", 4).cells
                      if "parameters" in cell.metadata.get("tags", ()))
    common = "\n".join(line for line in parameters.splitlines() if line.split(":")[0] in COMMON)
    for name, given, code in (("03_train", parameters, TRAIN), ("04_compare", common, "print('compared')")):
        cells = [nbformat.v4.new_code_cell(given, metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(code)]
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}),
                       home / "notebooks" / f"{name}.ipynb")
    study = {"data": "scenes", "preset": "smoke", "splits": {"first": splits, "long": 1},
             "settings": {"first": STUDY_SETTINGS, "long": {}},
             "contenders": {name: {"method": name} for name in ("shared_bottom",)}}
    (home / "results").mkdir()
    (home / "results" / "protocol.json").write_text(json.dumps({"studies": {"tiny": study}}), encoding="utf-8")
    return home


def exists_below(folder: Path, pattern: str) -> bool:
    """Whether a file or folder of this pattern lies below a folder, from which another process may be removing some."""
    return any(fnmatch(name, pattern) for _, folders, files in os.walk(folder) for name in (*folders, *files))


def surroundings(home: Path) -> dict[str, str]:
    """The variables for a small project's processes: its own library, data and cache, one thread."""
    kept = {name: value for name, value in os.environ.items() if name not in ("DATA", "ROOT", "PRESET", "ARGS")}
    return kept | {"PYTHONPATH": str(home), "AESTHEMO_DATA": str(home / "data"), "OMP_NUM_THREADS": "1",
                   "AESTHEMO_CACHE": str(home / "cache")}


def kill_commands(command: list, home: Path, out: Path, kills: int, longest: float, dice: random.Random,
                  begun: Callable[[], bool], alone_first: bool = False, last: list | None = None) -> int:
    """The same for a command of a small project. Kills take its children along, or, in turns, leave them as orphans.

    Args:
        longest: the seconds within which a kill falls, counted from when ``begun()`` becomes true.
        alone_first: whether the first kill leaves orphans.
        last: what is started after the last kill, by default the command.

    Returns:
        how many kills hit the command at work; it has ended well after the last one.
    """
    hits = tries = 0
    while hits < kills and tries < 10 * kills:
        tries += 1
        process = subprocess.Popen(command, cwd=home, env=surroundings(home), start_new_session=True,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not begun():
            time.sleep(0.01)
        time.sleep(dice.uniform(0, longest))
        if process.poll() is None:
            first_only = hits % 2 != alone_first
            (os.kill if first_only else os.killpg)(process.pid, signal.SIGKILL)
            hits += 1
        elif process.returncode == 0:
            break  # it has nothing left to do
        process.wait()
        check_whole(out)
    for _ in range(60):
        done = subprocess.run(last or command, cwd=home, env=surroundings(home), capture_output=True, encoding="utf-8")
        if "another process" not in done.stderr:
            break
        time.sleep(1)  # it was refused, since an orphan is still at work
    assert done.returncode == 0, done.stdout + done.stderr
    check_whole(out)
    return hits
