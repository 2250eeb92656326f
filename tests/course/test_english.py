"""Old habits stay out of the prose and the strings of lessons, exercises, README and other pages, and course code."""

import ast
import json
import re
import tokenize
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PATTERNS = {
    r"\bwho(m|so)?ever\b": "name the actor",
    r"\bbesides?\b": "next to, alongside, compared with",
    r"\btold\b": "distinguished, described, reported",
    r"\b(?<!let )alone\b(?! [a-z])": "put 'only' before the word it limits",
    r"\b(of|for) which\b": "split the sentence",
    r"\bthat which\b": "what",
    r"\b(surer|righter)\b": "overconfident, underconfident, more certain",
    r"\bnot looking\b|\bfor looking at nothing\b": "a constant guess",
    r"\bby heart\b": "memorise",
    r"\ba row an? \w+|\ban? \w+ an? image\b": "one row per image",
    r"\bcomes? along\b|\bthat came along\b": "bundled",
    r"\bknow of one another\b": "are related",
    r"\binto one group\b": "in one group",
    r"\bgoes? on (with|where)\b|\bwent on (with|where)\b": "continue, resume",
    r"\b(holds?|leaves? out|leaving out) zero\b": "contains zero, excludes zero",
    r"\bbreak it off\b": "interrupt it",
    r"\bfrom which on\b|\bfrom \S+ on (is|are)\b": "at least",
    r"\bcan't be meant\b": "contradicts itself",
    r"\bnever parts?\b|\bdo(es)? not part\b": "are never split",
    r"\bone below the other\b|\bthe one below\b": "in two lines",
    r"\bturns? up again\b": "rises again",
    r"\bstands? (beside|by itself|still)\b": "is next to, is static",
    r"\bmay be doubted\b|\bone may doubt\b": "is questionable",
    r"\bapart from one another\b": "separately",
    r"\bhas to do with\b": "is related to, depends on",
    r"\bwants? rewriting\b": "needs",
    r"\bin their order\b": "in order",
    r"\ba thing of\b": "a matter of",
    r"\bis of (use|no use)\b": "is useful",
    r"\bpush(es)? out of the way\b": "replace",
    r"\bnot (to be )?told apart\b": "no detectable difference",
    r"\bwith the text\b|\bto the letter\b": "as the patent describes",
    r"\bthe luck of\b": "chance",
    r"\bit was looked\b|\bis looked (at|for)\b": "use the active voice",
    r"\ba mark, not a wall\b": "a reference, not an upper bound",
    r"\bbefore anybody\b": "before anyone",
    r"\bstraight way\b": "straight path",
    r"\bhangs? on\b": "depends on",
    r"\bonce an? GPU\b|\ba training an? \w+": "one per",
    r"\bis the end of what\b": "make little sense",
    r"\b(quicker|slower) at\b|\bquick at\b": "is fast with",
    r"\bnobody asks\b": "is idle",
    r"\bturned round\b": "inverted",
    r"\bmade-up\b": "invented",
    r"\bit is no (feat|judgement)\b": "is not",
    r"\bin one case of twenty although there is nothing\b": "when there is no difference",
    r"\bwith and without a GPU\b": "with or without",
    r"\bthe field's word\b": "the usual term",
}
FOLDERS = ("", "docs", ".github", "results", "results/archive", "aesthemo_lib/bundled/photographs",
           "aesthemo_lib/bundled/scenes")
"""Of pages in Markdown."""
WRITTEN = {"bench.md", "gpu.md", "gpu-one-thread.md"}
"""Tables that ``make bench`` writes."""


def texts(path: Path) -> list[tuple[str, str]]:
    """(place, text) of all prose and strings in a file."""
    if path.suffix == ".md":
        return [(f"{path.name}:{n}", line) for n, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1)]
    if path.suffix == ".py":
        return [(f"{path.name}:{n}", text) for n, text in strings(path.read_text(encoding="utf-8"))]
    pieces = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        place = f"{path.stem}[{cell['id']}]"
        if cell["cell_type"] == "markdown":
            pieces.append((place, source))
        else:
            python = re.sub(r"^(\s*)[!%].*$", r"\1pass", source, flags=re.MULTILINE)
            pieces += [(place, text) for _, text in strings(python)]
    return pieces


def strings(source: str) -> list[tuple[int, str]]:
    """The string literals and comments of Python code, with their lines."""
    pieces = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            pieces.append((node.lineno, node.value))
    lines = iter(source.splitlines(True))
    for token in tokenize.generate_tokens(lambda: next(lines, "")):
        if token.type == tokenize.COMMENT:
            pieces.append((token.start[0], token.string))
    return pieces


def faults(text: str) -> list[str]:
    """Each habit that a text shows, with the advice."""
    prose = re.sub(r"\$[^$]+\$|`[^`]*`", "x", text)
    return [f"{match[0]!r}: {advice}" for pattern, advice in PATTERNS.items()
            if (match := re.search(pattern, prose, re.IGNORECASE))]


def files() -> list[Path]:
    notebooks = [*(PROJECT / "notebooks").rglob("*.ipynb"), *(PROJECT / "course").rglob("*.ipynb")]
    pages = [page for folder in FOLDERS for page in (PROJECT / folder).glob("*.md") if page.name not in WRITTEN]
    code = [*(PROJECT / "aesthemo_course").glob("*.py"), *(PROJECT / "course").glob("*.py"),
            *(PROJECT / "docs").glob("*.py"), PROJECT / "notebooks" / "start.py",
            PROJECT / "aesthemo_studies" / "readme_figures.py"]
    return sorted(path for path in [*notebooks, *pages, *code]
                  if ".ipynb_checkpoints" not in path.parts)


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_the_old_habits_stay_out(path):
    habits = [f"{place}: {fault}" for place, text in texts(path) for fault in faults(text)]
    assert not habits, "\n".join(habits)


@pytest.mark.parametrize("bad", [
    "Whoever reads it", "the number beside each bar", "judged by validation images alone;", "we are not told apart",
    "surer than right", "learnt by heart", "the interval leaves out zero", "a row an image", "groups never part.",
])
def test_the_linter_finds_each_habit(bad):
    assert faults(bad)


@pytest.mark.parametrize("good", [
    "The interval contains zero.", "one row per image", "Only the validation images count.", "$\\text{told}$",
])
def test_the_linter_leaves_plain_english(good):
    assert not faults(good)


def test_strings_in_code_are_linted_too(tmp_path):
    path = tmp_path / "a.py"
    path.write_text('x = f"not told {1}"  # beside it\n', encoding="utf-8")
    assert len([f for _, text in texts(path) for f in faults(text)]) == 2
