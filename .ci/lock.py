"""Make the lock files from pyproject.toml by uv, without what torch itself brings for NVIDIA. Arguments go to uv.

    python run.py lock [ARGS=--upgrade]

Everything is resolved once, for every system: that is ``requirements-test.lock``. The others are resolved with it as
their constraint, so that all agree. A lock that named NVIDIA's 4 GB would bring them next to a CPU build too; without
them, torch's own pins hold.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
EVERYTHING = "requirements-test.lock"
PARTS = {
    EVERYTHING: ["--all-extras", "--group", "test", "--group", "study", "--group", "book"],
    "requirements.lock": [],
    "requirements-lab.lock": ["--extra", "lab"],
    "requirements-study.lock": ["--group", "study"],
    "requirements-book.lock": ["--group", "study", "--group", "book"],
}
OUT = re.compile(rf"^(?:(?:nvidia|cuda)-[\w-]+|triton)==.*\n|, -c {EVERYTHING}|-c {EVERYTHING}, ", re.MULTILINE)
"""What torch brings for NVIDIA; and, in each line, that the constraint asked for it too."""


def main() -> None:
    if not shutil.which("uv"):
        sys.exit("lock: uv is not here; pip install uv, or start by python run.py lock")
    for name, parts in PARTS.items():
        bound = [] if name == EVERYTHING else ["--constraints", EVERYTHING]
        command = ["uv", "pip", "compile", "pyproject.toml", *parts, *bound, *sys.argv[1:]]
        command += ["--universal", "--python-version", "3.11", "--fork-strategy", "fewest", "--quiet"]
        command += ["--annotation-style", "line", "--custom-compile-command", "python run.py lock"]
        subprocess.run([*command, "--output-file", name], cwd=PROJECT, check=True)
        path = PROJECT / name
        path.write_text(OUT.sub("", path.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
        print(name, sum("==" in line for line in path.read_text(encoding="utf-8").splitlines()))


if __name__ == "__main__":
    main()
