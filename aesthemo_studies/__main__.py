"""What maintainers do: run studies, keep runs, pack the bundled network, draw README's figures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from aesthemo_lib.cli import data_arguments, run


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a fault that can be mended is one line and exit status 1."""
    return run(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m aesthemo_studies", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    keep = commands.add_parser("keep-runs", help="copy what reproduce made, without weights, to be committed")
    keep.add_argument("--preset", default="teach", help="smoke, teach or paper")
    keep.add_argument("--data", default="scenes", help="scenes; others' terms differ")
    keep.add_argument("--out", type=Path, default=Path("runs"), help="folder of runs")
    keep.add_argument("--to", type=Path, help="folder of kept runs, by default results/runs")
    keep.set_defaults(command=_keep_runs)
    kit = commands.add_parser("kit", help="IAE's reproduction kit: write its plan, or put finished runs into it")
    kit.add_argument("runs", type=Path, nargs="?", help="a folder of runs, such as runs/iae; left out: the plan alone")
    kit.add_argument("--preset", default="paper", help="another than paper is for a rehearsal, with --json elsewhere")
    kit.add_argument("--json", type=Path, default=Path("results/iae.json"))
    kit.set_defaults(command=_kit)
    study = commands.add_parser("study", help="a study of results/protocol.json: many runs, resumable")
    study.add_argument("--study", required=True, metavar="NAME", help="its name in results/protocol.json")
    study.add_argument("--form", default="first", help="first (two hours on two cores) or long")
    study.add_argument("--root", type=Path, help="the data set's folder")
    study.add_argument("--out", type=Path, default=Path("runs/studies"))
    study.add_argument("--to", type=Path, help="the table of results, by default results/studies/NAME.csv")
    study.add_argument("--snakemake", nargs=argparse.REMAINDER, default=[], help="what follows goes to Snakemake")
    how = study.add_mutually_exclusive_group()
    how.add_argument("--loop", action="store_true", help="one cell after another, without Snakemake")
    how.add_argument("--cell", type=int, metavar="N", help="this cell alone")
    how.add_argument("--gather", action="store_true", help="write the table of what is finished, and run nothing")
    study.set_defaults(command=_study)
    attribution = commands.add_parser("attribution-study", help="train and measure what lesson 11 shows; resumable")
    attribution.add_argument("--root", type=Path, help="OASIS' folder; without it that part is left out")
    attribution.add_argument("--out", type=Path, default=Path("runs/attribution"))
    attribution.add_argument("--to", type=Path, help="the folder of the tables, by default results/attribution")
    attribution.add_argument("--seeds", type=int, default=3, help="splits and seeds of each cell")
    attribution.add_argument("--gather", action="store_true", help="write what is finished, and run nothing")
    attribution.set_defaults(command=_attribution_study)
    retrieval = commands.add_parser("retrieval", help="search by emotion, measured on the runs of two studies")
    retrieval.add_argument("studies", type=Path, help="the folder of studies 'compare' and 'colour', as runs/studies")
    retrieval.add_argument("--form", default="first", help="of the studies: first or long")
    retrieval.add_argument("--root", type=Path, help="the data set's folder")
    retrieval.add_argument("--to", type=Path, help="the table, by default results/retrieval.csv")
    retrieval.set_defaults(command=_retrieval)
    style = commands.add_parser("style-transfer", help="what a change of camera costs, and what comes back; resumable")
    data_arguments(style)
    style.add_argument("--preset", default="teach", help="smoke, teach or paper")
    style.add_argument("--splits", type=int, default=3, help="how many, each with a style and a classifier of its own")
    style.add_argument("--steps", type=int, default=0, help="of each style's training; 0: the preset's")
    style.add_argument("--only", type=int, metavar="SPLIT", help="this split alone, and no table; for several at once")
    style.add_argument("--out", type=Path, default=Path("runs/style"))
    style.add_argument("--to", type=Path, help="the table, by default results/style_transfer.csv")
    style.set_defaults(command=_style_transfer, data="oasis")
    figures = commands.add_parser("figures", help="draw the pictures that README shows")
    figures.add_argument("--out", type=Path, default=Path("figures"))
    figures.set_defaults(command=_figures)
    null = commands.add_parser("null-bars", help="how far the inspector's ledgers reach with nothing to borrow")
    null.add_argument("run", type=Path, nargs="?", help="a run folder; left out: the one that comes along")
    null.add_argument("--root", type=Path, help="the data's folder")
    null.add_argument("--seeds", type=int, default=3, help="networks for each task")
    null.add_argument("--out", type=Path, default=Path("runs/null"), help="where the trained networks go")
    null.set_defaults(command=_null_bars)
    pack = commands.add_parser("pack", help="write a run anew in half precision, with a card, to be passed on")
    pack.add_argument("run", type=Path, help="a run folder, trained on scenes")
    pack.add_argument("--out", type=Path, default=Path("results/pretrained"))
    pack.set_defaults(command=_pack)
    notebooks = commands.add_parser("notebooks", help="run every notebook headless, and nbval")
    notebooks.add_argument("--out", type=Path, default=Path("out"))
    notebooks.set_defaults(command=_notebooks)
    return parser


def _keep_runs(given) -> None:
    from .kept_runs import keep

    print(keep(given.out, given.data, given.preset, given.to))


def _kit(given) -> None:
    from aesthemo_lib.files import write_json

    from .iae_kit import content, finished

    told = content(finished(given.runs) if given.runs else (), given.preset)
    write_json(given.json, told)
    cost = told["expected"]
    print(f"{given.json}: {told['status']}, {len(told['rows'])} of {cost['runs']} runs; in all at most "
          f"{cost['gpu_hours']} GPU hours at {cost['assumed']['operations_a_second']:.0e} operations a second, "
          f"{cost['gpu_memory_gb']} GB of GPU memory, {cost['disk_gb']} GB of disk")


def _study(given) -> None:
    from . import cells as study_runs, protocol as studies
    from .workflow import run_workflow

    of = studies.study(given.study, given.form)
    if given.cell is not None:
        print(study_runs.run_cell(of, studies.cells(of)[given.cell], given.out, given.root))
        return
    if given.loop:
        study_runs.run_study(of, given.out, given.root)
    elif not given.gather:
        run_workflow(of, given.out, given.root, given.snakemake)
    print(study_runs.keep(of, given.out, given.root, given.to))


def _attribution_study(given) -> None:
    from .attribution_checks import study as check_study

    if not given.gather:
        check_study.run(given.out, given.root, given.seeds)
    for path in check_study.gather(given.out, given.to, given.seeds):
        print(path)


def _retrieval(given) -> None:
    from .retrieval.study import compare, keep

    print(keep(compare(given.studies, given.root, given.form), given.to))


def _style_transfer(given) -> None:
    from .style_transfer.study import study

    print(study(given.out, given.data, given.root, given.preset, given.splits, given.steps, given.only, given.to))


def _figures(given) -> None:
    from .readme_figures import draw_all

    for path in draw_all(given.out):
        print(path)


def _null_bars(given) -> None:
    from aesthemo_lib.prediction import packaged_run
    from aesthemo_lib.training.run import Run

    from .null_bars import write_null

    print(write_null(Run(given.run) if given.run else packaged_run(), given.out, given.seeds, given.root))


def _pack(given) -> None:
    from .pack import pack

    print(pack(given.run, given.out))


def _notebooks(given) -> None:
    from aesthemo_lib.headless.reproduce import all_notebooks

    all_notebooks(given.out)


if __name__ == "__main__":
    sys.exit(main())
