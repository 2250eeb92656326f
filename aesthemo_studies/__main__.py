"""What maintainers do: run studies, keep runs, pack the bundled network, draw README's figures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from aesthemo_lib.cli import run


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
    iae = commands.add_parser("iae-protocol", help="write the plan of the runs on IAE, or put finished ones into it")
    iae.add_argument("runs", type=Path, nargs="?", help="a folder of runs, such as runs/iae; left out: only the plan")
    iae.add_argument("--preset", default="paper", help="another than paper is for a rehearsal, with --json elsewhere")
    iae.add_argument("--json", type=Path, default=Path("results/iae.json"))
    iae.set_defaults(command=_iae_protocol)
    study = _study_parser(commands, "study", "run a study of results/protocol.json", _study)
    study.add_argument("--study", required=True, metavar="NAME", help="its name in results/protocol.json")
    study.add_argument("--form", default="first", help="first (two hours on two cores) or long")
    study.add_argument("--cell", metavar="KEY", help="run only this cell, and write no table (for a cluster's jobs)")
    attribution = _study_parser(commands, "attribution-study", "run what lesson 8 shows", _attribution_study)
    attribution.add_argument("--seeds", type=int, default=8, help="splits and seeds of each cell")
    retrieval = _study_parser(commands, "retrieval", "what colour and texture add to a search by emotion", _retrieval)
    retrieval.add_argument("--oasis", type=Path, help="OASIS' folder; --root is PARA's; without them: drawn scenes")
    _study_parser(commands, "task-sequence", "do answers contradict one another? (on OASIS too with --root)",
                  _task_sequence)
    _study_parser(commands, "style-transfer", "what a change of camera costs, and how much is recovered",
                  _style_transfer)
    few = _study_parser(commands, "few-labels", "few labels of one task, many of the other, on PARA", _few_labels)
    few.add_argument("--pilot", action="store_true", help="run what the protocol was fixed with, and nothing else")
    full = _study_parser(commands, "full-labels", "both tasks labelled: is any joint network ahead?", _full_labels)
    full.add_argument("--oasis", type=Path, help="OASIS' folder; --root is PARA's; without them: drawn scenes")
    whole = _study_parser(commands, "whole-networks", "the same with every layer trained, on PARA; asks for a GPU",
                          _whole_networks)
    whole.add_argument("--pilot", action="store_true", help="run what the rates were chosen with, and nothing else")
    forms = commands.add_parser("para-forms", help="PARA's test in each form of the emotion")
    forms.add_argument("--root", type=Path, required=True, help="PARA's folder")
    forms.add_argument("--out", type=Path, default=Path("runs/studies"), help="the folder of all studies")
    forms.add_argument("--train", action="store_true", help="first train two whole branches for each; asks for a GPU")
    forms.set_defaults(command=_para_forms)
    small = commands.add_parser("small-para", help="write a copy of PARA that is small enough to travel to a GPU")
    small.add_argument("--root", type=Path, required=True, help="PARA's folder")
    small.add_argument("--out", type=Path, default=Path("out/small_para"))
    small.set_defaults(command=_small_para)
    recipe = commands.add_parser("recipe", help="write results/recipe.json from results/studies/recipe.csv")
    recipe.set_defaults(command=_recipe)
    figures = commands.add_parser("figures", help="draw the pictures that README shows")
    figures.add_argument("--out", type=Path, default=Path("figures"))
    figures.set_defaults(command=_figures)
    page = commands.add_parser("inspector-page", help="write figures/inspector.html from the bundled networks")
    page.add_argument("--out", type=Path, default=Path("figures/inspector.html"))
    page.set_defaults(command=_inspector_page)
    null = commands.add_parser("null-bars", help="how far the inspector's ledgers reach with nothing to borrow")
    null.add_argument("run", type=Path, nargs="?", help="a run folder; left out: the bundled one")
    null.add_argument("--root", type=Path, help="the data's folder")
    null.add_argument("--seeds", type=int, default=3, help="networks for each task")
    null.add_argument("--out", type=Path, default=Path("runs/null"), help="where the trained networks go")
    null.add_argument("--null", choices=("permuted", "untrained"), default="permuted", help="labels or branch")
    null.set_defaults(command=_null_bars)
    pack = commands.add_parser("pack", help="write a run anew in half precision, with a card, to be passed on")
    pack.add_argument("run", type=Path, help="a run folder, trained on scenes")
    pack.add_argument("--out", type=Path, help="by default its place in aesthemo_lib/bundled")
    pack.set_defaults(command=_pack)
    photographs = commands.add_parser("photographs", help="train on PARA what judges photographs, and pack it")
    photographs.add_argument("--root", type=Path, required=True, help="PARA's folder")
    photographs.add_argument("--oasis", type=Path, required=True, help="OASIS' folder, on which it is tested too")
    photographs.add_argument("--out", type=Path, default=Path("runs/photographs"))
    photographs.set_defaults(command=_photographs)
    familiar = commands.add_parser("familiar", help="measure what the inspector calls far from the training data")
    familiar.add_argument("--root", type=Path, required=True, help="PARA's folder")
    familiar.add_argument("--oasis", type=Path, required=True, help="OASIS' folder")
    familiar.set_defaults(command=_familiar)
    notebooks = commands.add_parser("notebooks", help="run every notebook headless, and nbval")
    notebooks.add_argument("--out", type=Path, default=Path("out"))
    notebooks.set_defaults(command=_notebooks)
    return parser


def _study_parser(commands, name: str, text: str, command) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=f"{text}; resumable")
    parser.add_argument("--root", type=Path, help="the data's folder")
    parser.add_argument("--out", type=Path, default=Path("runs/studies"), help="the folder of all studies")
    parser.add_argument("--to", type=Path, help="where the results go, by default below results/")
    parser.add_argument("--jobs", type=int, help="cells at once, by default as many as cores and memory allow")
    parser.add_argument("--gather", action="store_true", help="write the results of the finished cells, and run none")
    parser.set_defaults(command=command)
    return parser


def _keep_runs(given) -> None:
    from .kept_runs import keep

    print(keep(given.out, given.data, given.preset, given.to))


def _iae_protocol(given) -> None:
    from aesthemo_lib.files import write_json

    from .iae_protocol import content, finished

    protocol = content(finished(given.runs) if given.runs else (), given.preset)
    write_json(given.json, protocol)
    cost = protocol["expected"]
    print(f"{given.json}: {protocol['status']}, {len(protocol['rows'])} of {cost['runs']} runs; in all at most "
          f"{cost['gpu_hours']} GPU hours at {cost['assumed']['operations_a_second']:.0e} operations a second, "
          f"{cost['gpu_memory_gb']} GB of GPU memory, {cost['disk_gb']} GB of disk")


def _study(given) -> None:
    from . import comparisons, protocol

    grid = protocol.study(given.study, given.form)
    study = comparisons.study(grid, given.out, given.root)
    if given.cell:
        print(study.run_cell(given.cell))
        return
    if not given.gather:
        study.run(given.jobs)
    print(comparisons.keep(grid, given.out, given.root, given.to))


def _attribution_study(given) -> None:
    from .attribution_checks import study as attribution

    study = attribution.study(given.out, given.root, given.seeds)
    if not given.gather:
        attribution.networks(given.out, given.root, given.seeds).run(given.jobs)
        study.run(given.jobs)
    for path in attribution.keep(study, given.to):
        print(path)


def _retrieval(given) -> None:
    from .retrieval import study as retrieval

    _run(retrieval, retrieval.study(given.out, given.root, given.oasis), given)


def _task_sequence(given) -> None:
    from .task_sequence import study as task_sequence

    _run(task_sequence, task_sequence.study(given.out, given.root), given)


def _style_transfer(given) -> None:
    from .style_transfer import study as style_transfer

    _run(style_transfer, style_transfer.study(given.out), given)


def _few_labels(given) -> None:
    from aesthemo_lib.data.readers import data_root
    from aesthemo_lib.files import project_folder

    from .few_labels import study as few_labels

    folder, root = given.to or project_folder() / "results" / "studies", given.root or data_root("para")
    if given.pilot:
        written = few_labels.keep_pilot(root, given.out, folder)
    else:
        study = few_labels.study(given.out, root)
        if not given.gather:
            study.run(given.jobs)
        written = few_labels.keep(study, folder)
    for path in written:
        print(path)


def _full_labels(given) -> None:
    from .full_labels import study as full_labels, verdicts

    _run(verdicts, full_labels.study(given.out, given.root, given.oasis), given)


def _whole_networks(given) -> None:
    from aesthemo_lib.data.readers import data_root
    from aesthemo_lib.files import project_folder

    from .whole_networks import study as whole_networks, verdicts

    study = whole_networks.study(given.out, given.root or data_root("para"), given.pilot)
    if not given.gather:
        study.run(given.jobs)
    kept = verdicts.keep_pilot if given.pilot else verdicts.keep
    for path in kept(study, given.to or project_folder() / "results" / "studies"):
        print(path)


def _para_forms(given) -> None:
    from .para_forms import measure, trainings

    if given.train:
        trainings(given.out, given.root).run()
    print(measure(given.root, given.out))


def _small_para(given) -> None:
    from .whole_networks.small_copy import small_copy

    small_copy(given.root, given.out)
    print(given.out)


def _run(module, study, given) -> None:
    from aesthemo_lib.files import project_folder

    if not given.gather:
        study.run(given.jobs)
    for path in module.keep(study, given.to or project_folder() / "results" / "studies"):
        print(path)


def _recipe(given) -> None:
    from aesthemo_lib.files import project_folder, write_json

    from . import protocol

    path = project_folder() / "results" / "recipe.json"
    write_json(path, protocol.recipe(protocol.read("recipe")))
    print(path)


def _figures(given) -> None:
    from .readme_figures import draw_all

    for path in draw_all(given.out):
        print(path)


def _inspector_page(given) -> None:
    from aesthemo_lib.prediction import packaged_run

    from .inspector_page import BUNDLED, write_page

    print(write_page({called: packaged_run(name).folder for called, name in BUNDLED.items()}, given.out))


def _null_bars(given) -> None:
    from aesthemo_lib.prediction import packaged_run
    from aesthemo_lib.training.run import Run

    from .null_bars import write_null

    run = Run(given.run) if given.run else packaged_run()
    print(write_null(run, given.out, given.seeds, given.root, null=given.null))


def _pack(given) -> None:
    from .pack import pack

    print(pack(given.run, given.out))


def _photographs(given) -> None:
    from .photographs import make

    print(make(given.root, given.oasis, given.out))


def _familiar(given) -> None:
    from .familiar import measure

    print(measure(given.root, given.oasis))


def _notebooks(given) -> None:
    from .all_notebooks import all_notebooks

    all_notebooks(given.out)


if __name__ == "__main__":
    sys.exit(main())
