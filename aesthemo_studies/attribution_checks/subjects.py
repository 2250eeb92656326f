"""What the attribution study explains: networks trained on drawn scenes, and the bundled one on photographs of OASIS.

A network has a number: number n has split n % 4 and seed n // 4, so that eight networks are four splits by two seeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor, nn

from aesthemo_lib.attribution.streams import Stream
from aesthemo_lib.data import readers
from aesthemo_lib.data.images import load_pixels
from aesthemo_lib.data.table import TEST_FOLDS, AnnotatedImages, Split
from aesthemo_lib.files import BUNDLED
from aesthemo_lib.models.inference import image_batches
from aesthemo_lib.tasks import PATENT_TASKS
from aesthemo_lib.training.config import Config
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import prepare, train

SETTINGS = {"epochs": 4, "learning_rate": 2e-4}
"""Where the trainings differ from preset teach on scenes, whose settings changed after them."""
TASKS = tuple(task.name for task in PATENT_TASKS)
OTHER = dict(zip(TASKS, TASKS[::-1], strict=True))
PHOTOGRAPHS = "photographs"
NULLS, ANOTHER = ("null", "second"), 100
"""The permutations of a null: the first is trained with its network's seed, the second with another one."""


def config_of(setting: str, seed: int, run: str = "trained") -> Config:
    """What one network of the study is trained on.

    Args:
        setting: 'scenes-0.5' with its relatedness.
        seed: the network's number.
        run: 'trained', 'start' (one epoch at rate 0: the network before its training), or one of ``NULLS`` and a task,
            whose labels are permuted: 'null-emotion'.
    """
    kind, *which = run.split("-")
    return Config(
        "scenes", "cross_branch", "diagonal", split=seed % TEST_FOLDS,
        seed=seed // TEST_FOLDS + ANOTHER * (kind == NULLS[1]),
        settings=SETTINGS | ({"learning_rate": 0.0, "epochs": 1} if kind == "start" else {}),
        labels={"permute": which} if kind in NULLS else {},
        data_options={"relatedness": float(setting.partition("-")[2])},
    )


class Workplace(NamedTuple):
    """Where the study's runs and scenes lie, and where OASIS does."""

    out: Path
    root: Path | None

    def data(self, setting: str) -> Path:
        """Scenes of another relatedness would replace those at the same place, so each has its own."""
        return self.out / "data" / setting

    def run(self, setting: str, seed: int, run: str = "trained") -> Run:
        """A network of the study, trained if it isn't yet."""
        return train(config_of(setting, seed, run), self.out / setting / run, self.data(setting), redo=True)

    def network(self, setting: str, seed: int, run: str = "start") -> nn.Module:
        """The network of such a run."""
        return self.run(setting, seed, run).network()[0]


class Explained(NamedTuple):
    """A trained network, all images of its data with their pixels, and the test images that it is asked about."""

    network: nn.Module
    mean: np.ndarray
    crop: int
    images: AnnotatedImages
    pixels: np.ndarray
    split: Split
    places: np.ndarray  # of the images asked about, among the test images
    truth: dict[str, np.ndarray]  # of the images asked about

    @property
    def rows(self) -> np.ndarray:
        """The images asked about, among all."""
        return self.split.test[self.places]

    @property
    def batches(self) -> list[Tensor]:
        """The images asked about, as the network takes them."""
        return list(self.shown(self.pixels, self.rows))

    def shown(self, pixels: np.ndarray, rows: np.ndarray) -> Iterator[Tensor]:
        """Rows of (N, S, S, 3) pixels as the network takes them."""
        return image_batches(self.network, pixels, rows, self.mean, self.crop, batch=8)

    def columns(self, setting: str, seed: int) -> dict:
        """What says whose a row of a table is."""
        return {"setting": setting, "seed": seed, "image": self.rows, "group": self.images.groups[self.rows]}

    def last(self, task: str) -> Stream:
        """What a task borrows at the last exchange, whose maps are tested: the latest that still says where."""
        return Stream(len(self.network.exchanges), task, OTHER[task])


def explained(place: Workplace, setting: str, seed: int, photos: int, run: str = "trained") -> Explained:
    """A network of the study (trained if it isn't yet) with some test images: first one of each group, then others."""
    if setting == PHOTOGRAPHS:
        return _photographs(place, photos)
    (network, mean), config = place.run(setting, seed, run).network(), config_of(setting, seed)
    images, pixels, split, _ = vars(prepare(config, place.data(setting))).values()
    places = _chosen(images.groups[split.test], photos)
    truth = {task.name: images.labels(task.name)[split.test[places]] for task in network.tasks}
    return Explained(network, mean, config.training_settings().crop, images, pixels, split, places, truth)


def _photographs(place: Workplace, photos: int) -> Explained:
    """The bundled network for photographs on OASIS: 'positive' is a valence above the scale's middle."""
    run = Run(BUNDLED / PHOTOGRAPHS)
    network, mean = run.network()
    images, pixels = load_pixels(readers.read("oasis", place.root), run.settings.resize)
    split = images.split(0)
    places = _chosen(images.groups[split.test], photos)
    rows = split.test[places]
    truth = {"aesthetics": images.labels("aesthetics")[rows],
             "emotion": (images.facts["valence_mean"].to_numpy()[rows] > 4).astype(int)}
    return Explained(network, mean, run.settings.crop, images, pixels, split, places, truth)


def _chosen(groups: np.ndarray, photos: int) -> np.ndarray:
    return np.argsort(pd.Series(groups).groupby(groups).cumcount().to_numpy(), kind="stable")[:photos]
