"""A disk that fills up at any write: a clear error, and what was finished before is kept.

On Linux as root a small tmpfs is filled for real. Elsewhere the system's own limit on a file's size stands in, where
there is one; both are skipped visibly where neither can be had.
"""

import os
import signal
import subprocess
from pathlib import Path

import killing
import pytest
from killing import check_whole, contents

from aesthemo_lib import files
from aesthemo_lib.data.images import load_pixels
from aesthemo_lib.data.readers import read
from aesthemo_lib.data.readers.scenes import draw
from aesthemo_lib.files import DiskFull
from aesthemo_lib.training.runs import Config, train

CONFIG = Config(data="csv", preset="smoke", settings={"epochs": 3, "patience": 3})


class Disk:
    """A small disk whose size can be changed."""

    def __init__(self, place: Path):
        self.place = place

    def resize(self, kilobytes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(self.place)], check=True)

    def used(self) -> int:
        """Kilobytes."""
        free = os.statvfs(self.place)
        return (free.f_blocks - free.f_bfree) * free.f_frsize // 1024


@pytest.fixture
def disk(tmp_path):
    place = tmp_path / "small disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk can be mounted as root on Linux alone; the limit on a file's size is tested instead")
    yield Disk(place)
    subprocess.run(["umount", str(place)], check=True)


def newest(place: Path) -> int:
    """The last epoch whose state is kept."""
    return max((int(path.name.split("-")[1]) for path in place.rglob("epoch-*")), default=0)


def fill_training(disk: Disk, data: Path, step: int) -> int:
    """A training on a disk that grows from nothing by some kilobytes: each attempt fails clearly, and loses nothing.

    Returns:
        how many attempts failed before one came through.
    """
    epochs: list[int] = []
    for failures in range(1000):
        disk.resize(max(4 * (failures + 1), disk.used() + 4, failures * step))
        kept = newest(disk.place)
        try:
            train(CONFIG, disk.place / "runs", data, after_epoch=lambda row: epochs.append(row["epoch"]))
        except DiskFull as fault:
            assert str(disk.place) in str(fault) and "make room" in str(fault) and "\n" not in str(fault)
            assert newest(disk.place) >= kept and not list(disk.place.rglob(".*.tmp"))
            check_whole(disk.place)
            continue
        assert epochs == sorted(set(epochs)), "an epoch was trained twice: its state was lost"
        check_whole(disk.place)
        return failures
    raise AssertionError("the disk never was large enough")


def test_a_training_on_a_disk_that_is_full_at_each_write(disk, colours_root, tmp_path):
    straight = train(CONFIG, tmp_path / "straight", colours_root)
    assert fill_training(disk, colours_root, 80) >= 8
    (metrics,) = disk.place.rglob("metrics.json")
    assert contents(metrics.parent) == contents(straight.folder)


def test_a_cache_on_a_disk_that_is_too_small(disk, colours_root):
    """Refused before the first image where the need is known; a clear error where others fill the disk meanwhile."""
    images = read("csv", colours_root)
    disk.resize(100)
    with pytest.raises(DiskFull, match=r"csv: the decoded pixels need another 1 MB in .*, where 0 MB are free; .*"):
        load_pixels(images, 64, folder=disk.place)
    for kilobytes in (4, 200, 500, 716):
        disk.resize(max(kilobytes, disk.used() + 4))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("shutil.disk_usage", lambda path: type("", (), {"free": 1 << 40}))
            with pytest.raises(DiskFull, match="no room left on the disk to write .*small disk"):
                load_pixels(images, 64, folder=disk.place)
        check_whole(disk.place)
    disk.resize(4096)
    assert load_pixels(images, 64, folder=disk.place)[1].shape == (60, 64, 64, 3)
    check_whole(disk.place)


def test_every_other_file_on_a_full_disk(disk, tmp_path):
    """JSON, tables, pages and executed notebooks are written by way of ``atomic``; drawn scenes as a folder."""
    disk.resize(64)
    target = disk.place / "old.json"
    files.write_json(target, [1])
    with pytest.raises(DiskFull, match="old.json"):
        files.write_json(target, ["x" * 100_000])
    assert files.read_json(target) == [1] and [path.name for path in disk.place.iterdir()] == ["old.json"]
    with pytest.raises(DiskFull, match="scenes"):
        draw(disk.place / "scenes", 40)
    assert not (disk.place / "scenes").exists()


def train_with_a_limit(out: str, root: str) -> None:
    """A job: a training that may write no file of more than 60,000 bytes; it leaves what it says of that."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, -1))
    try:
        train(CONFIG, out, root)
    except DiskFull as fault:
        (Path(out) / "said").write_text(str(fault), encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on a file's size")
def test_a_file_that_may_not_grow_is_said_the_same_way(colours_root, tmp_path):
    """What a quota or FAT's 4 GB say ('file too large'), and the way to test where nothing can be mounted."""
    killing.finish(train_with_a_limit, str(tmp_path), str(colours_root))
    said = (tmp_path / "said").read_text(encoding="utf-8")
    assert "no room left on the disk to write" in said and "\n" not in said
    check_whole(tmp_path)
