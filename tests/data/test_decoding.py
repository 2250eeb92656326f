"""One file to pixels: depth, colour, transparency and orientation against independent references; damage and marks."""

import os
import random
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, PngImagePlugin

from aesthemo_lib.data import decoding
from aesthemo_lib.data.decoding import BadImage, decode, picture
from bench.photos import draw_photos

SIDE = 16


def gradient(size=(40, 30)) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=-1).astype(np.uint8))


def saved(folder: Path, image: Image.Image, name: str, **options) -> Path:
    image.save(folder / name, **options)
    return folder / name


def why(path: Path) -> str:
    """The reason for which a file is refused; one line, with the file's name before it."""
    with pytest.raises(ValueError) as caught:
        decode(path, SIDE)
    assert "\n" not in str(caught.value) and str(caught.value) == f"{path.name!r}: {caught.value.reason}"
    return caught.value.reason


# --- depth: one picture, however it is saved


GREY = np.add.outer(np.arange(32) * 4.0, np.arange(32) * 3.0) / 220  # 0..0.99
DEPTHS = {
    "12 in 16": (GREY * 4095).round().astype(np.uint16), "10 in 16": (GREY * 1023).round().astype(np.uint16),
    "14 in 16": (GREY * 16383).round().astype(np.uint16), "16": (GREY * 65535).round().astype(np.uint16),
    "int32 as 8": (GREY * 255).round().astype(np.int32), "int32 as 16": (GREY * 65535).round().astype(np.int32),
    "int32": (GREY * (2**31 - 1)).round().astype(np.int32), "uint32": (GREY * (2**32 - 1)).round().astype(np.uint32),
    "int16": (GREY * 32767).round().astype(np.int16), "float": GREY.astype(np.float32), "double": GREY,
    "float as 8": (GREY * 255).astype(np.float32), "float as 16": (GREY * 65535).astype(np.float32),
    "float about 0": (GREY - 0.5).astype(np.float32), "half a float": (GREY / 2).astype(np.float32),
}
READ = {"16", "float", "half a float"}


@pytest.mark.parametrize("depth", ["16", "float"])
@pytest.mark.parametrize("how", [{"photometric": "miniswhite"}, {"photometric": "rgb", "planarconfig": "separate"}])
def test_deep_negatives_and_planes_are_right_or_refused(tmp_path, depth, how):
    values, path, top = DEPTHS[depth], tmp_path / "deep.tif", 65535 if depth == "16" else 1
    negative = how["photometric"] == "miniswhite"
    tifffile.imwrite(path, top - values if negative else np.stack([values] * 3), **how)
    try:
        got = decode(path, 32)
    except BadImage as fault:
        assert "save it with 8 bits" in fault.reason or "not an image" in fault.reason
    else:
        assert np.abs(got - (GREY * 255)[..., None]).max() <= 2


