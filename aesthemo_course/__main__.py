"""The teacher's commands: pool the runs and the guesses of a class."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from aesthemo_lib.cli import run


def main(arguments: list[str] | None = None) -> int:
    """Run one command; an error of usage or data is one line on stderr and a nonzero exit status."""
    return run(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m aesthemo_course", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    pool = commands.add_parser("pool", help="compare the runs that students made on their own machines")
    pool.add_argument("folder", type=Path, help="the folder with the students' run folders")
    pool.add_argument("--out", type=Path, help="folder for pooled.csv and pooled.png (default: FOLDER)")
    pool.add_argument("--reference", default="independent", help="the method that others are compared with")
    pool.set_defaults(command=_pool)
    guesses = commands.add_parser("guesses", help="count the guesses that students recorded in the lessons")
    guesses.add_argument("folder", type=Path, help="the folder with each student's guesses.csv, under any name")
    guesses.set_defaults(command=_guesses)
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


def _guesses(given) -> None:
    from .guesses import pool_guesses

    table, notes = pool_guesses(given.folder)
    print("\n".join(notes))
    for (lesson, question), rows in table.groupby(["lesson", "question"], sort=False):
        print(f"{lesson}, {question}: {rows['students'].sum()} guesses")
        for row in rows.itertuples():
            print(f"  {row.students:4} {row.guess}{'   <- the results' if row.guess == row.answer else ''}")


if __name__ == "__main__":
    sys.exit(main())
