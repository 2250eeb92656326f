"""Photographs decoded once (see ``decoding``) and kept as uint8 in a memory-mapped file."""

import hashlib
import io
import json
import math
import os
import shutil
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..device import allowed_cores, keep_freed_memory
from ..files import DiskFull, cache_folder, digest, file_lock, read_json, room_for, show_progress, write_json
from .decoding import BadImage, decode
from .table import AnnotatedImages

RECIPE = "srgb by icc, exif upright, alpha over white, bilinear square, 3"
"""Part of the cache's key: another way of making the pixels is another cache."""
ON_BAD_IMAGE = ("error", "skip")
CHUNK = 64  #: Images that are written together: so few stay in the processor's cache until then
AHEAD = 1  #: Chunks that are decoded while one is written; more showed no gain
AT_ONCE = 8  #: Images that a decoding thread takes at a time


class BadImages(ValueError):
    """Files that can't be used as images: ``reasons`` by path, kept as an attribute; ``cure`` is the last line."""

    def __init__(self, reasons: dict[Path, str], cure: str = ""):
        self.reasons = reasons
        lines = "".join(f"\n  {str(path)!r}: {reason}" for path, reason in list(reasons.items())[:10])
        more = f"\n  and {len(reasons) - 10} more" if len(reasons) > 10 else ""
        super().__init__(f"{len(reasons)} image file(s) can't be read:{lines}{more}" + (f"\n{cure}" if cure else ""))


def load_pixels(
    images: AnnotatedImages, side: int, on_bad_image: str = "error", folder: Path | None = None
) -> tuple[AnnotatedImages, np.ndarray]:
    """The pixels of a data set, decoded now or read from the cache.

    Args:
        side: the side of the squares, in pixels (256 in [0056]).
        on_bad_image: 'error' raises ``BadImages`` with a list of all bad files; 'skip' warns and leaves them out.
        folder: the cache's folder, by default ``files.cache_folder()``.

    Returns:
        the usable images, and their (N, side, side, 3) uint8 pixels, a read-only memory map.
    """
    if on_bad_image not in ON_BAD_IMAGE:
        raise ValueError(f"on_bad_image: expected 'error' or 'skip', got {on_bad_image!r}")
    folder = (folder or cache_folder()) / "pixels"
    key = _key(images.paths, side)
    target, shape = folder / f"{images.name}-{side}-{key[:16]}.npy", (len(images), side, side, 3)
    with file_lock(target.with_suffix(".lock"), f"decoding {images.name} into {folder}"):
        if not _is_whole(target, shape):
            _build(images.paths, target, shape, images.name)
            if _key(images.paths, side) != key:
                _forget(target)
                raise ValueError(f"{images.name}: images changed while they were read; start again")
        note = read_json(target.with_suffix(".json"))
        bad = {images.paths[int(row)]: reason for row, reason in note["bad"].items()}
        if bad and on_bad_image == "error":
            _forget(target)  # a bad file that is put right in place may keep its size and time
            raise BadImages(bad, "Mend them or leave them out (03_train's parameter on_bad_image=skip does)")
    pixels = np.memmap(target, np.uint8, "r", offset=len(_header(shape)), shape=shape)  # nothing in it is interpreted
    if not bad:
        return images, pixels
    warnings.warn(f"{images.name}: skipped {BadImages(bad)}", stacklevel=2)
    good = np.setdiff1d(np.arange(len(images)), [int(row) for row in note["bad"]])
    return images.select(good), pixels[good]


def _forget(target: Path) -> None:
    for path in (target, target.with_suffix(".json")):
        path.unlink(missing_ok=True)


