"""The code's form: what pre-commit and GitHub run, run here."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[1]
HOOKS = {
    hook["id"]: hook
    for repo in yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    for hook in repo["hooks"]
}
WORKFLOWS = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
}
EVERYWHERE = {
    "ruff": ["."], "mypy": [],
    "nbstripout": ["--verify", "--extra-keys", "metadata.papermill cell.metadata.papermill",
                   *sorted(map(str, (PROJECT / "notebooks").rglob("*.ipynb")))],
    "workflows": sorted(map(str, (PROJECT / ".github" / "workflows").glob("*.yml"))),
    "issue-forms": sorted(map(str, (PROJECT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))),
    "citation": ["CITATION.cff"],
}
"""What each hook of pre-commit is given here: all that it could be given there."""


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_finds_nothing(name):
    program, *words = HOOKS[name]["entry"].split()
    start = [sys.executable] if program == "python" else [sys.executable, "-m", program.replace("-", "_")]
    pytest.importorskip([*start, *words][2], reason="needs the packages of requirements-test.lock")
    done = subprocess.run([*start, *words, *EVERYWHERE[name]], cwd=PROJECT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_hook_is_there():
    assert set(HOOKS) == set(EVERYWHERE) and all(hook["language"] == "system" for hook in HOOKS.values())


def test_a_workflow_runs_targets_that_exist():
    """Nobody has run them on GitHub; what they start is what a checkout has."""
    import run

    steps = [step for flow in WORKFLOWS.values() for job in flow["jobs"].values() for step in job["steps"]]
    started = {words[2] for step in steps if (words := step.get("run", "").split())[:2] == ["python", "run.py"]}
    assert started == {"test", "browser", "notebooks", "book"} <= set(run.TARGETS)
    pythons = WORKFLOWS["tests"]["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert [tuple(map(int, text.split("."))) for text in pythons] == [run.OLDEST, (3, 13)]
    assert all(job["timeout-minutes"] <= 120 for flow in WORKFLOWS.values() for job in flow["jobs"].values())


def test_coverage_is_shown_by_package():
    import runpy

    def file(statements, covered):
        return {"summary": {"num_statements": statements, "covered_lines": covered}}

    table = runpy.run_path(str(PROJECT / ".ci" / "coverage.py"))["table"]
    files = {"aesthemo_lib/a.py": file(1500, 1200), r"aesthemo_lib\b.py": file(500, 500),
             "aesthemo_course/d.py": file(100, 25)}
    assert table({"files": files}).splitlines()[2:] == [
        "| `aesthemo_course` | 100 | 25.0 % |", "| `aesthemo_lib` | 2,000 | 85.0 % |", "| all | 2,100 | 82.1 % |",
    ]
