"""The inspector: a photo's answers under every cut and transplant of borrowed streams, for a page and for a widget.

``inspector.js`` and ``inspector.css`` draw both. In a page all answers are known beforehand (``states.py``); the widget
asks its kernel, which sends numbers, never pictures.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import tempfile
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import anywidget
import numpy as np
import torch
import traitlets
from PIL import Image, ImageOps
from torch import Tensor

from .attribution import SignedMap, image_batches, integrated_gradients, top_channels
from .data.images import decode
from .evaluation import softmax
from .files import atomic
from .ledger import trunk_ledger
from .null_bars import null_bars
from .plots import task_colour
from .prediction import Predictor
from .states import MOST_SWITCHES, all_logits, distinct, idle, state_logits, stream_maps, switches
from .training.runs import Config, Run, open_data

SHOWN_SIDE = 256
MAP_SIDE = 32
"""Larger maps are summed up to this many cells a side before they are sent."""
PIXEL_STEPS = 12
"""Of integrated gradients on the pixels, where there is no stream to look at."""
PAGE_SCENES = 22
HERE = Path(__file__).parent
SCRIPT, STYLE = ((HERE / f"inspector.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))
LIBRARY_PHOTOS = {"china.jpg": "danielbuechele (flickr.com/photos/danielbuechele/6061409035)",
                  "flower.jpg": "vultilion (flickr.com/photos/vultilion/6056698931)"}
"""The two photographs that scikit-learn ships, and who took them; CC BY 2.0."""


def packed(values: np.ndarray, kind: str) -> str:
    """Numbers as base64 of a little-endian type, such as '<f4', for ``inspector.js``.

    >>> packed(np.array([1.0]), "<f4")
    'AACAPw=='
    """
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode()


class Subject:
    """A finished run (or its folder) under inspection.

    Attributes:
        switches: the borrowed streams that can be closed; none where nothing is borrowed, and ``reason`` says why.

    >>> from .pretrained import packaged_run
    >>> subject = Subject(packaged_run())
    >>> len(subject.switches), subject.complete
    (8, True)
    """

    def __init__(self, run: Run | Path | str):
        self.predictor = Predictor(run)
        self.run, self.network = self.predictor.run, self.predictor.network
        try:
            self.switches, self.reason = switches(self.network), ""
        except ValueError as fault:
            self.switches, self.reason = [], str(fault)

    @property
    def complete(self) -> bool:
        """Whether all states of a photo are computed at once."""
        return len(self.switches) <= MOST_SWITCHES

    def page(self, photos: Sequence[dict]) -> dict:
        """What ``inspector.js`` draws: the network's shape, and photos (see ``photo``), answered or not."""
        told = self.run.described
        masks = {t.name: idle(self.network, t.name) if self.switches else 0 for t in self.run.tasks}
        return {
            "run": "", "groups": len(self.network.channels), "photos": list(photos), "reason": self.reason,
            "title": f"{self.run.name}, {told['preset']}, trained on {told['data']}, split {told['split']}",
            "tasks": [{"name": t.name, "classes": list(t.classes), "colour": task_colour(t.name), "idle": masks[t.name]}
                      for t in self.run.tasks],
            "switches": [stream._asdict() for stream in self.switches],
            "layers": len(getattr(self.network, "exchanges", ())) if self.switches else 0,
            "complete": self.complete, "donors": None, "null": null_bars(self.run) if self.switches else None,
        }

    def images(self, path: Path | str) -> Tensor:
        """One photo as the network takes it, (1, 3, s, s); a ValueError says why a file can't be read."""
        pixels = decode(Path(path), self.run.settings.resize)[None]
        return next(image_batches(self.network, pixels, [0], self.predictor.mean, self.run.settings.crop))

    def answers(self, images: Tensor, instead: Tensor | None = None, state: int = 0) -> dict:
        """Logits by task (float32, base64): of every state that can differ, else of the one state that was asked for.

        Args:
            images: (1, 3, s, s).
            instead: what a closed stream carries, see ``states.state_logits``.
            state: where there are too many states.
        """
        if not self.switches:
            with torch.inference_mode():
                found = {name: values[None] for name, values in self.network(images).items()}
        elif self.complete:
            found = {name: values[distinct(self.network, name)]
                     for name, values in all_logits(self.network, images, instead).items()}
        else:
            found = {name: values[None] for name, values in state_logits(self.network, images, state, instead).items()}
        return {name: packed(values[:, 0].cpu().numpy(), "<f4") for name, values in found.items()}

    def ledger(self, images: Tensor) -> dict | None:
        """The trunk ledger by task, against the mean image; None where nothing is borrowed."""
        if not self.switches:
            return None
        return {name: {
            "players": list(ledger.players), "sources": [s.source if s else name for s in ledger.streams],
            **{part: getattr(ledger, part)[0].round(6).tolist() for part in ("values", "logits", "baseline")},
            "error": None if ledger.standard_error is None else float(ledger.standard_error.max()),
        } for name, ledger in trunk_ledger(self.network, images).items()}

    def map(self, images: Tensor, task: str, target: int, layer: int) -> list[dict]:
        """Where in one photo a logit comes from: through each stream of a layer, or in the pixels where there is none.

        Returns:
            for each map its source, signed cells (int8 times 'scale', base64), their sum, the effect that they should
            add up to, and the five channels with the largest share.
        """
        if not self.switches:
            return [_shown("pixels", integrated_gradients(self.network, images, task, target, steps=PIXEL_STEPS))]
        found = stream_maps(self.network, images, task, target, layer)
        return [_shown(s.source, found[s]) for s in sorted(found, key=lambda s: s.borrowed)]

    def test_photos(self, count: int, root: Path | None = None) -> list[tuple[Path, dict]]:
        """The first test images of the run's own data, each with its consensus class by task."""
        told = self.run.described
        images = open_data(Config(data=told["data"], preset=told["preset"], data_options=told["data_options"]), root)
        rows = images.split(told["split"]).test[:count]
        labels = {t.name: images.labels(t.name) for t in self.run.tasks}
        return [(images.paths[row], {t.name: t.classes[labels[t.name][row]] for t in self.run.tasks
                                     if labels[t.name][row] >= 0}) for row in rows]


