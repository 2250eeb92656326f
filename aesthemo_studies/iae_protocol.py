"""IAE on its official split with VGG16: the frozen protocol, and the rows that finished runs fill in.

``results/iae.json`` holds what is to be done, what it will cost, and the runs that are there; its form is ``SCHEMA``.
``python -m aesthemo_studies iae-protocol`` writes the plan; with ``runs/iae`` behind it, it adds the finished runs
below that folder.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch
from torch import nn

from aesthemo_lib.files import project_folder, read_json
from aesthemo_lib.models.networks import build, count_multiplies, count_parameters
from aesthemo_lib.tasks import PATENT_TASKS
from aesthemo_lib.training.config import Config
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import describe, weighed

from .reproduce import SPLITS, planned

IMAGES = 22086
"""In IAE; how they part into training, validation and test images stands in the lists that come with them."""
SUSTAINED = 40e12
"""Operations a second that the card is taken to keep up: an eighth of an A100's bfloat16 peak (312e12, NVIDIA's data
sheet). An assumption: nobody has timed this on a GPU yet. Hours scale with its inverse."""
ENDPOINTS = ("auc", "log_loss", "balanced_accuracy", "accuracy", "majority_accuracy")

_HASH = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_TEXT = {"type": "string", "minLength": 1}
_SHARE = {"type": ["number", "null"], "minimum": 0, "maximum": 1}


def _object(**entries) -> dict:
    return {"type": "object", "properties": entries, "required": list(entries), "additionalProperties": False}


ROW = _object(
    method=_TEXT, split={"const": 0}, seed={"type": "integer", "minimum": 0},
    tasks=_object(**{task.name: {
        "type": "object", "required": [*ENDPOINTS, "n"], "additionalProperties": {"type": ["number", "null"]},
        "properties": {name: _SHARE for name in ENDPOINTS if name != "log_loss"} | {
            "log_loss": {"type": ["number", "null"], "minimum": 0}, "n": {"type": "integer", "minimum": 1}},
    } for task in PATENT_TASKS}),
    epochs={"type": "integer", "minimum": 1}, training_seconds={"type": "number", "exclusiveMinimum": 0},
    environment={"type": "object", "additionalProperties": {"type": ["string", "null"]},
                 "properties": {"threads": {"type": "integer"}},
                 "required": ["aesthemo_lib", "torch", "python", "system", "device", "commit"]},
    hashes=_object(config=_HASH, images=_HASH, predictions=_HASH, model=_HASH),
)
"""A finished run: its test metrics, where it ran, and hashes of its configuration, data, predictions and weights."""
SCHEMA = _object(
    status={"enum": ["not yet run", "partly run", "complete"]}, command=_TEXT, fill=_TEXT,
    protocol={"type": "object", "required": ["data", "preset", "methods", "seeds", "settings", "loss_weights"]},
    expected={"type": "object", "required": ["gpu_hours", "gpu_memory_gb", "disk_gb", "assumed", "formula"]},
    rows={"type": "array", "items": ROW},
)
"""The form of results/iae.json, in JSON Schema."""


def protocol(preset: str = "paper") -> dict:
    """What is to be run on IAE and how it is judged, as JSON. A test holds results/iae.json to it."""
    configs = planned("iae", preset, fixed=True)
    if len({config.training_settings() for config in configs}) > 1:
        raise ValueError("the methods differ in their settings, which this protocol has no place for")
    return {
        "data": "iae", "layout": "the package with its lists of training, validation and test images, and scores.h5",
        "split": f"the publisher's own, for every run; {SPLITS} seeds (start, batch order, crops, flips) instead of "
                 f"several splits",
        "preset": preset, "methods": list(dict.fromkeys(config.name for config in configs)),
        "seeds": sorted({config.seed for config in configs}),
        "settings": _described(configs[0])["settings"],
        "loss_weights": {task.name: task.loss_weight for task in PATENT_TASKS},
        "independent": "its two networks are trained apart, each with loss weight 1 and its own best epoch",
        "stopping": "each training keeps the epoch of its lowest validation loss; nothing is chosen on test images",
        "endpoints": {"first": "auc", "beside": [name for name in ENDPOINTS if name != "auc"]},
        "compared": "each method minus independent, seed by seed, with Student's interval over the seeds. It holds the "
                    "luck of training; that of the test images is in each run's predictions.csv",
    }


def expected(preset: str = "paper", images: int = IMAGES) -> dict:
    """An upper bound of what the protocol costs, from operations counted on the networks themselves.

    Nothing is allocated or computed. Every image is counted as a training image and every epoch as run.

    Returns:
        by method and in all: GPU hours, GPU memory and disk, with the formulas.
    """
    configs = {config.name: config for config in planned("iae", preset, fixed=True)}
    methods = {name: _cost(config, images) for name, config in configs.items()}
    side = next(iter(configs.values())).training_settings().resize
    keep = SPLITS * sum(cost["million_parameters"] * 4e-3 for cost in methods.values())
    return {
        "methods": methods, "runs": SPLITS * len(methods),
        "gpu_hours": round(SPLITS * sum(cost["gpu_hours"] for cost in methods.values()), 1),
        "gpu_memory_gb": max(cost["gpu_memory_gb"] for cost in methods.values()),
        "disk_gb": round(keep + images * side**2 * 3 / 1e9, 1),
        "assumed": {"operations_a_second": SUSTAINED, "images": images, "measured": False},
        "formula": {
            "gpu_hours": "2 x multiplies x images x (3 x epochs + 1) / operations_a_second / 3600: two operations a "
                         "multiply-add, a backward pass costs two forward ones, one forward pass at the end",
            "gpu_memory_gb": "20 bytes a parameter (float32 weights, gradients, momentum and best weights; their "
                             "bfloat16 copy where that is used, else room) + 4 bytes for each number that a layer puts "
                             "out, for one batch",
            "disk_gb": "4 bytes a parameter for each run + the decoded images, 3 bytes a pixel",
        },
    }


def _cost(config: Config, images: int) -> dict:
    settings = config.training_settings()
    with torch.device("meta"):  # only shapes
        network = build(config.method, PATENT_TASKS, settings.backbone, "none", config.variant, **config.options)
    multiplies, parameters = count_multiplies(network, settings.crop), count_parameters(network)
    operations = 2 * multiplies * images * (3 * settings.epochs + 1)
    memory = 20 * parameters + 4 * settings.batch * count_outputs(network, settings.crop)
    return {
        "million_parameters": round(parameters / 1e6, 3), "million_multiplies_an_image": round(multiplies / 1e6, 3),
        "gpu_hours": round(operations / SUSTAINED / 3600, 3), "gpu_memory_gb": round(memory / 1e9, 1),
    }


def count_outputs(network: nn.Module, side: int) -> int:
    """Numbers that a network's layers put out for one (1, 3, side, side) image: what training keeps, at most."""
    sizes: list[int] = []
    leaves = [module for module in network.modules()
              if not list(module.children()) and not isinstance(module, nn.Sequential)]
    hooks = [leaf.register_forward_hook(lambda _, __, out: sizes.append(out.numel())) for leaf in leaves]
    count_multiplies(network, side)  # any pass would do
    for hook in hooks:
        hook.remove()
    return sum(sizes)


