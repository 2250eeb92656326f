"""The machine of all studies: run, resume, gather, in this process and in others, and what a failure leaves."""

import time
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from aesthemo_studies.__main__ import main
from aesthemo_studies.cells import Study, key

CELLS = {key("square", n): n for n in (3, 1, 2)}


def squares(n: int, place: Path, bad: int = 0) -> list[dict]:
    with open(place / "measured", "a", encoding="utf-8") as file:
        file.write(f"{n} ")
    if n == bad:
        raise ValueError("by design")
    return [{"name": "", "n": n, "power": p, "value": n**p / 3} for p in (1, 2)]


def meet(n: int, place: Path) -> list[dict]:
    """Wait for another cell to be measured at the same time."""
    (place / f"{n}.here").touch()
    until = time.monotonic() + 600
    while len(list(place.glob("*.here"))) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    return [{"n": n, "met": len(list(place.glob("*.here")))}]


@pytest.fixture
def study(tmp_path) -> Study:
    return Study("squares é", CELLS, partial(squares, place=tmp_path), tmp_path)


def test_a_study_is_run_cell_by_cell_and_gathered_in_its_order(study, tmp_path, capsys):
    study.run(at_once=1)
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == [
        f"[{i}/3] squares é: square_{n}" for i, n in enumerate((3, 1, 2), 1)]
    table = study.gather()
    assert table["n"].tolist() == [3, 3, 1, 1, 2, 2] and table["value"].tolist() == pytest.approx(
        [1, 3, 1 / 3, 1 / 3, 2 / 3, 4 / 3], abs=1e-5)
    assert study.gather(lambda n: n < 3)["n"].tolist() == [1, 1, 2, 2]
    kept = study.keep(tmp_path / "kept" / "squares.csv")
    assert kept.read_bytes().startswith(b"name,n,power,value\n,3,1,1.00000\n")
    assert pd.read_csv(study.folder / "seconds.csv", header=None)[0].tolist() == list(CELLS)


def test_what_is_finished_is_not_measured_again(study, tmp_path):
    study.run_cell("square_1")
    study.run(at_once=1)
    study.run(at_once=1)
    assert (tmp_path / "measured").read_text(encoding="utf-8") == "1 3 2 "
    study.path("square_2").unlink()
    assert study.gather()["n"].tolist() == [3, 3, 1, 1]
    study.run(at_once=1)
    assert (tmp_path / "measured").read_text(encoding="utf-8") == "1 3 2 2 "


def test_cells_in_processes_of_their_own_run_at_once(tmp_path):
    study = Study("meet", {"a": 1, "b": 2}, partial(meet, place=tmp_path), tmp_path)
    study.run(at_once=2)
    assert study.gather()["met"].tolist() == [2, 2]


def test_a_cell_that_fails_is_named_and_the_others_are_kept(study, tmp_path):
    broken = Study(study.name, CELLS, partial(squares, place=tmp_path, bad=1), tmp_path)
    with pytest.raises(RuntimeError, match=r"study squares é: 1 of 3 cells failed; .* square_1: ValueError: by design"):
        broken.run(at_once=1)
    assert sorted(path.stem for path in (study.folder / "rows").iterdir()) == ["square_2", "square_3"]
    study.run(at_once=1)
    assert study.gather()["n"].tolist() == [3, 3, 1, 1, 2, 2]


def test_keys_are_file_names_that_hold_what_decides_the_rows():
    assert key("all labels", "", "a/b", 3) == "all-labels_a-b_3"
    assert key("a", plan={"x": 1, "y": 2}) == key("a", plan={"y": 2, "x": 1}) != key("a", plan={"x": 1, "y": 3})


def test_what_stops_a_study_is_said_in_one_line(study, tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="no cell of the study squares é is finished"):
        study.gather()
    with pytest.raises(ValueError, match=r"squares é has no cell 'x'; its cells are square_3, square_1, square_2"):
        study.run_cell("x")
    (tmp_path / "rehearsal").mkdir()
    with FileLock(tmp_path / "rehearsal" / "study.lock"):
        assert main(["study", "--study", "rehearsal", "--out", str(tmp_path)]) == 1
    assert "another process is running the study rehearsal" in capsys.readouterr().err
