"""Google Colab: the button on a lesson's page, and the lessons as Colab opens them.

A notebook in Colab doesn't know where it came from, so its first cell must name the repository that it clones. The
lessons in git name none: ``write_copies`` fills it in, and ``.github/workflows/site.yml`` pushes the copies to the
branch ``colab``, to which the buttons lead. None of this was tried on GitHub or on Colab.
"""

from __future__ import annotations

import re
from pathlib import Path

NAMELESS = r"SOURCE = \"\""
"""What stands in the file of each lesson, in its first cell."""


def on_github(page: str | None) -> str | None:
    """``owner/name`` of a repository's page; None if it isn't on GitHub, the one place where Colab looks."""
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+)", page or "")
    return found and found[1]


def button(name: str, lesson: str) -> str:
    """The link, as HTML, that opens a lesson in Colab.

    Args:
        name: the repository, ``owner/name``.
        lesson: the notebook's path in it.
    """
    link = f"https://colab.research.google.com/github/{name}/blob/colab/{lesson}"
    return f'<a class="colab" href="{link}">Open in Colab</a>'


def write_copies(name: str, lessons: list[Path], project: Path, folder: Path) -> None:
    """Write lessons with the repository's address in their first cell, to the places that they have in the repository.

    Raises:
        ValueError: a lesson has no place for the address.
    """
    for lesson in lessons:
        before, found, after = lesson.read_text(encoding="utf-8").partition(NAMELESS)
        if not found:
            raise ValueError(f'{lesson.name}: expected the line SOURCE = "" in its first cell')
        copy = folder / lesson.relative_to(project)
        copy.parent.mkdir(parents=True, exist_ok=True)
        text = rf"{before}SOURCE = \"https://github.com/{name}\"{after}"
        copy.write_text(text, encoding="utf-8", newline="\n")
