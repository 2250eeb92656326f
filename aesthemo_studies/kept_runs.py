"""The repository's own runs, kept without their weights, so that a lesson that compares runs need not wait for any.

``results/runs/<data>/`` is laid out as ``runs/<data>/``; a run there has only its small files. A lesson shows the
reader's own comparison if there is one. The two are never mixed, and a line says when it is the repository's.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from aesthemo_lib.evaluation.comparison import collect
from aesthemo_lib.files import atomic_folder, digest, project_folder, read_json, write_json
from aesthemo_lib.training.run import Run, stored_hash
from aesthemo_lib.training.runs import Config, describe, open_data

from .reproduce import planned

PLACE = "results/runs"
SMALL = ("history.csv", "metrics.json", "predictions.csv", "timing.json")
"""What a run is kept with, beside its ``config.json``."""
YOURS, REPOSITORYS = "your runs", "the repository's runs"


class NothingToCompare(FileNotFoundError):
    """There are no runs to compare, neither the user's own nor the repository's; the message says how to make some."""


def to_compare(
    out: Path, data: str, preset: str, reference: str = "", method: str = "", root: Path | None = None,
) -> tuple[pd.DataFrame, str]:
    """The finished runs below ``out`` if they make a comparison, else the repository's, and whose they are.

    They make one if the reference and another method share a split and seed. The repository's are taken only if they
    make one themselves and saw the very images that lie here; a printed line then says so, and why.

    Args:
        out: the folder of all runs.
        data, preset: of the runs.
        reference: what the others are compared with; empty: any finished run will do.
        method: what is compared with it; empty: any.
        root: the data's folder.

    Returns:
        a table as ``collect`` makes it, and ``YOURS`` or ``REPOSITORYS``, for captions.

    Raises:
        NothingToCompare: neither will do.
    """
    folder, kept = Path(out) / data, _kept(data)
    own = kept is not None and folder.resolve() == kept.resolve()
    mine = _finished(folder, preset)
    reason = _lack(mine, folder, preset, reference, method)
    if not reason:
        return mine, REPOSITORYS if own else YOURS
    theirs = _finished(kept, preset)
    if _lack(theirs, kept, preset, reference, method):
        there = f"of {', '.join(theirs['method'].unique())}" if len(theirs) else f"not of {data} and preset {preset}"
        unfit = f"and the runs that the repository keeps are {there}"
    elif _images(theirs) != {open_data(Config(data, preset=preset), root).fingerprint()}:
        unfit = f"and {REPOSITORYS} saw other images than those that lie here"
    else:
        print(f"These are {REPOSITORYS}, not yours: {theirs['run'].nunique()} runs of {data}, preset {preset}, kept in "
              f"{PLACE}, because {reason}. {_advice(data, preset, root)}")
        return theirs, REPOSITORYS
    raise NothingToCompare(f"{reason}, {unfit}. {_advice(data, preset, root)}")


def _kept(data: str) -> Path | None:
    try:
        return project_folder() / PLACE / data
    except FileNotFoundError:  # the library is installed without its checkout
        return None


def _finished(folder: Path | None, preset: str) -> pd.DataFrame:
    try:
        return collect(folder, preset) if folder else pd.DataFrame()
    except FileNotFoundError:
        return pd.DataFrame()


def _lack(runs: pd.DataFrame, folder: Path | None, preset: str, reference: str, method: str) -> str:
    """Why these runs make no comparison; empty if they do."""
    if runs.empty:
        return f"no finished run of preset {preset} lies below {folder}"
    if not reference:
        return ""
    places = {name: set(zip(rows["split"], rows["seed"], strict=True)) for name, rows in runs.groupby("method")}
    missing = [name for name in dict.fromkeys([reference, method]) if name and name not in places]
    if missing or len(places) == 1:
        none = f", none of {' or '.join(missing)}" if missing else ""
        return f"the finished runs of preset {preset} below {folder} are of {', '.join(places)} alone{none}"
    others = [method] if method else [name for name in places if name != reference]
    if not any(places[reference] & places[name] for name in others):
        return f"the runs of {reference} and {', '.join(others)} below {folder} have no split and seed in common"
    return ""


def _images(runs: pd.DataFrame) -> set[str]:
    return {Run(folder).described["images"] for folder in runs["run"].unique()}


def _command(data: str, preset: str, root: Path | None) -> str:
    given = {"DATA": data if data != "scenes" else "", "ROOT": root, "PRESET": preset if preset != "teach" else ""}
    return " ".join(["python run.py reproduce", *(f"{name}={value}" for name, value in given.items() if value)])


def _advice(data: str, preset: str, root: Path | None) -> str:
    return f"Make your own with lesson 3, or those of the main methods with: {_command(data, preset, root)}"


def keep(out: Path, data: str = "scenes", preset: str = "teach", to: Path | None = None) -> Path:
    """Keep the runs that ``reproduce`` has made: all of them, as this version would make them, or none.

    Args:
        out: the folder of all runs.
        data, preset: which of them.
        to: the folder of kept runs, by default the project's; those of other presets stay there.

    Returns:
        the data set's folder in it.

    Raises:
        ValueError: the data's terms don't let it be passed on, or a run is missing or was made otherwise.
    """
    if data != "scenes":
        raise ValueError(f"{data}: a run's predictions hold the labels of other people's photographs, which are passed "
                         f"on under their terms only; keep runs on scenes, and of others the table (aesthemo table)")
    images, configs = open_data(Config(data, preset=preset)), planned(data, preset, fixed=False)
    other = [f"{config.name} {config.folder(out).name}" for config in configs
             if stored_hash(config.folder(out)) != digest(describe(config, images))]
    if other:
        raise ValueError(f"of {len(configs)} runs below {Path(out) / data} {len(other)} are missing or not as this "
                         f"version makes them ({', '.join(other[:3])}{', ..' if len(other) > 3 else ''}); make them "
                         f"with: {_command(data, preset, None)}")
    target = (project_folder() / PLACE if to is None else Path(to)) / data
    with atomic_folder(target) as whole:
        for folder in target.glob("*/*"):
            if folder.name != preset:
                shutil.copytree(folder, whole / folder.parent.name / folder.name)
        for config in configs:
            copy_small(config.folder(out), whole / config.folder(Path(".")).relative_to(data))
    return target


def copy_small(run: Path, to: Path) -> dict:
    """Copy a run's small files into a folder: all but the weights, without the place of its data.

    Returns:
        the content of its ``config.json``.
    """
    to.mkdir(parents=True, exist_ok=True)
    for name in SMALL:
        shutil.copyfile(run / name, to / name)
    content = read_json(run / "config.json") | {"root": None}
    write_json(to / "config.json", content)
    return content
