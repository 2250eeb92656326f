"""07_inspector in JupyterLab, as a student has it: run all, click, upload."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from PIL import Image
from playwright.sync_api import TimeoutError

PROJECT = Path(__file__).resolve().parents[2]
STARTING = 60
"""Seconds that JupyterLab may take to start."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on a folder with the notebook, whose preset is 'smoke'; yields its address."""
    folder = tmp_path_factory.mktemp("lab é")
    notebook = nbformat.read(PROJECT / "notebooks" / "07_inspector.ipynb", as_version=4)
    (given,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    given.source += f"\npreset, out = 'smoke', {str(folder / 'runs')!r}"
    nbformat.write(notebook, folder / "07_inspector.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = os.environ | {
        "JUPYTER_CONFIG_DIR": str(folder / "config"), "AESTHEMO_DATA": str(folder / "data"),
        "AESTHEMO_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1", "JUPYTER_PREFER_ENV_PATH": "1",
        "PYTHONPATH": os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1",
               "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}", "--ServerApp.port_retries=0"]
    with open(folder / "lab.log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=settings, cwd=folder)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(address, server, folder / "lab.log")
        yield address
    finally:
        server.terminate()
        server.wait(30)


def wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(2 * STARTING):
        try:
            urllib.request.urlopen(f"{address}/api", timeout=5).close()
            return
        except OSError:
            assert server.poll() is None, log.read_text(encoding="utf-8")
            time.sleep(0.5)
    pytest.fail(f"JupyterLab did not start in {STARTING} s:\n{log.read_text(encoding='utf-8')}")


def answers(widget) -> list[str]:
    """The widths of each card's bars, which are the probabilities without rounding."""
    return widget.locator("[data-task]").evaluate_all(
        "cards => cards.map(card => [...card.querySelectorAll('.bar')].map(bar => bar.style.width).join(' '))"
    )


def settled(page, widget) -> None:
    """Wait until the kernel's answers for this photo are drawn."""
    page.wait_for_function("!document.querySelector('.aesthemo').classList.contains('waiting')")
    widget.locator("[data-task] .answer").first.wait_for(state="visible")


def run_all(page) -> None:
    """Run all cells. A click before the kernel is connected may be lost: it is repeated until a cell has started."""
    for _ in range(4):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.locator('[data-command="runmenu:run-all"]').click()
        try:
            page.locator(".jp-InputPrompt", has_text=re.compile(r"\[(\*|\d+)\]")).first.wait_for(timeout=10_000)
            return
        except TimeoutError:
            page.keyboard.press("Escape")
    pytest.fail("no cell started")


def test_the_notebook_lets_one_cut_choose_and_upload(lab, open_page, pictures, tmp_path):
    page = open_page(1500, 1000)
    page.goto(f"{lab}/lab/tree/07_inspector.ipynb?reset")
    page.locator(".jp-RenderedMarkdown h1").first.wait_for()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    run_all(page)
    widget = page.locator(".aesthemo")
    widget.wait_for(timeout=90_000)
    widget.scroll_into_view_if_needed()
    settled(page, widget)

    uncut = answers(widget)
    widget.locator('[data-stream="1-emotion-to-aesthetics"] circle').click()
    cut = answers(widget)
    assert "uncut" in widget.locator("[data-task] .before").first.inner_text()
    assert cut[0] != uncut[0] and cut[1] != uncut[1], "both predictions changed"
    widget.locator(".none").click()
    assert answers(widget) == uncut

    widget.locator(".strip button").nth(1).click()
    settled(page, widget)
    second = answers(widget)
    assert second != uncut
    page.screenshot(path=pictures / "notebook.png")

    good, broken = tmp_path / "large é.png", tmp_path / "broken.jpg"
    Image.effect_noise((3000, 2000), 80).convert("RGB").save(good)  # 14 MB and more, which would end the connection
    assert good.stat().st_size > 5e6
    broken.write_bytes(b"this is no picture")
    widget.locator("input[type=file]").set_input_files(broken)
    said = widget.locator(".say")
    page.wait_for_function("document.querySelector('.aesthemo .say').textContent.includes('broken.jpg')")
    assert re.fullmatch(r"broken\.jpg can't be read as a picture here; .*\.", said.inner_text())
    assert answers(widget) == second
    widget.locator("input[type=file]").set_input_files(good)
    widget.locator(".strip button[title='large é.png']").wait_for()
    settled(page, widget)
    own = answers(widget)
    assert own != second and "large é.png" in widget.locator("figcaption").inner_text()
    widget.locator('[data-stream="2-aesthetics-to-emotion"] circle').click()
    assert answers(widget)[1] != own[1] and answers(widget)[0] == own[0], "the last layer feeds its own task alone"
    assert not page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count()
    page.screenshot(path=pictures / "notebook-own.png")
