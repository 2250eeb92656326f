"""The inspector as a widget in a notebook."""

import base64
import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path

import anywidget
import traitlets
from torch import Tensor

from ..training.run import Run
from .subject import SCRIPT, STYLE, Subject, photo


class Inspector(anywidget.AnyWidget):
    """Photos of a run's own data (``count`` of them, in ``root``), or one's own, answered by live forward passes.

    Args:
        runs: folders of finished runs; the first one is shown.
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
            photos = [photo(path, truth, name=self.subject.names[path]) for path, truth in chosen]
        except (ValueError, FileNotFoundError) as fault:
            folder = self.folders[name]
            said = str(fault).replace(str(folder), name).replace(str(folder.parent), "FOLDER")
            self.page = {"run": name, "problem": said}
            return
        self.paths = {self.subject.names[path]: path for path, _ in chosen}
        self.page = self.subject.page(photos) | {"run": name}

    def _asked(self, _, question: dict, buffers: list) -> None:
        """Answer one question: what ('answers' or 'map'), of which photo, with which donor, task and layer."""
        if question["run"] != self.run:
            return
        about = {key: value for key, value in question.items() if not key.endswith("image")}
        try:
            self.send(about | self._answer(question))
        except Exception as fault:  # whatever it is, the page must say that no answer will come
            said = getattr(fault, "reason", str(fault))
            if not isinstance(fault, ValueError):
                logging.getLogger(__name__).exception("the inspector's question %s", about)
                said = f"the network failed on it ({type(fault).__name__}); try another photo, or start the kernel anew"
            self.send(about | {"problem": f"{question['name']}: {said}"})

    def _answer(self, question: dict) -> dict:
        mine, unusual = self._images(question["name"], question.get("image"))
        if question["what"] == "map":
            return {"maps": self.subject.map(mine, question["task"], question["target"], question["layer"])}
        if question["donor"]:
            donor, _ = self._images(question["donor"], question.get("donor_image"))
            return {"logits": self.subject.answers(mine, donor)}
        return {"logits": self.subject.answers(mine), "ledger": self.subject.ledger(mine),
                "flows": self.subject.flows(mine), "unusual": unusual}

    def _images(self, name: str, address: str | None) -> tuple[Tensor, bool]:
        """A photo of the data by its name, or one's own from its data address; whether it lies far from the data."""
        if not address:
            return self.subject.images(self.paths[name]), False
        with tempfile.TemporaryDirectory() as folder:
            own = Path(folder) / "own"
            own.write_bytes(base64.b64decode(address.partition(",")[2]))
            return self.subject.images(own), self.subject.unusual(own)


def _label(folder: Path) -> str:
    try:
        run = Run(folder)
    except (FileNotFoundError, ValueError):
        return folder.name
    return "{data}/{name}/{preset}/split{split}-seed{seed}".format(name=run.name, **run.described)
