"""Read a finished run folder: its configuration, metrics, predictions and network."""

import contextlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from .. import __version__
from ..device import pick_device
from ..evaluation.health import health
from ..files import read_json, read_tensors
from ..models.networks import build
from ..tasks import Task
from .config import Settings

WEIGHTS = "model.safetensors"


def training_command(described: dict, out: str = "runs") -> str:
    """What trains a run of this description with its preset's settings; parameters at their default are left out."""
    given = {key: described[key] for key in ("method", "variant", "preset", "split", "seed") if described[key]}
    if described["data"] != "scenes":
        given |= {"data": described["data"], "root": "<folder>"}
    return f"aesthemo run 03_train {' '.join(f'-p {key} {value}' for key, value in given.items())} --out {out}"


def stored_hash(folder: Path) -> str | None:
    """The hash of the finished run in a folder; None if there is none that this version can read."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return Run(folder).hash
    return None


class Run:
    """A finished run, read from its folder.

    Raises:
        FileNotFoundError: the folder holds no finished run.
        ValueError: it holds one that this version of the library can't read.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        if not (self.folder / "metrics.json").exists():
            raise FileNotFoundError(f"{self.folder} holds no finished run (no metrics.json); train it first, for "
                                    f"example with: aesthemo run 03_train --out {self.folder.parent}")
        with self._readable():
            content = read_json(self.folder / "config.json")
            self.hash, self.described = content["hash"], content["config"]
            self.environment, self.deviations = content["environment"], content["deviations"]
            self.tasks = tuple(Task(t["name"], tuple(t["classes"]), t["loss_weight"]) for t in self.described["tasks"])
            self.settings = Settings(**self.described["settings"])
            self.metrics = read_json(self.folder / "metrics.json")["tasks"]
            self.timing = read_json(self.folder / "timing.json")

    @contextlib.contextmanager
    def _readable(self):
        try:
            yield
        except (KeyError, TypeError, RuntimeError, FileNotFoundError) as fault:
            reason = " ".join(str(fault).split())[:300]
            raise ValueError(f"{self.folder} was written by another version than {__version__} of aesthemo_lib, or "
                             f"changed since ({type(fault).__name__}: {reason}); train it again, or read it with that "
                             f"version") from fault

    @property
    def name(self) -> str:
        """The method with its variant."""
        return self.described["method"] + (f".{self.described['variant']}" if self.described["variant"] else "")

    def history(self) -> pd.DataFrame:
        """One row per epoch (and network, for ``independent``)."""
        return pd.read_csv(self.folder / "history.csv", encoding="utf-8")

    def health(self) -> str:
        """One line: what each task reached, and whether the run learnt at all; see ``evaluation.health``."""
        facts, faults, doubts = health(self.tasks, self.metrics, self.history())
        verdict = f"did NOT learn: {', '.join(faults)}" if faults else "learnt"
        return "; ".join([*facts, verdict + (f" ({', '.join(doubts)})" if doubts else "")])

    def predictions(self, part: str = "test") -> pd.DataFrame:
        """Truth and probabilities of the 'test', 'validation' or 'train' images."""
        file, whole = self.folder / "predictions.csv", False
        with contextlib.suppress(KeyError, ValueError):  # ValueError: no table at all
            text = ["image", "pixels", *(f"{kind}{name}" for name in self.metrics for kind in ("", "true_"))]
            table = pd.read_csv(file, encoding="utf-8", keep_default_na=False, dtype=dict.fromkeys(text, str))
            test = table[table["part"] == "test"]
            counts = {name: (test[f"true_{name}"] != "").sum() for name in self.metrics}
            whole = file.read_bytes().endswith(b"\n") and all(counts[n] == of["n"] for n, of in self.metrics.items())
        if not whole:
            raise ValueError(f"{file} is damaged: it does not name the test images; train the run again")
        return table[table["part"] == part].reset_index(drop=True)

    def network(self, device: str | None = None) -> tuple[nn.Module, np.ndarray]:
        """The trained network, ready to predict, and the mean image (S, S, 3) that is subtracted from its pixels."""
        config = self.described
        if not (self.folder / WEIGHTS).exists():
            raise ValueError(f"{self.folder} was kept without its weights ({WEIGHTS}), for its results; one like "
                             f"it is trained with: {training_command(config)}")
        network = build(config["method"], self.tasks, self.settings.backbone, "none", config["variant"],
                        frozen=self.settings.frozen_groups, **config["options"])
        with self._readable():
            state = read_tensors(self.folder / WEIGHTS)
            mean = state.pop("mean_image").numpy()
            network.load_state_dict(state)
        return network.to(pick_device(device), memory_format=torch.channels_last).eval(), mean
