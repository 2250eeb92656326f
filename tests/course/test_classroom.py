"""A class's ballots become its panel, and a class's runs one comparison; sixty of each, some of them hostile."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image

from aesthemo_course.__main__ import main
from aesthemo_course.ballot import Ballot
from aesthemo_course.pool import pool, pool_figure
from aesthemo_course.votes import checked_name, merge_votes, panel, write_votes
from aesthemo_lib.data import readers
from aesthemo_lib.evaluation.comparison import collect, paired_differences
from aesthemo_lib.evaluation.metrics import METRICS
from aesthemo_lib.tasks import EMOTION, PATENT_TASKS

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def photos(tmp_path) -> list[Path]:
    made = [tmp_path / "elsewhere é" / f"scene {n}.jpg" for n in range(24)]
    made[0].parent.mkdir()
    for n, path in enumerate(made):
        Image.new("RGB", (20, 20), (10 * n, 90, 200)).save(path)
    return made


@pytest.fixture
def folder(tmp_path, photos) -> Path:
    """The class's folder, as a ballot makes it."""
    Ballot(photos, tmp_path / "class")
    return tmp_path / "class"


def votes_of(rng, folder: Path, name: str, missing: float = 0.1) -> Path:
    rows = []
    for photo in sorted((folder / "photos").iterdir()):
        row = {"path": f"photos/{photo.name}"}
        for task in PATENT_TASKS:
            row[task.name] = "" if rng.random() < missing else str(rng.choice(task.classes))
        rows.append(row)
    return write_votes(folder / f"votes-{name.replace(' ', '_')}.csv", name, rows, PATENT_TASKS)


def read_csv(path: Path) -> list[dict]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


# --- the ballot


def test_a_ballot_writes_every_vote_as_a_csv_that_the_reader_takes(photos, tmp_path):
    ballot = Ballot(photos, tmp_path / "class")
    ballot.name = " Zoë Müller-2 "
    for n, path in enumerate(photos):
        ballot.vote(path.name, aesthetics=("low", "high")[n % 2])
        ballot.vote(path.name, emotion=EMOTION.classes[n % 8])
        rows = read_csv(ballot.file)
        assert len(rows) == n + 1 and rows[-1]["emotion"] == EMOTION.classes[n % 8]
    assert ballot.file.name == "votes-Zoë_Müller-2.csv" and "24 of 24" in ballot.said
    images = readers.read("csv", ballot.file)
    assert images.tasks == PATENT_TASKS and len(images) == 24
    assert images.labels("aesthetics").tolist() == [0, 1] * 12
    assert set(images.ratings["emotion"]["annotator"]) == {"Zoë Müller-2"}
    assert not list((tmp_path / "class").glob(".*"))


def test_a_corrected_name_leaves_one_file_and_a_bad_one_none(photos, tmp_path):
    ballot = Ballot(photos, tmp_path)
    ballot.vote(photos[0].name, aesthetics="low")
    assert "Not saved" in ballot.said
    ballot.name = HOSTILE
    assert "cannot be used as a name" in ballot.said and not list(tmp_path.glob("votes-*"))
    ballot.name = "Jo"
    ballot.name = "Joe"
    assert [path.name for path in tmp_path.glob("votes-*")] == ["votes-Joe.csv"]


def test_what_a_browser_sends_that_is_no_photograph_or_class_is_passed_over(photos, tmp_path):
    ballot = Ballot(photos, tmp_path)
    ballot.name = "a"
    odd = {"aesthetics": HOSTILE, "emotion": "awe", "more": "x"}
    ballot.votes = {photos[0].name: odd, "../../x": {"emotion": "awe"}}
    rows = read_csv(ballot.file)
    assert rows == [{"path": f"photos/{photos[0].name}", "annotator": "a", "aesthetics": "", "emotion": "awe"}]


def test_two_photographs_of_one_name_are_refused(photos, tmp_path):
    (tmp_path / "other").mkdir()
    shutil.copy(photos[0], tmp_path / "other")
    with pytest.raises(ValueError, match="two photographs are called 'scene 0.jpg'"):
        Ballot([photos[0], tmp_path / "other" / photos[0].name], tmp_path / "class")


