"""Run the groups of rows, and write the table and its picture."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from aesthemo_lib.files import atomic, read_json, write_json

from .measure import describe
from .rows import COMMAND, PICTURE, ROWS, groups, row


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
    """
    file, machine, faults = out.with_suffix(".json"), describe(device), []
    kept = [old for old in (read_json(file) if file.exists() else []) if old["machine"] == machine]
    for group in groups(names, device):
        if missing and {name for name, spec in ROWS.items() if spec.group == group} <= {old["name"] for old in kept}:
            continue
        try:
            for result in measured(group, {"device": device, "root": root and str(root), "small": small}):
                new = row(machine=machine, **result)
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
    """What a group's process finds, row by row: the arguments of ``row``."""
    command = [sys.executable, "-m", "bench.child", group, json.dumps(how)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as child:
        for said in child.stdout or ():
            if said.startswith("row "):
                yield json.loads(said[4:])
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)


def line(one: dict) -> str:
    """A row in a line."""
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
    """Write the rows, their page, and the picture if there is something to draw."""
    write_json(out.with_suffix(".json"), list(rows))
    grown = [one for one in rows if one["points"]]
    if grown:
        from .picture import draw

        draw(grown, picture_of(out))
    with atomic(out.with_suffix(".md")) as temporary:
        temporary.write_text(page(rows, picture_of(out).name), encoding="utf-8")


def picture_of(out: Path) -> Path:
    """Where the picture of the growth goes."""
    return out.with_name(f"{out.name}-growth.png")


def page(rows: Sequence[dict], picture: str) -> str:
    """``bench.md``: the table, and a profile beside each row that misses. It follows from the rows only."""
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
