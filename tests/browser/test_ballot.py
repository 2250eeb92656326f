"""The ballot of voting.py as a student has it: click, go back, run out of time. A stand-in plays the kernel."""

import json

import pytest
from PIL import Image

from aesthemo_course.ballot import SCRIPT, STYLE, Ballot

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def ballot(open_page, tmp_path):
    """A page with the widget on it; window.state is what the kernel would have."""
    photos = []
    for n in range(3):
        photos.append(tmp_path / f"photo {n}.jpg")
        Image.new("RGB", (60, 60), (80 * n, 90, 200)).save(photos[-1])
    shown = Ballot(photos, tmp_path / "class", seconds=4).page
    page = open_page(900, 800, offline=True)
    page.set_content(f"""<!doctype html><style>{STYLE}</style><div id="here"></div><script type="module">
        {SCRIPT.replace("export default { render };", "")}
        window.state = {{ page: {json.dumps(shown)}, votes: {{}}, name: "", said: "" }};
        const heard = {{}};
        const model = {{
          get: (key) => window.state[key], set: (key, value) => {{ window.state[key] = value; }},
          save_changes: () => {{}}, on: (event, call) => {{ heard[event] = call; }}, off: () => {{}},
        }};
        window.say = (text) => {{ window.state.said = text; heard["change:said"](); }};
        render({{ model, el: document.getElementById("here") }});
    </script>""")
    page.locator(".ballot .photo").wait_for()
    return page


def press(page, label: str) -> None:
    page.get_by_role("button", name=label, exact=True).click()


def votes(page) -> dict:
    return page.evaluate("window.state.votes")


def test_two_clicks_a_photograph_and_back(ballot):
    press(ballot, "high")
    assert votes(ballot) == {} and "Write a name first" in ballot.locator(".say").inner_text()
    ballot.locator("input").fill("Zoë")
    press(ballot, "high")
    assert ballot.evaluate("window.state.name") == "Zoë"
    assert "photograph 1 of 3" in ballot.locator(".clock").inner_text()
    press(ballot, "awe")
    assert votes(ballot) == {"photo 0.jpg": {"aesthetics": "high", "emotion": "awe"}}
    assert "photograph 2 of 3" in ballot.locator(".clock").inner_text()
    press(ballot, "Back")
    assert ballot.get_by_role("button", name="high", exact=True).get_attribute("aria-pressed") == "true"
    press(ballot, "low")
    assert votes(ballot)["photo 0.jpg"] == {"aesthetics": "low", "emotion": "awe"}


def test_the_ballot_closes_when_the_time_is_over(ballot):
    ballot.locator("input").fill("a")
    press(ballot, "low")
    ballot.locator(".clock", has_text="the ballot is closed").wait_for(timeout=8000)
    assert ballot.locator("fieldset").count() == 0 and ballot.locator(".photo").is_hidden()
    assert votes(ballot) == {"photo 0.jpg": {"aesthetics": "low"}}


def test_what_the_kernel_says_is_text(ballot, pictures):
    ballot.evaluate(f"window.say({json.dumps(HOSTILE)})")
    assert ballot.locator(".say").inner_text() == HOSTILE and ballot.locator(".say img").count() == 0
    ballot.screenshot(path=pictures / "ballot.png")
