"""The site's checks find what they are for, and every page has its place; tests/browser/test_site.py has the site."""

import importlib.util
import json
import re
import sys

import nbformat
import pytest
from test_style import PROJECT


@pytest.fixture(scope="module")
def book():
    """docs/book.py as a module."""
    spec = importlib.util.spec_from_file_location("book", PROJECT / "docs" / "book.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "book", module)
        patch.syspath_prepend(PROJECT / "docs")
        spec.loader.exec_module(module)
        yield module


GOOD = """<html><head><link rel="stylesheet" href="_static/site.css"><link rel="canonical" href="https://example.org/">
<script src="mathjax.js"></script></head><body><a href="https://pytorch.org">torch</a>
<img src="data:image/png;base64,AA" alt="a picture"><pre>return 1</pre></body></html>"""
BAD = {
    '<script src="mathjax.js">': ('<script src="https://cdn.jsdelivr.net/x.js">', "loads https://cdn.jsdelivr.net/x.js"),
    'href="_static/site.css"': ('href="//fonts.example/f.css"', "loads //fonts.example/f.css"),
    ' alt="a picture"': ("", "no alternative text"),
    "<body>": ('<body style="background: url(http://x.org/a.png)">', "loads http://x.org/a.png"),
    "torch</a>": (f"{PROJECT}</a>", "names the folder"),
    "return 1": ("def <b>mean</b>(votes):\n    total = votes.sum()  # mine\n    return votes / total", "a solution"),
}


@pytest.fixture
def site(tmp_path, book, monkeypatch):
    """A site of one good page, and a course whose one exercise has a solution."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text(GOOD, encoding="utf-8")
    (tmp_path / "course").mkdir()
    source = "### BEGIN SOLUTION\ndef mean(votes):\n    total = votes.sum()\n    return votes / total\n### END SOLUTION"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbformat.write(notebook, tmp_path / "course" / "ex.ipynb")
    monkeypatch.setattr(book, "COURSE", tmp_path / "course")
    return tmp_path / "site"


def test_a_good_page_passes(book, site):
    assert book.check(site) == []


@pytest.mark.parametrize("good", BAD)
def test_each_fault_is_found(book, site, good):
    bad, said = BAD[good]
    (site / "index.html").write_text(GOOD.replace(good, bad), encoding="utf-8")
    (fault,) = book.check(site)
    assert fault.startswith("index.html: ") and said in fault


def test_styles_and_the_search_index_are_read_too(book, site):
    (site / "a.css").write_text('@import "https://x.org/a.css"; b {background: url("data:x")}', encoding="utf-8")
    script = r"'#'; def mean(votes):\n total = votes.sum()\n return votes / total"
    (site / "searchindex.js").write_text(script, encoding="utf-8")
    first, second = book.check(site)
    assert "a.css: loads https://x.org/a.css" in first and "searchindex.js: holds a solution" in second


def test_there_are_solutions_to_look_for(book):
    assert len(book.solutions()) >= 6


def test_every_page_has_its_place(book):
    index = (PROJECT / "docs" / "index.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"```{toctree}.*?\n\n(.*?)```", index, flags=re.DOTALL)
    assert {path.stem for path in (PROJECT / "docs").glob("*.md")} - {"index"} <= set(listed.split())


def test_links_between_files_become_links_between_pages(book):
    title, links = "# Two judgements of one photograph\n", "[b](notebooks/more/09_x.ipynb) [c](docs/glossary.md)"
    assert book.page_text(title + links) == "# Start here\n[b](lessons/09_x.ipynb) [c](glossary.md)"
    assert book.page_text("[`a`](figures/inspector.html)") == '<a href="inspector.html">`a`</a>'
    assert book.page_text("![two\nlines](a.png)\nand [a\nlink](b)") == "![two lines](a.png)\nand [a\nlink](b)"
    text = "[g](../../docs/glossary.md#words) [r](../README.md) [n](more/09_x.ipynb) ![f](../figures/a.png)"
    assert book.lesson_text(text) == "[g](../glossary.md#words) [r](../start.md) [n](09_x.ipynb) ![f](../figures/a.png)"


def test_a_table_shows_what_its_file_holds(book, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "".join(f"{i},x|y\n" for i in range(50)), encoding="utf-8")
    lines = book.table_text(path).splitlines()
    assert lines[:3] == ["| a | b |", "| --- | --- |", r"| 0 | x\|y |"] and lines[-1] == "The first 40 of 50 rows."


@pytest.mark.parametrize("page, shown", [
    ("https://github.com/ann/art", True), ("https://git.example.org/ann/art", False), (None, False),
])  # fmt: skip
def test_a_lesson_has_a_button_for_colab_where_the_repository_is_on_github(book, tmp_path, monkeypatch, page, shown):
    monkeypatch.setattr(book, "repository", lambda checkout: page)
    note = book.stage_lesson(PROJECT / "notebooks" / "more" / "10_how_sure.ipynb", tmp_path, "teach").cells[1].source
    link = "https://colab.research.google.com/github/ann/art/blob/colab/notebooks/more/10_how_sure.ipynb"
    assert (f'href="{link}"' in note) == shown == ("olab" in note)


@pytest.mark.parametrize("lesson, linked", [("07_inspector", True), ("more/13_your_class", False)])
def test_only_the_inspectors_place_links_to_its_page(book, tmp_path, lesson, linked):
    notebook = nbformat.read(PROJECT / "notebooks" / f"{lesson}.ipynb", as_version=4)
    code = next(cell for cell in notebook.cells if cell.cell_type == "code")
    code.outputs = [nbformat.v4.new_output("display_data", {book.WIDGET: {}, "text/plain": "Inspector()"})]
    executed = tmp_path / f"{lesson.removeprefix('more/')}.ipynb"
    nbformat.write(notebook, executed)
    (tmp_path / "pages").mkdir()
    page = book.stage_lesson(executed, tmp_path / "pages", "teach")
    (shown,) = (output["data"]["text/html"] for cell in page.cells for output in cell.get("outputs", ()))
    assert "needs a kernel" in shown and ("inspector.html" in shown) == linked


def test_colabs_copy_of_a_lesson_differs_in_the_address_alone(book, tmp_path):
    book.colab.write_copies("ann/art", book.lessons(), PROJECT, tmp_path)
    for lesson in book.lessons():
        copy = (tmp_path / lesson.relative_to(PROJECT)).read_text(encoding="utf-8")
        assert json.loads(copy) and copy.count("https://github.com/ann/art") == 1
        assert copy.replace("https://github.com/ann/art", "") == lesson.read_text(encoding="utf-8")
    (tmp_path / "plain.ipynb").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="plain.ipynb: expected the line SOURCE"):
        book.colab.write_copies("ann/art", [tmp_path / "plain.ipynb"], tmp_path, tmp_path / "copies")
