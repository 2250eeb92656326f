"""The process that measures one group of rows: ``python -m bench.child GROUP JSON``."""

from __future__ import annotations

import json
import sys
import tempfile
from importlib import import_module
from pathlib import Path

MODULES = {
    "vgg16": "training", "vgg16_plain": "training", "teach": "training", "vgg16_prediction": "reading",
    "teach_prediction": "reading", "cache": "reading", "memory": "costs", "growth": "costs", "ledgers": "ledgers",
    "starting": "starting", "reproduce": "starting", "reproduce_oasis": "starting",
}
"""Where each group's function of its own name lies; it takes a ``Job`` and yields arguments of ``rows.row``."""


class Job:
    """What a group needs to know.

    Args:
        device: where to measure.
        small: with tiny sizes.
        root: OASIS' folder.
        folder: an empty one, for files.
    """

    def __init__(self, device: str | None, small: bool, root: str | None, folder: Path):
        from aesthemo_lib.device import pick_device, set_threads

        set_threads()
        self.device, self.small, self.root, self.folder = pick_device(device), small, root, folder


def main(arguments: list[str]) -> int:
    """Print a line for each row."""
    group, how = arguments[0], json.loads(arguments[1])
    with tempfile.TemporaryDirectory(prefix="aesthemo-bench-", ignore_cleanup_errors=True) as folder:
        job = Job(how["device"], how["small"], how["root"], Path(folder))
        work = getattr(import_module(f".{MODULES[group]}", __package__), group)
        for name, samples, more in work(job):
            print("row " + json.dumps({"name": name, "samples": [float(value) for value in samples], **more}),
                  flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
