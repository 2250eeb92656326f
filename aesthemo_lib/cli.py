"""The command ``aesthemo``. Nothing heavy is imported before it is known to be needed."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

DATA_HELP = "scenes, oasis, folders or csv"


def main(arguments: list[str] | None = None) -> int:
    """Run a command; a fault that the user can mend is one clear line and exit status 1.

    >>> from PIL import Image
    >>> Image.new("RGB", (64, 64), "orange").save("orange.jpg")
    >>> main(["predict", "orange.jpg"])
         photo aesthetics  aesthetics_low  aesthetics_high emotion ...
    orange.jpg ...
    0
    """
    given, rest = _parser().parse_known_args(arguments)
    if rest and given.command is not _study:  # what is left of a study's goes to Snakemake
        _parser().error(f"unrecognized arguments: {' '.join(rest)}")
    given.rest = rest
    try:
        return given.command(given) or 0
    except KeyboardInterrupt:
        print("\naesthemo: interrupted; start again to go on", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError, ImportError) as fault:
        if _process():
            time.sleep(2)  # what all processes find wrong the first one says, and its end ends them
        print(f"aesthemo{f' (process {_process()})' if _process() else ''}: {fault}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aesthemo", description="Joint classification of an image's aesthetics and emotion."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a notebook headless")
    run.add_argument("notebook", help="its bare name, such as 03_train")
    run.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    run.add_argument("--out", type=Path, default=Path("runs"), help="folder of runs and of the executed notebook")
    run.set_defaults(command=_run)
    train = commands.add_parser("train", help="train one run; under torchrun on several GPUs or machines")
    train.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                       help="of 03_train")
    train.add_argument("-s", "--setting", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                       help="that 03_train has no parameter for: batch, accumulate, checkpoint, ..")
    train.add_argument("--out", type=Path, default=Path("runs"), help="folder of runs, the same for all machines")
    train.add_argument("--device", help="cpu, cuda or mps")
    train.set_defaults(command=_train)
    predict = commands.add_parser("predict", help="judge photographs with a finished run")
    predict.add_argument("run", type=Path, metavar="RUN", help="a run folder; left out: the network that comes with "
                         "the project, trained on drawn scenes")
    predict.add_argument("photos", nargs="*", metavar="PHOTO")
    predict.add_argument("--csv", type=Path, help="write the table there")
    predict.add_argument("--sheet", type=Path, help="write a contact sheet of the photos and judgements there (.png)")
    predict.add_argument("--device", help="cpu, cuda or mps")
    predict.set_defaults(command=_predict)
    evaluate = commands.add_parser("evaluate", help="test a finished run on a data set")
    evaluate.add_argument("run", type=Path, help="a run folder")
    evaluate.add_argument("--data", required=True, help=DATA_HELP)
    evaluate.add_argument("--root", type=Path, help="the data set's folder")
    evaluate.add_argument("--json", type=Path, help="write the metrics there")
    evaluate.add_argument("--device", help="cpu, cuda or mps")
    evaluate.set_defaults(command=_evaluate)
    reproduce = commands.add_parser("reproduce", help="the main job: train every method on every split and compare")
    _data_arguments(reproduce)
    reproduce.add_argument("--preset", default="teach", help="smoke, teach or paper")
    reproduce.add_argument("--out", type=Path, default=Path("runs"))
    reproduce.add_argument("--extra", type=int, choices=(0, 1), default=0, help="1: the lessons 08 to 10 too")
    reproduce.set_defaults(command=_reproduce)
    table = commands.add_parser("table", help="mean and interval of every method over its finished runs, as Markdown")
    table.add_argument("runs", type=Path, help="a folder of runs, such as runs/oasis, or a CSV written before")
    table.add_argument("--csv", type=Path, help="write the single runs there")
    table.set_defaults(command=_table)
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
    how = study.add_mutually_exclusive_group()
    how.add_argument("--loop", action="store_true", help="one cell after another, without Snakemake")
    how.add_argument("--cell", type=int, metavar="N", help="this cell alone")
    how.add_argument("--gather", action="store_true", help="write the table of what is finished, and run nothing")
    study.set_defaults(command=_study)
    bench = commands.add_parser("bench", help="how fast everything is, into results/bench.json and bench.md")
    bench.add_argument("--rows", nargs="+", default=[], metavar="NAME", help="these rows or groups alone")
    bench.add_argument("--missing", action="store_true", help="go on: only what is not in the file yet")
    bench.add_argument("--device", help="cpu or cuda")
    bench.add_argument("--root", type=Path, help="OASIS' folder, for reproduce_oasis")
    bench.add_argument("--small", action="store_true", help="tiny sizes, to try the rows; into out/bench-small.json")
    bench.set_defaults(command=_bench)
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
    _data_arguments(style)
    style.add_argument("--preset", default="teach", help="smoke, teach or paper")
    style.add_argument("--splits", type=int, default=3, help="how many, each with a style and a classifier of its own")
    style.add_argument("--steps", type=int, default=0, help="of each style's training; 0: the preset's")
    style.add_argument("--only", type=int, metavar="SPLIT", help="this split alone, and no table; for several at once")
    style.add_argument("--out", type=Path, default=Path("runs/style"))
    style.add_argument("--to", type=Path, help="the table, by default results/style_transfer.csv")
    style.set_defaults(command=_style_transfer, data="oasis")
    pool = commands.add_parser("pool", help="a class's runs, each student's from its own machine, as one comparison")
    pool.add_argument("folder", type=Path, help="what was handed in: run folders, or metrics.json and config.json")
    pool.add_argument("--out", type=Path, help="where pooled.csv and pooled.png go; FOLDER if not given")
    pool.add_argument("--reference", default="independent", help="the method that the others are compared with")
    pool.set_defaults(command=_pool)
    figures = commands.add_parser("figures", help="draw the pictures that README shows")
    figures.add_argument("--out", type=Path, default=Path("figures"))
    figures.set_defaults(command=_figures)
    page = commands.add_parser("inspector-page", help="write the inspector of a run as one file for any browser")
    page.add_argument("run", type=Path, help="a run folder, trained on scenes")
    page.add_argument("--out", type=Path, default=Path("figures/inspector.html"))
    page.set_defaults(command=_inspector_page)
    inspect = commands.add_parser("inspect", help="open the inspector alone in the browser")
    inspect.add_argument("run", type=Path, nargs="?", help="a run folder; left out: the one that comes along")
    inspect.add_argument("--root", type=Path, help="the data's folder")
    inspect.add_argument("--photos", type=int, default=24, help="how many test photos are offered")
    inspect.add_argument("--no-browser", action="store_true", help="print the address instead of opening it")
    inspect.add_argument("--time", action="store_true", help="open nothing; print how long each question takes")
    inspect.set_defaults(command=_inspect)
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
    doctor = commands.add_parser("doctor", help="what this machine offers, and the cure for each fault")
    _data_arguments(doctor)
    doctor.set_defaults(command=_doctor)
    fetch = commands.add_parser("fetch", help="everything that will be needed offline")
    _data_arguments(fetch)
    fetch.set_defaults(command=_fetch)
    return parser


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="scenes", help=DATA_HELP)
    parser.add_argument("--root", type=Path, help="the data set's folder")


def _run(given) -> None:
    from .jobs import run_notebook

    print(run_notebook(given.notebook, dict(given.parameter), given.out))


def _train(given) -> None:
    from .jobs import train_plainly

    folder = train_plainly(dict(given.parameter), dict(given.setting), given.out, given.device)
    if not _process():
        print(folder)


def _process() -> int:
    """Which of the processes this is that torchrun has started to work together."""
    return int(os.environ.get("RANK", 0))


def _predict(given) -> None:
    from .data.readers.folders import IMAGE_SUFFIXES
    from .files import atomic
    from .prediction import Predictor

    run, photos = given.run, given.photos
    if run.is_file() or run.suffix.lower() in IMAGE_SUFFIXES:  # a run is a folder, so this is a photo, there or not
        from .pretrained import packaged_run

        run, photos = packaged_run(), [run, *photos]
        print("aesthemo: no run was named, so the network of results/pretrained answers. It learnt from drawn scenes; "
              "to judge photographs, train on photographs and name that run", file=sys.stderr)
    table = Predictor(run, given.device).predict(photos)
    if given.csv:
        with atomic(given.csv) as temporary:
            table.to_csv(temporary, index=False, encoding="utf-8")
    if given.sheet:
        from .plots import contact_sheet, save

        save(contact_sheet(photos, table), given.sheet)
    print(table.to_string(index=False, float_format="{:.3f}".format))


def _evaluate(given) -> None:
    from .files import write_json
    from .prediction import evaluate

    result = evaluate(given.run, given.data, given.root, given.device)
    if given.json:
        write_json(given.json, result)
    print(json.dumps(result, indent=2))


def _reproduce(given) -> None:
    from .jobs import reproduce

    reproduce(given.data, given.root, given.preset, given.out, bool(given.extra))


def _table(given) -> None:
    from .evaluation import collect, markdown_table, read_runs
    from .files import atomic

    runs = read_runs(given.runs) if given.runs.is_file() else collect(given.runs)
    if given.csv:
        with atomic(given.csv) as temporary:
            runs.drop(columns="run").to_csv(temporary, index=False, encoding="utf-8", float_format="%.6f")
    print(markdown_table(runs))


def _keep_runs(given) -> None:
    from .kept_runs import keep

    print(keep(given.out, given.data, given.preset, given.to))


def _kit(given) -> None:
    from .files import write_json
    from .kit import content, finished

    told = content(finished(given.runs) if given.runs else (), given.preset)
    write_json(given.json, told)
    cost = told["expected"]
    print(f"{given.json}: {told['status']}, {len(told['rows'])} of {cost['runs']} runs; in all at most "
          f"{cost['gpu_hours']} GPU hours at {cost['assumed']['operations_a_second']:.0e} operations a second, "
          f"{cost['gpu_memory_gb']} GB of GPU memory, {cost['disk_gb']} GB of disk")


def _study(given) -> None:
    from . import studies, study_runs
    from .workflow import run_workflow

    of = studies.study(given.study, given.form)
    if given.cell is not None:
        print(study_runs.run_cell(of, studies.cells(of)[given.cell], given.out, given.root))
        return
    if given.loop:
        study_runs.run_study(of, given.out, given.root)
    elif not given.gather:
        run_workflow(of, given.out, given.root, given.rest)
    print(study_runs.keep(of, given.out, given.root, given.to))


def _bench(given) -> None:
    from .bench.rows import run
    from .device import pick_device
    from .files import project_folder

    name = "bench-cuda" if pick_device(given.device).type == "cuda" else "bench"
    out = Path("out") / f"{name}-small" if given.small else project_folder() / "results" / name
    run(given.rows, out, given.device, given.root, given.small, given.missing)
    print(out.with_suffix(".md"))


def _retrieval(given) -> None:
    from .retrieval_study import compare, keep

    print(keep(compare(given.studies, given.root, given.form), given.to))


def _style_transfer(given) -> None:
    from .style_study import study

    print(study(given.out, given.data, given.root, given.preset, given.splits, given.steps, given.only, given.to))


def _pool(given) -> None:
    from .classroom import pool, pool_figure
    from .evaluation import markdown_table
    from .files import atomic
    from .plots import save

    runs, notes = pool(given.folder)
    print("\n".join([*notes, f"{len(runs.drop_duplicates(['method', 'split', 'seed']))} runs pooled"]))
    out = given.out or given.folder
    with atomic(out / "pooled.csv") as temporary:
        runs.drop(columns="run").to_csv(temporary, index=False, encoding="utf-8", float_format="%.6f")
    save(pool_figure(runs, given.reference), out / "pooled.png")
    print(markdown_table(runs, given.reference))


def _attribution_study(given) -> None:
    from . import check_study

    if not given.gather:
        check_study.run(given.out, given.root, given.seeds)
    for path in check_study.gather(given.out, given.to, given.seeds):
        print(path)


def _figures(given) -> None:
    from .figures import draw_all

    for path in draw_all(given.out):
        print(path)


def _inspector_page(given) -> None:
    from .inspector import write_page

    print(write_page(given.run, given.out))


def _inspect(given) -> int:
    if given.time:
        from .inspector_speed import inspector_speed
        from .pretrained import packaged_run

        print(inspector_speed(given.run or packaged_run().folder, given.root).round(3).to_string(index=False))
        return 0
    from .serve import serve

    return serve(given.run, given.root, given.photos, ("--no-browser",) if given.no_browser else ())


def _null_bars(given) -> None:
    from .null_bars import write_null
    from .pretrained import packaged_run
    from .training.runs import Run

    print(write_null(Run(given.run) if given.run else packaged_run(), given.out, given.seeds, given.root))


def _pack(given) -> None:
    from .pretrained import pack

    print(pack(given.run, given.out))


def _notebooks(given) -> None:
    from .jobs import all_notebooks

    all_notebooks(given.out)


def _doctor(given) -> int:
    from .doctor import checks, render

    found = checks(given.data, given.root)
    print(render(found))
    return int(any(check.status == "fail" for check in found))


def _fetch(given) -> None:
    from .data.download import fetch
    from .data.readers import data_root
    from .models.backbones import imagenet_vgg, packaged_lite0
    from .training.runs import Config, open_data

    if given.data == "oasis":
        fetch(data_root("oasis", given.root))
    images = open_data(Config(data=given.data), given.root)  # draws the scenes
    print(f"{given.data}: {len(images)} images at {data_root(given.data, given.root)}")
    print(f"efficientnet_lite0: ImageNet weights at {packaged_lite0()}")
    print(f"vgg16: {len(imagenet_vgg('vgg16'))} tensors of ImageNet weights")


if __name__ == "__main__":
    sys.exit(main())
