"""Memory, and how time and memory grow; each point in a process of its own, so that nothing is left from another."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

POINT = "-c", "import sys; from bench.costs import point; point(sys.argv[1])"
AXES: dict[str, tuple[int, ...]] = {
    "images": (64, 128, 256, 512), "pixels": (64, 96, 128, 192, 256), "tasks": (2, 3, 4, 6, 8),
    "batch": (4, 8, 16, 32, 64),
}
"""What grows, and the sizes at which it is measured; 'pixels' by the side of an image."""
USUAL: dict[str, Any] = {
    "side": 96, "batch": 8, "tasks": 2, "images": 48, "epochs": 2, "backbone": "efficientnet_lite0",
}
SMALL: dict[str, tuple[int, ...]] = {"images": (8, 16), "pixels": (32, 48), "tasks": (2, 3), "batch": (2, 4)}
TINY: dict[str, Any] = {"side": 32, "batch": 4, "images": 8, "backbone": "tiny"}


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


class Enough(Exception):
    """Ends a training whose memory has been seen."""


def point(how: str) -> None:
    """Train once in this process and print what it took, as JSON: seconds of an epoch and of a step, and bytes.

    Args:
        how: JSON with side, batch, tasks, images, epochs, backbone; 'stop' ends it after so many steps, 'states'
            writes what a training could resume from.
    """
    from aesthemo_lib.device import pick_device, set_threads
    from aesthemo_lib.tasks import Task
    from aesthemo_lib.training.config import Settings
    from aesthemo_lib.training.fit import fit

    set_threads()
    spec, device = json.loads(how), pick_device("cpu")
    tasks = tuple(Task(f"task{i}", ("no", "yes")) for i in range(spec["tasks"]))
    before, passes = own_memory(), []
    settings = Settings(spec["backbone"], "none", spec["side"], spec["side"], spec["batch"], spec["epochs"], 99, 1e-5,
                        checkpoint=spec.get("checkpoint", False))
    with tempfile.TemporaryDirectory(prefix="aesthemo-bench-", ignore_cleanup_errors=True) as folder, Watch() as watch:
        network, (_images, data) = _network(spec, tasks), _data(spec, tasks, Path(folder))

        def count(module, _) -> None:
            passes.append((module.training, time.perf_counter()))
            if len(passes) > spec.get("stop", np.inf):
                raise Enough

        network.register_forward_pre_hook(count)
        state = Path(folder) / "state" if spec.get("states") else None
        with contextlib.suppress(Enough):
            fit(network, data, settings, 0, device, state)
        print(json.dumps({"epoch": _last_epoch(passes), "own": max(watch.most - before, 1), "all": watch.most,
                          "resident": most_resident(), "before": before,
                          "weights": sum(4 * weight.numel() for weight in network.parameters())}))


def _last_epoch(passes: list[tuple[bool, float]]) -> float:
    """Seconds from the last epoch's first pass to its validation."""
    ends = [i for i, (training, _) in enumerate(passes) if not training]
    if len(ends) < 2:
        return passes[-1][1] - passes[0][1]
    return passes[ends[-1]][1] - passes[ends[-2] + 1][1]


def _network(spec: dict, tasks: tuple):
    from aesthemo_lib.models.networks import build

    return build("cross_branch", tasks, spec["backbone"], "imagenet" if spec["backbone"].startswith("eff") else "none",
                 "diagonal")


def _data(spec: dict, tasks: tuple, folder: Path):
    """A whole data set as a reader makes it; its pixels are a mapped file full of holes, which nobody fills."""
    from aesthemo_lib.data.images import mean_image
    from aesthemo_lib.data.table import AnnotatedImages
    from aesthemo_lib.training.fit import Data

    count, side = spec["images"] + 1, spec["side"]
    images = AnnotatedImages(
        "photos", tasks, [f"photographs/{i // 1000}/{i:07}.jpg" for i in range(count)],
        {task.name: np.eye(2)[np.arange(count) % 2] for task in tasks},
        fixed=np.array(["train"] * (count - 2) + ["validation", "test"]),
    )
    pixels = np.memmap(folder / "pixels", np.uint8, "w+", shape=(count, side, side, 3))
    split = images.split(0)
    mean = mean_image(pixels, split.train[:1000])
    return images, Data(pixels, mean, {task.name: images.labels(task.name) for task in tasks}, split.train,
                        split.validation)


