"""Images as they come from phones, scanners, spreadsheets and the web: read right, or named with the reason."""

import csv
import logging
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aesthemo_lib.data import images as im
from aesthemo_lib.data.readers import read
from aesthemo_lib.data.table import AnnotatedImages
from aesthemo_lib.plots.data import contact_sheet
from aesthemo_lib.plots.style import png
from aesthemo_lib.prediction import Predictor
from aesthemo_lib.tasks import Task
from aesthemo_lib.training import runs
from aesthemo_lib.training.runs import Config, train

TASK = Task("aesthetics", ("low", "high"))
NAMES = ["with space.png", "😀 émotion.png", "x" * 251 + ".png", "comma, $x^{ and $.png"]
NAMES += [] if os.name == "nt" else ["two\nlines.png", 'a "quote".png']  # Windows has no such names


def table(*paths: Path) -> AnnotatedImages:
    return AnnotatedImages("made", (TASK,), paths, {"aesthetics": np.tile([1.0, 2.0], (len(paths), 1))})


def picture(path: Path, colour=(10, 20, 30), size=(12, 12)) -> Path:
    Image.new("RGB", size, colour).save(path, "PNG")
    return path


def why(path: Path) -> str:
    """The reason for which an image is refused."""
    with pytest.raises(im.BadImage) as caught:
        im.decode(path, 8)
    return caught.value.reason


def test_a_wrong_extension_is_read_for_what_it_is(tmp_path):
    assert im.decode(picture(tmp_path / "really a png.jpg"), 4)[0, 0].tolist() == [10, 20, 30]


def test_one_pixel_is_an_image(tmp_path):
    assert (im.decode(picture(tmp_path / "one.png", size=(1, 1)), 8) == [10, 20, 30]).all()


def test_grey_with_alpha_and_sixteen_bit_alpha(tmp_path):
    Image.fromarray(np.full((8, 8, 2), [100, 0], np.uint8), "LA").save(tmp_path / "clear.png")
    Image.fromarray(np.full((8, 8, 2), [100, 255], np.uint8), "LA").save(tmp_path / "solid.png")
    assert (im.decode(tmp_path / "clear.png", 8) == 255).all() and (im.decode(tmp_path / "solid.png", 8) == 100).all()


def test_odd_names_go_through_table_cache_run_and_figure(tmp_path):
    """Spaces, an emoji, a line break, 255 bytes, quotes, and signs that a figure might take for a formula."""
    names = [*NAMES, *(f"{i}.png" for i in range(18))]
    with (tmp_path / "labels.csv").open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["path", "aesthetics"])
        for i, name in enumerate(names):
            picture(tmp_path / name, (9 * i, 5, 5))
            writer.writerow([name, ("low", "high")[i % 2]])
    images = read("csv", tmp_path)
    assert [path.name for path in images.paths] == names
    run = train(Config(data="csv", preset="smoke", settings={"epochs": 1}), tmp_path / "runs", tmp_path)
    predicted = [name for part in ("train", "validation", "test") for name in run.predictions(part)["image"]]
    assert sorted(predicted) == sorted(names)
    odd = [tmp_path / name for name in NAMES]
    judged = Predictor(run).predict(odd)
    assert judged["photo"].tolist() == [str(path) for path in odd]
    assert png(contact_sheet(odd, judged)).startswith(b"\x89PNG")


@pytest.mark.skipif(os.name == "nt", reason="Windows' names are Unicode")
def test_a_name_that_is_no_text_is_named_before_training(tmp_path):
    """b'\\xff.png' is a name to Linux, but no table in UTF-8 could hold it: found at the end, it would cost the run."""
    path = tmp_path / os.fsdecode(b"\xff.png")
    picture(path)
    assert "not valid UTF-8" in why(path)
    with pytest.raises(im.BadImages) as caught:
        im.load_pixels(table(path), 8, folder=tmp_path / "cache")
    str(caught.value).encode()  # and the message itself can be printed


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="links need rights that Windows keeps")
def test_links_are_followed_and_broken_ones_named(tmp_path):
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    picture(outside / "there.png")
    home = tmp_path / "set"
    for name in ("awe", "fear"):
        (home / name).mkdir(parents=True)
    picture(home / "fear" / "own.png")
    (home / "awe" / "link.png").symlink_to(outside / "there.png")
    (home / "awe" / "broken.png").symlink_to(outside / "gone.png")
    (home / "awe" / "loop.png").symlink_to(home / "awe" / "loop.png")
    with pytest.raises(im.BadImages) as caught:
        im.load_pixels(read("folders", home), 8, folder=tmp_path / "cache")
    assert {path.name for path in caught.value.reasons} == {"broken.png", "loop.png"}
    assert im.decode(home / "awe" / "link.png", 4)[0, 0].tolist() == [10, 20, 30]
    (home / "labels.csv").write_text("path,e\nawe/link.png,a\nfear/own.png,b\n", encoding="utf-8")
    assert len(read("csv", home)) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes among its files")
