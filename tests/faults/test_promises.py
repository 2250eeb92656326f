"""The table of promises in the docs: each has a test that is there, and each test of faults stands in it."""

import ast
import re
from pathlib import Path

import pytest

from aesthemo_lib.data.readers.folders import IMAGE_SUFFIXES
from aesthemo_lib.files import read_json

PROJECT = Path(__file__).resolve().parents[2]
TABLE, FORMATS = (PROJECT / "docs" / "promises.md").read_text(encoding="utf-8").split("\n## What happens to each")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TABLE)
KILLED = ("cache", "training", "checkpointing", "reproduce", "study")


def named_tests(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_promise_has_its_test():
    rows = [line for line in TABLE.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert len(rows) > 50 and all(re.fullmatch(r"\| [^|]+ \| (`tests/[\w/]+\.py::\w+`(, )?)+ \|", row) for row in rows)
    assert not [f"{path}::{name}" for path, name in NAMED if name not in named_tests(PROJECT / path)]


def test_the_suffixes_on_the_page_are_those_that_are_read():
    said = re.search(r"`((?:\.\w+ ?)+)`, in any case", FORMATS)[1]
    assert set(said.split()) == IMAGE_SUFFIXES


def test_every_test_of_faults_is_a_promise():
    there = {(f"tests/faults/{path.name}", name) for path in Path(__file__).parent.glob("test_*.py")
             for name in named_tests(path)}
    assert there <= set(NAMED), sorted(there - set(NAMED))


def test_the_last_soak_was_good():
    path = PROJECT / "results" / "soak.json"
    if not path.exists():
        pytest.skip("results/soak.json is not there: no soak has been run; make soak")
    record = read_json(path)
    assert record["command"] == "make soak" and record["machine"]["cores"] >= 1
    assert {part["outcome"] for part in record["parts"].values()} <= {"good", "skipped"}, record["parts"]
    assert all(record["parts"][name]["kills"] >= 50 for name in KILLED), "fifty kills of each kind, as the page says"
