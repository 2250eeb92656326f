"""Make the environment and run one of the project's jobs, on any system, with Python 3.11 and nothing else.

    python run.py TARGET [NAME=VALUE ...]

    python run.py test
    python run.py reproduce DATA=oasis ROOT=../oasis

The first run makes the folder .venv and installs requirements.lock into it; later runs find it there. It is made anew
if an installation was cut off, and brought up to date when the lock changes. For every target:

    NOENV=1                use the Python that runs this file, with the packages it has, and no .venv
    TORCH_INDEX=<address>  take torch from this wheel index (say, PyTorch's own with the CPU builds); it is remembered

A NAME may also be an environment variable, which is how make passes its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
LOCK = "requirements.lock"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
COMMON = ("NOENV", "TORCH_INDEX")
# The Python versions, from pyproject.toml, which an old Python has no reader for.
OLDEST, NEWEST = (3, 11), (3, 14)


ENCODING_IS_NAMED = {"PYTHONWARNDEFAULTENCODING": "1", "PYTHONWARNINGS": "ignore::EncodingWarning"}
"""Has Python warn of files opened in whatever encoding the system prefers; pyproject.toml makes ours an error."""


class Target(NamedTuple):
    """What a target runs: arguments of the environment's Python, and the option that each NAME becomes."""

    help: str
    command: tuple
    options: dict = {}


DATA = {"DATA": "--data", "ROOT": "--root"}
TARGETS = {
    "reproduce": Target(
        "train, compare, run the notebooks", ("-m", "aesthemo_lib.cli", "reproduce"),
        {**DATA, "PRESET": "--preset", "EXTRA": "--extra"}
    ),
    "test": Target("run the tests", ("-m", "pytest")),
    "browser": Target("test the inspector in a real browser", ("-m", "pytest", "tests/browser")),
    "notebooks": Target("run every notebook, and compare the kept outputs", ("-m", "aesthemo_studies", "notebooks")),
    "study": Target(
        "run a study of results/protocol.json, say STUDY=compare", ("-m", "aesthemo_studies", "study"),
        {"STUDY": "--study", "FORM": "--form", "ROOT": "--root"},
    ),
    "bench": Target(
        "measure how fast everything is, into results/bench.md", ("-m", "bench"),
        {"DEVICE": "--device", "ROOT": "--root"},
    ),
    "doctor": Target("say what is here, and the cure for what is not", ("-m", "aesthemo_lib.cli", "doctor"), DATA),
    "fetch": Target("get everything that will be needed offline", ("-m", "aesthemo_lib.cli", "fetch"), DATA),
    "lab": Target("open JupyterLab", ("-m", "jupyterlab", "--LabApp.default_url=/lab/tree/notebooks")),
    "inspect": Target(
        "open the inspector alone in the browser (ARGS: a run folder)", ("-m", "aesthemo_lib.cli", "inspect"),
        {"ROOT": "--root"},
    ),
    "soak": Target("kill, fill and wear it for long, into results/soak.json", ("tests/faults/soak.py",)),
    "course": Target("make the exercises' student copies and solutions", ("course/build.py",)),
    "book": Target("build the site in out/book/html, which needs no network to be read", ("docs/book.py",)),
    "lock": Target("make requirements.lock anew from pyproject.toml (ARGS=--upgrade for newer releases)", ()),
}


