"""What a teacher does: pool the runs of a class."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from aesthemo_lib.cli import run


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a fault that can be mended is one line and exit status 1."""
    return run(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m aesthemo_course", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    pool = commands.add_parser("pool", help="a class's runs, each student's from its own machine, as one comparison")
    pool.add_argument("folder", type=Path, help="what was handed in: run folders, or metrics.json and config.json")
    pool.add_argument("--out", type=Path, help="where pooled.csv and pooled.png go; FOLDER if not given")
    pool.add_argument("--reference", default="independent", help="the method that the others are compared with")
    pool.set_defaults(command=_pool)
    return parser


def _pool(given) -> None:
    from aesthemo_lib.evaluation.comparison import markdown_table
    from aesthemo_lib.files import write_table
    from aesthemo_lib.plots.style import save

    from .pool import pool, pool_figure

    runs, notes = pool(given.folder)
    print("\n".join([*notes, f"{len(runs.drop_duplicates(['method', 'split', 'seed']))} runs pooled"]))
    out = given.out or given.folder
    write_table(out / "pooled.csv", runs.drop(columns="run"), "%.6f")
    save(pool_figure(runs, given.reference), out / "pooled.png")
    print(markdown_table(runs, given.reference))


if __name__ == "__main__":
    sys.exit(main())
