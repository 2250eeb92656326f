"""One image file to upright sRGB pixels, or to a ``BadImage`` that says why not.

docs/promises.md lists what happens to each format, bit depth and mark.
"""

import functools
import io
import os
import zlib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageCms

MOST_PIXELS = 89_478_485
"""A larger picture is treated as a decompression bomb; Pillow only warns of it (1/4 GiB of RGB)."""
RUN_PROGRAMS = {"EPS", "WMF"}
"""Formats that Pillow hands to another program, which a stranger's file must not reach."""
RAW_SUFFIXES = frozenset({".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw"})
"""Camera raw files; many are TIFFs to Pillow, which would read the thumbnail in them."""
CAMERA_RAW = "a camera's raw file; export it as JPEG"
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
FOURTEEN_BITS = 16_383
"""Numbers of 16 bits that are no larger may as well be 10, 12 or 14 bits of a brighter picture."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""
ORIENTATION, DNG_VERSION = 0x0112, 50706
PAGE_KIND, BITS, WHITE_IS_ZERO, PLANES = 254, 258, 262, 284
TIFF_PIXEL_TAGS = {*range(254, 260), 262, 266, 273, 274, *range(277, 280), 284, 317, *range(320, 326), 330, 338, 339,
                   347, *range(529, 533), 34675}
"""The TIFF tags that a picture's pixels depend on (34675 is the ICC profile)."""


class BadImage(ValueError):
    """A file that can't be used as an image; ``reason`` says why, without the file's name."""

    def __init__(self, path: Path, reason: str):
        self.reason = reason
        super().__init__(f"{path.name!r}: {reason}")


def decode(path: Path | str, side: int) -> np.ndarray:
    """One image file as upright sRGB, stretched to a square [0056].

    Args:
        path: any format that Pillow reads by itself; HEIC where pillow-heif is installed.
        side: pixels.

    Returns:
        (side, side, 3) uint8.

    Raises:
        BadImage: not an image, damaged, ambiguous or too large; names file and reason.
    """
    return np.asarray(picture(path, side).resize((side, side), Image.Resampling.BILINEAR))


def picture(path: Path | str, side: int) -> Image.Image:
    """The upright sRGB picture that ``decode`` resizes: show this to show what a network saw.

    A JPEG is decoded at the smallest of its scales that is at least twice as large as ``side``.
    """
    path = Path(path)
    try:
        _check_file(path)
        try:
            return _read(path, side)
        except Exception as first:
            bare = without_metadata(path.read_bytes())
            if bare is None or isinstance(first, _Refused):
                raise
            try:
                return _read(io.BytesIO(bare), side)
            except Exception:
                raise first from None
    except Exception as fault:  # Pillow and its decoders raise nearly everything
        raise BadImage(path, _reason(path, fault)) from None


class _Refused(ValueError):
    """A reason of ours, which is given as it is."""


def _check_file(path: Path) -> None:
    if os.path.exists(path) and not os.path.isfile(path):
        raise _Refused("not a file")  # opening a pipe would wait for ever
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise _Refused("its name is not valid UTF-8, so that no table could name it; rename it") from None
    if path.suffix.lower() in RAW_SUFFIXES:
        raise _Refused(CAMERA_RAW)


