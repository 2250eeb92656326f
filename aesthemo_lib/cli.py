"""The command ``aesthemo``. Nothing heavy is imported before it is known to be needed."""

import argparse
import importlib
import json
import os
import sys
import time
import warnings
from pathlib import Path

from . import __version__

DATA_HELP = "scenes, oasis, para, iae, emoset, abstract, artphoto, ava, celeba, folders or csv"


def main(arguments: list[str] | None = None) -> int:
    """Run a command; a fault that the user can mend is one clear line and exit status 1."""
    return run(_parser(), arguments)


def run(parser: argparse.ArgumentParser, arguments: list[str] | None) -> int:
    """Parse, and call ``command`` of what was given; a fault that the user can mend is one line and exit status 1."""
    given = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal can't show must not cost a finished job
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _as_one_line
            warnings.filterwarnings("always", category=UserWarning, module="aesthemo_")
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # the decoder says what matters
            status = given.command(given) or 0
        print(end="", flush=True)  # there may be no stdout at all
        return status
    except BrokenPipeError:  # the reader of the output, say 'head', has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt:
        print(f"\n{parser.prog}: interrupted; the next run resumes where it stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError, ImportError) as fault:
        if _process():
            time.sleep(2)  # what all processes find wrong the first one says, and its end ends them
        print(f"{parser.prog}{f' (process {_process()})' if _process() else ''}: {fault}", file=sys.stderr)
        return 1


def _as_one_line(message, category, filename, lineno, file=None, line=None) -> None:
    """What the library warns of, without the place in its source; what others warn of, as ever."""
    plain = category is UserWarning and "aesthemo" in filename
    print(f"aesthemo: {message}" if plain else warnings.formatwarning(message, category, filename, lineno, line),
          file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aesthemo", description="Joint classification of an image's aesthetics and emotion."
    )
    parser.add_argument("--version", action="version", version=f"aesthemo {__version__}")
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
                       help="that 03_train has no parameter for: batch, accumulate, log tensorboard, ..")
    train.add_argument("--out", type=Path, default=Path("runs"), help="folder of runs, the same for all machines")
    train.add_argument("--device", help="cpu, cuda or mps")
    train.set_defaults(command=_train)
    predict = commands.add_parser("predict", help="judge photographs with a finished run")
    predict.add_argument("run", type=Path, metavar="RUN", help="a run folder; left out: the bundled network")
    predict.add_argument("photos", nargs="*", metavar="PHOTO", help="photographs, folders, patterns like 'trip/*.jpg'")
    predict.add_argument("--on-bad-image", choices=("skip", "error"), default="skip", help="a photograph that can't be "
                         "read is named and left out (skip, the default), or all are named and none judged, status 1")
    predict.add_argument("--csv", type=Path, help="write the table there")
    predict.add_argument("--sheet", type=Path, help="write contact sheets of the photos and judgements there, 48 a "
                         "page: all in one .pdf, or the first in a .png or .jpg and further ones in NAME-2.png, ..")
    predict.set_defaults(command=_predict)
    evaluate = commands.add_parser("evaluate", help="test a finished run on a data set")
    evaluate.add_argument("run", type=Path, help="a run folder")
    evaluate.add_argument("--data", required=True, help=DATA_HELP)
    evaluate.add_argument("--root", type=Path, help="the data set's folder")
    evaluate.add_argument("--json", type=Path, help="write the metrics there")
    evaluate.set_defaults(command=_evaluate)
    for judge in (predict, evaluate):
        judge.add_argument("--direct", action="store_true", help="resize photographs at once to what the network sees "
                           "[0063], not by way of training's pixels")
        judge.add_argument("--device", help="cpu, cuda or mps")
    export = commands.add_parser("export", help="a finished run as a torch.export program and ONNX")
    export.add_argument("run", type=Path, nargs="?", help="a run folder; left out: the bundled network for photographs")
    export.add_argument("--out", type=Path, default=Path("export"), help="the folder to write to")
    export.set_defaults(command=_export)
    reproduce = commands.add_parser("reproduce", help="the main job: train every method on every split and compare")
    data_arguments(reproduce)
    reproduce.add_argument("--preset", default="teach", help="smoke, teach or paper")
    reproduce.add_argument("--out", type=Path, default=Path("runs"))
    reproduce.add_argument("--extra", type=int, choices=(0, 1), default=0, help="1: lesson 12 too")
    reproduce.set_defaults(command=_reproduce)
    table = commands.add_parser("table", help="mean and interval of every method over its finished runs, as Markdown")
    table.add_argument("runs", type=Path, help="a folder of runs, such as runs/oasis, or a CSV written before")
    table.add_argument("--csv", type=Path, help="write the single runs there")
    table.set_defaults(command=_table)
    inspect = commands.add_parser("inspect", help="open the inspector in the browser")
    inspect.add_argument("run", type=Path, nargs="?", help="a run folder; left out: the bundled one for photographs")
    inspect.add_argument("--root", type=Path, help="the data's folder")
    inspect.add_argument("--own", nargs="+", default=(), metavar="PHOTO", help="your own photographs or folders, first")
    inspect.add_argument("--photos", type=int, default=24, help="how many test photos are offered")
    inspect.add_argument("--no-browser", action="store_true", help="print the address instead of opening it")
    inspect.set_defaults(command=_inspect)
    doctor = commands.add_parser("doctor", help="what this machine offers, and the cure for each fault")
    data_arguments(doctor)
    doctor.set_defaults(command=_doctor)
    fetch = commands.add_parser("fetch", help="everything that will be needed offline")
    data_arguments(fetch)
    fetch.add_argument("--preset", default="teach", help="paper: VGG16's weights too, 528 MB")
    fetch.set_defaults(command=_fetch)
    return parser


