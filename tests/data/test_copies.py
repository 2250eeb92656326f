"""Copies of one file: grouped, named, and never on both sides of a split."""

import logging

import numpy as np

from aesthemo_lib.data.copies import group_copies
from aesthemo_lib.data.readers import read
from aesthemo_lib.data.table import AnnotatedImages
from aesthemo_lib.tasks import Task

AWE_FEAR = Task("emotion", ("awe", "fear"))


def made(folder, contents, labels=None, **more) -> AnnotatedImages:
    """One file for each content; labels 0 and 1 in turn if they are not given."""
    paths = [folder / f"{number:02}.jpg" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    votes = np.eye(2)[[number % 2 for number in range(len(contents))] if labels is None else labels]
    return AnnotatedImages("mine", (AWE_FEAR,), paths, {"emotion": votes}, **more)


def test_copies_stay_together_in_every_split(tmp_path, caplog):
    contents = [str(number // 3 if number < 9 else number).encode() for number in range(40)]
    images = group_copies(made(tmp_path, contents, labels=[0] * 20 + [1] * 20))
    assert "6 files are copies of others; they stay in one part" in caplog.text and "contradict" not in caplog.text
    for number in range(8):
        for part in images.split(number):
            inside = {contents[row] for row in part}
            assert sum(content in inside for content in contents) == len(part)


def test_contradicting_labels_are_named(tmp_path, caplog):
    group_copies(made(tmp_path, [b"x", b"y", b"x", b"y", b"z"], labels=[0, 1, 1, 1, 0]))
    (said,) = caplog.messages
    assert "2 files are copies of others" in said and "02.jpg = 00.jpg" in said and "03.jpg = 01.jpg" in said
    assert said.endswith("contradict each other: 02.jpg is 'fear' and 00.jpg is 'awe'")


def test_groups_that_share_a_copy_become_one(tmp_path):
    contents, groups = [b"a", b"b", b"b", b"c", b"c", b"d"], ["g", "g", "h", "h", "i", "j"]
    actual = group_copies(made(tmp_path, contents, groups=np.array(groups))).groups
    assert len(set(actual[:5])) == 1 and actual[5] not in actual[:5]


def test_nothing_is_grouped_or_said_without_copies(tmp_path, caplog):
    images = made(tmp_path, [b"", b"", b"aa", b"bb", b"c"])  # empty files are named by the decoder
    with caplog.at_level(logging.DEBUG):
        assert group_copies(images) is images and not caplog.text


def test_copies_in_two_parts_of_a_fixed_split_are_named(tmp_path, caplog):
    parts = np.array(["train", "validation", "test"])
    images = group_copies(made(tmp_path, [b"a", b"b", b"a"], fixed=parts))
    assert "two parts, remove one of each (00.jpg in train and 02.jpg in test)" in caplog.text
    assert images.fixed.tolist() == parts.tolist()


def test_tables_and_class_folders_are_looked_through(tmp_path, caplog):
    for name in ("awe/000.jpg", "fear/000.jpg", "fear/001.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"one" if "000" in name else b"other")
    assert len(set(read("folders", tmp_path).groups)) == 2
    assert "fear/000.jpg is 'fear' and awe/000.jpg is 'awe'" in caplog.text
    (tmp_path / "labels.csv").write_text("path,e\nawe/000.jpg,a\nfear/000.jpg,b\nfear/001.jpg,b\n", encoding="utf-8")
    images = read("csv", tmp_path)
    assert len(set(images.groups)) == 2 and images.names == ("awe/000.jpg", "fear/000.jpg", "fear/001.jpg")
