"""The rows of the benchmark: what each must reach, how they are kept, and the page that shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from aesthemo_lib.device import pick_device

COMMAND = "make bench"


class Spec(NamedTuple):
    """What a row is.

    Args:
        group: what is measured together, in one process.
        what: in a line.
        unit: '1' for a ratio.
        target: None where the row only informs.
        better: 'more' or 'less'.
        why: what its profile shows where it misses.
    """

    group: str
    what: str
    unit: str = "1"
    target: float | None = None
    better: str = "more"
    why: str = ""


STEP = "Where one bare step's time goes, each operation beside this machine's roofline:"
FLOOR = ("Decoding and forward pass both want all cores, so that overlapping them only takes time on a processor: the "
         "floor is their sum. On a GPU, which leaves the cores to the decoder, they overlap.")
RESIZED = ("Seconds of each part. What is added is nearly all torch's antialiased resizing, which can't run beside a "
           "forward pass that wants all cores:")
GROWN = "The points that the line was fitted to:"
ROWS = {
    "vgg16_loop_16": Spec("vgg16", "VGG16 pair, 224 px, batch 16: the real fit loop over the bare step", "1", 0.97,
                          why=STEP),
    "vgg16_loop_32": Spec("vgg16", "VGG16 pair, 224 px, batch 32: the real fit loop over the bare step", "1", 0.97,
                          why=STEP),
    "vgg16_peak_32": Spec("vgg16", "VGG16 pair, batch 32: the fit loop over the best matrix product of the same "
                          "precision", "1", 0.90, why=STEP),
    "vgg16_images": Spec("vgg16", "VGG16 pair, batch 32: the fit loop's speed", "images/s"),
    "matrix_peak": Spec("vgg16", "the best product of two square matrices", "TFLOP/s"),
    "vgg16_plain": Spec("vgg16_plain", "VGG16 pair, batch 16: the fit loop over a plain one (float32, contiguous, "
                        "files decoded each epoch)", "1", 2.3, why="Seconds of either:"),
    "teach_plain": Spec("teach", "EfficientNet-Lite0 pair, 192 px, batch 32: the fit loop over the plain one", "1", 2.0,
                        why="Seconds of either; what bounds the step stands below."),
    "teach_loop": Spec("teach", "EfficientNet-Lite0 pair: the fit loop over the bare step"),
    "teach_images": Spec("teach", "EfficientNet-Lite0 pair: the fit loop's speed", "images/s"),
    "teach_roofline": Spec("teach", "EfficientNet-Lite0 pair: the seconds that the roofline grants a step, over the "
                           "seconds that it takes"),
    "vgg16_cached": Spec("vgg16_prediction", "VGG16 pair: prediction from cached pixels over the forward pass alone",
                         "1", 0.95, why="Seconds of each part:"),
    "vgg16_files": Spec("vgg16_prediction", "VGG16 pair: prediction from JPEG files over the slower of decoding and "
                        "forward pass", "1", 0.85, why=FLOOR),
    "teach_cached": Spec("teach_prediction", "EfficientNet-Lite0 pair: prediction from cached pixels over the forward "
                         "pass alone", "1", 0.95, why=RESIZED),
    "teach_files": Spec("teach_prediction", "EfficientNet-Lite0 pair: prediction from JPEG files over the slower of "
                        "decoding and forward pass", "1", 0.85, why=FLOOR),
    "teach_files_floor": Spec("teach_prediction", "the same over decoding and forward pass one after the other"),
    "cold_cache": Spec("cache", "a cold cache of 2,000 photographs over the decoder alone", "1", 0.90,
                       why="Seconds of each. Decoder and writing want the same cores. What writing costs is the "
                           "system's: a new file takes memory that was free, which a virtual machine hands out page "
                           "by page:"),
    "memory_vgg16": Spec("memory", "VGG16 pair, batch 16: the most anonymous memory that a training holds, states "
                         "written", "GB",
                         6.0, "less", "What a training holds:"),
    "memory_vgg16_checkpoint": Spec("memory", "the same with the setting checkpoint, which computes maps again in the "
                                    "backward pass", "GB", 6.0, "less", "What a training holds:"),
    "checkpoint_price": Spec("memory", "the price of that: seconds of a step over those without"),
    "memory_images": Spec("memory", "training on 100,000 images over training on 1,000: anonymous memory", "1", 1.05,
                          "less", "Memory of both:"),
    "memory_per_image": Spec("memory", "what each further image holds: its path, votes and labels", "bytes"),
    "ledgers_captum": Spec("ledgers", "captum's ShapleyValues, layer by layer and class by class, over the ledgers of "
                           "all layers, tasks and classes", "1", 50.0, why="Seconds of either:"),
    "ledgers_set": Spec("ledgers", "ledgers over a data set: the network's own operations over all of the time", "1",
                        0.85, why="Where the time goes:"),
    "start_help": Spec("starting", "aesthemo --help", "s", 0.3, "less", "Seconds, run by run:"),
    "start_import": Spec("starting", "import aesthemo_lib, beyond torch's own import", "s", 0.3, "less",
                         "Seconds, run by run:"),
    "start_training": Spec("starting", "import aesthemo_lib.training.runs, all that a training needs, beyond torch's "
                           "own (pandas is most of it)", "s"),
    "growth_time_images": Spec("growth", "an epoch's time against images: exponent", "1", 1.1, "less", GROWN),
    "growth_time_pixels": Spec("growth", "a step's time against pixels an image: exponent", "1", 1.1, "less", GROWN),
    "growth_time_tasks": Spec("growth", "a step's time against branches, one a task: exponent", "1", 1.1, "less",
                              GROWN),
    "growth_time_batch": Spec("growth", "a step's time against the batch: exponent", "1", 1.1, "less", GROWN),
    "growth_memory_images": Spec("growth", "memory against images: exponent", "1", 1.1, "less", GROWN),
    "growth_memory_pixels": Spec("growth", "memory against pixels an image: exponent", "1", 1.1, "less", GROWN),
    "growth_memory_tasks": Spec("growth", "memory against branches, one a task: exponent", "1", 1.1, "less", GROWN),
    "growth_memory_batch": Spec("growth", "memory against the batch: exponent", "1", 1.1, "less", GROWN),
    "reproduce_scenes": Spec("reproduce", "make reproduce, from nothing drawn or decoded", "min", 5.0, "less"),
    "reproduce_oasis": Spec("reproduce_oasis", "make reproduce DATA=oasis", "min", 12.0, "less",
                            why="Where the time goes: training, nearly all of it, at the speed of the row "
                                "`teach_images`; less of it would be another result."),
}
"""In the table's order. Rows of one group are measured together."""
LONG = ("reproduce", "reproduce_oasis")
"""Groups that are measured only when they are named."""
CPU_ONLY = ("memory", "cache", "ledgers", "starting", "growth")
"""Groups that say nothing of a GPU."""
PICTURE = "How time and memory grow with images, pixels, branches and batch: measured points with fitted lines."


