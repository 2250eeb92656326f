"""Measure how fast everything is, into results/bench.json and bench.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from aesthemo_lib.cli import run


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a fault that can be mended is one line and exit status 1."""
    return run(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rows", nargs="+", default=[], metavar="NAME", help="only these rows or groups")
    parser.add_argument("--missing", action="store_true", help="go on: only what is not in the file yet")
    parser.add_argument("--device", help="cuda: a GPU's rows, into results/gpu.json (cpu, to try them)")
    parser.add_argument("--root", type=Path, help="OASIS' folder for reproduce_oasis, PARA's for para_cache")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the rows; into out/")
    parser.add_argument("--inspector", type=Path, metavar="RUN", help="only: the inspector's times")
    parser.set_defaults(command=_measure)
    return parser


def _measure(given) -> None:
    from aesthemo_lib.files import project_folder

    from .report import run

    if given.inspector:
        from .inspector import OPENING, inspector_speed, opening  # imports what a machine with a GPU may lack

        print(f"opens in {opening(given.inspector, given.root):.1f} s (at most {OPENING:.0f})")
        print(inspector_speed(given.inspector, given.root).round(3).to_string(index=False))
        return
    name = "gpu" if given.device else "bench"
    out = project_folder() / "out" / f"{name}-small" if given.small else project_folder() / "results" / name
    run(given.rows, out, given.device, given.root, given.small, given.missing)
    print(out.with_suffix(".md"))


if __name__ == "__main__":
    sys.exit(main())
