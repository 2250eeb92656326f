"""Scenes as a folder of files: drawn once, recognised by a hash of everything in it."""

import hashlib
import io
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from PIL import Image

from .drawing import picture
from .factors import LOCAL, rate, sample

VERSION = 2  #: Goes up when the same parameters give other files; folders of another version are drawn anew
FOLDERS, TABLES, DESCRIPTION = ("images", "masks"), ("factors.csv", "ratings.csv"), "scenes.json"


def parameters_of(root: Path) -> dict | None:
    """The parameters of the scenes in a folder; None if it is missing, empty, unfinished or damaged.

    A ValueError says that it holds something else, which must not be replaced.
    """
    if not root.exists():
        return None
    names = {path.name for path in root.iterdir() if not path.name.startswith(".")} if root.is_dir() else {root.name}
    if names and (DESCRIPTION not in names or names - {*FOLDERS, *TABLES, DESCRIPTION}):
        strange = min(names - {*FOLDERS, *TABLES, DESCRIPTION}, default=min(names))
        raise ValueError(f"{root} holds something else than drawn scenes: {strange}; "
                         f"name a folder that is missing, empty or made by drawing scenes, or move that away")
    try:
        described = json.loads((root / DESCRIPTION).read_text(encoding="utf-8"))
        names = (*TABLES, *(name for number in range(described["parameters"]["images"]) for name in _names(number)))
        hashes = [_sha256((root / name).read_bytes()) for name in names]
        return described["parameters"] if _sha256(json.dumps(hashes).encode()) == described["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _names(number: int) -> list[str]:
    """The files of one picture."""
    stem = f"scene_{number:05d}"
    return [f"images/{stem}.jpg", *(f"masks/{stem}_{name}.png" for name in LOCAL)]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write(folder: Path, parameters: dict, progress: Callable[[Iterable], Iterable] = iter) -> None:
    """Draw scenes into an empty folder: images, masks of the local factors, tables of factors and ratings.

    ``parameters``: version, images, seed, relatedness and size; ``progress`` wraps the loop over the pictures.
    """
    images, seed = parameters["images"], parameters["seed"]
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    factors = sample(images, seed, parameters["relatedness"])
    hashes = _write_tables(folder, factors, seed)

    def one(number: int) -> list[str]:
        image, masks = picture(factors.loc[number], (seed, number), parameters["size"])
        flat = [masks[name].convert("1", dither=Image.Dither.NONE) for name in LOCAL]
        return [_save(folder / name, drawn) for name, drawn in zip(_names(number), [image, *flat], strict=True)]

    with ThreadPoolExecutor(2) as pool:  # PIL and files let another thread run; more than two only wait
        for made in progress(pool.map(one, range(images))):
            hashes += made
    described = {"parameters": parameters, "sha256": _sha256(json.dumps(hashes).encode())}
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def _save(path: Path, image: Image.Image) -> str:
    """Write a JPEG or PNG file and return its hash."""
    file = io.BytesIO()
    image.save(file, Image.registered_extensions()[path.suffix], quality=90)
    path.write_bytes(file.getvalue())
    return _sha256(file.getvalue())


def _write_tables(folder: Path, factors: pd.DataFrame, seed: int) -> list[str]:
    stems = [f"scene_{number:05d}" for number in range(len(factors))]
    ratings = pd.concat([table.assign(task=name) for name, table in rate(factors, seed).items()])
    tables = factors.assign(image=stems)[["image", *factors.columns]], ratings[["task", "image", "annotator", "value"]]
    hashes = []
    for name, table in zip(TABLES, tables, strict=True):
        data = table.to_csv(index=False, lineterminator="\n").encode()
        (folder / name).write_bytes(data)
        hashes.append(_sha256(data))
    return hashes
