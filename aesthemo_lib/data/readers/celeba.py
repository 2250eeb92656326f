"""CelebA's forty face attributes (Liu et al. 2015), as the authors (and torchvision) or Kaggle lay them out.

``celeba/`` holds ``img_align_celeba/000001.jpg`` .., ``list_attr_celeba.txt``, ``list_eval_partition.txt`` and, where
it is there, ``identity_CelebA.txt``: photographs of one person are a group. Kaggle's copy has the two lists as
``.csv``, no identities, and the photographs in ``img_align_celeba/img_align_celeba/``.

Tried on small imitations of both layouts, and on lists of the published length; never on the real photographs.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...tasks import Task
from .. import ratings as rating
from ..table import AnnotatedImages
from . import inside
from .published import needed, present, read_table

PARTS = ("train", "validation", "test")  #: list_eval_partition's 0, 1, 2


def read(root: str | Path, tasks: Sequence[str] = ()) -> AnnotatedImages:
    """CelebA: each attribute is a task with the classes 'absent' and 'present'; its fixed split is kept.

    Args:
        root: the folder that holds ``celeba/``, or that folder itself.
        tasks: which attributes, such as 'Smiling', all forty by default. A task's name can't begin with a digit, so
            '5_o_Clock_Shadow' becomes the task 'a_5_o_Clock_Shadow'.
    """
    folder = Path(root) / "celeba" if (Path(root) / "celeba").is_dir() else Path(root)
    file = _either(folder, "list_attr_celeba")
    skip = int(file.suffix == ".txt")  # its first line is the number of images
    table = _list(file, skip)
    names = {_task_name(name): name for name in table}
    wanted = [_task_name(name) for name in tasks] or list(names)
    if unknown := [name for name in wanted if name not in names]:
        raise ValueError(f"celeba: unknown attribute {unknown[0]!r}; {file} has {', '.join(names)}")
    wrong = ~table.isin([1, -1, "1", "-1"]).to_numpy()
    if wrong.any() or not len(table):
        raise ValueError(f"{file}: row {int(wrong.any(axis=1).argmax()) + skip + 2} is not a file name and "
                         f"{len(names)} values of 1 or -1")
    doubled = folder / "img_align_celeba" / "img_align_celeba"
    photos = doubled if doubled.is_dir() else folder / "img_align_celeba"
    people = folder / "identity_CelebA.txt"
    return present(AnnotatedImages(
        "celeba", tuple(Task(name, ("absent", "present")) for name in wanted),
        [inside(photos, name) for name in table.index],
        votes={name: rating.class_votes(table[names[name]].astype(int) > 0, 2) for name in wanted},
        groups=_column(people, table.index, header=None) if people.is_file() else np.arange(len(table)),
        fixed=_parts(_either(folder, "list_eval_partition"), table.index),
    ))


def _task_name(attribute: str) -> str:
    return re.sub(r"^(?=\d)", "a_", re.sub(r"\W", "_", attribute))


def _either(folder: Path, stem: str) -> Path:
    """Kaggle's list if it is there, else the authors'."""
    kaggle = folder / f"{stem}.csv"
    return kaggle if kaggle.is_file() else needed(
        folder / f"{stem}.txt", "CelebA's lists, as torchvision's datasets.CelebA or Kaggle keeps them")


def _list(file: Path, skip: int = 0, header: int | None = 0) -> pd.DataFrame:
    """A list by its image names."""
    kaggle = file.suffix == ".csv"
    table = read_table(file, (), "CelebA's list as published", sep="," if kaggle else r"\s+", skiprows=skip,
                       header=header, index_col=None if not kaggle and header == 0 else 0, low_memory=False)
    if table.index.nlevels > 1:
        raise ValueError(f"{file}: its rows have more values than it has names; expected CelebA's list as published")
    table.index = table.index.astype(str)
    if table.index.has_duplicates:
        raise ValueError(f"{file}: {table.index[table.index.duplicated()][0]} is listed twice; expected it once")
    return table


def _column(file: Path, images: pd.Index, header: int | None) -> np.ndarray:
    """The second column of a list, in the order of ``images``."""
    column = _list(file, header=header).iloc[:, 0].reindex(images)
    if column.isna().any():
        raise ValueError(f"{file}: no row for {column.index[column.isna()][0]}; expected one for each of "
                         f"list_attr_celeba")
    return column.to_numpy()


def _parts(file: Path, images: pd.Index) -> np.ndarray:
    numbers = _column(file, images, header=0 if file.suffix == ".csv" else None)
    if wrong := set(numbers) - {0, 1, 2}:
        raise ValueError(f"{file}: part {wrong.pop()!r}; expected 0 (training), 1 (validation) or 2 (test)")
    return np.array(PARTS)[numbers.astype(int)]
