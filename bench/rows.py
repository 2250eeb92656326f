"""The rows of the benchmark: what each must reach, on which kind of processor it is measured, and how it is kept."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

COMMAND = "make bench"
AVX512, AVX2, EITHER = "AVX-512 with bfloat16", "AVX2 in float32", "either kind"
GPU, GPU32 = "GPU in bfloat16", "GPU in float32"
KINDS: dict[str, dict[str, str]] = {
    AVX512: {}, AVX2: {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}, EITHER: {}, GPU: {}, GPU32: {},
}
"""The environment in which a kind is measured. With AVX2's variables a processor that has more stands in for one that
has not; ``device.fast_precision`` is float32 then. What a GPU computes in, the process that measures sets."""


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
EACH = "Seconds of each, round by round:"
VGG, LITE = "VGG16 pair, 224 px, batch 16 (8 in float32 on a processor)", "EfficientNet-Lite0 pair, preset teach"
ROWS = {
    "vgg16_loop": Spec("vgg16", f"{VGG}: the real fit loop over the bare step", "1", 0.95, why=STEP),
    "vgg16_peak": Spec("vgg16", "the same: the fit loop over the best matrix product of the same precision", "1", 0.85,
                       why=STEP),
    "vgg16_images": Spec("vgg16", "the same: the fit loop's speed", "images/s"),
    "matrix_peak": Spec("vgg16", "the best product of two square matrices", "TFLOP/s"),
    "vgg16_memory": Spec("vgg16", "the same: the most memory of the GPU that it took", "GB"),
    "teach_loop": Spec("teach", f"{LITE}: the real fit loop over the bare step", "1", 0.95, why=EACH),
    "teach_plain": Spec("teach", "the same over a plain loop (float32, contiguous, files decoded and frozen groups "
                        "computed each epoch; its own share of computing their maps counted)", "1", 2.0, why=EACH),
    "teach_roofline": Spec("teach", "the same: the seconds that the roofline grants a step, over the seconds that it "
                           "takes", "1", 0.6, why="What bounds the step stands below."),
    "teach_images": Spec("teach", "the same: the fit loop's speed", "images/s"),
    "lite0_images": Spec("lite0", "EfficientNet-Lite0 pair, 192 px, batch 64, nothing frozen: the fit loop's speed",
                         "images/s"),
    "lite0_loop": Spec("lite0", "the same: the fit loop, from cached pixels, over the bare step", "1", 0.95, why=EACH),
    "lite0_memory": Spec("lite0", "the same: the most memory of the GPU that it took", "GB"),
    "ledgers_captum": Spec("ledgers", "captum's ShapleyValues, layer by layer and class by class, over the ledgers of "
                           "all layers, tasks and classes", "1", 100.0, why="Seconds of either:"),
    "teach_cached": Spec("prediction", "EfficientNet-Lite0 pair: prediction from cached pixels over the forward pass "
                         "alone", "1", 0.95, why="Seconds of each part:"),
    "teach_files": Spec("prediction", "the same from JPEG files, over the slower of decoding and forward pass", "1",
                        0.9, why=FLOOR),
    "processes": Spec("processes", "two processes of one thread over one of one thread: training speed (float32)", "1",
                      1.8, why=EACH),
    "processes_losses": Spec("processes", "the same: the largest difference of an epoch's loss, as a share of it", "1",
                             1e-4, "less", "Losses of either:"),
    "table_seconds": Spec("table", "a table of a million ratings of 100,000 images: read, voted, split and batched",
                          "CPU s", 60.0, "less", "Seconds of each part:"),
    "table_memory": Spec("table", "the same: the most anonymous memory of the process, torch's 0.3 GB included", "GB",
                         1.0, "less", "Memory after each part:"),
    "cells": Spec("cells", "a study of 500 cells, two at a time: what a cell costs beside its own work", "CPU s", 0.2,
                  "less", EACH),
    "cold_cache": Spec("cache", "a cold cache of photographs over the decoder alone, by CPU time", "1", 0.95,
                       why="CPU seconds of each; what lies between is writing the pixels:"),
    "scaled_jpeg": Spec("cache", "a camera's JPEG of 12 megapixels decoded in full, over decoding it at the scale that "
                        "is needed, by CPU time"),
    "para_cache": Spec("para_cache", "PARA's 31,220 photographs (224 px copy) decoded into a cold cache", "CPU min",
                       4.0, "less", "Seconds of each part:"),
    "start_help": Spec("starting", "aesthemo --help", "CPU s", 0.3, "less", EACH),
    "start_training": Spec("starting", "all that a training imports, beyond torch (pandas, scikit-learn)",
                           "CPU s"),
    "reproduce_wall": Spec("reproduce", "make reproduce, from nothing drawn or decoded", "min", 4.0, "less",
                           "Where the time goes:"),
    "reproduce_cpu": Spec("reproduce", "the same", "CPU min"),
    "reproduce_oasis_wall": Spec("reproduce_oasis", "make reproduce DATA=oasis", "min", 6.0, "less",
                                 "Where the time goes:"),
    "reproduce_oasis_cpu": Spec("reproduce_oasis", "the same", "CPU min"),
    "oasis_trainings": Spec("reproduce_oasis", "its twelve trainings alone (aesthemo train, two at a time), with the "
                            "maps of frozen groups kept", "CPU min", 8.0, "less", "Seconds of each by the clock:"),
    "memory_vgg16": Spec("memory", "VGG16 pair, batch 16: the most anonymous memory that a training holds, states "
                         "written", "GB", 6.0, "less", "What a training holds:"),
    "memory_vgg16_checkpoint": Spec("memory", "the same with the setting checkpoint, which computes maps again in the "
                                    "backward pass", "GB", 6.0, "less", "What a training holds:"),
    "checkpoint_price": Spec("memory", "the price of that: CPU seconds of a step over those without"),
    "tests_passed": Spec("tests", "share of tests/bench/test_gpu.py that passed: device, precision, checkpoint, "
                         "compile, DDP, equality with the processor", "1", 1.0, why="What pytest said:"),
}
"""In the table's order. Rows of one group are measured together, groups in this order."""
BOTH = ("vgg16", "teach", "ledgers", "prediction", "reproduce", "reproduce_oasis")
"""Groups that are measured on either kind of processor; the others depend on it little."""
ON_GPU = ("tests", "vgg16", "lite0", "prediction")
"""Groups that are measured on a GPU: the tests once, the others in both precisions."""
ONCE = ("tests",)
NAMED = ("reproduce_oasis", "para_cache", *(group for group in ON_GPU if group not in BOTH))
"""Groups that are measured only when they are named, or on a GPU."""


