"""Notebooks run headless, and the main job: a plain loop over runs, then the notebooks that read them."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import sys
import time
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from .device import pick_device
from .files import atomic, digest, project_folder, write_json
from .parallel import Jobs, share

MAIN_METHODS = {"scenes": (("independent", ""), ("shared_bottom", ""), ("cross_branch", ""))}
"""What ``reproduce`` trains, (method, variant); real photographs get both starts of the cross-branch layers."""
OTHER_METHODS = (("independent", ""), ("shared_bottom", ""), ("cross_branch", "diagonal"), ("cross_branch", "random"))
SPLITS = 3
"""Or as many seeds, where the publisher fixed the split."""
READING_NOTEBOOKS = ("00_tour", "01_data_and_labels", "02_network", "04_compare", "05_confusion", "06_attribution")
RUNLESS = ("01_data_and_labels", "02_network")
"""Those of them that read no run."""
EXTRA_NOTEBOOKS = ("08_retrieval", "09_task_sequence", "10_style_transfer")
"""The neighbouring systems, each of which trains something small of its own."""


class NotebookFailed(RuntimeError):
    """A cell raised; the message names the notebook, the cell and the fault.

    >>> issubclass(NotebookFailed, RuntimeError)
    True
    """


def notebook_path(name: str) -> Path:
    """A notebook by its bare name.

    Raises:
        ValueError: there is none, or the name is not unique; lists what there is.

    >>> notebook_path("03_train").relative_to(project_folder()).as_posix()
    'notebooks/03_train.ipynb'
    """
    folder = project_folder() / "notebooks"
    there = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.ipynb"))
             if ".ipynb_checkpoints" not in path.parts}
    wanted = name.removesuffix(".ipynb")
    found = [path for key, path in there.items() if wanted in (key, path.stem)]
    if len(found) != 1:
        raise ValueError(f"no notebook {name!r} in {folder}; there are {', '.join(there) or 'none'}")
    return found[0]


def checked_parameters(notebook: Path, given: dict[str, str | int | float | bool]) -> dict:
    """Parameters with the types that the notebook's parameters cell declares.

    Args:
        given: values by name, as text from a command line or already typed.

    Raises:
        ValueError: a name that the notebook lacks, or a value that is not of its type, out of range or contradictory.

    >>> checked_parameters(notebook_path("03_train"), {"split": "2", "method": "nddr"})
    {'split': 2, 'method': 'nddr'}
    """
    import papermill

    from .parameters import check

    known = papermill.inspect_notebook(str(notebook))
    checked = {}
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"{notebook.stem} has no parameter {name!r}; its parameters are {', '.join(known)}")
        checked[name] = _typed(name, value, known[name]["inferred_type_name"])
    check(_defaults(known) | checked, {name: entry["help"] for name, entry in known.items()})
    return checked


def _defaults(known: dict) -> dict:
    return {name: ast.literal_eval(entry["default"]) for name, entry in known.items()}


def _typed(name: str, value, kind: str):
    if isinstance(value, str) and kind != "str":
        text = value.strip()
        if kind == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        convert = {"int": int, "float": float}.get(kind)
        try:
            value = convert(text) if convert else value
        except ValueError:
            pass
    fits: Any = {"str": str, "bool": bool, "int": int, "float": (int, float)}.get(kind, object)
    if not isinstance(value, fits) or (isinstance(value, bool) and kind != "bool") or value != value:
        raise ValueError(f"parameter {name}: expected {kind}, got {value!r}")
    return value


def execute(name: str, parameters: dict, target: Path) -> Path:
    """Run a notebook with papermill and keep the executed copy.

    The copy gets its name only when the notebook ended well; one that failed is kept as '<name>.failed.ipynb'.

    Args:
        name: the notebook's bare name.
        parameters: see ``checked_parameters``; 'root', 'out' and a file of 'weights' are made absolute.
        target: the executed copy's path.

    Returns:
        target.

    Raises:
        NotebookFailed: a cell raised.
        ValueError: unknown or ill-typed parameters; nothing has run then.

    >>> execute("03_train", {"metod": "nddr"}, Path("out.ipynb"))
    Traceback (most recent call last):
    ValueError: 03_train has no parameter 'metod'; its parameters are ...
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    notebook = notebook_path(name)
    parameters = checked_parameters(notebook, parameters)
    for key in ("root", "out", "run", "weights"):
        if parameters.get(key) and (key != "weights" or Path(parameters[key]).is_file()):  # or it is 'none'
            parameters[key] = str(Path(parameters[key]).resolve())
    failed = target.with_name(f"{target.stem}.failed.ipynb")
    with atomic(target) as temporary, _headless():
        try:
            papermill.execute_notebook(
                str(notebook), str(temporary), parameters, kernel_name="python3", progress_bar=False,
                # Not papermill's cwd, which moves this whole process, and with it the notebooks that run beside.
                resources={"metadata": {"path": str(notebook.parent)}},
                # Or each kernel warns of TCP when it starts, and of the interrupt with which it is ended.
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
            )
        except PapermillExecutionError as fault:
            os.replace(temporary, failed)
            said = f"{name}, cell {fault.exec_count}: {fault.ename}: {fault.evalue} (see {failed})"
            raise NotebookFailed(said) from None
    failed.unlink(missing_ok=True)
    return target


