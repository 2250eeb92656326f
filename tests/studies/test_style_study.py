"""The study of style transfer: who photographs what, the rivals, and one split from photographs to table."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from aesthemo_lib.data import readers
from aesthemo_lib.data.readers import csv_table
from aesthemo_studies.__main__ import main
from aesthemo_studies.style_transfer import colour_matching, study as style_study
from aesthemo_studies.style_transfer.networks import RECIPES
from aesthemo_studies.style_transfer.study import CONDITIONS, Plan, run_split


@pytest.fixture(scope="module")
def images(colours_root):
    return readers.read("csv", colours_root)


@pytest.fixture(scope="module")
def made(colours_root, tmp_path_factory):
    """One split of the smallest kind, and where it lies."""
    out = tmp_path_factory.mktemp("stile é")
    plan = Plan("csv", "smoke", 1, replace(RECIPES["smoke"], steps=2, every=1))
    return plan, out, run_split(plan, out, colours_root)


def test_nobody_photographs_a_series_of_another_part(oasis_root):
    images = readers.read("oasis", oasis_root)
    for number in (0, 5):
        who = style_study.roles(images, number)
        assert sorted(np.concatenate(who)) == list(range(len(images)))
        series = [set(images.groups[rows]) for rows in who]
        assert all(not series[i] & series[j] for i in range(4) for j in range(i))
        assert 0.2 < len(who.first) / (len(who.first) + len(who.train)) < 0.45
        assert np.array_equal(who.test, images.split(number).test)


def test_a_set_of_photographs_is_read_back_as_it_was(images, tmp_path):
    rows = np.array([9, 3, 40])  # 9 has no emotion
    photos = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    files = style_study.as_png(photos)
    place = style_study.write_set(tmp_path / "fotos é", images, rows, ["train", "test", "test"], files)
    back = csv_table.read(place)
    assert [task.classes for task in back.tasks] == [task.classes for task in images.tasks]
    for task in images.tasks:
        assert back.labels(task.name).tolist() == images.labels(task.name)[rows].tolist()
    assert back.groups.tolist() == images.groups[rows].tolist() and back.fixed.tolist() == ["train", "test", "test"]
    assert np.array_equal(style_study.stacked(path.read_bytes() for path in back.paths), photos)


def test_a_lookup_table_by_hand():
    """First style: values 10, 20, 30, 40 in equal parts; second: 100 and 200. Ranks decide, the same for all photos."""
    first = np.array([10, 20, 30, 40], np.uint8).reshape(1, 2, 2, 1).repeat(3, 3)
    second = np.array([100, 100, 200, 200], np.uint8).reshape(1, 2, 2, 1).repeat(3, 3)
    found = colour_matching.looked_up(first, first, second)
    # quantile .5 is 100 and 1 is 200; below .5 there is nothing but 100, and .75 lies half-way
    assert found[0, :, :, 0].tolist() == [[100, 100], [150, 200]]
    dark = np.full((1, 2, 2, 3), 25, np.uint8)
    assert colour_matching.looked_up(dark, first, second)[0, 0, 0, 0] == 125, "between two known values"
    one = colour_matching.histogram_matched(first, second)
    assert one[0, :, :, 0].tolist() == [[100, 100], [150, 200]]


def test_a_histogram_is_forced_on_each_photograph_and_a_table_is_not():
    rng = np.random.default_rng(0)
    second = rng.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    first = (second // 2 + 60).astype(np.uint8)
    dark = (first[:1] // 2).astype(np.uint8)
    assert abs(colour_matching.histogram_matched(dark, second).mean() - second.mean()) < 3
    both = np.concatenate([first, dark])
    found = colour_matching.looked_up(both, both, second)
    assert found[-1].mean() < found[:-1].mean() - 50


def test_likeness_by_its_formula():
    rng = np.random.default_rng(0)
    truth = rng.integers(20, 230, (2, 16, 16, 3), dtype=np.uint8)
    photos = (truth + rng.integers(-9, 10, truth.shape)).astype(np.uint8)
    found = colour_matching.likeness(photos, truth)
    error = ((photos.astype(float) - truth) ** 2).mean(axis=(1, 2, 3))
    assert np.allclose(found["psnr"], 10 * np.log10(255**2 / error))
    assert found["ssim"].between(0.9, 0.9999).all()


def test_a_split_from_photographs_to_table(made, images, colours_root):
    plan, out, rows = made
    assert list(rows["method"].unique()) == list(CONDITIONS) and set(rows["task"]) == {"aesthetics", "emotion"}
    test = images.split(1).test
    labelled = {task.name: int((images.labels(task.name)[test] >= 0).sum()) for task in images.tasks}
    assert rows.groupby("task")["n"].unique().str[0].to_dict() == labelled
    folder = out / "csv" / "smoke" / "split1"
    run = style_study.Run(folder / "classifier" / "csv" / "shared_bottom" / "smoke" / "split0-seed1")
    in_style = rows[rows["method"] == "in_style"].set_index("task")
    for task, values in run.metrics.items():  # the classifier's own test is the second camera's
        assert np.isclose(in_style.loc[task, "log_loss"], values["log_loss"], atol=0.02)
    near = rows.groupby("method")["psnr"].mean()
    assert near["in_style"] > near.drop("in_style").max() + 5, "another exposure is the nearest that there is"
    tested = csv_table.read(folder / "tested" / "lookup")
    shot = style_study.photograph(plan.open(colours_root)[1], test, "second")
    assert len(tested) == len(test) and not (style_study.stacked(shot) == style_study.stacked(
        path.read_bytes() for path in tested.paths)).all()


def test_the_command_keeps_each_split_as_it_comes(made, colours_root, monkeypatch, tmp_path, capsys):
    plan, _, rows = made
    seen, target = [], tmp_path / "table.csv"

    def one(plan, out, root):
        seen.append(plan.split)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return rows.assign(split=plan.split)

    monkeypatch.setattr(style_study, "run_split", one)
    command = ["style-transfer", "--data", "csv", "--root", str(colours_root), "--preset", "smoke", "--splits", "3",
               "--out", str(tmp_path), "--to", str(target)]
    assert main([*command, "--jobs", "1"]) == 130 and not target.exists()
    assert main([*command, "--gather"]) == 0 and len(pd.read_csv(target)) == len(rows)
    assert main([*command, "--jobs", "1"]) == 0 and seen == [0, 1, 1, 2]
    assert len(pd.read_csv(target)) == 3 * len(rows) and str(target) in capsys.readouterr().out


def test_halfway_is_the_mean_of_both_ends_on_each_split():
    rows = pd.DataFrame({"task": "emotion", "split": [0, 0, 0, 1, 1, 1], "seed": 0,
                         "method": ["in_style", "lookup", "out_of_style"] * 2, "auc": [0.8, 0.1, 0.6, 0.7, 0.1, 0.6]})
    found = style_study.with_halfway(rows)
    assert np.allclose(found[found["method"] == "halfway"]["auc"], [0.7, 0.65]) and len(found) == 8


def test_the_committed_table_is_what_the_command_makes():
    table = style_study.read()
    assert sorted(table["split"].unique()) == list(range(style_study.SPLITS))
    assert set(table["steps"]) == {RECIPES["teach"].steps} and not table.isna().any(axis=None)
    each = table.groupby(["split", "task"])["method"].apply(list)
    assert all(methods == list(CONDITIONS) for methods in each) and set(table["task"]) == {
        "aesthetics", "emotion", "category"}
    assert (table.groupby(["split", "method"])["psnr"].nunique() == 1).all()