def test_a_thumbnail_before_the_picture_is_not_read(tmp_path):
    large, small = np.asarray(gradient()), np.zeros((8, 8, 3), np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as out:
        out.write(small, photometric="rgb", subfiletype=1)
        out.write(large, photometric="rgb")
    np.testing.assert_array_equal(decode(tmp_path / "a.tif", SIDE), decode(saved(tmp_path, gradient(), "b.png"), SIDE))
    with tifffile.TiffWriter(tmp_path / "alone.tif") as out:
        out.write(large, photometric="rgb", subfiletype=1)
    assert decode(tmp_path / "alone.tif", SIDE).any()


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("colours", [1, 3])
def test_every_depth_gives_the_same_pixels_or_a_reason(tmp_path, depth, colours):
    values, path = DEPTHS[depth], tmp_path / "deep.tif"
    tifffile.imwrite(path, np.stack([values] * 3, -1) if colours == 3 else values,
                     photometric="rgb" if colours == 3 else "minisblack")
    expected = (GREY / 2 if depth == "half a float" else GREY) * 255
    try:
        got = decode(path, 32)
    except BadImage as fault:
        assert depth not in READ or colours == 3, fault
    else:
        assert depth in READ and np.abs(got - expected[..., None]).max() <= 2


@pytest.mark.parametrize("top", [255, 1023, 4095, 16383, 65535])
def test_sixteen_bit_png_of_fewer_bits_is_refused(tmp_path, top):
    """Colour and grey, with and without alpha: Pillow keeps 8 bits of colour, so the file's own depth is asked for."""
    grey = (GREY * top).round().astype(">u2")
    for kind, channels in ((0, 1), (4, 2), (2, 3), (6, 4)):
        data = np.stack([grey] * channels, -1)
        if channels in (2, 4):
            data[..., -1] = 65535
        path = tmp_path / "deep.png"
        path.write_bytes(png(data.astype(">u2").tobytes(), 32, 32, 16, kind))
        if top == 65535:
            assert np.abs(decode(path, 32) - GREY[..., None] * 255).max() <= 2
        else:
            assert "use 14 bits or fewer" in why(path)


def test_twelve_bits_that_say_so_are_read(tmp_path):
    """BitsPerSample is 12: two numbers in three bytes."""
    v = (GREY * 4095).round().astype(int).reshape(-1, 2)
    packed = np.stack([v[:, 0] >> 4, (v[:, 0] & 15) << 4 | v[:, 1] >> 8, v[:, 1] & 255], -1).astype(np.uint8).tobytes()
    tags = [(256, 32), (257, 32), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 32), (279, len(packed))]
    tail = b"".join(struct.pack("<HHLL", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags)
    path = tmp_path / "twelve.tif"
    path.write_bytes(b"II*\0" + struct.pack("<L", 8 + len(packed)) + packed + struct.pack("<H", len(tags)) + tail
                     + bytes(4))
    assert np.abs(decode(path, 32) - GREY[..., None] * 255).max() <= 2


def test_a_transparent_grey_of_sixteen_bits_lies_over_white(tmp_path):
    values = np.full((8, 8), 40_000, ">u2")
    values[:, :4] = 30_000
    clear = chunk(b"tRNS", struct.pack(">H", 30_000))
    (tmp_path / "clear.png").write_bytes(png(values.tobytes(), 8, 8, 16, 0, clear))
    assert decode(tmp_path / "clear.png", 8)[0, [0, 7], 0].tolist() == [255, round(40_000 / 257)]


# --- colour


SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
SPACES = {  # what each primary is in XYZ under D50, and the exponent
    "Display P3": ([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]], 2.2),
    "Adobe RGB": ([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]], 563 / 256),
    "ProPhoto": ([[0.79767, 0.13519, 0.03134], [0.28804, 0.71188, 0.00009], [0, 0, 0.82491]], 1.8),
}


def icc(primaries=None, gamma=2.2, space=b"RGB ") -> bytes:
    """A matrix profile of version 2, or one of grey, written by the specification."""
    curve = b"curv" + bytes(4) + struct.pack(">LH", 1, round(gamma * 256)) + bytes(2)
    xyz = lambda column: b"XYZ " + bytes(4) + struct.pack(">3l", *(round(v * 65536) for v in column))  # noqa: E731
    tags = {b"wtpt": xyz((0.9642, 1, 0.8249))}
    if primaries is None:
        tags[b"kTRC"] = curve
    else:
        tags |= {name: xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), np.transpose(primaries),
                                                           strict=True)}
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">LL", start + len(body), len(data))
        body += data
    size = start + len(body)
    head = struct.pack(">L4sL4s4s4s", size, bytes(4), 0x02400000, b"mntr", space, b"XYZ ") + bytes(12) + b"acsp"
    head = head.ljust(68, b"\0") + struct.pack(">3l", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">L", len(tags)) + table + body


