"""The lessons on one's own photographs: the main job on each kind of album, by papermill, and lesson 7 on its runs."""

import csv
from pathlib import Path

import numpy as np
import pytest
from executed import check_outputs, shown
from forked import forked_kernels
from PIL import Image

from aesthemo_lib import cli
from aesthemo_lib.headless.execute import run_notebook
from aesthemo_studies import reproduce

PROJECT = Path(__file__).resolve().parents[2]
LESSONS = [path.stem for path in sorted((PROJECT / "notebooks").glob("0*.ipynb")) if path.stem != "00_tour_patent"]
CLASSES = ("calm", "fear", "joy")
NAMES = ("it's {}", 'the "{}"', "Zürich e\u0301 {}", "two  spaces {}", "a,b;{}", "{}#?%20", "ナ {}", "$x_{}$")
ONE_TASK, THREE_TASKS, RATERS = "class folders", "three tasks with empty cells", "odd names and raters"
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


def picture(path: Path, number: int) -> None:
    """Noise that is bright for odd numbers and in one of three colours."""
    pixels = np.random.default_rng(number).normal(70 + 90 * (number % 2), 25, (24, 24, 3))
    pixels[..., number % 3] += 60
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def row(kind: str, i: int) -> list[list]:
    """The rows of one picture, from its path on."""
    if kind == THREE_TASKS:
        beauty = "" if i % 5 == 1 else ("low", "high")[i % 2]
        memorable = "" if i % 7 == 2 else ("no", "yes")[i // 2 % 2]
        votes = ["" if i % 4 == 3 else 1 + 3 * (name == CLASSES[i % 3]) for name in CLASSES]
        return [[f"{i}.png", beauty, *votes, memorable]]
    name = f"été 2024 'best'/{NAMES[i % len(NAMES)].format(i)}.png"
    return [[name, rater, 2 + 4 * (i % 2) + at, CLASSES[(i + (i + at) % 5 // 4) % 3]]
            for at, rater in enumerate(("Zoë", "O'Brien", "x y"))]


HEADS = {
    THREE_TASKS: ["path", "aesthetics", *(f"emotion:{name}" for name in CLASSES), "memorable"],
    RATERS: ["path", "annotator", "aesthetics>4", "emotion"],
}


def album(kind: str, root: Path) -> str:
    """Draw one with 24 pictures; returns the name of its layout."""
    rows = [row(kind, i) for i in range(24)] if kind in HEADS else []
    for i in range(24):
        picture(root / (rows[i][0][0] if rows else f"{CLASSES[i % 3]}/{NAMES[i % 8].format(i)}.png"), i)
    if rows:
        with (root / "labels.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([HEADS[kind], *sum(rows, [])])
    return "csv" if rows else "folders"


@pytest.fixture(scope="module")
def executed(request, tmp_path_factory) -> tuple[str, dict[str, Path]]:
    """A kind of album, and every lesson on it: by the main job with one method and split, then 07 on its runs."""
    root, out = tmp_path_factory.mktemp("my album é") / "it's", tmp_path_factory.mktemp("runs é")
    data = album(request.param, root)
    with pytest.MonkeyPatch.context() as patch, forked_kernels():
        patch.setattr(reproduce, "OTHER_METHODS", (("cross_branch", "diagonal"),))
        patch.setattr(reproduce, "SPLITS", 1)
        patch.setenv("PYTHONPATH", str(PROJECT))
        patch.setenv("OMP_NUM_THREADS", "1")
        assert cli.main(["reproduce", "--data", data, "--root", str(root), "--preset", "smoke", "--out", str(out)]) == 0
        last = run_notebook("07_inspector", {"preset": "smoke", "data": data, "root": str(root)}, out)
    (trained,) = (out / data).glob("cross_branch.diagonal/smoke/split0-seed0/03_train.ipynb")
    names = (*reproduce.READING_NOTEBOOKS, *reproduce.FIRST_NOTEBOOKS)
    notebooks = {name: out / data / f"{name}.ipynb" for name in names}
    return request.param, notebooks | {"03_train": trained, "07_inspector": last}


@pytest.mark.parametrize("executed", [ONE_TASK, THREE_TASKS, RATERS], indirect=True)
@pytest.mark.parametrize("lesson", LESSONS)
def test_every_lesson_runs_on_ones_own_photographs(lesson, executed):
    kind, notebooks = executed
    check_outputs(notebooks[lesson])
    assert SAYS.get((kind, lesson), "") in " ".join(shown(notebooks[lesson]).split())
