"""How long one waits for the inspector: the first view of a photo, and each further change that asks the kernel.

Run it by ``python -m bench --inspector RUN``. What it takes to draw, and the way between kernel and browser
(milliseconds on one machine), come on top.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pandas as pd

from aesthemo_lib.attribution.ledger import layer_ledger, trunk_ledger
from aesthemo_lib.inspector.subject import photo
from aesthemo_lib.inspector.widget import Inspector

OPENING, FIRST, CHANGE = 5.0, 2.0, 0.3
"""Seconds that opening, a first view and a change may take."""


def opening(run: Path | str, root: Path | None = None) -> float:
    """Seconds from the start of ``aesthemo inspect`` until its address has answered with the page."""
    began, place = time.perf_counter(), ["--root", str(root)] if root else []
    command = [sys.executable, "-m", "aesthemo_lib.cli", "inspect", str(run), "--no-browser", *place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as server:
        try:
            assert server.stdout
            with urlopen(server.stdout.readline().split()[-1]) as page:
                page.read()
            return time.perf_counter() - began
        finally:
            server.terminate()


def inspector_speed(run: Path | str, root: Path | None = None, photos: int = 4) -> pd.DataFrame:
    """Answer the questions that the page asks, and take the time of each.

    Args:
        run: a finished run's folder.
        root: its data's folder.
        photos: so many are opened; one more goes before them, unmeasured.

    Returns:
        a row a question: question, seconds (the median over photos), slowest, most (what was promised), and kilobytes
        that are sent. A cut is no question: all states come with the first view. The last row is no question either,
        but the ledgers of all layers, tasks and classes of a photo, which may take as long as a change.
    """
    widget = Inspector([run], root, photos + 1)
    if "problem" in widget.page:
        raise ValueError(widget.page["problem"])
    names, layers = list(widget.paths), widget.page["layers"]
    task = widget.page["tasks"][-1]["name"]
    own = photo(widget.paths[names[0]])["image"]
    asked = {"first view": {}, "first view of an own photo": {"image": own}, "transplant": {"donor": names[0]}}
    asked |= {f"maps at layer {k}": {"what": "map", "layer": k} for k in range(1, layers + 1)}
    first = {"what": "answers", "donor": "", "task": task, "target": 0}
    images = {name: widget.subject.images(widget.paths[name]) for name in names}

    def answer(question: str, name: str) -> str:
        if question == "all ledgers":
            network, image = widget.subject.network, images[name]
            return str(len(trunk_ledger(network, image)) + len(layer_ledger(network, image)))
        return json.dumps(widget.session.answer(first | {"name": name} | asked[question]))

    rows = []
    for question in [*asked, "all ledgers"]:
        taken, sent = [], 0
        for name in names:
            began = time.perf_counter()
            sent = max(sent, len(answer(question, name)))
            taken.append(time.perf_counter() - began)
        seconds = np.array(taken[1:])
        rows.append({"question": question, "seconds": np.median(seconds), "slowest": seconds.max(),
                     "most": FIRST if question.startswith("first") else CHANGE, "kilobytes": sent / 1000})
    return pd.DataFrame(rows)
