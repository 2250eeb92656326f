"""The main job: train every method, compare them, and run the notebooks."""

import hashlib
import time
from functools import partial
from pathlib import Path

from aesthemo_lib.data.images import load_pixels, pixel_digests
from aesthemo_lib.device import pick_device
from aesthemo_lib.files import atomic, digest, write_json
from aesthemo_lib.headless.execute import execute, execute_training, headless, notebook_path
from aesthemo_lib.training.config import Config
from aesthemo_lib.training.run import Run, stored_hash
from aesthemo_lib.training.runs import changed_images, describe, open_data

from .forked import forked_kernels
from .scheduler import Job, Scheduler, parallelism

QUICK_METHODS = (("independent", ""), ("shared_bottom", ""), ("cross_branch", ""), ("linear_probe", ""))
MAIN_METHODS = {"scenes": QUICK_METHODS, "oasis": QUICK_METHODS}
"""What ``reproduce`` trains, (method, variant)."""
OTHER_METHODS = (("independent", ""), ("shared_bottom", ""), ("cross_branch", "diagonal"), ("cross_branch", "random"))
SPLITS = 3
"""Or as many seeds, where the publisher fixed the split."""
READING_NOTEBOOKS = ("00_tour", "04_compare", "05_confusion", "06_attribution")
"""The lessons that read runs."""
FIRST_NOTEBOOKS = ("01_data_and_labels", "02_network")
"""They read none, so of drawn scenes they always show what ``notebooks/rendered`` has."""
EXTRA_NOTEBOOKS = ("12_neighbours",)
"""The neighbouring systems, each of which trains something small of its own."""


def planned(data: str, preset: str, fixed: bool) -> list:
    """The configurations of the main job: every method on every split, or on the publisher's own with every seed."""
    return [Config(data=data, method=method, variant=variant or None, preset=preset, split=0 if fixed else j, seed=j)
            for j in range(SPLITS) for method, variant in MAIN_METHODS.get(data, OTHER_METHODS)]


def reproduce(data: str, root: Path | None, preset: str, out: Path, extra: bool = False) -> None:
    """The main job: ``planned``, each run by the notebook 03_train, then the notebooks that read the runs.

    Finished runs are skipped by their configuration's hash, interrupted ones go on, changed ones are done again.
    ``<out>/<data>/timing.json`` records the seconds in all and of each job, how many ran at once, and how many runs had
    been finished before. With ``extra``, ``EXTRA_NOTEBOOKS`` too.
    """
    jobs = Scheduler(*parallelism(len(planned(data, preset, fixed=False)), pick_device().type))
    images = open_data(Config(data=data, preset=preset), root)
    configs = planned(data, preset, images.fixed is not None)
    notebooks = READING_NOTEBOOKS + (EXTRA_NOTEBOOKS if extra else ())
    notebooks += FIRST_NOTEBOOKS if data != "scenes" else ()
    print(f"{data}: {len(images)} images, {len(configs)} runs of preset {preset}, {jobs.at_once} at a time, and "
          f"{len(notebooks)} notebooks; results in {out / data}", flush=True)
    hashes = [digest(describe(config, images)) for config in configs]
    images, pixels = load_pixels(images, configs[0].training_settings().resize)
    seen = dict(zip(images.names, pixel_digests(pixels), strict=True))
    left = []
    for config, wanted in zip(configs, hashes, strict=True):
        folder = config.folder(out)
        done = stored_hash(folder) == wanted and not changed_images(folder, seen)
        if done and (folder / "03_train.ipynb").exists():
            print(f"{_reached(Run(folder))} (was finished)", flush=True)
        else:
            left.append(config)
    left.sort(key=lambda config: config.method in ("shared_bottom", "linear_probe"))  # short ones last
    trainings = _trainings(left, root, out, jobs)
    reads = [Job(name, partial(_read_runs, name, _shared_parameters(data, root, preset, 0, out),
                               out / data / f"{name}.ipynb", [*hashes, digest(seen)])) for name in notebooks]
    with headless(), forked_kernels():
        jobs.run(trainings)
        jobs.run(reads)
    write_json(out / data / "timing.json", {
        "seconds": jobs.seconds(), "at_once": jobs.at_once, "threads": jobs.threads, "preset": preset,
        "runs": len(left), "runs_finished_before": len(configs) - len(left),
        "jobs": [{"name": name, "began": began, "seconds": seconds} for name, began, seconds in jobs.times],
    })


def _trainings(configs: list, root: Path | None, out: Path, jobs: Scheduler) -> list[Job]:
    """A job for each run: its training through 03_train."""
    ended = []

    def train(config) -> None:
        execute_training(_shared_parameters(config.data, root, config.preset, config.seed, out) | {
            "method": config.method, "variant": config.variant or "", "split": config.split, "redo": True,
        }, config.folder(out))
        ended.append(config)
        minutes = jobs.seconds() / len(ended) * (len(configs) - len(ended)) / 60
        print(f"[{len(ended)}/{len(configs)}] {_reached(Run(config.folder(out)))}, about {minutes:.0f} min of training "
              f"left", flush=True)

    return [Job(f"{config.name} split{config.split}-seed{config.seed}", partial(train, config), config.folder(out))
            for config in configs]


def _shared_parameters(data, root, preset, seed, out) -> dict:
    return {"preset": preset, "data": data, "root": "" if root is None else str(root), "seed": seed, "out": str(out)}


def _reached(run) -> str:
    return f"{run.name} {run.folder.name}: {run.health()}"


def _read_runs(name: str, parameters: dict, target: Path, hashes: list[str]) -> None:
    """Execute a notebook that reads runs, unless its executed copy was made from the same source and runs."""
    source = hashlib.sha256(notebook_path(name).read_bytes()).hexdigest()
    stamp, mark = target.with_suffix(".sources"), digest([source, hashes, parameters])
    if target.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == mark:
        print(f"{name}: up to date", flush=True)
        return
    began = time.monotonic()
    execute(name, parameters, target)
    with atomic(stamp) as temporary:
        temporary.write_text(mark, encoding="utf-8")
    print(f"{name}: {time.monotonic() - began:.0f} s, {target}", flush=True)
