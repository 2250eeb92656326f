"""Judging and testing: what a run may be tested on, and what one bad photograph costs."""

import json
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, PngImagePlugin

from aesthemo_lib import cli
from aesthemo_lib.data.images import BadImages
from aesthemo_lib.evaluation import truth_and_probabilities
from aesthemo_lib.inspector.widget import Inspector
from aesthemo_lib.prediction import Predictor, evaluate
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import Config, train

CONFIG = Config(data="csv", preset="smoke", settings={"epochs": 1})


@pytest.fixture(scope="module")
def trained(colours_root, tmp_path_factory) -> Run:
    return train(CONFIG, tmp_path_factory.mktemp("runs"), colours_root)


@pytest.fixture
def copy(colours_root, tmp_path):
    """The data of ``trained``, to be changed."""
    return shutil.copytree(colours_root, tmp_path / "data é")


def rows(folder) -> pd.DataFrame:
    return pd.read_csv(folder / "labels.csv", keep_default_na=False, encoding="utf-8")


def write(folder, table) -> None:
    table.to_csv(folder / "labels.csv", index=False, encoding="utf-8")


def same(one: dict, other: dict) -> bool:
    one, other = dict(one), dict(other)
    return one.pop("confusion") == other.pop("confusion") and one == pytest.approx(other)


def of(run: Run, part: str) -> list[str]:
    return run.predictions(part)["image"].tolist()


def test_its_own_data_give_its_own_metrics(trained, colours_root):
    report = evaluate(trained, "csv", colours_root)
    assert report["images"] == f"the run's {len(of(trained, 'test'))} test images" and report["left_out"] == {}
    for task, metrics in trained.metrics.items():
        assert same(report["tasks"][task], metrics)