def row(run: Run, preset: str = "paper") -> dict:
    """A finished run as a row of the protocol's file.

    Raises:
        ValueError: the run is not one of the protocol's; the message says in what it differs.
    """
    plan = {(config.name, config.seed): config for config in planned("iae", preset, fixed=True)}
    config, described = plan.get((run.name, run.described["seed"])), run.described
    if config is None:
        raise ValueError(f"{run.folder}: {run.name} with seed {described['seed']} is not in the protocol; it has "
                         f"{', '.join(f'{name} {seed}' for name, seed in plan)}")
    both = described, _described(config, described["images"])
    old, new = (pd.json_normalize(one).iloc[0].to_dict() for one in both)
    other = [f"{name} is {old.get(name)!r}, not {new.get(name)!r}" for name in old | new
             if old.get(name) != new.get(name)]
    if other:
        raise ValueError(f"{run.folder} is not a run of the protocol: {'; '.join(other)}. Make it with: "
                         f"make reproduce DATA=iae ROOT=<folder> PRESET={preset}")
    return {
        "method": run.name, "split": 0, "seed": described["seed"],
        "tasks": {task: {name: value for name, value in values.items() if not isinstance(value, list | dict | str)}
                  for task, values in run.metrics.items()},
        "epochs": len(run.history()), "training_seconds": run.timing["training_seconds"],
        "environment": run.environment | {"commit": _commit()},
        "hashes": {"config": run.hash, "images": described["images"],
                   "predictions": _sha256(run.folder / "predictions.csv"),
                   "model": _sha256(run.folder / "model.safetensors")},
    }


