"""What must not cost a finished job its result: terminals, links, homes, kernels, photographs that are not there."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from aesthemo_lib import cli
from aesthemo_lib.files import atomic, cache_folder
from aesthemo_lib.headless import execute
from aesthemo_lib.prediction import is_run, packaged_run, photographs


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name in ("a.jpg", "sub/b.JPG", "sub/_MG_1.jpeg", "@eaDir/a.jpg", "sub/.hidden.jpg", "x [1].png"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (30, 20), "teal").save(folder / name, "JPEG")
    (folder / "notes.txt").write_text("x", encoding="utf-8")
    return folder


def test_folders_and_patterns_are_photographs(photos, caplog):
    inside = {"a.jpg", "_MG_1.jpeg", "b.JPG", "x [1].png"}
    assert {path.name for path in photographs([str(photos)])} == inside
    assert caplog.messages == [f"{photos}: 1 files are not read: no images by their suffix, such as notes.txt"]
    assert {path.name for path in photographs([str(photos / "**" / "*.jp*")])} == {"a.jpg", "_MG_1.jpeg"}
    assert photographs([str(photos / "x [1].png"), str(photos / "x [1].png")]) == [photos / "x [1].png"]
    assert photographs(["gone.jpg"]) == [Path("gone.jpg")]  # named by the decoder
    for nothing in (str(photos / "*.gif"), str(photos / "@eaDir" / "none*")):
        with pytest.raises(ValueError, match="no photographs match this pattern"):
            photographs([nothing])


def test_a_photograph_is_not_taken_for_a_run(photos, tmp_path):
    assert is_run(packaged_run().folder)
    for name in ("gone.jpg", "gone.JFIF", "gone.avif", "gone.heic", "gone.NEF", "gone.jp2", "trip/*.jpg"):
        assert not is_run(Path(name))
    assert not is_run(photos) and not is_run(photos / "notes.txt")
    for neither in (Path("runs/nothing here"), tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(FileNotFoundError, match="holds no finished run and no photographs"):
            is_run(neither)


def test_a_missing_photograph_is_named(capsys):
    assert cli.main(["predict", "gone.HEIC"]) == 1
    said = capsys.readouterr().err
    assert "'gone.HEIC': the file does not exist" in said and "finished run" not in said


def test_a_sheet_of_another_kind_is_refused_before_any_work(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("aesthemo_lib.prediction.Predictor", lambda *_: pytest.fail("it began"))
    for option, name, ends in (("--sheet", "x.svg", ".pdf or .png or .jpg"), ("--sheet", "x", ".pdf or .png or .jpg"),
                               ("--csv", "x.jpg", ".csv or .txt")):
        assert cli.main(["predict", str(photos / "a.jpg"), option, str(tmp_path / name)]) == 1
        assert f"{name}: expected a name that ends in {ends}\n" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["folder", "file/below.csv", "x" * 300 + ".csv"])
def test_what_can_not_be_written_is_named_before_any_work(photos, tmp_path, capsys, monkeypatch, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x", encoding="utf-8")
    monkeypatch.setattr("aesthemo_lib.prediction.Predictor", lambda *_: pytest.fail("it began"))
    for command_line in (["predict", photos / "a.jpg", "--csv"], ["evaluate", "run", "--data", "csv", "--json"]):
        assert cli.main([*map(str, command_line), str(tmp_path / place)]) == 1
        said = capsys.readouterr().err
        assert f"{place} can't be written: " in said and ".tmp" not in said and said.count("\n") == 1
    assert {path.name for path in tmp_path.rglob("*")} == {"folder", "file"}


@pytest.mark.parametrize("content", ["path,aesthetics\na.jpg,low\n", None])
def test_what_is_no_table_of_runs_is_named(tmp_path, capsys, content):
    target = tmp_path / ("labels.csv" if content else "metrics.json")
    target.write_text(content or "[]", encoding="utf-8")
    assert cli.main(["table", str(target if content else tmp_path)]) == 1
    said = capsys.readouterr().err
    assert str(target) in said and said.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="links need rights that Windows keeps")
def test_a_table_is_written_through_a_link(photos, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "real" / "table.csv")  # not there yet
    for _ in range(2):
        assert cli.main(["predict", str(photos / "a.jpg"), "--csv", str(tmp_path / "link.csv")]) == 0
        assert (tmp_path / "link.csv").is_symlink() and len(pd.read_csv(tmp_path / "real" / "table.csv")) == 1
    with pytest.raises(KeyError), atomic(tmp_path / "link.csv") as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise KeyError
    assert len(pd.read_csv(tmp_path / "link.csv")) == 1 and len(list((tmp_path / "real").iterdir())) == 1


def test_a_name_that_the_terminal_can_not_show_costs_nothing(photos, tmp_path, monkeypatch):
    name = tmp_path / "😀 Ω.jpg"
    name.write_bytes((photos / "a.jpg").read_bytes())
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert cli.main(["predict", str(name)]) == 0 and b"\\U0001f600" in terminal.buffer.getvalue()
    monkeypatch.setattr(sys, "stdout", None)  # as after '>&-'
    assert cli.main(["predict", str(name), "--csv", str(tmp_path / "table.csv")]) == 0
    assert (tmp_path / "table.csv").exists()
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.delenv("AESTHEMO_HEADLESS")
    assert cli.main(["predict", str(name), "--csv", str(tmp_path / "again.csv")]) == 0
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "table.csv").read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="a shell's pipe")
def test_a_reader_that_has_seen_enough_ends_nothing():
    table = Path(__file__).resolve().parents[2] / "results" / "oasis-teach.csv"
    done = subprocess.run(f"set -o pipefail; '{sys.executable}' -m aesthemo_lib.cli table '{table}' | true",
                          shell=True, executable="/bin/bash", capture_output=True, timeout=600)
    assert done.returncode == 0 and b"Errno" not in done.stderr and b"Traceback" not in done.stderr


def test_no_home_folder_names_the_cure(tmp_path, monkeypatch):
    monkeypatch.delenv("AESTHEMO_CACHE", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda name: Path("~") / ".cache" / name)  # what it says without a home
    with pytest.raises(ValueError, match="no home folder is known; .*export AESTHEMO_CACHE=") as caught:
        cache_folder()
    assert "\n" not in str(caught.value) and not Path("~").exists()
    (tmp_path / "file").write_text("x", encoding="utf-8")
    monkeypatch.setenv("AESTHEMO_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(ValueError, match="export AESTHEMO_CACHE="):
        cache_folder()
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(ValueError, match="where Jupyter keeps its files: .*export HOME="):
        execute.check_kernel()


@pytest.mark.parametrize("gone", ["kernel", "program"])
def test_a_kernel_that_is_gone_names_the_cure(tmp_path, monkeypatch, gone):
    from jupyter_client import kernelspec

    if gone == "kernel":
        monkeypatch.setitem(sys.modules, "ipykernel.kernelspec", None)  # as where ipykernel is not installed
        monkeypatch.setattr(kernelspec.KernelSpecManager, "kernel_dirs", [str(tmp_path)])
    else:
        (tmp_path / "python3").mkdir()
        spec = {"argv": [str(tmp_path / "old" / "bin" / "python"), "-m", "ipykernel"], "display_name": "old"}
        (tmp_path / "python3" / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
        monkeypatch.setattr(kernelspec.KernelSpecManager, "kernel_dirs", [str(tmp_path)])
    with pytest.raises(ValueError, match="ipykernel install --sys-prefix") as caught:
        execute.execute("02_network", {"preset": "smoke"}, tmp_path / "out.ipynb")
    assert "\n" not in str(caught.value) and ("old/bin/python" in str(caught.value)) == (gone == "program")
