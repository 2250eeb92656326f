"""The inspector as a widget in a notebook."""

from __future__ import annotations

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
        """Answer one question: what ('answers' or 'map'), of which photo, with which donor, state, task and layer."""
        if question["run"] != self.run:
            return
        about = {key: value for key, value in question.items() if not key.endswith("image")}
        try:
            self.send(about | self._answer(question))
        except ValueError as fault:
            self.send(about | {"problem": f"{question['name']}: {getattr(fault, 'reason', fault)}"})
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
