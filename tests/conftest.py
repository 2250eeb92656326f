"""Fixtures that several test files share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


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
    """Tests neither read nor fill the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AESTHEMO_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("AESTHEMO_HEADLESS", "1")
        yield
