"""What trainings hold in memory; each in a process of its own, so that nothing is left from another."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

POINT = "-c", "import sys; from bench.costs import point; point(sys.argv[1])"
BIG = {"backbone": "vgg16", "side": 224, "batch": 16}
TINY = {"backbone": "tiny", "side": 32, "batch": 4}


class Watch(threading.Thread):
    """Samples the memory that is this process' own while a block runs.

    Attributes:
        most: bytes; pages of mapped files, which the system can take back at any time, don't count.
    """

    def __init__(self):
        super().__init__(daemon=True)
        self.most, self.ended = own_memory(), threading.Event()

    def run(self):
        while not self.ended.wait(0.02):
            self.most = max(self.most, own_memory())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()
        self.most = max(self.most, own_memory())


def own_memory() -> int:
    """Anonymous bytes of this process: Linux says so, elsewhere it is what no other process shares."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))
    return psutil.Process().memory_full_info().uss


def most_resident() -> int:
    """The most bytes that this process ever had in memory, mapped libraries included."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def point(how: str) -> None:
    """Train two epochs of two steps in this process and print, as JSON, the CPU seconds of the last one and bytes.

    Args:
        how: JSON with backbone, side, batch and checkpoint.
    """
    from aesthemo_lib.device import pick_device, set_threads
    from aesthemo_lib.models.networks import build
    from aesthemo_lib.tasks import PATENT_TASKS
    from aesthemo_lib.training.config import Settings
    from aesthemo_lib.training.fit import Data, fit

    set_threads()
    given, before, passes = json.loads(how), own_memory(), []
    side, batch, count = given["side"], given["batch"], 2 * given["batch"] + 1
    settings = Settings(given["backbone"], "none", side, side, batch, 2, 2, 1e-5, checkpoint=given["checkpoint"])
    with tempfile.TemporaryDirectory(prefix="aesthemo-bench-", ignore_cleanup_errors=True) as folder, Watch() as watch:
        pixels = np.memmap(Path(folder) / "pixels", np.uint8, "w+", shape=(count, side, side, 3))
        labels = {task.name: np.arange(count) % len(task.classes) for task in PATENT_TASKS}
        data = Data(pixels, np.zeros((side, side, 3), np.float32), labels, np.arange(count - 1), np.array([count - 1]))
        network = build("cross_branch", PATENT_TASKS, given["backbone"], "none", "diagonal")
        network.register_forward_pre_hook(lambda module, _: passes.append((module.training, time.process_time())))
        fit(network, data, settings, 0, pick_device("cpu"), Path(folder) / "state")
        print(json.dumps({"epoch": _last_epoch(passes), "all": watch.most, "resident": most_resident(),
                          "before": before, "weights": sum(4 * weight.numel() for weight in network.parameters())}))


def _last_epoch(passes: list[tuple[bool, float]]) -> float:
    """CPU seconds from the last epoch's first pass to its validation."""
    ends = [i for i, (training, _) in enumerate(passes) if not training]
    return passes[ends[-1]][1] - passes[ends[-2] + 1][1]


def at(**how) -> dict:
    """What ``point`` finds, in a process of its own.

    Raises:
        subprocess.CalledProcessError: it failed; what it said stands on stderr.
    """
    command = [sys.executable, *POINT, json.dumps(how)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout)


def memory(job) -> Iterator[tuple]:
    """What trainings hold."""
    sizes = TINY if job.small else BIG
    plain, again = at(**sizes, checkpoint=False), at(**sizes, checkpoint=True)
    for name, held in (("memory_vgg16", plain), ("memory_vgg16_checkpoint", again)):
        yield name, [held["all"] / 1e9], {"profile": _parts(held)}
    yield "checkpoint_price", [again["epoch"] / plain["epoch"]], {}


def _parts(held: dict) -> list[str]:
    """Where the memory of a training is, in lines."""
    known = {"torch and what else is imported": held["before"], "weights": held["weights"],
             "gradients": held["weights"], "momenta": held["weights"]}
    rest = held["all"] - sum(known.values())
    known["maps for the backward pass, the weights in bfloat16, what is on its way"] = rest
    known["beside these, not counted: mapped files, libraries among them"] = held["resident"] - held["all"]
    return [f"- {name}: {size / 1e9:.2f} GB" for name, size in known.items()]
