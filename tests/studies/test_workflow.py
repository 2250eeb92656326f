"""A study through Snakemake itself: one cell, twice, in a folder with a space and an accent."""

import pandas as pd
import pytest
from filelock import FileLock

from aesthemo_studies import cells as study_runs, protocol as studies, workflow
from aesthemo_studies.__main__ import main


def test_a_cell_through_snakemake_equals_the_plain_loops(tmp_path, monkeypatch, capfd):
    pytest.importorskip("snakemake", reason="the extra 'study' is not installed")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    of, out = studies.study("rehearsal"), tmp_path / "Zoë's (2)"
    cell = studies.cells(of)[1]
    rows = study_runs.rows_file(of, cell, out)
    workflow.run_workflow(of, out, None, [f"rows/{rows.name}"])
    made, when = study_runs.gather(of, out), rows.stat().st_mtime_ns
    assert len(made) == 4 and set(made["contender"]) == {"cross_branch.diagonal"}
    plain = pd.read_csv(study_runs.run_cell(of, cell, tmp_path / "plain"))
    pd.testing.assert_series_equal(made["log_loss"], plain["log_loss"])
    workflow.run_workflow(of, out, None, [f"rows/{rows.name}"])
    assert rows.stat().st_mtime_ns == when and "Nothing to be done" in "".join(capfd.readouterr())
    assert main(["study", "--study", "rehearsal", "--out", str(out), "--gather", "--to", str(tmp_path / "t.csv")]) == 0
    pd.testing.assert_frame_equal(study_runs.gather(of, out), pd.read_csv(tmp_path / "t.csv").assign(
        condition="", candidate=made["candidate"]), check_dtype=False)


def test_what_stops_a_study_is_said_in_one_line(tmp_path, monkeypatch, capsys):
    of = studies.study("rehearsal")
    (tmp_path / of.name).mkdir()
    with FileLock(tmp_path / of.name / "study.lock"):
        assert main(["study", "--study", "rehearsal", "--out", str(tmp_path)]) == 1
    assert "another process runs this study" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["study", "--study", "rehearsal", "--out", str(tmp_path)]) == 1
    assert "--loop" in capsys.readouterr().err
