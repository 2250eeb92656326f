"""Tables of judgements with every fault that spreadsheets and small collections have."""

import csv
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image
from sklearn import metrics

from aesthemo_lib.data.readers import published, read
from aesthemo_lib.data.table import AnnotatedImages
from aesthemo_lib.models.networks import build
from aesthemo_lib.tasks import PATENT_TASKS, Task
from aesthemo_lib.training.fit import Data, Settings, fit
from aesthemo_lib.training.runs import Config, train

TASK = Task("aesthetics", ("low", "high"))


def write(folder, rows, header="path,aesthetics,emotion,split"):
    """A table and its pictures: the bright ones are 'high'."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, label, *_ in rows:
        noise = np.random.default_rng(len(name)).integers(0, 90, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(noise + np.uint8(120 if label == "high" else 0)).save(folder / name)
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([header.split(","), *rows])
    return folder


def parts(train=8, validation=4, test=4, emotions=("awe", "fear")):
    split = ["train"] * train + ["validation"] * validation + ["test"] * test
    labels = [("low", "high")[i % 2] for i in range(len(split))]
    return [[f"{i}.png", labels[i], emotions[i // 2 % len(emotions)], part] for i, part in enumerate(split)]


def trained(folder, out, **more):
    return train(Config(data="csv", preset="smoke", settings={"epochs": 1} | more), out, folder)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_every_way_to_write_a_table_reads_the_same(tmp_path, mark, end, bom):
    write(tmp_path, parts(2, 1, 1))
    text = "path,e:awe,e:fear\n0.png,1,2\n1.png,0,0\n2.png,4,0\n".replace("\n", end).replace(",", mark)
    (tmp_path / "labels.csv").write_bytes((bom + text).encode())
    images = read("csv", tmp_path)
    assert images.votes["e"].tolist() == [[1, 2], [0, 0], [4, 0]]
    assert images.labels("e").tolist() == [1, -1, 0]  # nobody voted on the second: unlabelled, and masked in the loss


def test_a_group_in_two_parts_is_refused(tmp_path):
    text = "path,e,group,split\n0.png,a,walk,train\n1.png,b,,test\n2.png,a,,test\n3.png,b,walk,test\n"
    write(tmp_path, parts(2, 1, 1))
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"labels\.csv, line 5: group 'walk' is in test here and in train on line 2; "):
        read("csv", tmp_path)


def test_one_and_two_images_are_refused_before_training(tmp_path):
    for count in (1, 2):
        text = "path,e:a,e:b\n" + "".join(f"{i}.png,1,2\n" for i in range(count))
        folder = write(tmp_path / str(count), parts(count, 0, 0))
        (folder / "labels.csv").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=f"csv: {count} images in {count} groups can.t be split 4 ways; add"):
            trained(folder, tmp_path / "runs")


def test_one_training_image_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"csv: split 0 holds too few images \(1 of train, .* needs 2 or more"):
        trained(write(tmp_path / "a", parts(1, 2, 2)), tmp_path / "runs")


def test_fewer_images_than_a_batch(tmp_path):
    run = trained(write(tmp_path / "few", parts(5, 1, 1)), tmp_path / "runs", batch=64)
    assert np.isfinite(run.history()["train_loss"]).all() and run.metrics["aesthetics"]["n"] == 1


@pytest.mark.parametrize(("left_out", "part"), itertools.product(["awe", "fear"], ["train", "validation", "test"]))
def test_a_class_that_is_absent_from_one_part(tmp_path, left_out, part):
    """It is learnt and measured as far as it can be; scikit-learn agrees on what is measured."""
    rows = [row for row in parts(12, 6, 6) if not (row[2] == left_out and row[3] == part)]
    run = trained(write(tmp_path / "gap", rows), tmp_path / "runs")
    table, got = run.predictions(), run.metrics["emotion"]
    assert len(table) == len([row for row in rows if row[3] == "test"])
    assert got["accuracy"] == metrics.accuracy_score(table["true_emotion"], table["emotion"])
    assert got["auc"] is None if part == "test" else 0 <= got["auc"] <= 1
    assert got["confusion"] == metrics.confusion_matrix(
        table["true_emotion"], table["emotion"], labels=["awe", "fear"]).tolist()


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_task_without_labels_in_one_part(tmp_path, part):
    rows = [[*row[:2], "" if row[3] == part else row[2], row[3]] for row in parts()]
    run = trained(write(tmp_path / "none", rows), tmp_path / "runs")
    assert run.metrics["emotion"]["n"] == (0 if part == "test" else 4)
    assert np.isfinite(run.history()["validation_loss"]).all()


@pytest.mark.parametrize("train_images", [17, 33])
def test_a_last_batch_of_one_does_not_stop_batch_normalisation(train_images):
    """EfficientNet's last maps are 1x1 at 32 px: of one image they have no variance, and torch refuses."""
    rng, n = np.random.default_rng(0), train_images + 4
    data = Data(rng.integers(0, 255, (n, 36, 36, 3), dtype=np.uint8), np.full((36, 36, 3), 127, np.float32),
                {"aesthetics": np.arange(n) % 2, "emotion": np.arange(n) % 8}, np.arange(train_images),
                np.arange(train_images, n))
    network = build("shared_bottom", PATENT_TASKS, "efficientnet_lite0", "none")
    settings = Settings("efficientnet_lite0", "none", resize=36, crop=32, batch=16, epochs=1, patience=1,
                        learning_rate=0.01)
    (row,) = fit(network, data, settings, 0, torch.device("cpu"))
    assert np.isfinite(row["train_loss"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(-1, 1)), min_size=1, max_size=60), st.integers(0, 7))
def test_any_split_has_three_parts_or_a_reason(entries, number):
    """No part is empty, none shares a group with another, and every image is in one."""
    groups, labels = (np.array(column) for column in zip(*entries, strict=True))
    votes = np.eye(2)[labels] * (labels >= 0)[:, None]
    images = AnnotatedImages("made", (TASK,), tuple(map(str, range(len(groups)))), {"aesthetics": votes}, groups=groups)
    try:
        split = images.split(number)
    except ValueError as fault:
        assert "made: " in str(fault) and "\n" not in str(fault)
        return
    assert len(split.train) >= 2 and len(split.validation) and len(split.test)
    assert sorted(np.concatenate(split)) == list(range(len(groups)))
    for one, other in itertools.combinations(split, 2):
        assert not set(groups[one]) & set(groups[other])


@pytest.mark.parametrize(("reader", "files"), [
    ("emoset", {f"{part}.json": '[["awe", "../secret.jpg", "x"]]' for part in ("train", "val", "test")}),
    ("abstract", {"ABSTRACT_groundTruth.csv":
                  "'','Amusement','Anger','Awe','Content','Disgust','Excitement','Fear','Sad'\n"
                  "'../secret.jpg','1','0','0','0','0','0','0','0'\n"}),
])
def test_published_lists_do_not_lead_out_of_their_folder(tmp_path, reader, files):
    (tmp_path / "set").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.jpg")
    for name, text in files.items():
        (tmp_path / "set" / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"'\.\./secret\.jpg' is not inside"):
        getattr(published, reader)(tmp_path / "set")
