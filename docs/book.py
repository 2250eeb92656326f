"""Build the site in ``out/book/html``: readable from a file, without a network connection.

    python docs/book.py                (or 'make book')
    python docs/book.py --render       (the pages in notebooks/rendered, which GitHub shows)

Where the checkout's remote ``origin`` is on GitHub, each lesson has a button for Colab, which opens what is written to
``out/book/colab``.
The lessons are executed with papermill first (an executed copy is kept until the lesson or the library changes), then
Sphinx lays out everything with warnings as errors, then ``check`` goes through every page that came out.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import html
import json
import os
import re
import shutil
import sys
import tarfile
import time
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import colab
import nbformat
import pandas as pd

PROJECT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":  # the checkout's library, installed or not, here and in the notebooks' kernels
    sys.path.insert(0, str(PROJECT))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))

from aesthemo_lib.evaluation.comparison import collect, markdown_table  # noqa: E402
from aesthemo_lib.files import atomic, cache_folder  # noqa: E402
from aesthemo_lib.headless.execute import execute  # noqa: E402
from aesthemo_studies import protocol as studies, readme_figures as figures  # noqa: E402
from hatch_build import repository  # noqa: E402

COURSE = PROJECT / "course"
MATHJAX = "https://registry.npmjs.org/mathjax/-/mathjax-3.2.2.tgz"
MATHJAX_SHA256 = "1b9c0a1c44df864e915690558e72adb9cc5203360daefd385084ced3b6c64c09"
MATHJAX_FILES = ("LICENSE", "es5/tex-svg-full.js")
SOLUTION = re.compile(r"### BEGIN (?:SOLUTION|HIDDEN TESTS)\n(.*?)### END", re.DOTALL)
WIDGET = "application/vnd.jupyter.widget-view+json"
INSTEAD = "<p>A widget; it needs a kernel.</p>"
INSPECTOR = '<p>A widget; it needs a kernel. The same on a page: <a href="../inspector.html">inspector</a>.</p>'
PAGES = {
    "README.md": "start.md", "results/README.md": "results/index.md",
    "aesthemo_lib/bundled/scenes/README.md": "results/card.md",
    "aesthemo_lib/bundled/photographs/README.md": "results/photographs.md",
    "notebooks/rendered/README.md": "lessons/index.md", "results/attribution)": "results/index.md)",
    "notebooks/exercises)": "lessons/index.md#exercises)",
}
"""Where a link in a file of the checkout leads on the site."""
CODE = ("aesthemo_lib", "aesthemo_scenes", "aesthemo_course", "aesthemo_studies")
"""What a lesson runs; if it changes, the lesson is executed anew."""
LONG = {"12_neighbours"}
"""These train for many minutes with preset ``teach``, so their pages are made with ``smoke``, and say so."""
STUDY_COLUMNS = {"study", "contender", "candidate", "validation_log_loss"}
RUN_COLUMNS = {"task", "method", "split", "seed", "auc", "balanced_accuracy", "accuracy", "log_loss"}


def main(arguments: list[str]) -> int:
    """Execute, lay out and check; the exit code is 0 if nothing was found."""
    parser = argparse.ArgumentParser("book", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", default="teach", help="of the lessons' runs: smoke (seconds) or teach (minutes)")
    parser.add_argument("--out", type=Path, default=PROJECT / "out" / "book", help="%(default)s")
    parser.add_argument("--only", default="", help="execute only this lesson; use the others as they are")
    parser.add_argument("--render", action="store_true", help="make notebooks/rendered instead of the site")
    given = parser.parse_args(arguments)
    if given.render:
        return render_lessons(executed(given.out / given.preset, given.preset, given.only))
    if not find_spec("sphinx"):
        print("book: Sphinx is not installed here; run: python run.py book", file=sys.stderr)
        return 2
    began = time.monotonic()
    ready = {path.name: path for path in executed(given.out / given.preset, given.preset, given.only)}
    faults = build(given.out, [ready.get(path.name, path) for path in lessons()], given.preset)
    site = given.out / "html"
    print("\n".join([*faults, f"{len(list(site.rglob('*.html')))} pages, {len(faults)} faults, "
                              f"{time.monotonic() - began:.0f} s: {site / 'index.html'}"]))
    return int(bool(faults))


def render_lessons(copies: list[Path]) -> int:
    """Write the pages that GitHub shows, see ``rendering``; the exit code is 0."""
    import rendering

    origins, answers = {path.name: path for path in lessons()}, {}
    for copy in copies:
        answers[copy.stem] = rendering.render(copy, origins[copy.name])
        print(f"{rendering.FOLDER / copy.stem}.md")
    rendering.note_answers({lesson: shown for lesson, shown in answers.items() if shown})
    rendered = [path for path in lessons() if (rendering.FOLDER / f"{path.stem}.md").exists()]
    rendering.write_index({path.stem: nbformat.read(path, 4).cells[0].source.splitlines()[0].lstrip("# ")
                           for path in rendered})
    return 0


def build(out: Path, notebooks: list[Path], preset: str) -> list[str]:
    """Make the site from executed lessons.

    Args:
        out: the folder for the site (``html``) and what it is made from (``source``).
        notebooks: the executed copies.
        preset: what they were executed with.

    Returns:
        the faults, one line each.
    """
    from sphinx.cmd.build import build_main

    stage(out / "source", notebooks, preset)
    for made in ("html", "colab"):
        shutil.rmtree(out / made, ignore_errors=True)
    if name := colab.on_github(repository(PROJECT)):
        colab.write_copies(name, lessons(), PROJECT, out / "colab")
    options = ["-b", "html", "-q", "-n", "-W", "--keep-going", "-d", str(out / "doctrees")]
    failed = build_main([*options, str(out / "source"), str(out / "html")])
    for page in (out / "html").rglob("*.html"):  # the reference prints constants, folders among them
        text = page.read_text(encoding="utf-8")
        if f"{PROJECT}{os.sep}" in text:
            page.write_text(text.replace(f"{PROJECT}{os.sep}", ""), encoding="utf-8")
    return ["Sphinx found what it says above"] * bool(failed) + check(out / "html")


# --- executing


def lessons() -> list[Path]:
    """The notebooks that become pages: the lessons and what a course may skip, not the exercises."""
    folder = PROJECT / "notebooks"
    return [*sorted(folder.glob("[0-9]*.ipynb")), *sorted((folder / "more").glob("[0-9]*.ipynb"))]


def preset_of(notebook: Path, preset: str) -> str:
    """The preset that a lesson's page is made with."""
    return "smoke" if notebook.stem in LONG else preset


