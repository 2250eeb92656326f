"""Make the environment and run one of the project's jobs, on any system, with Python 3.11 and nothing else.

    python run.py reproduce DATA=oasis ROOT=../oasis

The first run makes the folder .venv, and each target adds the packages that it needs: by uv where that can be had, by
pip otherwise. An installation that was cut off starts from nothing, a lock that changed is installed on top. A target
takes ARGS="..." for the job itself, the NAMEs that stand behind it below, and, like them also from the environment:

    NOENV=1                use the Python that runs this file, with the packages it has, and no .venv
    TORCH_INDEX=<address>  take torch from this wheel index; it is remembered. Without it: PyTorch's index of CPU
                           builds on Linux without an NVIDIA driver, PyPI elsewhere
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
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYTHON = HERE / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = HERE / ".venv" / "finished.json"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
OLDEST, NEWEST = (3, 11), (3, 14)  # from pyproject.toml, which an old Python has no reader for
# What it does, the arguments of the environment's Python, the NAMEs it takes (DATA becomes --data), the lock it needs.
TARGETS = {
    "reproduce": ("train, compare, run the notebooks", "-m aesthemo_lib.cli reproduce", "DATA ROOT PRESET EXTRA", ""),
    "test": ("run the tests", "-m pytest -n auto --dist loadfile", "", "test"),
    "browser": ("test the inspector in a real browser", "-m pytest tests/browser", "", "test"),
    "notebooks": ("run every notebook, compare the kept outputs", "-m aesthemo_studies notebooks", "", "test"),
    "study": ("run a study, say STUDY=compare", "-m aesthemo_studies study", "STUDY FORM ROOT", "study"),
    "bench": ("measure how fast everything is", "-m bench", "DEVICE ROOT", ""),
    "doctor": ("say what is here, and the cure for what is not", "-m aesthemo_lib.cli doctor", "DATA ROOT", ""),
    "fetch": ("get everything that will be needed offline", "-m aesthemo_lib.cli fetch", "DATA ROOT PRESET", ""),
    "lab": ("open JupyterLab", "-m jupyterlab --LabApp.default_url=/lab/tree/notebooks", "", "lab"),
    "inspect": ("open the inspector (ARGS: a run folder)", "-m aesthemo_lib.cli inspect", "ROOT", ""),
    "soak": ("kill, fill and wear it for long", "tests/faults/soak.py", "", "test"),
    "course": ("make the exercises' student copies and solutions", "course/build.py", "", ""),
    "book": ("build the site in out/book/html", "docs/book.py", "", "book"),
    "lock": ("make the lock files anew from pyproject.toml (ARGS=--upgrade)", ".ci/lock.py", "", ""),
}


def main(arguments: list, environment: dict) -> int:
    """Run one target and return its exit code. Faults of usage are one line and code 2."""
    if not arguments or arguments[0] in ("help", "-h", "--help"):
        print(__doc__, *(f"    {name:<12}{says}  [{names}]" for name, (says, _, names, _) in TARGETS.items()), sep="\n")
        return 0
    try:
        name, values = read_arguments(arguments, environment)
        in_place = values.get("NOENV", "0") != "0"
        check_system(in_place)
        python = Path(sys.executable) if in_place else environment_for(name, values.get("TORCH_INDEX"))
    except (ValueError, OSError) as fault:
        print(f"run.py: {fault}", file=sys.stderr)
        return 2
    except (subprocess.CalledProcessError, KeyboardInterrupt):
        print("run.py: .venv is not finished; see above, check network and disk, and start again", file=sys.stderr)
        return 1
    options = [word for key in TARGETS[name][2].split() if key in values for word in (f"--{key.lower()}", values[key])]
    own = shlex.split(values.get("ARGS", ""), posix=os.name != "nt")  # a backslash is part of a Windows path
    return hand_over([str(python), *TARGETS[name][1].split(), *options, *own], environment)


def read_arguments(arguments: list, environment: dict) -> tuple:
    """The target's name and its values, the command line's before the environment's; ValueError says what is wrong."""
    name, *pairs = arguments
    if name not in TARGETS:
        raise ValueError(f"unknown target {name!r}; the targets are {', '.join(TARGETS)}")
    known = [*TARGETS[name][2].split(), "ARGS", "NOENV", "TORCH_INDEX"]
    given = dict(pair.partition("=")[::2] for pair in pairs)
    _, _, of_make = environment.get("MAKEFLAGS", "").partition("-- ")  # make itself passes a misspelt NAME in silence
    words = re.split(r"(?<!\\) ", of_make)  # a space within a value is escaped
    strangers = sorted({*given, *(word.partition("=")[0] for word in words)} - {*known, "PYTHON", ""})
    if strangers:
        raise ValueError(f"{name} does not take {', '.join(strangers)}; write NAME=VALUE with {', '.join(known)}")
    values = {key: environment.get(key, "") for key in known} | given
    if values.get("ROOT"):
        values["ROOT"] = os.path.abspath(os.path.expanduser(values["ROOT"]))  # jobs run in this file's folder
        if not os.path.exists(values["ROOT"]):
            raise ValueError(f"ROOT is {values['ROOT']}, which is not there; name the folder that holds the data")
    return name, {key: value for key, value in values.items() if value}