def main(arguments: list, environment: dict) -> int:
    """Run one target and return its exit code. Faults of usage are one line and code 2."""
    if not arguments or arguments[0] in ("help", "-h", "--help"):
        print(usage())
        return 0
    try:
        name, values = read_arguments(arguments, environment)
        in_place = values.get("NOENV", "0") != "0"
        check_system(in_place)
        if in_place or (name == "doctor" and not is_current(values.get("TORCH_INDEX"))):
            python = Path(sys.executable)  # a doctor doesn't wait for gigabytes: without an environment it says so
        else:
            python = make_environment(values.get("TORCH_INDEX"))
    except (ValueError, OSError) as fault:
        print(f"run.py: {fault}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as fault:
        print(f"run.py: {explain(fault)}", file=sys.stderr)
        return fault.returncode if fault.returncode > 0 else 1
    settings = child_environment(environment, python, in_place)
    if name == "lock":
        return write_lock(python, settings, values)
    if name == "test":
        settings.setdefault("OMP_NUM_THREADS", "1")  # each worker has one core; more threads would fight over it
        settings |= ENCODING_IS_NAMED
    return hand_over([str(python), *command_of(name, values)], settings)


def usage() -> str:
    """The docstring and the table of targets."""
    rows = [f"    {n:<12}{t.help}  [{' '.join([*t.options, 'ARGS'])}]" for n, t in TARGETS.items()]
    return "\n".join([__doc__.strip(), "", "Targets, and the NAMEs that each takes (ARGS are handed on as is):", *rows])


def read_arguments(arguments: list, environment: dict) -> tuple:
    """The target's name and its values. What stands on the command line goes before the environment's variables.

    Raises:
        ValueError: an unknown target or NAME, or a ROOT that is not there.
    """
    name, *pairs = arguments
    if name not in TARGETS:
        raise ValueError(f"unknown target {name!r}; the targets are {', '.join(TARGETS)}")
    known = [*TARGETS[name].options, "ARGS", *COMMON]
    values = {key: environment[key] for key in known if environment.get(key)}
    given = [pair.partition("=") for pair in pairs]
    strangers = [key for key, equals, _ in given if not equals or key not in known] + make_strangers(environment, known)
    if strangers:
        raise ValueError(f"{name} does not take {', '.join(strangers)}; write NAME=VALUE with {', '.join(known)}")
    values.update({key: value for key, _, value in given})
    if values.get("ROOT"):
        values["ROOT"] = os.path.abspath(os.path.expanduser(values["ROOT"]))  # jobs run in this file's folder
        if not os.path.exists(values["ROOT"]):
            raise ValueError(f"ROOT is {values['ROOT']}, which is not there; name the folder that holds the data")
    return name, {key: value for key, value in values.items() if value}


def make_strangers(environment: dict, known: list) -> list:
    """NAMEs on make's command line that the target doesn't take; make itself would pass a misspelt one in silence."""
    _, _, overrides = environment.get("MAKEFLAGS", "").partition("-- ")
    names = [word.partition("=")[0] for word in re.split(r"(?<!\\) ", overrides)]  # a space within a value is escaped
    return [name for name in names if name not in (*known, "PYTHON", "")]


def check_system(in_place: bool) -> None:
    """Refuse, in one line, a Python or a computer that torch has no wheels for."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        names = [f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
        better = next(filter(shutil.which, names), "python3.11")
        raise ValueError(
            f"Python 3.{OLDEST[1]} to 3.{NEWEST[1]} is needed, this is {platform.python_version()}; "
            f"use, say, '{better} run.py TARGET' or 'make TARGET PYTHON={better}'"
        )
    if in_place:
        return
    if platform.system() == "Darwin" and platform.machine() == "x86_64":
        raise ValueError(
            "torch ended its wheels for Intel Macs, and for an Intel Python on Apple silicon, at 2.2.2; "
            "on Apple silicon use an arm64 Python, on an Intel Mac another computer"
        )
    if sys.maxsize < 2**32:
        raise ValueError("this Python is a 32-bit one, for which torch has no wheels; install the 64-bit one")


def environment_python() -> Path:
    """The interpreter of .venv."""
    return HERE / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def wanted_stamp() -> dict:
    """What a finished environment was made from. A copied or moved .venv still points to its old folder."""
    sources = b"".join((HERE / name).read_bytes() for name in (LOCK, "pyproject.toml"))
    return {
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "project": str(HERE),
        "sources": hashlib.sha256(sources).hexdigest(),
    }


def read_stamp() -> dict:
    """The stamp that the last finished installation left, {} if there is none or its interpreter is gone."""
    try:
        stamp = json.loads((HERE / ".venv" / "finished.json").read_text(encoding="utf-8"))
        return stamp if environment_python().exists() else {}
    except (OSError, ValueError):
        return {}


def is_current(torch_index: str | None) -> bool:
    """Whether .venv is finished and what is asked for; an index that isn't named may be any."""
    stamp = read_stamp()
    index = stamp.pop("torch_index", None)
    return stamp == wanted_stamp() and torch_index in (None, index)


def make_environment(torch_index: str | None) -> Path:
    """Make or renew .venv if it is not current, once if two start together. Returns its interpreter."""
    if is_current(torch_index):
        return environment_python()
    with only_one(HERE / ".env-stamp.lock"):
        if not is_current(torch_index):
            install(read_stamp(), wanted_stamp(), torch_index)
    return environment_python()


def install(old: dict, new: dict, torch_index: str | None) -> None:
    """Install the lock and the project. The stamp is away meanwhile, so that an interrupted installation shows.

    A finished environment is brought up to date in place when only the lock moved; any other one starts from nothing,
    since pip takes a package that was half unpacked for a whole one.
    """
    started, stamp_file = time.monotonic(), HERE / ".venv" / "finished.json"
    torch_index = torch_index or old.get("torch_index")
    keep = old and {**old, "sources": ""} == {**new, "sources": "", "torch_index": torch_index}
    for line in installation_hints(torch_index):
        print(line, flush=True)
    with contextlib.suppress(FileNotFoundError):
        stamp_file.unlink()
    if not keep:
        step("1/3", "a virtual environment")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(HERE / ".venv")], check=True)
    step("2/3", f"the packages of {LOCK}")
    if torch_index:
        pip("--no-deps", "--index-url", torch_index, *torch_pins())
    pip("-r", LOCK, *(["--extra-index-url", torch_index] if torch_index else []))
    step("3/3", "this project")
    pip("--no-deps", "--editable", ".")
    stamp_file.write_text(json.dumps({**new, "torch_index": torch_index}), encoding="utf-8")
    print(f"The environment stands in .venv after {time.monotonic() - started:.0f} s.", flush=True)


def step(number: str, what: str) -> None:
    print(f"[{number}] installing {what}", flush=True)


