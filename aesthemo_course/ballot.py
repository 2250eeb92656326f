"""A ballot in a notebook: two minutes, two questions per photograph, and a CSV file for the reader ``csv``.

``ballot.js`` draws it. Votes are written atomically after every click, so a kernel that dies loses nothing.
Without a browser (papermill, the site), ``vote`` fills the ballot.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import anywidget
import traitlets

from aesthemo_lib.inspector.subject import STYLE as INSPECTOR_STYLE, photo
from aesthemo_lib.plots.style import task_colour
from aesthemo_lib.tasks import PATENT_TASKS, Task

from .votes import checked_name, write_votes

HERE = Path(__file__).parent
SCRIPT = (HERE / "ballot.js").read_text(encoding="utf-8")
STYLE = INSPECTOR_STYLE + (HERE / "ballot.css").read_text(encoding="utf-8")
SECONDS = 120


class Ballot(anywidget.AnyWidget):
    """One person's ballot over a set of photographs.

    Args:
        photos: the files, the same and in the same order for everyone; copied into ``folder/photos`` if need be.
        folder: where ``votes-<name>.csv`` is written, next to the folder of photographs.
        tasks: what is asked.
        seconds: how long the ballot is open after the first vote.

    Raises:
        ValueError: two photographs have one name, or a file is no picture.
    """

    _esm, _css = SCRIPT, STYLE
    page = traitlets.Dict().tag(sync=True)
    name = traitlets.Unicode().tag(sync=True)
    votes = traitlets.Dict().tag(sync=True)  # {photograph's name: {task name: class}}
    said = traitlets.Unicode().tag(sync=True)

    def __init__(self, photos: Sequence[Path], folder: Path | str, tasks: tuple[Task, ...] = PATENT_TASKS,
                 seconds: int = SECONDS):
        self.folder, self.tasks = Path(folder), tasks
        self._written: Path | None = None
        names = [Path(path).name for path in photos]
        if len(set(names)) < len(names):
            raise ValueError(f"two photographs are called {max(names, key=names.count)!r}; rename one")
        (self.folder / "photos").mkdir(parents=True, exist_ok=True)
        for path in photos:
            if not (self.folder / "photos" / Path(path).name).exists():
                shutil.copyfile(path, self.folder / "photos" / Path(path).name)
        super().__init__(page={
            "seconds": seconds, "photos": [photo(self.folder / "photos" / name) for name in names],
            "tasks": [{"name": t.name, "classes": list(t.classes), "colour": task_colour(t.name)} for t in tasks],
        })
        self.observe(self._write, ["votes", "name"])

    def vote(self, photograph: str, **classes: str) -> None:
        """Vote as a click would: ``vote("scene_00003.jpg", aesthetics="high", emotion="awe")``."""
        self.votes = self.votes | {photograph: self.votes.get(photograph, {}) | classes}

    @property
    def file(self) -> Path:
        """The CSV of this name.

        Raises:
            ValueError: the name cannot be used, see ``votes.checked_name``.
        """
        return self.folder / f"votes-{checked_name(self.name).replace(' ', '_')}.csv"

    def _write(self, _) -> None:
        """Write what was voted so far; anything from the browser that is no photograph or class is ignored."""
        if not self.votes:
            return
        rows = []
        for shown in self.page["photos"]:
            given = self.votes.get(shown["name"], {})
            classes = {t.name: given[t.name] for t in self.tasks if given.get(t.name) in t.classes}
            rows += [{"path": f"photos/{shown['name']}", **classes}] if classes else []
        try:
            path = write_votes(self.file, self.name, rows, self.tasks)
            if self._written and self._written != path:
                self._written.unlink(missing_ok=True)  # the name was corrected
            self._written = path
            self.said = f"{len(rows)} of {len(self.page['photos'])} photographs, saved in {self.file.name}"
        except (ValueError, OSError) as fault:
            self.said = f"Not saved: {fault}"