def at(**how) -> dict:
    """What ``point`` finds, in a process of its own.

    Raises:
        subprocess.CalledProcessError: it failed; what it said stands on stderr.
    """
    command = [sys.executable, *POINT, json.dumps(how)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout)


def memory(job) -> Iterator[tuple]:
    """What trainings hold."""
    usual = USUAL | (TINY if job.small else {})
    vgg = usual | {"states": True, "images": 32}
    vgg |= {} if job.small else {"backbone": "vgg16", "side": 224, "batch": 16}
    plain, again = at(**vgg), at(**vgg, checkpoint=True)
    for name, memory in (("memory_vgg16", plain), ("memory_vgg16_checkpoint", again)):
        yield name, [memory["all"] / 1e9], {"profile": _parts(memory)}
    yield "checkpoint_price", [again["epoch"] / plain["epoch"]], {}
    few, many = (20, 200) if job.small else (1000, 100_000)
    lite, rounds = usual | {"epochs": 1, "stop": 6}, 1 if job.small else 4
    lite |= {} if job.small else {"side": 192, "batch": 32}
    held = {count: [at(**(lite | {"images": count}))["all"] for _ in range(rounds)] for count in (few, many)}
    lines = [f"- {count:,} images: {', '.join(f'{value / 1e9:.3f} GB' for value in held[count])}" for count in held]
    yield "memory_images", np.array(held[many]) / np.array(held[few]), {"profile": lines}
    yield "memory_per_image", (np.array(held[many]) - np.array(held[few])) / (many - few), {}


def _parts(held: dict) -> list[str]:
    """Where the memory of a training is, in lines."""
    known = {"torch and what else is imported": held["before"], "weights": held["weights"],
             "gradients": held["weights"], "momenta": held["weights"]}
    rest = held["all"] - sum(known.values())
    known["maps for the backward pass, the weights in bfloat16, what is on its way"] = rest
    known["beside these, not counted: mapped files, libraries among them"] = held["resident"] - held["all"]
    return [f"- {name}: {size / 1e9:.2f} GB" for name, size in known.items()]


def growth(job) -> Iterator[tuple]:
    """Time and memory along each axis, the others as in ``USUAL``."""
    usual, axes = USUAL | (TINY if job.small else {}), SMALL if job.small else AXES
    for axis, sizes in axes.items():
        runs = [at(**(usual | _change(axis, size, usual))) for size in sizes]
        steps = [1 if axis == "images" else USUAL["images"] / usual["batch"]] * len(sizes)
        where = [size**2 if axis == "pixels" else size for size in sizes]
        for what, values in (("time", [one["epoch"] / count for one, count in zip(runs, steps, strict=True)]),
                             ("memory", [one["own"] / 1e9 for one in runs])):
            points = list(zip(where, values, strict=True))
            unit = "s" if what == "time" else "GB"
            lines = [f"- {x:,}: {y:.4g} {unit}" for x, y in points]
            yield f"growth_{what}_{axis}", exponents(points), {"points": points, "profile": lines}


def _change(axis: str, size: int, usual: dict) -> dict:
    """What a point has of its own; as many steps for each batch."""
    if axis == "batch":
        return {"batch": size, "images": usual["images"] // usual["batch"] * size}
    return {"side": size} if axis == "pixels" else {axis: size}


def exponents(points: Sequence[tuple[float, float]]) -> list[float]:
    """The slope of a straight line through the points' logarithms, and those when either end is left out.

    1 is a straight line, 2 a parabola; a fixed cost makes it smaller. The median of the three is the row's value.
    """
    x, y = np.log(np.array(points, dtype=np.float64)).T
    kept = [slice(None), slice(1, None), slice(None, -1)] if len(points) > 2 else [slice(None)]
    return [float(np.polyfit(x[part], y[part], 1)[0]) for part in kept]
