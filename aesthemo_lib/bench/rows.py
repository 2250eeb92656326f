"""The rows of the benchmark: what each must reach, how they are kept, and the page that shows them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from ..device import allowed_cores, fast_precision, pick_device
from ..files import atomic, read_json, write_json

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

    >>> Spec("ledgers", "both ledgers beside captum", target=10.0).better
    'more'
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

    >>> made = row("vgg16_loop_16", [0.98, 0.96, 0.99], "one core")
    >>> made["value"], made["spread"], made["target"], made["holds"]
    (0.98, [0.96, 0.99], 0.97, True)
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
    """To four digits.

    >>> rounded(1234.56), rounded(0.00123456)
    (1235.0, 0.001235)
    """
    return float(f"{value:.4g}")


def describe(device: str | None) -> str:
    """The machine in a line: what a measured ratio may depend on, and nothing that names this one.

    >>> "torch" in describe("cpu")
    True
    """
    import torch

    at = pick_device(device)
    cores, gigabytes = allowed_cores(), round(psutil.virtual_memory().total / 2**30)
    card = [torch.cuda.get_device_name(at)] if at.type == "cuda" else []
    threads = int(os.environ.get("OMP_NUM_THREADS", 0)) or cores
    used = [] if threads == cores else [f"{threads} thread{'s' * (threads > 1)}"]
    told = [*card, _processor(), f"{cores} core{'s' * (cores > 1)}", *used, f"{gigabytes} GB", platform.system(),
            f"Python {platform.python_version()}", f"torch {torch.__version__}",
            f"{str(fast_precision(at)).removeprefix('torch.')} on {at.type}"]
    return ", ".join(told)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def groups(names: Sequence[str], device: str | None = None) -> list[str]:
    """The groups that hold these rows (or are so called); all but ``LONG`` ones if none is named.

    Raises:
        ValueError: an unknown name.

    >>> groups(["vgg16_peak_32", "memory"])
    ['vgg16', 'memory']
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


def run(names: Sequence[str], out: Path, device: str | None = None, root: Path | None = None, small: bool = False,
        missing: bool = False) -> list[dict]:
    """Measure rows, each group in a process of its own, and write each as soon as it is known.

    Args:
        names: of rows or groups; none: all but the ``LONG`` ones.
        out: the path without suffix; ``.json``, ``.md`` and the picture ``-growth.png`` are written.
        device: see ``device.pick_device``.
        root: OASIS' folder, for ``reproduce_oasis``.
        small: tiny sizes, which try the rows and say nothing.
        missing: only groups of which a row is not there yet.

    Returns:
        all rows of the file. Those measured on another machine are dropped.

    Raises:
        RuntimeError: a group failed; the others have been measured.

    >>> run(["start_help"], Path("bench"), "cpu", small=True)  # doctest: +SKIP
    """
    file, machine, faults = out.with_suffix(".json"), describe(device), []
    kept = [old for old in (read_json(file) if file.exists() else []) if old["machine"] == machine]
    for group in groups(names, device):
        if missing and {name for name, spec in ROWS.items() if spec.group == group} <= {old["name"] for old in kept}:
            continue
        try:
            for found in measured(group, {"device": device, "root": root and str(root), "small": small}):
                new = row(machine=machine, **found)
                kept = sorted([*(old for old in kept if old["name"] != new["name"]), new],
                              key=lambda one: list(ROWS).index(one["name"]))
                write_json(file, kept)
                print(line(new), flush=True)
        except subprocess.CalledProcessError as fault:
            faults.append(f"{group} (exit status {fault.returncode})")
        write(kept, out)  # the picture too, which would take a core from what the group measures next
    if faults:
        raise RuntimeError(f"not measured: {', '.join(faults)}; what was said stands above")
    return kept


