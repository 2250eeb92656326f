"""Headless notebooks and the main job, on a project of small notebooks in a temporary folder."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from forked import forked_kernels
from nbformat.v4 import new_code_cell, new_notebook

from aesthemo_lib import cli
from aesthemo_lib.headless import execute as jobs_execute
from aesthemo_lib.training import run, runs
from aesthemo_lib.training.config import PRESETS
from aesthemo_studies import reproduce as jobs_reproduce

PROJECT = Path(__file__).resolve().parents[2]


def write_notebook(folder: Path, name: str, parameters: str, *code: str) -> None:
    cells = [new_code_cell(parameters, metadata={"tags": ["parameters"]}), *map(new_code_cell, code)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / "notebooks" / f"{name}.ipynb")


def printed(notebook: Path) -> str:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "".join("".join(out.get("text", "")) for cell in cells for out in cell.get("outputs", ()))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder that looks like the project, and the working directory."""
    folder = tmp_path / "projekt é"
    (folder / "notebooks").mkdir(parents=True)
    (folder / "aesthemo_lib").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return folder


# --- parameters


@pytest.mark.parametrize(("name", "given", "typed"), [
    ("split", "2", 2), ("split", 2, 2), ("learning_rate", "1e-4", 1e-4), ("learning_rate", 1, 1),
    ("redo", "True", True), ("redo", False, False), ("method", "independent", "independent"), ("out", "7", "7"),
])
def test_parameters_get_the_declared_type(name, given, typed):
    actual = jobs_execute.checked_parameters(jobs_execute.notebook_path("03_train"), {name: given})
    assert actual == {name: typed} and type(actual[name]) is type(typed)


@pytest.mark.parametrize(("name", "given", "message"), [
    ("splt", 1, "no parameter 'splt'.*split"), ("split", "two", "split: expected int, got 'two'"),
    ("split", "1.5", "expected int"), ("split", True, "expected int"), ("redo", "yes", "redo: expected bool"),
    ("redo", 1, "expected bool"), ("learning_rate", "fast", "expected float"),
    ("learning_rate", "nan", "expected float"), ("method", 3, "method: expected str, got 3"),
])
def test_wrong_parameters_are_refused_before_anything_runs(name, given, message, tmp_path, monkeypatch):
    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: pytest.fail("it ran"))
    with pytest.raises(ValueError, match=message):
        jobs_execute.execute("03_train", {name: given}, tmp_path / "out" / "03_train.ipynb")
    assert not (tmp_path / "out").exists()


