"""Prediction from cached pixels and from files, and a cold cache, beside the forward pass and the decoder alone."""

from __future__ import annotations

import itertools
import os
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import nn

from aesthemo_lib.data.images import CHUNK, decode, load_pixels
from aesthemo_lib.data.table import AnnotatedImages
from aesthemo_lib.device import allowed_cores
from aesthemo_lib.models.inference import fast, image_batches, predict_logits
from aesthemo_lib.models.quick_cpu import quick_cpu
from aesthemo_lib.prediction import BATCH, Predictor
from aesthemo_lib.tasks import AESTHETICS
from aesthemo_lib.training.config import Settings
from aesthemo_lib.training.run import Run

from .child import Job
from .measure import in_turn
from .photos import draw_photos
from .training import race, spelt


class Untrained(Run):
    """What ``Predictor`` asks of a run, without a training."""

    def __init__(self, network: nn.Module, settings: Settings):
        self.made, self.settings, self.tasks = network.eval(), settings, network.tasks

    def network(self, device: str | None = None) -> tuple[nn.Module, np.ndarray]:
        return self.made, np.full((self.settings.resize, self.settings.resize, 3), 128, np.float32)


def vgg16_prediction(job: Job) -> Iterator[tuple]:
    """Prediction with the pair of the patent."""
    yield from _prediction(job, "vgg16", 96, 3)


def teach_prediction(job: Job) -> Iterator[tuple]:
    """Prediction with the pair of the lessons."""
    yield from _prediction(job, "efficientnet_lite0", 256, 5, floor="teach_files_floor")


def _prediction(job: Job, backbone: str, count: int, rounds: int, floor: str = "") -> Iterator[tuple]:
    count, rounds = (6, 2) if job.small else (count, rounds)
    this = race(job, backbone, BATCH, 1, 1)
    paths, side = draw_photos(job.folder / "photos", count, 8), this.settings.resize
    run = Untrained(this.network(), this.settings)
    predictor = Predictor(run, job.device.type)
    pixels, mean = np.stack([decode(path, side) for path in paths]), run.network()[1]
    rows, crop = np.arange(count), this.settings.crop
    batches = list(image_batches(run.made, pixels, rows, mean, crop, BATCH))

    def forward() -> None:
        with torch.inference_mode(), fast(job.device), quick_cpu(run.made):
            for images in batches:
                run.made(images)

    times = in_turn({
        "forward pass": forward,
        "subtracting the mean image and resizing": lambda: list(image_batches(run.made, pixels, rows, mean, crop,
                                                                              BATCH)),
        "from the cache": lambda: predict_logits(run.made, pixels, rows, mean, crop,
                                                                          job.device, BATCH),
        "decoding": decoder(paths, side), "from files": lambda: predictor.probabilities(paths),
    }, rounds, job.device)
    passes, decoding, profile = times["forward pass"], times["decoding"], ["", *spelt(times)]
    name = "vgg16" if backbone == "vgg16" else "teach"
    yield f"{name}_cached", passes / times["from the cache"], {"profile": profile}
    most = float(np.median(np.maximum(passes, decoding) / (passes + decoding)))
    sequence = f"- one after the other, nothing else done, they would reach {most:.3f} of the slower"
    yield f"{name}_files", np.maximum(passes, decoding) / times["from files"], {"profile": [*profile, sequence]}
    if floor:
        yield floor, (passes + decoding) / times["from files"], {}


def decoder(paths: list[Path], side: int) -> Callable[[], None]:
    """A work: the decoder alone, on all cores; its pixels are thrown away."""
    def work() -> None:
        with ThreadPoolExecutor(allowed_cores()) as pool:
            for _ in pool.map(lambda path: decode(path, side) is None, paths):
                pass

    return work


def cache(job: Job) -> Iterator[tuple]:
    """A data set that is read for the first time."""
    count, side, rounds = (40, 36, 2) if job.small else (2000, 219, 4)
    paths = draw_photos(job.folder / "photos", count)
    images = AnnotatedImages("photos", (AESTHETICS,), tuple(paths), {"aesthetics": np.ones((count, 2))})
    number = itertools.count()

    def build() -> None:
        load_pixels(images, side, folder=job.folder / f"cache {next(number)}")

    chunk = np.random.default_rng(0).integers(0, 256, (min(CHUNK, count), side, side, 3), dtype=np.uint8)

    def keep(file: Path) -> None:
        check = 0
        with open(file, "wb") as out:
            for _ in range(0, count, CHUNK):
                check = zlib.crc32(chunk.data, check)
                out.write(chunk.data)
                out.flush()
                os.fsync(out.fileno())

    processor: list[float] = []  # seconds of checksum and writing, in all cores

    def keep_new() -> None:
        began = time.process_time()
        keep(job.folder / f"kept {next(number)}")
        processor.append(time.process_time() - began)

    keep(job.folder / "kept")
    times = in_turn({
        "decoder alone": decoder(paths, side), "cold cache": build,
        "checksum and writing alone, into a new file": keep_new,
        "the same over an old file, whose memory is there already": lambda: keep(job.folder / "kept"),
    }, rounds, job.device)
    decoding = np.median(times["decoder alone"])
    most = decoding / (decoding + np.median(processor) / allowed_cores())
    lines = [*spelt(times), f"- decoder, checksum and writing, shared out over all cores without any loss: {most:.3f}"]
    yield "cold_cache", times["decoder alone"] / times["cold cache"], {"profile": lines}
