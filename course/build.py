"""Make the student copies and the solutions of the exercises from their one source.

    python course/build.py            (or 'make course')

``course/source/exercises`` holds the source in nbgrader's format: solutions between ``### BEGIN SOLUTION`` and
``### END SOLUTION``, graded tests between ``### BEGIN HIDDEN TESTS`` and ``### END HIDDEN TESTS``. This file makes

* ``build/course/student``    stubs instead of solutions, no hidden tests (nbgrader's own release copies, but for their
  checksums: a test compares them); the same files go to ``notebooks/exercises``, where students find them,
* ``build/course/solutions``  everything, to be run and read.

Students need no nbgrader. Only a teacher who grades with it installs it (``pip install nbgrader``, the extra
``course``), see ``docs/teaching.md``.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

PROJECT = Path(__file__).resolve().parents[1]
SOURCE = PROJECT / "course" / "source" / "exercises"
STUDENT = PROJECT / "notebooks" / "exercises"
STUBS = {"code": "# YOUR CODE HERE\nraise NotImplementedError()", "markdown": "YOUR ANSWER HERE"}
"""nbgrader's own, by the kind of cell."""
MARK = re.compile(r"^ *### (?:BEGIN|END) (?:SOLUTION|HIDDEN TESTS)\n?", re.MULTILINE)


def region(name: str) -> re.Pattern:
    """The lines from a BEGIN to its END; group 1 is the indent, group 2 what lies between."""
    return re.compile(rf"^( *)### BEGIN {name}\n(.*?)^ *### END {name}[ ]*(?:\n|\Z)", re.MULTILINE | re.DOTALL)


def student_copy(source: NotebookNode) -> NotebookNode:
    """Stubs instead of solutions, and no hidden tests.

    Raises:
        ValueError: a region has no end, or is in a cell that is not marked for it.
    """
    copy = nbformat.from_dict(source)
    for cell in copy.cells:
        role = cell.metadata.get("nbgrader", {})
        for name, wanted in (("SOLUTION", "solution"), ("HIDDEN TESTS", "grade")):
            if f"BEGIN {name}" in cell.source and not role.get(wanted):
                raise ValueError(f"cell {cell.id}: {name} in a cell that nbgrader doesn't know as {wanted!r}")
        stub = STUBS[cell.cell_type]
        text = region("SOLUTION").sub(lambda match, stub=stub: _stub(match, stub), cell.source + "\n")
        cell.source = region("HIDDEN TESTS").sub("", text).rstrip("\n")
        if MARK.search(cell.source):
            raise ValueError(f"cell {cell.id}: a region that begins must end, each mark on a line of its own")
    return _cleared(copy)


def solution_copy(source: NotebookNode) -> NotebookNode:
    """Everything, without the marks."""
    copy = nbformat.from_dict(source)
    for cell in copy.cells:
        cell.source = MARK.sub("", cell.source).rstrip("\n")
    return _cleared(copy)


def _stub(match: re.Match, stub: str) -> str:
    return "".join(f"{match[1]}{line}\n" for line in stub.splitlines())


def _cleared(notebook: NotebookNode) -> NotebookNode:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def sources() -> list[Path]:
    """The exercises, in order."""
    return sorted(SOURCE.glob("ex*.ipynb"))


def text_of(notebook: NotebookNode) -> str:
    """A notebook as the text of its file."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def build(out: Path) -> list[Path]:
    """Write both copies of every exercise below ``out``; returns the files."""
    written = []
    for path in sources():
        source = nbformat.read(path, as_version=4)
        for kind, make in (("student", student_copy), ("solutions", solution_copy)):
            target = out / kind / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text_of(make(source)), encoding="utf-8", newline="\n")
            written.append(target)
    return written


def main(arguments: list[str]) -> int:
    """Build both copies, and refresh the students' in ``notebooks/exercises``."""
    parser = argparse.ArgumentParser("course", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=PROJECT / "build" / "course", help="%(default)s")
    out = parser.parse_args(arguments).out
    for path in build(out):
        print(path)
        if path.parent.name == "student":
            (STUDENT / path.name).write_bytes(path.read_bytes())
    print(f"The students' copies are also in {STUDENT}. The source is in the public repository: for an exam, change "
          f"its numbers.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
