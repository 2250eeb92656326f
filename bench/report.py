"""Run the groups of rows, and write the table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from aesthemo_lib.files import atomic, read_json, write_json

from .measure import describe, instructions
from .rows import AVX2, AVX512, BOTH, COMMAND, EITHER, GPU, GPU32, KINDS, ONCE, ROWS, groups, row

MADE = ("Each value is the median of rounds in which what is compared was run in turn, within one process or in",
        "processes one after the other; behind it the lowest and highest round. CPU times are those of all threads "
        "together.")
STAND_IN = (f"*{AVX2}* was measured on a processor that can do more, which was held to AVX2 and float32 by "
            f"`{' '.join(f'{name}={value}' for name, value in KINDS[AVX2].items())}`: a stand-in. A laptop's clock, "
            f"cache and memory differ; the ratios should hold, the times need not.")


def run(names: Sequence[str], out: Path, device: str | None = None, root: Path | None = None, small: bool = False,
        missing: bool = False) -> list[dict]:
    """Measure rows, each group and kind in a process of its own, and write each as soon as it is known.

    Args:
        names: of rows or groups; none: all but the ``NAMED`` ones.
        out: the path without suffix; ``.json`` and ``.md`` are written.
        device: the GPU's rows on it ('cpu' to try them); by default the processor's.
        root: OASIS' folder for ``reproduce_oasis``, PARA's for ``para_cache``.
        small: tiny sizes, which try the rows and say nothing.
        missing: only groups of which a row is not there yet.

    Returns:
        all rows of the file. Those measured on another machine, of kinds that this one has, are dropped.

    Raises:
        RuntimeError: a group failed; the others have been measured.
    """
    file, machine, faults, here = out.with_suffix(".json"), describe(device), [], kinds(device)
    kept = [old for old in (read_json(file) if file.exists() else []) if old["kind"] not in here
            or old["machine"] == machine]
    for group, kind in planned(names, device):
        there = {old["name"] for old in kept if old["kind"] == kind}
        if missing and {name for name, spec in ROWS.items() if spec.group == group} <= there | not_here(kind):
            continue
        try:
            how = {"device": device, "root": root and str(root), "small": small, "kind": kind}
            for result in measured(group, how, KINDS[kind]):
                new = row(kind=kind, machine=machine, **result)
                kept = sorted([*(old for old in kept if (old["name"], old["kind"]) != (new["name"], kind)), new],
                              key=lambda one: (list(ROWS).index(one["name"]), list(KINDS).index(one["kind"])))
                write(kept, out)
                print(line(new), flush=True)
        except subprocess.CalledProcessError as fault:
            faults.append(f"{group}, {kind} (exit status {fault.returncode})")
    if faults:
        raise RuntimeError(f"not measured: {'; '.join(faults)}; what was said stands above")
    return kept


def kinds(device: str | None = None) -> list[str]:
    """The kinds that this machine can measure."""
    if device:
        return [GPU, GPU32]
    return [AVX512, AVX2, EITHER] if instructions() == AVX512 else [AVX2, EITHER]


def not_here(kind: str) -> set[str]:
    """Rows that a kind does not have."""
    return set() if kind in (GPU, GPU32) else {"vgg16_memory"}


def planned(names: Sequence[str], device: str | None = None) -> Iterator[tuple[str, str]]:
    """What is measured, in this order: a group and a kind."""
    for group in groups(names, bool(device)):
        if device:
            yield from ((group, kind) for kind in ([GPU] if group in ONCE else [GPU, GPU32]))
        else:
            yield from ((group, kind) for kind in kinds() if (kind == EITHER) == (group not in BOTH))


def measured(group: str, how: dict, environment: dict[str, str]) -> Iterator[dict]:
    """What a group's process finds, row by row: the arguments of ``row``."""
    command = [sys.executable, "-m", "bench.child", group, json.dumps(how)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", env=os.environ | environment) as child:
        for said in child.stdout or ():
            if said.startswith("row "):
                yield json.loads(said[4:])
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)


def line(one: dict) -> str:
    """A row in a line."""
    held = "" if one["holds"] is None else f", {_mark(one)}: " + ("holds" if one["holds"] else "MISSED")
    return f"{one['name']:<22} {one['kind']:<22} {_value(one)}{held}"


def _value(one: dict) -> str:
    value = f"{one['value']:.4g}" + (f" {one['unit']}" if one["unit"] != "1" else "")
    low, high = one["spread"]
    return value if one["rounds"] == 1 else f"{value} ({low:.3g} to {high:.3g})"


def _mark(one: dict) -> str:
    if one["target"] is None:
        return ""
    return f"at {'least' if one['better'] == 'more' else 'most'} {one['target']:g}"


def write(rows: Sequence[dict], out: Path) -> None:
    """Write the rows and their page."""
    write_json(out.with_suffix(".json"), list(rows))
    with atomic(out.with_suffix(".md")) as temporary:
        temporary.write_text(page(rows), encoding="utf-8")


def page(rows: Sequence[dict]) -> str:
    """``bench.md``: the tables, and a profile for each row that misses. It follows from the rows alone."""
    of_gpu = any(one["kind"] in (GPU, GPU32) for one in rows)
    columns = (GPU, GPU32) if of_gpu else (AVX512, AVX2)
    lines = [f"# How fast{', on a GPU' if of_gpu else ''}", "",
             f"Made by `{'bench/gpu.sh' if of_gpu else COMMAND}`.", "", *MADE, ""]
    for kind in (*columns, EITHER):
        lines += [f"- {kind}: {where}" for where in dict.fromkeys(
            f"{one['machine']}, {one['date']}" for one in rows if one["kind"] == kind)]
    if any(one["kind"] == AVX2 and AVX512 in one["machine"] for one in rows):
        lines += ["", STAND_IN]
    lines += _table([one for one in rows if one["kind"] != EITHER], columns)
    alike = [one for one in rows if one["kind"] == EITHER]
    if alike:
        lines += ["", "## What hardly depends on the kind of processor", *_table(alike, (EITHER,))]
    missed = [one for one in rows if one["holds"] is False]
    if missed:
        lines += ["", "## What misses its mark, and what its profile shows"]
        for one in missed:
            lines += ["", f"### {one['name']}, {one['kind']}", "", ROWS[one["name"]].why, "", *one["profile"]]
    for one in rows:
        if one["name"] == "teach_roofline":
            lines += ["", f"## What bounds the pair of EfficientNet-Lite0: {one['kind']}", "", *one["profile"]]
    return "\n".join(lines).strip() + "\n"


def _table(rows: Sequence[dict], columns: Sequence[str]) -> Iterator[str]:
    """A column for each kind."""
    yield from ("", f"| row | what | {' | '.join(columns)} |", "|---" * (2 + len(columns)) + "|")
    for name in dict.fromkeys(one["name"] for one in rows):
        cells = []
        for kind in columns:
            cells += ["; ".join(_cell(one) for one in rows if (one["name"], one["kind"]) == (name, kind))
                      or "not measured"]
        yield f"| `{name}` | {ROWS[name].what} | {' | '.join(cells)} |"


def _cell(one: dict) -> str:
    held = {True: "yes", False: "**no**", None: ""}[one["holds"]]
    return _value(one) + (f"; {_mark(one)}: {held}" if held else "")
