"""The examples in docstrings run as they stand. They are where a reader of a lesson or of README would look for one."""

import doctest
import importlib

import pytest
from test_house import FILES

EXAMPLES = [name for name, path in FILES.items() if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AESTHEMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AESTHEMO_HEADLESS", "1")
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.attempted and not result.failed, f"python -m doctest says more of {name}"
