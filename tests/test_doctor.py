"""The doctor finds the faults that are put there, and says what to do."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from aesthemo_lib import doctor

PROJECT = Path(__file__).parents[1]


def look(name: str, what) -> doctor.Check:
    return doctor._look(name, what)


def test_on_this_machine_everything_that_is_needed_is_found():
    by_name = {check.name: check for check in doctor.checks()}
    for name in ("Python", "cores", "memory", "disk", "torch", "precision", "EfficientNet-Lite0"):
        assert by_name[name].status in ("ok", "warn"), by_name[name]
    assert all(bool(check.cure) == (check.status != "ok") and check.finding for check in by_name.values())
    lines = doctor.render(by_name.values()).splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [c.status for c in by_name.values()]
    assert sum("->" in line for line in lines) == sum(check.status != "ok" for check in by_name.values())


def test_it_runs_on_a_bare_python():
    """Without a single package there is a finding and a cure for each part, and no traceback."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); from aesthemo_lib.doctor import *; print(render(checks()))"
    command = [sys.executable, "-S", "-c", code, str(PROJECT)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    assert "the package torch is not installed" in done.stdout and doctor.MAKE in done.stdout
    assert done.stdout.startswith("ok    Python")


def test_importing_it_does_not_import_torch():
    code = "import sys, aesthemo_lib.doctor; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == 0


def test_a_look_that_fails_is_a_finding():
    def broken():
        raise RuntimeError("operator torchvision::nms does not exist\nand more")

    check = look("torch", broken)
    assert check.status == "fail" and check.cure
    assert check.finding == "RuntimeError: operator torchvision::nms does not exist"


@pytest.mark.parametrize("program, status", [("python", "ok"), ("/usr/bin/another/python", "fail"), (None, "ok")])
def test_a_kernel_that_starts_another_interpreter_is_found(tmp_path, monkeypatch, program, status):
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    spec = {"argv": [program or sys.executable, "-m", "ipykernel_launcher"], "display_name": "", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    check = look("kernel", doctor._kernel)
    assert check.status == status
    assert status == "ok" or (str(folder) in check.cure and "another" in check.finding)


@pytest.mark.parametrize("versions, status, says", [
    ({}, "ok", "as in requirements.lock"),
    ({"torch": "2.14.1+cpu"}, "ok", "as in requirements.lock"),
    ({"torch": "2.13.0"}, "warn", "in range, but 1 differ from requirements.lock: torch 2.13.0"),
    ({"torch": "2.1.0"}, "fail", "torch 2.1.0 (expected <3,>="),
    ({"captum": None}, "fail", "captum None (expected"),
    ({"timm": None}, "warn", "timm None"),
])  # fmt: skip
def test_packages_are_held_against_the_ranges_and_the_lock(monkeypatch, versions, status, says):
    """What is installed is pretended: the lock, with some packages at other versions or away."""
    lines = (PROJECT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split()[0].split("==") for line in lines if "==" in line.partition("#")[0])

    def version(name):
        pin = {**pins, **versions}[name]
        if pin is None:
            raise metadata.PackageNotFoundError(name)
        return pin

    wishes = ["torch<3,>=2.7", "captum>=0.8", 'pytest>=8 ; extra == "lab"']
    monkeypatch.setattr(doctor, "metadata", SimpleNamespace(
        version=version, requires=lambda name: wishes, PackageNotFoundError=metadata.PackageNotFoundError,
    ))  # fmt: skip
    check = look("packages", doctor._packages)
    assert (check.status, bool(check.cure)) == (status, status != "ok")
    assert says in check.finding


def test_little_room_is_said(monkeypatch):
    import psutil

    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1e9))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=16e9, available=1.5e9))
    monkeypatch.setattr(doctor, "allowed_cores", lambda: 1)
    disk, memory, cores = (look("", what) for what in (doctor._disk, doctor._memory, doctor._cores))
    assert [disk.status, memory.status, cores.status] == ["warn"] * 3
    assert "1 GB free" in disk.finding and memory.finding == "1.5 GB available of 16.0"
    assert cores.finding.startswith("1 of ")


def test_data_are_looked_for_where_the_readers_look_and_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("AESTHEMO_DATA", str(tmp_path))
    assert look("", lambda: doctor._data("scenes", None)).status == "ok"  # they will be drawn
    missing = look("", lambda: doctor._data("oasis", None))
    assert missing.status == "fail" and str(tmp_path / "oasis") in missing.finding and "--root" in missing.cure
    (tmp_path / "oasis").mkdir()
    assert look("", lambda: doctor._data("oasis", None)).status == "fail"  # there is nothing in it
    assert look("", lambda: doctor._data("csv", tmp_path / "nothing")).status == "fail"


def test_a_table_that_names_a_missing_image_is_found(colours_root, tmp_path):
    assert look("", lambda: doctor._data("csv", colours_root)) == doctor.Check("", "ok", f"60 images at {colours_root}")
    (tmp_path / "here.png").touch()
    table = "path,aesthetics\nhere.png,low\ngone.png,high\n"
    (tmp_path / "labels.csv").write_text(table, encoding="utf-8")
    check = look("", lambda: doctor._data("csv", tmp_path))
    assert check.status == "fail" and "gone.png" in check.finding and "line 3" in check.finding and check.cure


@pytest.mark.parametrize("fast, says", [("bfloat16", "bfloat16, which is"), ("float32", "float32; bfloat16 would")])
def test_the_precision_is_named(monkeypatch, fast, says):
    monkeypatch.setattr(doctor, "fast_precision", lambda device: f"torch.{fast}")
    assert says in look("precision", doctor._precision).finding


def test_vgg16_weights_are_looked_for_where_torchvision_keeps_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert look("", doctor._vgg16).status == "warn"
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth").touch()
    assert look("", doctor._vgg16).status == "ok"


def test_minutes_follow_from_a_measured_step(monkeypatch):
    """Of 400 scenes 240 are learnt from, in 3 epochs by 15 branches: 10,800 images."""
    said = look("", lambda: doctor._minutes("scenes"))
    rate, minutes = re.search(r"at (\d+) images/s of 96 px .* about (\d+) minutes", said.finding).groups()
    wanted = max(1, 2.9 * 10_800 / int(rate) / 60)
    assert said.status == "ok" and int(minutes) == pytest.approx(wanted, rel=0.1, abs=0.6)
    monkeypatch.setattr(doctor, "IMAGES", {})
    assert "minutes" not in look("", lambda: doctor._minutes("scenes")).finding
