"""The CSV reader: its three layouts, its spellings, and one clear line for each fault."""

from pathlib import Path

import numpy as np
import pytest

from aesthemo_lib.data import ratings as rating
from aesthemo_lib.data.readers import csv_table, data_root, infer_task, read
from aesthemo_lib.tasks import AESTHETICS, EMOTION, MIKELS_EMOTIONS, Task

AWE_FEAR = Task("emotion", ("awe", "fear"), 0.25)


@pytest.fixture
def folder(tmp_path):
    """Four files that stand for images, in a folder whose name has a space and an accent."""
    root = tmp_path / "Été 1"
    (root / "photos").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "c é.jpg", "d.jpg"):
        (root / "photos" / name).write_bytes(b"")
    (tmp_path / "outside.jpg").write_bytes(b"")
    return root


def write(folder: Path, text: str, encoding="utf-8") -> Path:
    (folder / "labels.csv").write_bytes(text.encode(encoding))
    return folder


def fault(folder: Path, text: str, message: str, **options):
    with pytest.raises(ValueError, match=message) as error:
        read("csv", write(folder, text), **options)
    assert "\n" not in str(error.value) and str(folder / "labels.csv") in str(error.value)


LABELS = """path,aesthetics,emotion:fear,emotion:awe,group,split,_source
photos/a.jpg,high,0,3,walk,train,Ann
photos/b.jpg,low,1,0.5,walk,train,
photos/c é.jpg,,2,2,,validation,Bo
photos/d.jpg,high,,,,test,Cy
"""


def test_labels_and_vote_counts(folder):
    images = read("csv", write(folder, LABELS))
    assert images.tasks == (AESTHETICS, Task("emotion", ("fear", "awe"), 0.25))  # votes: the order of the columns
    assert [path.relative_to(folder).as_posix() for path in images.paths] == [
        "photos/a.jpg", "photos/b.jpg", "photos/c é.jpg", "photos/d.jpg"]
    assert all(path.is_file() for path in images.paths)
    assert images.votes["aesthetics"].tolist() == [[0, 1], [1, 0], [0, 0], [0, 1]]
    assert images.votes["emotion"].tolist() == [[0, 3], [1, 0.5], [2, 2], [0, 0]]
    assert images.labels("aesthetics").tolist() == [1, 0, -1, 1]
    assert images.labels("emotion").tolist() == [1, 0, 0, -1]
    assert images.groups.tolist() == ["walk", "walk", "photos/c é.jpg", "photos/d.jpg"]
    assert [part.tolist() for part in images.split(0)] == [[0, 1], [2], [3]]
    assert images.facts["source"].tolist() == ["Ann", "", "Bo", "Cy"] and not images.ratings


RATINGS = """path,annotator,aesthetics>4,emotion,group
photos/b.jpg,ann,6,awe,g
photos/a.jpg,ann,2,fear,h
photos/b.jpg,bo,4,fear,g
photos/b.jpg,cy,7,fear,g
photos/a.jpg,cy,,fear,h
photos/d.jpg,bo,5.5,,h
"""


def test_single_ratings(folder):
    images = read("csv", write(folder, RATINGS))
    assert images.tasks == (AESTHETICS, AWE_FEAR)
    assert [path.name for path in images.paths] == ["b.jpg", "a.jpg", "d.jpg"]
    assert images.votes["aesthetics"].tolist() == [[0.5, 2.5], [1, 0], [0, 1]]
    assert images.votes["emotion"].tolist() == [[1, 2], [0, 2], [0, 0]]
    assert images.groups.tolist() == ["g", "h", "h"] and images.fixed is None
    assert images.ratings["aesthetics"].values.tolist() == [
        [0, "ann", 6], [1, "ann", 2], [0, "bo", 4], [0, "cy", 7], [2, "bo", 5.5]]
    assert images.ratings["emotion"]["value"].tolist() == ["awe", "fear", "fear", "fear", "fear"]
    assert images.levels == {"aesthetics": "interval", "emotion": "nominal"}
    for task in ("aesthetics", "emotion"):
        votes = rating.add_votes(images.ratings[task]["image"], images.rating_votes[task], 3)
        np.testing.assert_array_equal(votes, images.votes[task])
    # b: nobody of awe, fear, fear agrees with the other two (1 : 1 counts as awe); a: both agree.
    assert images.one_rater_accuracy("emotion") == 0.5


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_every_spreadsheet_writes_it_otherwise(folder, delimiter, ending, encoding):
    """Delimiter, line ends and byte order mark change nothing; nor do spaces, blank lines and backslashes."""
    expected = read("csv", write(folder, LABELS))
    text = LABELS.replace(",", f" {delimiter} ").replace("photos/a", "photos\\a").replace("\n", ending + ending)
    if delimiter == ";":
        text = text.replace("0.5", "0,5")
    images = read("csv", write(folder, text, encoding))
    assert images.paths == expected.paths and images.tasks == expected.tasks
    assert images.fingerprint() == expected.fingerprint()
    assert images.facts.equals(expected.facts)