def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    assert why(tmp_path / "pipe.jpg") == why(tmp_path / "folder.jpg") == "not a file"


def test_what_may_not_be_read_is_named():
    if os.name == "nt":
        pytest.skip("Windows has no such permissions")
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to the user that this becomes
    try:
        path = picture(folder / "secret.png")
        path.chmod(0)
        folder.chmod(0o755)
        if os.geteuid() == 0:
            os.seteuid(65534)  # root may read everything
        try:
            assert why(path) == "reading it is not permitted"
        finally:
            if os.getuid() == 0:
                os.seteuid(0)
    finally:
        shutil.rmtree(folder)


def test_what_vanishes_or_changes_between_listing_and_reading(tmp_path, monkeypatch):
    paths = [picture(tmp_path / f"{i}.png") for i in range(3)]
    listed, real = table(*paths), im.decode
    paths[1].unlink()
    with pytest.raises(im.BadImages, match=r"1\.png.*does not exist"):
        im.load_pixels(listed, 8, folder=tmp_path / "cache")
    picture(paths[1])

    def changes(path, side):
        pixels = real(path, side)
        if path == paths[2]:
            picture(paths[0], (99, 99, 99), (50, 50))
        return pixels

    monkeypatch.setattr(im, "decode", changes)
    with pytest.raises(ValueError, match="made: images changed while they were read; start again"):
        im.load_pixels(listed, 8, folder=tmp_path / "cache")
    monkeypatch.undo()
    assert im.load_pixels(listed, 8, folder=tmp_path / "cache")[1][0, 0, 0].tolist() == [99, 99, 99]


def test_numbers_that_are_no_brightness_are_named(tmp_path):
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "good.tif")
    assert im.decode(tmp_path / "good.tif", 8)[7, 7].tolist() == [255] * 3
    for bad in (np.nan, np.inf):
        values[3, 3] = bad
        Image.fromarray(values).save(tmp_path / "bad.tif")
        assert "NaN or infinite" in why(tmp_path / "bad.tif")


def test_bombs_are_refused_whatever_the_thread(tmp_path):
    """Filters of warnings belong to the process: two threads that each set and restore them leave them wrong."""
    from concurrent.futures import ThreadPoolExecutor

    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    picture(tmp_path / "good.png")
    before = list(warnings.filters)
    with warnings.catch_warnings(), ThreadPoolExecutor(8) as pool:
        warnings.simplefilter("ignore")  # a user's own filter must not let a bomb through
        said = list(pool.map(lambda i: why(tmp_path / "bomb.png") if i % 2 else im.decode(tmp_path / "good.png", 4),
                             range(40)))
    assert all("shrink it first" in reason for reason in said[1::2])
    assert list(warnings.filters) == before


def test_training_has_not_begun_when_a_bad_image_is_reported(tmp_path, colours_root, monkeypatch):
    folder = tmp_path / "copy"
    shutil.copytree(colours_root, folder)
    (folder / "17.png").write_bytes((folder / "17.png").read_bytes()[:100])
    config = Config(data="csv", preset="smoke")
    monkeypatch.setattr(runs, "build_network", lambda *_: pytest.fail("the training began"))
    with pytest.raises(im.BadImages, match=r"1 image file\(s\) can't be read:\n.*17\.png': damaged"):
        train(config, tmp_path / "runs", folder)
    monkeypatch.undo()
    with pytest.warns(UserWarning, match=r"csv: skipped 1 image file\(s\) can't be read:\n.*17\.png"):
        run = train(config, tmp_path / "runs", folder, on_bad_image="skip")
    assert sum(len(run.predictions(part)) for part in ("train", "validation", "test")) == 59


def test_files_that_are_passed_over_are_counted_and_named(tmp_path, caplog):
    for name, size in (("awe", (9, 9)), ("fear", (8, 8))):
        (tmp_path / name).mkdir()
        picture(tmp_path / name / "a.png", size=size)
    (tmp_path / "awe" / "phone.mov").write_bytes(b"x")
    (tmp_path / "awe" / "inner").mkdir()
    picture(tmp_path / "awe" / "inner" / "deep.png")
    (tmp_path / "awe" / ".hidden").write_bytes(b"x")
    picture(tmp_path / "stray.png")
    with caplog.at_level(logging.WARNING):
        assert len(read("folders", tmp_path)) == 2
    (said,) = caplog.messages
    assert "3 entries" in said and "awe/inner" in said and "awe/phone.mov" in said and "stray.png" in said
