"""The inspector as one HTML file that needs no kernel."""

import json
from html import escape
from pathlib import Path
from string import Template

import numpy as np
import torch
from torch import Tensor

from ..evaluation.metrics import softmax
from ..files import atomic
from .subject import HERE, SCRIPT, STYLE, Subject, photo

PAGE, LIVE = ((HERE / name).read_text(encoding="utf-8") for name in ("page.html", "live.js"))
PAGE_SCENES = 22
LIBRARY_PHOTOS = {"china.jpg": "danielbuechele (flickr.com/photos/danielbuechele/6061409035)",
                  "flower.jpg": "vultilion (flickr.com/photos/vultilion/6056698931)"}
"""The two photographs that scikit-learn ships, and who took them; CC BY 2.0."""


def write_page(run: Path | str, out: Path) -> Path:
    """Write the inspector as one file, of drawn scenes and scikit-learn's photographs: these may be passed on.

    Raises:
        ValueError: the run was trained on other data than scenes, or nothing is borrowed in its network.
    """
    subject = Subject(run)
    if subject.run.described["data"] != "scenes":
        raise ValueError(f"{run} was trained on {subject.run.described['data']}, whose photographs may not be put into "
                         f"a page; name a run trained on scenes, or open the notebook 07_inspector")
    if not subject.switches:
        raise ValueError(f"{run}: a page shows what cut streams change, but {subject.reason}")
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
        photo(path, truth, credit) | {"unusual": subject.unusual(path)}
        | _beforehand(subject, images, path.name, donors, uncut[path.name])
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
    row = {task: 0 if len(shares) == 2 else int(shares.argmax()) for task, shares in uncut.items()}
    return {"logits": logits, "ledger": subject.ledger(mine), "flows": subject.flows(mine),
            "maps": {f"{task}/{c}/{i}": subject.map(mine, task, c, i) for task, c in row.items() for i in layers}}


def html(page: dict, live: bool = False) -> str:
    """The whole file; its policy forbids the browser to load anything else.

    Args:
        live: whether it asks where it came from ('ask'), or holds all answers.
    """
    asking = "; connect-src 'self'" if live else ""
    data = json.dumps(page, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")  # no tag can end the script
    start = LIVE.rstrip() if live else 'inspect(document.getElementById("inspector"), data, {address: true});'
    return Template(PAGE).substitute(asking=asking, title=escape(page["title"]), style=STYLE, data=data, script=SCRIPT,
                                     start=start)
