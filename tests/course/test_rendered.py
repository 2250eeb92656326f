"""The lessons' readable copies are fresh and small, and the teacher's page repeats the answers that they reveal."""

import importlib.util
import io
import json
import re
from pathlib import Path

import nbformat
import pytest
from matplotlib.figure import Figure
from PIL import Image

from aesthemo_lib import plots

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / "notebooks" / "rendered"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.stem != "README")
MEGABYTES = 8
POINTS = 9
"""The smallest type of a figure, at the site's width on a laptop."""
UNKNOWN = "computed in the lesson"
CONTRASTS = {
    ("01_data_and_labels", "leakage"): "by image, do not report it",
    ("02_network", "information"): "it is all there, but the next groups cannot use it fully",
    ("05_confusion", "valence"): "opposite valence",
    ("06_attribution", "worth"): "borrowed is worth less",
    ("09_when_exchange_helps", "few"): "an exchange of answers",
    ("09_when_exchange_helps", "own"): "as far as the exchange",
    ("10_how_sure", "seeds"): "about 85",
    ("10_how_sure", "curse"): "about a fifth",
    ("11_how_many_raters", "push"): "votes: towards .75, consensus: towards 1",
    ("13_your_class", "careless"): "emotion",
}
"""What a section teaches and its data must show; if it vanished, the section would teach nothing."""
every = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)

loader = importlib.util.spec_from_file_location("rendering", PROJECT / "docs" / "rendering.py")
rendering = importlib.util.module_from_spec(loader)
loader.loader.exec_module(rendering)


def notebook_of(page: Path) -> Path:
    (notebook,) = (PROJECT / "notebooks").rglob(f"{page.stem}.ipynb")
    return notebook


@every
def test_a_page_is_made_from_todays_notebook(page):
    made_from = re.match(r"<!-- made from (\w{64}) -->", page.read_text(encoding="utf-8"))[1]
    assert made_from == rendering.source_hash(notebook_of(page)), "run: python docs/book.py --render"


@every
def test_pictures_are_there_with_their_alternative_text_and_no_folder_is_named(page):
    text = page.read_text(encoding="utf-8")
    for alt, target in re.findall(r"!\[(.*?)\]\(([^)]+)\)", text):
        assert len(alt) > 20 and (FOLDER / target).exists()
    named = {target for _, target in re.findall(r"!\[(.*?)\]\(([^)]+)\)", text)}
    assert {path.relative_to(FOLDER).as_posix() for path in (FOLDER / page.stem).glob("*")} <= named
    assert str(PROJECT) not in text and not re.search(r"(?<![\w.:/])/(home|tmp|root|work|Users|mnt)/", text)


@every
def test_each_figure_of_a_lesson_is_readable_at_the_sites_width(page):
    for path in (FOLDER / page.stem).glob("*.png"):
        with Image.open(path) as picture:
            assert float(picture.info.get("Type", 0)) >= POINTS, path.name


@pytest.mark.parametrize("path", sorted((PROJECT / "figures").glob("*.png")), ids=lambda path: path.stem)
def test_each_figure_of_readme_is_readable_at_the_sites_width(path):
    with Image.open(path) as picture:
        assert rendering.type_size(picture) >= POINTS


@pytest.mark.parametrize("inches, type_size, wanted", [(4, 9, 12.2), (10, 9, 6.8), (10, 12, 9.0), (4, 6, 8.1)])
def test_type_is_smaller_in_a_wider_figure(inches, type_size, wanted):
    plots.use_style()
    figure = Figure((inches, 1))
    for place in (0, 1):
        figure.text(place, place, "a", fontsize=type_size)
    with Image.open(io.BytesIO(plots.png(figure))) as picture:
        assert rendering.type_size(picture) == pytest.approx(wanted, rel=0.05)


def test_all_pages_together_are_small_and_listed():
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    assert size < MEGABYTES * 1e6
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\((\w+)\.md\)", index) == [page.stem for page in PAGES]


def test_the_teachers_expected_answers_are_those_that_the_lessons_reveal():
    page = (PROJECT / "docs" / "teaching.md").read_text(encoding="utf-8")
    answers = json.loads((FOLDER / "answers.json").read_text(encoding="utf-8"))
    assert set(answers) <= {path.stem for path in PAGES}
    for lesson, part in re.findall(r"^### (\w+)\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL):
        expected = dict(re.findall(r"^- \*([^*\n]+)\*\n  - \*\*Expected\.\*\* \*([^*]+)\*", part, re.MULTILINE))
        assert expected == answers.get(lesson, dict.fromkeys(expected, UNKNOWN)), lesson


def test_the_contrasts_that_sections_teach_have_not_vanished():
    answers = json.loads((FOLDER / "answers.json").read_text(encoding="utf-8"))
    there = {key: answers[key[0]][key[1]] for key in CONTRASTS if key[0] in answers}
    assert there and there == {key: CONTRASTS[key] for key in there}


def test_an_answer_is_put_into_the_teachers_page(tmp_path):
    page = tmp_path / "teaching.md"
    entry = "- *cost*\n  - **Expected.** *{}*. Since.\n"
    page.write_text(f"### 00_tour\n\n{entry.format('?')}\n### 01_data\n\n{entry.format('?')}", encoding="utf-8")
    rendering.note_answers({"00_tour": {"cost": "half"}}, tmp_path, page)
    wanted = f"### 00_tour\n\n{entry.format('half')}\n### 01_data\n\n{entry.format('?')}"
    assert page.read_text(encoding="utf-8") == wanted
    assert json.loads((tmp_path / "answers.json").read_text(encoding="utf-8")) == {"00_tour": {"cost": "half"}}


def test_a_page_keeps_what_a_lesson_shows(tmp_path):
    shown = nbformat.v4.new_output("display_data", {"text/html": "<details>x</details>", "text/plain": "x"},
                                   metadata={"aesthemo": {"question": "q", "answer": "half"}})
    printed = nbformat.v4.new_output("stream", name="stdout", text=f"{PROJECT}/runs/a\n")
    cells = [nbformat.v4.new_markdown_cell("# Title\n[g](../docs/glossary.md)"),
             nbformat.v4.new_code_cell("import x", metadata={"tags": ["hide-input"]}),
             nbformat.v4.new_code_cell("print(1)", metadata={"tags": ["hide-output"]}, outputs=[printed, shown])]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "a.ipynb")
    assert rendering.render(tmp_path / "a.ipynb", tmp_path / "a.ipynb", tmp_path) == {"q": "half"}
    text = (tmp_path / "a.md").read_text(encoding="utf-8")
    assert "](../../docs/glossary.md)" in text and "<details><summary>Set-up</summary>" in text
    assert "<details><summary>Show the result</summary>\n\n```text\nruns/a\n```" in text
    assert "<details>x</details>" in text
