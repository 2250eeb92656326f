"""What to train and how: ``Settings``, the presets, and ``Config``, which is checked before any work starts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..data import readers
from ..models.backbones import BUILDERS, is_known
from ..models.networks import VARIANTS, checked_options
from . import labels
from .aggregation import AGGREGATIONS
from .optimiser import OPTIMISERS


@dataclass(frozen=True)
class Settings:
    """How a network is trained. [0056-0061] fix the crops, the flips and SGD; the other numbers are ours."""

    backbone: str
    weights: str
    resize: int  # side of the cached pixels
    crop: int  # side of what a network sees
    batch: int
    epochs: int  # 0 keeps a probe_start as it is
    patience: int  # stop after this many epochs without a better validation loss
    learning_rate: float  # at its peak
    exchange_factor: float = 1.0  # the cross-branch layers' learning rate, times the rest's
    head_factor: float = 1.0  # that of what starts at random: the last fully connected layers
    keep_statistics: bool = False  # batch normalisation keeps the pretrained means and variances
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warm_up: float = 0.3  # share of the steps over which the learning rate rises
    aggregation: str = "sum"  # how the tasks' losses make one step, see ``training.aggregation``
    accumulate: int = 1  # parts in which a batch is computed, one after another, where memory is short
    checkpoint: bool = False  # compute maps again in the backward pass instead of keeping them: less memory, more time
    compile: bool = False  # have torch.compile fuse the network's steps
    optimiser: str = "sgd"  # the patent's, or "adamw"
    probe_start: bool = False  # last layers start as a linear probe (Kumar et al., ICLR 2022), not at random
    group_decay: float = 1.0  # learning rate of a group, times this for each step away from the head
    averaging: float = 0.0  # what is tested and kept is a moving average of the weights with this decay a step
    vote_targets: bool = False  # learn the shares of the votes instead of their consensus
    frozen_groups: int = 0  # so many of the first conv groups are computed once a view and kept, see training.frozen
    views: int = 2  # cached crops and flips of each image, with frozen groups
    log: str = ""  # "tensorboard" writes its event files too; no part of what a run is

    def __post_init__(self):
        if not is_known(self.backbone):
            raise ValueError(f"settings: backbone: unknown {self.backbone!r}; choose one of {', '.join(BUILDERS)}, or "
                             f"a network of timm")
        _one_of("settings: log", self.log, ("", "tensorboard"))
        if self.log and not find_spec("tensorboard"):
            raise ValueError("settings: log: TensorBoard is not installed; pip install tensorboard")
        _one_of("settings: optimiser", self.optimiser, OPTIMISERS)
        if self.averaging >= 1:
            raise ValueError(f"settings: averaging: expected a decay below 1, got {self.averaging}")


def _one_of(what: str, value: str, known) -> None:
    if value not in known:
        raise ValueError(f"{what}: unknown {value!r}; choose one of {', '.join(known)}")


def checked(what: str, value, kind: str):
    """The value, if it is a 'str', 'bool', 'int' or 'float', as ``kind`` says, and not NaN; else a ValueError."""
    fits: Any = {"str": str, "bool": bool, "int": int, "float": (int, float)}.get(kind, object)
    if not isinstance(value, fits) or isinstance(value, bool) != (kind == "bool") or value != value:
        raise ValueError(f"{what}: expected {kind}, got {value!r}")
    return value


KINDS = {choice.name: str(choice.type) for choice in fields(Settings)}
"""The type of each setting, for what reads settings from text."""
PRESETS = {
    "smoke": Settings("tiny", "none", resize=36, crop=32, batch=16, epochs=2, patience=2, learning_rate=0.005),
    "teach": Settings(
        "efficientnet_lite0", "imagenet", resize=210, crop=192, batch=32, epochs=3, patience=3, learning_rate=5e-5,
        weight_decay=0.02, optimiser="adamw", group_decay=0.65, keep_statistics=True, probe_start=True,
        vote_targets=True, frozen_groups=2,
    ),
    "paper": Settings("vgg16", "imagenet", resize=256, crop=224, batch=32, epochs=30, patience=5, learning_rate=0.001),
}
"""'smoke' runs in seconds, 'teach' in minutes on two cores, 'paper' is the patent to the letter, on a GPU."""
DATA_SETTINGS: dict[tuple[str, str], dict] = {
    ("teach", "scenes"): {"resize": 110, "crop": 96, "learning_rate": 4e-4},
    ("teach", "oasis"): {"frozen_groups": 3, "learning_rate": 4e-4, "averaging": 0.95},
    ("teach", "para"): {"resize": 160, "crop": 160, "epochs": 1, "patience": 1, "frozen_groups": 0, "warm_up": 0.2,
                        "learning_rate": 4e-4},
}
"""Where preset teach differs: OASIS averages its weights, scenes need 96 px and a higher rate, PARA one pass."""
METHOD_SETTINGS: dict[str, dict] = {
    "linear_probe": {"probe_start": True}, "nddr": {"exchange_factor": 100.0}, "bilstm": {"aggregation": "hard_tasks"},
}
"""What a method's authors trained it with (Gao et al. 2019; the loss of CN109190514B); ``settings`` override it."""
DEFAULT_VARIANT = {"smoke": "diagonal", "teach": "diagonal", "paper": "random"}
"""How the cross-branch layers start: [0057] says random; a diagonal start keeps what a pretrained pair knows."""
SCENES = {"smoke": 96, "teach": 400, "paper": 8000}  #: How many scenes are drawn for each preset


