"""Files are opened as UTF-8 by name, on every system: a warning of the default encoding is an error in our own code."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def test_no_source_opens_a_file_in_the_systems_encoding():
    places = [name for name in ("aesthemo_lib", "aesthemo_scenes", "course", "docs", "notebooks", "tests", "run.py")
              if (PROJECT / name).exists()]
    command = [sys.executable, "-m", "ruff", "check", "--preview", "--select", "PLW1514", *places]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout
    loose = [f"{path.name}: {line.strip()}" for name in places for path in (PROJECT / name).rglob("*.py")
             for line in path.read_text(encoding="utf-8").splitlines()
             if "text=True" in line and "encoding=" not in line and path != Path(__file__)]
    assert not loose  # of subprocesses, which ruff does not look at


def test_make_test_has_python_warn_and_pytest_fail(tmp_path):
    if not sys.flags.warn_default_encoding:
        pytest.skip("this pytest was not started by 'make test', which has Python warn of the default encoding")
    (tmp_path / "file").touch()
    for module, name in (("aesthemo_lib.probe", "ours"), ("somebody.elses", "theirs")):
        code = compile("open(path).close()", name, "exec")
        if name == "ours":
            with pytest.raises(EncodingWarning):
                exec(code, {"__name__": module, "path": tmp_path / "file"})
        else:
            exec(code, {"__name__": module, "path": tmp_path / "file"})
