"""The process that measures one group of rows: ``python -m bench.child GROUP JSON``."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from .rows import GPU32

MODULES = {
    "vgg16": "training", "teach": "training", "lite0": "training", "prediction": "reading", "cache": "reading",
    "para_cache": "reading", "table": "scale", "cells": "scale", "processes": "scale", "memory": "costs",
    "ledgers": "ledgers", "starting": "starting", "reproduce": "starting", "reproduce_oasis": "starting",
    "tests": "gpu",
}
"""Where each group's function of its own name lies; it takes a ``Job`` and yields arguments of ``rows.row``."""


class Job:
    """What a group needs to know.

    Args:
        device: where to measure.
        small: with tiny sizes.
        root: a data set's folder.
        folder: an empty one, for files.
        kind: see ``rows.KINDS``.
    """

    def __init__(self, device: str | None, small: bool, root: str | None, folder: Path, kind: str):
        from aesthemo_lib.device import pick_device, set_threads

        set_threads()
        self.device, self.small, self.root, self.folder = pick_device(device or "cpu"), small, root, folder
        self.kind = kind


def main(arguments: list[str]) -> int:
    """Print a line for each row."""
    group, how = arguments[0], json.loads(arguments[1])
    with tempfile.TemporaryDirectory(prefix="aesthemo-bench-", ignore_cleanup_errors=True) as folder:
        os.environ["AESTHEMO_CACHE"] = folder  # nothing is found there, and nothing left behind
        if how["kind"] == GPU32:
            compute_in_float32()
        job = Job(**how, folder=Path(folder))
        work = getattr(import_module(f".{MODULES[group]}", __package__), group)
        for name, samples, more in work(job):
            print("row " + json.dumps({"name": name, "samples": [float(value) for value in samples], **more}),
                  flush=True)
    return 0


def compute_in_float32() -> None:
    """Have this process use float32 on a GPU that has something faster; products and convolutions take TF32."""
    import torch

    from aesthemo_lib import device

    torch.set_float32_matmul_precision("high")
    device.fast_precision = lambda device: torch.float32  # before the modules that import it are there


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
