"""07_inspector in JupyterLab, as a student has it: run all, click, upload; and the inspector alone."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

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
    return widget.locator('[data-slot="0"] [data-task]').evaluate_all(
        "cards => cards.map(card => [...card.querySelectorAll('.bar')].map(bar => bar.style.width).join(' '))"
    )


def settled(page, widget) -> None:
    """Wait until the kernel's answers for this photo are drawn."""
    page.locator(".aesthemo:not(.waiting)").first.wait_for()
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
    assert "before" in widget.locator("[data-task] .before").first.inner_text()
    assert cut[0] != uncut[0] and cut[1] != uncut[1], "both predictions changed"
    widget.locator(".givers button").nth(3).click()
    settled(page, widget)
    given = answers(widget)
    assert given[0] not in (uncut[0], cut[0]), "a transplant, which the kernel answered"
    widget.locator(".givers .mean").click()
    assert answers(widget) == cut
    widget.locator(".none").click()
    assert answers(widget) == uncut

    thumbnails = widget.locator(".strip:not(.givers) button")
    thumbnails.nth(1).click()
    settled(page, widget)
    second = answers(widget)
    assert second != uncut
    look_at_maps(page, widget)
    page.screenshot(path=pictures / "notebook.png")
    for number in (2, 3, 4, 1):  # clicked past before an answer can come
        thumbnails.nth(number).click()
    settled(page, widget)
    assert answers(widget) == second, "what came late is not shown"
    upload(page, widget, second, tmp_path)
    assert not page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count()
    page.screenshot(path=pictures / "notebook-own.png")


def look_at_maps(page, widget) -> None:
    """Another task, class and layer, each of which the kernel answers anew."""
    widget.locator(".where summary").click()
    seen = set()
    for task, c, layer in ((0, None, 2), (1, 2, 2), (1, 3, 2), (1, 3, 1)):
        widget.get_by_label("Task of the maps").select_option(index=task)
        if c is not None:  # of two classes the difference is explained
            widget.locator(".where select:visible").nth(1).select_option(index=c)
        widget.get_by_label("Layer of the maps").select_option(index=layer - 1)
        page.wait_for_function("document.querySelectorAll('.aesthemo .maps canvas').length == 2")
        page.wait_for_function("document.querySelector('.aesthemo .where .small').textContent.startsWith('Red')")
        text = widget.locator(".maps").inner_text()
        assert "borrowed from" in text and "Top channels" in text
        seen.add(text)
    assert len(seen) == 4
    page.wait_for_timeout(10_000)  # by now the maps that one change leads to have come by themselves
    for k in (1, 0):
        widget.get_by_label("Layer of the maps").select_option(index=k)
        assert widget.locator(".where .small").first.inner_text().startswith("Red"), "another layer shows at once"
    widget.locator(".where select:visible").nth(1).select_option(index=6)
    assert widget.locator(".where .small").first.inner_text().startswith("Red"), "another class shows at once"
    widget.get_by_label("Task of the maps").select_option(index=0)
    assert widget.locator(".where .small").first.inner_text().startswith("Red"), "another task shows at once"
    bars = widget.locator('[data-ledger="emotion"][data-slot="0"] .value').all_inner_texts()
    widget.locator('[data-ledger="emotion"][data-slot="0"] select').select_option(index=5)
    assert widget.locator('[data-ledger="emotion"][data-slot="0"] .value').all_inner_texts() != bars


def upload(page, widget, before: list[str], folder: Path) -> None:
    """A file that is no picture, one that is too large, one of 14 MB and more, and HTML for a name."""
    good, broken, huge = folder / "large é <b>x<b>.png", folder / "broken.jpg", folder / "huge.jpg"
    Image.effect_noise((4000, 3600), 80).convert("RGB").save(good, compress_level=1)  # would end the connection
    assert good.stat().st_size > 14e6
    broken.write_bytes(b"this is no picture")
    with open(huge, "wb") as file:
        file.truncate(500_000_000)
    field, said = widget.locator("input[type=file]"), widget.locator(".say")
    for path, sentence in ((broken, r"broken\.jpg can't be read as a picture here; [^.]*\."),
                           (huge, r"huge\.jpg has 500 MB; photos of up to 100 MB [^.]*\.")):
        field.set_input_files(path)
        page.wait_for_function("name => document.querySelector('.aesthemo .say').textContent.includes(name)",
                               arg=path.name)
        assert re.fullmatch(sentence, said.inner_text())
        assert answers(widget) == before
    field.set_input_files(good)
    widget.locator(".strip:not(.givers) button").nth(12).wait_for()
    settled(page, widget)
    own = answers(widget)
    assert own != before and good.name in widget.locator('[data-slot="0"] figcaption').inner_text()
    widget.locator('[data-stream="2-aesthetics-to-emotion"] circle').click()
    assert answers(widget)[1] != own[1] and answers(widget)[0] == own[0], "the last layer feeds its own task alone"


# --- the inspector alone


def test_the_inspector_alone_asks_no_other_host_and_ends_when_told(open_page, pictures, tmp_path):
    """What 'make inspect' starts: no path, no script error, nothing for a stranger, and SIGTERM ends it."""
    log = tmp_path / "inspect.log"
    settings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(PROJECT), *sys.path])}
    command = [sys.executable, "-m", "aesthemo_lib.cli", "inspect", "--no-browser", "--photos", "3"]
    with open(log, "w", encoding="utf-8") as out:
        server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=settings, cwd=PROJECT)
    try:
        address = printed_address(server, log)
        page, faults, hosts = open_page(1280, 900), [], set()
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc.partition(":")[0]))
        page.goto(address)
        widget = page.locator(".aesthemo")
        settled(page, widget)
        uncut = answers(widget)
        widget.locator('[data-stream="1-emotion-to-aesthetics"] circle').click()
        assert answers(widget) != uncut and widget.locator(".check:visible").first.inner_text().startswith("✓")
        Image.new("RGB", (300, 200), "white").save(tmp_path / "white.png")
        page.locator("input[type=file]").set_input_files(tmp_path / "white.png")
        page.locator(".unusual").filter(visible=True).wait_for()  # a white sheet is no photograph
        assert str(PROJECT) not in page.content() and not faults
        page.screenshot(path=pictures / "inspect.png")
        assert hosts <= {"127.0.0.1", ""}, "no other host is asked for anything"
        stranger = open_page(1280, 900)
        stranger.goto(address.rsplit("/", 2)[0])
        assert stranger.locator(".aesthemo").count() == 0 and "token" in stranger.content()
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0


def printed_address(server: subprocess.Popen, log: Path) -> str:
    for _ in range(4 * STARTING):
        match = re.search(r"http://127\.0\.0\.1:\d+/[\w-]+/", log.read_text(encoding="utf-8"))
        if match:
            return match[0]
        assert server.poll() is None, log.read_text(encoding="utf-8")
        time.sleep(0.5)
    pytest.fail(f"no address in {2 * STARTING} s:\n{log.read_text(encoding='utf-8')}")
