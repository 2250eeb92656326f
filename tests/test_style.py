"""The code's form: linted, notebooks included, and a small house whose imports run downwards only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
FLOORS = ["tasks", "files", "device", "data", "models", "evaluation", "calibration", "training", "prediction"]
"""From the ground up; what is not named stands above them all."""


def test_ruff_finds_nothing():
    command = [sys.executable, "-m", "ruff", "check", "."]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout


def test_types_fit(tmp_path):
    pytest.importorskip("mypy", reason="needs the extra 'types'")
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path), "--no-error-summary"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr


def floor(module: str) -> int:
    name = module.split(".")[1] if "." in module else ""
    return FLOORS.index(name) if name in FLOORS else len(FLOORS)


def imported(path: Path, module: str) -> set[str]:
    """The project's modules that a file imports, at its top or in a function."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            names = [node.module] if node.module else [a.name for a in node.names if a.name != "__version__"]
            found |= {".".join([*base, name]) for name in names}
    return found


def test_imports_run_downwards_only():
    upwards = []
    for path in sorted((PROJECT / "aesthemo_lib").rglob("*.py")):
        parts = path.relative_to(PROJECT).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for target in imported(path, module):
            if floor(target) > floor(module):
                upwards.append(f"{module} imports {target}")
    assert not upwards
