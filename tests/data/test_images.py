"""Bad files named, and a cache that is resumed, checked and never half-written."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aesthemo_lib.data import images as im
from aesthemo_lib.data.table import AnnotatedImages
from aesthemo_lib.tasks import Task

TASK = Task("aesthetics", ("low", "high"))


def gradient(mode="RGB", size=(40, 30)) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)).convert(mode)


def write(folder: Path, count: int) -> list[Path]:
    paths = []
    for i in range(count):
        paths.append(folder / f"image {i} é.png")
        Image.new("RGB", (20, 20), (i % 256, 2 * i % 256, 9)).save(paths[-1])
    return paths


def table(paths) -> AnnotatedImages:
    return AnnotatedImages("made", (TASK,), tuple(paths), {"aesthetics": np.tile([1.0, 2.0], (len(paths), 1))})


def test_a_photograph_is_resized_as_pillow_does(oasis_root):
    path = sorted((oasis_root / "images").glob("*.jpg"))[0]
    expected = Image.open(path).convert("RGB").resize((256, 256), Image.Resampling.BILINEAR)
    assert np.array_equal(im.decode(path, 256), np.asarray(expected))


def test_transparency_lies_over_white(tmp_path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (im.decode(tmp_path / "clear.png", 8) == 255).all()


def test_the_first_frame_of_an_animation_counts(tmp_path):
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    red.save(tmp_path / "moving.gif", save_all=True, append_images=[blue])
    assert im.decode(tmp_path / "moving.gif", 8)[0, 0].tolist() == [255, 0, 0]


def broken_files(folder: Path) -> dict[str, str]:
    whole = folder / "whole.jpg"
    gradient(size=(300, 200)).save(whole)
    (folder / "truncated.jpg").write_bytes(whole.read_bytes()[:2000])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("not a picture", encoding="utf-8")
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
    whole.unlink()
    return {"truncated.jpg": "damaged", "empty.jpg": "empty file", "text.jpg": "not an image",
            "bomb.png": "pixels; shrink it first", "gone.jpg": "does not exist"}


def test_bad_files_are_named_with_their_reasons_all_at_once(tmp_path):
    reasons = broken_files(tmp_path)
    paths = [*write(tmp_path, 3), *(tmp_path / name for name in reasons)]
    with pytest.raises(im.BadImages) as caught:
        im.load_pixels(table(paths), 16, folder=tmp_path / "cache")
    assert {path.name: True for path in caught.value.reasons} == dict.fromkeys(reasons, True)
    for name, reason in reasons.items():
        assert reason in caught.value.reasons[tmp_path / name]
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_skipping_leaves_out_exactly_the_bad_ones_and_says_so(tmp_path):
    reasons = broken_files(tmp_path)
    paths = [tmp_path / "text.jpg", *write(tmp_path, 3), tmp_path / "empty.jpg"]
    with pytest.warns(UserWarning, match="skipped 2 image") as caught:
        images, pixels = im.load_pixels(table(paths), 16, "skip", folder=tmp_path / "cache")
    assert "text.jpg" in str(caught[0].message) and reasons
    assert [path.name for path in images.paths] == [f"image {i} é.png" for i in range(3)]
    assert pixels[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_pixels_are_decoded_once(tmp_path, monkeypatch):
    paths = write(tmp_path, 5)
    first = im.load_pixels(table(paths), 16, folder=tmp_path / "cache")[1].copy()
    monkeypatch.setattr(im, "decode", lambda *_: pytest.fail("decoded again"))
    again = im.load_pixels(table(paths), 16, folder=tmp_path / "cache")[1]
    assert isinstance(again, np.memmap) and np.array_equal(first, again)


def test_a_changed_file_is_read_again(tmp_path):
    paths = write(tmp_path, 3)
    im.load_pixels(table(paths), 16, folder=tmp_path / "cache")
    Image.new("RGB", (20, 20), "white").save(paths[1])
    os.utime(paths[1], ns=(1, 1))
    assert im.load_pixels(table(paths), 16, folder=tmp_path / "cache")[1][1, 0, 0, 0] == 255


def test_a_build_that_was_cut_off_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(im, "CHUNK", 4)
    paths = write(tmp_path, 10)
    real, decoded = im.decode, []

    def dies_in_the_third_chunk(path, side):
        if paths.index(path) >= 8:
            raise KeyboardInterrupt
        return real(path, side)

    monkeypatch.setattr(im, "decode", dies_in_the_third_chunk)
    with pytest.raises(KeyboardInterrupt):
        im.load_pixels(table(paths), 16, folder=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.npy"))
    monkeypatch.setattr(im, "decode", lambda path, side: decoded.append(path) or real(path, side))
    pixels = im.load_pixels(table(paths), 16, folder=tmp_path / "cache")[1]
    assert sorted(decoded) == sorted(paths[8:])
    assert pixels[:, 0, 0, 0].tolist() == list(range(10))
    assert {path.suffix for path in (tmp_path / "cache" / "pixels").iterdir()} <= {".npy", ".json", ".lock"}


def test_the_mean_image_is_that_of_the_training_rows_alone():
    pixels = np.random.default_rng(0).integers(0, 256, (600, 4, 4, 3), dtype=np.uint8)
    rows = np.arange(0, 600, 2)
    expected = pixels[rows].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(im.mean_image(pixels, rows), expected, rtol=1e-6)
