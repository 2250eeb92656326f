"""The long forms of the tests of faults, once, with their result in results/soak.json: make soak.

Kills by the dozen, a disk that fills up in steps of 8 kB, hundreds of epochs and questions. It takes the better part of
an hour on a busy machine, and writes what it has found after each part, so that a soak that is cut off says so. Parts
that are named are run again alone: make soak ARGS=study.
"""

from __future__ import annotations

import datetime
import itertools
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # where 'forked' lies

import killing
import numpy as np
import psutil
import torch
from PIL import Image

from aesthemo_lib.device import allowed_cores
from aesthemo_lib.files import read_json, write_json
from aesthemo_lib.training.runs import Config, train

RESULT = killing.PROJECT / "results" / "soak.json"
KILLS = {"cache": 50, "training": 50, "checkpointing": 50, "reproduce": 50, "study": 50}
ROUND = 10
"""Kills of a command, after which it ends, is compared and begins anew in another folder, lest it run out of work."""
EPOCHS, QUESTIONS, STEP = 300, 500, 8


def pictures(folder: Path, count: int, side: int) -> Path:
    """A small data set in the layout 'csv'."""
    folder.mkdir()
    dice, rows = np.random.default_rng(0), ["path,aesthetics,emotion"]
    for i in range(count):
        noise = dice.normal(70 + 90 * (i % 2), 25, (side, side, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
        rows.append(f"{i}.png,{('low', 'high')[i % 2]},{('awe', 'fear', 'anger')[i % 3]}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def killed_jobs(place: Path, kind: str) -> dict:
    """Kill a job as often as asked, and compare what it leaves with an undisturbed one's."""
    if kind == "cache":
        data, job, more, suffix = pictures(place / "data", 2000, 80), killing.build_cache, (), (".npy", ".json")
    else:
        data, job, more, suffix = pictures(place / "data", 60, 40), killing.run_training, (30,), ()
    starts, out = killing.fates(job, lambda out: (str(data), str(out), *more), place, KILLS[kind],
                                random.Random(kind), killing.CHECKPOINT if kind == "checkpointing" else "")
    same = killing.contents(out, *suffix) == killing.contents(place / "whole", *suffix) != {}
    return {"kills": KILLS[kind], "starts": starts, "bit_equal": same}


def killed_command(place: Path, kind: str) -> dict:
    """The same with run.py and all that it starts, in turns with an orphaned kernel and without."""
    dice, hits, runs, same = random.Random(kind), 0, 0, True
    for number in itertools.count():
        if hits >= KILLS[kind] or number >= KILLS[kind]:
            return {"kills": hits, "runs": runs, "bit_equal": same}
        done = _killed_round(place / str(number), kind, min(ROUND, KILLS[kind] - hits), dice)
        hits, runs, same = hits + done["kills"], runs + done["runs"], same and done["bit_equal"]


def _killed_round(place: Path, kind: str, kills: int, dice: random.Random) -> dict:
    home = killing.small_project(place, splits=3)
    target = {"reproduce": ["reproduce", "PRESET=smoke"], "study": ["study", "STUDY=tiny", "ARGS=--out studies"]}[kind]
    out = home / {"reproduce": "runs", "study": "studies"}[kind]
    command = [sys.executable, "run.py", target[0], "NOENV=1", *target[1:]]
    hits = killing.kill_commands(command, home, out, kills, 6.0, dice, out.exists)
    same, folders = True, [path.parent for path in out.rglob("metrics.json")]
    for folder in folders:
        kept = read_json(folder / "config.json")["config"]
        config = Config(method=kept["method"], preset="smoke", split=kept["split"], seed=kept["seed"],
                        settings=killing.STUDY_SETTINGS if kind == "study" else {})
        data = home / "data" / "scenes" if kind == "reproduce" else next((out / "data").glob("scenes-*"))
        straight = train(config, place / "straight", data)
        same &= all((folder / name).read_bytes() == (straight.folder / name).read_bytes()
                    for name in ("metrics.json", "model.safetensors", "predictions.csv"))
    return {"kills": hits, "runs": len(folders), "bit_equal": same and len(folders) == 3}


def full_disk(place: Path) -> dict:
    """A training on a disk that grows by some kilobytes at a time, so that each write is the one that fails."""
    from test_disk_full import CONFIG, Disk, fill_training

    data, small = pictures(place / "data", 60, 40), place / "small disk"
    straight = train(CONFIG, place / "straight", data)
    small.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(small)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return {"skipped": "nothing can be mounted here"}
    try:
        failures = fill_training(Disk(small), data, STEP)
        (metrics,) = small.rglob("metrics.json")
        return {"full": failures, "bit_equal": killing.contents(metrics.parent) == killing.contents(straight.folder)}
    finally:
        subprocess.run(["umount", str(small)], check=True)


def long_runs(place: Path) -> dict:
    """Memory and handles at the end over those when warm."""
    from test_long_runs import MOST, ask_often, train_long

    data = pictures(place / "data", 60, 40)
    epochs = train_long(data, place / "long", EPOCHS)
    run = train(Config(data="csv", preset="smoke", settings={"epochs": 1}), place / "runs", data)
    asked = ask_often(run, data, QUESTIONS)
    measured = {"epochs": EPOCHS, "memory": epochs[0], "handles": epochs[1], "questions": QUESTIONS,
                "memory_asked": asked[0], "handles_asked": asked[1]}
    return {name: round(value, 4) for name, value in measured.items()} | {"flat": max(*epochs, *asked) <= MOST}


PARTS: dict[str, Callable[[Path], dict]] = {
    "long_runs": long_runs, "full_disk": full_disk,
    **{kind: (lambda place, kind=kind: killed_jobs(place, kind)) for kind in ("cache", "training", "checkpointing")},
    **{kind: (lambda place, kind=kind: killed_command(place, kind)) for kind in ("reproduce", "study")},
}


def outcome(part: Callable[[Path], dict]) -> dict:
    """What a part found, with its seconds; a fault is its outcome and does not keep the others from running."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak é ", ignore_cleanup_errors=True) as folder:
        os.environ["AESTHEMO_CACHE"] = str(Path(folder) / "cache")
        try:
            result = part(Path(folder))
        except Exception as fault:
            result = {"fault": f"{type(fault).__name__}: {fault}"[:500]}
    good = all(result.get(name, True) for name in ("bit_equal", "flat")) and "fault" not in result
    return {"outcome": "skipped" if "skipped" in result else "good" if good else "bad", **result,
            "seconds": round(time.monotonic() - began)}


def main(names: list[str]) -> int:
    """Run all parts, or the named ones anew; the exit code says whether all was good."""
    os.environ |= {"OMP_NUM_THREADS": "1", "AESTHEMO_HEADLESS": "1"}
    now = datetime.datetime.now(datetime.UTC)
    record = {
        "command": "make soak", "date": now.date().isoformat(),
        "machine": {"system": platform.platform(terse=True), "processor": platform.machine(), "cores": allowed_cores(),
                    "gigabytes": round(psutil.virtual_memory().total / 2**30), "python": platform.python_version(),
                    "torch": torch.__version__},
        "parts": read_json(RESULT)["parts"] if names else dict.fromkeys(PARTS, {"outcome": "not run"}),
    }
    for name in names or PARTS:
        record["parts"] = record["parts"] | {name: outcome(PARTS[name])}
        print(name, record["parts"][name], flush=True)
        write_json(RESULT, record)
    return int(any(part["outcome"] == "bad" for part in record["parts"].values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
