"""Writing files so that nothing half-written stays behind, and where things are kept."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""The system's numbers for a full disk, a file larger than the disk takes, and a used-up quota."""
BUNDLED = Path(__file__).parent / "bundled"
"""The bundled networks: 'photographs', which judges people's own, and 'scenes', whose labels have known causes."""
NOTICE, PATIENCE = 2.0, 20.0
"""Seconds after which a notice of waiting for another process is logged, and after which ``file_lock`` may give up."""


class DiskFull(RuntimeError):
    """There is no room left where something was to be written."""


@contextmanager
def room_for(place: Path) -> Iterator[None]:
    """However a library reports in this block that the disk is full: raise ``DiskFull``, with place and cure."""
    try:
        yield
    except DiskFull:
        raise  # a file's own message, from within a folder's
    except Exception as fault:
        number = re.search(r"\(os error (\d+)\)", str(fault))  # safetensors' way
        if (int(number[1]) if number else getattr(fault, "errno", None)) not in NO_ROOM:
            raise
        raise DiskFull(f"no room left on the disk to write {place} ({fault}); make room, then start again: what was "
                       f"finished before is kept") from fault


@contextmanager
def file_lock(lock: Path, doing: str, patience: float | None = None) -> Iterator[None]:
    """One process at a time. The file ``lock`` ends with the process that holds it, however that ends.

    ``doing``: what the holder does, for the RuntimeError's message after ``patience`` seconds (None: no end).
    """
    from filelock import FileLock, Timeout

    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=NOTICE if patience is None else min(NOTICE, patience))
    except Timeout:
        said = f"another process is {doing} (it holds {lock}; the kernel of an open notebook counts too)"
        logging.getLogger(__name__).warning("waiting: %s", said)
        try:
            held.acquire(timeout=-1 if patience is None else max(0.0, patience - NOTICE))
        except Timeout:
            raise RuntimeError(f"{said}; wait until it has finished, or end it, then start again") from None
    try:
        yield
    finally:
        held.release()


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder that becomes ``path`` if the block succeeds, and vanishes if not."""
    path = Path(os.path.realpath(path) if os.path.islink(path) else path)  # a link stays, and its target is written
    # The suffix stays last, since some writers go by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with room_for(path):
            yield temporary
            os.replace(temporary, path)
    except OSError as fault:
        if str(fault.filename) in (str(temporary), str(path.parent)):
            raise type(fault)(f"{path} can't be written: {fault.strerror}") from None
        raise
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """``atomic`` for a folder: an empty one under a temporary name, which takes its place if the block succeeds.

    Only one process at a time may do so, see ``file_lock``. What a killed process has left is cleared away.
    """
    temporary, old = (folder.with_name(f".{folder.name}.{what}") for what in ("tmp", "old"))
    for left in (temporary, old):
        shutil.rmtree(left, ignore_errors=True)
    try:
        with room_for(folder):
            temporary.mkdir(parents=True)
            yield temporary
            if folder.exists():
                os.replace(folder, old)  # never a folder of which half is deleted
            os.replace(temporary, folder)
    finally:
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)


def check_target(path: Path | None) -> None:
    """Raise OSError, naming the file, if it can't be written: to be called before any work is done. None is no file."""
    if path is not None:
        with suppress(KeyError), atomic(path) as temporary:
            temporary.touch()
            if not path.is_dir():
                raise KeyError  # the touch was all that was asked


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON atomically; a ValueError for NaN, which other readers can't take."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_table(path: Path, table: pd.DataFrame, float_format: str | None = None) -> None:
    """Write a table as CSV atomically: UTF-8, no index, the same bytes on every system; numbers in full by default."""
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False, encoding="utf-8", float_format=float_format, lineterminator="\n")


def read_json(path: Path) -> Any:
    """Read JSON; a ValueError names the file if it is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as fault:
        raise ValueError(f"{path} is not valid JSON ({fault}); delete it, or restore it from where it came") from fault


def read_tensors(path: Path, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of a safetensors file, which can hold no code; a ValueError names the file if it is not one."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device=device)
    except SafetensorError as fault:
        raise ValueError(f"{path} is damaged, or no safetensors file ({fault}); delete it, or restore it from where it "
                         f"came") from fault


def digest(content: Any) -> str:
    """The SHA-256 of any JSON-able content, as hex; equal content gives an equal digest."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def cache_folder() -> Path:
    """Where derived data lives: ``$AESTHEMO_CACHE``, else the system's cache folder; see ``usable_folder``."""
    import pooch

    given = os.environ.get("AESTHEMO_CACHE")
    return usable_folder(given or str(pooch.os_cache("aesthemo")), "AESTHEMO_CACHE", "derived data are kept")


def usable_folder(place: str, variable: str, use: str) -> Path:
    """A folder that is there, or is made now; a ValueError says why it can't be used for what ``use`` names.

    ``variable`` of the environment names another one. A '~' in ``place`` means that no home folder is known.
    """
    folder, reason = Path(place), "it is not writable"
    if "~" in folder.parts:
        folder, reason = Path("~"), "no home folder is known"
    else:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            reason = str(fault.strerror)
    if "~" in folder.parts or not os.access(folder, os.W_OK):
        raise ValueError(f"{folder}, where {use}: {reason}; name a folder that you may write to, as in: "
                         f"export {variable}=/tmp/aesthemo")
    return folder


def show_progress() -> bool:
    """Whether someone is watching: a terminal, or a notebook that was not started headless by ``aesthemo run``."""
    if os.environ.get("AESTHEMO_HEADLESS"):
        return False
    return bool(sys.stderr) and (sys.stderr.isatty() or "ipykernel" in sys.modules)  # it may be closed


def project_folder() -> Path:
    """The checkout: the nearest folder from here upwards that holds ``notebooks`` and ``aesthemo_lib``, or an error."""
    for start in (Path.cwd(), Path(__file__).resolve()):
        for folder in (start, *start.parents):
            if (folder / "notebooks").is_dir() and (folder / "aesthemo_lib").is_dir():
                return folder
    raise FileNotFoundError("no checkout of the project found; run this in its folder (it holds notebooks/)")