def execute_training(parameters: dict, folder: Path) -> Path:
    """Run 03_train and put its executed copy into the run folder that it leaves; returns the copy's path.

    >>> execute_training({"preset": "tiny"}, Path("runs/split0-seed0"))
    Traceback (most recent call last):
    ValueError: parameter preset: expected one of smoke, teach, paper, got 'tiny'
    """
    # Beside the folder until the training has put it in place, whole.
    staged = execute("03_train", parameters, folder.with_name(f"{folder.name}.03_train.ipynb"))
    os.replace(staged, folder / "03_train.ipynb")
    return folder / "03_train.ipynb"


def run_notebook(name: str, parameters: dict, out: Path) -> Path:
    """What ``aesthemo run`` does: execute a notebook with ``out`` as its folder of runs.

    Args:
        name: the notebook's bare name.
        parameters: see ``checked_parameters``.
        out: the folder of runs; the executed copy lies there, that of 03_train in the run folder that it left.

    Returns:
        the executed copy's path.

    >>> run_notebook("03_train", {"method": "independent", "variant": "diagonal"}, Path("runs"))
    Traceback (most recent call last):
    ValueError: method 'independent' has no variant 'diagonal'; its variants: none
    """
    import papermill

    from .parameters import training

    notebook = notebook_path(name)
    given = checked_parameters(notebook, {"out": str(out)} | parameters)
    if notebook.stem != "03_train":
        return execute(name, given, out / f"{notebook.stem}.ipynb")
    values = _defaults(papermill.inspect_notebook(str(notebook))) | given
    return execute_training(given, training(values).folder(Path(values["out"])))


def train_plainly(parameters: dict, settings: dict, out: Path, device: str | None = None) -> Path:
    """What ``aesthemo train`` does: the run of 03_train without the notebook, which several processes can share.

    Args:
        parameters: those of 03_train, see ``checked_parameters``.
        settings: what the notebook does not ask for, see ``training.settings.Settings``; as text from a command line.
        out: the folder of runs.
        device: see ``device.pick_device``.

    Returns:
        the run's folder.

    >>> train_plainly({"preset": "smoke"}, {"accumulate": "two"}, Path("runs"))
    Traceback (most recent call last):
    ValueError: parameter accumulate: expected int, got 'two'
    """
    import papermill

    from .parameters import training
    from .training.runs import train
    from .training.settings import Settings

    notebook = notebook_path("03_train")
    values = _defaults(papermill.inspect_notebook(str(notebook)))
    values |= checked_parameters(notebook, {"out": str(out)} | parameters)
    kinds = {choice.name: str(choice.type) for choice in fields(Settings)}
    config = training(values, {n: _typed(n, value, kinds.get(n, "str")) for n, value in settings.items()})
    root = Path(values["root"]) if values["root"] else None
    return train(config, values["out"], root, values["redo"], device, on_bad_image=values["on_bad_image"]).folder


class _headless:
    """The kernel's environment: no progress bars, and figures drawn inline (MPLBACKEND=Agg would drop them)."""

    def __enter__(self):
        self.before = {name: os.environ.get(name) for name in ("AESTHEMO_HEADLESS", "MPLBACKEND")}
        os.environ["AESTHEMO_HEADLESS"] = "1"
        os.environ.pop("MPLBACKEND", None)

    def __exit__(self, *_):
        for name, value in self.before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def planned(data: str, preset: str, fixed: bool) -> list:
    """The configurations of the main job: every method on every split, or on the publisher's own with every seed.

    Args:
        fixed: whether the split is the publisher's, which no number changes.

    >>> [f"{config.name} {config.split}" for config in planned("scenes", "teach", fixed=False)][:3]
    ['independent 0', 'shared_bottom 0', 'cross_branch.diagonal 0']
    """
    from .training.config import Config

    return [Config(data=data, method=method, variant=variant or None, preset=preset, split=0 if fixed else j, seed=j)
            for j in range(SPLITS) for method, variant in MAIN_METHODS.get(data, OTHER_METHODS)]