def measured(group: str, how: dict) -> Iterator[dict]:
    """What a group's process finds, row by row: the arguments of ``row``.

    >>> how = {"device": "cpu", "small": True, "root": None}
    >>> [found["name"] for found in measured("ledgers", how)]  # doctest: +SKIP
    """
    command = [sys.executable, "-m", "aesthemo_lib.bench.child", group, json.dumps(how)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as child:
        for said in child.stdout or ():
            if said.startswith("row "):
                yield json.loads(said[4:])
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)


def line(one: dict) -> str:
    """A row in a line.

    >>> line(row("matrix_peak", [1.0, 1.0], "one core"))
    'matrix_peak            1 TFLOP/s (1 to 1)'
    """
    low, high = one["spread"]
    held = "" if one["holds"] is None else f", {_mark(one)}: " + ("holds" if one["holds"] else "MISSED")
    return f"{one['name']:<22} {_value(one)} ({low:.4g} to {high:.4g}){held}"


def _value(one: dict) -> str:
    return f"{one['value']:.4g}" + (f" {one['unit']}" if one["unit"] != "1" else "")


def _mark(one: dict) -> str:
    if one["target"] is None:
        return ""
    return f"at {'least' if one['better'] == 'more' else 'most'} {one['target']:g}"


def write(rows: Sequence[dict], out: Path) -> None:
    """Write the rows, their page, and the picture if there is something to draw.

    >>> write([row("teach_images", [5.0], "one core")], Path("bench"))
    >>> sorted(path.name for path in Path().glob("bench.*"))
    ['bench.json', 'bench.md']
    """
    write_json(out.with_suffix(".json"), list(rows))
    grown = [one for one in rows if one["points"]]
    if grown:
        from .picture import draw

        draw(grown, picture_of(out))
    with atomic(out.with_suffix(".md")) as temporary:
        temporary.write_text(page(rows, picture_of(out).name), encoding="utf-8")


def picture_of(out: Path) -> Path:
    """Where the picture of the growth goes.

    >>> picture_of(Path("results/bench")).as_posix()
    'results/bench-growth.png'
    """
    return out.with_name(f"{out.name}-growth.png")


def page(rows: Sequence[dict], picture: str) -> str:
    """``bench.md``: the table, and a profile beside each row that misses. It follows from the rows alone.

    >>> page([row("teach_images", [5.0], "one core")], "growth.png").splitlines()[2]
    'Made by `make bench` on: one core.'
    """
    machines = "; ".join(dict.fromkeys(one["machine"] for one in rows))
    lines = ["# How fast", "", f"Made by `{COMMAND}` on: {machines}.", "",
             "Each value is the median of rounds in which what is compared was run in turn, within one process or in",
             "processes one after the other; beside it the lowest and highest round.", "",
             "| row | what | value | rounds | mark | holds |", "|---|---|---|---|---|---|"]
    for one in rows:
        low, high = one["spread"]
        held = {True: "yes", False: "**no**", None: ""}[one["holds"]]
        lines.append(f"| `{one['name']}` | {one['what']} | {_value(one)} | {low:.4g} to {high:.4g} ({one['rounds']}) | "
                     f"{_mark(one)} | {held} |")
    missed = [one for one in rows if one["holds"] is False]
    if missed:
        lines += ["", "## What misses its mark, and what its profile shows"]
        for one in missed:
            lines += ["", f"### {one['name']}", "", ROWS[one["name"]].why, "", *one["profile"]]
    bound = [one for one in rows if one["name"] == "teach_roofline"]
    if bound:
        lines += ["", "## What bounds the pair of EfficientNet-Lite0", "", *bound[0]["profile"]]
    whole = [one for one in rows if one["name"] == "reproduce_oasis" and one["holds"] and one["profile"]]
    if whole:
        lines += ["", "## `make reproduce DATA=oasis`", "", *whole[0]["profile"]]
    if any(one["points"] for one in rows):
        lines += ["", "## How cost grows", "", f"![{PICTURE}]({picture})"]
    return "\n".join(lines).strip() + "\n"
