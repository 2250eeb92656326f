"""The readers of published sets, on small copies in the published layouts, traps included."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from aesthemo_lib.data.readers import READERS, iae, read
from aesthemo_lib.tasks import AESTHETICS, EMOTION, PATENT_TASKS, Task

ORDER = EMOTION.classes


def pictures(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(root / name, format="PNG")  # whatever it is called
    return root


def one_line(call, says, kind=ValueError):
    with pytest.raises(kind, match=says) as error:
        call()
    assert "\n" not in str(error.value)


# IAE: ten scores of 10, 7, 4 or 1. The second image is high by its mean (6.4) though six of ten raters say low.
SCORES = [[10] * 10, [4] * 6 + [10] * 4, [7] * 5 + [1] * 5, [1] * 10, [7] * 10, [4] * 10, [10] * 10, [1] * 10]
AES = [1, 1, 0, 0, 1, 0, 1, 0]
EMO = [0, 1, 2, 3, 4, 5, 6, 7]
EMOTIONS = ("amusement", "excitement", "awe", "contentment", "disgust", "anger", "fear", "sad")  # IAE's own order
PART = ["train"] * 4 + ["val"] * 2 + ["test"] * 2


def write_scores(path, scores=SCORES):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["score"] = np.array([[*row, sum(row)] for row in scores], dtype=np.float32)


@pytest.fixture
def package(tmp_path):
    root = tmp_path / "IAE é"
    pictures(root, *(f"images/{n}" for n in range(8)))
    for part in ("train", "val", "test"):
        for short, labels in (("aes", AES), ("emo", EMO)):
            rows = [f"{n} {labels[n]}" for n in reversed(range(8)) if PART[n] == part]  # not in the images' order
            (root / f"{part}_{short}_list.txt").write_text("\r\n".join(rows) + "\n", encoding="utf-8")
    write_scores(root / "scores.h5")
    return root


@pytest.fixture
def single(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "final_aes_emo.h5", "w") as file:
        file["image"] = np.random.default_rng(0).integers(0, 256, (8, 5, 6, 3), dtype=np.uint8)
        file["aes"], file["emo"] = np.eye(2)[AES], np.eye(8)[EMO]
    return tmp_path


def test_iae_package(package):
    images = read("iae", package)
    assert images.tasks == PATENT_TASKS and [path.name for path in images.paths] == [str(n) for n in range(8)]
    assert images.labels("aesthetics").tolist() == AES
    assert [ORDER[label] for label in images.labels("emotion")] == [*EMOTIONS[:-1], "sadness"]
    assert [part.tolist() for part in images.split(3)] == [[0, 1, 2, 3], [4, 5], [6, 7]]
    np.testing.assert_allclose(images.votes["aesthetics"][:3], [[0, 10], [3.6, 6.4], [6, 4]])
    assert images.facts["score_mean"].tolist() == [10, 6.4, 4, 1, 7, 4, 10, 1]
    table = images.ratings["aesthetics"]
    assert table[table["image"] == 1]["value"].tolist() == SCORES[1] and len(table) == 80
    assert images.rating_votes["aesthetics"][10:20].sum(axis=0).tolist() == [6, 4]


def test_iae_mean_of_ten_scores_is_never_on_the_cut():
    """Ten numbers of 1 mod 3 sum to 1 mod 3, and 50 is 2 mod 3: votes of v/10 can't tie, so labels follow the mean."""
    assert all(score % 3 == 1 for score in iae.SCORES) and (10 * iae.CUT) % 3 != 10 % 3


def test_iae_images_with_a_suffix_names_for_numbers_and_no_scores(package):
    (package / "scores.h5").unlink()
    for n in range(8):
        (package / f"images/{n}").rename(package / f"images/{n}.jpg")
    for part in ("train", "val", "test"):
        rows = [f"{n}.jpg {EMOTIONS[EMO[n]]}" for n in range(8) if PART[n] == part]
        (package / f"{part}_emo_list.txt").write_text("\n".join(rows), encoding="utf-8")
    images = read("iae", package)
    assert images.labels("emotion").tolist() == [ORDER.index(e) for e in (*EMOTIONS[:-1], "sadness")]
    assert images.votes["aesthetics"].tolist() == np.eye(2)[AES].tolist() and not images.ratings
    assert images.paths[0].name == "0.jpg"


def test_iae_another_order_of_numbers(package):
    images = read("iae", package, emotions=list(ORDER))
    assert images.labels("emotion").tolist() == EMO
    one_line(lambda: read("iae", package, emotions=["awe"]), "expected the eight emotions, each once, got awe")