def check_system(in_place: bool) -> None:
    """Refuse, in one line, a Python or a computer that torch has no wheels for."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        raise ValueError(f"Python 3.{OLDEST[1]} to 3.{NEWEST[1]} is needed, this is {platform.python_version()}; use, "
                         f"say, 'python3.12 run.py TARGET' or 'make TARGET PYTHON=python3.12'")
    if not in_place and ((platform.system(), platform.machine()) == ("Darwin", "x86_64") or sys.maxsize < 2**32):
        raise ValueError("torch has wheels for 64-bit Pythons alone, on a Mac for arm64 alone (not for Intel Macs)")


def environment_for(name: str, torch_index: str | None) -> Path:
    """The interpreter for a target; .venv is made or renewed if it is not current, once if two start together."""
    lock = TARGETS[name][3]
    if is_current(lock, torch_index) or name == "doctor":  # which says what is missing, and waits for no gigabytes
        return PYTHON if is_current(lock, torch_index) else Path(sys.executable)
    with open(HERE / ".env-stamp.lock", "a+b") as file:  # the system gives the lock up when this process ends
        with contextlib.suppress(OSError):  # a network disk without locks: go on as if alone
            if os.name == "nt":
                import msvcrt
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
            else:
                import fcntl
                fcntl.flock(file, fcntl.LOCK_EX)
        if not is_current(lock, torch_index):
            install(lock, torch_index)
    return PYTHON


def wanted_stamp(*locks: str) -> dict:
    """What a finished environment was made from. A copied or moved .venv still points to its old folder."""
    files = ["requirements.lock", "pyproject.toml", *(f"requirements-{lock}.lock" for lock in locks if lock)]
    sources = {name: hashlib.sha256((HERE / name).read_bytes()).hexdigest() for name in files}
    return {"place": f"{sys.version_info[:2]} {HERE}", **sources}


def read_stamp() -> dict:
    """What the last finished installation left, or {} if there is none or its interpreter is gone."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(STAMP.read_text(encoding="utf-8")) if PYTHON.exists() else {}
    return {}


def is_current(lock: str, torch_index: str | None) -> bool:
    """Whether .venv is finished and has what is asked for; an index that isn't named may be any."""
    old = read_stamp()
    return wanted_stamp(lock).items() <= old.items() and torch_index in (None, old["torch_index"])


def install(lock: str, torch_index: str | None) -> None:
    """Install what is wanted, onto a finished environment alone: pip takes a package half unpacked for a whole one."""
    started, old = time.monotonic(), read_stamp()
    keep = old.get("place") == wanted_stamp()["place"] and torch_index in (None, old["torch_index"])
    index = old["torch_index"] if keep else torch_index or default_index()
    locks = {lock, *(re.findall(r"requirements-(\w+)\.lock", " ".join(old)) if keep else ())}
    new = {**wanted_stamp(*locks), "torch_index": index}
    os.environ["PIP_USER"] = "0"  # some set it for themselves; in .venv pip refuses it
    STAMP.unlink(missing_ok=True)  # so that an interrupted installation shows
    if not keep:
        print(f"[1/2] making .venv, of up to 8 GB; {shutil.disk_usage(HERE).free / 1e9:.0f} are free here", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(HERE / ".venv")], check=True)
        if not shutil.which("uv"):
            subprocess.run([PYTHON, "-m", "pip", "install", "-q", "--retries", "1", "--timeout", "5", "uv<1"])
    files = sorted((name for name in new if name.endswith(".lock")), key=len)
    print(f"[2/2] installing {', '.join(files)} and this project", flush=True)
    if index:
        add("--no-deps", "--index-url", index, "-c", files[0], "torch", "torchvision")  # 2.14.1+cpu satisfies ==2.14.1
    add(*[word for name in files for word in ("-r", name)], "-e", ".")
    STAMP.write_text(json.dumps(new), encoding="utf-8")
    print(f"The environment stands in .venv after {time.monotonic() - started:.0f} s.", flush=True)


def default_index() -> str:
    """PyTorch's index of CPU builds where Linux has no NVIDIA driver; else '' for PyPI, whose torch has CUDA there."""
    if platform.system() != "Linux" or shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists():
        return ""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{CPU_INDEX}/torch/", timeout=5):
        return CPU_INDEX
    print(f"{CPU_INDEX} can't be reached, so torch comes from PyPI, with 4.5 GB of CUDA", flush=True)
    return ""


def add(*arguments: str) -> None:
    """Install into .venv by uv; pip tries what uv couldn't do, since it alone knows pip's settings, a mirror say."""
    uv = shutil.which("uv", path=os.pathsep.join([str(PYTHON.parent), os.environ.get("PATH", "")]))
    words = ["--default-index" if word == "--index-url" else word for word in arguments]  # else UV_DEFAULT_INDEX wins
    if not uv or subprocess.run([uv, "pip", "install", "--python", PYTHON, *words], cwd=HERE).returncode:
        subprocess.run([PYTHON, "-m", "pip", "install", *arguments], check=True, cwd=HERE)


def hand_over(command: list, environment: dict) -> int:
    """Run a job in this folder as if it were this process: its signals, its terminal, its exit code."""
    settings = {**environment, "PYTHONUTF8": "1", "JUPYTER_PREFER_ENV_PATH": "1"}
    if command[0] == str(PYTHON):  # an activated .venv, with nothing of another environment that would shadow it
        settings["PATH"] = os.pathsep.join([str(PYTHON.parent), environment.get("PATH", os.defpath)])
        for shadow in ("PYTHONPATH", "PYTHONHOME", "JUPYTER_PATH"):
            settings.pop(shadow, None)
    print("+", *command[1:], flush=True)
    if os.name != "nt":
        os.chdir(HERE)
        os.execve(command[0], command, settings)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the job gets it too, and decides
    return subprocess.call(command, cwd=HERE, env=settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], dict(os.environ)))
