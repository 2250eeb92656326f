"""The examples in the docstrings run, and what a lesson teaches has one."""

import ast
import doctest
import importlib

import pytest
from test_style import PROJECT

LIBRARY = PROJECT / "aesthemo_lib"
COMPLETE = [
    "tasks", "files", "device", "data.ratings", "data.table", "data.batches", "data.images", "data.readers",
    "models.backbones", "models.fusion", "models.networks", "models.sequence", "evaluation", "calibration", "ledger",
    "training.losses", "training.labels", "training.config", "training.settings", "training.fit",
]
"""Modules in which every public function and class has an example. Others grow into the list."""


def files() -> dict[str, str]:
    """The source of each module, by its name within the library."""
    found = {}
    for path in sorted(LIBRARY.rglob("*.py")):
        parts = path.relative_to(LIBRARY).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


SOURCES = files()


def without_example(source: str) -> list[str]:
    """The public functions and classes at the top of a module whose docstring holds no example."""
    public = [node for node in ast.parse(source).body
              if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")]
    return [node.name for node in public if ">>>" not in (ast.get_docstring(node) or "")]


def test_a_missing_example_is_seen():
    assert without_example('def a():\n    """One.\n\n    >>> a()\n    """\nclass B:\n    """Two."""\n') == ["B"]


@pytest.mark.parametrize("name", COMPLETE)
def test_every_public_name_has_an_example(name):
    assert without_example(SOURCES[name]) == []


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if ">>> " in source])
def test_the_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AESTHEMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AESTHEMO_HEADLESS", "1")
    module = importlib.import_module(f"aesthemo_lib.{name}".rstrip("."))
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(module, optionflags=options)
    assert not result.failed, f"python -m doctest says more of {name}"
