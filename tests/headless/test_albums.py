"""The lessons on one's own photographs: every lesson on every kind of album, and the main job on the two layouts.

The cells run in this process, one after another as papermill would, with preset ``smoke``: a kernel for each would
cost more than the lessons. ``test_notebooks.py`` runs the same notebooks through papermill.
"""

import csv
import warnings
from pathlib import Path

import nbformat
import numpy as np
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from IPython.display import display
from PIL import Image

from aesthemo_lib import cli
from aesthemo_studies import reproduce

PROJECT = Path(__file__).resolve().parents[2]
LESSONS = [path for path in sorted((PROJECT / "notebooks").glob("0*.ipynb")) if path.stem != "00_tour_patent"]
CLASSES = ("calm", "fear", "joy")
NAMES = ("it's {}", 'the "{}"', "Zürich e\u0301 {}", "two  spaces {}", "a,b;{}", "{}#?%20", "ナ {}", "$x_{}$")
ONE_TASK, THREE_TASKS, GAPS, RATERS = "class folders", "three tasks", "empty cells", "odd names and raters"
SAYS = {
    (ONE_TASK, "01_data_and_labels"): "have a single task, so there is no second label",
    (ONE_TASK, "04_compare"): "No image of these data has labels for two tasks",
    (ONE_TASK, "05_confusion"): "so errors cannot occur together",
    (ONE_TASK, "06_attribution"): "so nothing can be borrowed from another one",
    (ONE_TASK, "07_inspector"): "so nothing can be borrowed from another one",
    (THREE_TASKS, "01_data_and_labels"): "no individual ratings",
    (THREE_TASKS, "05_confusion"): "No task of these data has classes of known valence",
}
"""What a lesson says where an album has nothing to show for a part of it."""
EACH = [(ONE_TASK, lesson) for lesson in LESSONS] + [
    (THREE_TASKS, lesson) for lesson in LESSONS if lesson.stem[:2] in ("01", "05", "06", "07")] + [
    (GAPS, lesson) for lesson in LESSONS if lesson.stem[:2] in ("00", "03")] + [
    (RATERS, lesson) for lesson in LESSONS if lesson.stem[:2] in ("01", "07")]
"""One and three tasks are what lessons stumble over; the others go where names, gaps and ratings are read."""


def picture(path: Path, number: int) -> None:
    """Noise that is bright for odd numbers and in one of three colours."""
    pixels = np.random.default_rng(number).normal(70 + 90 * (number % 2), 25, (24, 24, 3))
    pixels[..., number % 3] += 60
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def row(kind: str, i: int) -> list[list]:
    """The rows of one picture, from its path on."""
    beauty, feeling = ("low", "high")[i % 2], CLASSES[i % 3]
    if kind == THREE_TASKS:
        return [[f"{i}.png", beauty, *(1 + 3 * (name == feeling) for name in CLASSES), ("no", "yes")[i // 2 % 2]]]
    if kind == GAPS:
        return [[f"{i}.png", "" if i % 5 == 1 else beauty, "" if i % 4 == 3 else feeling]]
    name = f"été 2024 'best'/{NAMES[i % len(NAMES)].format(i)}.png"
    return [[name, rater, 2 + 4 * (i % 2) + at, CLASSES[(i + (i + at) % 5 // 4) % 3]]
            for at, rater in enumerate(("Zoë", "O'Brien", "x y"))]


HEADS = {
    THREE_TASKS: ["path", "aesthetics", *(f"emotion:{name}" for name in CLASSES), "memorable"],
    GAPS: ["path", "aesthetics", "emotion"], RATERS: ["path", "annotator", "aesthetics>4", "emotion"],
}


@pytest.fixture(scope="module")
def albums(tmp_path_factory):
    """A function from the kind of album to its folder."""
    made = {}

    def album(kind: str) -> Path:
        if kind in made:
            return made[kind]
        made[kind] = root = tmp_path_factory.mktemp("my album é") / "it's"
        rows = [row(kind, i) for i in range(24)] if kind in HEADS else []
        for i in range(24):
            picture(root / (rows[i][0][0] if rows else f"{CLASSES[i % 3]}/{NAMES[i % 8].format(i)}.png"), i)
        if rows:
            with (root / "labels.csv").open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([HEADS[kind], *sum(rows, [])])
        return root

    return album


def given(kind: str, root: Path, out: Path) -> dict:
    return {"preset": "smoke", "data": "csv" if kind in HEADS else "folders", "root": str(root), "out": str(out)}


def run(notebook: Path, parameters: dict) -> None:
    """Run a notebook's cells in this process, its parameters set as papermill sets them."""
    scope: dict = {"__name__": "__main__", "display": display}
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "code":
            source = TransformerManager().transform_cell(cell.source)
            exec(compile(source, f"{notebook.stem}, cell {cell.id}", "exec"), scope)
            scope.update(parameters if "parameters" in cell.metadata.get("tags", ()) else {})


@pytest.mark.parametrize(("kind", "lesson"), EACH, ids=lambda value: getattr(value, "stem", value))
def test_a_lesson_runs_on_ones_own_photographs(kind, lesson, albums, tmp_path_factory, capsys, monkeypatch):
    monkeypatch.chdir(PROJECT / "notebooks")
    out = albums(kind).parent / "runs"
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=RuntimeWarning)  # a mean of nothing, or a division by zero
        run(lesson, given(kind, albums(kind), out))
    said = capsys.readouterr()
    assert SAYS.get((kind, lesson.stem), "") in " ".join(said.out.split()) and "Traceback" not in said.err


@pytest.mark.parametrize(("kind", "read"), [(ONE_TASK, "06_attribution"), (RATERS, "01_data_and_labels")])
def test_the_main_job_ends_well_on_ones_own_photographs(kind, read, albums, tmp_path, monkeypatch, capsys):
    """One method on one split, and one lesson, each in its kernel."""
    monkeypatch.setattr(reproduce, "OTHER_METHODS", (("cross_branch", "diagonal"),))
    monkeypatch.setattr(reproduce, "SPLITS", 1)
    monkeypatch.setattr(reproduce, "READING_NOTEBOOKS", (read,))
    for name, value in {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    data = given(kind, albums(kind), tmp_path)["data"]
    command = ["reproduce", "--data", data, "--root", str(albums(kind)), "--preset", "smoke", "--out", str(tmp_path)]
    assert cli.main(command) == 0, capsys.readouterr().err
    assert (tmp_path / data / f"{read}.ipynb").exists()
    assert list((tmp_path / data).glob("cross_branch.diagonal/smoke/split0-seed0/03_train.ipynb"))