def row(name: str, samples: Iterable[float], machine: str, target: float | None = None, profile: Sequence[str] = (),
        points: Sequence[tuple] = ()) -> dict:
    """A row of ``bench.json``.

    Args:
        name: one of ``ROWS``.
        samples: what each round, or each pair of runs, gave; the median is the value, the extremes are the spread.
        machine: see ``describe``.
        target: another than the row's own, where that depends on the machine.
        profile: lines of Markdown that show what bounds it.
        points: (x, y) that a line was fitted to.
    """
    spec, values = ROWS[name], np.asarray(list(samples), dtype=np.float64)
    target, value = spec.target if target is None else target, rounded(np.median(values))
    holds = None if target is None else value >= target if spec.better == "more" else value <= target
    return {
        "name": name, "value": value, "target": target, "unit": spec.unit, "holds": holds, "better": spec.better,
        "spread": [rounded(values.min()), rounded(values.max())], "rounds": len(values), "what": spec.what,
        "profile": list(profile), "points": [[rounded(x), rounded(y)] for x, y in points], "machine": machine,
    }


def rounded(value: float) -> float:
    """To four digits."""
    return float(f"{value:.4g}")


def groups(names: Sequence[str], device: str | None = None) -> list[str]:
    """The groups that hold these rows (or are so called); all but ``LONG`` ones if none is named.

    Raises:
        ValueError: an unknown name.
    """
    known = list(dict.fromkeys(spec.group for spec in ROWS.values()))
    unknown = [name for name in names if name not in known and name not in ROWS]
    if unknown:
        raise ValueError(f"rows: unknown {unknown[0]!r}; choose of {', '.join(ROWS)}, or of their groups "
                         f"{', '.join(known)}")
    if not names:
        skipped = (*LONG, *(CPU_ONLY if pick_device(device).type == "cuda" else ()))
        return [group for group in known if group not in skipped]
    wanted = {ROWS[name].group if name in ROWS else name for name in names}
    return [group for group in known if group in wanted]