def executed(out: Path, preset: str, only: str = "") -> list[Path]:
    """Executed copies of all lessons, or of one; a copy is made anew if its source or the library changed."""
    code = [path for folder in CODE for path in sorted((PROJECT / folder).rglob("*.*"))]
    library = [path.read_bytes() for path in code if path.suffix != ".pyc"]
    copies = []
    for notebook in (path for path in lessons() if only in ("", path.stem)):
        copy, began = out / notebook.name, time.monotonic()
        stamp, mark = copy.with_suffix(".sha256"), hashlib.sha256(b"".join([notebook.read_bytes(), *library]))
        if not (copy.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == mark.hexdigest()):
            execute(notebook.stem, {"preset": preset_of(notebook, preset), "out": str(out / "runs")}, copy)
            with atomic(stamp) as temporary:
                temporary.write_text(mark.hexdigest(), encoding="utf-8")
            print(f"{notebook.stem}: executed in {time.monotonic() - began:.0f} s", flush=True)
        copies.append(copy)
    return copies


# --- staging


def stage(source: Path, notebooks: list[Path], preset: str) -> None:
    """Put everything that Sphinx reads into one folder, made anew.

    Args:
        source: the folder.
        notebooks: executed lessons.
        preset: what they were executed with.
    """
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(PROJECT / "docs", source, ignore=shutil.ignore_patterns("[!c]*.py", "colab.py", "__pycache__"))
    for page in source.glob("*.md"):  # their links are those of the checkout
        text = in_one_line(page.read_text(encoding="utf-8")).replace("](../results/", "](results/")
        page.write_text(re.sub(r"\]\(\.\./notebooks/(?:more/)?(\w+\.ipynb)", r"](lessons/\1", text), encoding="utf-8")
    shutil.copytree(PROJECT / "figures", source / "figures")
    (source / "extra").mkdir()
    for page in (source / "figures").glob("*.html"):
        page.rename(source / "extra" / page.name)
    for name in ("LICENSE", "CITATION.cff"):
        shutil.copy(PROJECT / name, source)
    vendor_mathjax(source / "_static" / "mathjax")
    for name, title in (("README.md", "start.md"), ("CONTRIBUTING.md", "CONTRIBUTING.md")):
        if (PROJECT / name).exists():
            (source / title).write_text(page_text((PROJECT / name).read_text(encoding="utf-8")), encoding="utf-8")
    stage_figures(source / "figures.md")
    stage_lessons(source / "lessons", notebooks, preset)
    stage_results(source / "results")
    stage_reference(source / "reference")