def _shown(source: str, found: SignedMap) -> dict:
    cells = found.cells[0]
    fold = max(1, -(-max(cells.shape) // MAP_SIDE))
    padded = np.pad(cells, [(0, -n % fold) for n in cells.shape])
    folded = padded.reshape(padded.shape[0] // fold, fold, -1, fold).sum(axis=(1, 3))
    scale = max(float(np.abs(folded).max()), 1e-12) / 127
    channels = () if found.channels is None else zip(*top_channels(found), strict=True)
    return {
        "source": source, "size": folded.shape, "scale": scale, "cells": packed((folded / scale).round(), "i1"),
        "sum": float(cells.sum()), "effect": float(found.effect[0]),
        "channels": [[int(k), round(float(v), 5)] for k, v in channels],
    }


def photo(path: Path | str, truth: dict | None = None, credit: str = "") -> dict:
    """A photo for the page: its name, and itself in small as a data address.

    >>> Image.new("RGB", (600, 400), "orange").save("orange.jpg")
    >>> seen = photo("orange.jpg", truth={"emotion": "contentment"})
    >>> seen["name"], seen["truth"], seen["image"][:23]
    ('orange.jpg', {'emotion': 'contentment'}, 'data:image/jpeg;base64,')
    """
    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image).convert("RGB")
        image.thumbnail((SHOWN_SIDE * 2, SHOWN_SIDE))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=80)
    address = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    return {"name": Path(path).name, "image": address, "truth": truth or {}, "credit": credit}


# --- a page that needs no Python


def write_page(run: Path | str, out: Path) -> Path:
    """Write the inspector as one file, of drawn scenes and scikit-learn's photographs: these may be passed on.

    Raises:
        ValueError: the run was trained on other data than scenes, or has too many states, or none.

    >>> from .training.runs import train
    >>> config = Config("scenes", preset="smoke", settings={"epochs": 1}, data_options={"images": 24, "size": 40})
    >>> run = train(config, "runs", "scenes")
    >>> write_page(run.folder, Path("inspector.html")).stat().st_size > 100_000
    True
    """
    subject = Subject(run)
    if subject.run.described["data"] != "scenes":
        raise ValueError(f"{run} was trained on {subject.run.described['data']}, whose photographs may not be put into "
                         f"a page; name a run trained on scenes, or open the notebook 07_inspector")
    if not subject.switches or not subject.complete:
        raise ValueError(f"{run}: a page holds all states of cut streams, and these are none or too many here "
                         f"({len(subject.switches)} streams); the notebook 07_inspector computes as it goes")
    import sklearn.datasets

    folder = Path(sklearn.datasets.__file__).parent / "images"
    chosen: list[tuple] = [(path, truth, "Drawn scene") for path, truth in subject.test_photos(PAGE_SCENES)]
    chosen += [(folder / name, None, f"Photograph by {who}, CC BY 2.0, as shipped with scikit-learn")
               for name, who in LIBRARY_PHOTOS.items()]
    images = {path.name: subject.images(path) for path, _, _ in chosen}
    with torch.inference_mode():
        uncut = {name: {task: softmax(values.cpu().numpy())[0] for task, values in subject.network(one).items()}
                 for name, one in images.items()}
    donors = _donors(subject, uncut)
    page = subject.page([
        photo(path, truth, credit) | _beforehand(subject, images, path.name, donors, uncut[path.name])
        for path, truth, credit in chosen
    ]) | {"donors": donors}
    with atomic(out) as temporary:
        temporary.write_text(html(page), encoding="utf-8", newline="\n")
    return Path(out)


def _donors(subject: Subject, uncut: dict) -> list[str]:
    """Of the task with the most classes, for each class the photo that the network is surest shows it."""
    task = max(subject.run.tasks, key=lambda t: len(t.classes))
    surest = {int(np.argmax(shares[task.name])): name for name, shares in
              sorted(uncut.items(), key=lambda entry: entry[1][task.name].max())}
    return [surest[c] for c in sorted(surest)]


def _beforehand(subject: Subject, images: dict[str, Tensor], name: str, donors: list[str], uncut: dict) -> dict:
    """All that the page knows of one photo: what the widget would ask its kernel for."""
    mine, layers = images[name], range(1, len(subject.network.exchanges) + 1)
    logits = {"": subject.answers(mine)}
    logits |= {donor: subject.answers(mine, images[donor]) for donor in donors if donor != name}
    answer = {task: int(shares.argmax()) for task, shares in uncut.items()}
    return {"logits": logits, "ledger": subject.ledger(mine),
            "maps": {f"{task}/{c}/{i}": subject.map(mine, task, c, i) for task, c in answer.items() for i in layers}}


def html(page: dict) -> str:
    """The whole file; its policy forbids the browser to load anything else.

    >>> page = html({"title": "a run", "photos": [], "note": "</script>"})
    >>> page.splitlines()[0], page.count("</script>")  # what the data say can't end the script
    ('<!doctype html>', 2)
    """
    data = json.dumps(page, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")  # no tag can end the script
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>What each judgement borrows: {escape(page["title"])}</title>
<style>
{STYLE}</style>
</head>
<body class="aesthemo-page">
<main id="inspector"></main>
<script type="application/json" id="data">{data}</script>
<script type="module">
{SCRIPT}
const data = JSON.parse(document.getElementById("data").textContent);
inspect(document.getElementById("inspector"), data, {{address: true}});
</script>
</body>
</html>
"""


# --- a widget that asks its kernel


class Inspector(anywidget.AnyWidget):
    """The same in a notebook: photos of a run's own data, or one's own, answered by live forward passes.

    Args:
        runs: folders of finished runs; the first one is shown.
        root: the data's folder.
        count: how many photos.

    >>> from .training.runs import train
    >>> config = Config("scenes", preset="smoke", settings={"epochs": 1}, data_options={"images": 24, "size": 40})
    >>> inspector = Inspector([train(config, "runs", "scenes").folder], root=Path("scenes"), count=2)
    >>> len(inspector.page["photos"])
    2
    """

    _esm, _css = SCRIPT, STYLE
    runs = traitlets.List(traitlets.Unicode()).tag(sync=True)
    run = traitlets.Unicode().tag(sync=True)
    page = traitlets.Dict().tag(sync=True)

    def __init__(self, runs: Iterable[Path | str], root: Path | None = None, count: int = 12):
        self.folders = {_label(Path(run)): Path(run) for run in runs}  # the browser sees no path of this machine
        if not self.folders:
            raise ValueError("no runs were given; train one first, with the notebook 03_train")
        self.root, self.count = root, count
        names = list(self.folders)
        super().__init__(runs=names, run=names[0])
        self._open({"new": names[0]})
        self.observe(self._open, "run")
        self.on_msg(self._asked)

    def _open(self, change: dict) -> None:
        name = change["new"]
        try:
            self.subject = Subject(self.folders[name])
            chosen = self.subject.test_photos(self.count, self.root)
        except (ValueError, FileNotFoundError) as fault:
            folder = self.folders[name]
            said = str(fault).replace(str(folder), name).replace(str(folder.parent), "FOLDER")
            self.page = {"run": name, "problem": said}
            return
        self.paths = {path.name: path for path, _ in chosen}
        self.page = self.subject.page([photo(path, truth) for path, truth in chosen]) | {"run": name}

    def _asked(self, _, question: dict, buffers: list) -> None:
        """Answer one question: what ('answers' or 'map'), of which photo, with which donor, state, task and layer."""
        if question["run"] != self.run:
            return
        about = {key: value for key, value in question.items() if not key.endswith("image")}
        try:
            self.send(about | self._answer(question))
        except ValueError as fault:
            self.send(about | {"problem": f"{question['name']}: {fault}"})
        except Exception as fault:  # whatever it is, the reader is told that no answer will come
            logging.getLogger(__name__).exception("the inspector's question %s", about)
            self.send(about | {"problem": f"{question['name']}: the network failed on it ({type(fault).__name__}); "
                                          f"try another photo, or start the kernel again"})

    def _answer(self, question: dict) -> dict:
        mine = self._images(question["name"], question.get("image"))
        if question["what"] == "map":
            return {"maps": self.subject.map(mine, question["task"], question["target"], question["layer"])}
        if not question["donor"]:
            return {"logits": self.subject.answers(mine, state=question["state"]),
                    "ledger": None if question["state"] else self.subject.ledger(mine)}
        donor = self._images(question["donor"], question.get("donor_image"))
        return {"logits": self.subject.answers(mine, donor, question["state"])}

    def _images(self, name: str, address: str | None) -> Tensor:
        """A photo of the data by its name, or one's own from its data address."""
        if not address:
            return self.subject.images(self.paths[name])
        with tempfile.TemporaryDirectory() as folder:
            own = Path(folder) / "own"
            own.write_bytes(base64.b64decode(address.partition(",")[2]))
            return self.subject.images(own)


def _label(folder: Path) -> str:
    """A run's place below the folder of runs, wherever it lies now."""
    try:
        run = Run(folder)
    except (FileNotFoundError, ValueError):
        return folder.name
    return "{data}/{name}/{preset}/split{split}-seed{seed}".format(name=run.name, **run.described)
