"""One run under inspection with its photos: the page, and the answers to what the page asks."""

import base64
import logging
import tempfile
from collections.abc import Sequence
from itertools import count as count_from
from pathlib import Path

from torch import Tensor

from ..training.run import Run
from .subject import Subject, photo


class Session:
    """One's own photos, and those of a run's data, answered by live forward passes.

    Args:
        folder: the run's.
        name: what the browser calls it, which sees no path of this machine.
        root, count: the data's folder, and how many of its test photos are offered.
        own: one's own photographs, which come first.
    """

    def __init__(self, folder: Path, name: str = "", root: Path | None = None, count: int = 24,
                 own: Sequence[Path] = ()):
        self.name, self.subject, self.paths = name or label(folder), Subject(folder), dict[str, Path]()
        photos = []
        for path, truth, credit in [*((path, {}, "Your photo") for path in own), *self.subject.photos(count, root)]:
            called = self.subject.names.get(path, path.name)
            called = next(one for n in count_from(1) if (one := called + f" ({n})" * (n > 1)) not in self.paths)
            self.paths[called] = path
            photos.append(photo(path, truth, credit, called))
        self.page = self.subject.page(photos) | {"run": self.name}

    def answer(self, question: dict) -> dict:
        """Answer one question: what ('answers' or 'map'), of which photo, with which donor, task and layer."""
        about = {key: value for key, value in question.items() if not key.endswith("image")}
        try:
            return about | self._answer(question)
        except Exception as fault:  # whatever it is, the page must say that no answer will come
            said = getattr(fault, "reason", str(fault))
            if not isinstance(fault, ValueError):
                logging.getLogger(__name__).exception("the inspector's question %s", about)
                said = f"the network failed on it ({type(fault).__name__}); try another photo, or start again"
            return about | {"problem": f"{question['name']}: {said}"}

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
            images = self.subject.images(own)
        return images, self.subject.unusual(images)


def label(folder: Path) -> str:
    """A run's name for a browser: data, method, preset, split and seed; the folder's own where it can't be read."""
    try:
        run = Run(folder)
    except (FileNotFoundError, ValueError):
        return folder.name
    return "{data}/{name}/{preset}/split{split}-seed{seed}".format(name=run.name, **run.described)
