"""``figures/inspector.html``: the inspector in one file that needs no kernel, since all answers are in it.

It holds photos that may be passed on: photographs that other packages ship (``inspector.samples``), judged by the
bundled network for photographs, and drawn scenes, judged by that for scenes:

    python -m aesthemo_studies inspector-page
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aesthemo_lib.evaluation.metrics import softmax
from aesthemo_lib.files import atomic
from aesthemo_lib.inspector.page import html
from aesthemo_lib.inspector.subject import Subject, photo

PAGE_SCENES = 22
BUNDLED = {"photographs": "photographs", "drawn scenes": "scenes"}
"""By what the page calls them, the bundled networks."""


def write_page(runs: Mapping[str, Path], out: Path) -> Path:
    """Write the inspector of some runs, by what the page calls them, as one file of photos that may be passed on.

    Raises:
        ValueError: a run's photographs may not be passed on, or nothing is borrowed in its network.
    """
    pages = [_page(name, Path(run)) for name, run in runs.items()]
    with atomic(out) as temporary:
        temporary.write_text(html(pages), encoding="utf-8", newline="\n")
    return Path(out)


def _page(name: str, run: Path) -> dict:
    subject = Subject(run)
    data = subject.run.described["data"]
    if data != "scenes" and (run / "predictions.csv").exists():
        raise ValueError(f"{run} was trained on {data}, whose photographs may not be put into a page; name a run "
                         f"trained on scenes, or open the notebook 07_inspector")
    if not subject.switches:
        raise ValueError(f"{run}: a page shows what cut streams change, but {subject.reason}")
    chosen = subject.photos(PAGE_SCENES)
    images = {path.name: subject.images(path) for path, *_ in chosen}
    with torch.inference_mode():
        uncut = {name: {task: softmax(values.cpu().numpy())[0] for task, values in subject.network(one).items()}
                 for name, one in images.items()}
    donors = _donors(subject, uncut)
    return subject.page([
        photo(path, truth, credit or "Drawn scene") | {"unusual": subject.unusual(images[path.name])}
        | _beforehand(subject, images, path.name, donors, uncut[path.name])
        for path, truth, credit in chosen
    ]) | {"donors": donors, "run": name}


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
    row = {task: 0 if len(shares) == 2 else int(shares.argmax()) for task, shares in uncut.items()}
    return {"logits": logits, "ledger": subject.ledger(mine), "flows": subject.flows(mine),
            "maps": {f"{task}/{c}/{i}": subject.map(mine, task, c, i) for task, c in row.items() for i in layers}}
