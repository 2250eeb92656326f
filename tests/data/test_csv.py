"""The CSV reader: its three layouts, its spellings, and one clear line for each fault."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

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


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
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
    ("path,e>nan\nphotos/a.jpg,1\n", "column 'e>nan': expected a number after '>'"),
    (HEAD + "<<<<<<< HEAD\n", "line 3: 1 cells for 2 columns; complete the row, or remove the line"),
    (HEAD + "\0", "holds NUL characters, so it is UTF-16 or damaged; save it as 'CSV UTF-8'"),
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


def fill(folder, labels, column="emotion", mark=",") -> str:
    """A table of as many images as there are labels, which stand in it as they are."""
    for number in range(len(labels)):
        (folder / f"{number}.jpg").write_bytes(b"")
    rows = "".join(f"{number}.jpg{mark}{label}\n" for number, label in enumerate(labels))
    return f"path{mark}{column}\n{rows}"


NONE = ["", *r"NA N/A n/a NaN nan None none NULL ? - -- – #N/A <NA> n.a. nil \N Missing unknown n.d.".split()]
NONE += ["N.A", "(none)", "(Empty)", "...", "n / a", "not available", "Don't know", "No label"]


@pytest.mark.parametrize("mark", NONE)
def test_what_says_that_nobody_judged_is_no_class(folder, caplog, mark):
    images = read("csv", write(folder, fill(folder, ["awe", mark, "fear", "awe", f" {mark} ", ""])))
    assert images.tasks[0].classes == ("awe", "fear") and images.labels("emotion").tolist() == [0, -1, 1, 0, -1, -1]
    if mark:
        assert "emotion has no label in 3 of 6 rows (" in caplog.text and f"2 {mark!r}" in caplog.text
        assert f"a column such as 'emotion:{mark}'" in caplog.text
    else:
        assert not caplog.text


def test_such_a_mark_is_a_class_if_one_says_so(folder):
    text = write(folder, fill(folder, ["awe", "None", "", "None"]))
    assert read("csv", text, classes={"emotion": ["awe", "None"]}).labels("emotion").tolist() == [0, 1, -1, 1]
    assert read("csv", text, tasks=(Task("emotion", ("None", "awe")),)).labels("emotion").tolist() == [1, 0, -1, 0]
    votes = "path,emotion:awe,emotion:None\n0.jpg,1,0\n1.jpg,0,1\n2.jpg,NA,\n"
    assert read("csv", write(folder, votes)).labels("emotion").tolist() == [0, 1, -1]


def test_such_marks_are_no_scores_no_groups_and_nobody(folder, caplog):
    text = "path,annotator,aesthetics>4,group\n0.jpg,a,6,NA\n1.jpg,a,n/a,-\n2.jpg,b,2,walk\n"
    fill(folder, range(3))
    images = read("csv", write(folder, text))
    assert images.labels("aesthetics").tolist() == [1, -1, 0] and "no label in 1 of 3 rows (1 'n/a')" in caplog.text
    assert images.groups.tolist() == ["0.jpg", "1.jpg", "walk"]
    fault(folder, text.replace("1.jpg,a,n/a", "1.jpg,?,3"), "line 3: no annotator")


@pytest.mark.parametrize("spelt", ["low\ufe0f", "low\u200b", "\ufefflow", "lo\u00adw", " low ", "low\u00a0",
                                   "\u2060low"])
def test_what_nobody_sees_makes_no_class(folder, spelt):
    images = read("csv", write(folder, fill(folder, ["low", spelt, "high"], "aesthetics")))
    assert images.tasks == (AESTHETICS,) and images.labels("aesthetics").tolist() == [0, 0, 1]


def test_accents_composed_in_two_ways_are_one_class_and_one_column(folder):
    images = read("csv", write(folder, fill(folder, ["fâché", "fâche\u0301", "joie"], "e\u0301tat")))
    assert images.tasks[0].name == "état" and images.labels("état").tolist() == [0, 0, 1]


@pytest.mark.parametrize(("labels", "message"), [
    (["Awe", "awe", "fear"], "'Awe' and 'awe'; use one of the two spellings"),
    (["AWE"] * 9 + ["awe"] * 9 + ["fear"], "'AWE' and 'awe'|'awe' and 'AWE'"),
    (["very sad", "very_sad", "very-sad"], "use one of the two spellings"),
    *(([spelt, "awe"], "use one of the two spellings") for spelt in (
        "ａｗｅ", "awe.", "awe*", "awe!", "“awe”", "'awe'", "‘awe’", "áwe", "awe - Copy", "awe?")),
    *((pair, "use one of the two spellings") for pair in (
        ["\ufb01erce", "fierce"], ["non-awe", "non–awe"], ["don't", "don’t"], ["İlgi", "ilgi"], ["schön", "schon"])),
    (["schÃ¶n", "awe"], "'schÃ¶n', whose letters were garbled .* .it may be 'schön'.; write it anew, in UTF-8"),
    (["sch\ufffdn", "awe"], "whose letters were garbled"),
    *((pair * 9, "use one of the two spellings") for pair in (
        ["cat", "cats", "dog"], ["awe", "awe (2)", "fear"], ["awe", "awe copy 2", "fear"], ["horse", "horses"],
        ["1", "1.0", "x"], ["01", "1", "x"])),
    (["high"] * 9 + ["h1gh", "low", "low", "low"], "'h1gh' 1 time"),
    (["True", "False", "0", "1"], "says yes and no in several ways .True, False, 0, 1.; use one word for each"),
    (["yes", "no", "Y"], "in several ways"), (["#REF!", "low"], "a spreadsheet's formula or error"),
    (["#DIV/0!", "low"], "a spreadsheet's formula or error"), (["=A1", "low"], "a spreadsheet's formula or error"),
    (["awe", "\u0430we"] * 9, "mixes CYRILLIC and LATIN letters; type it again"),
    (["low"] * 300 + ["lwo", "high"] + ["high"] * 9, "the class 'lwo' 1 time and 'low' 300 times: is the first"),
    (["fear"] * 9 + ["feer", "feer"], "'feer' 2 times and 'fear' 9 times"),
    (["fear"] * 9 + ["fearx"] + ["awe"] * 3, "'fearx' 1 time"), (["fear"] * 9 + ["far"] + ["awe"] * 3, "'far' 1 time"),
    (['"awe,fear"', "awe", "fear"], r"emotion is 'awe,fear'; expected one class in a cell.*emotion:awe, emotion:fear"),
    (["awe;fear", "awe", "fear"], "expected one class in a cell"), (["awe|joy", "awe"], "expected one class in a cell"),
    (["awe/fear", "awe", "fear"], "expected one class"), (["awe + fear", "awe", "fear"], "expected one class"),
    (["awe and fear", "awe", "fear"], "expected one class in a cell"),
    (['"[\'awe\', \'fear\']"', "awe"], "expected one class in a cell"),
    *(([both, "awe", "fear", "joy"], "one class in a cell.*emotion:awe, emotion:fear") for both in (
        "awe fear", "awe-fear", "awe_fear", "awe or fear", "awe > fear", "awe\\fear", "awe · fear", "awe und fear")),
    ([' "awe"', "awe", "fear"], "remove the quotation mark"),
    ([1, 2, 3, 4, 5, 6, 7], "emotion holds numbers .7 different ones, 1 to 7.; call the column 'emotion>4'"),
    ([1, 3, 5], "'emotion>3'"), (["2.5", "4", "3.25"], "'emotion>3.25'"),
    (["1/7", "4/7", "7/7"], "'emotion>4'"), (["0 %", "50%", "80%"], "'emotion>40'"),
    (["1 star", "3 stars", "5 stars"], "'emotion>3'"), (["train", "Val", "test"], "call the column 'split'"),
    (["-1", "0", "1"] * 3, "'emotion>0'"),
    (["1e0", "b", "1e0", "c", "d"], "^(?!)"),
])
def test_what_can_not_be_one_class_is_refused(folder, labels, message):
    if message == "^(?!)":  # no fault: letters among them
        assert len(read("csv", write(folder, fill(folder, labels))).tasks[0].classes) == 4
    else:
        fault(folder, fill(folder, labels), message)


@pytest.mark.parametrize("labels", [
    ["0", "1", "1"], ["level 1", "level 2", "level 2", "level 2"], ["a", "b", "b", "b"], ["1990s", "1980s", "1990s"],
    ["neg", "pos", "pos", "pos"], ["R&B", "jazz", "jazz"], ["A", "A-", "A+"],
    ["-1", "1", "1"], ["*", "**", "**"], ["C", "C++", "C#"], ["True", "False"], ["कल", "कुल", "कुल"],
    ["black and white", "colour", "colour"], ["n", "a", "n"],
    ["princess", "prince", "glass"], ["1990s", "1980s"], ["hot dog", "hot dog", "dog", "hot"], ["photocopy", "photo"],
    ["room (2)", "hall"], ["yes", "ye"], ["1/2 full", "full", "full"],
])
def test_what_can_be_classes_is_read(folder, labels):
    images = read("csv", write(folder, fill(folder, labels)))
    assert [images.tasks[0].classes[label] for label in images.labels("emotion")] == labels


@pytest.mark.parametrize(("column", "cells"), [
    ("id", "k1 k2 k1 k2 k1"), ("user_id", "u1 u2 u1 u1 u1"), ("imageId", "1 2 2 2 2"), ("uuid", "x y x y y"),
    ("timestamp", "1 2 1 1 1"), ("when", "2024-01-02 2024-01-03 2024-01-02 2024-01-02 2024-01-02"),
    ("at", "12:30 12:31 12:31 12:31 12:31"), ("day", "1/2/2024 1/3/2024 1/2/2024 1/2/2024 1/2/2024"),
    ("when", "3.May.2021 4.May.2021 3.May.2021 4.May.2021 4.May.2021"),
    ("on", "20210503 20210504 20210503 20210504 20210504"),
    ("taken", "2021 2022 2022 2021 2021"), ("month", "1 2 2 1 1"),
    ("caption", "one two three four five"), ("code", "a1 b2 c3 d4 e5"), ("DATE", "mon tue mon tue mon"),
])
def test_identifiers_and_times_are_no_tasks(folder, column, cells):
    fault(folder, fill(folder, cells.split(), column), f"{column} .*if it is no task, call the column '_{column}'")
    assert len(read("csv", write(folder, fill(folder, cells.split(), f"{column}:a,{column}:b,_x,_y").replace(
        "jpg,", "jpg,1,2,"). replace("\n", ",\n").replace("_y,", "_y")))) == 5


@pytest.mark.parametrize(("mark", "cell", "number"), [
    (",", '"1,204"', None), (",", '"0,5"', None), (";", "1,204", None), ("\t", "12,345,678", None), (";", "0,5", 0.5),
    (";", "1,25", 1.25), (";", "1.204", 1.204), (",", "1.204", 1.204), (",", "1204", 1204), (";", "0,204", 0.204),
    (",", "1_204", None), (",", "1 204", None), (",", "1'204", None), (";", "1.204,5", None), (",", "5 %", None),
])
def test_numbers_are_read_rightly_or_refused(folder, mark, cell, number):
    text = fill(folder, [f"{cell}{mark}1", f"3{mark}1"], f"e:awe{mark}e:fear", mark)
    if number is None:
        fault(folder, text, "line 2: e:awe is")
    else:
        assert read("csv", write(folder, text)).votes["e"][0, 0] == number


def test_scores_on_one_side_of_the_middle_are_refused_unless_the_classes_are_known(folder):
    text = fill(folder, [1, 2, 7, 3, 4], "e>40")
    fault(folder, text, "all scores of e lie on one side of the middle .1 to 7.; write the middle of the scale")
    assert read("csv", folder, classes={"e": ("low", "high")}).labels("e").tolist() == [0] * 5


def test_a_point_among_decimal_commas_is_no_decimal_point(folder):
    fault(folder, fill(folder, ["0,5;1", "1.204;1"], "e:awe;e:fear", ";"), "line 3: e:awe is '1.204'; write numbers")


@pytest.mark.parametrize("start", ["\ufeff\ufeff", "\ufeff", "sep=;\n", "\ufeffsep=;\r\n", '"sep=;"\n', "Sep=;\n"])
def test_marks_before_the_header_are_no_part_of_it(folder, start):
    text = start + fill(folder, ["awe;a,b", "fear;c"], "emotion;_note", ";")
    images = read("csv", write(folder, text))
    assert images.tasks[0].classes == ("awe", "fear") and images.facts["note"].tolist() == ["a,b", "c"]
    lines = text.replace("\r\n", "\n").count("\n") + 1
    fault(folder, text + "no.jpg;awe;\n", f"line {lines}: image 'no.jpg' not found")


def test_other_letters_in_the_header_and_an_image_of_another_case(folder):
    text = "Path,Group,Split,emotion\nphotos/a.jpg,g,train,awe\nphotos/b.jpg,h,test,fear\n"
    images = read("csv", write(folder, text))
    assert [task.name for task in images.tasks] == ["emotion"] and images.groups.tolist() == ["g", "h"]
    fault(folder, text.replace("a.jpg", "A.JPG"), "image 'photos/A.JPG' not found in .*; did you mean 'a.jpg'")
    fault(folder, text.replace("b.jpg", "b.png"), "did you mean 'b.jpg'")
    fault(folder, text.replace("emotion", "emotion,Emotion").replace("awe", "awe,awe").replace("fear", "fear,fear"),
          "'Emotion' differs from 'emotion' in case only")


def test_paths_are_found_however_their_accents_are_composed(folder):
    (folder / "photos" / "e\u0301te\u0301.jpg").write_bytes(b"")  # as a Mac packs it
    (folder / "photos" / "né.jpg").write_bytes(b"")
    images = read("csv", write(folder, "path,emotion\nphotos/été.jpg,awe\nphotos/ne\u0301.jpg,fear\n"))
    assert all(path.is_file() for path in images.paths)
    fault(folder, "path,emotion\nphotos/été.jpg,awe\nphotos/e\u0301te\u0301.jpg,fear\n", "line 3: .* stands on line 2")


@pytest.mark.parametrize("column", ["emotion", "_note"])
@pytest.mark.parametrize("closed", [True, False])
def test_an_unclosed_quotation_mark_is_found(folder, column, closed):
    """Closed by another one many rows below, or by none: the rows between would be one cell."""
    labels = ["awe", "fear"] * 24
    text = fill(folder, [f"{label},{label}" for label in labels], "emotion,_note").splitlines()
    place = 1 if column == "emotion" else 2
    for line in (10, 40) if closed else (10,):
        cells = text[line].split(",")
        cells[place] = ('"' + cells[place]) if line == 10 else cells[place] + '"'
        text[line] = ",".join(cells)
    fault(folder, "\n".join(text) + "\n", r"line (11|41).*quotation mark")


@pytest.mark.parametrize(("tasks", "message"), [
    ("emotion,emotion_strength", "'emotion_strength' begins like the columns of task 'emotion'"),
    ("photo,e", "task 'photo' needs a column 'photo', which is a column of each table of predictions too; rename"),
    ("image,e", "'image'"), ("part,e", "'part'"), ("pixels,e", "'pixels'"), ("method,e", "'method'"),
    ("emotion,true_emotion", "task 'true_emotion' needs a column 'true_emotion', which is a column of task 'emotion'"),
])
def test_names_of_tasks_that_collide_are_refused(folder, tasks, message):
    text = f"path,{tasks}\nphotos/a.jpg,low,weak\nphotos/b.jpg,high,strong\n"
    with pytest.raises(ValueError, match=message) as error:
        read("csv", write(folder, text))
    assert "\n" not in str(error.value)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_table_reads_the_same_and_loses_no_row_to_one_wrong_sign(folder, data):
    """Written in any way it reads as it was meant; with one sign struck out, doubled or put in, right or refused."""
    names = data.draw(st.lists(st.sampled_from(["awe", "fear", "très triste", "joy & fun"]), min_size=4, max_size=9))
    mark, end = data.draw(st.sampled_from(",;\t")), data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    quoting = data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=mark, lineterminator=end, quoting=quoting)
    fill(folder, names)
    writer.writerow(["path", "emotion", "_note"])
    for i, name in enumerate(names):
        note = data.draw(st.sampled_from(["", "a, b; c", 'he said "no"', f"two{end}lines"]))
        writer.writerow([f"{i}.jpg", name, note])
    text = "\ufeff" * data.draw(st.integers(0, 2)) + out.getvalue()
    if len(set(names)) < 2:
        return
    plain = {f"{i}.jpg": name for i, name in enumerate(names)}
    assert outcome(write(folder, text)) == plain
    place, sign = data.draw(st.integers(0, len(text))), data.draw(st.sampled_from(['"', '""', "", "\n", mark]))
    try:
        actual = outcome(write(folder, text[:place] + sign + text[place + (sign == ""):]))
    except ValueError as wrong:
        assert "\n" not in str(wrong)
    else:
        assert set(actual) == set(plain)  # a letter may be lost, never a row


def outcome(folder) -> dict[str, str]:
    images = read("csv", folder)
    (task,) = images.tasks
    return {path.name: task.classes[label] if label >= 0 else ""
            for path, label in zip(images.paths, images.labels(task.name), strict=True)}


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
    for place in (folder, Path(__file__).parent):  # wherever one stands
        monkeypatch.chdir(place)
        assert data_root("oasis") == Path(__file__).parents[2] / "data" / "oasis"
