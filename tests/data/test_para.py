"""The PARA reader on a small set in the official layout: 40 photographs, two sessions, six raters."""

import csv
import logging

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from aesthemo_lib.data.readers import para, read

OFFICIAL = ("neutral", "disgust", "sadness", "fear", "awe", "amusement", "excitement", "contentment")
SCALE = [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]
RATERS = [f"A{n:06x}" for n in range(12)]
TRAIN = 30


def answers():
    """(photograph, rater, score, emotion) for 40 photographs: twelve raters each, with a lasting leaning each."""
    rng = np.random.default_rng(3)
    for photo in range(40):
        beauty = rng.integers(2, 7)
        for rater in rng.permutation(12):
            word = rng.choice(OFFICIAL, p=[.4, .05, .05, .05, .05, .3, .05, .05])
            yield photo, RATERS[rater], SCALE[np.clip(beauty + rng.integers(-2, 3), 0, 8)], word


ANSWERS = pd.DataFrame(answers(), columns=["photo", "rater", "score", "emotion"])


def name(photo):
    return f"iae_pub{photo + 1}_.jpg"


def giaa(photos):
    for photo in photos:
        mine = ANSWERS[ANSWERS["photo"] == photo]
        yield {"imageName": name(photo), "sessionId": f"session{photo % 2 + 1}", "semantic": "plant"} | {
            f"aestheticScore_{score:.1f}": (mine["score"] == score).sum() for score in SCALE} | {
            "aestheticScore_mean": round(mine["score"].mean(), 9), "aestheticScore_std": 1.0, "qualityScore_mean": 3,
        } | {f"imgEmotion_{word}": (mine["emotion"] == word).sum() for word in OFFICIAL}


def write(file, rows):
    rows = list(rows)
    with file.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, rows[0])
        table.writeheader()
        table.writerows(rows)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "PARA é"
    (root / "annotation").mkdir(parents=True)
    write(root / "annotation/PARA-GiaaTrain.csv", giaa(range(TRAIN)))
    write(root / "annotation/PARA-GiaaTest.csv", giaa(range(TRAIN, 40)))
    for photo in range(40):
        file = root / f"imgs/session{photo % 2 + 1}/{name(photo)}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), (photo, 0, 0)).save(file, "PNG")  # all of one size
    return root


def with_single_ratings(root):
    write(root / "annotation/PARA-Images.csv", (
        {"sessionId": f"session{row.photo % 2 + 1}", "imageName": name(row.photo), "userId": row.rater,
         "aestheticScore": row.score, "qualityScore": 3, "imgEmotion": row.emotion, "semantic": "plant"}
        for row in ANSWERS.itertuples()))
    return root


def counted(photo, form):
    """The votes of a photograph by the rules that the reader's docstring states, one answer after the other."""
    mine = ANSWERS[ANSWERS["photo"] == photo]
    high = sum(1 if score > 3 else 0.5 if score == 3 else 0 for score in mine["score"])
    words = [(mine["emotion"] == word).sum() for word in para.EMOTIONS]
    if form == "positive":
        positive = mine["emotion"].isin(["amusement", "awe", "contentment", "excitement"]).sum()
        words = [len(mine) - positive, positive]
    elif form == "felt":
        words = words[1:] if sum(words[1:]) >= 8 else [0] * 7
    return [len(mine) - high, high], words


@pytest.mark.parametrize("form", para.FORMS)
@pytest.mark.parametrize("single", [False, True])
def test_votes_from_counts_and_from_single_ratings(root, form, single, caplog):
    images = read("para", with_single_ratings(root) if single else root, emotion=form)
    assert [task.classes for task in images.tasks] == [("low", "high"), para.FORMS[form]] and not caplog.text
    assert [path.name for path in images.paths] == [name(photo) for photo in range(40)]
    for photo in range(40):
        aesthetics, emotion = counted(photo, form)
        assert images.votes["aesthetics"][photo].tolist() == aesthetics
        assert images.votes["emotion"][photo].tolist() == emotion
    felt = images.votes["emotion"].sum(axis=1) > 0
    assert felt.all() if form != "felt" else 0 < felt.sum() < 40
    assert bool(images.ratings) == single
    if single:  # the votes are the sums of the single ratings' votes, in every form
        for task in ("aesthetics", "emotion"):
            sums = np.zeros_like(images.votes[task])
            np.add.at(sums, images.ratings[task]["image"], images.rating_votes[task])
            assert sums.tolist() == images.votes[task].tolist()
        assert set(images.ratings["aesthetics"]["annotator"]) == set(RATERS)
        assert 0.5 < images.one_rater_accuracy("aesthetics") < images.panel_ceiling("aesthetics") <= 1


