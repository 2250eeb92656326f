"""The code's form: linted, notebooks included, and typed."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


def test_ruff_finds_nothing():
    command = [sys.executable, "-m", "ruff", "check", "."]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout


def test_types_fit(tmp_path):
    pytest.importorskip("mypy", reason="needs the extra 'types'")
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path), "--no-error-summary"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