def page_text(text: str) -> str:
    """A Markdown file of the checkout as a page: its links to files that are pages here lead to these."""
    text = re.sub(r"^# Two judgements of one photograph$", "# Start here", text, count=1, flags=re.MULTILINE)
    text = in_one_line(text)
    text = re.sub(r"\[([^\]]+)\]\((?:figures/)?(\w+\.html)\)", r'<a href="\2">\1</a>', text)
    for file, page in PAGES.items():
        text = text.replace(f"]({file}", f"]({page}")
    text = re.sub(r"\]\(docs/", "](", text)
    return re.sub(r"\]\(notebooks/(?:\w+/)?(\w+)\.ipynb", r"](lessons/\1.ipynb", text)


def in_one_line(text: str) -> str:
    """Markdown with each alternative text in one line: MyST drops its line breaks, which stand between words."""
    return re.sub(r"!\[[^\]]+\]\(", lambda alt: " ".join(alt[0].split()), text)


def vendor_mathjax(folder: Path) -> None:
    """MathJax with all of TeX in one file, from npm, checked, and kept in the cache.

    Raises:
        OSError: it could not be had, and is not in the cache.
    """
    import pooch

    pooch.get_logger().setLevel("ERROR")
    archive = pooch.retrieve(MATHJAX, f"sha256:{MATHJAX_SHA256}", Path(MATHJAX).name, cache_folder(), progressbar=False)
    folder.mkdir(parents=True)
    with tarfile.open(archive) as files:
        for name in MATHJAX_FILES:
            (folder / Path(name).name).write_bytes(files.extractfile(f"package/{name}").read())


def stage_lessons(folder: Path, notebooks: list[Path], preset: str) -> None:
    """The executed notebooks, the exercises as students get them, and the list of both."""
    folder.mkdir()
    lines = ["# Lessons", "", f"Each page is a notebook of the repository, run with the preset `{preset}`"
             + (": drawn scenes and tiny networks, in seconds. The figures show how to look, not what the method "
                "reaches; for that see the [results](../results/index.md)." if preset == "smoke" else ".")]
    lines += [list_entry(path, stage_lesson(path, folder, preset)) for path in notebooks]
    exercises = sorted((PROJECT / "notebooks" / "exercises").glob("*.ipynb"))
    if exercises:
        lines += ["## Exercises", "To be opened in JupyterLab, in `notebooks/exercises`; here they are for reading."]
        lines += [list_entry(path, nbformat.read(shutil.copy(path, folder), as_version=4)) for path in exercises]
    order = [path.stem for path in [*notebooks, *exercises]]
    text = "\n\n".join([*lines, "\n".join(["```{toctree}", ":hidden:", "", *order, "```"])])
    (folder / "index.md").write_text(text + "\n", encoding="utf-8")


def stage_lesson(path: Path, folder: Path, preset: str) -> nbformat.NotebookNode:
    """Write a page from an executed notebook, without what only the machine that ran it can use."""
    printed = path.read_text(encoding="utf-8").replace(json.dumps(f"{PROJECT}{os.sep}")[1:-1], "")
    notebook = nbformat.reads(printed, as_version=4)
    (origin,) = (source for source in lessons() if source.name == path.name)
    where = origin.relative_to(PROJECT).as_posix()
    # What papermill inserted names folders of this machine; the declared parameters stay.
    notebook.cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        cell.source = lesson_text(cell.source) if cell.cell_type == "markdown" else cell.source
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    note = f"*This page is the notebook `{where}`, run with `preset = \"{preset_of(origin, preset)}\"`.*"
    if name := colab.on_github(repository(PROJECT)):
        note += f"\n\n{colab.button(name, where)}"
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(note))
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        if WIDGET in output.get("data", {}):
            html_instead = output["data"].get("text/html")
            output["data"] = {"text/html": html_instead or (INSPECTOR if "inspector" in path.stem else INSTEAD)}
    nbformat.write(notebook, folder / path.name)
    return notebook


