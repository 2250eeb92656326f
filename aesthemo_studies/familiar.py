"""What the inspector calls far from the training data: the share that is flagged of photographs and of other pictures.

The limit is set so that a twentieth of held-out training photographs lies beyond it; all else is measured here:

    python -m aesthemo_studies familiar --root <PARA's folder> --oasis <OASIS' folder>
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageChops, ImageFilter, ImageOps
from torch import Tensor, nn

from aesthemo_lib.data import readers
from aesthemo_lib.data.images import decode
from aesthemo_lib.data.readers.scenes import sample
from aesthemo_lib.files import BUNDLED, project_folder, read_tensors, write_json
from aesthemo_lib.inspector.familiar import STATISTICS, distances, learnt, seen
from aesthemo_lib.models.inference import image_batches
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import Config, open_data
from aesthemo_scenes.drawing import picture

LEARNT, COUNT = 768, 100
"""Training photographs for the statistics; pictures of each kind that are looked at."""


def statistics(run: Run, root: Path | None) -> dict[str, Tensor]:
    """What the inspector knows of training photographs that are not passed on: see ``inspector.familiar.learnt``."""
    described, (network, mean) = run.described, run.network("cpu")
    images = open_data(Config(described["data"], preset=described["preset"]), root)
    train = images.split(described["split"]).train
    pixels = _decoded([images.paths[row] for row in _spaced(train, LEARNT)], run.settings.resize)
    return learnt(_seen(network, mean, pixels, run.settings.crop))


def measure(root: Path, oasis: Path, out: Path | None = None) -> Path:
    """Write ``results/familiar.json``: the share flagged of each kind of picture, by the bundled network."""
    run = Run(BUNDLED / "photographs")
    (network, mean), known, flagged = run.network("cpu"), read_tensors(run.folder / STATISTICS), {}
    for name, pixels in kinds(root, oasis, run.settings.resize):
        values = distances(known, _seen(network, mean, pixels, run.settings.crop))
        share = float((values > known["limit"]).float().mean())
        flagged[name] = {"pictures": len(pixels), "flagged": round(share, 3)}
        print(f"{share:4.0%} of {len(pixels)} {name}", flush=True)
    out = out or project_folder() / "results" / "familiar.json"
    write_json(out, {"command": "python -m aesthemo_studies familiar --root <PARA> --oasis <OASIS>", **flagged})
    return out


def kinds(root: Path, oasis: Path, side: int) -> Iterator[tuple[str, np.ndarray]]:
    """(N, side, side, 3) pixels of each kind of picture, by its name."""
    images = open_data(Config("para"), root)
    photos = _decoded([images.paths[row] for row in _spaced(images.split(0).test, 2 * COUNT)], side)
    some, random = photos[::2], np.random.default_rng(0)
    yield "photographs of PARA's official test", photos
    published = readers.read("oasis", oasis).paths
    yield "photographs of OASIS", _decoded([published[n] for n in _spaced(np.arange(len(published)), COUNT)], side)
    yield "white noise", random.integers(0, 256, some.shape, dtype=np.uint8)
    coarse = random.integers(0, 256, (COUNT, 24, 24, 3), dtype=np.uint8)
    yield "soft noise", np.stack([np.asarray(Image.fromarray(x).resize((side, side))) for x in coarse])
    yield "one colour", np.broadcast_to(random.integers(0, 256, (COUNT, 1, 1, 3), dtype=np.uint8), some.shape)
    drawn = (picture(dict(row), (0, int(n)), side)[0].resize((side, side)) for n, row in sample(COUNT).iterrows())
    yield "drawn scenes", np.stack([np.asarray(x) for x in drawn])
    changes = {
        "turned into paintings (8 colours, strokes of 9 px)":
            lambda x: x.filter(ImageFilter.ModeFilter(9)).quantize(8).convert("RGB"),
        "turned into pencil drawings": _pencil, "turned grey": lambda x: ImageOps.grayscale(x).convert("RGB"),
        "blurred (3 px of 192)": lambda x: x.filter(ImageFilter.GaussianBlur(3)),
        "turned by 90 degrees": lambda x: x.transpose(Image.Transpose.ROTATE_90),
        "upside down": lambda x: x.transpose(Image.Transpose.ROTATE_180), "as negatives": ImageChops.invert,
    }
    for name, change in changes.items():
        yield f"test photographs {name}", np.stack([np.asarray(change(Image.fromarray(x))) for x in some])
    noisy = some + random.normal(0, 40, some.shape)
    yield "test photographs with noise of 40 grey levels", noisy.clip(0, 255).astype(np.uint8)


def _pencil(photo: Image.Image) -> Image.Image:
    """Grey, divided by its own blur: what is even turns white, edges stay dark."""
    grey = np.asarray(photo.convert("L"), dtype=float)
    blurred = np.asarray(photo.convert("L").filter(ImageFilter.GaussianBlur(6)), dtype=float)
    return Image.fromarray((255 * grey / np.maximum(blurred, 1)).clip(0, 255).astype(np.uint8)).convert("RGB")


def _spaced(rows: np.ndarray, count: int) -> np.ndarray:
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]


def _decoded(paths: Sequence[Path | str], side: int) -> np.ndarray:
    return np.stack([decode(Path(path), side) for path in paths])


def _seen(network: nn.Module, mean: np.ndarray, pixels: np.ndarray, side: int) -> Tensor:
    batches = image_batches(network, pixels, range(len(pixels)), mean, side, batch=16)
    return torch.cat([seen(network, images) for images in batches])