def test_iae_an_image_that_one_list_lacks_is_unlabelled_for_that_task(package):
    (package / "test_aes_list.txt").write_text("6 1\n", encoding="utf-8")
    (package / "scores.h5").unlink()
    assert read("iae", package).labels("aesthetics").tolist() == [*AES[:7], -1]


def test_iae_labels_that_scores_contradict_are_kept_and_told(package, caplog):
    write_scores(package / "scores.h5", [*SCORES[:7], [10] * 10])
    with caplog.at_level(logging.WARNING):
        images = read("iae", package)
    assert images.labels("aesthetics").tolist() == AES and "1 of 8 aesthetics labels" in caplog.text


def test_iae_single_file(single):
    import h5py

    images = read("iae", single)
    assert images.labels("aesthetics").tolist() == AES and images.fixed is None
    assert [ORDER[label] for label in images.labels("emotion")] == [*EMOTIONS[:-1], "sadness"]
    with h5py.File(single / "final_aes_emo.h5") as file:
        for path, pixels in zip(images.paths, file["image"], strict=True):
            np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels)
    assert {path.name for path in single.iterdir()} == {"final_aes_emo.h5", images.paths[0].parent.name}
    stamp = images.paths[0].stat().st_mtime_ns
    write_scores(single / "scores.h5")
    again = read("iae", single / "final_aes_emo.h5")
    assert again.paths == images.paths and again.paths[0].stat().st_mtime_ns == stamp  # unpacked once
    np.testing.assert_allclose(again.votes["aesthetics"][1], [3.6, 6.4])


def test_iae_unpacking_that_fails_leaves_nothing(single):
    import h5py

    with h5py.File(single / "final_aes_emo.h5", "a") as file:
        pixels = file["image"][:].astype(np.float32)
        del file["image"]
        file["image"] = pixels / 255
    one_line(lambda: read("iae", single), r"image 0 holds float32 of .*; expected whole numbers of 0..255")
    assert [path.name for path in single.iterdir()] == ["final_aes_emo.h5"]


@pytest.mark.parametrize(("name", "text", "says"), [
    ("val_aes_list.txt", "4 1\n5\n", "val_aes_list.txt, line 2: '5'; expected IMAGE_ID LABEL"),
    ("val_aes_list.txt", "4 1\n5 2\n", "line 2: aesthetics is '2'; expected 0..1"),
    ("val_emo_list.txt", "4 4\n5 8\n", "line 2: emotion is '8'; expected 0..7"),
    ("val_emo_list.txt", "4 4\n5 joy\n", "line 2: unknown emotion 'joy'; expected one of amusement"),
    ("val_emo_list.txt", "4 4\n3 5\n", "line 2: image 3 is listed twice, or in two parts"),
    ("scores.h5", "no", "scores.h5 is not a whole HDF5 file"),
])
def test_iae_faults(package, name, text, says):
    (package / name).write_text(text, encoding="utf-8")
    one_line(lambda: read("iae", package), says)


def test_iae_wrong_scores_and_wrong_places(package, single):
    write_scores(package / "scores.h5", [*SCORES[:7], [2] * 10])
    one_line(lambda: read("iae", package), r"scores.h5: row 7 is \[2.0, .*expected ten scores of 1, 4, 7 or 10")
    write_scores(package / "scores.h5", SCORES[:7])
    one_line(lambda: read("iae", package), r"score is \(7, 11\); expected 8 or more rows")
    (package / "test_emo_list.txt").unlink()
    one_line(lambda: read("iae", package), "test_emo_list.txt: not found; expected six lists", FileNotFoundError)
    one_line(lambda: read("iae", single / "x"), "final_aes_emo.h5: not found; expected it, or", FileNotFoundError)
    write_scores(single / "final_aes_emo.h5")
    one_line(lambda: read("iae", single), "no 'image' in it; expected image, aes, emo, found score")


