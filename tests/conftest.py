"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # each worker has one core; more threads would fight over it
# Has Python warn of files opened in whatever encoding the system prefers; pyproject.toml makes ours an error.
os.environ |= {"PYTHONWARNDEFAULTENCODING": "1", "PYTHONWARNINGS": "ignore::EncodingWarning"}

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_xdist_auto_num_workers() -> int:
    """As many processes as cores that may be used, at most four, for each holds torch in its memory."""
    from aesthemo_lib.device import allowed_cores

    return min(4, allowed_cores())


@pytest.fixture(scope="session")
def oasis_root() -> Path:
    """The folder of OASIS photographs beside the checkout; tests that need it skip visibly without it."""
    root = SHARED / "oasis"
    if not (root / "OASIS.csv").exists():
        pytest.skip(f"needs the OASIS photographs at {root}, which are not part of the repository")
    return root


@pytest.fixture(scope="session")
def colours_root(tmp_path_factory) -> Path:
    """A small data set in the 'csv' layout whose labels can be read off the pictures: 60 plain, noisy squares.

    Bright ones are 'high'; the strongest colour is the emotion, which every tenth image has no label for.
    """
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("colours é")
    rng, rows = np.random.default_rng(0), ["path,aesthetics,emotion"]
    for i in range(60):
        bright, colour = i % 2, i % 3
        pixels = rng.normal(70 + 90 * bright, 25, (40, 40, 3))
        pixels[..., colour] += 60
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
        emotion = "" if i % 10 == 9 else ("warm", "calm", "cold")[colour]
        rows.append(f"{i}.png,{('low', 'high')[bright]},{emotion}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Tests neither read nor fill the user's cache and data; the scenes are drawn once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AESTHEMO_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("AESTHEMO_DATA", str(tmp_path_factory.mktemp("data")))
        patch.setenv("AESTHEMO_HEADLESS", "1")
        yield
