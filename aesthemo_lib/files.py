"""Writing files so that nothing half-written stays behind, and where things are kept."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder that becomes ``path`` if the block succeeds, and vanishes if not.

    >>> with atomic(Path("table.csv")) as temporary:                        # doctest: +SKIP
    ...     temporary.write_text("a,b", encoding="utf-8")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last, since some writers go by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON atomically. NaN is refused, as other readers can't take it."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON; a ValueError names the file if it is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as fault:
        raise ValueError(f"{path} is not valid JSON ({fault}); delete it, or restore it from where it came") from fault


def digest(content: Any) -> str:
    """The SHA-256 of any JSON-able content, as hex; equal content gives an equal digest."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def cache_folder() -> Path:
    """Where derived data lives: ``$AESTHEMO_CACHE``, else the system's cache folder."""
    import pooch

    return Path(os.environ.get("AESTHEMO_CACHE") or pooch.os_cache("aesthemo"))


def show_progress() -> bool:
    """Whether someone is watching: a terminal, or a notebook that was not started headless by ``aesthemo run``."""
    if os.environ.get("AESTHEMO_HEADLESS"):
        return False
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def project_folder() -> Path:
    """The checkout: the nearest folder from here upwards that holds ``notebooks`` and ``aesthemo_lib``.

    Raises:
        FileNotFoundError: the library is installed, but its notebooks are not here.
    """
    for start in (Path.cwd(), Path(__file__).resolve()):
        for folder in (start, *start.parents):
            if (folder / "notebooks").is_dir() and (folder / "aesthemo_lib").is_dir():
                return folder
    raise FileNotFoundError("no checkout of the project found; run this in its folder (it holds notebooks/)")
