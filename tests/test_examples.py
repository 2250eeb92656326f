"""Every public name has an example in its docstring, and the examples run."""

import ast
import doctest
import importlib

import pytest
from test_style import PROJECT

LIBRARY = PROJECT / "aesthemo_lib"
NOT_RUN = {
    "the internet": ["data.download.fetch", "models.backbones.imagenet_vgg"],
    "minutes": ["check_study.explained", "figures.draw_all", "jobs.all_notebooks", "style_study.study",
                "workflow.run_workflow"],
    "a quiet machine": [
        "bench.child.main", *(f"bench.costs.{name}" for name in ("point", "at", "memory", "growth")),
        *(f"bench.reading.{name}" for name in ("vgg16_prediction", "teach_prediction", "cache")),
        "bench.rows.run", "bench.rows.measured", "bench.starting.starting", "bench.starting.reproduce",
        *(f"bench.training.{name}" for name in ("vgg16", "vgg16_plain", "teach")),
        "scale.measure", "scale.main",
    ],
}
"""Examples that are read and not run, by what they would need."""


def files() -> dict[str, str]:
    """The source of each module, by its name within the library."""
    found = {}
    for path in sorted(LIBRARY.rglob("*.py")):
        parts = path.relative_to(LIBRARY).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


SOURCES = files()


def docstrings(source: str) -> dict[str, str]:
    """Those of the public functions and classes at the top of a module, by name."""
    return {node.name: ast.get_docstring(node) or "" for node in ast.parse(source).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")}


def without_example(source: str) -> list[str]:
    return [name for name, text in docstrings(source).items() if ">>>" not in text]


def test_a_missing_example_is_seen():
    assert without_example('def a():\n    """One.\n\n    >>> a()\n    """\nclass B:\n    """Two."""\n') == ["B"]


@pytest.mark.parametrize("name", SOURCES)
def test_every_public_name_has_an_example(name):
    assert without_example(SOURCES[name]) == []


def test_what_is_not_run_is_known():
    skipped = [f"{module}.{name}" for module, source in SOURCES.items() for name, text in docstrings(source).items()
               if "+SKIP" in text]
    assert sorted(skipped) == sorted(name for names in NOT_RUN.values() for name in names)


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if ">>> " in source])
def test_the_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AESTHEMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AESTHEMO_HEADLESS", "1")
    module = importlib.import_module(f"aesthemo_lib.{name}".rstrip("."))
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(module, optionflags=options)
    assert not result.failed, f"python -m doctest says more of {name}"