def lesson_text(text: str) -> str:
    """A lesson's Markdown with its links as the site has them: all lessons lie in one folder."""
    text = re.sub(r"\]\((?:\.\./)+README\.md", "](../start.md", text)
    text = re.sub(r"\]\((?:\.\./)+results/README\.md", "](../results/index.md", text)
    text = re.sub(r"\]\((?:\.\./)+(?:docs/)?(\w+\.md|figures/)", r"](../\1", text)
    return re.sub(r"\]\((?:\.\./)?(?:more/|exercises/)?(\w+\.ipynb)", r"](\1", text)


def list_entry(path: Path, notebook: nbformat.NotebookNode) -> str:
    """A line of the list: the title and, of a lesson, the claim, from the first cell that is no code."""
    first = next(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    title = first.splitlines()[0].lstrip("# ")
    claim = re.search(r"\*\*Claim\.?\*\*\s*(.*?)(?:\n\n|$)", first, re.DOTALL)
    return f"- [{title}]({path.name})" + (f": {' '.join(claim[1].split())}" if claim else "")


def stage_figures(page: Path) -> None:
    """A page with every picture, its text and the hash of what it was drawn from."""
    parts = ["# Figures", "Each is drawn by `python -m aesthemo_studies figures` from a model or a committed table "
             "(the inspector's by `python tests/browser/picture.py`), with the hash of that; a test finds a stale one."]
    for name, text in figures.TEXTS.items():
        parts += [f"## {name}", f"![{text}](figures/{name})", text]
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def stage_results(folder: Path) -> None:
    """Every committed table, with its file: as README shows it if it is of runs, else as it is; and the kept runs."""
    folder.mkdir()
    intro = (PROJECT / "results" / "README.md").read_text(encoding="utf-8")
    intro = re.sub(r"\]\(\.\./notebooks/(?:more/)?(\w+)\.ipynb", r"](../lessons/\1.ipynb", intro)
    intro = intro.replace("](README.md)", "](index.md)").replace("](attribution)", "](index.md)")
    parts = [page_text(intro)]
    for path in [*(PROJECT / "results").glob("*.json"), *(PROJECT / "results" / "studies").glob("*.json")]:
        target = folder / path.relative_to(PROJECT / "results")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for path in sorted((PROJECT / "results").rglob("*.csv")):
        name = path.relative_to(PROJECT / "results").as_posix()
        if name.startswith("runs/"):
            continue  # a run's own tables; all of them together follow below
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        parts.append(f"## {name}\n\nThe file: [`{name}`]({name})\n\n{table_text(path)}")
    for kept in sorted((PROJECT / "results" / "runs").glob("[a-z]*")):
        parts.append(f"## runs/{kept.name}\n\n{markdown_table(collect(kept))}")
    pages = ["card", "photographs"]
    for page in filter(Path.exists, (PROJECT / "results" / name for name in ("bench.md", "gpu.md"))):
        shutil.copy(page, folder)
        pages.append(page.stem)
    for picture in (PROJECT / "results").glob("*.png"):
        shutil.copy(picture, folder)
    parts.append("\n".join(["```{toctree}", ":hidden:", "", *pages, "```"]))
    (folder / "index.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    for name, page in (("scenes", "card.md"), ("photographs", "photographs.md")):
        shutil.copy(PROJECT / "aesthemo_lib" / "bundled" / name / "README.md", folder / page)


def table_text(path: Path, most: int = 40) -> str:
    """A CSV as a Markdown table: of runs, and of a study's tuned ones under each condition, means with intervals."""
    table = pd.read_csv(path, encoding="utf-8")
    if set(table) >= STUDY_COLUMNS:
        parts = studies.selected(studies.load(path)).groupby("condition", sort=False)
        return "\n\n".join(f"{name}\n\n{markdown_table(part)}".strip() for name, part in parts)
    if set(table) >= RUN_COLUMNS:
        return markdown_table(table)
    table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    cells = [list(table), ["---"] * table.shape[1], *table.head(most).to_numpy().tolist()]
    lines = ["| " + " | ".join(value.replace("|", "\\|") for value in row) + " |" for row in cells]
    return "\n".join([*lines, "", f"The first {most} of {len(table)} rows." if len(table) > most else ""])


def stage_reference(folder: Path) -> None:
    """A page for each module, from its docstrings, and the list of them."""
    folder.mkdir()
    rows, names = [], []
    for path in sorted((PROJECT / "aesthemo_lib").rglob("*.py")):
        parts = path.relative_to(PROJECT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        summary = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
        rows.append(f"* :doc:`{name.removeprefix('aesthemo_lib.')} <{name}>`: {' '.join(summary.split())}")
        names.append(f"   {name}")
        title = name.replace("_", "\\_")
        page = [title, "=" * len(title), "", f".. automodule:: {name}"]
        if path.name == "__init__.py":  # a function may have the name of its module, which has a page of its own
            page.append(f"   :exclude-members: {', '.join(sorted(p.stem for p in path.parent.glob('*.py')))}")
        (folder / f"{name}.rst").write_text("\n".join(page), encoding="utf-8")
    index = ["The library", "===========", "", "Imports run downwards only; start with "
             ":doc:`models.fusion <aesthemo_lib.models.fusion>`: the method's heart is twenty lines.", "", *rows, "",
             ".. toctree::", "   :hidden:", "", *names]
    (folder / "index.rst").write_text("\n".join(index) + "\n", encoding="utf-8")


# --- checking


class Loads(HTMLParser):
    """What a page loads by itself: scripts, styles, pictures, frames, with the places of their addresses.

    Attributes:
        addresses: in the page's order.
        bare: pictures without alternative text.
    """

    SOURCES = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src",
               "embed": "src", "object": "data", "link": "href", "input": "src"}

    def __init__(self):
        super().__init__()
        self.addresses: list[str] = []
        self.bare: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        address = values.get(self.SOURCES.get(tag, ""))
        if address and not (tag == "link" and values.get("rel") in ("canonical", "search", "index", "next", "prev")):
            self.addresses.append(address)
        if tag == "img" and not values.get("alt"):
            self.bare.append(address)
        self.addresses += re.findall(r"url\(([^)]+)\)", values.get("style") or "")


def check(site: Path) -> list[str]:
    """The faults of a built site, one line each: what it would load from elsewhere, bare pictures, solutions, folders.

    Args:
        site: the folder of the pages.
    """
    faults = []
    for page in sorted(site.rglob("*.html")):
        name, text = page.relative_to(site).as_posix(), page.read_text(encoding="utf-8")
        loads = Loads()
        loads.feed(text)
        faults += [f"{name}: loads {a} from elsewhere" for a in loads.addresses if is_elsewhere(a)]
        faults += [f"{name}: picture {a} has no alternative text" for a in loads.bare]
        if str(PROJECT) in text:
            faults.append(f"{name}: names the folder that it was built in, {PROJECT}")
    for style in sorted(site.rglob("*.css")):
        text = style.read_text(encoding="utf-8")
        addresses = re.findall(r"@import\s+['\"]([^'\"]+)|url\(([^)]+)\)", text)
        faults += [f"{style.name}: loads {a or b} from elsewhere" for a, b in addresses if is_elsewhere(a or b)]
    return faults + solutions_on(site)


def is_elsewhere(address: str) -> bool:
    """Whether an address leads out of the site; data within the page doesn't."""
    return bool(re.match(r"\s*['\"]?(https?:)?//", address))


def solutions() -> list[tuple[str, str]]:
    """Each solution and hidden test of the course's source, squeezed, with the name of its exercise."""
    return [(path.name, squeezed(without_comments(block))) for path in sorted(COURSE.rglob("*.ipynb"))
            for cell in nbformat.read(path, as_version=4).cells for block in SOLUTION.findall(cell.source)]


def solutions_on(site: Path) -> list[str]:
    """Pages, and other text files of a site, on which an exercise's solution stands."""
    faults, blocks = [], solutions()
    for file in sorted(site.rglob("*")):
        if file.suffix not in (".html", ".js", ".txt", ".ipynb", ".md"):
            continue
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".html":
            text = without_comments(html.unescape(re.sub(r"<[^>]+>", "", text)))
        text = squeezed(text)
        faults += [f"{file.name}: holds a solution of {name}" for name, block in blocks if block in text]
    return faults


def without_comments(code: str) -> str:
    """Code without what stands after a '#'."""
    return re.sub(r"#.*", "", code)


def squeezed(code: str) -> str:
    """Code without white space."""
    return re.sub(r"\s+|\\n", "", code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
