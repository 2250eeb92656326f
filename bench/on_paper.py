"""How far training scales, on paper: ``python -m bench.on_paper`` prints the table of docs/scale.md."""

from collections.abc import Iterator

import torch

from aesthemo_lib.models.networks import build, count_multiplies, count_parameters
from aesthemo_lib.tasks import PATENT_TASKS
from aesthemo_lib.training.config import PRESETS
from aesthemo_studies.iae_protocol import IMAGES, SUSTAINED

SETS = {"IAE": IMAGES, "EmoSet": 118_102, "3.3 million": 3_300_000}  # EmoSet-118K (Yang et al., ICCV 2023)
MACHINE, BATCH = 8, 256  # GPUs in one machine; a batch that still trains like a small one
LINK = 200e9  # bytes a second within a machine: a third of NVLink's 600e9 of an A100, NVIDIA's data sheet
NETWORK = 20e9  # between machines: four fifths of InfiniBand HDR's 200 Gbit/s
COLUMNS = ("images of", "GPUs", "batch", "pixels, GB", "a step computes, ms", "exchanges, ms", "a machine reads, MB/s",
           "training, h", "batch 256: training, h")


def rows() -> Iterator[tuple]:
    """Computing and the ring that moves 8 bytes a parameter (4 each way) run at once: the slower one counts."""
    preset = PRESETS["paper"]
    with torch.device("meta"):
        network = build("cross_branch", PATENT_TASKS, preset.backbone, "none", "random")
    computing = 6 * count_multiplies(network, preset.crop) * preset.batch / SUSTAINED  # x 2 to add, x 3 to go back
    for name, images in SETS.items():
        for gpus in (1, 8, 64):
            batch, pixels = gpus * preset.batch, 3 * preset.resize**2
            ring = 8 * count_parameters(network) * (gpus - 1) / gpus / (LINK if gpus <= MACHINE else NETWORK)
            step, small_step = max(computing, ring), max(computing * BATCH / batch, ring)
            hours = [preset.epochs / 3600 * -(-images // size) * seconds
                     for size, seconds in ((batch, step), (BATCH, small_step))]
            bytes_read = min(gpus, MACHINE) * preset.batch * pixels / step
            yield (name, gpus, batch, round(images * pixels / 1e9, 1), round(1000 * computing, 1),
                   round(1000 * ring, 1), round(bytes_read / 1e6), *(round(hour, 2) for hour in hours))


def table() -> str:
    """The rows as a Markdown table."""
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (COLUMNS, ["---"] * len(COLUMNS), *rows()))


if __name__ == "__main__":
    print(table())
