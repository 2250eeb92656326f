"""run.py on a project with the same files and nothing heavy in its locks: it needs no network, and no torch."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest

import run

PROJECT = Path(__file__).parents[1]
DRIVER = Path(__file__).parent / "driver"
"""A folder with an ``nvidia-smi`` that does nothing."""
UV = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))

JOB = """
import json, os, sys
keys = ("JUPYTER_PATH", "PATH", "PYTHONPATH")
print("JOB " + json.dumps([sys.argv[1:], os.getcwd(), sys.prefix, {key: os.environ.get(key) for key in keys}]))
sys.exit(7)
"""
"""Stands where the library's command line is: says how it was called."""

BACKEND = """
import zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "fake-0.0.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        info = "fake-0.0.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: fake\\nVersion: 0.0.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""
"""Builds the project without asking an index for a build backend."""


@pytest.fixture
def project(tmp_path) -> Path:
    """A checkout in a folder with a name as people give them."""
    folder = tmp_path / "Zoë's course (2)"
    (folder / "aesthemo_lib").mkdir(parents=True)
    for name in ("run.py", "Makefile"):
        shutil.copy(PROJECT / name, folder)
    (folder / "aesthemo_lib" / "__init__.py").touch()
    (folder / "aesthemo_lib" / "cli.py").write_text(JOB, encoding="utf-8")
    (folder / "backend.py").write_text(BACKEND, encoding="utf-8")
    for name in ("requirements.lock", "requirements-lab.lock"):
        (folder / name).write_text("# nothing\n", encoding="utf-8")
    build = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    (folder / "pyproject.toml").write_text(build, encoding="utf-8")
    return folder


def environment(**more: str) -> dict[str, str]:
    """The variables of this process without those that steer run.py, without an index, and without uv.

    There is an NVIDIA driver, or what looks like one: run.py then doesn't ask for PyTorch's CPU builds.
    """
    ours = {"DATA", "ROOT", "PRESET", "ARGS", "NOENV", "TORCH_INDEX", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    kept = {key: value for key, value in os.environ.items() if key not in ours}
    folders = [folder for folder in os.environ["PATH"].split(os.pathsep) if not shutil.which("uv", path=folder)]
    kept["PATH"] = os.pathsep.join([str(DRIVER), *folders])
    return kept | {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull} | more


def call(project: Path, *arguments: str, cwd: Path | None = None, program=(sys.executable,), **more: str):
    command = [*program, *([str(project / "run.py")] if program == (sys.executable,) else []), *arguments]
    return subprocess.run(command, cwd=cwd or project, env=environment(**more), capture_output=True, encoding="utf-8")


def job_of(done) -> tuple:
    """What the job printed: its arguments, working directory, sys.prefix and some variables."""
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("JOB ")]
    return tuple(json.loads(line[4:]))


def fake_index(folder: Path, *wheels: str) -> str:
    """A wheel index with empty packages."""
    for wheel in wheels:
        name, version, *_ = wheel.split("-")
        target = folder / name
        target.mkdir(parents=True)
        with zipfile.ZipFile(target / wheel, "w") as file:
            info = f"{name}-{version}.dist-info"
            file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            file.writestr(f"{info}/RECORD", "")
        (target / "index.html").write_text(f'<a href="{wheel.replace("+", "%2B")}">{wheel}</a>', encoding="utf-8")
    return folder.as_uri()


def load(project: Path):
    """The project's run.py as a module."""
    spec = spec_from_file_location("run_of_a_project", project / "run.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The arguments


def test_arguments_go_before_variables_and_empty_ones_are_not_there(tmp_path):
    variables = {"DATA": "scenes", "PRESET": "smoke", "ARGS": "", "HOME": "x"}
    name, values = run.read_arguments(["reproduce", "DATA=oasis", f"ROOT={tmp_path}"], variables)
    assert (name, values) == ("reproduce", {"DATA": "oasis", "PRESET": "smoke", "ROOT": str(tmp_path)})


@pytest.mark.parametrize("arguments, variables, says", [
    (["tset"], {}, "unknown target 'tset'; the targets are reproduce, test,"),
    (["test", "DATA=oasis"], {}, "test does not take DATA; write NAME=VALUE with ARGS, NOENV, TORCH_INDEX"),
    (["reproduce", "PRESEST=paper"], {}, "does not take PRESEST"),
    (["reproduce", "oasis"], {}, "does not take oasis"),
    (["reproduce"], {"MAKEFLAGS": "s -- PRESEST=paper DATA=oasis PYTHON=python3"}, "does not take PRESEST;"),
    (["reproduce", "ROOT=/not there"], {}, "not there, which is not there; name the folder"),
])  # fmt: skip
def test_what_is_unknown_is_refused_in_one_line(arguments, variables, says, capsys):
    assert run.main(arguments, variables) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_help_lists_every_target(capsys):
    assert run.main([], {}) == run.main(["help"], {}) == 0
    shown = capsys.readouterr().out
    assert all(f"\n    {name} " in shown for name in run.TARGETS)


# The system


@pytest.mark.parametrize("version, works", [((3, 10), False), ((3, 11), True), ((3, 14), True), ((3, 15), False)])
def test_pythons_outside_the_range_are_refused(monkeypatch, version, works):
    monkeypatch.setattr(run.sys, "version_info", (*version, 1))
    if works:
        run.check_system(in_place=True)
    else:
        with pytest.raises(ValueError, match=r"Python 3\.11 to 3\.14 is needed, this is"):
            run.check_system(in_place=True)


def test_an_old_python_can_read_the_file_and_say_so():
    ast.parse((PROJECT / "run.py").read_text(encoding="utf-8"), feature_version=(3, 7))


@pytest.mark.parametrize("system, machine, works", [
    ("Darwin", "x86_64", False), ("Darwin", "arm64", True), ("Linux", "x86_64", True), ("Windows", "AMD64", True),
])  # fmt: skip
def test_intel_macs_are_refused_before_anything_is_installed(monkeypatch, system, machine, works):
    monkeypatch.setattr(run, "platform", SimpleNamespace(system=lambda: system, machine=lambda: machine))
    if works:
        run.check_system(in_place=False)
    else:
        with pytest.raises(ValueError, match="on a Mac for arm64 alone"):
            run.check_system(in_place=False)
        run.check_system(in_place=True)


@pytest.mark.parametrize("system, driver, reached, index, says", [
    ("Linux", False, True, run.CPU_INDEX, ""),
    ("Linux", False, False, "", "can't be reached, so torch comes from PyPI, with 4.5 GB of CUDA"),
    ("Linux", True, True, "", ""),
    ("Windows", False, True, "", ""),
])  # fmt: skip
def test_linux_without_a_driver_gets_the_small_build(monkeypatch, capsys, system, driver, reached, index, says):
    def urlopen(address, timeout):
        assert address.startswith(run.CPU_INDEX) and timeout <= 5
        if not reached:
            raise URLError("no network")
        return contextlib.nullcontext()

    monkeypatch.setattr(run, "platform", SimpleNamespace(system=lambda: system))
    monkeypatch.setattr(run.shutil, "which", lambda name: f"/usr/bin/{name}" if driver else None)
    monkeypatch.setattr(run, "Path", lambda place: tmp_place(place, driver))
    monkeypatch.setattr(run.urllib.request, "urlopen", urlopen)
    assert run.default_index() == index
    said = capsys.readouterr().out
    assert says in said and said.count("\n") == bool(says)


def tmp_place(place: str, there: bool) -> SimpleNamespace:
    assert place == "/proc/driver/nvidia"
    return SimpleNamespace(exists=lambda: there)


# The environment


def test_it_is_made_once_and_kept_up_to_date(project, tmp_path):
    """One environment through its life: made by one of two that start together, used, updated, broken, made anew."""
    (tmp_path / "photos").mkdir()
    command = [sys.executable, str(project / "run.py"), "reproduce", "ROOT=photos", "DATA=oasis"]
    both = [
        subprocess.Popen(command, cwd=tmp_path, env=environment(PYTHONPATH="elsewhere", JUPYTER_PATH="x"),
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
        for _ in range(2)
    ]  # fmt: skip
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [7, 7], outputs
    assert sorted(output.count("[1/2]") for output in outputs) == [0, 1]
    made = project / ".venv"
    arguments, folder, prefix, variables = job_of(SimpleNamespace(stdout=outputs[0]))
    assert arguments == ["reproduce", "--data", "oasis", "--root", str(tmp_path / "photos")]
    assert Path(folder) == project and Path(prefix) == made
    assert variables["PYTHONPATH"] is None and variables["JUPYTER_PATH"] is None
    assert Path(variables["PATH"].split(os.pathsep)[0]) == Path(prefix) / ("Scripts" if os.name == "nt" else "bin")

    again = call(project, "fetch")
    assert "installing" not in again.stdout and job_of(again)[0] == ["fetch"]

    (made / "witness").touch()
    (project / "requirements.lock").write_text("# another\n", encoding="utf-8")
    updated = call(project, "fetch")
    assert "[1/2]" not in updated.stdout and "[2/2]" in updated.stdout and (made / "witness").exists()

    more = call(project, "lab")
    assert "[2/2] installing requirements.lock, requirements-lab.lock and" in more.stdout
    assert (made / "witness").exists()
    assert more.returncode == 1 and "No module named jupyterlab" in more.stderr  # the lock is empty
    assert "installing" not in call(project, "lab").stdout + call(project, "fetch").stdout
    (project / "requirements-lab.lock").write_text("# another\n", encoding="utf-8")
    assert "installing" not in call(project, "fetch").stdout and "[2/2]" in call(project, "lab").stdout

    (project / "requirements.lock").write_text("cannot-be-had==1\n", encoding="utf-8")
    failed = call(project, "fetch")
    assert failed.returncode == 1 and "JOB" not in failed.stdout
    assert failed.stderr.splitlines()[-1].startswith("run.py: .venv is not finished; see above")
    assert not (made / "finished.json").exists()

    # After an installation that did not end well it starts from nothing; this time with another build of torch.
    named = fake_index(tmp_path / "named", "torch-9.1.2+cpu-py3-none-any.whl", "torchvision-8.1.0+cpu-py3-none-any.whl")
    usual = fake_index(tmp_path / "usual", "torch-9.1.2-py3-none-any.whl", "torchvision-8.1.0-py3-none-any.whl")
    lock = "torch==9.1.2  # via x\ntorchvision==8.1.0 ; python_version > '3'\n"
    (project / "requirements.lock").write_text(lock, encoding="utf-8")
    anew = call(project, "fetch", f"TORCH_INDEX={named}", PIP_NO_INDEX="0", PIP_INDEX_URL=usual)
    assert anew.returncode == 7 and not (made / "witness").exists(), anew.stdout + anew.stderr
    installed = {path.name for path in made.rglob("torch*.dist-info")}
    assert installed == {"torch-9.1.2+cpu.dist-info", "torchvision-8.1.0+cpu.dist-info"}
    assert "installing" not in call(project, "fetch").stdout  # the index is remembered


@pytest.fixture
def stamped(project):
    """run.py of a project with a finished environment, which is pretended."""
    module = load(project)
    module.PYTHON.parent.mkdir(parents=True)
    module.PYTHON.touch()
    stamp(project, module.wanted_stamp("lab"))
    assert module.is_current("", None) and module.is_current("lab", None)
    return module


def stamp(project: Path, content: dict, torch_index: str | None = None) -> None:
    text = json.dumps({**content, "torch_index": torch_index})
    (project / ".venv" / "finished.json").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("change", [
    lambda project: (project / "requirements.lock").write_text("# moved on", encoding="utf-8"),
    lambda project: (project / "requirements-lab.lock").write_text("# moved on", encoding="utf-8"),
    lambda project: (project / "pyproject.toml").write_text("# moved on", encoding="utf-8"),
    lambda project: (project / ".venv" / "finished.json").unlink(),
    lambda project: (project / ".venv" / "finished.json").write_text('{"python', encoding="utf-8"),
    lambda project: shutil.rmtree(project / ".venv" / ("Scripts" if os.name == "nt" else "bin")),
], ids=["lock", "other lock", "pyproject", "interrupted", "half a stamp", "no interpreter"])  # fmt: skip
def test_an_environment_that_is_not_what_it_should_be_shows(stamped, project, change):
    change(project)
    assert not stamped.is_current("lab", None)


def test_another_python_makes_another_environment(stamped, project):
    stamp(project, {**stamped.wanted_stamp(), "place": f"(3, 99) {project}"})
    assert not stamped.is_current("", None)


def test_a_moved_checkout_makes_another_environment(stamped, project):
    """The scripts in .venv, and the link to the project, hold the old place."""
    moved = project.with_name("moved")
    project.rename(moved)
    assert not load(moved).is_current("", None)


def test_the_wheel_index_is_remembered(stamped, project):
    stamp(project, stamped.wanted_stamp(), "https://a.example/cpu")
    assert stamped.is_current("", None) and stamped.is_current("", "https://a.example/cpu")
    assert not stamped.is_current("", "https://a.example/cuda")


@pytest.mark.skipif(not UV, reason="uv is not here")
def test_uv_installs_where_it_is_and_pip_what_uv_cannot(project, tmp_path):
    """As above, by uv; then from an index that only pip's settings name."""
    named = fake_index(tmp_path / "named", "torch-9.1.2+cpu-py3-none-any.whl", "torchvision-8.1.0+cpu-py3-none-any.whl")
    usual = fake_index(tmp_path / "usual", "torch-9.1.2-py3-none-any.whl", "torchvision-8.1.0-py3-none-any.whl",
                       "six-7.0-py3-none-any.whl")  # fmt: skip
    (project / "requirements.lock").write_text("torch==9.1.2  # via x\ntorchvision==8.1.0\n", encoding="utf-8")
    uv = {"PATH": os.pathsep.join([environment()["PATH"], str(Path(UV).parent)]), "UV_CACHE_DIR": str(tmp_path / "uv"),
          "UV_DEFAULT_INDEX": usual, "UV_NO_CONFIG": "1", "UV_HTTP_RETRIES": "0"}  # fmt: skip
    made = call(project, "fetch", f"TORCH_INDEX={named}", **uv)
    assert made.returncode == 7, made.stdout + made.stderr
    assert "Resolved" in made.stderr and "Successfully installed" not in made.stdout
    installed = {path.name for path in (project / ".venv").rglob("torch*.dist-info")}
    assert installed == {"torch-9.1.2+cpu.dist-info", "torchvision-8.1.0+cpu.dist-info"}

    (project / "requirements.lock").write_text("torch==9.1.2\ntorchvision==8.1.0\nsix==7.0\n", encoding="utf-8")
    nothing = fake_index(tmp_path / "nothing", "else-1-py3-none-any.whl")
    pips = call(project, "fetch", **uv | {"UV_DEFAULT_INDEX": nothing}, PIP_NO_INDEX="0", PIP_INDEX_URL=usual)
    assert pips.returncode == 7 and "Successfully installed" in pips.stdout, pips.stdout + pips.stderr
    assert list((project / ".venv").rglob("six-7.0.dist-info"))


def test_a_misspelt_wheel_index_does_not_end_in_the_usual_torch(project, monkeypatch):
    """pip only warns of a further index that it can't reach, so torch is first asked of the named one alone."""
    module, commands = load(project), []
    (project / ".venv").mkdir()
    monkeypatch.setattr(module.subprocess, "run", lambda command, **_: commands.append(command))
    monkeypatch.setattr(module.shutil, "which", lambda name, path=None: None)
    module.install("lab", "https://a.example/cpu")
    _, _, torch, everything = [command[4:] for command in commands]
    assert torch == ["--no-deps", "--index-url", "https://a.example/cpu", "-c", "requirements.lock", "torch",
                     "torchvision"]  # fmt: skip
    assert everything == ["-r", "requirements.lock", "-r", "requirements-lab.lock", "-e", "."]


def test_noenv_uses_the_running_python(project):
    done = call(project, "reproduce", "NOENV=1", PRESET="smoke", ARGS='-k "two words"')
    assert done.returncode == 7
    assert job_of(done)[0] == ["reproduce", "--preset", "smoke", "-k", "two words"] and job_of(done)[2] == sys.prefix
    assert not (project / ".venv").exists()


def test_the_doctor_does_not_wait_for_an_environment(project):
    assert job_of(call(project, "doctor"))[2] == sys.prefix
    assert not (project / ".venv").exists()


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_hands_over_what_it_was_given(project, tmp_path):
    root = tmp_path / "it's \"a\" photo & co; $(x) é"
    root.mkdir()
    escaped = str(root).replace("$", "$$")
    make = ("make", f"PYTHON={sys.executable}")
    done = call(project, "reproduce", "DATA=oasis", f"ROOT={escaped}", "NOENV=1", program=make)
    assert job_of(done)[0] == ["reproduce", "--data", "oasis", "--root", str(root)]
    assert done.returncode == 2 and "Error 7" in done.stderr
    assert "does not take PRESEST" in call(project, "reproduce", "PRESEST=paper", "NOENV=1", program=make).stderr
    assert "reproduce" in call(project, program=make).stdout


def test_a_users_own_kernel_does_not_shadow_the_environments(tmp_path):
    """The kernel is named python3 everywhere, and so may be one that a user installed years ago."""
    own = tmp_path / "own"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", str(own)], check=True)
    python = own / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    for folder in (own / "share" / "jupyter", tmp_path / "user"):
        (folder / "kernels" / "python3").mkdir(parents=True)
        spec = {"argv": [str(folder)], "display_name": "x", "language": "python"}
        (folder / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    ask = "from jupyter_client.kernelspec import *; print(KernelSpecManager().get_kernel_spec('python3').argv[0])"
    variables = environment(JUPYTER_DATA_DIR=str(tmp_path / "user"), PYTHONPATH=os.pathsep.join(sys.path))
    actual = [
        subprocess.run([python, "-c", ask], env=variables | more, capture_output=True, encoding="utf-8").stdout.strip()
        for more in ({"JUPYTER_PREFER_ENV_PATH": "0"}, {"JUPYTER_PREFER_ENV_PATH": "1"})
    ]
    assert actual == [str(tmp_path / "user"), str(own / "share" / "jupyter")]