def test_the_direct_resize_shows_the_network_what_pillow_makes_of_the_file(trained, colours_root, tmp_path):
    """[0063]: at once to the network's side, with the mean image beside it; the test images are known all the same."""
    names, settings = of(trained, "test"), trained.settings
    network, mean = trained.network()
    squares = [np.asarray(Image.open(colours_root / name).convert("RGB").resize((settings.crop,) * 2, Image.BILINEAR))
               for name in names]
    mean = torch.nn.functional.interpolate(torch.as_tensor(mean).permute(2, 0, 1)[None], (settings.crop,) * 2,
                                           mode="bilinear", antialias=True)
    x = (torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2) - mean) / 255
    with torch.no_grad():
        logits = network((x / torch.tensor(network.std)[:, None, None]).contiguous(memory_format=torch.channels_last))
    expected = torch.softmax(logits["emotion"].double(), dim=1).numpy()
    answers = Predictor(trained, direct=True).answers([colours_root / name for name in names], exact=True)
    np.testing.assert_allclose(answers.probabilities["emotion"], expected, atol=2e-5)
    usual = Predictor(trained).answers([colours_root / name for name in names], exact=True)
    assert np.abs(usual.probabilities["emotion"] - expected).max() > 2e-4 and answers.digests == usual.digests
    out = tmp_path / "direct.json"
    assert cli.main(["evaluate", str(trained.folder), "--data", "csv", "--root", str(colours_root), "--direct",
                     "--json", str(out)]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["images"] == f"the run's {len(names)} test images"
    assert report["tasks"]["emotion"]["log_loss"] != pytest.approx(trained.metrics["emotion"]["log_loss"], abs=1e-6)


@pytest.mark.parametrize("change", ["label", "photo", "fewer", "order"])
def test_a_changed_table_is_tested_on_the_runs_own_test_images(trained, copy, change):
    """A corrected label, a photograph more or fewer, another order: each makes another split."""
    table, own = rows(copy), of(trained, "test")
    expected = dict(zip(table["path"], table["aesthetics"], strict=True))
    if change == "label":
        changed = {own[0]: "low" if expected[own[0]] == "high" else "high", of(trained, "train")[0]: "low"}
        table["aesthetics"] = [changed.get(path, label) for path, label in expected.items()]
        expected |= changed
    elif change == "photo":
        Image.new("RGB", (40, 40), "teal").save(copy / "new.png")
        table.loc[len(table)] = ["new.png", "low", "cold"]
    elif change == "fewer":
        table = table[~table["path"].isin([own[0], of(trained, "train")[0]])]
    else:
        table = table.sample(frac=1, random_state=0)
    write(copy, table)
    report, answers = evaluate(trained, "csv", copy), trained.predictions("test").set_index("image")["aesthetics"]
    tested = own[1:] if change == "fewer" else own
    assert report["images"] == (f"{len(tested)} of the run's {len(own)} test images" if change == "fewer"
                                else f"the run's {len(own)} test images")
    right = np.mean([answers[name] == expected[name] for name in tested])
    assert report["tasks"]["aesthetics"]["accuracy"] == pytest.approx(right)
    assert report["tasks"]["aesthetics"]["n"] == len(tested)


def test_photographs_under_other_names_are_still_those_it_was_trained_on(trained, copy):
    for path in sorted(copy.glob("*.png")):
        path.rename(copy / f"img_{path.name}")
    table = rows(copy)
    write(copy, table.assign(path="img_" + table["path"]))
    report = evaluate(trained, "csv", copy)
    assert report["images"] == f"the {len(of(trained, 'test'))} of 60 images that the run never saw"
    write(copy, table[table["path"].isin(of(trained, "train") + of(trained, "validation"))].assign(
        path=lambda rest: "img_" + rest["path"]))
    with pytest.raises(ValueError, match="their pixels are those of its training"):
        evaluate(trained, "csv", copy)


def test_photographs_exported_anew_in_another_format_are_the_same_photographs(trained, copy):
    for path in copy.glob("*.png"):
        Image.open(path).save(path.with_suffix(".jpg"), quality=90)
        path.unlink()
    table = rows(copy)
    write(copy, table.assign(path=table["path"].str.replace(".png", ".jpg")))
    count = len(of(trained, "test"))
    said = evaluate(trained, "csv", copy)["images"]
    assert said == f"the run's {count} test images, {count} with other pixels than then"


@pytest.mark.parametrize("left", [0, 200, 0.5, 0.99])
def test_a_run_whose_predictions_are_cut_off_is_not_tested(trained, tmp_path, colours_root, left):
    run = Run(shutil.copytree(trained.folder, tmp_path / "run"))
    whole = (run.folder / "predictions.csv").read_bytes()
    (run.folder / "predictions.csv").write_bytes(whole[:left if left == 200 else int(left * len(whole))])
    with pytest.raises(ValueError, match="predictions.csv is damaged: it does not name the test images; train"):
        evaluate(run, "csv", colours_root)


def test_a_run_whose_predictions_are_cut_off_is_trained_anew(colours_root, tmp_path, caplog):
    run = train(CONFIG, tmp_path, colours_root)
    whole = (run.folder / "predictions.csv").read_bytes()
    for left in (0, 30, len(whole) // 2, len(whole) - 2):
        (run.folder / "predictions.csv").write_bytes(whole[:left])
        assert (train(CONFIG, tmp_path, colours_root).folder / "predictions.csv").read_bytes() == whole
    assert caplog.text.count("training anew") == 4


@pytest.mark.parametrize("classes", [("0", "1"), ("01", "02"), ("False", "True"), ("1.0", "2")])
def test_classes_that_look_like_numbers_stay_what_they_are(copy, tmp_path, classes):
    table = rows(copy)
    write(copy, table[["path"]].assign(memorable=[classes[level == "high"] for level in table["aesthetics"]]))
    run = train(CONFIG, tmp_path / "runs", copy)
    tested, own = evaluate(run, "csv", copy)["tasks"]["memorable"], run.metrics["memorable"]
    assert same(tested, own) and own["n"] == len(of(run, "test")) and own["majority_accuracy"] > 0.3
    assert set(run.predictions("train")["true_memorable"]) == set(classes)
    truth, _ = truth_and_probabilities(run.predictions("test"), run.tasks[0])
    assert set(truth) == {0, 1}


def test_copies_with_other_bytes_in_training_and_test_are_named(trained, copy, tmp_path, caplog):
    first, second = of(trained, "test")[0], of(trained, "train")[0]
    mark = PngImagePlugin.PngInfo()
    mark.add_text("rating", "5")
    Image.open(copy / second).save(copy / first, pnginfo=mark)
    train(CONFIG, tmp_path / "runs", copy)
    assert f"1 test images have the pixels of others that are trained or selected on, {first} = {second}" in caplog.text


def test_images_it_was_trained_on_alone_are_refused(trained, copy):
    table, known = rows(copy), of(trained, "train") + of(trained, "validation")
    write(copy, table[table["path"].isin(known)])
    with pytest.raises(ValueError, match=f"trained or selected on all of these {len(known)} images; name others"):
        evaluate(trained, "csv", copy)


def test_another_set_with_the_same_names_is_tested_whole_where_its_pixels_differ(trained, tmp_path):
    for number in range(8):
        folder = tmp_path / ("low", "high")[number % 2]
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (40, 40), (number, 9, 90)).save(folder / f"{number}.png")
    report = evaluate(trained, "folders", tmp_path)
    assert report["images"] == "all 8 images" and set(report["tasks"]) == {"aesthetics"}
    assert "only aesthetics" in report["left_out"]["emotion"]


@pytest.mark.parametrize("classes", [["high"], ["low", "high"]])
def test_a_table_that_lacks_a_class_is_tested(trained, copy, classes):
    table = rows(copy)
    write(copy, table[table["aesthetics"].isin(classes) & (table["emotion"] != "cold")])
    report = evaluate(trained, "csv", copy)
    assert set(report["tasks"]) == {"aesthetics", "emotion"} and report["left_out"] == {}
    assert np.array(report["tasks"]["emotion"]["confusion"]).shape == (3, 3)


def test_classes_in_another_order_are_the_same_classes(trained, copy):
    table = rows(copy)
    votes = {f"emotion:{name}": (table["emotion"] == name).astype(int) for name in ("warm", "cold", "calm")}
    write(copy, table.drop(columns="emotion").assign(**votes))
    report = evaluate(trained, "csv", copy)
    for task, metrics in trained.metrics.items():
        assert same(report["tasks"][task], metrics)


def test_a_task_with_other_classes_is_left_out_with_the_reason(trained, copy, capsys):
    table = rows(copy)
    write(copy, table.assign(emotion=table["emotion"].replace("calm", "quiet")))
    assert cli.main(["evaluate", str(trained.folder), "--data", "csv", "--root", str(copy)]) == 0
    said = capsys.readouterr().err
    assert "emotion is left out: the data have the class 'quiet', but the run's are calm, cold, warm; rename" in said
    assert f"tested on the run's {len(of(trained, 'test'))} test images" in said
    write(copy, table.assign(emotion=["quiet", "loud"] * 30, aesthetics=["bad", "good"] * 30))
    assert cli.main(["evaluate", str(trained.folder), "--data", "csv", "--root", str(copy)])
    assert "aesthetics: the data have the class 'bad'" in capsys.readouterr().err


def test_a_run_that_skipped_bad_images_is_tested_on_its_own_test_images(copy, tmp_path, colours_root):
    (copy / "17.png").write_bytes((copy / "17.png").read_bytes()[:100])
    with pytest.warns(UserWarning, match="skipped 1 image"):
        run = train(CONFIG, tmp_path / "runs", copy, on_bad_image="skip")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = evaluate(run, "csv", copy)
    assert same(report["tasks"]["aesthetics"], run.metrics["aesthetics"])
    (copy / of(run, "test")[0]).write_bytes(b"gone bad")
    with pytest.warns(UserWarning, match=r"left out 1 image file\(s\) can't be read"):
        report = evaluate(run, "csv", copy)
    assert report["images"] == f"{len(of(run, 'test')) - 1} of the run's {len(of(run, 'test'))} test images"


def test_photographs_that_changed_under_their_names_are_trained_on_anew(copy, tmp_path, caplog):
    first = train(CONFIG, tmp_path / "runs", copy)
    written = (first.folder / "metrics.json").stat().st_mtime_ns
    for path in copy.glob("*.png"):
        path.touch()  # another time alone is no other photograph
    assert train(CONFIG, tmp_path / "runs", copy).hash == first.hash and not caplog.text
    assert (first.folder / "metrics.json").stat().st_mtime_ns == written
    Image.open(copy / "3.png").point(lambda v: 255 - v).save(copy / "3.png")
    again = train(CONFIG, tmp_path / "runs", copy)
    assert "1 photographs have changed since it was trained, such as 3.png; training anew" in caplog.text
    assert (again.folder / "metrics.json").stat().st_mtime_ns != written
    assert train(CONFIG, tmp_path / "runs", copy).hash == again.hash and caplog.text.count("changed since") == 1


def test_photographs_of_one_name_in_two_folders_are_two(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(12):
        for label in ("awe", "fear"):
            (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
            noise = rng.integers(0, 120, (20, 20, 3), dtype=np.uint8) + 120 * (label == "awe")
            Image.fromarray(noise.astype(np.uint8)).save(tmp_path / "data" / label / f"{number:03}.png")
    run = train(Config(data="folders", preset="smoke", settings={"epochs": 1}), tmp_path / "runs", tmp_path / "data")
    table = pd.concat([run.predictions(part) for part in ("train", "validation", "test")])
    assert table["image"].nunique() == table["pixels"].nunique() == 24
    assert (table["image"].str.partition("/")[0] == table["true_emotion"]).all()
    shown = Inspector([run.folder], tmp_path / "data", count=50)  # every test photograph, under its own name and pixels
    assert sorted(shown.paths) == sorted(run.predictions("test")["image"])
    assert [photo["name"] for photo in shown.page["photos"]] == list(shown.paths)
    assert all(str(path).endswith(name) for name, path in shown.paths.items())
    report = evaluate(run, "folders", tmp_path / "data")
    assert same(report["tasks"]["emotion"], run.metrics["emotion"])


def test_one_bad_photograph_does_not_cost_the_table(trained, copy, capsys, tmp_path):
    photos = sorted(map(str, copy.glob("*.png")))[:20]
    (copy / "bad.jpg").write_bytes(b"no picture")
    out = tmp_path / "table.csv"
    with pytest.raises(BadImages):
        Predictor(trained).predict([*photos, str(copy / "bad.jpg")])
    assert cli.main(["predict", str(trained.folder), *photos[:7], str(copy / "bad.jpg"), *photos[7:],
                     "--csv", str(out), "--sheet", str(tmp_path / "sheet.png")]) == 0
    table = pd.read_csv(out)
    assert table["photo"].tolist() == photos
    pd.testing.assert_frame_equal(table, Predictor(trained).predict(photos))
    said = capsys.readouterr().err
    assert "bad.jpg" in said and "not an image that can be read" in said and "Traceback" not in said
    assert cli.main(["predict", str(trained.folder), str(copy / "bad.jpg"), "--csv", str(tmp_path / "none.csv")])
    said = capsys.readouterr().err
    assert not (tmp_path / "none.csv").exists() and "bad.jpg" in said and "on_bad_image" not in said
    assert cli.main(["predict", str(trained.folder), photos[0], str(copy / "bad.jpg"), "--csv",
                     str(tmp_path / "none.csv"), "--on-bad-image", "error"]) == 1
    printed = capsys.readouterr()
    assert "1 image file(s) can't be read" in printed.err and "bad.jpg" in printed.err and not printed.out
    assert not (tmp_path / "none.csv").exists()