def _reason(path: Path, fault: Exception) -> str:
    if isinstance(fault, _Refused):
        return str(fault)
    if isinstance(fault, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"more than {MOST_PIXELS:,} pixels; shrink it first"
    if isinstance(fault, FileNotFoundError):
        return "the file does not exist"
    if isinstance(fault, PermissionError):
        return "reading it is not permitted"
    if isinstance(fault, Image.UnidentifiedImageError):
        return "not an image that can be read" if os.path.getsize(path) else "an empty file"
    if isinstance(fault, MemoryError):
        return "decoding it takes more memory than there is"
    return f"damaged or unsupported ({' '.join(str(fault).split()) or type(fault).__name__})"


def _read(file: Path | io.BytesIO, side: int) -> Image.Image:
    with Image.open(file, formats=_formats(file)) as image:
        if image.width * image.height > MOST_PIXELS:
            raise Image.DecompressionBombError
        image.draft("RGB", (2 * side, 2 * side))  # lets the JPEG decoder skip what the resize would drop
        if DNG_VERSION in getattr(image, "tag_v2", ()):
            raise _Refused(CAMERA_RAW)
        if image.format == "TIFF":
            _check_tiff(image)
        coded = str(image.tile[0][3]) if image.tile else ""  # how the file holds its numbers, such as 'RGB;16B'
        image.load()
        _check_end(file, image.format)
        profile = image.info.get("icc_profile")
        return _to_srgb(_eight_bits(_upright(image), coded, image.format), profile)


def _check_tiff(image: Any) -> None:
    """Go to the first page that is no thumbnail; refuse what Pillow reads wrongly: deep negatives and planes."""
    if image.tag_v2.get(PAGE_KIND, 0) & 1:
        pages = range(getattr(image, "n_frames", 1))
        image.seek(next((n for n in pages if image.seek(n) or not image.tag_v2.get(PAGE_KIND, 0) & 1), 0))
    tags = image.tag_v2
    if max(tags.get(BITS, (1,))) > 8 and (tags.get(WHITE_IS_ZERO) == 0 or tags.get(PLANES) == 2):
        raise _Refused("more than 8 bits in separate planes, or with zero for white, which are read wrongly; save it "
                       "with 8 bits, or with 16 bits, black at 0 and the colours of a pixel together")


def _check_end(file: Path | io.BytesIO, kind: str | None) -> None:
    """A copy that broke off may have the right length and end in zeros, from which these decoders make grey areas."""
    if kind not in ("JPEG", "MPO", "WEBP", "AVIF", "HEIF", "JPEG2000"):
        return
    data = file.getvalue() if isinstance(file, io.BytesIO) else file.read_bytes()
    if kind in ("JPEG", "MPO"):
        whole = data.find(b"\xff\xd9", max(end for _, end in _jpeg_segments(data))) >= 0
    else:
        whole = any(data[-256:])
    if not whole:
        raise _Refused("damaged: the end of the picture is missing")


def _formats(file: Path | io.BytesIO) -> list[str]:
    """What Pillow may take the file for."""
    begin = _begin(file)
    if begin[4:8] == b"ftyp" and begin[8:12] in HEIF_BRANDS and b"avif" not in begin:
        if not find_spec("pillow_heif"):
            raise _Refused("HEIC; to have it read, install pillow-heif (pip install pillow-heif), or export it as JPEG")
        import_module("pillow_heif").register_heif_opener()
    Image.init()
    return sorted(set(Image.OPEN) - RUN_PROGRAMS)


def _begin(file: Path | io.BytesIO) -> bytes:
    if isinstance(file, io.BytesIO):
        return file.getvalue()[:32]
    with file.open("rb") as stream:
        return stream.read(32)


def _upright(image: Image.Image) -> Image.Image:
    """EXIF's orientation undone; one that can't be read is none. (Pillow's own way writes the other tags anew.)"""
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:
        turn = None
    return image if turn is None else image.transpose(turn)


def _eight_bits(image: Image.Image, coded: str, kind: str | None) -> Image.Image:
    """Deeper numbers scaled to 0..255, where the file leaves no doubt which value is white."""
    if ";16" in coded and image.mode in ("L", "LA", "RGB", "RGBA"):  # Pillow has kept the upper 8 bits
        brightest = max(top for _, top in image.getextrema()[:3]) if len(image.getbands()) > 2 else image.getextrema()
        _check_sixteen(np.max(brightest), FOURTEEN_BITS >> 8)
        return image
    if image.mode == "F":
        return _from_floats(np.asarray(image))
    if not image.mode.startswith("I"):
        return image
    if image.mode == "I" and kind != "PPM":  # PPM's are 16 bits, scaled by the maximum that its header names
        raise _Refused("whole numbers of 32 bits or with a sign, of which none is known to be white; save it with 8 "
                       "or 16 bits")
    values, top = np.asarray(image).astype(np.float64), 4095 if ";12" in coded else 65535
    if ";16" in coded and values.max() > 0:
        _check_sixteen(values.max(), FOURTEEN_BITS)
    grey = Image.fromarray((values.clip(0, top) * (255 / top)).round().astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def _check_sixteen(brightest: float, bound: int) -> None:
    if brightest <= bound:
        raise _Refused("its numbers of 16 bits use 14 bits or fewer: a 10-, 12- or 14-bit picture, or a very dark one; "
                       "save it with 8 bits, or with its white at 65535")


def _from_floats(values: np.ndarray) -> Image.Image:
    if not np.isfinite(values).all():
        raise _Refused("it holds NaN or infinite values")
    if values.min() < 0 or values.max() > 1:
        raise _Refused(f"decimal numbers from {values.min():.4g} to {values.max():.4g}; expected 0 (black) to 1 "
                       f"(white): scale it, or save it with 8 or 16 bits")
    return Image.fromarray((values * 255).round().astype(np.uint8))


def _to_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """RGB by the ICC profile, laid over white; without a profile the numbers are taken for sRGB."""
    alpha = None
    if image.mode in ("LA", "La"):
        image, alpha = image.convert("LA").split()
    elif image.mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info:
        *colours, alpha = image.convert("RGBA").split()
        image = Image.merge("RGB", colours)
    elif image.mode not in ("L", "CMYK", "LAB"):
        image = image.convert("RGB")
    mode, transform = ("LAB", _from_lab()) if image.mode == "LAB" else _profile(icc or b"")
    if (image.mode, mode) == ("L", "RGB"):
        image = image.convert("RGB")
    image = (transform.apply(image) if transform and image.mode == mode else image).convert("RGB")
    return image if alpha is None else Image.composite(image, Image.new("RGB", image.size, "white"), alpha)


def _from_lab() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


@functools.lru_cache(16)
def _profile(icc: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """The mode whose numbers a profile explains, and the way from there to sRGB.

    None instead of the way, where the profile is broken or it moves no colour by more than one level: it is sRGB then.
    """
    try:
        known = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[known.profile.xcolor_space.strip()]
        transform = ImageCms.buildTransform(known, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, KeyError, OSError, TypeError, ValueError):
        return "", None
    if mode == "RGB":
        levels = np.arange(0, 256, 17, dtype=np.uint8)
        cube = Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 16, 3))
        off = np.asarray(cube, dtype=int) - np.asarray(transform.apply(cube))
        transform = None if np.abs(off).max() <= 1 else transform
    return mode, transform


def without_metadata(data: bytes) -> bytes | None:
    """A file's bytes without metadata; None for formats where metadata never stop the decoder."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _bare_png(data)
    if data.startswith(b"\xff\xd8"):
        return _bare_jpeg(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _bare_tiff(data)
    if data[4:8] == b"ftyp":  # AVIF and HEIF name the item in their first box; one of an unknown type is passed over
        return data[:4096].replace(b"Exif", b"free") + data[4096:]
    return None


def _bare_png(data: bytes) -> bytes:
    """The chunks that hold pixels, transparency, colour space and orientation, the latter two if they are whole."""
    kept, place = [data[:8]], 8
    while place + 8 <= len(data):
        end = place + 12 + int.from_bytes(data[place:place + 4], "big")
        chunk = data[place:end]
        whole = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        if chunk[4:5].isupper() or chunk[4:8] == b"tRNS" or chunk[4:8] in (b"iCCP", b"eXIf") and whole:
            kept.append(chunk)
        place = end
    return b"".join(kept)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Where each piece before the pixels begins and ends."""
    place, end = 0, 2
    while True:
        yield place, end
        place = end
        if data[place:place + 1] != b"\xff" or data[place + 1:place + 2] == b"\xda":
            return
        filling = data[place + 1:place + 2] == b"\xff"
        end = place + 1 if filling else place + 2 + int.from_bytes(data[place + 2:place + 4], "big")


def _bare_jpeg(data: bytes) -> bytes:
    """Without the segments APP1 to APP15 and comments; Adobe's colour mark (APP14) and ICC profiles stay."""
    kept, end = [], 0
    for start, end in _jpeg_segments(data):
        kind = data[start + 1]
        describes = 0xE1 <= kind <= 0xEF and kind != 0xEE or kind in (0xFE, 0xFF)
        if not describes or data[start + 4:start + 15] == b"ICC_PROFILE":
            kept.append(data[start:end])
    return b"".join([*kept, data[end:]])


def _bare_tiff(data: bytes) -> bytes:
    """With a meaningless number in place of each tag that its pixels don't depend on."""
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    number = lambda place, size: int.from_bytes(data[place:place + size], order)  # noqa: E731
    bare, start = bytearray(data), number(4, 4)
    for place in range(start + 2, min(start + 2 + 12 * number(start, 2), len(data) - 11), 12):
        if number(place, 2) not in TIFF_PIXEL_TAGS:
            bare[place:place + 2] = (0xFFFF).to_bytes(2, order)
    return bytes(bare)
