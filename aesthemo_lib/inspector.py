"""Every answer that a photo gets with borrowed streams cut, for a page without Python and for a notebook's widget.

Two branches with L cross-branch layers borrow 2L streams, so there are 2^(2L) states of cut and uncut ones. They are
few enough to compute all, by exact forward passes in which states that begin alike share their maps; then nothing is
left to compute when somebody clicks. A cut stream carries what it carries for the mean image: nothing of this photo.
It is the ledger's baseline too. ``inspector.js`` and ``inspector.css`` draw page and widget alike.
"""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import anywidget
import numpy as np
import torch
import traitlets
from PIL import Image, ImageOps
from torch import Tensor, nn

from .attribution import image_batches
from .data.images import decode
from .files import atomic
from .ledger import trunk_ledger
from .models.fusion import Stream, evaluating, record, streams
from .plots import task_colour
from .prediction import Predictor
from .training.runs import Config, Run, open_data

MOST_SWITCHES = 10
"""2^10 states of a photo; more are not computed."""
SHOWN_SIDE = 256
PAGE_SCENES = 22
HERE = Path(__file__).parent
SCRIPT, STYLE = ((HERE / f"inspector.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))
LIBRARY_PHOTOS = {"china.jpg": "danielbuechele (flickr.com/photos/danielbuechele/6061409035)",
                  "flower.jpg": "vultilion (flickr.com/photos/vultilion/6056698931)"}
"""The two photographs that scikit-learn ships, and who took them; CC BY 2.0."""


def switches(network: nn.Module) -> list[Stream]:
    """The borrowed streams, by layer and receiver: number k is cut in the states whose bit k is set.

    Raises:
        ValueError: there are none, or too many for all states to be computed.
    """
    found = [stream for stream in streams(network) if stream.borrowed]
    if len(found) > MOST_SWITCHES:
        raise ValueError(f"the network borrows {len(found)} streams; the inspector computes all states of at most "
                         f"{MOST_SWITCHES}. attribution.cut cuts any of them one by one")
    return found


def cut_logits(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Every task's logits for (B, 3, s, s) images in every state of cut borrowed streams.

    Returns:
        (2^S, B, C) by task name, for the S streams of ``switches``; state 0 is the uncut network.
    """
    known, names = switches(network), [task.name for task in network.tasks]
    with evaluating(network), torch.inference_mode():
        instead = record(network, known, torch.zeros_like(images[:1]))
        maps = [branch["groups"][0](images)[None] for branch in network.branches]  # (U, B, K, h, w), U states so far
        for i, exchange in enumerate(network.exchanges):
            here = [stream for stream in known if stream.layer == i + 1]
            states = np.arange(len(maps[0]) << len(here))
            bits, before = states // len(maps[0]), states % len(maps[0])
            following = []
            for t, (name, branch) in enumerate(zip(names, network.branches, strict=True)):
                mine = [k for k, stream in enumerate(here) if stream.receiver == name]
                parts = []
                for pattern in range(2 ** len(mine)):  # which of the streams that this branch borrows here are cut
                    cut = {here[k].source: here[k] for place, k in enumerate(mine) if pattern >> place & 1}
                    arriving = [instead[cut[s]].expand_as(x.flatten(0, 1)) if s in cut else x.flatten(0, 1)
                                for s, x in zip(names, maps, strict=True)]
                    x = exchange.receive(t, arriving)
                    x = branch["groups"][i + 1](x) if i + 1 < len(branch["groups"]) else x
                    parts.append(x.unflatten(0, maps[t].shape[:2]))
                pattern = sum((bits >> k & 1) << place for place, k in enumerate(mine))
                following.append(torch.stack(parts)[pattern, before])
            maps = following
        return {name: branch["head"](x.flatten(0, 1)).unflatten(0, x.shape[:2])
                for name, branch, x in zip(names, network.branches, maps, strict=True)}


class Subject:
    """A finished run (or its folder) under inspection; a ValueError says that nothing is borrowed in its network."""

    def __init__(self, run: Run | Path | str):
        self.predictor = Predictor(run)
        self.run, self.network = self.predictor.run, self.predictor.network
        self.switches = switches(self.network)

    def page(self, photos: Sequence[dict]) -> dict:
        """What ``inspector.js`` draws: the network's shape, and photos (see ``photo``), answered or not."""
        told = self.run.described
        return {
            "run": str(self.run.folder), "groups": len(self.network.channels), "photos": list(photos),
            "title": f"{self.run.name}, {told['preset']}, trained on {told['data']}, split {told['split']}",
            "tasks": [{"name": t.name, "classes": list(t.classes), "colour": task_colour(t.name)}
                      for t in self.run.tasks],
            "switches": [stream._asdict() for stream in self.switches],
        }

    def images(self, path: Path | str) -> Tensor:
        """One photo as the network takes it, (1, 3, s, s); a ValueError says why a file can't be read."""
        pixels = decode(Path(path), self.run.settings.resize)[None]
        return next(image_batches(self.network, pixels, [0], self.predictor.mean, self.run.settings.crop))

    def answers(self, path: Path | str) -> dict:
        """Logits in all states (base64 of little-endian float32, state by state) and the trunk ledger, by task."""
        images = self.images(path)
        logits = {name: values[:, 0].cpu().numpy().astype("<f4") for name, values in
                  cut_logits(self.network, images).items()}
        return {
            "logits": {name: base64.b64encode(values.tobytes()).decode() for name, values in logits.items()},
            "ledger": {name: {
                "players": list(ledger.players), "sources": [s.source if s else name for s in ledger.streams],
                **{part: getattr(ledger, part)[0].round(6).tolist() for part in ("values", "logits", "baseline")},
            } for name, ledger in trunk_ledger(self.network, images).items()},
        }

    def test_photos(self, count: int, root: Path | None = None) -> list[tuple[Path, dict]]:
        """The first test images of the run's own data, each with its consensus class by task."""
        told = self.run.described
        images = open_data(Config(data=told["data"], preset=told["preset"], data_options=told["data_options"]), root)
        rows = images.split(told["split"]).test[:count]
        labels = {t.name: images.labels(t.name) for t in self.run.tasks}
        return [(images.paths[row], {t.name: t.classes[labels[t.name][row]] for t in self.run.tasks
                                     if labels[t.name][row] >= 0}) for row in rows]


def photo(path: Path | str, truth: dict | None = None, credit: str = "") -> dict:
    """A photo for the page: its name, and itself in small as a data address."""
    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image).convert("RGB")
        image.thumbnail((SHOWN_SIDE * 2, SHOWN_SIDE))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=80)
    address = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    return {"name": Path(path).name, "image": address, "truth": truth or {}, "credit": credit}


def write_page(run: Path | str, out: Path) -> Path:
    """Write the inspector as one file, of drawn scenes and scikit-learn's photographs: these may be passed on.

    Raises:
        ValueError: the run was trained on other data than scenes.
    """
    subject = Subject(run)
    if subject.run.described["data"] != "scenes":
        raise ValueError(f"{run} was trained on {subject.run.described['data']}, whose photographs may not be put into "
                         f"a page; name a run trained on scenes, or open the notebook 07_inspector")
    chosen = [(path, truth, "Drawn scene") for path, truth in subject.test_photos(PAGE_SCENES)]
    import sklearn.datasets

    folder = Path(sklearn.datasets.__file__).parent / "images"
    chosen += [(folder / name, None, f"Photograph by {who}, CC BY 2.0, as shipped with scikit-learn")
               for name, who in LIBRARY_PHOTOS.items()]
    page = subject.page([photo(path, truth, credit) | subject.answers(path) for path, truth, credit in chosen])
    page["run"] = ""  # a folder of whoever made the page says nothing to whoever reads it
    with atomic(out) as temporary:
        temporary.write_text(html(page), encoding="utf-8", newline="\n")
    return Path(out)


def html(page: dict) -> str:
    """The whole file; its policy forbids the browser to load anything else."""
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


class Inspector(anywidget.AnyWidget):
    """The same in a notebook: photos of a run's own data, or one's own, answered by live forward passes.

    Args:
        runs: folders of finished runs; the first one is shown.
        root: the data's folder.
        count: how many photos.
    """

    _esm, _css = SCRIPT, STYLE
    runs = traitlets.List(traitlets.Unicode()).tag(sync=True)
    run = traitlets.Unicode().tag(sync=True)
    page = traitlets.Dict().tag(sync=True)

    def __init__(self, runs: Iterable[Path | str], root: Path | None = None, count: int = 12):
        names = [str(run) for run in runs]
        if not names:
            raise ValueError("no runs were given; train one first, with the notebook 03_train")
        self.root, self.count = root, count
        super().__init__(runs=names, run=names[0])
        self._open({"new": names[0]})
        self.observe(self._open, "run")
        self.on_msg(self._asked)

    def _open(self, change: dict) -> None:
        try:
            self.subject = Subject(change["new"])
            chosen = self.subject.test_photos(self.count, self.root)
        except (ValueError, FileNotFoundError) as fault:
            self.page = {"run": change["new"], "problem": str(fault)}
            return
        self.paths = {path.name: path for path, _ in chosen}
        self.page = self.subject.page([photo(path, truth) for path, truth in chosen])

    def _asked(self, _, content: dict, buffers: list) -> None:
        """Answer for one photo. The page drops what comes too late."""
        if content["run"] != self.run:
            return
        try:
            self.send(content | {"image": None} | self._answers(content["name"], content.get("image")))
        except ValueError as fault:
            self.send(content | {"image": None, "problem": f"{content['name']}: {fault}"})

    def _answers(self, name: str, image: str | None) -> dict:
        if not image:
            return self.subject.answers(self.paths[name])
        with tempfile.TemporaryDirectory() as folder:
            own = Path(folder) / "own"
            own.write_bytes(base64.b64decode(image.partition(",")[2]))
            return self.subject.answers(own)