@given(st.text(max_size=60))
def test_a_name_is_harmless_wherever_it_is_written(name):
    try:
        kept = checked_name(name)
    except ValueError as fault:
        assert "\n" not in str(fault)
        return
    assert kept and not set(kept) & set("<>&\"'/\\=+@\t\r\n;,") and kept[0] not in "-. "


# --- the class is the panel


def test_sixty_ballots_are_one_panel(folder):
    rng = np.random.default_rng(0)
    for n in range(60):
        votes_of(rng, folder, f"student {n}")
    assert merge_votes(folder) == []
    images = readers.read("csv", folder, tasks=PATENT_TASKS)
    panels = panel(images)
    by_hand = pd.concat(pd.read_csv(path, encoding="utf-8") for path in folder.glob("votes-*.csv"))
    for task in PATENT_TASKS:
        table = pd.crosstab(by_hand["path"], by_hand[task.name]).reindex(columns=task.classes, fill_value=0)
        assert panels.loc["ratings", task.name] == table.to_numpy().sum() == by_hand[task.name].notna().sum()
        top = table.max(axis=1)
        assert panels.loc["ties", task.name] == (table.eq(top, axis=0).sum(axis=1) > 1).sum()
        assert panels.loc["mean share of the winner", task.name] == pytest.approx((top / table.sum(axis=1)).mean())
        assert abs(panels.loc["Krippendorff's alpha", task.name]) < 0.03, "who votes at random agrees by chance"
        assert panels.loc["raters", task.name] == 60
        assert 0 < panels.loc["one rater", task.name] < panels.loc["panel ceiling", task.name] < 1


def test_a_class_that_agrees_has_an_alpha_of_one_and_no_ties(folder):
    for n in range(6):
        votes_of(np.random.default_rng(7), folder, f"twin {n}", missing=0)
    merge_votes(folder)
    panels = panel(readers.read("csv", folder, tasks=PATENT_TASKS))
    assert (panels.loc["Krippendorff's alpha"] == 1).all() and (panels.loc["ties"] == 0).all()
    assert (panels.loc["one rater"] == 1).all() and (panels.loc["panel ceiling"] == 1).all()


def test_ballots_that_cant_be_used_are_left_out_one_line_each(folder):
    rng = np.random.default_rng(1)
    good = votes_of(rng, folder, "good")
    shutil.copy(good, folder / "votes-good (1).csv")  # handed in twice
    text = good.read_text(encoding="utf-8")
    hostile = {
        "html": text.replace("good", HOSTILE), "formula": text.replace("good", "=cmd()"), "empty": "",
        "columns": text.replace("emotion", "mood"), "class": text.replace("high", "splendid"),
        "outside": text.replace("photos/", "../elsewhere é/"), "cut off": text[:-30],
        "two names": text.replace("good", "other", 1), "quote": text.replace("photos", '"photos', 1),
        "impostor": votes_of(rng, folder, "x").read_text(encoding="utf-8").replace(",x,", ",good,"),
    }
    (folder / "votes-x.csv").unlink()
    for name, content in hostile.items():
        (folder / f"votes-{name}.csv").write_text(content, encoding="utf-8")
    (folder / "votes-bytes.csv").write_bytes(b"\xff\xfe\x00\x00" * 50)
    lines = merge_votes(folder)
    assert len(lines) == len(hostile) + 1 and all("\n" not in line and len(line) < 260 for line in lines)
    assert all(any(line.startswith(f"left out 'votes-{name}.csv': ") for line in lines) for name in hostile)
    assert "two people need two names" in next(line for line in lines if "impostor" in line)
    assert set(readers.read("csv", folder, tasks=PATENT_TASKS).ratings["emotion"]["annotator"]) == {"good"}


def test_no_ballot_is_one_clear_line(folder):
    with pytest.raises(ValueError, match=r"no ballot votes-\*\.csv that can be used"):
        merge_votes(folder)


