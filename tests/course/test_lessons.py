"""The form of the lessons: what each has at its head and end, how long it is, what it asks and what it proves.

00 to 07 are the course; those in ``more`` keep to the same form and length, but may ask less.

``test_notebooks.py`` holds what every notebook must keep to, and runs them.
"""

import ast
import re
import statistics
from pathlib import Path

import nbformat
import pytest
from test_start import FIRST_CELL

PROJECT = Path(__file__).resolve().parents[2]
LESSONS = sorted((PROJECT / "notebooks").glob("0[0-7]_*.ipynb"))
MORE = sorted((PROJECT / "notebooks" / "more").glob("[01]*_*.ipynb"))
TAUGHT = {
    "01_data_and_labels": ("images.votes[", "images.labels(", "krippendorff_alpha(", "one_rater_accuracy("),
    "02_network": ("CrossBranchLayer(", "count_parameters(", "count_multiplies("),
    "03_train": ("joint_loss(", "fit.fit("),
    "04_compare": ("mean_interval(",),
    "06_attribution": ("trunk_ledger(",),
    "more/12_when_and_why": ("training_labels.told(", "study_plots.doses(", "scenes.sample("),
    "more/13_few_labels": ("task_losses(",),
    "more/14_published_sets": ("proportion_ci(", "task_metrics("),
    "more/15_class": ("krippendorff_alpha(", "bootstrap_interval(", "panel_ceiling(", "one_rater_accuracy(",
                      "mean_interval("),
}
"""The library's names that a lesson derives in a few lines of its own and asserts equal."""
SANE = {
    "02_network": ("alpha=1.0, beta=0.0", "math.log(len(task.classes))", "right"),
    "03_train": ("math.log(count)", "loss at step 1, 40, 80 and 160"),
}
"""The sanity checks in view: diagonal (1, 0) equals independent nets, loss at the start, one batch overfitted."""

every = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
any_lesson = pytest.mark.parametrize("path", [*LESSONS, *MORE], ids=lambda path: path.stem)


def cells(path: Path, kind: str | None = None) -> list:
    return [c for c in nbformat.read(path, as_version=4).cells if kind in (None, c.cell_type)]


def prose(path: Path) -> str:
    return "\n\n".join(cell.source for cell in cells(path, "markdown"))


def test_the_eight_lessons_are_there():
    assert [path.stem[:2] for path in LESSONS] == [f"0{n}" for n in range(8)]


@any_lesson
def test_the_header_says_what_when_and_for_whom(path):
    first = cells(path)[0]
    assert first.cell_type == "markdown"
    number = int(path.stem[:2])
    assert re.match(rf"# {number} · \S", first.source)
    fields = ("**Claim.** ", "**Before this:** ", "**Afterwards you can** ", "**Time:** ", "**Reads** ", "**Writes** ")
    places = [first.source.find(field) for field in fields]
    assert -1 not in places and places == sorted(places), "all fields, in this order"
    time = first.source[places[3]:places[4]]
    assert re.search(r"minute|second", time) and "GPU" in time, "minutes with and without a GPU"


@any_lesson
def test_it_has_25_to_45_cells(path):
    assert 25 <= len(cells(path)) <= 45


@any_lesson
def test_code_cells_are_short(path):
    """The median is ten lines or fewer, and none has more than sixteen, imports and parameters apart."""
    code = [c for c in cells(path, "code") if "parameters" not in c.metadata.get("tags", [])]
    lengths = [len([line for line in c.source.splitlines() if not line.startswith(("import ", "from "))]) for c in code]
    assert statistics.median(lengths) <= 10 and max(lengths) <= 16


@any_lesson
def test_it_asks_before_it_shows(path):
    asked = [number for number, c in enumerate(cells(path)) if c.cell_type == "markdown" and "**Predict" in c.source]
    assert len(asked) >= (4 if path in LESSONS else 2)
    followed = [cells(path)[number + 1:number + 3] for number in asked]
    assert all(any(c.cell_type == "code" for c in after) for after in followed), "the answer is computed right below"


@any_lesson
def test_equation_numbers_are_its_own_and_come_in_order(path):
    tags = re.findall(r"\\tag\{([^}]*)\}", prose(path))
    number = int(path.stem[:2])
    assert tags == [f"{number}.{k}" for k in range(1, len(tags) + 1)]
    assert tags or number == 5


