"""IAE, also published as UAE and IEA (Cui et al. 2019): 22,086 images, each with one of eight emotions and ten scores.

Two layouts, both read as published:

- the package: ``images/0`` .. ``images/22085``, ``{train,val,test}_{aes,emo}_list.txt`` (lines ``IMAGE_ID LABEL``, a
  fixed split) and ``scores.h5`` (N x 11: ten raters' 10, 7, 4 or 1, and their total);
- one file, ``final_aes_emo.h5``: ``image``, ``aes`` (low, high) and ``emo``, one-hot; ``scores.h5`` may be next to it.

The publishers call an image low when its mean score is below 5. So each score v counts v/10 of a vote for high here:
the consensus is then exactly the published label. What single raters say (10 and 7 are high) is kept for measures of
their agreement. Tried on small imitations of both layouts only.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from ...files import atomic_folder, cache_folder, file_lock
from ...tasks import AESTHETICS, EMOTION, PATENT_TASKS
from .. import ratings as rating
from ..table import AnnotatedImages
from .published import emotion_number, needed, present

EMOTIONS = ("amusement", "excitement", "awe", "contentment", "disgust", "anger", "fear", "sad")
"""The order of ``emo`` in final_aes_emo.h5; neither EmoSet's nor the patent's."""
PARTS = {"train": "train", "val": "validation", "test": "test"}
SCORES, CUT = (1, 4, 7, 10), 5.0


def read(root: str | Path, emotions: Sequence[str] = EMOTIONS) -> AnnotatedImages:
    """Read IAE in whichever layout is there; the package, with its fixed split, if both are.

    Args:
        root: the package's folder, or final_aes_emo.h5, or its folder. That file's images are unpacked once into PNGs
            next to it (they are assumed to be RGB; look at some).
        emotions: what the numbers 0..7 stand for. We assume that the package's lists number the emotions as the
            single file does.
    """
    root = Path(root)
    order = [emotion_number(word, "iae, emotions") for word in emotions]
    if sorted(order) != list(range(len(EMOTION.classes))):
        raise ValueError(f"iae, emotions: expected the eight emotions, each once, got {', '.join(emotions)}")
    if (root / "train_aes_list.txt").is_file():
        return _package(root, order)
    file = root if root.suffix == ".h5" else root / "final_aes_emo.h5"
    return _single_file(needed(file, "it, or the package: images/, train_aes_list.txt .. test_emo_list.txt"), order)


@contextmanager
def _h5(path: Path, *keys: str) -> Iterator[list]:
    """Some datasets of an HDF5 file, while it is open."""
    try:
        import h5py
    except ImportError:
        raise ImportError(f"{path} needs the package h5py to be read; install it with: pip install h5py") from None
    try:
        file = h5py.File(path, "r")
    except OSError as fault:
        raise ValueError(f"{path} is not a whole HDF5 file ({fault}); fetch it again") from None
    with file:
        if missing := [key for key in keys if key not in file]:
            raise ValueError(f"{path}: no {missing[0]!r} in it; expected {', '.join(keys)}, found {', '.join(file)}")
        for key in keys:  # a link, or pixels kept elsewhere, would let this file show any other one of the machine
            own = isinstance(file.get(key, getlink=True), h5py.HardLink) and isinstance(file[key], h5py.Dataset)
            if not own or file[key].external or file[key].is_virtual or not file[key].shape:
                raise ValueError(f"{path}: {key!r} is not an array of its own; expected the file as published")
        yield [file[key] for key in keys]


def _package(root: Path, order: list[int]) -> AnnotatedImages:
    folder, parts, labels = needed(root / "images", "the images, 0 .. 22085"), {}, {}
    for task, short in ((AESTHETICS, "aes"), (EMOTION, "emo")):
        labels[task.name] = {}
        for name, part in PARTS.items():
            file = needed(root / f"{name}_{short}_list.txt", "six lists, {train,val,test}_{aes,emo}_list.txt")
            for where, image, word in _lines(file):
                if image in labels[task.name] or parts.setdefault(image, part) != part:
                    raise ValueError(f"{where}: image {image} is listed twice, or in two parts; expected it once")
                labels[task.name][image] = _label(task, word, order, where)
    numbers = np.array(sorted(parts))
    files = {path.stem: path for path in folder.iterdir() if not path.name.startswith(".")}  # with or without suffix
    known = {name: np.array([by.get(n, rating.UNLABELLED) for n in numbers]) for name, by in labels.items()}
    return _annotated(root, numbers, [files.get(str(n), folder / str(n)) for n in numbers], known,
                      np.array([parts[n] for n in numbers]))


def _lines(file: Path):
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
        cells, where = line.split(), f"{file}, line {number}"
        if not cells:
            continue
        if len(cells) != 2 or not Path(cells[0]).stem.isdecimal():
            raise ValueError(f"{where}: {line!r}; expected IMAGE_ID LABEL, such as '17 1'")
        yield where, int(Path(cells[0]).stem), cells[1]


def _label(task, word: str, order: list[int], where: str) -> int:
    if task is EMOTION and not word.isdecimal():
        return emotion_number(word, where)
    if not word.isdecimal() or int(word) >= len(task.classes):
        raise ValueError(f"{where}: {task.name} is {word!r}; expected 0..{len(task.classes) - 1}")
    return order[int(word)] if task is EMOTION else int(word)


def _single_file(file: Path, order: list[int]) -> AnnotatedImages:
    with _h5(file, "image", "aes", "emo") as (image, *hot):
        labels, count = {}, len(image)
        for task, table in zip(PATENT_TASKS, (table[:] for table in hot), strict=True):
            shape = (count, len(task.classes))
            if table.shape != shape or not ((table == 1).sum(axis=1) == 1).all() or table.sum() != count:
                raise ValueError(f"{file}: {task.name} is {table.shape} numbers; expected one-hot rows, {shape}")
            labels[task.name] = table.argmax(axis=1)
        labels[EMOTION.name] = np.array(order)[labels[EMOTION.name]]
        return _annotated(file.parent, np.arange(count), _unpacked(file, image), labels, None)


def _unpacked(file: Path, images) -> list[Path]:
    """The images as PNGs in a folder next to the file, made once; its name holds the size of the file."""
    if images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"{file}: image is {images.shape}; expected (N, height, width, 3)")
    folder = file.with_name(f"{file.stem}-{file.stat().st_size}")
    paths = [folder / f"{n}.png" for n in range(len(images))]
    with file_lock(cache_folder() / f"{folder.name}.lock", f"unpacking {file}"):
        if not folder.is_dir():
            logging.getLogger(__name__).warning("iae: unpacking %d images into %s, once", len(paths), folder)
            with atomic_folder(folder) as whole:
                _unpack(file, images, [whole / path.name for path in paths])
    return paths


def _unpack(file: Path, images, paths: list[Path]) -> None:
    for n, path in enumerate(paths):
        pixels = images[n]
        if (pixels != pixels.clip(0, 255).astype(np.uint8)).any() or pixels.dtype != np.uint8 and pixels.max() <= 1:
            raise ValueError(f"{file}: image {n} holds {pixels.dtype} of {pixels.min()} .. {pixels.max()}; "
                             f"expected whole numbers of 0..255")
        Image.fromarray(pixels.astype(np.uint8)).save(path, compress_level=1)


def _annotated(root: Path, numbers, paths, labels: dict[str, np.ndarray], fixed) -> AnnotatedImages:
    """Votes of published labels, and where the ten scores are published, of these."""
    votes = {}
    for task in PATENT_TASKS:
        known = labels[task.name] != rating.UNLABELLED
        votes[task.name] = rating.class_votes(labels[task.name], len(task.classes)) * known[:, None]
    if not (root / "scores.h5").is_file():
        return present(AnnotatedImages("iae", PATENT_TASKS, paths, votes, fixed=fixed))
    scores = _scores(root / "scores.h5", numbers)
    label = labels[AESTHETICS.name]
    fits = (label == (scores.mean(axis=1) >= CUT)) | (label == rating.UNLABELLED)
    if not fits.all():
        logging.getLogger(__name__).warning(
            "iae: %d of %d aesthetics labels don't follow from scores.h5 (image %d is the first); these keep the "
            "published label, as one vote", (~fits).sum(), len(fits), numbers[np.argmin(fits)])
    high = scores.sum(axis=1) / 10
    votes[AESTHETICS.name][fits] = np.stack([scores.shape[1] - high, high], axis=1)[fits]
    image, rater = (index.ravel() for index in np.indices(scores.shape))
    return present(AnnotatedImages(
        "iae", PATENT_TASKS, paths, votes,
        ratings={AESTHETICS.name: pd.DataFrame({"image": image, "annotator": rater, "value": scores.ravel()})},
        levels={AESTHETICS.name: "interval"}, rating_votes={AESTHETICS.name: rating.scale_votes(scores.ravel(), CUT)},
        facts=pd.DataFrame({"number": numbers, "score_mean": scores.mean(axis=1)}), fixed=fixed,
    ))


def _scores(file: Path, numbers: np.ndarray) -> np.ndarray:
    """(N, 10) the ten raters' scores of these images."""
    with _h5(file, "score") as (score,):
        table = np.asarray(score[:], dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != 11 or len(table) <= numbers.max():
        raise ValueError(f"{file}: score is {table.shape}; expected {numbers.max() + 1} or more rows of ten scores and "
                         f"their total")
    table = table[numbers]
    bad = ~np.isin(table[:, :10], SCORES).all(axis=1) | (table[:, :10].sum(axis=1) != table[:, 10])
    if bad.any():
        raise ValueError(f"{file}: row {numbers[np.argmax(bad)]} is {table[np.argmax(bad)].tolist()}; expected ten "
                         f"scores of 1, 4, 7 or 10 and their total")
    return table[:, :10]
