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
