"""Class folders: ``<class>/*.jpg``, one label an image."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from ...tasks import Task
from ..table import AnnotatedImages
from . import infer_task

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


def read(root: str | Path, task: str | Task = "emotion") -> AnnotatedImages:
    """Read a folder with one folder per class; each image has one vote, for the class whose folder holds it.

    Hidden files are passed over in silence; a log line counts and names what else is: files that are no images by
    their suffix, folders within a class folder, and images beside the class folders.

    Args:
        root: the folder that holds the class folders.
        task: what the folders say: a name (see ``infer_task`` for the order of the classes; the one task has
            weight 1 then), or a Task, whose classes the folders must be.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: fewer than two class folders, one without images, or one that is no class of the task.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; expected one folder per class in it, such as awe/photo.jpg")
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__")))
    if len(folders) < 2:
        found = f"only the folder {folders[0].name!r}" if folders else "no folders"
        raise ValueError(f"{root}: {found} in it; expected two or more class folders, such as awe/ and fear/")
    if isinstance(task, str):
        task = Task(task, infer_task(task, (folder.name for folder in folders)).classes)
    images = [(path, _class(task, folder)) for folder in folders for path in _images(folder)]
    paths, labels = zip(*images, strict=True)
    beside = [path for path in root.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path not in folders]
    others = {path for folder in folders for path in folder.iterdir()}.union(beside).difference(paths)
    over = sorted(path.relative_to(root).as_posix() for path in others if not path.name.startswith("."))
    if over:
        logging.getLogger(__name__).warning("%s: %d entries are not read, since they are no images by their suffix or "
                                            "not directly in a class folder: %s%s", root, len(over),
                                            ", ".join(over[:10]), " ..." if len(over) > 10 else "")
    return AnnotatedImages(
        "folders", (task,), paths, {task.name: np.eye(len(task.classes))[list(labels)]},
        groups=np.array([path.relative_to(root).as_posix() for path in paths]),
    )


def _class(task: Task, folder: Path) -> int:
    if folder.name not in task.classes:
        raise ValueError(f"{folder}: is no class of the task {task.name!r}; expected {', '.join(task.classes)}")
    return task.index(folder.name)


def _images(folder: Path) -> list[Path]:
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    if not paths:
        raise ValueError(f"{folder}: no images directly in this class folder; expected files such as photo.jpg "
                         f"({', '.join(sorted(IMAGE_SUFFIXES))}); remove the folder or fill it")
    return paths
