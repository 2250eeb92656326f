"""Studies: the grid, what a cell leaves behind, the choice on validation images alone, and the committed protocol."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from aesthemo_lib.evaluation.comparison import read_runs
from aesthemo_lib.files import project_folder, read_json
from aesthemo_lib.training.run import Run
from aesthemo_studies import cells as study_runs, protocol as studies

TINY = {
    "data": "scenes", "preset": "smoke", "splits": {"first": 2, "long": 3}, "settings": {"first": {"epochs": 1}},
    "tuning": {"learning_rate": [0.01, 0.02]},
    "contenders": {"independent": {"method": "independent"},
                   "cross": {"method": "cross_branch", "options": {"alpha": 0.8}}},
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out, study = tmp_path_factory.mktemp("studies"), studies.Study("tiny", "first", TINY)
    return study, out, study_runs.run_study(study, out)


def test_a_study_leaves_one_row_a_candidate_and_task_with_the_runs_own_metrics(done):
    study, out, rows = done
    assert len(rows) == 2 * 2 * 2 * 2  # splits, contenders, candidates, tasks
    row = rows[(rows["contender"] == "cross") & (rows["split"] == 1) & (rows["candidate"] == "learning_rate=0.02")
               & (rows["task"] == "emotion")].iloc[0]
    run = Run(out / "tiny/cross_split1-seed0/learning_rate=0.02/scenes/cross_branch.diagonal/smoke/split1-seed0")
    assert run.settings.learning_rate == 0.02 and run.settings.epochs == 1 and run.described["options"]["alpha"] == 0.8
    for metric in ("accuracy", "auc", "log_loss"):
        assert row[metric] == pytest.approx(run.metrics["emotion"][metric], abs=1e-5)
    validation = run.predictions("validation")
    columns = [f"emotion_{name}" for name in run.tasks[1].classes]
    truth = [run.tasks[1].index(name) for name in validation["true_emotion"]]
    expected = -np.log(validation[columns].to_numpy()[np.arange(len(truth)), truth]).mean()
    assert row["validation_log_loss"] == pytest.approx(expected, abs=1e-4)


def test_a_study_goes_on_where_it_stopped_and_parts_make_the_whole(done, capsys):
    study, out, rows = done
    cells = studies.cells(study)
    study_runs.rows_file(study, cells[2], out).unlink()
    times = {path: path.stat().st_mtime_ns for path in (out / "tiny").rglob("model.safetensors")}
    again = study_runs.run_study(study, out, part=(0, 2))
    pd.testing.assert_frame_equal(rows.drop(columns="seconds"), again.drop(columns="seconds"))
    assert times == {path: path.stat().st_mtime_ns for path in times}  # the runs were there: nothing was trained
    assert capsys.readouterr().out.count("was finished") == 1
    assert sorted([*cells[0::2], *cells[1::2]], key=str) == sorted(cells, key=str)


def test_a_run_that_another_study_has_made_is_not_made_again(tmp_path):
    told = TINY | {"splits": {"first": 1}, "tuning": {}, "contenders": {"cross": {"method": "cross_branch"}}}
    first = study_runs.run_study(studies.Study("one", "first", told), tmp_path)
    told = told | {"conditions": {"plain": {}}, "contenders": {
        "same": {"method": "cross_branch", "variant": "diagonal"}, "other": {"method": "cross_stitch"}}}
    second = study_runs.run_study(studies.Study("two", "first", told), tmp_path)
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == ["plain_other_split0-seed0", "rows"]
    same = second[second["contender"] == "same"].reset_index(drop=True)
    assert (same["study"] == "two").all() and (same["condition"] == "plain").all()
    measured = [column for column in first if column not in studies.PLACE]
    pd.testing.assert_frame_equal(same[measured], first[measured])


def test_lines_stand_beside_a_study_and_late_fusion_joins_the_tuned_networks(done, tmp_path, monkeypatch):
    study, out, rows = done
    joined, real = [], study_runs.references
    monkeypatch.setattr(study_runs, "references", lambda config, *more: joined.append(more[0]) or real(config, *more))
    told = TINY | {"lines": True}
    target = study_runs.keep(dataclasses.replace(study, told=told), out, None, tmp_path / "tiny.csv")
    lines = pd.read_csv(target.with_suffix(".lines.csv"))
    assert sorted(set(lines["contender"])) == ["late fusion", "linear probe", "new panel", "one rater"]
    assert len(lines) == 2 * 4 * 2 and {*studies.PLACE, "auc", "log_loss", "spearman"} <= {*lines.columns}
    chosen = studies.selected(rows).query("method == 'independent' and split == 0").set_index("task")["candidate"]
    for task, candidate in chosen.items():  # each task's probabilities are those of its own candidate
        run = Run(out / f"tiny/independent_split0-seed0/{candidate}/scenes/independent/smoke/split0-seed0")
        columns = [f"{task}_{name}" for t in run.tasks if t.name == task for name in t.classes]
        test = joined[0][joined[0]["part"] == "test"]
        assert np.array_equal(test[columns], run.predictions()[columns])


def test_the_recipe_is_the_methods_paired_differences_after_the_choice(done, tmp_path):
    study, out, rows = done
    told = TINY | {"contenders": {"independent": {"method": "independent"},
                                  "cross_branch": {"method": "cross_branch", "options": {"alpha": 0.8}}}}
    of = studies.Study("recipe", "first", told | {"conditions": {"all labels": {}}})
    study_runs.run_study(of, tmp_path / "runs")
    study_runs.keep(of, tmp_path / "runs", None, tmp_path / "kept" / "recipe.csv")
    one = read_json(tmp_path / "kept" / "recipe.json")["all labels"]["emotion"]["independent"]
    chosen = studies.selected(pd.read_csv(tmp_path / "kept" / "recipe.csv", keep_default_na=False))
    auc = chosen[chosen["task"] == "emotion"].pivot(index="split", columns="method", values="auc").astype(float)
    d = (auc["cross_branch"] - auc["independent"]).to_numpy()
    half = stats.t.ppf(0.975, 1) * d.std(ddof=1) * np.sqrt(1 / 2 + 1 / 3)
    by_hand = [d.mean(), d.mean() - half, d.mean() + half]
    assert [one["mean"], one["low"], one["high"]] == pytest.approx(by_hand, abs=1e-4)
    assert (one["endpoint"], one["splits"]) == ("auc", 2)


def test_a_changed_contender_starts_anew_and_the_others_stay(done):
    study, out, _ = done
    contenders = TINY["contenders"] | {"cross": {"method": "cross_branch", "options": {"alpha": 0.7}}}
    changed = dataclasses.replace(study, told=TINY | {"contenders": contenders})
    for cell in studies.cells(study):
        same = study_runs.rows_file(study, cell, out) == study_runs.rows_file(changed, cell, out)
        assert same == (cell.contender == "independent")


def test_a_candidate_that_diverges_loses_and_the_study_goes_on(tmp_path):
    told = TINY | {"splits": {"first": 1}, "tuning": {"learning_rate": [1e12, 0.01]},
                   "contenders": {"cross": {"method": "cross_branch"}}}
    rows = study_runs.run_study(studies.Study("wild", "first", told), tmp_path)
    assert rows["diverged"].tolist() == [True, True, False, False]
    assert studies.selected(rows)["candidate"].unique().tolist() == ["learning_rate=0.01"]


def test_the_choice_is_made_on_validation_images_alone():
    """Joint networks by the mean over tasks, independent ones task by task; test scores point the other way."""
    losses = {("joint", "a"): (1.0, 3.0), ("joint", "b"): (1.5, 2.0),
              ("independent", "a"): (1.0, 3.0), ("independent", "b"): (1.5, 2.0)}
    rows = pd.DataFrame([
        {"condition": "", "contender": contender, "candidate": candidate, "split": 0, "seed": 0, "task": task,
         "validation_log_loss": loss, "auc": loss / 10, "diverged": False}
        for (contender, candidate), pair in losses.items() for task, loss in zip(("x", "y"), pair, strict=True)
    ])
    chosen = studies.selected(rows).set_index(["method", "task"])["candidate"].to_dict()
    assert chosen == {("joint", "x"): "b", ("joint", "y"): "b", ("independent", "x"): "a", ("independent", "y"): "b"}


def test_differences_by_the_corrected_formula():
    auc = {"independent": [0.7, 0.6, 0.8, 0.75], "cross": [0.72, 0.66, 0.79, 0.8]}
    rows = pd.DataFrame([{"condition": "c", "task": "t", "method": m, "split": j, "seed": 0, "auc": v}
                         for m, values in auc.items() for j, v in enumerate(values)])
    found = studies.differences(rows, "auc").iloc[0]
    d = np.subtract(auc["cross"], auc["independent"])
    half = stats.t.ppf(0.975, 3) * d.std(ddof=1) * np.sqrt(1 / 4 + 1 / 3)
    assert found[["mean", "low", "high"]].tolist() == pytest.approx([d.mean(), d.mean() - half, d.mean() + half])
    assert (found["condition"], found["method"], found["pairs"]) == ("c", "cross", 4)


@pytest.mark.parametrize("form", studies.FORMS)
def test_the_protocol_plans_runs_that_can_be_made(form):
    for name, told in studies.protocol()["studies"].items():
        study = studies.study(name, form)
        configs = [study.config(cell, settings) for cell in studies.cells(study) for _, settings in study.candidates()]
        assert len(configs) == told["runs"][form], name  # each is checked when it is made
        assert len({study_runs.rows_file(study, cell, project_folder()) for cell in studies.cells(study)}) == len(
            studies.cells(study))
        assert form == "long" or told["minutes"]["first"] <= 120


def test_the_protocols_smallest_effect_is_the_formulas():
    said = studies.protocol()["smallest_effect"]
    runs = read_runs(project_folder() / "results" / "oasis-teach.csv")
    table = runs[runs["task"] == "aesthetics"].pivot(index="split", columns="method", values="auc")
    assert said["spread"] == pytest.approx((table["shared_bottom"] - table["independent"]).std(), abs=5e-4)
    n = said["splits"]
    by_hand = (stats.t.ppf(0.975, n - 1) + stats.t.ppf(said["power"], n - 1)) * said["spread"] * (1 / n + 1 / 3) ** 0.5
    assert said["auc"] == pytest.approx(by_hand, abs=1e-3)
    assert studies.smallest_effect(said["spread"], n) == pytest.approx(by_hand)


def test_unknown_studies_and_forms_are_named():
    with pytest.raises(ValueError, match="unknown study 'x'; results/protocol.json has rehearsal, compare"):
        studies.study("x")
    with pytest.raises(ValueError, match="unknown form 'x'; choose one of first, long"):
        studies.study("compare", "x")
    with pytest.raises(FileNotFoundError, match="make study STUDY=nothing"):
        studies.read("nothing")