def pip(*arguments: str) -> None:
    """Run the environment's pip. PIP_USER, which some set for themselves, doesn't work in a virtual environment."""
    command = [str(environment_python()), "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, cwd=HERE, env={**os.environ, "PIP_USER": "0"})


def torch_pins() -> list:
    """The lock's pins of torch and torchvision. A build such as 2.14.1+cpu satisfies ==2.14.1."""
    lock = (HERE / LOCK).read_text(encoding="utf-8")
    return [match.group() for match in re.finditer(r"^torch(vision)?==[^\s;#]+", lock, re.MULTILINE)]


def installation_hints(torch_index: str | None) -> list:
    """How large and slow this will be, and how to make it smaller."""
    bare_linux = platform.system() == "Linux" and not torch_index
    need = 7 if bare_linux else 2
    lines = [f"Making the environment in .venv: about {need} GB, and some minutes on a fast line."]
    if bare_linux and not (shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists()):
        lines.append(f"No NVIDIA driver here: stop and say TORCH_INDEX={CPU_INDEX} to save about 4.5 GB of it.")
    free = shutil.disk_usage(HERE).free / 1e9
    if free < need + 1:
        lines.append(f"Only {free:.1f} GB are free on this disk, which may not be enough.")
    return lines


def explain(fault: subprocess.CalledProcessError) -> str:
    """One line for a step of the installation that failed; its own words stand above it."""
    if "venv" in fault.cmd:
        return "making .venv failed; close what runs in it, or on Debian and Ubuntu install the package python3-venv"
    return "the installation failed as said above; check the network and the disk, then run the same command again"


@contextlib.contextmanager
def only_one(path: Path):
    """Hold a lock on a file, which the system gives up when this process ends, however it ends."""
    with open(path, "a+b") as file:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            while True:
                with contextlib.suppress(OSError):  # gives up after ten seconds: ask again
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                    break
        else:
            import fcntl

            with contextlib.suppress(OSError):  # a network disk without locks: go on as if alone
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def child_environment(environment: dict, python: Path, in_place: bool) -> dict:
    """The variables that a job gets: an activated .venv whose own kernel `python3` goes before any other one."""
    settings = {**environment, "PYTHONUTF8": "1", "JUPYTER_PREFER_ENV_PATH": "1"}
    if in_place or python != environment_python():
        return settings
    for name in ("PYTHONPATH", "PYTHONHOME"):  # another environment's packages must not shadow the lock's
        settings.pop(name, None)
    jupyter = [str(HERE / ".venv" / "share" / "jupyter"), environment.get("JUPYTER_PATH")]
    path = [str(python.parent), environment.get("PATH")]
    settings["JUPYTER_PATH"], settings["PATH"] = (os.pathsep.join(filter(None, parts)) for parts in (jupyter, path))
    settings["VIRTUAL_ENV"] = str(HERE / ".venv")
    return settings


def command_of(name: str, values: dict) -> list:
    """The arguments of the environment's Python for a target."""
    target = TARGETS[name]
    command = list(target.command) + (["-n", str(worker_count()), "--dist", "loadfile"] if name == "test" else [])
    for key, option in target.options.items():
        command += [option, values[key]] if key in values else []
    return command + split_args(values)


def split_args(values: dict) -> list:
    return shlex.split(values.get("ARGS", ""), posix=os.name != "nt")  # a backslash is part of a Windows path


def worker_count() -> int:
    """Test processes: as many as cores that may be used, at most four, for each holds torch in its memory."""
    from aesthemo_lib.device import allowed_cores

    return min(4, allowed_cores())


def write_lock(python: Path, settings: dict, values: dict) -> int:
    """Resolve pyproject.toml for every system at once, without what torch itself brings for NVIDIA.

    A lock that named those 4 GB would drag them in beside a CPU build too; without them, torch's own pins hold.
    """
    command = [str(python), "-m", "uv", "pip", "compile", "pyproject.toml"]
    command += [word for extra in ("dev", "types", "book", "study") for word in ("--extra", extra)]
    command += ["--universal", "--python-version", "3.11", "--fork-strategy", "fewest", *split_args(values)]
    command += ["--quiet"]
    everything = subprocess.run(command, cwd=HERE, env=settings, stdout=subprocess.PIPE, encoding="utf-8")
    if everything.returncode:
        return everything.returncode
    names = re.findall(r"^((?:nvidia|cuda)-[^=]+|triton)==", everything.stdout, re.MULTILINE)
    command += ["--annotation-style", "line", "--custom-compile-command", "python run.py lock"]
    command += ["--output-file", LOCK] + [f"--no-emit-package={name}" for name in names]
    return subprocess.run(command, cwd=HERE, env=settings).returncode


def hand_over(command: list, settings: dict) -> int:
    """Run a job in this folder as if it were this process: its signals, its terminal, its exit code."""
    print("+", *command[1:], flush=True)
    if os.name != "nt":
        os.chdir(HERE)
        os.execve(command[0], command, settings)
    with subprocess.Popen(command, cwd=HERE, env=settings) as child:
        while True:
            with contextlib.suppress(KeyboardInterrupt):  # the job got it too, and decides
                return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], dict(os.environ)))