def srgb_of(values: np.ndarray, primaries, gamma: float) -> np.ndarray:
    """What these numbers are in sRGB, from the definitions."""
    linear = (values / 255) ** gamma @ np.array(primaries).T @ np.linalg.inv(SRGB).T
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp", "a.jpg", "clear.png"])
def test_icc_profiles_are_converted_to_srgb(tmp_path, space, name):
    colours = np.random.default_rng(0).integers(30, 226, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(colours.repeat(16, 0).repeat(16, 1))
    if name == "clear.png":
        image.putalpha(255)
    options = {"lossless": True} if name == "a.webp" else {"quality": 100, "subsampling": 0} if name == "a.jpg" else {}
    path = saved(tmp_path, image, name, icc_profile=icc(*SPACES[space]), **options)
    plain = decode(saved(tmp_path, image, "plain.png"), 64).astype(float)
    off = np.abs(decode(path, 64) - srgb_of(plain, *SPACES[space]))[8::16, 8::16]
    assert np.median(off) <= 1.5 and off.max() <= (9 if name == "a.jpg" else 3)
    assert np.abs(plain - srgb_of(plain, *SPACES[space])).mean() > 4  # it makes a difference


def test_grey_profiles_and_profiles_of_another_mode(tmp_path):
    grey = gradient().convert("L")
    lifted = decode(saved(tmp_path, grey, "grey.png", icc_profile=icc(gamma=1.0, space=b"GRAY")), SIDE)
    linear = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) / 255
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(lifted[..., 0] - expected)[:, 2:].mean() < 4
    wide = decode(saved(tmp_path, grey, "wide.png", icc_profile=icc(*SPACES["ProPhoto"])), SIDE)
    assert wide[8, 8, 0] > decode(saved(tmp_path, grey, "plain.png"), SIDE)[8, 8, 0] + 5  # 1.8 is lighter than sRGB
    for broken in (b"no profile", icc(gamma=1.8, space=b"GRAY"), icc(*SPACES["ProPhoto"])[:200]):
        path = saved(tmp_path, gradient(), "broken.png", icc_profile=broken)
        assert np.array_equal(decode(path, SIDE), decode(saved(tmp_path, gradient(), "plain.png"), SIDE))


def test_srgb_profiles_change_no_pixel(tmp_path):
    standard = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = saved(tmp_path, gradient(), "marked.png", icc_profile=standard)
    assert np.array_equal(decode(path, SIDE), decode(saved(tmp_path, gradient(), "plain.png"), SIDE))


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "LA", "1", "RGB", "LAB", "YCbCr"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    image = gradient()
    if mode == "LAB":
        standard, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, standard, lab, outputMode="LAB")
    path = saved(tmp_path, image.convert(mode), "odd.tif" if mode in ("CMYK", "LAB", "YCbCr") else "odd.png")
    expected = gradient() if mode in ("LAB", "YCbCr") else gradient().convert(mode).convert("RGB")
    got = decode(path, SIDE)
    assert got.shape == (SIDE, SIDE, 3) and got.dtype == np.uint8
    off = np.abs(got - np.asarray(expected.resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=int))
    assert off.mean() <= 1.5 and off.max() <= (25 if mode == "LAB" else 3)


def test_what_is_shown_is_what_was_seen(tmp_path):
    path = saved(tmp_path, gradient(), "p3.png", icc_profile=icc(*SPACES["Display P3"]), exif=turned(6))
    shown = picture(path, SIDE)
    assert shown.size == (30, 40) and shown.mode == "RGB"
    assert np.array_equal(np.asarray(shown.resize((SIDE, SIDE), Image.Resampling.BILINEAR)), decode(path, SIDE))


# --- orientation and other marks


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp", "a.avif"])
def test_orientation_is_undone(tmp_path, name, orientation):
    undo = {1: [], 2: ["FLIP_LEFT_RIGHT"], 3: ["ROTATE_180"], 4: ["FLIP_TOP_BOTTOM"],
            5: ["ROTATE_270", "FLIP_LEFT_RIGHT"], 6: ["ROTATE_270"], 7: ["ROTATE_90", "FLIP_LEFT_RIGHT"],
            8: ["ROTATE_90"]}[orientation]  # as the EXIF standard words it: rotate clockwise, mirror
    expected = gradient()
    for step in undo:
        expected = expected.transpose(Image.Transpose[step])
    path = saved(tmp_path, gradient(), name, exif=turned(orientation), **({} if name == "a.png" else {"quality": 95}))
    got = decode(path, SIDE)
    off = np.abs(got - np.asarray(expected.resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=int))
    assert off.mean() < 4


