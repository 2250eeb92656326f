"""Notebooks run headless, and trainings without their notebook."""

import ast
import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..files import atomic, project_folder, show_progress, usable_folder


class NotebookFailed(RuntimeError):
    """A cell raised; the message names the notebook, the cell and the fault."""


def notebook_path(name: str) -> Path:
    """A notebook by its bare name; a ValueError lists what there is."""
    folder = project_folder() / "notebooks"
    there = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.ipynb"))
             if ".ipynb_checkpoints" not in path.parts}
    wanted = name.removesuffix(".ipynb")
    fitting = [path for key, path in there.items() if wanted in (key, path.stem)]
    if len(fitting) != 1:
        raise ValueError(f"no notebook {name!r} in {folder}; there are {', '.join(there) or 'none'}")
    return fitting[0]


def checked_parameters(notebook: Path, given: dict[str, str | int | float | bool]) -> dict:
    """Parameters, given as text or typed, with the types that the notebook's parameters cell declares.

    Raises:
        ValueError: a name that the notebook lacks, or a value that is not of its type, out of range or contradictory.
    """
    import papermill

    from .parameters import check

    known = papermill.inspect_notebook(str(notebook))
    checked = {}
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"{notebook.stem} has no parameter {name!r}; its parameters are {', '.join(known)}")
        checked[name] = _typed(name, value, known[name]["inferred_type_name"])
    check(_defaults(known) | checked)
    return checked


def _defaults(known: dict) -> dict:
    return {name: ast.literal_eval(entry["default"]) for name, entry in known.items()}


def _typed(name: str, value, kind: str):
    from ..training.config import checked

    readers: dict[str, Any] = {"int": int, "float": float, "bool": {"true": True, "false": False}.__getitem__}
    if isinstance(value, str) and kind in readers:
        with contextlib.suppress(ValueError, KeyError):
            value = readers[kind](value.strip().lower())
    return checked(f"parameter {name}", value, kind)


def execute(name: str, parameters: dict, target: Path) -> Path:
    """Run a notebook with papermill and keep the executed copy at ``target``, which is returned.

    The copy gets its name only when the notebook ended well; one that failed is kept as '<name>.failed.ipynb', and
    ``NotebookFailed`` is raised. Parameters: see ``checked_parameters``; 'root', 'out' and a file of 'weights' are made
    absolute.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    notebook = notebook_path(name)
    parameters = checked_parameters(notebook, parameters)
    for key in ("root", "out", "run", "weights"):
        if parameters.get(key) and (key != "weights" or Path(parameters[key]).is_file()):  # or it is 'none'
            parameters[key] = str(Path(parameters[key]).resolve())
    check_kernel()
    failed = target.with_name(f"{target.stem}.failed.ipynb")
    with atomic(target) as temporary, headless():
        try:
            papermill.execute_notebook(
                str(notebook), str(temporary), parameters, kernel_name="python3", progress_bar=False,
                resources={"metadata": {"path": str(notebook.parent)}},  # papermill's cwd would move this whole process
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],  # or each warns of TCP and of its interrupt
                start_timeout=600, iopub_timeout=600,  # seconds; the usual 60 and 4 can be too few on a busy machine
            )
        except PapermillExecutionError as fault:
            os.replace(temporary, failed)
            said = f"{name}, cell {fault.exec_count}: {fault.ename}: {fault.evalue} (see {failed})"
            raise NotebookFailed(said) from None
    failed.unlink(missing_ok=True)
    return target


def check_kernel() -> None:
    """Raise ValueError if there is no home folder, no kernel 'python3', or no program that it starts."""
    usable_folder(os.path.expanduser("~"), "HOME", "Jupyter keeps its files")
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    install = f"{sys.executable} -m pip install ipykernel && {sys.executable} -m ipykernel install --sys-prefix"
    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        raise ValueError(f"Jupyter has no kernel 'python3'; install it with: {install}") from None
    if not shutil.which(spec.argv[0]):
        raise ValueError(f"Jupyter's kernel 'python3' starts {spec.argv[0]}, which is not there any more "
                         f"(named in {Path(spec.resource_dir) / 'kernel.json'}); install the kernel anew: {install}")


def execute_training(parameters: dict, folder: Path) -> Path:
    """Run 03_train and put its executed copy into the run folder that it leaves; returns the copy's path."""
    # Beside the folder until the training has put it in place, whole.
    staged = execute("03_train", parameters, folder.with_name(f"{folder.name}.03_train.ipynb"))
    os.replace(staged, folder / "03_train.ipynb")
    return folder / "03_train.ipynb"


def run_notebook(name: str, parameters: dict, out: Path) -> Path:
    """What ``aesthemo run`` does: execute a notebook with ``out`` as its folder of runs; returns the executed copy.

    It lies in ``out``, that of 03_train in the run folder that it left. Parameters: see ``checked_parameters``.
    """
    import papermill

    from .parameters import training

    notebook = notebook_path(name)
    given = checked_parameters(notebook, {"out": str(out)} | parameters)
    if notebook.stem != "03_train":
        return execute(name, given, out / f"{notebook.stem}.ipynb")
    values = _defaults(papermill.inspect_notebook(str(notebook))) | given
    return execute_training(given, training(values).folder(Path(values["out"])))


def train_plainly(parameters: dict, settings: dict, out: Path, device: str | None = None) -> Path:
    """What ``aesthemo train`` does: the run of 03_train without the notebook; returns the run's folder.

    Args:
        parameters: those of 03_train, as ``TRAINING`` has them.
        settings: what the notebook does not ask for, as text; see ``training.config.Settings``.
    """
    from ..training.config import KINDS
    from ..training.runs import train
    from .parameters import TRAINING, check, training

    values = TRAINING | {"out": str(out)}
    for name, value in parameters.items():
        if name not in TRAINING:
            raise ValueError(f"03_train has no parameter {name!r}; its parameters are {', '.join(TRAINING)}")
        values[name] = _typed(name, value, type(TRAINING[name]).__name__)
    check(values)
    config = training(values, {n: _typed(n, value, KINDS.get(n, "str")) for n, value in settings.items()})
    root = Path(values["root"]) if values["root"] else None
    report = None if show_progress() else _tell_epoch  # a log has no use for a bar
    return train(config, values["out"], root, values["redo"], device, report, values["on_bad_image"]).folder


def _tell_epoch(row: dict) -> None:
    losses = ", ".join(f"{part} loss {row[key]:.3f}" for part, key in (
        ("training", "train_loss"), ("validation", "validation_loss")) if key in row)
    print(f"epoch {row['epoch']}: {losses}", file=sys.stderr, flush=True)


def headless() -> contextlib.AbstractContextManager:
    """The kernels' environment: no progress bars, and figures drawn inline (MPLBACKEND=Agg would drop them)."""
    return environment(AESTHEMO_HEADLESS="1", MPLBACKEND=None)


@contextlib.contextmanager
def environment(**values: str | None) -> Iterator[None]:
    """In this block these variables are set, or with None unset, for this process and those that it starts."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value  # not popped first: jobs that run alongside read it
