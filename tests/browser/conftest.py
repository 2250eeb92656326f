"""A real browser for 'make browser'; 'make test' doesn't come here (norecursedirs in pyproject.toml)."""

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Error, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where screenshots go, to be looked at; git ignores them."""
    folder = Path(__file__).resolve().parents[2] / "out" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def browser():
    """The system's chromium, else Playwright's own."""
    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(
                executable_path=next(filter(None, map(shutil.which, NAMES)), None),
                args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
            )
        except Error as fault:
            pytest.exit(f"no browser starts here: install chromium (apt-get install chromium, or python -m playwright "
                        f"install chromium). {str(fault).splitlines()[0]}", returncode=1)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser):
    """open_page(width, height, ...) -> a new page; at the end no script may have failed in it."""
    opened, faults = [], []

    def open_one(width=1280, height=900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        opened.append(context)
        page = context.new_page()
        page.on("pageerror", lambda fault: faults.append(str(fault)))
        page.set_default_timeout(60_000)
        return page

    yield open_one
    for context in opened:
        context.close()
    assert not faults
