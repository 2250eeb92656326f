"""CelebA's forty face attributes (Liu et al. 2015), in the layout that torchvision's ``datasets.CelebA`` keeps.

``celeba/`` holds ``img_align_celeba/000001.jpg`` .., ``list_attr_celeba.txt``, ``list_eval_partition.txt`` and, where
it is there, ``identity_CelebA.txt``: photographs of one person are a group. Tested on a small imitation only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...tasks import Task
from .. import ratings as rating
from ..table import AnnotatedImages
from . import inside
from .published import needed, present

PARTS = ("train", "validation", "test")
"""list_eval_partition.txt's 0, 1, 2."""


def read(root: str | Path, tasks: Sequence[str] = ()) -> AnnotatedImages:
    """CelebA: each attribute is a task with the classes 'absent' and 'present'; its fixed split is kept.

    Args:
        root: the folder that holds ``celeba/``, or that folder itself.
        tasks: which attributes, such as 'Smiling'; all forty by default. A task's name has '_' for what is no letter or
            digit ('5_o_Clock_Shadow' becomes 'a_5_o_Clock_Shadow', since a name can't begin with a digit).

    Raises:
        FileNotFoundError: a list, or every image, is missing.
        ValueError: an unknown attribute, or a row that is not as published.
    """
    folder = Path(root) / "celeba" if (Path(root) / "celeba").is_dir() else Path(root)
    file = needed(folder / "list_attr_celeba.txt", "CelebA as torchvision's datasets.CelebA keeps it")
    lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    names = [re.sub(r"^(?=\d)", "a_", re.sub(r"\W", "_", name)) for name in (lines[1] if len(lines) > 1 else ())]
    unknown = [name for name in tasks if name not in names]
    if unknown:
        raise ValueError(f"celeba: unknown attribute {unknown[0]!r}; {file} has {', '.join(names)}")
    wanted, rows = list(tasks or names), lines[2:]
    wrong = next((i for i, row in enumerate(rows) if len(row) != len(names) + 1 or set(row[1:]) - {"1", "-1"}), None)
    if wrong is not None or not rows:
        raise ValueError(f"{file}: row {(wrong or 0) + 3} is not a file name and {len(names)} values of 1 or -1")
    values = np.array([row[1:] for row in rows], dtype=np.int64) > 0  # (N, attributes)
    images = [row[0] for row in rows]
    people = folder / "identity_CelebA.txt"
    return present(AnnotatedImages(
        "celeba", tuple(Task(name, ("absent", "present")) for name in wanted),
        tuple(inside(folder / "img_align_celeba", name) for name in images),
        votes={name: rating.class_votes(values[:, names.index(name)].astype(int), 2) for name in wanted},
        groups=np.array(_column(people, images) if people.is_file() else range(len(images))),
        fixed=_parts(folder / "list_eval_partition.txt", images),
    ))


def _column(file: Path, images: list[str]) -> np.ndarray:
    """The second column of a list, in the order of ``images``."""
    lines = needed(file, "CelebA's list").read_text(encoding="utf-8").splitlines()
    told = dict(line.split()[:2] for line in lines if len(line.split()) >= 2)
    missing = [name for name in images if name not in told]
    if missing:
        raise ValueError(f"{file}: no row for {missing[0]}; expected one a row of list_attr_celeba.txt")
    return np.array([told[name] for name in images])


def _parts(file: Path, images: list[str]) -> np.ndarray:
    numbers = _column(file, images)
    wrong = set(numbers) - {"0", "1", "2"}
    if wrong:
        raise ValueError(f"{file}: part {min(wrong)!r}; expected 0 (training), 1 (validation) or 2 (test)")
    return np.array(PARTS)[numbers.astype(int)]
