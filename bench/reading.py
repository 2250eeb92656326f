"""Prediction from cached pixels and from files, and cold caches, compared with forward pass and decoder alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from aesthemo_lib.data import readers
from aesthemo_lib.data.images import CHUNK, decode, load_pixels
from aesthemo_lib.data.table import AnnotatedImages
from aesthemo_lib.device import allowed_cores
from aesthemo_lib.models.inference import fast, image_batches, predict_logits
from aesthemo_lib.models.quick_cpu import quick_cpu
from aesthemo_lib.prediction import Predictor
from aesthemo_lib.tasks import AESTHETICS
from aesthemo_lib.training.config import DATA_SETTINGS, Settings
from aesthemo_lib.training.run import Run

from .child import Job
from .measure import in_turn, processor_time
from .photos import draw_photos
from .training import race, spelt


class Untrained(Run):
    """What ``Predictor`` asks of a run, without a training."""

    def __init__(self, network: nn.Module, settings: Settings):
        self.made, self.settings, self.tasks = network.eval(), settings, network.tasks

    def network(self, device: str | None = None) -> tuple[nn.Module, np.ndarray]:
        return self.made, np.full((self.settings.resize, self.settings.resize, 3), 128, np.float32)


def prediction(job: Job) -> Iterator[tuple]:
    """Prediction with the pair of the lessons."""
    count, rounds = (6, 2) if job.small else (128, 2)
    if job.device.type == "cuda":
        count = 2048
    this = race(job, "efficientnet_lite0", CHUNK, 1, 1)
    paths, side = draw_photos(job.folder / "photos", count, 8), this.settings.resize
    run = Untrained(this.network(), this.settings)
    predictor = Predictor(run, job.device.type)
    pixels, mean = np.stack([decode(path, side) for path in paths]), run.network()[1]
    rows, crop = np.arange(count), this.settings.crop
    batches = list(image_batches(run.made, pixels, rows, mean, crop, CHUNK))

    def forward() -> None:
        with torch.inference_mode(), fast(job.device), quick_cpu(run.made):
            for images in batches:
                run.made(images)

    times = in_turn({
        "forward pass": forward,
        "subtracting the mean image and resizing": lambda: list(image_batches(run.made, pixels, rows, mean, crop,
                                                                              CHUNK)),
        "from the cache": lambda: predict_logits(run.made, pixels, rows, mean, crop,
                                                                          job.device, CHUNK),
        "decoding": decoder(paths, side), "from files": lambda: predictor.answers(paths),
    }, rounds, job.device)
    forward_only, decoding = times["forward pass"], times["decoding"]
    yield "teach_cached", forward_only / times["from the cache"], {"profile": spelt(times)}
    most = float(np.median(np.maximum(forward_only, decoding) / (forward_only + decoding)))
    floor = f"- one after the other, nothing else done, they would reach {most:.3f} of the slower"
    yield "teach_files", np.maximum(forward_only, decoding) / times["from files"], {"profile": [*spelt(times), floor]}


def decoder(paths: list[Path], side: int) -> Callable[[], None]:
    """A work: the decoder alone, on all cores; its pixels are thrown away."""
    def work() -> None:
        with ThreadPoolExecutor(allowed_cores()) as pool:
            for _ in pool.map(lambda path: decode(path, side) is None, paths):
                pass

    return work


def cache(job: Job) -> Iterator[tuple]:
    """A data set that is read for the first time, by the CPU time of all threads."""
    count, side, rounds = (40, 36, 2) if job.small else (1000, 210, 3)
    paths = draw_photos(job.folder / "photos", count)
    images = AnnotatedImages("photos", (AESTHETICS,), tuple(paths), {"aesthetics": np.ones((count, 2))})
    number = itertools.count()
    times = in_turn({
        "decoder alone": decoder(paths, side),
        "cold cache": lambda: load_pixels(images, side, folder=job.folder / f"cache {next(number)}"),
    }, rounds, job.device, processor_time)
    yield "cold_cache", times["decoder alone"] / times["cold cache"], {"profile": spelt(times)}



    photo, = draw_photos(job.folder / "large", 1, 1, (400, 300) if job.small else (4000, 3000))

    def in_full() -> None:
        with Image.open(photo) as whole:
            whole.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)

    times = in_turn({"in full": in_full, "scaled": lambda: decode(photo, side)}, rounds, job.device, processor_time)
    yield "scaled_jpeg", times["in full"] / times["scaled"], {"profile": spelt(times)}


def para_cache(job: Job) -> Iterator[tuple]:
    """PARA at the side that preset teach trains it with.

    Raises:
        ValueError: without its folder.
    """
    if not job.root:
        raise ValueError("para_cache: name PARA's folder, with ROOT=<folder> or --root")
    began = processor_time()
    images = readers.read("para", job.root)
    table_read = processor_time()
    load_pixels(images, DATA_SETTINGS["teach", "para"]["resize"])
    ended = processor_time()
    lines = [f"- reading the table of {len(images):,}, grouping copies: {table_read - began:.0f} CPU s",
            f"- decoding: {ended - table_read:.0f} CPU s"]
    yield "para_cache", [(ended - began) / 60], {"profile": lines}
