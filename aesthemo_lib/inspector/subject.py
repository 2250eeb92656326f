"""The inspector: a photo's answers under every cut and transplant of borrowed streams, for a page and for a widget.

``inspector.js`` draws both. In a page all answers are known; the widget asks its kernel, which sends only numbers.
"""

import base64
import io
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..attribution.ledger import trunk_ledger
from ..attribution.maps import SignedMap, integrated_gradients, top_channels
from ..attribution.streams import streams
from ..data.decoding import decode, picture
from ..files import read_tensors
from ..models.inference import evaluating, image_batches
from ..prediction import Predictor, own_test_rows
from ..tasks import task_colour
from ..training.run import Run
from ..training.runs import Config, open_data
from .answers import all_logits, distinct, idle, stream_maps, switches
from .familiar import SAMPLE, STATISTICS, distances, learnt, seen
from .null import null_bars, shown_rows
from .samples import samples

SHOWN_SIDE, MAP_SIDE, FLOW_SIDE = 256, 32, 20
"""Pixels or cells a side, at most, of a photo, a map of contributions and a mean map as they are sent."""
PIXEL_STEPS = 12  #: Of integrated gradients on the pixels, where there is no stream to look at
HERE = Path(__file__).parent
SCRIPT, STYLE = ((HERE / f"inspector.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))


def packed(values: np.ndarray, kind: str) -> str:
    """Numbers as base64 of a little-endian type, such as '<f4', for ``inspector.js``."""
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode()


class Subject:
    """A finished run (or its folder) under inspection; where it has no ``switches``, ``reason`` says why."""

    def __init__(self, run: Run | Path | str):
        self.predictor = Predictor(run)
        self.run, self.network = self.predictor.run, self.predictor.network
        self.names: dict[Path, str] = {}  # of the photos that ``test_photos`` has offered
        self.seen: list[Path] = []  # images of the same data outside its test part
        try:
            self.switches, self.reason = switches(self.network), ""
        except ValueError as fault:
            self.switches, self.reason = [], str(fault)

    @cached_property
    def familiar(self) -> dict[str, Tensor]:
        """What ``familiar.learnt`` knows of the training data; after ``photos``."""
        if (file := self.run.folder / STATISTICS).exists():
            return read_tensors(file)
        some = self.seen[::-(-len(self.seen) // SAMPLE)]
        return learnt(torch.cat([seen(self.network, self.images(path)) for path in some]))

    def unusual(self, images: Tensor) -> bool:
        """Whether (1, 3, s, s) lies far from the training data; after ``photos``."""
        return bool(distances(self.familiar, seen(self.network, images)) > self.familiar["limit"])

    def page(self, photos: Sequence[dict]) -> dict:
        """What ``inspector.js`` draws: the network's shape, and photos (see ``photo``), answered or not."""
        run, layers = self.run.described, len(getattr(self.network, "exchanges", ())) if self.switches else 0
        masks = {t.name: idle(self.network, t.name) if self.switches else 0 for t in self.run.tasks}
        edges = [stream._asdict() for stream in streams(self.network) if stream.borrowed] if self.switches else []
        fewer = "" if len(edges) == len(self.switches) else (
            f"It borrows {len(edges)} streams; the last {len(self.switches)} have a switch.")
        return {
            "run": "", "photos": list(photos), "reason": self.reason, "note": fewer, "layers": layers, "edges": edges,
            "groups": len(self.network.channels), "frozen": len(self.network.frozen),
            "title": f"{self.run.name}, {run['preset']}, trained on {run['data']}, split {run['split']}",
            "tasks": [{"name": t.name, "classes": list(t.classes), "colour": task_colour(t.name), "idle": masks[t.name]}
                      for t in self.run.tasks],
            "switches": [stream._asdict() for stream in self.switches], "donors": None,
            "null": null_bars(self.run, 1 + layers * (len(self.run.tasks) - 1)) if self.switches else None,
        }

    def images(self, path: Path | str) -> Tensor:
        """One photo as the network takes it, (1, 3, s, s); a ValueError says why a file can't be read."""
        pixels = decode(Path(path), self.run.settings.resize)[None]
        return next(image_batches(self.network, pixels, [0], self.predictor.mean, self.run.settings.crop))

    def answers(self, images: Tensor, instead: Tensor | None = None) -> dict:
        """Logits by task (float32, base64) of every state that can differ; see ``answers.all_logits``."""
        if self.switches:
            logits = {name: values[distinct(self.network, name), 0]
                      for name, values in all_logits(self.network, images, instead).items()}
        else:
            with torch.inference_mode():
                logits = self.network(images)
        return {name: packed(values.cpu().numpy(), "<f4") for name, values in logits.items()}

    def flows(self, images: Tensor) -> dict[str, list[dict]] | None:
        """What (1, 3, s, s) images put out of each branch's groups, and of the frozen ones (''), as mean maps."""
        if not self.switches:
            return None
        network = self.network
        groups = {"": list(network.frozen)[-1:]} | {
            task.name: list(branch.groups) for task, branch in zip(network.tasks, network.branches, strict=True)}
        shown: dict[nn.Module, dict] = {}
        with ExitStack() as stack, evaluating(network), torch.inference_mode():
            for group in sum(groups.values(), []):
                stack.callback(group.register_forward_hook(lambda g, _, x: shown.update({g: _mean_map(x)})).remove)
            network(images)
        return {name: [shown[group] for group in those] for name, those in groups.items()}

    def ledger(self, images: Tensor) -> dict | None:
        """The trunk ledger by task, against the mean image (see ``shown_rows``); None where nothing is borrowed."""
        if not self.switches:
            return None
        return {name: {
            "players": list(ledger.players), "sources": [s.source if s else name for s in ledger.streams],
            "layers": [s.layer if s else 0 for s in ledger.streams],
            **{part: shown_rows(getattr(ledger, part)[0]).round(6).tolist()
               for part in ("values", "logits", "baseline")},
            "error": None if ledger.standard_error is None else float(ledger.standard_error.max()),
        } for name, ledger in trunk_ledger(self.network, images).items()}

    def map(self, images: Tensor, task: str, target: int, layer: int) -> list[dict]:
        """Where in one photo a logit comes from, through each stream of a layer, or in the pixels: see ``_shown``."""
        if not self.switches:
            return [_shown("pixels", integrated_gradients(self.network, images, task, target, steps=PIXEL_STEPS))]
        maps = stream_maps(self.network, images, task, target, layer)
        return [_shown(s.source, maps[s]) for s in sorted(maps, key=lambda s: s.borrowed)]

    def photos(self, count: int, root: Path | None = None) -> list[tuple[Path, dict, str]]:
        """What is shown of a run: path, consensus by task, credit. Its own test images, or else ``samples``."""
        if (self.run.folder / "predictions.csv").exists():  # which name them
            return [(path, truth, "") for path, truth in self.test_photos(count, root)]
        return samples()[:count]

    def test_photos(self, count: int, root: Path | None = None) -> list[tuple[Path, dict]]:
        """The first test images of the run's own data, each with its consensus class by task."""
        run = self.run.described
        images = open_data(Config(data=run["data"], preset=run["preset"], data_options=run["data_options"]), root)
        test = own_test_rows(self.run, images)
        rows, others = test[:count], np.setdiff1d(np.arange(len(images)), test)
        if not len(rows):
            raise ValueError(f"{images.name}: none of the test images of {self.run.folder} are among these "
                             f"{len(images)}; name the folder of the data that it was trained on")
        self.names |= {images.paths[row]: images.names[row] for row in rows}
        self.seen = [images.paths[row] for row in others]
        labels = {t.name: images.labels(t.name) for t in self.run.tasks}
        return [(images.paths[row], {t.name: t.classes[labels[t.name][row]] for t in self.run.tasks
                                     if labels[t.name][row] >= 0}) for row in rows]


def _shown(source: str, signed: SignedMap) -> dict:
    """Signed cells (int8 times 'scale', base64), their sum, the effect they should add up to, the top five channels."""
    cells = signed.cells[0]
    fold = max(1, -(-max(cells.shape) // MAP_SIDE))
    padded = np.pad(cells, [(0, -n % fold) for n in cells.shape])
    folded = padded.reshape(padded.shape[0] // fold, fold, -1, fold).sum(axis=(1, 3))
    scale = max(float(np.abs(folded).max()), 1e-12) / 127
    channels = () if signed.channels is None else zip(*top_channels(signed), strict=True)
    return {
        "source": source, "size": folded.shape, "scale": scale, "cells": packed((folded / scale).round(), "i1"),
        "sum": float(cells.sum()), "effect": float(signed.effect[0]),
        "channels": [[int(k), round(float(v), 5)] for k, v in channels],
    }


def _mean_map(maps: Tensor) -> dict:
    mean = maps[0].float().mean(dim=0, keepdim=True)
    small = nn.functional.adaptive_avg_pool2d(mean, [min(side, FLOW_SIDE) for side in mean.shape[1:]])[0]
    cells = ((small - small.min()) / (small.max() - small.min()).clamp(min=1e-12) * 255).round()
    return {"size": list(cells.shape), "cells": packed(cells.cpu().numpy(), "u1")}


def photo(path: Path | str, truth: dict | None = None, credit: str = "", name: str = "") -> dict:
    """A photo for the page: its name (the file's if it has no other), and what a network sees as a data address."""
    image, file = picture(path, SHOWN_SIDE), io.BytesIO()
    image.thumbnail((SHOWN_SIDE * 2, SHOWN_SIDE))
    image.save(file, "JPEG", quality=80)
    address = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    return {"name": name or Path(path).name, "image": address, "truth": truth or {}, "credit": credit}
