"""figures/inspector.html as a reader has it: opened from a file, with no network."""

import base64
import json
import re
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

PROJECT = Path(__file__).resolve().parents[2]
FILE = PROJECT / "figures" / "inspector.html"
DATA = json.loads(re.findall(r'id="data">(.*?)</script>', FILE.read_text(encoding="utf-8"), flags=re.S)[0])
STREAMS = [f"{s['layer']}-{s['source']}-to-{s['receiver']}" for s in DATA["switches"]]


def probabilities(photo: str, task: str) -> np.ndarray:
    """(256, C), read from the file without its script."""
    shown = next(one for one in DATA["photos"] if one["name"] == photo)
    classes = next(t for t in DATA["tasks"] if t["name"] == task)["classes"]
    logits = np.frombuffer(base64.b64decode(shown["logits"][task]), "<f4").reshape(-1, len(classes)).astype(float)
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def classes(task: str) -> list[str]:
    return [name.replace("_", " ") for name in next(t for t in DATA["tasks"] if t["name"] == task)["classes"]]


def expect_state(page, photo: str, state: int) -> None:
    """What is shown are the numbers of this state: every class of both tasks, the answers and the switches."""
    for task in ("aesthetics", "emotion"):
        now = probabilities(photo, task)[state]
        card = page.locator(f'[data-task="{task}"]')
        shown = dict(zip(card.locator(".row .name").all_inner_texts(), card.locator(".row .value").all_inner_texts(),
                         strict=True))
        for name, p in zip(classes(task), now, strict=True):
            assert abs(float(shown[name].split()[0]) - 100 * p) <= 0.051, (task, name)
        assert card.locator(".answer").inner_text().startswith(classes(task)[now.argmax()] + " ")
        turned = now.argmax() != probabilities(photo, task)[0].argmax()
        assert ("turned" in card.get_attribute("class").split()) == turned
    for k, stream in enumerate(STREAMS):
        is_open = page.locator(f'[data-stream="{stream}"]').get_attribute("aria-checked")
        assert is_open == ("false" if state >> k & 1 else "true")


def smallest(photo: str, task: str) -> list[int]:
    answers = probabilities(photo, task).argmax(1)
    turned = [n for n in range(256) if answers[n] != answers[0]]
    fewest = min((n.bit_count() for n in turned), default=0)
    return [n for n in turned if n.bit_count() == fewest]


@pytest.fixture
def page(open_page):
    page = open_page(offline=True)
    page.goto(FILE.as_uri())
    return page


def test_a_click_cuts_a_stream_and_both_answers_change(page):
    first = DATA["photos"][0]["name"]
    expect_state(page, first, 0)
    page.locator(f'[data-stream="{STREAMS[0]}"] circle').click()
    expect_state(page, first, 1)
    page.locator(f'[data-stream="{STREAMS[5]}"] circle').click()
    expect_state(page, first, 1 + 32)
    page.get_by_role("button", name="Cut all").click()
    expect_state(page, first, 255)
    page.get_by_role("button", name="Restore all").click()
    expect_state(page, first, 0)


def test_the_keyboard_does_all_of_it(page):
    names = [photo["name"] for photo in DATA["photos"]]
    page.locator(".strip button").first.focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    knob = page.locator(f'[data-stream="{STREAMS[2]}"]')
    knob.focus()
    page.keyboard.press("Space")
    expect_state(page, names[2], 4)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect_state(page, names[2], 4 + 8)
    assert "cut" in knob.get_attribute("aria-label")


def test_find_the_flip_is_the_smallest_set(page):
    """For every photo and task, against a plain search; where there is none, it says so."""
    counts = []
    for photo in DATA["photos"]:
        page.locator(f'.strip button[title="{photo["name"]}"]').click()
        for task in ("aesthetics", "emotion"):
            page.locator(f".flip-{task}").click()
            sets, said = smallest(photo["name"], task), page.locator(".say").inner_text()
            expect = sets[0] if sets else 0
            off = page.locator(".knob").evaluate_all("all => all.map(one => one.getAttribute('aria-checked'))")
            assert sum(1 << k for k, is_open in enumerate(off) if is_open == "false") == expect
            assert said.startswith("No set of cuts turns" if not sets else "One cut turns"
                                   if expect.bit_count() == 1 else f"{expect.bit_count()} cuts turn")
            counts.append(len(sets))
    assert max(counts) > 1, "some verdict can be turned in several ways"
    photo, task = next((p["name"], t) for p in DATA["photos"] for t in ("aesthetics", "emotion")
                       if len(smallest(p["name"], t)) > 1)
    page.locator(f'.strip button[title="{photo}"]').click()
    for expected in (smallest(photo, task) * 2)[: len(smallest(photo, task)) + 1]:
        page.locator(f".flip-{task}").click()
        expect_state(page, photo, expected)


def test_the_address_holds_the_state(page, open_page):
    photo = DATA["photos"][-1]["name"]
    page.locator(".strip button").last.click()
    page.locator(f'[data-stream="{STREAMS[3]}"] circle').click()
    page.locator('[data-ledger="emotion"] select').select_option(label="fear")
    address = page.evaluate("location.href")
    assert address.endswith(f"#photo={quote(photo)}&cut={STREAMS[3]}&emotion=fear")
    other = open_page(offline=True)
    other.goto(address)
    expect_state(other, photo, 8)
    assert other.locator('[data-ledger="emotion"] select').evaluate("e => e.selectedOptions[0].label") == "fear"
    other.goto(FILE.as_uri() + "#photo=scene_none.jpg&cut=9-nothing,<b>x</b>")
    assert "There is no photo scene_none.jpg here" in other.locator(".say").inner_text()
    expect_state(other, DATA["photos"][0]["name"], 0)
    other.goto(FILE.as_uri() + f"#photo={quote(photo)}&cut={','.join(STREAMS[:2])}")
    expect_state(other, photo, 3)


def test_the_ledger_adds_up_and_says_so(page):
    for task in ("aesthetics", "emotion"):
        panel = page.locator(f'[data-ledger="{task}"]')
        ledger = DATA["photos"][0]["ledger"][task]
        for c in range(len(ledger["values"])):
            panel.locator("select").select_option(index=c)
            bars = [float(text.replace("−", "-")) for text in panel.locator(".row .value").all_inner_texts()]
            np.testing.assert_allclose(bars, ledger["values"][c], atol=0.0051)
            said = panel.locator(".check").inner_text()
            assert said.startswith("✓") and "The sum holds" in said
            gap = ledger["logits"][c] - ledger["baseline"][c]
            assert f"the difference is {'−' if gap < 0 else '+'}{abs(gap):.2f}" in said


@pytest.mark.parametrize(("name", "width", "height", "scheme"), [
    ("desktop", 1280, 900, "light"), ("dark", 1280, 900, "dark"), ("phone", 375, 780, "light"),
    ("projector", 1920, 1080, "light"),
])
def test_it_fits_every_screen(open_page, pictures, name, width, height, scheme):
    page = open_page(width, height, color_scheme=scheme, offline=True)
    page.goto(FILE.as_uri())
    page.locator(".flip-aesthetics").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    for box in page.locator(".knob circle").evaluate_all(
        "all => all.map(one => [one.getBoundingClientRect().width, one.getBoundingClientRect().right])"
    ):
        assert box[0] >= 36 and box[1] <= width, "large enough for a finger, and on the screen"
    page.screenshot(path=pictures / f"page-{name}.png", full_page=True)
