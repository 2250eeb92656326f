"""The reader of class folders."""

import pytest

from aesthemo_lib.data.readers import read
from aesthemo_lib.tasks import MIKELS_EMOTIONS, Task


def fill(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_each_image_has_the_vote_of_its_folder(tmp_path):
    root = fill(tmp_path / "Grüße", "fear/b.JPG", "fear/a é.png", "awe/a.webp", "awe/a.jpeg", "joy/1.tif",
                "awe/notes.txt", "awe/.hidden.jpg", ".git/a.jpg", "__MACOSX/a.jpg", "README.md", "awe/more/z.jpg")
    images = read("folders", root)
    assert [path.relative_to(root).as_posix() for path in images.paths] == [
        "awe/a.jpeg", "awe/a.webp", "fear/a é.png", "fear/b.JPG", "joy/1.tif"]
    assert images.tasks == (Task("emotion", ("awe", "fear", "joy"), 1.0),)
    assert images.labels("emotion").tolist() == [0, 0, 1, 1, 2]
    assert (images.votes["emotion"].sum(axis=1) == 1).all()
    assert len(set(images.groups)) == 5


def test_images_of_one_name_in_two_folders_are_two_groups(tmp_path):
    assert len(set(read("folders", fill(tmp_path, "a/1.jpg", "b/1.jpg")).groups)) == 2


def test_known_classes_keep_the_order_of_the_patent(tmp_path):
    images = read("folders", fill(tmp_path, *(f"{name}/1.jpg" for name in MIKELS_EMOTIONS)))
    assert images.tasks[0].classes == MIKELS_EMOTIONS
    assert [MIKELS_EMOTIONS[label] for label in images.labels("emotion")] == [p.parent.name for p in images.paths]
    images = read("folders", fill(tmp_path / "two", "low/1.jpg", "high/1.jpg"), task="aesthetics")
    assert images.tasks == (Task("aesthetics", ("low", "high")),)


def test_a_given_task(tmp_path):
    task = Task("mood", ("fear", "awe", "joy"), 0.5)
    images = read("folders", fill(tmp_path, "awe/1.jpg", "fear/1.jpg"), task=task)
    assert images.tasks == (task,) and images.labels("mood").tolist() == [1, 0]
    with pytest.raises(ValueError, match="extra: is no class of the task 'mood'; expected fear, awe, joy"):
        read("folders", fill(tmp_path, "extra/1.jpg"), task=task)


@pytest.mark.parametrize(("names", "message"), [
    (["a.jpg"], "no folders in it; expected two or more class folders"),
    (["awe/a.jpg", ".x/a.jpg"], "only the folder 'awe' in it"),
    (["awe/a.jpg", "fear/notes.txt"], "fear: no images directly in this class folder"),
    (["train/a.jpg", "test/b.jpg"], "test/ is a part of a split by its name, but holds no class folders"),
    (["Training/a.jpg", "VAL/b.jpg", "test/c.jpg"], "Training/ is a part of a split by its name"),
    (["train/awe/a.jpg", "train/fear/a.jpg", "test/awe/a.jpg"], "validation/ is missing; add it"),
    (["train/awe/a.jpg"], "validation/ is missing"),
    (["train/awe/a.jpg", "val/awe/a.jpg", "test/awe/a.jpg"], "only the class 'awe' in it"),
    (["Awe/a.jpg", "awe/b.jpg", "fear/c.jpg"], "'Awe' and 'awe'; use one of the two spellings"),
    (["awe./a.jpg", "awe/b.jpg", "fear/c.jpg"], "'awe' and 'awe.'; use one of the two spellings"),
    (["2021-05-03/a.jpg", "2021-05-04/b.jpg"], "named by dates; expected a folder for each class"),
    (["2021/a.jpg", "2022/b.jpg", "2023/b.jpg"], "named by dates"),
    (["very sad/a.jpg", "very_sad/b.jpg"], "'very sad' and 'very_sad'; use one"),
    (["lwo/a.jpg", *(f"low/{i}.jpg" for i in range(9))], "'lwo' 1 time and 'low' 9 times: is the first a typing error"),
    (["awe/a.jpg", "fear/b.jpg", "Unknown/c.jpg"], "the folder 'Unknown' says that nobody judged"),
    (["awe/a.jpg", "fear/b.jpg", "n.a/c.jpg", "NA/d.jpg"], "the folder 'NA' says that nobody judged its images"),
    (["awe/a.jpg", "fear/b.jpg", "awe & fear/c.jpg"], "'awe & fear' says that its images are of several classes"),
    (["cat/a.jpg", "cats/b.jpg", "dog/c.jpg"], "'cat' and 'cats'; use one of the two spellings"),
    (["awe/a.jpg", "awe (2)/b.jpg", "fear/c.jpg"], "'awe' and 'awe \\(2\\)'; use one"),
    (["lo\u200bw/a.jpg", "low/a.jpg"], "only the class 'low' in it"),
])
def test_each_fault_is_one_line(tmp_path, names, message):
    with pytest.raises(ValueError, match=message) as error:
        read("folders", fill(tmp_path, *names))
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_a_split_in_folders_is_a_split(tmp_path):
    root = fill(tmp_path, "train/awe/000.png", "train/fear/000.png", "train/awe/001.png", "Val/fear/000.png",
                "test/awe/000.png", "test/@eaDir/x.jpg")
    images = read("folders", root)
    assert images.tasks[0].classes == ("awe", "fear")
    parts = images.split(3)._asdict()
    assert {part: [images.paths[row].relative_to(root).as_posix() for row in rows] for part, rows in parts.items()} == {
        "train": ["train/awe/000.png", "train/awe/001.png", "train/fear/000.png"], "validation": ["Val/fear/000.png"],
        "test": ["test/awe/000.png"]}
    assert read("folders", fill(tmp_path / "other", "test/1.jpg", "exam/1.jpg")).tasks[0].classes == ("exam", "test")


SYSTEM = ["@eaDir", ".AppleDouble", "__MACOSX", "$RECYCLE.BIN", "#recycle", "lost+found", ".Trash-1000", "_rejected",
          "System Volume Information", ".ipynb_checkpoints", "RECYCLER", "@Recycle", "found.000", "Thumbnails",
          "thumbs"]


def test_folders_of_the_system_are_no_classes_and_named_in_one_line(tmp_path, caplog):
    root = fill(tmp_path, "awe/a.jpg", "fear/b.jpg", "awe/@eaDir/a.jpg", "awe/._a.jpg", *(f"{n}/x.jpg" for n in SYSTEM))
    assert read("folders", root).tasks[0].classes == ("awe", "fear")
    (said,) = caplog.messages
    assert f"{len(SYSTEM) + 1} entries are not read" in said


@pytest.mark.parametrize("spelt", ["awe ", "a\u200bwe", "awe\u00a0", "\ufeffawe"])
def test_what_nobody_sees_makes_no_class(tmp_path, spelt):
    images = read("folders", fill(tmp_path, f"{spelt}/a.jpg", "awe/b.jpg", "fear/c.jpg"))
    assert images.tasks[0].classes == ("awe", "fear") and sorted(images.labels("emotion")) == [0, 0, 1]


def test_accents_composed_in_two_ways_are_one_class(tmp_path):
    images = read("folders", fill(tmp_path, "fâché/a.jpg", "fâche\u0301/b.jpg", "joie/c.jpg"))
    assert images.tasks[0].classes == ("fâché", "joie") and sorted(images.labels("emotion")) == [0, 0, 1]


@pytest.mark.parametrize("suffix", "jfif JFIF avif AVIF heic HEIC heif JPG Jpeg jpe TIFF".split())
def test_suffixes_of_images_in_any_case(tmp_path, suffix):
    assert len(read("folders", fill(tmp_path, f"awe/a.{suffix}", "fear/b.jpg"))) == 2


def test_no_such_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        read("folders", tmp_path / "nowhere")