def _described(config: Config, images: str = "") -> dict:
    """A run's description without its data set, of which it needs only the fingerprint."""
    stand_in: Any = SimpleNamespace(tasks=weighed(config, PATENT_TASKS), fingerprint=lambda: images)
    return describe(config, stand_in)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _commit() -> str | None:
    """The checkout's commit when the row is written; None outside of a git checkout."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project_folder(), capture_output=True, encoding="utf-8")
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def content(runs: Iterable[Run] = (), preset: str = "paper", images: int = IMAGES) -> dict:
    """The protocol's file with the rows of these runs, checked.

    Raises:
        ValueError: a run that is not one of the protocol's, or one that is given twice.
    """
    asked, rows = protocol(preset), sorted((row(run, preset) for run in runs), key=_place)
    return checked({
        "status": _status(asked, rows), "command": f"make reproduce DATA=iae ROOT=<folder> PRESET={preset}",
        "fill": "python -m aesthemo_studies iae-protocol runs/iae", "protocol": asked,
        "expected": expected(preset, images), "rows": rows,
    })


def _place(one: dict) -> tuple[str, int]:
    return one["method"], one["seed"]


def _status(asked: dict, rows: list[dict]) -> str:
    wanted = len(asked["methods"]) * len(asked["seeds"])
    return "not yet run" if not rows else "complete" if len(rows) == wanted else "partly run"


def finished(folder: Path) -> list[Run]:
    """The finished runs below a folder.

    Raises:
        FileNotFoundError: there is none.
    """
    runs = [Run(path.parent) for path in sorted(Path(folder).rglob("metrics.json")) if path.parent.name[0] != "."]
    if not runs:
        raise FileNotFoundError(f"{folder} holds no finished run; make some with: make reproduce DATA=iae "
                                f"ROOT=<folder> PRESET=paper")
    return runs


def read(path: Path) -> dict:
    """The protocol's file, checked; a ValueError names the place of what is wrong."""
    return checked(read_json(path), str(path))


def checked(written: dict, where: str = "the protocol's results") -> dict:
    """The same content, if it has the form of ``SCHEMA`` and its rows fit its protocol.

    Raises:
        ValueError: the message names the place, what stands there and what was expected.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    try:
        json.dumps(written, allow_nan=False)
    except ValueError:
        raise ValueError(f"{where}: $: a number is not finite; write null where a metric is not defined") from None
    fault = best_match(Draft202012Validator(SCHEMA).iter_errors(written))
    if fault is not None:
        raise ValueError(f"{where}: {fault.json_path}: {fault.message}")
    asked, rows = written["protocol"], written["rows"]
    places = [_place(one) for one in rows]
    for method, seed in places:
        if method not in asked["methods"] or seed not in asked["seeds"]:
            raise ValueError(f"{where}: $.rows: {method} with seed {seed} is not in the protocol")
        if places.count((method, seed)) > 1:
            raise ValueError(f"{where}: $.rows: {method} with seed {seed} stands there more than once")
    if written["status"] != _status(asked, rows):
        raise ValueError(f"{where}: $.status is {written['status']!r}; with {len(rows)} rows expected "
                         f"{_status(asked, rows)!r}")
    if len({one["hashes"]["images"] for one in rows}) > 1:
        raise ValueError(f"{where}: $.rows: the runs saw different images or labels; make all from one copy of them")
    return written
