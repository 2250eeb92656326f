"""Draw figures/inspector.png, the picture of the inspector that README shows:  python tests/browser/picture.py

Its metadata hold this command and the hash of figures/inspector.html, so that a stale one shows.
"""

import hashlib
import io
import shutil
from pathlib import Path

from PIL import Image, PngImagePlugin
from playwright.sync_api import sync_playwright

from aesthemo_studies.readme_figures import TEXTS

PAGE = Path(__file__).resolve().parents[2] / "figures" / "inspector.html"
NAMES = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 900, "height": 1000}  # so narrow that its text keeps nine points at the site's width


def draw(browser, path: Path) -> None:
    """The photo that the page opens on, whose emotion the smallest set of cuts turns, found by the page itself."""
    page = browser.new_page(viewport=SIZE, color_scheme="light")
    page.goto(PAGE.as_uri())
    page.locator(".flip-emotion").click()
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    page.locator(".turned").first.wait_for()
    end = page.locator(".first").evaluate("first => first.getBoundingClientRect().bottom + scrollY") + 10
    page.evaluate("scrollTo(0, 0)")
    pixels = page.evaluate("parseFloat(getComputedStyle(document.querySelector('.aesthemo')).fontSize)")
    shot = page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": SIZE["width"], "height": end})
    picture = Image.open(io.BytesIO(shot)).convert("RGB").quantize(256)
    about = PngImagePlugin.PngInfo()
    about.add_text("Comment", "python tests/browser/picture.py")
    about.add_text("Type", str(pixels))  # of its sentences, at 72 dots an inch; captions are a little smaller
    about.add_text("Description", TEXTS["inspector.png"])
    about.add_text("Source", hashlib.sha256(PAGE.read_bytes()).hexdigest())
    picture.save(path, pnginfo=about, optimize=True)
    page.close()


if __name__ == "__main__":
    with sync_playwright() as playwright:
        there = next(filter(None, map(shutil.which, NAMES)), None)
        started = playwright.chromium.launch(executable_path=there, args=["--no-sandbox", "--disable-gpu"])
        draw(started, PAGE.with_suffix(".png"))
        started.close()