@any_lesson
def test_it_ends_with_a_summary_what_was_not_shown_references_and_the_next(path):
    last = cells(path)[-1]
    assert last.cell_type == "markdown"
    places = [prose(path).rfind(part) for part in ("## Summary", "**Not shown", "**References.**", "**Next:**")]
    assert -1 not in places and places == sorted(places)


@any_lesson
def test_it_points_to_notation_and_glossary(path):
    up = "/".join([".."] * len(path.relative_to(PROJECT / "notebooks").parts))
    assert f"]({up}/docs/glossary.md)" in cells(path)[0].source


@any_lesson
def test_the_first_code_cell_makes_it_start_anywhere(path):
    deeper = FIRST_CELL.replace("%run start.py", "%run ../start.py").replace("/notebooks", "/notebooks/more")
    expected = FIRST_CELL if path in LESSONS else deeper
    assert cells(path, "code")[0].source == expected and cells(path)[1].cell_type == "code"


@pytest.mark.parametrize("name", TAUGHT)
def test_what_is_taught_is_asserted_equal_to_the_librarys(name):
    code = [c.source for c in cells(PROJECT / "notebooks" / f"{name}.ipynb", "code")]
    asserting = "\n".join(c for c in code if re.search(r"^\s*(assert |torch\.testing\.assert_close)", c, re.MULTILINE))
    both = asserting + "\n".join(code)
    assert asserting and all(taught in both for taught in TAUGHT[name])
    assert sum(bool(re.search(r"\bassert", c)) for c in code) >= 1


@pytest.mark.parametrize("name", SANE)
def test_the_sanity_checks_are_in_view(name):
    code = "\n".join(c.source for c in cells(PROJECT / "notebooks" / f"{name}.ipynb", "code"))
    assert all(check in code for check in SANE[name])


def questions(path: Path) -> list[str]:
    """What a lesson asks before it shows, in letters and digits alone."""
    asked = re.findall(r"\*\*Predict[.:]?\*\*(.*?)(?:\n\n|\Z)", prose(path), re.DOTALL)
    return [plain(text) for text in asked]


def plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


@every
def test_the_teachers_page_answers_every_question(path):
    """By words of the question, in italics: the expected answer, the usual misconception and the rescue."""
    page = (PROJECT / "docs" / "teaching.md").read_text(encoding="utf-8")
    part = re.search(rf"^### {path.stem}\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL)[1]
    entries = dict(re.findall(r"^- \*([^*\n]+)\*\n((?:  .*\n?)+)", part, re.MULTILINE))
    assert all(re.findall(r"\*\*(\w+)\.\*\* \S", told) == ["Expected", "Misconception", "Rescue"]
               for told in entries.values())
    asked, quotes = questions(path), [plain(quote) for quote in entries]
    unanswered = [question for question in asked if sum(quote in question for quote in quotes) != 1]
    assert not unanswered, "each question has one entry in docs/teaching.md"
    assert len(quotes) == len(asked), "and each entry a question"


def test_equations_that_docstrings_name_exist_and_the_taught_code_names_its_own():
    tags = {tag for path in LESSONS for tag in re.findall(r"\\tag\{([^}]*)\}", prose(path))}
    named = {}
    for path in sorted((PROJECT / "aesthemo_lib").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                for numbers in re.findall(r"[Ee]quations? (\d\.\d+(?: and \d\.\d+)?)", ast.get_docstring(node) or ""):
                    named.setdefault(getattr(node, "name", path.stem), set()).update(numbers.split(" and "))
    assert set().union(*named.values()) <= tags, f"no such equation: {set().union(*named.values()) - tags}"
    for name, number in {"add_votes": "1.1", "consensus": "1.2", "krippendorff_alpha": "1.3", "task_losses": "3.1",
                         "one_rater_accuracy": "1.4", "mean_image": "1.5", "CrossBranchLayer": "2.1",
                         "joint_loss": "3.3", "mean_interval": "4.1"}.items():
        assert number in named.get(name, ()), f"the docstring of {name} does not name equation {number}"