@dataclass(frozen=True)
class Config:
    """What to train.

    Args:
        data: a data set's name, see ``data.readers.READERS``.
        method, variant: see ``models.networks.METHODS`` and ``VARIANTS``; the preset's own variant by default.
        preset: one of ``PRESETS``.
        split, seed: which split, see ``AnnotatedImages.split``; the seed of everything that is random.
        settings: settings that differ from the preset's, by name.
        options: the method's own options, such as ``depth``.
        loss_weights: loss weights that differ from the tasks' own, by task.
        data_options: the reader's own options, such as ``relatedness``.
        labels: which labels the training gets, if not all of them; see ``training.labels``.

    Raises:
        ValueError: a value that is not known; the message names the parameter and lists what is.
    """

    data: str = "scenes"
    method: str = "cross_branch"
    variant: str | None = None
    preset: str = "teach"
    split: int = 0
    seed: int = 0
    settings: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    loss_weights: dict = field(default_factory=dict)
    data_options: dict = field(default_factory=dict)
    labels: dict = field(default_factory=dict)

    def __post_init__(self):
        _one_of("data", self.data, readers.READERS)
        _one_of("preset", self.preset, PRESETS)
        for name in ("split", "seed"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 0:
                raise ValueError(f"{name}: expected a whole number of 0 or more, got {getattr(self, name)!r}")
        if self.variant is None and self.method in VARIANTS:
            object.__setattr__(self, "variant", DEFAULT_VARIANT[self.preset])
        checked_options(self.method, self.variant, self.options)
        labels.check(self.labels)
        self.training_settings()

    def training_settings(self) -> Settings:
        """The preset's settings for this data set, with those of ``settings`` put in."""
        for name, value in self.settings.items():
            _one_of("settings", name, KINDS)
            checked(f"settings: {name}", value, KINDS[name])
            if KINDS[name] in ("int", "float") and not 0 <= value < math.inf:
                raise ValueError(f"settings: {name}: expected a number of 0 or more, got {value!r}")
        fitted = DATA_SETTINGS.get((self.preset, self.data), {}) | METHOD_SETTINGS.get(self.method, {})
        settings = replace(PRESETS[self.preset], **(fitted | self.settings))
        _one_of("settings: aggregation", settings.aggregation, AGGREGATIONS)
        least = min(settings.batch, settings.epochs + settings.probe_start, settings.accumulate, settings.views)
        if not 1 <= settings.crop <= settings.resize or least < 1:
            raise ValueError(f"settings: expected 1 <= crop <= resize, and batch, epochs (0 keeps a probe_start), "
                             f"accumulate and views of 1 or more, got {settings}")
        return settings

    @property
    def name(self) -> str:
        """The method with its variant, as in 'cross_branch.diagonal'."""
        return self.method + (f".{self.variant}" if self.variant else "")

    def folder(self, out: Path) -> Path:
        """This run's folder below ``out``."""
        return Path(out) / self.data / self.name / self.preset / f"split{self.split}-seed{self.seed}"


def learning_rate(step: int, steps: int, settings: Settings) -> float:
    """Rises linearly over the warm-up, then falls to zero along a cosine. A function of the step, so it can't drift."""
    rise = max(1, round(settings.warm_up * steps))
    if step < rise:
        return settings.learning_rate * (step + 1) / rise
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))