def test_without_h5py_one_line_says_what_to_do(package, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    one_line(lambda: read("iae", package), "scores.h5 needs the package h5py.*pip install h5py", ImportError)


@pytest.fixture
def emoset(tmp_path):
    rows = {"train": ["sadness/sadness_00000", "awe/awe_00000", "awe/awe_00007"], "val": ["anger/anger_00003"],
            "test": ["excitement/excitement_00001"]}
    for part, names in rows.items():
        pictures(tmp_path, *(f"image/{name}.jpg" for name in names))
        (tmp_path / f"{part}.json").write_text(json.dumps(
            [[name.split("/")[0], f"image/{name}.jpg", f"annotation/{name}.json"] for name in names]), encoding="utf-8")
    return tmp_path


def test_emoset_keeps_its_split(emoset, caplog):
    images = read("emoset", emoset)
    assert images.tasks == (Task("emotion", ORDER, 1.0),)
    assert [ORDER[label] for label in images.labels("emotion")] == [p.parent.name for p in images.paths]
    assert [part.tolist() for part in images.split(0)] == [[0, 1, 2], [3], [4]]
    images.paths[1].unlink()
    assert len(read("emoset", emoset)) == 4 and "1 of the 5 images listed are not here" in caplog.text


@pytest.mark.parametrize("order", [
    lambda emotion, image, note: [emotion, note, image],
    lambda emotion, image, note: [emotion, image.rsplit("/")[-1][:-4], image, note],
    lambda emotion, image, note: [emotion, 7, note, image.replace(".jpg", ".JPG")],
])
def test_emoset_fields_in_any_published_order(emoset, order):
    """Never an annotation in an image's place."""
    usual = read("emoset", emoset)
    for part in ("train", "val", "test"):
        file = emoset / f"{part}.json"
        entries = [order(*entry) for entry in json.loads(file.read_text(encoding="utf-8"))]
        file.write_text(json.dumps(entries), encoding="utf-8")
    for path in usual.paths:
        path.with_suffix(".JPG").write_bytes(path.read_bytes())
        annotation = emoset / "annotation" / path.parent.name / f"{path.stem}.json"
        annotation.parent.mkdir(parents=True, exist_ok=True)
        annotation.write_text("{}", encoding="utf-8")
    images = read("emoset", emoset)
    assert [path.with_suffix(".jpg") for path in images.paths] == list(usual.paths)
    assert images.labels("emotion").tolist() == usual.labels("emotion").tolist()


def test_emoset_faults(emoset):
    (emoset / "val.json").write_text('[["joy", "image/joy/1.jpg"]]', encoding="utf-8")
    one_line(lambda: read("emoset", emoset), "val.json, entry 0: unknown emotion 'joy'; expected one of amusement")
    (emoset / "val.json").write_text('[{"emotion": "awe"}]', encoding="utf-8")
    one_line(lambda: read("emoset", emoset), r"val.json: entry 0 is \{'emotion': 'awe'\}; expected \[emotion, image")
    (emoset / "val.json").write_text('[["awe", "annotation/awe/1.json"]]', encoding="utf-8")
    one_line(lambda: read("emoset", emoset), r"val.json: entry 0 is .*expected \[emotion, image, annotation\]")
    (emoset / "val.json").unlink()
    one_line(lambda: read("emoset", emoset), "val.json: not found; expected EmoSet-118K's", FileNotFoundError)


def test_abstract_counts_in_the_published_order(tmp_path):
    pictures(tmp_path, "abstract_0001.jpg", "abstract_0002.jpg")
    file = tmp_path / "ABSTRACT_groundTruth.csv"
    header = "'','Amusement','Anger','Awe','Content','Disgust','Excitement','Fear','Sad'"  # quoted so
    file.write_text(f"{header}\n'abstract_0001.jpg',1,2,3,4,5,6,7,8\n'abstract_0002.jpg',0,9,0,0,0,0,0,1\n",
                    encoding="utf-8")
    images = read("abstract", tmp_path)
    votes = dict(zip(ORDER, images.votes["emotion"][0], strict=True))
    assert votes == {"amusement": 1, "anger": 2, "awe": 3, "contentment": 4, "disgust": 5, "excitement": 6, "fear": 7,
                     "sadness": 8}
    assert [ORDER[label] for label in images.labels("emotion")] == ["sadness", "anger"]
    file.write_text(header.replace("'Sad'", "'Fear'") + "\n", encoding="utf-8")
    one_line(lambda: read("abstract", tmp_path), "eight emotions, each once")
    file.write_text(f"{header}\n'abstract_0001.jpg',1,2,3,4,5,6,7\n", encoding="utf-8")
    one_line(lambda: read("abstract", tmp_path), "row 1 is abstract_0001.jpg,1,2,3.*eight counts")


def test_artphoto_reads_its_file_names(tmp_path):
    pictures(tmp_path, "sad_0012.jpg", "content_0001.jpg", "awe_0003.JPG")
    (tmp_path / "ReadMe.rtf").write_text("", encoding="utf-8")
    images = read("artphoto", tmp_path)
    assert {p.stem.split("_")[0]: ORDER[n] for p, n in zip(images.paths, images.labels("emotion"), strict=True)} == {
        "awe": "awe", "content": "contentment", "sad": "sadness"}
    pictures(tmp_path, "IMG_0001.jpg")
    one_line(lambda: read("artphoto", tmp_path), "IMG_0001.jpg: unknown emotion 'IMG'")


def test_ava_votes_and_groups(tmp_path, caplog):
    pictures(tmp_path, "images/953619.jpg", "images/953958.jpg")
    lines = ["1 953619 0 1 5 17 38 36 15 6 5 1 1 22 1396", "2 953958 10 0 0 0 2 0 0 0 0 0 0 0 1396",
             "3 7 0 0 0 0 0 0 0 0 0 1 0 0 9"]
    (tmp_path / "AVA.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    images = read("ava", tmp_path)
    assert images.tasks == (Task("aesthetics", AESTHETICS.classes, 1.0),)
    # 0+1+5+17 below 5, 38 on it, 36+15+6+5+1 above
    assert images.votes["aesthetics"].tolist() == [[23 + 19, 63 + 19], [11, 1]]
    assert images.groups.tolist() == ["1396", "1396"] and "1 of the 3 images listed" in caplog.text
    mean = (2 + 15 + 68 + 190 + 216 + 105 + 48 + 45 + 10) / 124
    assert images.facts["score_mean"].tolist() == pytest.approx([mean, 20 / 12])
    for line, says in (("1 953619 0 1 5\n", "15 whole numbers in each row.*1 rows of 5"),
                       (f"{lines[0]}\n{lines[0]} 1\n", "Expected 15 fields in line 2, saw 16"),
                       ("1 953619 -1" + " 1" * 9 + " 1 22 9\n", "15 whole numbers"), ("", "No columns"),
                       ("1 953619 " + "0 " * 10 + "1 22 1396\n", "image 953619 has no votes")):
        (tmp_path / "AVA.txt").write_text(line, encoding="utf-8")
        one_line(lambda: read("ava", tmp_path), says)


def test_ava_with_the_official_test_list(tmp_path):
    """Its names of missing images do no harm; no challenge is a group, since they lie on both sides of the list."""
    numbers = range(100, 160)
    pictures(tmp_path, *(f"images/images/{n}.jpg" for n in numbers))
    (tmp_path / "AVA.txt").write_text("".join(f"{i} {n} 0 0 0 0 1 3 0 0 0 0 1 22 {i % 3}\n"
                                              for i, n in enumerate(numbers)), encoding="utf-8")
    assert len(set(read("ava", tmp_path).groups)) == 3
    (tmp_path / "aesthetics_image_lists").mkdir()
    (tmp_path / "aesthetics_image_lists/generic_test.jpgl").write_text("101\n999\n107\n", encoding="utf-8")
    images = read("ava", tmp_path)
    split = images.split()
    assert [images.paths[row].stem for row in split.test] == ["101", "107"] and len(set(images.groups)) == 60
    assert 1 <= len(split.validation) <= 14 and len(split.train) + len(split.validation) == 58
    images.paths[0].unlink()
    parts = dict(zip(images.paths, images.fixed, strict=True))  # the same, whatever other images are there
    fewer = read("ava", tmp_path)
    assert {path: parts[path] for path in fewer.paths} == dict(zip(fewer.paths, fewer.fixed, strict=True))


def test_ava_from_kaggle(tmp_path):
    pictures(tmp_path, "images/images/953619.jpg")
    head = "image_num," + ",".join(f"vote_{score}" for score in range(1, 11))
    file = tmp_path / "ground_truth_dataset.csv"
    file.write_text(f"{head}\n953619,0,1,5,17,38,36,15,6,5,1\n", encoding="utf-8")
    images = read("ava", tmp_path)
    assert images.votes["aesthetics"].tolist() == [[23 + 19, 63 + 19]] and images.groups.tolist() == ["0"]
    file.write_text(f"{head.replace('vote_1,', 'vote_0,')}\n953619,0,1,5,17,38,36,15,6,5,1\n", encoding="utf-8")
    one_line(lambda: read("ava", tmp_path), "11 whole numbers in each row, a header image_num,vote_1 .. vote_10")


@pytest.mark.parametrize("name", ["iae", "emoset", "abstract", "artphoto", "ava"])
def test_no_such_folder(name, tmp_path):
    assert name in READERS
    one_line(lambda: read(name, tmp_path / "nowhere"), "nowhere.*: not found; expected", FileNotFoundError)


def test_lists_without_images(emoset):
    for path in emoset.rglob("*.jpg"):
        path.unlink()
    one_line(lambda: read("emoset", emoset), "none of the 5 images listed is here, such as", FileNotFoundError)