# --- the class is the cluster


def metrics_of(rng, method="independent", variant="", split=0, seed=0, data="scenes", preset="teach") -> dict:
    tasks = {task.name: {m: float(rng.uniform(0.3, 0.9)) for m in METRICS}
             | {"n": 100, "majority_accuracy": 0.5, "confusion": [[1]]} for task in PATENT_TASKS}
    return {"tasks": tasks, "data": data, "method": method, "variant": variant, "preset": preset, "split": split,
            "seed": seed, "threads": 2}


def config_of(run: dict, epochs=6, **more) -> dict:
    settings = {"epochs": epochs, "exchange_factor": 100.0 if run["method"] == "nddr" else 1.0}
    tasks = [{"name": t.name, "classes": list(t.classes), "loss_weight": t.loss_weight} for t in PATENT_TASKS]
    run = {key: run[key] for key in ("data", "method", "variant", "preset", "split", "seed")}
    return {"hash": "x", "config": run | {"settings": settings, "images": "abc", "options": {}, "tasks": tasks} | more}


def hand_in(folder: Path, run: dict, config: dict | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(run), encoding="utf-8")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder / "metrics.json"


def class_of_sixty(folder: Path) -> None:
    rng = np.random.default_rng(3)
    for n in range(60):
        run = metrics_of(rng, *(("independent", ""), ("cross_branch", "diagonal"))[n % 2], split=n // 2, seed=n // 2)
        hand_in(folder / f"student {n} é", run, config_of(run))


def test_sixty_students_runs_are_one_paired_table_and_picture(tmp_path, capsys):
    class_of_sixty(tmp_path / "in")
    runs, notes = pool(tmp_path / "in")
    assert notes == []
    expected = collect(tmp_path / "in")
    columns = ["method", "split", "task"]
    pd.testing.assert_frame_equal(runs.sort_values(columns, ignore_index=True),
                                  expected.sort_values(columns, ignore_index=True), check_like=True)
    assert main(["pool", str(tmp_path / "in"), "--out", str(tmp_path / "out é")]) == 0
    said = capsys.readouterr().out
    assert "60 runs pooled" in said and "| aesthetics | cross_branch.diagonal |" in said
    table = pd.read_csv(tmp_path / "out é" / "pooled.csv", encoding="utf-8")
    with Image.open(tmp_path / "out é" / "pooled.png") as picture:
        assert len(table) == 120 and picture.size[0] > 300
    pairs = paired_differences(table, "auc", "independent")
    wide = table.pivot(index=["task", "split"], columns="method", values="auc")
    by_hand = (wide["cross_branch.diagonal"] - wide["independent"]).groupby("task").mean()
    assert pairs["pairs"].tolist() == [30, 30]
    assert pairs.set_index("task")["mean"].sort_index().tolist() == pytest.approx(by_hand.sort_index().tolist())


@pytest.mark.parametrize(("change", "named"), [
    ({"data": "oasis"}, "data is 'scenes' in 'a/metrics.json', 'oasis' in 'b/metrics.json'"),
    ({"preset": "smoke"}, "preset is 'teach'"),
])
def test_runs_of_other_data_or_presets_are_refused_in_one_line(tmp_path, change, named, capsys):
    rng = np.random.default_rng(0)
    hand_in(tmp_path / "a", metrics_of(rng))
    hand_in(tmp_path / "b", metrics_of(rng, method="shared_bottom", **change))
    assert main(["pool", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert named in said and "mixed configurations" in said and said.count("\n") == 1
    assert not (tmp_path / "pooled.csv").exists()


@pytest.mark.parametrize(("more", "named"), [
    ({"epochs": 8}, "settings.epochs is '6'"), ({"images": "other"}, "images is 'abc'"),
    ({"labels": {"soft": True}}, "labels is 'None'"), ({"options": {"depth": 3}}, None),
])
def test_the_configurations_decide_what_may_be_pooled(tmp_path, more, named):
    rng = np.random.default_rng(0)
    for n, (name, extra) in enumerate({"a": {}, "b": more}.items()):
        run = metrics_of(rng, *(("independent", ""), ("nddr", ""))[n])
        hand_in(tmp_path / name, run, config_of(run, **extra))
    if named is None:
        assert len(pool(tmp_path)[0]) == 4
    else:
        with pytest.raises(ValueError, match=f"mixed configurations: {named}"):
            pool(tmp_path)


def test_loss_weights_that_differ_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    for name, weight in (("a", 0.25), ("b", 1.0)):
        run = metrics_of(rng, split=ord(name))
        config = config_of(run)
        config["config"]["tasks"][1]["loss_weight"] = weight
        hand_in(tmp_path / name, run, config)
    with pytest.raises(ValueError, match="mixed configurations: (tasks|loss weights) "):
        pool(tmp_path)


def test_the_same_run_twice_counts_once_and_is_said(tmp_path):
    first = metrics_of(np.random.default_rng(0))
    other = json.loads(json.dumps(first))
    other["tasks"]["emotion"]["auc"] += 0.125
    for name, run in (("anna", first), ("ben", first), ("carl", other)):
        hand_in(tmp_path / name, run)
    runs, notes = pool(tmp_path)
    assert len(runs) == 2 and runs["run"].map(lambda path: path.name).unique().tolist() == ["anna"]
    assert "'ben/metrics.json' is the run of 'anna/metrics.json' again (the same numbers)" in notes[0]
    assert "up to 0.125 apart" in notes[1] and "3 came without a config.json" in notes[2]


def test_hostile_files_are_left_out_one_line_each(tmp_path):
    rng = np.random.default_rng(0)
    hand_in(tmp_path / HOSTILE.replace("/", "_"), metrics_of(rng))  # a name is text, and stays text
    run = metrics_of(rng, split=1)
    broken = {
        "cut": json.dumps(run)[:-20], "list": "[1]", "null": "null", "text": "no json", "deep": "[" * 5000,
        "nan": json.dumps(run).replace('"auc": 0', '"auc": NaN, "x": 0', 1),
        "html": json.dumps(run | {"method": HOSTILE}), "negative": json.dumps(run | {"split": -1}),
        "true": json.dumps(run | {"seed": True}), "none": json.dumps(run | {"tasks": {}}),
        "shape": json.dumps(run | {"tasks": {"emotion": [1]}}), "few": json.dumps(run | {"tasks": {"emotion": {}}}),
        "variant": json.dumps(run | {"variant": [1]}),
    }
    for name, content in broken.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(content, encoding="utf-8")
    hand_in(tmp_path / "config", run, {"config": {"tasks": "none", "settings": 3}})
    (tmp_path / "._metrics.json").write_bytes(b"\x00\x05\x16\x07")  # macOS puts these into archives
    runs, notes = pool(tmp_path)
    assert len(runs) == 2 and runs["split"].unique().tolist() == [0]
    left = [note for note in notes if note.startswith("left out ")]
    assert len(left) == len(broken) + 1 and all("\n" not in note and len(note) < 260 for note in left)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["tasks", "data", "method", "preset", "split", "seed", "variant", "emotion"]),
                        inner, max_size=6), max_leaves=8))
def test_whatever_json_is_handed_in_the_good_run_is_pooled(tmp_path, content):
    hand_in(tmp_path / "good", metrics_of(np.random.default_rng(0)))
    (tmp_path / "bad").mkdir(exist_ok=True)
    (tmp_path / "bad" / "metrics.json").write_text(json.dumps(content), encoding="utf-8")
    runs, notes = pool(tmp_path)
    assert len(runs) == 2 and notes[0].startswith("left out 'bad/metrics.json': ")


def test_nothing_to_pool_or_to_pair_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match=r"no metrics\.json of a finished run below it"):
        pool(tmp_path)
    hand_in(tmp_path / "a", metrics_of(np.random.default_rng(0), "shared_bottom"))
    with pytest.raises(ValueError, match="nothing to pair: .* the runs are of shared_bottom"):
        pool_figure(pool(tmp_path)[0])
