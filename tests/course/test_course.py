"""The exercises: one source makes student copies without and solutions with the answers; both do what they should.

The tests that compare with nbgrader skip visibly without it: only a teacher has it (``pip install nbgrader``).
"""

import importlib.util
import io
import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import nbformat
import papermill
import pytest
from forked import forked_kernels

PROJECT = Path(__file__).resolve().parents[2]
CORE = ("01", "02", "03", "04", "05", "06", "08", "09", "10", "11", "12", "13")
"""00 is a tour and 07 a tool; all other lessons have exercises."""

loader = importlib.util.spec_from_file_location("course_build", PROJECT / "course" / "build.py")
course = importlib.util.module_from_spec(loader)
loader.loader.exec_module(course)
SOURCES = course.sources()
every = pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)


def read(path: Path):
    return nbformat.read(path, as_version=4)


def role(cell, name: str) -> bool:
    return bool(cell.metadata.get("nbgrader", {}).get(name))


def lines_of(source, name: str) -> set[str]:
    """The lines that only a solution or a hidden test has, without white space; short ones could stand anywhere."""
    lines = set()
    for cell in source.cells:
        for match in course.region(name).finditer(cell.source + "\n"):
            lines |= {re.sub(r"\s", "", line) for line in match[2].splitlines()}
    shown = {re.sub(r"\s", "", line) for cell in course.student_copy(source).cells for line in cell.source.splitlines()}
    return {line for line in lines - shown if len(line) >= 16 and not line.startswith(("from", "import"))}


# --- the source and its two copies


def test_each_lesson_has_exercises_to_change_to_build_and_to_interpret():
    assert [path.stem[2:4] for path in SOURCES] == list(CORE)
    for path in SOURCES:
        ids = [cell.metadata["nbgrader"]["grade_id"] for cell in read(path).cells if role(cell, "solution")]
        assert {grade_id.split("-")[1] for grade_id in ids} == {"change", "build", "interpret"} and len(ids) == 3


@every
def test_the_source_is_in_nbgraders_format(path):
    notebook = read(path)
    nbformat.validate(notebook)
    solutions = [cell for cell in notebook.cells if role(cell, "solution") and cell.cell_type == "code"]
    graded = [cell for cell in notebook.cells if role(cell, "grade") and cell.cell_type == "code"]
    (written,) = [cell for cell in notebook.cells if role(cell, "solution") and cell.cell_type == "markdown"]
    assert role(written, "grade") and not written.metadata["nbgrader"]["locked"], "the teacher marks it"
    assert written.source.count("(") >= 3 and "One point each" in written.source, "a rubric"
    assert [f"{c.metadata['nbgrader']['grade_id']}-test" for c in solutions] == \
        [c.metadata["nbgrader"]["grade_id"] for c in graded]
    assert notebook.cells[-2:] == graded, "graded cells come last, so that Run All reaches every check"
    assert all(len(course.region("SOLUTION").findall(cell.source + "\n")) == 1 for cell in solutions)
    assert all(len(course.region("HIDDEN TESTS").findall(cell.source + "\n")) == 1 for cell in graded)
    assert all(c.metadata["nbgrader"]["points"] > 0 and c.metadata["nbgrader"]["locked"] for c in graded)
    text = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert text.count("<details><summary>Hint</summary>") == 3 and "minutes" in text
    assert all(not cell.get("outputs") for cell in notebook.cells)


def test_a_region_in_the_wrong_place_is_refused():
    cell = nbformat.v4.new_code_cell("### BEGIN SOLUTION\nx = 1\n### END SOLUTION")
    with pytest.raises(ValueError, match="SOLUTION in a cell"):
        course.student_copy(nbformat.v4.new_notebook(cells=[cell]))
    cell = nbformat.v4.new_code_cell("### BEGIN SOLUTION\nx = 1", metadata={"nbgrader": {"solution": True}})
    with pytest.raises(ValueError, match="must end"):
        course.student_copy(nbformat.v4.new_notebook(cells=[cell]))


@every
def test_the_students_find_a_fresh_copy(path):
    copy = PROJECT / "notebooks" / "exercises" / path.name
    assert copy.read_text(encoding="utf-8") == course.text_of(course.student_copy(read(path))), "run 'make course'"


def test_nothing_else_lies_among_the_exercises():
    there = {path.name for path in (PROJECT / "notebooks" / "exercises").glob("*.ipynb")}
    assert there == {path.name for path in SOURCES}


@every
def test_no_solution_reaches_a_student(path):
    """Neither the copy, nor a lesson, nor a page of the site that is made from the repository's texts."""
    answers, tests = lines_of(read(path), "SOLUTION"), lines_of(read(path), "HIDDEN TESTS")
    assert len(answers) >= 2 and len(tests) >= 4
    places = [*(PROJECT / "notebooks").rglob("*.ipynb"), *(PROJECT / "docs").rglob("*.md"), PROJECT / "README.md"]
    for place in places:
        text = place.read_text(encoding="utf-8")
        cells = [c.source for c in nbformat.reads(text, 4).cells] if place.suffix == ".ipynb" else [text]
        lines = {re.sub(r"\s", "", line) for cell in cells for line in cell.splitlines()}
        leaked = lines & (answers | tests if place.parent.name == "exercises" else answers)
        assert not leaked, f"{place.name} holds {leaked}"


