"""The inspector as a widget in a notebook."""

from collections.abc import Iterable
from pathlib import Path

import anywidget
import traitlets

from .session import Session, label
from .subject import SCRIPT, STYLE


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
        self.folders = {label(Path(run)): Path(run) for run in runs}
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
        folder = self.folders[name]
        try:
            self.session = Session(folder, name, self.root, self.count)
        except (ValueError, FileNotFoundError) as fault:
            said = str(fault).replace(str(folder), name).replace(str(folder.parent), "FOLDER")
            self.page = {"run": name, "problem": said}
            return
        self.subject, self.paths, self.page = self.session.subject, self.session.paths, self.session.page

    def _asked(self, _, question: dict, buffers: list) -> None:
        if question["run"] == self.run:
            self.send(self.session.answer(question))