def test_quoted_cells(folder):
    (folder / "photos" / "x, y.jpg").write_bytes(b"")
    images = read("csv", write(folder, 'path,emotion,_note\n"photos/x, y.jpg",awe,"one\ntwo"\nphotos/a.jpg,fear,\n'))
    assert images.paths[0].name == "x, y.jpg"
    # The note takes two lines of the file, so a fault in the next row stands on line 4.
    fault(folder, 'path,emotion,_note\n"photos/x, y.jpg",awe,"one\ntwo"\nphotos/no.jpg,fear,\n', "line 4: image")


def test_root_may_be_the_file(folder, monkeypatch):
    (folder / "mine.csv").write_text("path,emotion\nphotos/a.jpg,awe\nphotos/b.jpg,fear\n", encoding="utf-8")
    assert len(read("csv", folder / "mine.csv")) == 2
    monkeypatch.chdir(folder)
    images = read("csv", "mine.csv")
    assert images.groups.tolist() == ["photos/a.jpg", "photos/b.jpg"] and images.paths[0].is_file()
    with pytest.raises(FileNotFoundError, match="labels.csv: not found"):
        read("csv", folder)


def test_absolute_paths_inside_are_welcome(folder):
    text = f"path,emotion\n{folder / 'photos' / 'a.jpg'},awe\nphotos/../photos/b.jpg,fear\n"
    assert read("csv", write(folder, text)).groups.tolist() == ["photos/a.jpg", "photos/b.jpg"]


@pytest.mark.parametrize(("labels", "classes"), [
    ({"high", "low"}, ("low", "high")), (set(MIKELS_EMOTIONS), MIKELS_EMOTIONS),
    ({"high", "low", "mid"}, ("high", "low", "mid")), ({"sadness", "awe"}, ("awe", "sadness")),
])
def test_order_of_inferred_classes(labels, classes):
    assert infer_task("mood", labels) == Task("mood", classes, 1.0)
    assert infer_task("emotion", labels).loss_weight == EMOTION.loss_weight


def test_given_tasks_choose_the_columns(folder):
    images = read("csv", write(folder, LABELS), tasks=(Task("emotion", ("awe", "fear")),))
    assert images.tasks == (Task("emotion", ("awe", "fear")),)
    assert images.votes["emotion"].tolist() == [[3, 0], [0.5, 1], [2, 2], [0, 0]]
    one = read("csv", write(folder, "path,emotion\nphotos/a.jpg,awe\n"), tasks=(AWE_FEAR,))
    assert one.labels("emotion").tolist() == [0]


HEAD = "path,emotion\nphotos/a.jpg,awe\n"


