"""Jobs beside one another: how many, in which order, what a failure does, and real notebooks two at a time."""

import json
import threading
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from test_jobs import printed, project, small_job, write_notebook  # noqa: F401

from aesthemo_lib.headless import execute
from aesthemo_studies import reproduce, scheduler


@pytest.mark.parametrize(("cores", "free", "given", "device", "expected"), [
    (2, 20, None, "cpu", (2, 1)), (2, 8, None, "cpu", (1, 2)), (16, 200, None, "cpu", (9, 1)),
    (8, 16, None, "cpu", (3, 2)), (4, 99, "2", "cpu", (2, 2)), (4, 1, None, "cpu", (1, 4)),
    (8, 99, None, "cuda", (1, 8)),
])
def test_cores_and_memory_are_shared_out(cores, free, given, device, expected, monkeypatch):
    monkeypatch.setattr(scheduler, "allowed_cores", lambda: cores)
    monkeypatch.setattr(scheduler, "free_memory", lambda: free * 1e9)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert scheduler.parallelism(9, device) == expected
    assert scheduler.parallelism(9, device, threads=1)[1] == 1


def test_after_a_failure_nothing_new_begins_and_what_runs_ends(monkeypatch):
    begun, both, seen = [], threading.Barrier(2, timeout=600), threading.Event()
    handle = scheduler._cancel_after_failure
    monkeypatch.setattr(scheduler, "_cancel_after_failure", lambda *given: (handle(*given), seen.set()))

    def job(name):
        begun.append(name)
        if name in "ab":
            both.wait()  # two at a time, or this is never passed
        if name == "a":
            raise ValueError("by design")
        if name == "b":
            seen.wait(600)  # until the failure of a has been dealt with
            begun.append("b ended")

    with pytest.raises(ValueError, match="by design"):
        scheduler.Scheduler(2, 1).run([scheduler.Job(name, partial(job, name)) for name in "abcd"])
    assert sorted(begun[:2]) == ["a", "b"] and begun[2:] == ["b ended"]


WAIT = """
import os, time
from pathlib import Path
Path(out, mine).touch()
until = time.monotonic() + 600
while not Path(out, other).exists() and time.monotonic() < until:
    time.sleep(0.05)
print(Path(out, other).exists(), os.environ["OMP_NUM_THREADS"], os.environ["AESTHEMO_HEADLESS"], Path.cwd().name)
"""


def test_two_notebooks_at_a_time(project, monkeypatch):  # noqa: F811
    """Each waits for the other: one after another they would print False."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    (project / "made").mkdir()
    for mine, other in (("one", "two"), ("two", "one")):
        write_notebook(project, mine, 'out: str = ""  # folder', f"mine, other = {mine!r}, {other!r}" + WAIT)
    pair = scheduler.Scheduler(2, 1)
    with execute.headless():
        pair.run([scheduler.Job(name, partial(execute.execute, name, {"out": "made"}, Path("made", f"{name}.ipynb")))
                  for name in ("one", "two")])
    assert [printed(project / "made" / f"{name}.ipynb") for name in ("one", "two")] == ["True 1 1 notebooks\n"] * 2
    assert Path.cwd() == project
    assert sorted(name for name, *_ in pair.times) == ["one", "two"]
    assert execute.os.environ["OMP_NUM_THREADS"] == "7"


def test_ctrl_c_ends_the_kernels_and_clears_their_notebooks_away(project, monkeypatch):  # noqa: F811
    work = "import pathlib, time\npathlib.Path(out, 'begun').touch()\ntime.sleep(600)"
    write_notebook(project, "one", 'out: str = ""  # folder', work)
    (project / "made").mkdir()

    def interrupted(_, futures, *__):
        while not (project / "made" / "begun").exists():
            assert not any(future.done() for future in futures), "its kernel never came to work"
            time.sleep(0.05)
        raise KeyboardInterrupt

    monkeypatch.setattr(scheduler.Scheduler, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt), execute.headless():
        scheduler.Scheduler(1, 1).run([scheduler.Job(name, partial(
            execute.execute, "one", {"out": "made"}, Path("made", f"{name}.ipynb"))) for name in ("one", "never")])
    assert [path.name for path in (project / "made").iterdir()] == ["begun"]
    left = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]  # killed, that is
    assert not [child for child in left if any("ipykernel" in word for word in child.cmdline())]


def test_the_main_job_is_one_list_long_runs_first_and_tells_its_times(small_job, project, monkeypatch):  # noqa: F811
    order = []
    methods = (("shared_bottom", ""), ("independent", ""))
    monkeypatch.setattr(reproduce, "MAIN_METHODS", {"scenes": methods})
    monkeypatch.setattr(reproduce, "SPLITS", 2)
    monkeypatch.setattr(reproduce, "READING_NOTEBOOKS", ("04_compare", "02_network"))
    monkeypatch.setattr(reproduce, "parallelism", lambda *_: (1, 1))
    monkeypatch.setattr(reproduce, "execute_training", lambda parameters, folder: order.append(folder.parts[-3]))
    monkeypatch.setattr(reproduce, "_reached", lambda run: "")
    monkeypatch.setattr(reproduce, "Run", lambda folder: None)
    monkeypatch.setattr(reproduce, "stored_hash", lambda folder: None)
    monkeypatch.setattr(reproduce, "_read_runs", lambda name, *_: order.append(name))
    reproduce.reproduce("scenes", None, "smoke", Path("runs"))
    assert order == ["independent"] * 2 + ["shared_bottom"] * 2 + ["04_compare", "02_network"]
    timing = json.loads(Path("runs/scenes/timing.json").read_text(encoding="utf-8"))
    assert (timing["at_once"], timing["threads"], timing["runs"], timing["runs_finished_before"]) == (1, 1, 4, 0)
    assert [job["name"] for job in timing["jobs"]][-2:] == ["04_compare", "02_network"]
    assert sum(job["seconds"] for job in timing["jobs"]) <= timing["seconds"]
