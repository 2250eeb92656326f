"""Class folders: ``<class>/*.jpg``, one label an image; or ``train/<class>/*.jpg`` and so on, with a fixed split."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ...tasks import Task
from ..copies import group_copies
from ..table import AnnotatedImages
from . import infer_task
from .spelling import PARTS, check_names, clean, hold_dates, is_no_label, several

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif",
                            ".heic", ".heif"})
SYSTEMS = re.compile(r"[._@$].*|#(recycle|snapshot)|~snapshot|lost\+found|lost\.dir|found\.\d+|recycle[dr]|"
                     r"system volume information|thumb(nail)?s|network trash folder|temporary items", re.IGNORECASE)
"""Names that operating systems, disk stations and archives give to folders of their own; and ``_name``: no class."""


def read(root: str | Path, task: str | Task = "emotion") -> AnnotatedImages:
    """Read a folder with one folder per class; each image has one vote, for the class whose folder holds it.

    Folders named train, validation (or val) and test, with class folders in each, are a fixed split. One log line
    counts and names what is not read. Hidden files are passed over in silence.

    Args:
        root: the folder that holds the class folders.
        task: what the folders say: a name (see ``infer_task`` for the order of the classes; the one task has
            weight 1 then), or a Task, whose classes the folders must be.

    Raises:
        ValueError: fewer than two class folders, one without images or of no class, or two spelt almost alike.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; expected one folder per class in it, such as awe/photo.jpg")
    parts = _parts(root, least=1 if isinstance(task, Task) else 2)
    folders = {folder: part for place, part in parts.items() for folder in _folders(place)}
    paths = {path: folder for folder in folders for path in _images(folder)}
    task = _task(root, task, [clean(folder.name) for folder in paths.values()])
    labels = [_class(task, folder) for folder in paths.values()]
    _report(root, {*parts, root}, folders, paths)
    return group_copies(AnnotatedImages(
        "folders", (task,), list(paths), {task.name: np.eye(len(task.classes))[labels]},
        groups=np.array([path.relative_to(root).as_posix() for path in paths]),
        fixed=np.array([folders[folder] for folder in paths.values()]) if len(parts) > 1 else None, folder=root,
    ))


def class_names(root: Path) -> set[str]:
    """The classes that the folders name; empty if there are none."""
    names = _folders(root) if root.is_dir() else []
    if names and all(folder.name.casefold() in PARTS for folder in names):
        names = [inner for folder in names for inner in _folders(folder)]
    return {clean(folder.name) for folder in names}


def _folders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not SYSTEMS.fullmatch(entry.name))


def _parts(root: Path, least: int) -> dict[Path, str]:
    """The folders that hold class folders, each with its part: only the root, or those of a split."""
    folders = _folders(root)
    if len(folders) < least and not any(folder.name.casefold() in PARTS for folder in folders):
        there = f"only the folder {folders[0].name!r}" if folders else "no folders"
        raise ValueError(f"{root}: {there} in it; expected two or more class folders, such as awe/ and fear/")
    if any(folder.name.casefold() not in PARTS for folder in folders):
        return {root: "train"}
    parts = {folder: PARTS[folder.name.casefold()] for folder in folders}
    flat = [folder.name for folder in folders if not _folders(folder)]
    if flat:
        raise ValueError(f"{root}: {flat[0]}/ is a part of a split by its name, but holds no class folders; expected "
                         f"{flat[0]}/awe, {flat[0]}/fear and so on, or class folders that are not called so")
    if missing := [part for part in ("train", "validation", "test") if part not in parts.values()]:
        raise ValueError(f"{root}: {', '.join(folder.name + '/' for folder in folders)} are parts of a split, of which "
                         f"{missing[0]}/ is missing; add it, or put the class folders together to have a split made")
    return parts


def _task(root: Path, task: str | Task, names: list[str]) -> Task:
    """The task itself if it is given, else the one whose classes the images' folders name."""
    if isinstance(task, Task):
        return task
    counts = {name: names.count(name) for name in sorted(set(names))}
    check_names(counts, f"{root}: {task}")
    for name in counts:
        if is_no_label(name) or several(name, counts):
            says = "nobody judged its images" if is_no_label(name) else "its images are of several classes"
            raise ValueError(f"{root}: the folder {name!r} says that {says}; call it '_{name}' to leave them out, or, "
                             f"if it is a class, by another word")
    if hold_dates(counts):
        raise ValueError(f"{root}: the folders are named by dates; expected a folder for each class of {task}, such as "
                         f"awe/ and fear/")
    if len(counts) < 2:
        raise ValueError(f"{root}: only the class {names[0]!r} in it; expected two or more class folders, such as awe/ "
                         f"and fear/")
    return Task(task, infer_task(task, counts).classes)


def _class(task: Task, folder: Path) -> int:
    name = clean(folder.name)
    if name not in task.classes:
        raise ValueError(f"{folder}: is no class of the task {task.name!r}; expected {', '.join(task.classes)}")
    return task.index(name)


def _images(folder: Path) -> list[Path]:
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    if not paths:
        raise ValueError(f"{folder}: no images directly in this class folder; expected files such as photo.jpg "
                         f"({', '.join(sorted(IMAGE_SUFFIXES))}); remove the folder or fill it")
    return paths


def _report(root: Path, places: set[Path], folders: Iterable[Path], paths: Iterable[Path]) -> None:
    """One line about all that lies there and is not read."""
    left = [entry for place in places for entry in place.iterdir() if entry not in places and (
        entry.is_dir() or entry.suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith("."))]
    left += [entry for folder in folders for entry in folder.iterdir() if not entry.name.startswith(".")]
    over = sorted(entry.relative_to(root).as_posix() for entry in set(left).difference(folders, paths))
    if over:
        logging.getLogger(__name__).warning(
            "%s: %d entries are not read, since they are folders of the system, no images by their suffix, or not "
            "directly in a class folder: %s%s", root, len(over), ", ".join(over[:10]), " ..." if len(over) > 10 else "")
