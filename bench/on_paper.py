"""How far it scales, on paper: three sizes of data on 1, 8 and 64 GPUs, from what is measured here and what is stated.

``python -m bench.on_paper --root <OASIS>`` measures how fast photographs are decoded and read from the cache, and
writes results/scale.json and from it the table in docs/scale.md. Nobody has timed this on a GPU: the GPU's side is
computed from operations counted on the network and from ``STATED``.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from aesthemo_lib.device import set_threads
from aesthemo_lib.files import atomic, project_folder, read_json, write_json
from aesthemo_lib.models.networks import build, count_multiplies, count_parameters
from aesthemo_lib.tasks import PATENT_TASKS
from aesthemo_lib.training.config import PRESETS, Config
from aesthemo_lib.training.runs import open_data
from aesthemo_studies.iae_kit import IMAGES, SUSTAINED

SETS = {"IAE": IMAGES, "EmoSet": 118_102, "3.3 million": 3_300_000}
"""Images; EmoSet's are those of EmoSet-118K (Yang et al., ICCV 2023)."""
GPUS = (1, 8, 64)
MACHINE = 8
"""GPUs in one machine."""
BATCH = 256
"""A batch that is still trained like a small one."""
STATED = {
    "operations_a_second": SUSTAINED,
    "link_bytes_a_second": 200e9,  # within a machine: a third of NVLink's 600e9 of an A100, NVIDIA's data sheet
    "network_bytes_a_second": 20e9,  # between machines: four fifths of InfiniBand HDR's 200 Gbit/s
    "disk_bytes_a_second": 2e9,  # random reads of one NVMe disk
    "memory_bytes": 256e9,  # of a machine that can hold cached pixels
    "cores": 16,  # of a machine, for decoding
}
"""What nobody measured here. Change a figure, and the table follows."""


def measure(root: Path | None = None, data: str = "oasis", images: int = 200) -> dict:
    """Images a second that one core decodes into the cache, and bytes a second that it reads from there, in CPU time.

    CPU time, so that other work on the machine does not count.
    """
    from aesthemo_lib.data.images import load_pixels

    set_threads(1)
    side, found = PRESETS["paper"].resize, open_data(Config(data=data, preset="paper"), root)
    few = found.select(np.arange(min(images, len(found))))
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        _, pixels = load_pixels(few, side, folder=Path(folder))
        decoding = time.process_time() - began
        rows, copied = np.random.default_rng(0), 0
        began = time.process_time()
        while time.process_time() - began < 1:
            copied += pixels[rows.integers(0, len(pixels), 32)].nbytes
        reading = time.process_time() - began
        shape = pixels.shape
        del pixels  # a mapped file can't be deleted on Windows
    return {"decoded_a_core_second": round(shape[0] / decoding, 1), "read_bytes_a_core_second": round(copied / reading),
            "images": shape[0], "side": side, "data": data}


def costs() -> dict:
    """What one image and one step cost the patent's network, counted on the network itself."""
    settings = PRESETS["paper"]
    with torch.device("meta"):
        network = build("cross_branch", PATENT_TASKS, settings.backbone, "none", "random")
    return {"operations": 6 * count_multiplies(network, settings.crop), "parameters": count_parameters(network),
            "bytes": 3 * settings.resize**2, "batch": settings.batch, "epochs": settings.epochs}