def row(name: str, samples: Iterable[float], kind: str, machine: str, target: float | None = None,
        profile: Sequence[str] = ()) -> dict:
    """A row of ``bench.json``.

    Args:
        name: one of ``ROWS``.
        samples: what each round, or each pair of runs, gave; the median is the value, the extremes are the spread.
        kind: one of ``KINDS``.
        machine: see ``measure.describe``.
        target: another than the row's own, where that depends on the kind.
        profile: lines of Markdown that show what bounds it.
    """
    spec, values = ROWS[name], np.asarray(list(samples), dtype=np.float64)
    target, value = spec.target if target is None else target, rounded(np.median(values))
    holds = None if target is None else value >= target if spec.better == "more" else value <= target
    return {
        "name": name, "kind": kind, "value": value, "target": target, "unit": spec.unit, "holds": holds,
        "better": spec.better, "spread": [rounded(values.min()), rounded(values.max())], "rounds": len(values),
        "what": spec.what, "profile": list(profile), "machine": machine, "date": time.strftime("%Y-%m-%d"),
    }


def rounded(value: float) -> float:
    """To four digits."""
    return float(f"{value:.4g}")


def groups(names: Sequence[str], gpu: bool = False) -> list[str]:
    """The groups that hold these rows (or are so called); all that need not be named if none is.

    Raises:
        ValueError: an unknown name.
    """
    known = list(dict.fromkeys(spec.group for spec in ROWS.values()))
    unknown = [name for name in names if name not in known and name not in ROWS]
    if unknown:
        raise ValueError(f"rows: unknown {unknown[0]!r}; choose of {', '.join(ROWS)}, or of their groups "
                         f"{', '.join(known)}")
    if not names:
        return list(ON_GPU) if gpu else [group for group in known if group not in NAMED]
    wanted = {ROWS[name].group if name in ROWS else name for name in names}
    return [group for group in known if group in wanted]
