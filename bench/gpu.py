"""The tests that a GPU alone can answer."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as tree
from collections.abc import Iterator

from aesthemo_lib.files import project_folder

from .child import Job

TESTS = "tests/bench/test_gpu.py"


def tests(job: Job) -> Iterator[tuple]:
    """The tests that need a device, as pytest finds them."""
    report = job.folder / "tests.xml"
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", TESTS],
                   cwd=project_folder(), stdout=sys.stderr, env=os.environ | {"DEVICE": job.device.type})
    cases = list(tree.parse(report).iter("testcase"))
    failed = [case for case in cases if len(case)]
    lines = [f"- {case.get('name')}: {case[0].get('message', '')[:300]!r}" for case in failed]
    yield "tests_passed", [1 - len(failed) / max(len(cases), 1)], {"profile": lines or [f"- {len(cases)} passed"]}