def chunk(kind: bytes, data: bytes, right: bool = True) -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data) ^ (not right))


def png(rows: bytes, width: int, height: int, bits: int, kind: int, *more: bytes) -> bytes:
    stride = len(rows) // height
    lines = b"".join(b"\0" + rows[i:i + stride] for i in range(0, len(rows), stride))
    head = struct.pack(">LLBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(more) + chunk(b"IDAT", zlib.compress(lines)) + chunk(
        b"IEND", b"")


def tiff_block(entries: list[tuple[int, int, bytes]]) -> bytes:
    """EXIF with tags of any type: (tag, type, four bytes)."""
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHL", tag, kind, 1) + value for tag, kind, value in entries) + bytes(4)


WRONG_EXIF = {
    "orientation as text": tiff_block([(0x0112, 2, b"6\0\0\0")]),
    "a resolution as text": tiff_block([(282, 2, b"72\0\0")]),
    "a type that is none": tiff_block([(0x0112, 99, bytes(4))]), "no TIFF at all": b"nonsense",
    "an offset beyond the end": tiff_block([(0x8769, 4, b"\xff\xff\xff\x7f")]),
    "cut off": tiff_block([])[:9], "empty": b"",
    "a maker that is a number": tiff_block([(271, 5, b"\x01\0\0\0"), (0x0112, 3, b"\x01\0\0\0")]),
}


@pytest.mark.parametrize("wrong", WRONG_EXIF)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.avif"])
def test_broken_exif_is_ignored(tmp_path, name, wrong):
    plain = decode(saved(tmp_path, gradient(), f"plain{name}"), SIDE)
    data, whole = WRONG_EXIF[wrong], tiff_block([(282, 3, bytes(4))] * 3)
    marked = saved(tmp_path, gradient(), name, exif=b"Exif\0\0" + whole if name == "a.jpg" else whole).read_bytes()
    path = tmp_path / name
    if name == "a.png":  # its checksum must be right
        saved(tmp_path, gradient(), name, exif=data)
    else:
        assert whole in marked
        path.write_bytes(marked.replace(whole, data.ljust(len(whole), b"\0")))
    assert np.array_equal(decode(path, SIDE), plain)


@pytest.mark.parametrize(("tag", "kind"), [(282, 2), (296, 2), (305, 5), (34665, 4), (34853, 4), (700, 3), (33723, 9)])
def test_broken_tiff_tags_are_ignored(tmp_path, tag, kind):
    plain = saved(tmp_path, gradient(), "plain.tif")
    expected, data = decode(plain, SIDE), bytearray(plain.read_bytes())
    (start,) = struct.unpack("<L", data[4:8])
    (count,) = struct.unpack("<H", data[start:start + 2])
    entries = data[start + 2:start + 2 + 12 * count] + struct.pack("<HHL4s", tag, kind, 1, b"\xff\xff\xff\x7f")
    path = tmp_path / "tagged.tif"
    path.write_bytes(bytes(data[:4]) + struct.pack("<L", len(data)) + data[8:] + struct.pack("<H", count + 1) + entries
                     + bytes(4))
    assert np.array_equal(decode(path, SIDE), expected)