def row(name: str, gpus: int, measured: dict, cost: dict, stated: dict = STATED) -> dict:
    """One data set on so many GPUs, each with the preset's batch.

    A step takes as long as the slower of computing and of exchanging gradients, which run at the same time: a ring
    moves 8 bytes a parameter (4 each way) through the slowest link.

    Returns:
        the set and GPUs, GB of cached pixels, minutes of decoding (on all machines' cores), milliseconds of a step's
        computing and exchange, MB a second that each machine reads, hours of training and what bounds it; and the hours
        with a batch of ``BATCH`` however many GPUs share it.
    """
    images, machines = SETS[name], -(-gpus // MACHINE)
    computing = cost["operations"] * cost["batch"] / stated["operations_a_second"]
    link = stated["link_bytes_a_second"] if machines == 1 else stated["network_bytes_a_second"]
    exchange = 8 * cost["parameters"] * (gpus - 1) / gpus / link
    pixels = images * cost["bytes"]
    reading = min(gpus, MACHINE) * cost["batch"] * cost["bytes"] / max(computing, exchange)
    held = pixels <= stated["memory_bytes"]
    slow = 1 if held else max(1.0, reading / stated["disk_bytes_a_second"])
    steps = -(-images // (gpus * cost["batch"])) * cost["epochs"]
    kept = max(computing * BATCH / cost["batch"] / gpus, exchange) * -(-images // BATCH) * cost["epochs"]
    bound = "disk" if slow > 1 else "exchange" if exchange > computing else "computing"
    return {
        "set": name, "gpus": gpus, "images": images, "batch": gpus * cost["batch"], "cache_gb": round(pixels / 1e9, 1),
        "cache_in_memory": held,
        "decoding_minutes": round(images / measured["decoded_a_core_second"] / stated["cores"] / machines / 60, 1),
        "step_ms": round(1000 * computing, 1), "exchange_ms": round(1000 * exchange, 1),
        "read_mb_a_second": round(reading / slow / 1e6), "steps": steps,
        "training_hours": round(steps * max(computing, exchange) * slow / 3600, 2), "bound": bound,
        "kept_batch_hours": round(kept / 3600, 2),
    }


def table(measured: dict, stated: dict = STATED) -> dict:
    """All rows, and the images a GPU needs in each step for the exchange to hide behind computing."""
    cost = costs()
    an_image = cost["operations"] / stated["operations_a_second"]
    least = {where: round(8 * cost["parameters"] / stated[f"{where}_bytes_a_second"] / an_image, 1)
             for where in ("link", "network")}
    return {"command": "python -m bench.on_paper --root <OASIS>", "measured": measured, "stated": stated,
            "counted": cost, "images_a_gpu_that_hide_the_exchange": least,
            "rows": [row(name, gpus, measured, cost, stated) for name in SETS for gpus in GPUS]}


COLUMNS = {
    "set": "images of", "gpus": "GPUs", "batch": "batch", "cache_gb": "pixels, GB", "decoding_minutes": "decoding, min",
    "step_ms": "a step computes, ms", "exchange_ms": "exchanges, ms", "read_mb_a_second": "a machine reads, MB/s",
    "training_hours": "training, h", "bound": "bound by", "kept_batch_hours": "batch 256: training, h",
}


def markdown(told: dict) -> str:
    """The rows as a Markdown table."""
    lines = [list(COLUMNS.values()), ["---"] * len(COLUMNS)]
    lines += [[str(one[key]) for key in COLUMNS] for one in told["rows"]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(page: str, told: dict) -> str:
    """The page docs/scale.md with these figures in it."""
    page = re.sub(r"\d+(?= photographs of 500 x 400)", f"{told['measured']['decoded_a_core_second']:.0f}", page)
    place = r"(<!-- table: results/scale.json -->\n).*?(\n<!-- end)"
    return re.sub(place, lambda found: found[1] + markdown(told) + found[2], page, flags=re.DOTALL)


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write results/scale.json; or with --again, only compute the table from what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, help="OASIS' folder")
    parser.add_argument("--again", action="store_true", help="keep the measured figures that the file holds")
    given, path = parser.parse_args(arguments), project_folder() / "results" / "scale.json"
    told = table(read_json(path)["measured"] if given.again else measure(given.root))
    write_json(path, told)
    page = project_folder() / "docs" / "scale.md"
    text = shown(page.read_text(encoding="utf-8"), told)
    with atomic(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(markdown(told))


if __name__ == "__main__":
    main()
