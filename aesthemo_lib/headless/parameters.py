"""What a notebook's parameters may be, by name, checked before a kernel starts; ``execute`` checks their types first.

A name means the same in every notebook, so its range is given here once. Whether a value also fits the data (a photo's
number, say), only the notebook that has read them can tell.
"""

from pathlib import Path
from typing import Any

from ..data.images import ON_BAD_IMAGE
from ..data.readers import READERS
from ..evaluation.metrics import METRICS
from ..models.backbones import BUILDERS, is_known
from ..models.networks import METHODS, VARIANTS
from ..training.config import PRESETS, Config
from ..training.run import Run

COUNTS = {"seed": 0, "split": 0, "epochs": 0, "depth": 0, "photo": 0, "learning_rate": 0, "exchange_factor": 0,
          "steps": 0, "cycle": 0, "identity": 0, "pool": 0,
          "layer": 1, "photos": 1, "width": 1, "count": 1, "k": 1, "emotion_weight": None, "middle": None}
"""The least value of each number; None: any that is finite."""
CHOICES = {"preset": tuple(PRESETS), "data": tuple(READERS),
           "on_bad_image": ON_BAD_IMAGE, "metric": (*METRICS, "spearman"),
           "variant": ("", *(variant for variants in VARIANTS.values() for variant in variants))}
FREE = {"redo", "condition"}  #: Checked by their type only, or by the data's classes
TRAINING: dict[str, Any] = {
    "preset": "teach", "data": "scenes", "root": "", "seed": 0, "out": "../runs", "method": "cross_branch",
    "variant": "", "split": 0, "redo": False, "epochs": 0, "learning_rate": 0.0, "weights": "", "backbone": "",
    "exchange_factor": 0.0, "depth": 0, "emotion_weight": -1.0, "on_bad_image": "error",
}  # fmt: skip
"""The parameters of 03_train with their defaults, for ``aesthemo train``, which an installed wheel has too."""


def check(values: dict) -> None:
    """Raise ValueError for a notebook's parameters, of their declared types, that are out of range or contradictory."""
    for name, value in values.items():
        expected = _expected(name, value)
        if expected:
            raise ValueError(f"parameter {name}: expected {expected}, got {value!r}")
    if {"variant", "split", "depth"} <= values.keys():
        training(values)


def _expected(name: str, value) -> str:
    """What a value should have been; empty if it may be as it is."""
    if name in COUNTS:
        least = COUNTS[name]
        fits = abs(value) < float("inf") and (least is None or value >= least)
        return "" if fits else f"a number of {least} or more" if least is not None else "a finite number"
    if name in CHOICES:
        return "" if value in CHOICES[name] else f"one of {', '.join(filter(None, CHOICES[name]))}"
    if name in ("method", "reference"):
        method, dot, variant = value.partition(".")
        known = method in METHODS and (not dot or variant in VARIANTS.get(method, ()))
        return "" if known or not value else f"a method, one of {', '.join(METHODS)}"
    if name == "backbone":
        return "" if not value or is_known(value) else f"one of {', '.join(BUILDERS)}, or a network of timm"
    return _expected_place(name, value)


def _expected_place(name: str, value) -> str:
    if name in ("root", "run") and value and not Path(value).exists():
        return "a folder or file that is there, or nothing"
    if name == "run" and value:
        Run(value)  # says itself what is wrong
    if name in ("out", "class_folder") and any(part.is_file() for part in (Path(value), *Path(value).parents)):
        return "a folder, or a place where one can be made"
    if name == "weights" and value not in ("", "none", "imagenet", "photographs") and not Path(value).exists():
        return "imagenet, photographs (the bundled network), none, or a file or run folder that is there"
    return ""


def training(values: dict, more: dict | None = None) -> Config:
    """What the parameters of 03_train ask for, with more settings; a ValueError says what contradicts what."""
    names = ("epochs", "learning_rate", "weights", "backbone", "exchange_factor")
    return Config(
        values["data"], values["method"], values["variant"] or None, values["preset"], values["split"], values["seed"],
        settings={name: values[name] for name in names if values.get(name)} | (more or {}),
        options={"depth": values["depth"]} if values["depth"] else {},
        loss_weights={"emotion": weight} if (weight := values.get("emotion_weight", -1)) >= 0 else {},
    )
