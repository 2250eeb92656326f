"""The notebooks: their form, what they keep, and that each runs alone from top to bottom.

All of them are in this one file, so that ``--dist loadfile`` runs them one after another on one worker.
"""

import ast
import os
import re
import statistics
from pathlib import Path

import nbformat
import papermill
import pytest
from executed import check_outputs, code_cells, read, shown
from forked import forked_kernels

from aesthemo_lib.headless.execute import execute
from aesthemo_studies.kept_runs import REPOSITORYS, YOURS

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / "notebooks"
NOTEBOOKS = sorted(path for path in FOLDER.rglob("*.ipynb")  # exercises have a form, and tests, of their own
                   if not {".ipynb_checkpoints", "exercises"} & set(path.parts))
TYPES = {"str": str, "int": int, "float": float, "bool": bool}
PARAMETERS = {"preset": "str", "data": "str", "root": "str", "seed": "int", "out": "str"}
KEPT = {"keep_output", "nbval-check-output"}

every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def prose(path: Path) -> str:
    return "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def test_the_lessons_of_the_contract_are_there():
    names = {path.stem for path in NOTEBOOKS}
    assert names >= {"00_tour", "01_data_and_labels", "02_network", "03_train", "04_compare", "05_confusion"}


# --- form


@every
def test_parameters_are_typed_and_commented(path):
    tagged = [cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    lines = [line for line in tagged[0].source.splitlines() if not line.startswith("#")]
    statements = [ast.parse(line).body[0] for line in lines]
    assert all(isinstance(statement, ast.AnnAssign) for statement in statements), "one 'name: type = value' a line"
    types = {statement.target.id: statement.annotation.id for statement in statements}
    assert list(types.items())[:5] == list(PARAMETERS.items())
    for name, known in papermill.inspect_notebook(str(path)).items():
        assert known["help"].strip(), f"{name} has no comment"
        assert isinstance(ast.literal_eval(known["default"]), TYPES[types[name]])


@every
def test_metadata_is_minimal_and_the_kernel_is_python3(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec == {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert set(notebook.metadata.get("language_info", {})) <= {"name"}
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


@every
def test_cells_are_short_and_code_is_explained(path):
    cells = code_cells(path)
    assert statistics.median(len(cell.source.splitlines()) for cell in cells) <= 10
    assert len(read(path).cells) - len(cells) >= len(cells) / 2


@every
def test_prose_is_commonmark_with_numbered_equations(path):
    text = prose(path)
    assert not re.search(r"^\s*\|.*\|\s*$|^:::|^```\{|\{[a-z:-]+\}`", text, re.MULTILINE), "a table, directive or role"
    tags = re.findall(r"\\tag\{([\d.]+)\}", text)
    assert tags == sorted(set(tags), key=lambda tag: [int(part) for part in tag.split(".")])
    assert all(tag.split(".")[0] == str(int(path.stem.split("_")[0])) for tag in tags)
    for named in re.findall(r"(?<![\w)])\((\d\.\d+)\)", text + "".join(cell.source for cell in code_cells(path))):
        assert named in tags or named.split(".")[0] != str(int(path.stem.split("_")[0])), f"no equation ({named})"
    assert len(re.findall(r"<details>", text)) == len(re.findall(r"</details>", text))


@every
def test_a_lesson_says_what_it_needs_and_where_it_ends(path):
    text = prose(path)
    assert text.startswith("# ")
    for part in ("**Claim.**", "**Before this:**", "**Afterwards you can**", "**Time:**", "**Reads**", "**Writes**",
                 "**Predict", "## Summary", "Not shown", "References", "**Next:**"):
        assert part in text, f"the lesson has no {part!r}"


@every
def test_every_notebook_that_a_lesson_names_exists(path):
    for name in re.findall(r"`(\d\d_\w+)`", prose(path)):
        assert (FOLDER / f"{name}.ipynb").exists(), name


# --- what stands in the file


@every
def test_only_tagged_cells_keep_their_outputs(path):
    for cell in code_cells(path):
        tags = KEPT & set(cell.metadata.get("tags", []))
        assert tags in (set(), KEPT), f"{cell.id}: nbstripout and nbval each need their tag"
        assert bool(cell.outputs) == bool(tags), f"{cell.id}: {'lacks' if tags else 'keeps'} outputs"
        assert (cell.execution_count is not None) == bool(tags), f"{cell.id}: nbval compares cells with a count alone"
        assert all(output.output_type == "stream" and output.name == "stdout" for output in cell.outputs)


def test_the_network_lesson_has_results_that_can_be_compared():
    kept = [cell for cell in code_cells(FOLDER / "02_network.ipynb") if cell.outputs]
    printed = "".join(output.text for cell in kept for output in cell.outputs)
    assert len(kept) >= 10
    for fact in ("total 269,956,618", "maps (512, 7, 7)", "diagonal (1, 0) equals independent networks"):
        assert fact in printed


# --- running


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of their own for the notebooks' data and runs."""
    folder = tmp_path_factory.mktemp("notebooks é")
    with pytest.MonkeyPatch.context() as patch, forked_kernels():
        # The kernel is another process: it must find this checkout's library, and share the cores.
        patch.setenv("PYTHONPATH", os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield folder


@every
def test_runs_alone_from_top_to_bottom(path, place):
    """With preset smoke; one that keeps outputs runs with its own preset, and they come out the same, as nbval asks."""
    name, kept = path.relative_to(FOLDER).with_suffix("").as_posix(), printed(path)
    out = place / path.stem
    done = execute(name, {"out": str(out)} | ({} if any(kept.values()) else {"preset": "smoke"}), out / path.name)
    check_outputs(done)
    assert REPOSITORYS not in shown(done), "it has runs of its own"
    said = printed(done)
    assert {cell: said[cell] for cell, text in kept.items() if text} == {c: text for c, text in kept.items() if text}


def printed(path: Path) -> dict[str, str]:
    """What each cell of a notebook has printed, by its id."""
    return {cell.id: "".join(output.get("text", "") for output in cell.outputs) for cell in code_cells(path)}


def test_lesson_3_trains_a_linear_probe_too(place):
    """It has no epochs, and the main job trains it by this lesson."""
    out = place / "probe"
    done = execute("03_train", {"preset": "smoke", "method": "linear_probe", "out": str(out)}, out / "03_train.ipynb")
    check_outputs(done)
    assert "linear_probe: 1 epochs" in shown(done) and "nan" not in shown(done)


@pytest.mark.parametrize("name", ["00_tour", "04_compare", "05_confusion"])
def test_in_a_fresh_clone_a_lesson_shows_the_repositorys_runs_and_says_so(name, place):
    out = place / "fresh"
    done = execute(name, {"out": str(out)}, out / f"{name}.ipynb")
    check_outputs(done)
    said = shown(done)
    assert said.count("These are the repository's runs, not yours") == 1 and YOURS not in said
    pictures = [cell.source for cell in code_cells(done) if "run_plots." in cell.source and "study" not in cell.source]
    tables = [cell.source for cell in code_cells(done)
              if re.search(r"\btable\.rename_axis|lessons\.results\(", cell.source)]
    assert pictures and tables and all("{whose}" in source for source in pictures)
    assert all("whose" in source for source in tables)
    assert not list(out.rglob("*.csv")), "nothing of theirs is written among one's own runs"


def test_the_data_lesson_takes_real_photographs(place, oasis_root):
    out = place / "oasis"
    parameters = {"preset": "smoke", "data": "oasis", "root": str(oasis_root), "out": str(out)}
    check_outputs(execute("01_data_and_labels", parameters, out / "01.ipynb"))