def test_marks_of_a_png_that_are_broken_or_huge_are_ignored(tmp_path):
    pixels = np.asarray(gradient())
    plain = png(pixels.tobytes(), 40, 30, 8, 2)
    (tmp_path / "plain.png").write_bytes(plain)
    expected = decode(tmp_path / "plain.png", SIDE)
    xmp = b"XML:com.adobe.xmp\0\0\0\0\0" + b" " * 1_200_000
    packed = b"note\0\0" + zlib.compress(b" " * 3_000_000)
    for number, extra in enumerate((
        chunk(b"iTXt", xmp), chunk(b"zTXt", packed), chunk(b"tEXt", b"a\0b", right=False),
        chunk(b"tIME", b"x", right=False), chunk(b"pHYs", b""), chunk(b"eXIf", b"II*", right=False),
        chunk(b"gAMA", b"", right=False), chunk(b"iCCP", b"name\0\0damaged"),
    )):
        path = tmp_path / f"{number}.png"
        path.write_bytes(png(pixels.tobytes(), 40, 30, 8, 2, extra))
        assert np.array_equal(decode(path, SIDE), expected), number
        path.write_bytes(plain[:-12] + extra + plain[-12:])  # the same after the pixels
        assert np.array_equal(decode(path, SIDE), expected), number
    (tmp_path / "pixels.png").write_bytes(plain.replace(b"IDAT", b"IDAT", 1)[:-20] + b"\0" * 20)
    assert why(tmp_path / "pixels.png")
    damaged = bytearray(plain)
    damaged[20] ^= 1  # the height: a critical chunk with a wrong checksum
    (tmp_path / "head.png").write_bytes(damaged)
    assert why(tmp_path / "head.png")


def test_orientation_stays_when_a_text_is_too_long(tmp_path):
    note = PngImagePlugin.PngInfo()
    note.add_text("note", " " * 3_000_000, zip=True)
    path = saved(tmp_path, gradient(), "long.png", pnginfo=note, exif=turned(6))
    assert picture(path, SIDE).size == (30, 40)