def data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="scenes", help=DATA_HELP)
    parser.add_argument("--root", type=Path, help="the data set's folder")


def _run(given) -> None:
    from .headless.execute import run_notebook

    print(run_notebook(given.notebook, dict(given.parameter), given.out))


def _train(given) -> None:
    from .headless.execute import train_plainly
    from .training.aggregation import AGGREGATIONS

    if (name := dict(given.setting).get("aggregation", "sum")) not in AGGREGATIONS:
        _from_the_checkout("gradient_aggregation", f"{name!r} is none of {', '.join(AGGREGATIONS)}; those of torchjd")
    folder = train_plainly(dict(given.parameter), dict(given.setting), given.out, given.device)
    if not _process():
        from .training.run import Run

        print(f"{Run(folder).health()}\n{folder}")


def _process() -> int:
    """Which of the processes this is that torchrun has started to work together."""
    return int(os.environ.get("RANK", 0))


def _predict(given) -> None:
    from .files import check_target, write_table
    from .prediction import Predictor, is_run, packaged_run, photographs

    for option, ends in {"csv": (".csv", ".txt"), "sheet": (".pdf", ".png", ".jpg")}.items():
        check_target(target := getattr(given, option))
        if target and target.suffix.lower() not in ends:  # '--csv *.jpg' would replace a photograph
            raise ValueError(f"--{option} {target}: expected a name that ends in {' or '.join(ends)}")
    run, named = given.run, given.photos
    if not is_run(run):
        run, named = packaged_run("photographs"), [str(run), *named]
        print("aesthemo: the bundled network answers. It learnt from 25,336 photographs of PARA and their raters' "
              "votes: high is a mean score above 3 of 5, positive a majority of positive emotions", file=sys.stderr)
    table = Predictor(run, given.device, given.direct).predict(photographs(named), given.on_bad_image)
    if given.csv:
        write_table(given.csv, table)
    if given.sheet:
        from .plots.data import save_sheets

        save_sheets(table, given.sheet)
    print(table.to_string(index=False, float_format="{:.3f}".format))


def _evaluate(given) -> None:
    from .files import check_target, write_json
    from .prediction import evaluate

    check_target(given.json)
    result = evaluate(given.run, given.data, given.root, given.device, given.direct)
    print(f"aesthemo: tested on {result['images']}", file=sys.stderr)
    for task, reason in result["left_out"].items():
        print(f"aesthemo: {task} is left out: {reason}", file=sys.stderr)
    if given.json:
        write_json(given.json, result)
    print(json.dumps(result, indent=2))


def _export(given) -> None:
    from .export import export
    from .prediction import packaged_run
    from .training.run import Run

    files = export(Run(given.run) if given.run else packaged_run("photographs"), given.out)
    print(*files, sep="\n")
    if len(files) < 3:
        print("aesthemo: without ONNX; for that: pip install onnxscript onnxruntime", file=sys.stderr)


def _reproduce(given) -> None:
    main_job = _from_the_checkout("reproduce", "the main job's notebooks")
    main_job.reproduce(given.data, given.root, given.preset, given.out, bool(given.extra))


def _from_the_checkout(module: str, what: str):
    """A module of the studies, which a wheel doesn't hold; tests/test_house.py lists the calls."""
    from .files import project_folder

    try:
        sys.path.append(str(project_folder()))
    except FileNotFoundError as fault:
        raise FileNotFoundError(f"{what} come with the checkout: {fault}") from None
    return importlib.import_module(f"aesthemo_studies.{module}")


def _table(given) -> None:
    from .evaluation.comparison import collect, markdown_table, read_runs
    from .files import write_table

    runs = read_runs(given.runs) if given.runs.is_file() else collect(given.runs)
    if given.csv:
        write_table(given.csv, runs.drop(columns="run"), "%.6f")
    print(markdown_table(runs))


def _inspect(given) -> int:
    from .inspector.serve import serve

    return serve(given.run, given.root, given.photos, given.own, not given.no_browser)


def _doctor(given) -> int:
    from .doctor import checks, render

    made = checks(given.data, given.root)
    print(render(made))
    return int(any(check.status == "fail" for check in made))


def _fetch(given) -> None:
    from .data.readers import data_root
    from .data.readers.download import fetch
    from .models.backbones import imagenet_vgg, packaged_lite0
    from .training.runs import Config, open_data

    if given.data == "oasis":
        fetch(data_root("oasis", given.root))
    images = open_data(Config(data=given.data), given.root)  # draws the scenes
    print(f"{given.data}: {len(images)} images at {data_root(given.data, given.root)}")
    print(f"efficientnet_lite0: ImageNet weights at {packaged_lite0()}")
    if given.preset == "paper":
        print(f"vgg16: {len(imagenet_vgg('vgg16'))} tensors of ImageNet weights")


if __name__ == "__main__":
    sys.exit(main())
