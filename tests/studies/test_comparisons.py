"""The protocol's studies: what a cell leaves behind, what is shared between studies, the reference lines."""

import os
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from aesthemo_lib.files import project_folder
from aesthemo_lib.training.run import Run
from aesthemo_studies import comparisons, protocol
from aesthemo_studies.__main__ import main

SPEC = {
    "data": "scenes", "preset": "smoke", "splits": {"first": 1, "long": 3}, "settings": {"first": {"epochs": 1}},
    "tuning": {"learning_rate": [0.01, 0.02]},
    "contenders": {"independent": {"method": "independent"},
                   "cross": {"method": "cross_branch", "options": {"alpha": 0.8}}},
}


def grid(name, **changes) -> protocol.Grid:
    return protocol.Grid(name, "first", SPEC | changes)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Where all studies of this file lie; they share their scenes."""
    return tmp_path_factory.mktemp("études")


@pytest.fixture(scope="module")
def rows(out) -> pd.DataFrame:
    study = comparisons.study(grid("tiny"), out)
    study.run(at_once=1)
    return study.gather()


def test_a_study_leaves_one_row_a_candidate_and_task_with_the_runs_own_metrics(out, rows):
    assert len(rows) == 2 * 2 * 2 and list(rows)[:8] == list(protocol.PLACE)  # contenders, candidates, tasks
    row = rows.query("contender == 'cross' and candidate == 'learning_rate=0.02' and task == 'emotion'").iloc[0]
    run = Run(out / "tiny/cross_split0-seed0/learning_rate=0.02/scenes/cross_branch.diagonal/smoke/split0-seed0")
    assert run.settings.learning_rate == 0.02 and run.settings.epochs == 1 and run.described["options"]["alpha"] == 0.8
    for metric in ("accuracy", "auc", "log_loss"):
        assert row[metric] == pytest.approx(run.metrics["emotion"][metric], abs=1e-5)
    validation = run.predictions("validation")
    columns = [f"emotion_{name}" for name in run.tasks[1].classes]
    truth = [run.tasks[1].index(name) for name in validation["true_emotion"]]
    expected = -np.log(validation[columns].to_numpy()[np.arange(len(truth)), truth]).mean()
    assert row["validation_log_loss"] == pytest.approx(expected, abs=1e-4)
    # preset smoke learns the consensus, so what its training measured is the log-loss, of independent networks too
    np.testing.assert_allclose(rows["validation_loss"], rows["validation_log_loss"], atol=0.02)


def test_a_cell_that_was_cut_off_reads_the_runs_that_are_there(out, rows):
    study = comparisons.study(grid("tiny"), out)
    study.path(list(study.cells)[1]).unlink()
    times = {path: path.stat().st_mtime_ns for path in (out / "tiny").rglob("model.safetensors")}
    study.run(at_once=1)
    pd.testing.assert_frame_equal(rows, study.gather())
    assert times == {path: path.stat().st_mtime_ns for path in times}  # nothing was trained


def test_a_run_that_another_study_has_made_is_not_made_again(out):
    contenders = {"cross": {"method": "cross_branch"}}
    first = comparisons.study(grid("one", tuning={}, contenders=contenders), out)
    first.run(at_once=1)
    contenders = {"same": {"method": "cross_branch", "variant": "diagonal"}}
    second = comparisons.study(grid("two", tuning={}, contenders=contenders, conditions={"plain": {}}), out)
    second.run(at_once=1)
    assert not (out / "two" / "plain_same_split0-seed0").exists()
    same, made = second.gather(), first.gather()
    assert (same["study"] == "two").all() and (same["condition"] == "plain").all()
    measured = [column for column in made if column not in protocol.PLACE]
    pd.testing.assert_frame_equal(same[measured], made[measured])


def test_late_fusion_joins_the_tuned_networks(out, rows, tmp_path, monkeypatch):
    joined, real = [], comparisons.baseline_metrics
    monkeypatch.setattr(comparisons, "baseline_metrics",
                        lambda config, *more: joined.append(more[0]) or real(config, *more))
    target = comparisons.keep(grid("tiny", lines=True), out, None, tmp_path / "tiny.csv")
    lines = pd.read_csv(target.with_suffix(".lines.csv"))
    assert sorted(set(lines["contender"])) == ["late fusion", "linear probe", "new panel", "one rater"]
    assert len(lines) == 4 * 2 and {*protocol.PLACE, "auc", "log_loss", "spearman"} <= {*lines.columns}
    chosen = protocol.selected(rows).query("method == 'independent'").set_index("task")["candidate"]
    for task, candidate in chosen.items():  # each task's probabilities are those of its own candidate
        run = Run(out / f"tiny/independent_split0-seed0/{candidate}/scenes/independent/smoke/split0-seed0")
        columns = [f"{task}_{name}" for t in run.tasks if t.name == task for name in t.classes]
        test = joined[0][joined[0]["part"] == "test"]
        assert np.array_equal(test[columns], run.predictions()[columns])


def test_a_changed_contender_starts_anew_and_the_others_stay(out):
    contenders = SPEC["contenders"] | {"cross": {"method": "cross_branch", "options": {"alpha": 0.7}}}
    before, after = grid("tiny"), grid("tiny", contenders=contenders)
    for cell in protocol.cells(before):
        same = comparisons.cell_key(before, cell) == comparisons.cell_key(after, cell)
        assert same == (cell.contender == "independent")
    assert comparisons.cell_key(before, protocol.cells(before)[0]).startswith("independent_split0-seed0-")


def test_a_candidate_that_diverges_loses_and_the_study_goes_on(out, rows):
    wild = comparisons.study(grid("wild", tuning={"learning_rate": [1e12]}, contenders={"cross": {
        "method": "cross_branch"}}), out)
    wild.run(at_once=1)
    assert wild.gather()["diverged"].tolist() == [True, True]
    both = pd.concat([wild.gather(), rows.query("contender == 'cross'")], ignore_index=True)
    assert not protocol.selected(both)["candidate"].str.contains("e").isna().any()
    assert "learning_rate=1000000000000.0" not in set(protocol.selected(both)["candidate"])


def test_snakemake_runs_the_same_cells(tmp_path, capsys):
    pytest.importorskip("snakemake", reason="the extra 'study' is not installed")
    place = tmp_path / "Zoë's (2)"
    study = comparisons.study(protocol.study("rehearsal"), place)
    name = list(study.cells)[1]
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(project_folder() / "Snakefile"), "--directory",
               str(place), "--config", "study=rehearsal", "--cores", "1", "--dry-run", "--printshellcmds", "--nocolor"]
    path = os.pathsep.join([str(project_folder()), os.environ.get("PYTHONPATH", "")])
    shown = subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": path}, encoding="utf-8",
                           stdout=subprocess.PIPE).stdout
    lines = [shlex.split(line) for line in shown.splitlines() if "-m aesthemo_studies" in line]
    planned = {words[-1]: words for words in lines}
    assert set(planned) == set(study.cells) and "OMP_NUM_THREADS=1" in planned[name]
    assert main(planned[name][planned[name].index("aesthemo_studies") + 1:]) == 0
    made = study.gather()
    assert len(made) == 4 and set(made["contender"]) == {"cross_branch.diagonal"}
    gather = ["study", "--study", "rehearsal", "--out", str(place), "--gather", "--to", str(tmp_path / "t.csv")]
    assert main(gather) == 0
    pd.testing.assert_frame_equal(made, protocol.load(tmp_path / "t.csv"))