def _header(shape: tuple[int, ...]) -> bytes:
    """How a .npy file of uint8 begins."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return out.getvalue()


def _is_whole(target: Path, shape: tuple[int, ...]) -> bool:
    """Whether a cache stands there in its full length."""
    header = _header(shape)
    if not target.is_file() or not target.with_suffix(".json").is_file():
        return False
    with target.open("rb") as file:
        return file.read(len(header)) == header and target.stat().st_size == len(header) + math.prod(shape)


def _key(paths: Sequence[Path], side: int) -> str:
    facts = []
    for path in paths:
        try:
            facts.append([os.path.abspath(path), (stat := path.stat()).st_size, stat.st_mtime_ns])
        except OSError:
            facts.append([os.path.abspath(path), -1, -1])  # reported by the build, by name and with the reason
    return digest([RECIPE, side, facts])


def _build(paths: Sequence[Path], target: Path, shape: tuple[int, ...], name: str) -> None:
    """Decode all into ``target``; an interrupted build resumes where it stopped.

    Pixels are written, not mapped: on a full disk writing fails, where touching a mapped page kills the process.
    """
    keep_freed_memory()  # each photograph takes the place of the last one
    partial, journal, header = target.with_suffix(".partial"), target.with_suffix(".done"), _header(shape)
    finished = _finished_chunks(journal) if partial.exists() else {}
    missing = math.prod(shape) - (partial.stat().st_size if finished else 0)
    if missing > (free := shutil.disk_usage(target.parent).free):
        raise DiskFull(f"{name}: the decoded pixels need another {missing / 1e6:,.0f} MB in {target.parent}, where "
                       f"{free / 1e6:,.0f} MB are free; make room, or set AESTHEMO_CACHE to a folder on another disk")
    with (
        room_for(target),
        partial.open("r+b" if finished else "wb") as out,
        ThreadPoolExecutor(allowed_cores()) as pool,
        tqdm(total=len(paths), desc=f"Decoding {name}", unit="image", disable=not show_progress()) as bar,
    ):
        out.write(header)
        starts, size = range(0, len(paths), CHUNK), math.prod(shape[1:])
        chunks = decoded(paths, [start for start in starts if start not in finished], shape[1], pool, AHEAD)
        for start in starts:
            rows = range(start, min(start + CHUNK, len(paths)))
            if start not in finished:  # the pool decodes the next chunk while this one is written
                pixels, finished[start] = next(chunks)
                out.seek(len(header) + start * size)
                out.write(pixels.data)
                out.flush()
                os.fsync(out.fileno())  # the pixels are on disk before the journal says so
                with journal.open("a", encoding="utf-8") as notes:
                    notes.write(json.dumps([start, finished[start]]) + "\n")
            bar.update(len(rows))
    bad = {row: reason for part in finished.values() for row, reason in part.items()}
    write_json(target.with_suffix(".json"), {"images": len(paths), "bad": bad})
    os.replace(partial, target)
    journal.unlink(missing_ok=True)


def _finished_chunks(journal: Path) -> dict[int, dict[str, str]]:
    done = {}
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []:
        try:
            start, bad = json.loads(line)
        except ValueError:
            break  # the line that was being written when it was cut off
        done[start] = bad
    return done


def decoded(
    paths: Sequence[Path], starts: Sequence[int], side: int, pool: ThreadPoolExecutor, ahead: int
) -> Iterator[tuple[np.ndarray, dict[str, str]]]:
    """The chunks of ``CHUNK`` images that begin at ``starts``: pixels, and what is wrong with the bad ones, by row.

    Args:
        ahead: so many chunks are decoded while one is in use; 0 where it is used on the same cores.

    Yields:
        (C, side, side, 3) uint8, black where an image is bad, and the reasons by row number (as text).
    """
    begun: deque = deque()
    for start in starts:
        begun.append(_begin_chunk(paths, range(start, min(start + CHUNK, len(paths))), side, pool))
        if len(begun) > ahead:
            yield _ended(*begun.popleft())
    while begun:
        yield _ended(*begun.popleft())


def _begin_chunk(paths: Sequence[Path], rows: range, side: int, pool: ThreadPoolExecutor) -> tuple:
    pixels, bad = np.empty((len(rows), side, side, 3), np.uint8), {}

    def some(first: int) -> None:
        for place in range(first, min(first + AT_ONCE, len(rows))):
            try:
                pixels[place] = decode(paths[rows[place]], side)
            except BadImage as fault:
                pixels[place], bad[str(rows[place])] = 0, fault.reason

    return pool.map(some, range(0, len(rows), AT_ONCE)), pixels, bad


def _ended(decoding: Iterator, pixels: np.ndarray, bad: dict[str, str]) -> tuple[np.ndarray, dict[str, str]]:
    list(decoding)
    return pixels, dict(sorted(bad.items(), key=lambda entry: int(entry[0])))


def pixels_sha256(pixels: np.ndarray) -> str:
    """The SHA-256 of the pixels, read in pieces."""
    sha = hashlib.sha256()
    for start in range(0, len(pixels), CHUNK):
        sha.update(np.ascontiguousarray(pixels[start:start + CHUNK]).data)
    return sha.hexdigest()


def pixel_digests(pixels: np.ndarray) -> list[str]:
    """For each image of (N, S, S, 3) uint8 a short hash: by these and its name a run knows an image again."""
    return [hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).hexdigest() for image in pixels]


def mean_image(pixels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The mean (S, S, 3) float32, 0..255, of the training rows of (N, S, S, 3) uint8 pixels [0056], and of no others.

    Equation 1.5 of lesson 01.
    """
    total = np.zeros(pixels.shape[1:], dtype=np.int64)  # whole numbers, so that the order of adding can't matter
    for start in range(0, len(rows), CHUNK):
        total += pixels[np.sort(rows[start:start + CHUNK])].sum(axis=0, dtype=np.int64)
    return (total / len(rows)).astype(np.float32)
