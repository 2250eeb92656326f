"""Maps of frozen groups, computed once a view and kept on disk: what never changes need not be computed every epoch.

A view is one crop and flip of every image, the same for every method, seed and epoch; view 0 is the whole image as
prediction sees it. Maps are kept in half precision, under a name that holds a hash of what they follow from: pixels,
mean image, the frozen weights, crop and precision. Building them resumes where it was interrupted.
"""

import hashlib
import math
import os
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..data.batches import TrainingBatches, send, uniform
from ..data.images import pixels_sha256
from ..device import fast_precision
from ..files import DiskFull, cache_folder, digest, file_lock, room_for, show_progress
from ..models.inference import fast
from ..models.quick_cpu import quick_cpu

CHUNK = 64  #: Images whose maps are computed and written at once


class FrozenBatches(TrainingBatches):
    """``TrainingBatches`` of maps of the frozen groups, (B, K, h, w) float32: each image in one of its views.

    Args:
        frozen: the groups, in evaluation mode, on ``device``.
        views: cached crops and flips of each image.
        used: the rows that have maps: training and validation.
    """

    def __init__(self, frozen: nn.Module, pixels, rows, mean, std, crop: int, size: int, seed: int,
                 device: torch.device, views: int, used: np.ndarray, folder: Path | None = None):
        super().__init__(pixels, rows, mean, std, crop, size, seed, device)
        self.frozen, self.views = frozen, views
        self.place = np.full(len(pixels), -1)
        self.place[np.sort(used)] = np.arange(len(used))
        self.used, folder = np.sort(used), folder or cache_folder() / "maps"
        facts = [pixels_sha256(pixels[self.used]), hashlib.sha256(np.ascontiguousarray(mean).data).hexdigest(),
                 _weights_sha256(frozen), crop, list(std), str(fast_precision(device))]
        stem = digest(facts)[:24]
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(folder / f"{stem}.lock", f"computing maps of frozen groups in {folder}"):
            self.maps = [self._view(view, folder / f"{stem}-{view}.npy") for view in range(views + 1)]

    def images(self, epoch: int, rows: np.ndarray) -> Tensor:
        """The maps (B, K, h, w) of these rows, each in a view drawn for this epoch."""
        view = 1 + (uniform(self.seed, epoch, rows, 1) * self.views).astype(np.int64)
        return self._read(np.stack([self.maps[v][self.place[row]] for v, row in zip(view, rows, strict=True)]))

    def plain(self, rows: np.ndarray) -> Tensor:
        """The maps (B, K, h, w) of these rows' whole images."""
        return self._read(self.maps[0][self.place[rows]])

    def _read(self, maps: np.ndarray) -> Tensor:
        return send(torch.from_numpy(maps), self.device).float().to(memory_format=torch.channels_last)

    def _view(self, view: int, target: Path) -> np.ndarray:
        """A view's maps (U, K, h, w) float16, memory-mapped; computed first where they are not there yet."""
        if not target.exists():
            self._build(view, target)
        return np.load(target, mmap_mode="r", allow_pickle=False)

    def _build(self, view: int, target: Path) -> None:
        partial = target.with_suffix(".partial")
        with room_for(target), torch.inference_mode(), quick_cpu(self.frozen), fast(self.device):
            shape = (len(self.used), *self._maps(view, self.used[:1]).shape[1:])
            size = 2 * math.prod(shape[1:])
            done = partial.stat().st_size // (size * CHUNK) * CHUNK if partial.exists() else 0  # whole chunks only
            missing, free = (len(self.used) - done) * size, shutil.disk_usage(target.parent).free
            if missing > free:
                raise DiskFull(f"the maps of the frozen groups need {missing / 1e6:,.0f} MB more in {target.parent}, "
                               f"where {free / 1e6:,.0f} MB are free; make room, lower views, or set AESTHEMO_CACHE")
            with (
                partial.open("r+b" if done else "wb") as out,
                tqdm(total=len(self.used), initial=done, desc=f"Maps of frozen groups, view {view}", unit="image",
                     disable=not show_progress(), leave=False) as bar,
            ):
                out.truncate(done * size)
                out.seek(done * size)
                for start in range(done, len(self.used), CHUNK):
                    rows = self.used[start:start + CHUNK]
                    out.write(self._maps(view, rows).to(torch.float16).cpu().contiguous().numpy().data)
                    bar.update(len(rows))
        finished = np.memmap(partial, np.float16, "r", shape=shape)
        with room_for(target):
            temporary = target.with_suffix(".tmp.npy")
            np.save(temporary, finished)
            os.replace(temporary, target)
        partial.unlink()

    def _maps(self, view: int, rows: np.ndarray) -> Tensor:
        pixels = TrainingBatches.plain(self, rows) if view == 0 else TrainingBatches.images(self, view, rows)
        return self.frozen(pixels)


def _weights_sha256(module: nn.Module) -> str:
    sha = hashlib.sha256()
    for name, value in module.state_dict().items():
        sha.update(name.encode())
        sha.update(value.detach().cpu().contiguous().numpy().data)
    return sha.hexdigest()