@pytest.mark.parametrize(("text", "message"), [
    ("", "is empty; expected a header"),
    ("\n \n", "is empty"),
    ("path,emotion\n", "has a header but no rows"),
    ("file,emotion\nphotos/a.jpg,awe\n", "column 'path' is missing among file, emotion"),
    ("path,emotion,emotion\nphotos/a.jpg,awe,awe\n", "column 3 of the header is a second 'emotion'"),
    ("path,emotion,\nphotos/a.jpg,awe,\n", "column 3 of the header has no name"),
    ("path\nphotos/a.jpg\n", "no task in it"),
    ("path,group,_x\nphotos/a.jpg,a,b\n", "no task in it"),
    (HEAD + "photos/b.jpg,fear,joy\n", "line 3: 3 cells for 2 columns"),
    (HEAD + "photos/a.jpg,fear\n", "line 3: path 'photos/a.jpg' stands on line 2 too"),
    (HEAD + "photos/b.jpg,fear\n./photos//b.jpg,fear\n", "line 4: .* stands on line 3 too"),
    (HEAD + "photos/none.jpg,fear\n", "line 3: image 'photos/none.jpg' not found"),
    (HEAD + "photos,fear\n", "line 3: image 'photos' not found"),
    (HEAD + ",fear\n", "line 3: path '' is not inside"),
    (HEAD + "../outside.jpg,fear\n", "line 3: path '../outside.jpg' is not inside"),
    (HEAD + "photos/../../outside.jpg,fear\n", "line 3: path .* is not inside"),
    (HEAD + "..\\outside.jpg,fear\n", "line 3: path .* is not inside"),
    (HEAD + "photos/b.jpg,awe\n", "emotion has the single class 'awe'; expected 2 to 50"),
    ("path,emotion\nphotos/a.jpg,\n", "emotion has 0 classes"),
    (HEAD + "photos/b.jpg,Awe\nphotos/d.jpg,fear\n", "classes 'Awe' and 'awe'|classes 'awe' and 'Awe'"),
    ("path,my task\nphotos/a.jpg,awe\nphotos/b.jpg,fear\n", "'my task': expected an identifier.*'_my task'"),
    ("path,e:awe\nphotos/a.jpg,1\n", "e has the single class 'awe'"),
    ("path,e:awe,e:fear\nphotos/a.jpg,1,-1\n", "line 2: e:fear is '-1'; expected a number of 0 or more"),
    ("path,e:awe,e:fear\nphotos/a.jpg,1,NaN\n", "line 2: e:fear is 'NaN'"),
    ("path,e:awe,e:fear\nphotos/a.jpg,inf,1\n", "line 2: e:awe is 'inf'"),
    ("path,e:awe,e:fear\nphotos/a.jpg,1,\n", "line 2: e:fear is ''"),
    ("path,e:awe,e:fear\nphotos/a.jpg,one,2\n", "line 2: e:awe is 'one'"),
    ("path,e:awe,e:fear\nphotos/a.jpg,,\n", "no votes in e:awe, e:fear"),
    ("path,e:awe,e:fear,e\nphotos/a.jpg,1,2,awe\n", "say e in two ways"),
    ("path,annotator,e:awe,e:fear\nphotos/a.jpg,x,1,2\n", "say e in two ways"),
    ("path,e>4,e\nphotos/a.jpg,1,awe\n", "say e in two ways"),
    ("path,split,e>4\nphotos/a.jpg,dev,1\n", "line 2: split is 'dev'; expected train, validation, test"),
    ("path,split,e>4\nphotos/a.jpg,,1\n", "line 2: split is ''"),
    ("path,e>x\nphotos/a.jpg,1\n", "column 'e>x': expected a number after '>'"),
    ("path,e>4\nphotos/a.jpg,five\n", "line 2: e>4 is 'five'; expected a number"),
    ("path,annotator,e>4\nphotos/a.jpg,x,1\nphotos/b.jpg,,1\n", "line 3: no annotator"),
    ("path,annotator,e>4\nphotos/a.jpg,x,1\nphotos/a.jpg,x,5\n", "line 3: 'x' rated it on line 2 too"),
    ("path,annotator,e>4,group\nphotos/a.jpg,x,1,g\nphotos/a.jpg,y,5,h\n", "line 3: group is 'h', but 'g' above"),
])
def test_each_fault_is_one_line(folder, text, message):
    fault(folder, text, message)


@pytest.mark.parametrize(("text", "message"), [
    (HEAD + "photos/b.jpg,joy\n", "line 3: emotion is 'joy'; expected one of awe, fear"),
    ("path,aesthetics\nphotos/a.jpg,low\n", "column 'emotion' is missing; expected it, or all of emotion:awe"),
    ("path,emotion:awe\nphotos/a.jpg,1\n", "column 'emotion:fear' is missing"),
    ("path,emotion:awe,emotion:fear,emotion:joy\nphotos/a.jpg,1,1,1\n", "'emotion:joy' is no class of emotion"),
    ("path,emotion\nphotos/a.jpg,\n", "column 'emotion' is empty"),
])
def test_each_fault_against_given_tasks(folder, text, message):
    fault(folder, text, message, tasks=(AWE_FEAR,))


def test_text_is_no_task(folder):
    for number in range(51):
        (folder / f"{number}.jpg").write_bytes(b"")
    rows = "".join(f"{number}.jpg,caption {number}\n" for number in range(51))
    fault(folder, "path,caption\n" + rows, "caption has 51 classes; .*call it '_caption'")


def test_other_encodings_are_refused(folder):
    (folder / "labels.csv").write_bytes("path,emotion\nphotos/é.jpg,awe\n".encode("latin-1"))
    with pytest.raises(ValueError, match="labels.csv: not a CSV in UTF-8.*save it as 'CSV UTF-8'"):
        csv_table.read(folder)


def test_dispatcher(folder, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="no data set 'flickr'; expected one of scenes, oasis, csv, folders"):
        read("flickr", folder)
    with pytest.raises(ValueError, match="'csv' has no option 'sensitive'; expected tasks"):
        read("csv", folder, sensitive=True)
    assert data_root("csv", "here") == Path("here")
    monkeypatch.setenv("AESTHEMO_DATA", str(tmp_path / "all"))
    assert data_root("csv") == tmp_path / "all" / "csv" and data_root("csv", "here") == Path("here")
    monkeypatch.delenv("AESTHEMO_DATA")
    project = tmp_path / "project"
    (project / "notebooks" / "more").mkdir(parents=True)
    (project / "pyproject.toml").touch()
    monkeypatch.chdir(project / "notebooks" / "more")
    assert data_root("oasis") == project / "data" / "oasis"
    monkeypatch.chdir(folder)
    assert data_root("oasis") == folder / "data" / "oasis"