def test_where_only_means_are_there(root, caplog):
    """As the set's public copy has them: empty cells for the training photographs' counts."""
    file = root / "annotation/PARA-GiaaTrain.csv"
    table = pd.read_csv(file)
    table[[f"aestheticScore_{score:.1f}" for score in SCALE] + ["semantic"]] = None
    table.loc[:2, "aestheticScore_mean"] = [3.0, 3.04, 2.96]
    table.to_csv(file, index=False)
    images = read("para", root)
    means = images.facts["score_mean"].to_numpy()
    assert images.labels("aesthetics").tolist() == (means > 3).astype(int).tolist()  # one rule for all 40
    assert images.labels("aesthetics")[:3].tolist() == [0, 1, 0]
    assert (images.votes["aesthetics"].sum(axis=1) == 1).all() and np.isnan(images.panel_ceiling("aesthetics"))
    assert "mean score's side of 3" in caplog.text


def test_the_official_split_with_copies(root, caplog):
    photo = {row: root / f"imgs/session{row % 2 + 1}/{name(row)}" for row in range(40)}
    for copy, original in ((3, 35), (4, 35), (12, 31), (7, 9), (20, 9), (33, 34)):
        photo[copy].write_bytes(photo[original].read_bytes())
    with caplog.at_level(logging.WARNING):
        images = read("para", root)
    assert "2 groups of identical files lie on both sides of the official split; their 3 training" in caplog.text
    left = [row for row in range(40) if row not in (3, 4, 12)]
    assert [path.name for path in images.paths] == [name(row) for row in left]
    split = images.split()
    assert [left[row] for row in split.test] == list(range(30, 40))
    assert 1 <= len(split.validation) <= 9
    group = dict(zip(left, images.groups, strict=True))
    assert group[7] == group[9] == group[20] and group[33] == group[34] and len(set(group.values())) == 37 - 3
    assert len({images.fixed[left.index(row)] for row in (7, 9, 20)}) == 1


def test_a_copy_that_is_changed_in_place_is_noticed(root):
    files = sorted((root / "imgs").rglob("*.jpg"))
    files[5].write_bytes(files[1].read_bytes())
    for _ in range(2):  # read, then from the cache
        assert para.identical_files(files).tolist() == [0, 1, 2, 3, 4, 1, *range(6, 40)]
    Image.new("RGB", (4, 3), (5, 200, 0)).save(files[5], "PNG")
    assert para.identical_files(files).tolist() == list(range(40))


def test_the_raters(root):
    text = "userId,age,gender,EducationalLevel,personality-E\nA000000,30-34,female,university,6\n"
    (root / "annotation/PARA-UserInfo.csv").write_text(text, encoding="utf-8")
    assert para.people(root).loc["A000000", "age"] == "30-34"
    (root / "annotation/PARA-UserInfo.csv").write_text("user\n1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="PARA-UserInfo.csv: column 'userId' is missing"):
        para.people(root)


@pytest.mark.parametrize(("file", "old", "new", "says"), [
    ("PARA-GiaaTest.csv", "imgEmotion_awe", "imgEmotion_joy", "PARA-GiaaTest.csv: column 'imgEmotion_awe' is missing"),
    ("PARA-GiaaTest.csv", "iae_pub32_.jpg", "../iae_pub32_.jpg", r"GiaaTest.csv: row 2 \(../iae_pub32_.jpg\) has no"),
    ("PARA-GiaaTest.csv", "iae_pub32_.jpg", "iae_pub2_.jpg", "para: iae_pub2_.jpg has two rows in the official tables"),
    ("PARA-GiaaTrain.csv", "session1", "..", r"GiaaTrain.csv: row 1 \(iae_pub1_.jpg\) has no plain names"),
    ("PARA-Images.csv", ",amusement,", ",joy,", "PARA-Images.csv: row .* and the emotion 'joy'; expected 1, 1.5"),
    ("PARA-Images.csv", "aestheticScore", "score", "PARA-Images.csv: column 'aestheticScore' is missing"),
])
def test_what_is_not_as_published_is_named(root, file, old, new, says):
    path = with_single_ratings(root) / "annotation" / file
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=says) as error:
        read("para", root)
    assert "\n" not in str(error.value)


def test_a_rating_given_twice_counts_once(root, caplog):
    path = with_single_ratings(root) / "annotation/PARA-Images.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines, lines[1]]) + "\n", encoding="utf-8")
    assert len(read("para", root).ratings["aesthetics"]) == 480 and "1 ratings of PARA-Images.csv repeat" in caplog.text


def test_options_and_missing_files(root):
    assert [task.name for task in read("para", root, tasks=["emotion"]).tasks] == ["emotion"]
    for wrong, says in (({"emotion": "all"}, "form of emotion 'all'; choose from positive, eight, felt"),
                        ({"tasks": ["mood"]}, "unknown task 'mood'; choose from aesthetics, emotion")):
        with pytest.raises(ValueError, match=says):
            read("para", root, **wrong)
    (root / "annotation/PARA-GiaaTest.csv").unlink()
    with pytest.raises(FileNotFoundError, match="PARA-GiaaTest.csv: not found; expected PARA as published"):
        read("para", root)
