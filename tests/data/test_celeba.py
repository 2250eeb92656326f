"""CelebA as torchvision and as Kaggle keep it, on small sets in these layouts; torchvision reads the same labels."""

import csv

import numpy as np
import pytest
import torchvision
from PIL import Image

from aesthemo_lib.data import readers

NAMES = ["5_o_Clock_Shadow", "Smiling", "Young"]
ROWS = {"000001.jpg": (-1, 1, 1), "000002.jpg": (1, -1, 1), "000003.jpg": (-1, -1, -1), "000004.jpg": (1, 1, -1),
        "000005.jpg": (-1, -1, 1), "000006.jpg": (1, 1, 1)}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    lines = [f"{name}  {'  '.join(map(str, values))}" for name, values in ROWS.items()]
    (folder / "list_attr_celeba.txt").write_text("\n".join([str(len(ROWS)), " ".join(NAMES), *lines]) + "\n", "utf-8")
    parts = zip(ROWS, (0, 0, 1, 2, 1, 2), strict=True)
    (folder / "list_eval_partition.txt").write_text("".join(f"{n} {p}\n" for n, p in parts), "utf-8")
    people = zip(ROWS, (7, 8, 9, 7, 9, 8), strict=True)
    (folder / "identity_CelebA.txt").write_text("".join(f"{n} {p}\n" for n, p in people), "utf-8")
    for other, width in (("list_bbox_celeba.txt", 4), ("list_landmarks_align_celeba.txt", 10)):
        heads = " ".join(f"v{i}" for i in range(width))
        (folder / other).write_text("\n".join(["6", heads, *(f"{n}{' 1' * width}" for n in ROWS)]) + "\n", "utf-8")
    for name in ROWS:
        Image.new("RGB", (178, 218)).save(folder / "img_align_celeba" / name)
    return tmp_path


def test_attributes_parts_and_people(root):
    images = readers.read("celeba", root)
    assert [task.name for task in images.tasks] == ["a_5_o_Clock_Shadow", "Smiling", "Young"]
    assert images.labels("Smiling").tolist() == [1, 0, 0, 1, 0, 1]
    assert images.groups.tolist() == ["7", "8", "9", "7", "9", "8"]
    assert [part.tolist() for part in images.split()] == [[0, 1], [2, 4], [3, 5]]
    chosen = readers.read("celeba", root / "celeba", tasks=["Young", "5_o_Clock_Shadow"])
    assert [task.name for task in chosen.tasks] == ["Young", "a_5_o_Clock_Shadow"]


def test_windows_line_ends(root):
    whole = readers.read("celeba", root).fingerprint()
    for file in (root / "celeba").glob("list_*.txt"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert readers.read("celeba", root).fingerprint() == whole


def test_kaggle(root, tmp_path_factory):
    """Two CSVs with headers, no identities, and the folder of photographs twice."""
    place = tmp_path_factory.mktemp("kaggle")
    for name, head, rows in (("list_attr_celeba", NAMES, ROWS.values()),
                             ("list_eval_partition", ["partition"], [[part] for part in (0, 0, 1, 2, 1, 2)])):
        with (place / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["image_id", *head], *([n, *row] for n, row in zip(ROWS, rows, strict=True))])
    (place / "img_align_celeba").mkdir()
    (root / "celeba" / "img_align_celeba").rename(place / "img_align_celeba" / "img_align_celeba")
    images = readers.read("celeba", place)
    assert [task.name for task in images.tasks] == ["a_5_o_Clock_Shadow", "Smiling", "Young"]
    assert np.stack([images.labels(task.name) for task in images.tasks], axis=1).tolist() == [
        [int(value > 0) for value in row] for row in ROWS.values()]
    assert [part.tolist() for part in images.split()] == [[0, 1], [2, 4], [3, 5]]
    assert len(set(images.groups)) == 6 and all(path.is_file() for path in images.paths)
    (place / "list_attr_celeba.csv").write_text("image_id,Young\n000001.jpg,2\n", "utf-8")
    with pytest.raises(ValueError, match="list_attr_celeba.csv: row 2 is not a file name and 1 values of 1 or -1"):
        readers.read("celeba", place)


def test_torchvision_reads_the_same(root, monkeypatch):
    monkeypatch.setattr(torchvision.datasets.CelebA, "_check_integrity", lambda self: True)
    ours = readers.read("celeba", root)
    for part, rows in zip(("train", "valid", "test"), ours.split(), strict=True):
        theirs = torchvision.datasets.CelebA(root, split=part, target_type="attr")
        assert [str(path) for path in theirs.filename] == [ours.paths[row].name for row in rows]
        mine = np.stack([ours.labels(task.name)[rows] for task in ours.tasks], axis=1)
        assert (theirs.attr.numpy() == mine).all()


def test_what_is_not_as_published_is_named(root):
    with pytest.raises(ValueError, match="unknown attribute 'Smile'; .* has a_5_o_Clock_Shadow, Smiling, Young"):
        readers.read("celeba", root, tasks=["Smile"])
    (root / "celeba/list_eval_partition.txt").write_text("000001.jpg 0\n", "utf-8")
    with pytest.raises(ValueError, match="no row for 000002.jpg"):
        readers.read("celeba", root)
    attributes = root / "celeba/list_attr_celeba.txt"
    attributes.write_text(attributes.read_text("utf-8").replace("-1  1  1", "0  1  1"), "utf-8")
    with pytest.raises(ValueError, match="row 3 is not a file name and 3 values"):
        readers.read("celeba", root)
    attributes.write_text("1\nYoung\n000001.jpg 1 1 1\n", "utf-8")
    with pytest.raises(ValueError, match="more values than it has names"):
        readers.read("celeba", root)
    (root / "celeba/list_attr_celeba.txt").unlink()
    with pytest.raises(FileNotFoundError, match="list_attr_celeba.txt: not found"):
        readers.read("celeba", root)
