"""The form of the lessons: their head and end, their length, what each asks and what each proves.

00 to 07 are the course; the lessons in ``more`` have the same form.

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
LESSONS = sorted(path for path in (PROJECT / "notebooks").glob("0[0-7]_*.ipynb") if path.stem != "00_tour_patent")
MORE = sorted((PROJECT / "notebooks" / "more").glob("[01]*_*.ipynb"))
TAUGHT = {
    "01_data_and_labels": ("images.votes[", "images.labels(", "krippendorff_alpha(", "one_rater_accuracy("),
    "02_network": ("CrossBranchLayer(", "count_parameters(", "count_multiplies("),
    "03_train": ("joint_loss(", "fit.fit("),
    "04_compare": ("mean_interval(",),
    "06_attribution": ("trunk_ledger(",),
    "more/09_when_exchange_helps": ("training_labels(", "task_losses(", "scenes.sample(", "few_labels.verdicts("),
    "more/10_how_sure": ("proportion_ci(", "mean_interval(", "studies.smallest_effect("),
    "more/11_how_many_raters": ("task_losses(", "task_metrics(", "scenes.sample("),
    "more/13_your_class": ("krippendorff_alpha(", "bootstrap_interval(", "panel_ceiling(", "one_rater_accuracy("),
}
"""The library's names that a lesson derives in a few lines of its own and asserts equal."""
SANE = {
    "02_network": ("alpha=1.0, beta=0.0", "block.norm() > 0"),
    "03_train": ("math.log(count)", "losses[-1] > 0.1 * losses[0]", "assert losses[-1] < 0.5 * losses[0]"),
}
"""The sanity checks in view: diagonal (1, 0) equals independent networks, initial loss, one batch memorised."""

ASKING = [*LESSONS, *MORE]

every = pytest.mark.parametrize("path", ASKING, ids=lambda path: path.stem)
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
def test_it_has_22_to_50_cells(path):
    assert 22 <= len(cells(path)) <= 50


@any_lesson
def test_code_cells_are_short(path):
    """Apart from the folded cells, the median is eleven lines or fewer, and no cell has more than twenty."""
    shown = [c for c in cells(path, "code") if "hide-input" not in c.metadata.get("tags", ())]
    lengths = [len(c.source.splitlines()) for c in shown]
    assert statistics.median(lengths) <= 11 and max(lengths) <= 20


@any_lesson
def test_at_most_three_code_cells_follow_one_another(path):
    """Four where the fourth only reveals an answer; the folded cells at the top don't count."""
    shown = [c for c in cells(path) if "hide-input" not in c.metadata.get("tags", ())]
    runs = "".join("." if c.cell_type == "markdown" else "c" for c in shown).split(".")
    assert max(map(len, runs)) <= 4


@every
def test_it_asks_before_it_shows(path):
    """Predict, commit, reveal: the choices come before the answer, which is computed and whose cell is folded."""
    asked = [c.source.count("**Predict") for c in cells(path, "markdown")]
    assert sum(asked) in (3, 4)
    state, seen = {}, []
    for cell in cells(path, "code"):
        for what, question in re.findall(r'guesses\.(ask|reveal)\("([^"]+)"', cell.source):
            assert state.get(question) == {"ask": None, "reveal": "ask"}[what], f"{question}: {what} out of order"
            assert what == "ask" or "hide-output" in cell.metadata.get("tags", ()), f"{question} is spoilt on the site"
            state[question] = what
            seen += [question] * (what == "ask")
    assert set(state.values()) == {"reveal"} and len(seen) == sum(asked), "each question is asked and answered once"


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
    expected, first = FIRST_CELL if path in LESSONS else deeper, cells(path)[1]
    assert first.source.startswith(expected + "\n\nimport") or first.source.startswith(expected + "\n\nfrom")
    assert [c.metadata["jupyter"]["source_hidden"] for c in cells(path)[1:3]] == [True, True], "set-up is folded"


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


def entries(path: Path) -> dict[str, list[str]]:
    """The teacher's page on a lesson: by question, the labels of its remarks."""
    page = (PROJECT / "docs" / "teaching.md").read_text(encoding="utf-8")
    part = re.search(rf"^### {path.stem}\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL)[1]
    described = re.findall(r"^- \*([^*\n]+)\*\n((?:  .*\n?)+)", part, re.MULTILINE)
    return {name: re.findall(r"\*\*([\w ]+)\.\*\* \S", remarks) for name, remarks in described}


@every
def test_the_teachers_page_has_an_entry_for_every_question(path):
    """By the question's short name: the answer, the usual misconception and what helps."""
    asked = [question for c in cells(path, "code") for question in re.findall(r'guesses\.ask\("([^"]+)"', c.source)]
    assert list(entries(path)) == asked
    assert all(labels == ["Expected", "Misconception", "What helps"] for labels in entries(path).values())


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
