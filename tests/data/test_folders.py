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
    (["train/awe/a.jpg", "test/awe/a.jpg"], "test: no images directly in this class folder"),
])
def test_each_fault_is_one_line(tmp_path, names, message):
    with pytest.raises(ValueError, match=message) as error:
        read("folders", fill(tmp_path, *names))
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_no_such_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        read("folders", tmp_path / "nowhere")
