"""Every measure, every axis label of a lesson and every column heading of its tables is in the glossary."""

import ast
import html
import json
import re
from pathlib import Path

import pytest

from aesthemo_course.lessons import NAMES
from aesthemo_lib.evaluation import METRICS
from aesthemo_lib.models.networks import METHODS
from aesthemo_lib.tasks import OASIS_TASKS, PATENT_TASKS

PROJECT = Path(__file__).resolve().parents[2]
GLOSSARY = (PROJECT / "docs" / "glossary.md").read_text(encoding="utf-8")
TERMS = {term.lower().strip(",. ") for term in re.findall(r"\*\*([^*]+)\*\*", GLOSSARY)}
PLAIN = {"images", "photos", "epoch", "learning rate", "gradient", "difference", "cuts", "test sets", "class's",
         "agreement with the others"}
"""Words of an axis that need no definition."""
HEADINGS = {
    "after", "all", "answers", "before", "class", "default", "direction", "everything", "groups", "image", "labels",
    "mean", "method", "nothing", "own", "random", "recoverable", "replicates", "right", "runs", "same channel", "scale",
    "set", "sum", "task", "test", "train", "ties", "validation", "wrong", "effect", "above", "low", "high", "reference",
    "even guess", "best guess", "constant guess", "photo", "intact", "zero", "black", "blur", "verdict", "signs",
    "majorities", "branch", "kept", "number", "votes", "probe", "exchange", "diagonal", "resample", "grad cam", "group",
    "head", "predictor", "published", "ratings", "must", "reverse", "destroyed", "pointing", "patches", "baselines",
    "concept", "part", "networks", "factor", "what", "value", "over", "check", "case", "seeds", "sign", "exact",
    "any", "any: chain minus separate", "any: chain shuffled minus chain", "any: mlp minus separate", "as it is",
    "blue", "chain", "comparison", "cycle weight 10", "cycle weight 2", "green", "holm's p", "measure", "mlp", "red",
    "separate", "separate decoded", "the truth", "whole sheet", "both", "layer",
}
"""Words of a heading that need no definition where they stand: their table's caption or the sentence above it does."""


def axis_labels(source: str) -> list[str]:
    """The literal axis labels that Python code sets."""
    labels = []
    for node in ast.walk(ast.parse(re.sub(r"^(\s*)[!%].*$", r"\1pass", source, flags=re.MULTILINE))):
        if isinstance(node, ast.keyword) and node.arg in ("xlabel", "ylabel"):
            value = node.value
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("set_xlabel", "set_ylabel"):
            value = node.args[0]
        else:
            continue
        parts = value.values if isinstance(value, ast.JoinedStr) else [value]
        text = "".join(part.value for part in parts if isinstance(part, ast.Constant))
        labels += [text] if text.strip() else []
    return labels


LESSONS = [*sorted((PROJECT / "notebooks").glob("0*.ipynb")), *sorted((PROJECT / "notebooks/more").glob("[01]*.ipynb"))]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_each_axis_label_is_made_of_defined_words(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        for label in axis_labels("".join(cell["source"])) if cell["cell_type"] == "code" else ():
            assert any(term in label.lower() for term in TERMS | PLAIN), f"{path.stem}[{cell['id']}]: {label!r}"


def test_each_measure_of_a_table_is_defined():
    assert set(METRICS) == set(NAMES), "each metric has a name in words"
    missing = [name for name in NAMES.values() if name.lower() not in TERMS]
    assert not missing
    for name in ("majority class", "one rater", "panel ceiling", "linear probe", "late fusion", "ECE", "changed"):
        assert name.lower() in TERMS or any(name.lower() in term for term in TERMS), name


def test_a_label_without_a_definition_is_found():
    assert axis_labels('ax.set(xlabel="flux of ether", ylabel=f"{x} share")') == ["flux of ether", " share"]
    assert not any(term in "flux of ether" for term in TERMS | PLAIN)


def undefined(heading: str) -> bool:
    """Whether a column heading has no word that the glossary or the table's own words define."""
    text = html.unescape(heading).strip().lower().replace("_", " ")
    words = {*TERMS, *PLAIN, *HEADINGS, *(name.replace("_", " ") for name in METHODS),
             *(name for task in (*PATENT_TASKS, *OASIS_TASKS) for name in (task.name, *task.classes))}
    plain = re.fullmatch(r"[\d.,:% ()v\-obrδ=]*|.*\.(jpg|png).*|the repository's runs.*|your runs.*", text)
    return not plain and not any(word == text or len(word) > 2 and word in text for word in words)


@pytest.mark.parametrize("page", sorted((PROJECT / "notebooks" / "rendered").glob("*.md")), ids=lambda page: page.stem)
def test_each_column_heading_is_made_of_defined_words(page):
    headings = re.findall(r"<th>([^<]+)</th>", page.read_text(encoding="utf-8"))
    assert not [heading for heading in headings if undefined(heading)]


def test_a_heading_without_a_definition_is_found():
    assert undefined("flux") and not undefined("balanced accuracy") and not undefined("0.5")
