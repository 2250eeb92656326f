"""The site as a reader has it: opened from its files, with no network, wide and narrow, light and dark."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
EXECUTED = "02_network"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A site in which one lesson is executed; the others stand there as they are in git, for 'make book' runs them."""
    out = tmp_path_factory.mktemp("book")
    command = [sys.executable, str(PROJECT / "docs" / "book.py"), "--only", EXECUTED, "--out", str(out)]
    # A process of its own: papermill and Playwright each want the event loop.
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "html"


def test_every_page_opens_without_network_or_faults(site, open_page):
    page, asked = open_page(offline=True), []
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: asked.append(f"failed: {request.url}"))
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    for path in pages:
        page.goto(path.as_uri())
        assert "page not found" not in page.title().lower()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def test_formulas_are_drawn_with_their_numbers(site, open_page):
    page = open_page(offline=True)
    page.goto((site / "lessons" / f"{EXECUTED}.html").as_uri())
    page.wait_for_selector("mjx-container")
    page.evaluate("MathJax.startup.promise")
    wrong = page.evaluate("[...document.querySelectorAll('[data-mjx-error]')].map(e => e.dataset.mjxError)")
    assert wrong == [] and page.locator("mjx-container[display='true']").count() >= 3
    source = (site.parent / "source" / "lessons" / f"{EXECUTED}.ipynb").read_text(encoding="utf-8")
    numbers = page.locator("[data-mml-node='mlabeledtr']").count()
    assert numbers == len(re.findall(r"tag\{", source))


def brightness(page, what: str) -> float:
    """Of the page's text or ground, 0..255."""
    colour = page.evaluate(f"getComputedStyle(document.body).{what}")
    return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_and_can_be_read(site, open_page, pictures, width, scheme):
    page = open_page(width=width, height=850, color_scheme=scheme)
    for name in ("index", "start", f"lessons/{EXECUTED}", "results/index", "reference/aesthemo_lib.models.fusion"):
        page.goto((site / f"{name}.html").as_uri())
        page.screenshot(path=pictures / f"site-{Path(name).name}-{width}-{scheme}.png")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{name} is too wide"
        text, ground = (brightness(page, what) for what in ("color", "backgroundColor"))
        assert abs(text - ground) > 120 and (ground > 200) == (scheme == "light")
        assert all(page.locator("article img").evaluate_all("all => all.map(one => one.naturalWidth > 0)"))
        filters = page.locator("article img").evaluate_all("all => all.map(one => getComputedStyle(one).filter)")
        assert {*filters} <= {{"light": "brightness(1)", "dark": "brightness(0.9)"}[scheme]}, "white must not glare"
        sizes = page.locator(".cell_output td").evaluate_all(
            "all => all.map(one => parseFloat(getComputedStyle(one).fontSize))")
        assert min(sizes, default=12) >= 12, "nine points"


def test_search_finds_a_lesson(site, open_page):
    page = open_page(offline=True)
    page.goto((site / "search.html").as_uri() + "?q=Krippendorff")
    page.wait_for_selector("ul.search li a")
    assert any("01_data_and_labels" in link for link in page.locator("ul.search li a").evaluate_all(
        "all => all.map(one => one.href)"))
