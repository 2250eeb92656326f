"""One reader per published data set, and ``scenes``, which is drawn; each returns an ``AnnotatedImages``."""

import inspect
import os
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from ...files import cache_folder
from ...tasks import MIKELS_EMOTIONS, PATENT_TASKS, Task
from ..table import AnnotatedImages

READERS = {
    "scenes": "scenes", "oasis": "oasis", "csv": "csv_table",
    **{name: name for name in ("folders", "iae", "para", "celeba")},
    **{name: f"published:{name}" for name in ("emoset", "abstract", "artphoto", "ava")},
}
"""Data set name to module, and its function if that is not ``read``; imported when the data set is read."""


def read(name: str, root: str | Path | None = None, **options) -> AnnotatedImages:
    """Read a data set by its name.

    Args:
        name: one of ``READERS``.
        root: its folder; see ``data_root`` for the default.
        options: the reader's own, such as ``sensitive=True`` for 'oasis'.

    Raises:
        ValueError: no such data set or option, or something in the data is wrong.
        FileNotFoundError: the data are not there; the message says where they were looked for.
    """
    if name not in READERS:
        raise ValueError(f"no data set {name!r}; expected one of {', '.join(READERS)}")
    module, _, function = READERS[name].partition(":")
    reader = getattr(import_module(f".{module}", __name__), function or "read")
    known = list(inspect.signature(reader).parameters)[1:]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"data set {name!r} has no option {unknown[0]!r}; expected {', '.join(known) or 'none'}")
    return reader(data_root(name, root), **options)


def data_root(name: str, root: str | Path | None = None) -> Path:
    """Where a data set lies: ``root`` if given, else ``$AESTHEMO_DATA/<name>``, else ``data/<name>`` in the project.

    The project is the checkout that this library is in; an installed wheel has ``data`` in the user's cache folder.
    It is never the working directory, so that every command and notebook finds the same data.
    """
    if root is not None and str(root):
        return Path(root).expanduser()
    if os.environ.get("AESTHEMO_DATA"):
        return Path(os.environ["AESTHEMO_DATA"]).expanduser() / name
    checkout = Path(__file__).resolve().parents[3]
    return (checkout if (checkout / "notebooks").is_dir() else cache_folder()) / "data" / name


def inside(folder: Path, name: str, where: str = "") -> Path:
    """The file that a list of images names in its folder; a ValueError if the name is empty, or leads out of it.

    A link that lies in the folder may lead out. ``where`` the name stands, for the message.
    """
    if name and name[0] not in "/\\" and ".." not in name and ":" not in name:  # nothing in it could lead out
        return folder / name.replace("\\", "/")
    home = Path(os.path.abspath(folder))
    path = Path(os.path.abspath(home / name.replace("\\", "/")))
    if not name or not path.is_relative_to(home):
        raise ValueError(f"{where and f'{where}: '}path {name!r} is not inside {folder}; expected a file in it, "
                         f"as seen from there")
    return folder / path.relative_to(home)


def infer_task(name: str, labels: Iterable[str]) -> Task:
    """The task that a column of labels stands for.

    Exactly 'low' and 'high', or the eight emotions, come in the order of the patent's tasks; other classes are sorted.
    A task with the name of a patent's task has its loss weight, others have 1.
    """
    labels = set(labels)
    known = next((known for known in (("low", "high"), MIKELS_EMOTIONS) if labels == set(known)), None)
    weights = {task.name: task.loss_weight for task in PATENT_TASKS}
    return Task(name, known or tuple(sorted(labels)), weights.get(name, 1.0))