def reproduce(data: str, root: Path | None, preset: str, out: Path, extra: bool = False) -> None:
    """The main job: ``planned``, each run by the notebook 03_train, then the notebooks that read the runs.

    Finished runs are skipped by their configuration's hash, interrupted ones go on, changed ones are done again.
    As many run at once as ``parallel.share`` says. ``<out>/<data>/timing.json`` keeps what it took: the seconds in all
    and of each job, how many ran at once, and how many runs had been finished before.

    Args:
        data, root, preset: what is trained, on what.
        out: the folder of runs.
        extra: ``EXTRA_NOTEBOOKS`` too.

    >>> reproduce("oasis", Path("no such folder"), "smoke", Path("runs"))
    Traceback (most recent call last):
    FileNotFoundError: ...OASIS.csv: not found; ...
    """
    from .training.runs import Config, Run, describe, open_data, stored_hash

    jobs = Jobs(*share(len(planned(data, preset, fixed=False)), pick_device().type))
    images = open_data(Config(data=data, preset=preset), root)
    configs = planned(data, preset, images.fixed is not None)
    notebooks = READING_NOTEBOOKS + (EXTRA_NOTEBOOKS if extra else ())
    print(f"{data}: {len(images)} images, {len(configs)} runs of preset {preset}, {jobs.at_once} at a time, and "
          f"{len(notebooks)} notebooks; results in {out / data}", flush=True)
    hashes = [digest(describe(config, images)) for config in configs]
    left = []
    for config, wanted in zip(configs, hashes, strict=True):
        if stored_hash(config.folder(out)) == wanted and (config.folder(out) / "03_train.ipynb").exists():
            print(f"{_reached(Run(config.folder(out)))} (was finished)", flush=True)
        else:
            left.append(config)
    left.sort(key=lambda config: config.method == "shared_bottom")  # the short ones last, so that all end together
    trainings = _trainings(left, root, out, jobs)
    reads = {name: (name, partial(_read_runs, name, _shared_parameters(data, root, preset, 0, out),
                                  out / data / f"{name}.ipynb", hashes)) for name in notebooks}
    with _headless():
        jobs.run([*trainings, *(reads.pop(name) for name in RUNLESS if name in reads)])
        jobs.run(list(reads.values()))
    write_json(out / data / "timing.json", {
        "seconds": jobs.seconds(), "at_once": jobs.at_once, "threads": jobs.threads, "preset": preset,
        "runs": len(left), "runs_finished_before": len(configs) - len(left),
        "jobs": [{"name": name, "began": began, "seconds": seconds} for name, began, seconds in jobs.times],
    })


def _trainings(configs: list, root: Path | None, out: Path, jobs: Jobs) -> list[tuple]:
    """A job for each run: what it is called, its training through 03_train, and its folder."""
    from .training.runs import Run

    ended = []

    def train(config) -> None:
        execute_training(_shared_parameters(config.data, root, config.preset, config.seed, out) | {
            "method": config.method, "variant": config.variant or "", "split": config.split, "redo": True,
        }, config.folder(out))
        ended.append(config)
        minutes = jobs.seconds() / len(ended) * (len(configs) - len(ended)) / 60
        print(f"[{len(ended)}/{len(configs)}] {_reached(Run(config.folder(out)))}, about {minutes:.0f} min of training "
              f"left", flush=True)

    return [(f"{config.name} split{config.split}-seed{config.seed}", partial(train, config), config.folder(out))
            for config in configs]


def _shared_parameters(data, root, preset, seed, out) -> dict:
    return {"preset": preset, "data": data, "root": "" if root is None else str(root), "seed": seed, "out": str(out)}


def _reached(run) -> str:
    accuracy = ", ".join(f"{name} {values['accuracy']:.3f} (majority {values['majority_accuracy']:.3f})"
                         for name, values in run.metrics.items() if values["n"])
    return f"{run.name} {run.folder.name}: accuracy {accuracy}"


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


def all_notebooks(out: Path) -> None:
    """Every notebook with the preset 'smoke', headless through papermill; those with kept outputs through nbval too.

    >>> all_notebooks(Path("runs"))  # doctest: +SKIP
    """
    import subprocess

    folder = project_folder() / "notebooks"
    notebooks = [path for path in sorted(folder.rglob("*.ipynb"))  # an unsolved exercise is meant to fail
                 if not {".ipynb_checkpoints", "exercises"} & set(path.parts)]
    for path in notebooks:
        began = time.monotonic()
        parameters = {"preset": "smoke", "out": str(out)}
        execute(path.relative_to(folder).with_suffix("").as_posix(), parameters, out / path.name)
        print(f"papermill {path.name}: {time.monotonic() - began:.0f} s", flush=True)
    compared = [str(path) for path in notebooks if re.search(r'"output_type"', path.read_text(encoding="utf-8"))]
    executed = [str(out / path.name) for path in notebooks if str(path) not in compared]
    environment = os.environ | {"AESTHEMO_HEADLESS": "1"}
    environment.pop("MPLBACKEND", None)
    # Kept outputs must come out the same (--nbval); prepared copies must run again as they are (--nbval-lax).
    for options, files in ((["--nbval"], compared), (["--nbval-lax"], executed)):
        if files:
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull,
                       "--rootdir", str(folder), *options, *files]
            subprocess.run(command, check=True, env=environment)
