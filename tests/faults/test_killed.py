"""SIGKILL, two processes at once, and Ctrl-C: the next start goes on, and ends with the same bits."""

import contextlib
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import killing
import psutil
import pytest
from filelock import FileLock
from forked import forked_kernels
from PIL import Image

from aesthemo_lib import files
from aesthemo_lib.training import runs
from aesthemo_lib.training.runs import Config, train

PROJECT = Path(__file__).resolve().parents[2]
posix = pytest.mark.skipif(os.name == "nt", reason="the jobs are started as POSIX does")
LONG = 600
"""Seconds in which even a machine that is busy with other things gets round to it."""


@pytest.fixture(scope="session")
def many_pictures(tmp_path_factory) -> Path:
    """Enough for several chunks of the cache."""
    folder, rows = tmp_path_factory.mktemp("many é"), ["path,aesthetics"]
    for i in range(1100):
        Image.new("RGB", (90, 90), (i % 256, i // 256, 7)).save(folder / f"{i}.png")
        rows.append(f"{i}.png,{('low', 'high')[i % 2]}")
    (folder / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


def test_a_cache_that_is_killed_while_it_is_built(many_pictures, tmp_path):
    _, out = killing.fates(killing.build_cache, lambda out: (str(many_pictures), str(out)), tmp_path, 3,
                           random.Random(0))
    assert killing.contents(out) == killing.contents(tmp_path / "whole") != {}


@pytest.mark.parametrize(("moment", "kills"), [("", 2), (killing.CHECKPOINT, 2)], ids=["training", "checkpointing"])
def test_a_training_that_is_killed(colours_root, tmp_path, moment, kills):
    _, out = killing.fates(killing.run_training, lambda out: (str(colours_root), str(out), 20), tmp_path, kills,
                           random.Random(1), moment)
    assert killing.contents(out) == killing.contents(tmp_path / "whole") != {}
    left = {path.name for path in (out / "csv" / "cross_branch.diagonal" / "smoke").iterdir()}
    assert left == {"split0-seed0", "split0-seed0.lock"}  # no state, and nothing of the processes that were killed


def test_two_processes_on_one_run_folder(colours_root, tmp_path, monkeypatch):
    """The second is refused with what to do; when the first is gone it goes on where that one was."""
    config = killing.config(2000)
    first = killing.start(killing.run_training, str(colours_root), str(tmp_path / "runs"), 2000)
    while not killing.exists_below(tmp_path / "runs", "epoch-*"):
        assert first.is_alive()
        time.sleep(0.01)
    psutil.Process(first.pid).suspend()  # so that it can't end before it is killed
    monkeypatch.setattr(runs, "PATIENCE", 0.05)
    with pytest.raises(RuntimeError, match=r"another process is training in .*split0-seed0 \(it holds .*lock; the "
                                           r"kernel of an open notebook counts too\); wait until it has finished, or"):
        train(config, tmp_path / "runs", colours_root)
    first.kill()
    first.join()
    went_on = []

    def stop(row):
        went_on.append(row["epoch"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "runs", colours_root, after_epoch=stop)
    assert went_on[0] > 1


def test_two_processes_on_one_cache(colours_root, tmp_path, monkeypatch, caplog):
    """The second says that it waits, waits, and finds the pixels."""
    monkeypatch.setattr(files, "NOTICE", 0.05)
    killing.build_cache(str(colours_root), str(tmp_path))
    lock, = (tmp_path / "pixels").glob("*.lock")
    holder = killing.start(killing.hold, str(lock), str(tmp_path / "ready"), str(tmp_path / "release"))
    while not (tmp_path / "ready").exists():
        assert holder.is_alive()
        time.sleep(0.005)
    with ThreadPoolExecutor() as pool:
        second = pool.submit(killing.build_cache, str(colours_root), str(tmp_path))
        until = time.monotonic() + LONG
        while "waiting: another process is decoding csv into" not in caplog.text and time.monotonic() < until:
            assert not second.done()
            time.sleep(0.005)
        (tmp_path / "release").touch()
        second.result()
    holder.join()
    assert "waiting: another process is decoding csv into" in caplog.text


IN_A_NOTEBOOK = """
import time
from aesthemo_lib.training.runs import Config, train
config = Config(data="csv", preset="smoke", settings={"epochs": 30, "patience": 30})
rows = []
def report(row):
    rows.append(row)
    print("epoch", row["epoch"], flush=True)
    if row["epoch"] == STOP:  # here, if it was no earlier, the interrupt finds it
        time.sleep(600)
run = train(config, OUT, ROOT, after_epoch=report)
"""


def test_ctrl_c_in_a_notebook(colours_root, tmp_path, monkeypatch):
    """The kernel lives, holds no lock and no half state; the same cell, run again, goes on and ends with the same bits.

    So a notebook and a plain process of one seed leave the same metrics.json, too.
    """
    from jupyter_client.manager import start_new_kernel

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    code = IN_A_NOTEBOOK.replace("OUT", repr(str(tmp_path / "runs"))).replace("ROOT", repr(str(colours_root)))
    first, again = code.replace("STOP", "5"), code.replace("STOP", "0")
    with forked_kernels():
        manager, client = start_new_kernel(kernel_name="python3", startup_timeout=LONG)
    try:
        # A kernel refuses what reaches it in the moment after an error: a person is slower than that, this is not.
        asked = client.execute(first, stop_on_error=False)
        while True:
            content = client.get_iopub_msg(timeout=LONG)["content"]
            if content.get("text", "").startswith("epoch"):
                break
        manager.interrupt_kernel()
        reply = next(m for m in iter(lambda: client.get_shell_msg(timeout=LONG), None)
                     if m["parent_header"]["msg_id"] == asked)["content"]
        assert reply["status"] == "error" and reply["ename"] == "KeyboardInterrupt"
        reply = client.execute_interactive(again, timeout=LONG, output_hook=lambda message: None)["content"]
        assert reply["status"] == "ok"
        looks = {"first": "rows[0]['epoch']", "left": "len(list(run.folder.parent.glob('*.resume')))"}
        answers = client.execute_interactive("", user_expressions=looks, timeout=LONG)["content"]["user_expressions"]
        assert int(answers["first"]["data"]["text/plain"]) > 1 and answers["left"]["data"]["text/plain"] == "0"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    killing.finish(killing.run_training, str(colours_root), str(tmp_path / "plain"), 30)
    assert killing.contents(tmp_path / "runs") == killing.contents(tmp_path / "plain") != {}


@posix
def test_the_main_job_that_is_killed_and_its_orphaned_kernel(tmp_path, monkeypatch):
    """run.py is killed while its kernel trains. The next start waits for the orphan's end, goes on, and ends whole."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    home = killing.small_project(tmp_path)
    command = [sys.executable, "run.py", "reproduce", "NOENV=1", "PRESET=smoke"]
    place = home / "runs" / "scenes" / "shared_bottom" / "smoke"
    hits = killing.kill_commands(command, home, home / "runs", 1, 0.5, random.Random(3),
                                 lambda: any(place.glob("*.lock")), alone_first=True)
    assert hits == 1
    run = place / "split0-seed0"
    assert (run / "03_train.ipynb").exists() and (home / "runs" / "scenes" / "04_compare.ipynb").exists()
    straight = train(Config(method="shared_bottom", preset="smoke"), tmp_path / "straight", home / "data" / "scenes")
    for name in ("metrics.json", "model.safetensors", "history.csv", "predictions.csv"):
        assert (run / name).read_bytes() == (straight.folder / name).read_bytes(), name


@posix
def test_a_study_that_is_killed(tmp_path):
    """Its workers end with it, so the next start is not refused, resumes, and ends with the same bits."""
    home = killing.small_project(tmp_path, splits=2)
    out = home / "studies"
    two, one = ([sys.executable, "run.py", "study", "NOENV=1", "STUDY=tiny",
                 f"ARGS=--jobs {jobs} --out {shlex.quote(str(out))}"] for jobs in (2, 1))
    hits = killing.kill_commands(two, home, out, 1, 0.5, random.Random(4),
                                 lambda: killing.exists_below(out, "epoch-*"), alone_first=True, last=one)
    assert hits == 1
    assert len(list((out / "tiny" / "rows").glob("*.csv"))) == 2
    data = next(path for path in (out / "data").iterdir() if path.is_dir())
    for path in (out / "tiny").rglob("metrics.json"):
        kept = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))["config"]
        config = Config(method=kept["method"], preset="smoke", split=kept["split"], settings=killing.STUDY_SETTINGS)
        straight = train(config, tmp_path / "straight", data)
        for name in ("metrics.json", "model.safetensors"):
            assert (path.parent / name).read_bytes() == (straight.folder / name).read_bytes(), name


@posix
def test_the_workers_of_a_killed_study_end_with_it(tmp_path):
    script = tmp_path / "waiting.py"
    script.write_text(WAITING, encoding="utf-8")
    command = [sys.executable, str(script), str(tmp_path)]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(PROJECT)}, start_new_session=True)
    def written() -> list[int]:
        return [int(path.read_text(encoding="utf-8") or 0) for path in tmp_path.glob("*.worker")]

    while len(numbers := written()) < 2 or not all(numbers):
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    try:
        FileLock(tmp_path / "waiting" / "study.lock").acquire(timeout=LONG)
        gone, alive = psutil.wait_procs([psutil.Process(n) for n in numbers if psutil.pid_exists(n)], timeout=LONG)
        assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


WAITING = """
import functools, os, sys, time
from pathlib import Path
from aesthemo_studies.cells import Study

def wait(name, place):
    (place / f"{name}.worker").write_text(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    place = Path(sys.argv[1])
    Study("waiting", {"a": "a", "b": "b"}, functools.partial(wait, place=place), place).run(at_once=2)
"""