def test_make_course_writes_both_copies(tmp_path):
    files = course.build(tmp_path / "course é")
    assert {path.parent.name for path in files} == {"student", "solutions"} and len(files) == 2 * len(CORE)
    assert all("BEGIN" not in path.read_text(encoding="utf-8") for path in files)


# --- running


@pytest.fixture
def kernel(monkeypatch):
    """The kernel is another process: it must find this checkout's library."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with forked_kernels():
        yield


def test_the_solutions_run_and_every_check_says_ok(tmp_path, kernel):
    """All in one kernel, each from an empty namespace: to start six of them, torch and all, would take three times."""
    cells, checks = [], 0
    for number, path in enumerate(SOURCES):
        cells.append(nbformat.v4.new_code_cell("%reset -f"))
        for cell in course.solution_copy(read(path)).cells:
            cell.id = f"{cell.id}-{number}"
            cells.append(cell)
            checks += sum(line.startswith("check(") for line in cell.source.splitlines())
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=read(SOURCES[0]).metadata), tmp_path / "all.ipynb")
    done = papermill.execute_notebook(str(tmp_path / "all.ipynb"), str(tmp_path / "done.ipynb"), progress_bar=False,
                                      start_timeout=600, iopub_timeout=600)
    outputs = [output for cell in done.cells for output in cell.get("outputs", ())]
    printed = [line for output in outputs if output["name"] == "stdout" for line in output["text"].splitlines()]
    assert len(printed) == checks >= 24 and all(line.startswith("ok: ") for line in printed)


@every
def test_the_checks_of_an_unsolved_copy_print_one_line_and_only_the_graded_cells_stop(path):
    names, stopped = {}, []
    for cell in course.student_copy(read(path)).cells:
        if cell.cell_type != "code":
            continue
        said = io.StringIO()
        try:
            with redirect_stdout(said):
                exec(compile(cell.source, cell.id, "exec"), names)
        except NotImplementedError:
            stopped.append(cell)
        assert len(said.getvalue().splitlines()) == sum(line.startswith("check(") for line in cell.source.splitlines())
        assert all(line.startswith("not yet: ") for line in said.getvalue().splitlines())
    graded = [cell.id for cell in read(path).cells if role(cell, "grade") and cell.cell_type == "code"]
    assert [cell.id for cell in stopped] == graded


def test_papermill_says_by_its_exit_status_that_a_copy_is_unsolved(tmp_path, kernel):
    nbformat.write(course.student_copy(read(SOURCES[4])), tmp_path / "unsolved.ipynb")
    places = [str(tmp_path / "unsolved.ipynb"), str(tmp_path / "done.ipynb")]
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--start-timeout", "600", *places]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode != 0 and "NotImplementedError" in done.stderr


# --- nbgrader


@every
def test_nbgraders_own_release_copy_is_the_same(path):
    preprocessors = pytest.importorskip("nbgrader.preprocessors", reason="nbgrader is the teacher's alone")
    theirs, resources = read(path), {}
    for step in (preprocessors.LockCells(), preprocessors.ClearSolutions(), preprocessors.ClearOutput(),
                 preprocessors.CheckCellMetadata(), preprocessors.ClearHiddenTests()):
        theirs, resources = step.preprocess(theirs, resources)
    mine = course.student_copy(read(path))
    assert [cell.source.strip() for cell in mine.cells] == [cell.source.strip() for cell in theirs.cells]
    assert [c.metadata.get("nbgrader") for c in mine.cells] == [c.metadata.get("nbgrader") for c in theirs.cells]


@pytest.mark.parametrize(("make", "wanted"), [("student_copy", 0), ("solution_copy", 2)])
def test_nbgraders_record_of_a_copy(make, wanted, tmp_path, kernel):
    """As 'nbgrader autograde' does: the graded cells are the teacher's, then it runs, and each gets its points."""
    preprocessors = pytest.importorskip("nbgrader.preprocessors", reason="nbgrader is the teacher's alone")
    from nbgrader.utils import determine_grade

    source = read(SOURCES[4])
    handed_in = getattr(course, make)(source)
    for number, cell in enumerate(source.cells):
        if role(cell, "grade") and cell.cell_type == "code":
            handed_in.cells[number] = nbformat.from_dict(cell)
    executor = preprocessors.Execute(kernel_name="python3", allow_errors=True)
    done, _ = executor.preprocess(handed_in, {"metadata": {"path": str(tmp_path)}})
    scores = [determine_grade(cell) for cell in done.cells if role(cell, "grade") and cell.cell_type == "code"]
    assert scores == [(wanted, 2), (wanted, 2)]