def test_segments_of_a_jpeg_that_are_broken_are_ignored(tmp_path):
    plain = saved(tmp_path, gradient(), "plain.jpg")
    data, expected = plain.read_bytes(), decode(plain, SIDE)
    for marker, body in ((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<" * 60_000), (0xE2, b"MPF\0II*\0nonsense"),
                         (0xED, b"Photoshop 3.0\0008BIM\xff\xff"), (0xE2, b"ICC_PROFILE\0\x09\x01x"),
                         (0xFE, b"\xff" * 9)):
        segment = b"\xff\xff" + struct.pack(">BBH", 255, marker, len(body) + 2) + body  # filling is allowed before
        (tmp_path / "marked.jpg").write_bytes(data[:2] + segment + data[2:])
        assert np.array_equal(decode(tmp_path / "marked.jpg", SIDE), expected), marker


# --- refusals


ALL = dict.fromkeys(["png", "webp", "bmp", "gif", "tif", "avif", "jp2", "ppm", "tga", "dds", "ico", "pcx", "sgi", "qoi",
                     "mpo"], {}) | {"jpg": {"quality": 90}, "progressive.jpg": {"progressive": True},
                                    "lzw.tif": {"compression": "tiff_lzw"}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    folder, noise = tmp_path_factory.mktemp("whole"), np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    return {name: saved(folder, Image.fromarray(noise), f"a.{name}", **options).read_bytes()
            for name, options in ALL.items()}


@pytest.mark.parametrize("name", ALL)
def test_a_file_that_is_cut_off_is_refused(tmp_path, whole, name):
    path = tmp_path / f"cut.{name}"
    for share in (0, 0.1, 0.5, 0.9):
        path.write_bytes(whole[name][:int(share * len(whole[name]))])
        assert why(path) == "an empty file" if not share else why(path)
    if name not in ("bmp", "tif", "ppm", "tga", "dds", "ico", "pcx", "sgi", "qoi"):  # in these, zeros are black
        half = len(whole[name]) // 2
        path.write_bytes(whole[name][:half] + bytes(half))  # a disk that was full when the rest was copied
        assert why(path)


def mutated(data: bytes, dice: random.Random) -> bytes:
    """Bytes overwritten, left out or put in, most of them in the head; or the end cut off."""
    out = bytearray(data)
    if dice.random() < 0.15:
        return bytes(out[:dice.randrange(len(out))])
    for _ in range(dice.randint(1, 6)):
        place = dice.randrange(min(len(out), 600) if dice.random() < 0.7 else len(out))
        kind = dice.random()
        if kind < 0.5:
            out[place] = dice.choice((0, 1, 127, 128, 255, dice.randrange(256)))
        elif kind < 0.7:
            out[place:place + 4] = dice.randbytes(4)
        elif kind < 0.85:
            del out[place:place + dice.randint(1, 20)]
        else:
            out[place:place] = dice.randbytes(dice.randint(1, 9))
    return bytes(out)


@pytest.mark.parametrize("name", ALL)
def test_whatever_is_wrong_with_a_file_only_a_reason_leaves(tmp_path, whole, name):
    """Sixty damaged files of each format; AESTHEMO_FUZZ=5000 tries that many."""
    dice, path = random.Random(name), tmp_path / f"damaged.{name}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks about odd files
        for _ in range(int(os.environ.get("AESTHEMO_FUZZ", 60))):
            path.write_bytes(mutated(whole[name], dice))
            try:
                assert decode(path, 8).shape == (8, 8, 3)
            except BadImage as fault:
                assert fault.reason and "\n" not in str(fault) and path.name in str(fault)


@pytest.mark.parametrize("fault", [struct.error("x"), TypeError("a\nb"), AttributeError("x"), RuntimeError("x"),
                                   NotImplementedError(), KeyError(1), IndexError(), ZeroDivisionError(),
                                   OverflowError(), AssertionError(), MemoryError(), RecursionError(),
                                   EOFError(), SyntaxError("x")])
def test_whatever_a_decoder_raises_is_a_reason(tmp_path, monkeypatch, fault):
    path = saved(tmp_path, gradient(), "a.png")

    def fails(*_, **__):
        raise fault

    monkeypatch.setattr(decoding.Image, "open", fails)
    assert why(path)
    monkeypatch.setattr(decoding.Image, "open", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        decode(path, SIDE)


def test_programs_and_thumbnails_are_kept_out(tmp_path):
    program = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    (tmp_path / "a.eps").write_text(program, encoding="utf-8")
    assert why(tmp_path / "a.eps") == "not an image that can be read"
    raw = saved(tmp_path, gradient(), "photo.NEF", format="TIFF")
    assert "camera's raw file; export it as JPEG" in why(raw)
    tifffile.imwrite(tmp_path / "renamed.tif", np.asarray(gradient()), extratags=[(50706, "B", 4, (1, 4, 0, 0), True)])
    assert "camera's raw file" in why(tmp_path / "renamed.tif")


def test_heic_says_how_to_get_it_read(tmp_path, monkeypatch):
    path = tmp_path / "phone.HEIC"
    path.write_bytes(struct.pack(">L", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(40))
    monkeypatch.setattr(decoding, "find_spec", lambda name: None)
    assert "pip install pillow-heif" in why(path) and "export it as JPEG" in why(path)


def test_heic_is_read_where_pillow_heif_is_installed(tmp_path):
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    heif.from_pillow(gradient()).save(tmp_path / "phone.heic", quality=95)
    got = decode(tmp_path / "phone.heic", SIDE)
    assert np.abs(got - decode(saved(tmp_path, gradient(), "plain.png"), SIDE).astype(int)).mean() < 4
    assert "damaged" in why(saved_bytes(tmp_path / "cut.heic", (tmp_path / "phone.heic").read_bytes()[:-40]))


def saved_bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_cameras_jpeg_is_decoded_no_larger_than_needed_and_looks_the_same(tmp_path):
    """The plain way, all of it decoded and then resized, is at most two grey levels off on average."""
    file = draw_photos(tmp_path, 1, 1, (1600, 1200))[0]
    assert picture(file, 90).size == (400, 300)
    with Image.open(file) as whole:
        plain = np.asarray(whole.convert("RGB").resize((90, 90), Image.Resampling.BILINEAR), dtype=int)
    off = np.abs(decode(file, 90) - plain)
    assert plain.std() > 30 and off.mean() < 1 and off.max() <= 8