def test_the_command_says_it_in_one_line(tmp_path, capsys):
    assert cli.main(["run", "03_train", "-p", "splt", "1", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("aesthemo: 03_train has no parameter 'splt'") and said.count("\n") == 1


def test_train_has_the_notebooks_parameters_without_the_notebook():
    from papermill import inspect_notebook

    from aesthemo_lib.headless.parameters import TRAINING

    parameters = inspect_notebook(str(PROJECT / "notebooks" / "03_train.ipynb"))
    assert jobs_execute._defaults(parameters) == TRAINING
    assert {name: entry["inferred_type_name"] for name, entry in parameters.items()} == {
        name: type(value).__name__ for name, value in TRAINING.items()}  # fmt: skip


def test_notebooks_are_found_by_their_bare_name(project):
    for folder in (".", "more", ".ipynb_checkpoints"):
        (project / "notebooks" / folder).mkdir(exist_ok=True)
        write_notebook(project, f"{folder}/one", "x: int = 0  # any")
    write_notebook(project, "more/two", "x: int = 0  # any")
    two = project / "notebooks" / "more" / "two.ipynb"
    assert jobs_execute.notebook_path("two.ipynb") == jobs_execute.notebook_path("more/two") == two
    for name in ("three", "one"):  # none, and two of that name
        with pytest.raises(ValueError, match=f"'{name}'.*more/one, more/two, one"):
            jobs_execute.notebook_path(name)


# --- executing


def test_a_failing_notebook_leaves_no_target(project, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("AESTHEMO_HEADLESS", "before")
    parameters = 'out: str = ""  # folder\nroot: str = ""  # folder'
    look = "import os\nprint(os.environ['AESTHEMO_HEADLESS'], os.environ['MPLBACKEND'], out, repr(root), os.getcwd())"
    write_notebook(project, "lesson", parameters, look, "raise ValueError('by design')")
    target = project / "executed" / "lesson.ipynb"
    with pytest.raises(jobs_execute.NotebookFailed, match=r"lesson, cell \d+: ValueError: by design \(see .*failed"):
        jobs_execute.execute("lesson", {"out": "runs here", "root": ""}, target)
    failed = target.with_name("lesson.failed.ipynb")
    assert [path.name for path in target.parent.iterdir()] == [failed.name]
    # headless, with the backend that keeps figures; 'out' belongs to the caller's folder, not to the notebook's
    inline = "module://matplotlib_inline.backend_inline"
    assert printed(failed).strip() == f"1 {inline} {project / 'runs here'} '' {project / 'notebooks'}"
    assert os.environ["MPLBACKEND"] == "Agg" and os.environ["AESTHEMO_HEADLESS"] == "before"

    write_notebook(project, "lesson", parameters, "print('mended')")
    assert jobs_execute.execute("lesson", {}, target) == target
    assert printed(target) == "mended\n"
    assert [path.name for path in target.parent.iterdir()] == [target.name]


# --- the main job

TRAIN = """
import os
from dataclasses import replace
from pathlib import Path
from aesthemo_lib.training import runs
from aesthemo_lib.training.config import PRESETS

PRESETS["smoke"] = replace(PRESETS["smoke"], epochs=int(os.environ["TEST_EPOCHS"]))

def report(row):
    print("epoch", row["epoch"])
    if os.environ.get("TEST_STOP") == str(row["epoch"]):
        raise RuntimeError("cut off")

config = runs.Config(data, method, variant or None, preset, split, seed)
runs.train(config, out, Path(root) if root else None, redo, after_epoch=report)
"""


@pytest.fixture
def small_job(project, monkeypatch):
    """``reproduce`` of one run and one notebook that reads it; notes what is executed."""
    cells = json.loads((PROJECT / "notebooks" / "03_train.ipynb").read_text(encoding="utf-8"))["cells"]
    parameters = next("".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", ()))
    write_notebook(project, "03_train", parameters, TRAIN)
    common = "\n".join(line for line in parameters.splitlines() if re.match("preset|data|root|seed|out", line))
    write_notebook(project, "04_compare", common, "print('compared')")
    monkeypatch.setattr(jobs_reproduce, "MAIN_METHODS", {"scenes": (("shared_bottom", ""),)})
    monkeypatch.setattr(jobs_reproduce, "SPLITS", 1)
    monkeypatch.setattr(jobs_reproduce, "READING_NOTEBOOKS", ("04_compare",))
    monkeypatch.setattr(jobs_reproduce, "parallelism", lambda *_: (1, 1))  # so that the order is told
    executed, execute = [], jobs_execute.execute
    for module in (jobs_execute, jobs_reproduce):
        monkeypatch.setattr(module, "execute", lambda name, *rest: (executed.append(name), execute(name, *rest))[1])
    with forked_kernels():
        yield executed


def test_reproduce_resumes_skips_and_redoes(small_job, project, monkeypatch, capsys):
    def reproduce(epochs: int, stop: int = 0) -> list[str]:
        small_job.clear()
        monkeypatch.setenv("TEST_EPOCHS", str(epochs))
        monkeypatch.setenv("TEST_STOP", str(stop))
        monkeypatch.setitem(PRESETS, "smoke", replace(PRESETS["smoke"], epochs=epochs))
        jobs_reproduce.reproduce("scenes", None, "smoke", Path("runs"))
        return list(small_job)

    folder = project / "runs" / "scenes" / "shared_bottom" / "smoke" / "split0-seed0"
    with pytest.raises(jobs_execute.NotebookFailed, match="cut off"):
        reproduce(2, stop=1)
    assert not folder.exists() and small_job == ["03_train"]

    assert reproduce(2) == ["03_train", "04_compare"]
    assert printed(folder / "03_train.ipynb").split() == ["epoch", "2"], "it began anew instead of going on"
    assert not list(folder.parent.glob("*.resume")) and not list(folder.parent.glob("*.ipynb"))
    assert printed(project / "runs" / "scenes" / "04_compare.ipynb") == "compared\n"

    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    capsys.readouterr()
    assert reproduce(2) == []
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    said = capsys.readouterr().out
    assert "(was finished)" in said and "04_compare: up to date" in said

    assert reproduce(3) == ["03_train", "04_compare"]
    assert len(run.Run(folder).history()) == 3
    straight = runs.train(runs.Config(method="shared_bottom", preset="smoke"), project / "straight")
    pd.testing.assert_frame_equal(straight.history(), run.Run(folder).history())
    assert straight.metrics == run.Run(folder).metrics


@pytest.mark.parametrize("extra, read", [([], []), (["--extra", "1"], ["09_sequence"])])
def test_the_neighbouring_lessons_are_read_when_asked_for(small_job, project, monkeypatch, extra, read):
    monkeypatch.setenv("TEST_EPOCHS", "1")
    monkeypatch.setattr(jobs_reproduce, "EXTRA_NOTEBOOKS", ("09_sequence",))
    common = "preset: str = ''\ndata: str = ''\nroot: str = ''\nseed: int = 0\nout: str = ''"
    write_notebook(project, "09_sequence", common, "print(preset, data)")
    assert cli.main(["reproduce", "--preset", "smoke", *extra]) == 0
    assert small_job == ["03_train", "04_compare", *read]
    target = project / "runs" / "scenes" / "09_sequence.ipynb"
    assert not read and not target.exists() or printed(target) == "smoke scenes\n"


def test_a_training_run_by_hand_keeps_its_notebook_in_the_run_folder(small_job, monkeypatch, capsys):
    monkeypatch.setenv("TEST_EPOCHS", "1")
    arguments = ["-p", "preset", "smoke", "-p", "method", "shared_bottom", "-p", "split", "1", "--out", "mine"]
    assert cli.main(["run", "03_train", *arguments]) == 0
    folder = Path("mine/scenes/shared_bottom/smoke/split1-seed0")
    assert capsys.readouterr().out.strip() == str(folder / "03_train.ipynb")
    assert (folder / "metrics.json").exists() and "epoch 1" in printed(folder / "03_train.ipynb")
    assert not list(Path("mine").rglob("*.03_train.ipynb"))
