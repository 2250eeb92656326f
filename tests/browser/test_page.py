"""figures/inspector.html as a reader has it: opened from a file, with no network."""

import base64
import json
import re
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import torch
from torch import nn

from aesthemo_lib.prediction import packaged_run

PROJECT = Path(__file__).resolve().parents[2]
FILE = PROJECT / "figures" / "inspector.html"
PAGES = {page["run"]: page for page in
         json.loads(re.findall(r'id="data">(.*?)</script>', FILE.read_text(encoding="utf-8"), flags=re.S)[0])}
NETWORK = "network=drawn%20scenes"
DATA = PAGES["drawn scenes"]  # most tests; photographs come first
LAYERS, EVERY = DATA["layers"], 2 ** len(DATA["switches"])
STREAMS = [f"{s['layer']}-{s['source']}-to-{s['receiver']}" for s in DATA["switches"]]


def probabilities(photo: str, task: str, donor: str = "") -> np.ndarray:
    """(states, C), read from the file without its script: a stream into the other branch's last group can't matter."""
    shown = next(one for one in DATA["photos"] if one["name"] == photo)
    classes = next(t for t in DATA["tasks"] if t["name"] == task)["classes"]
    kept = np.frombuffer(base64.b64decode(shown["logits"][donor][task]), "<f4").reshape(-1, len(classes)).astype(float)
    heard = [k for k, s in enumerate(DATA["switches"]) if s["layer"] < LAYERS or s["receiver"] == task]
    logits = kept[[sum((n >> k & 1) << place for place, k in enumerate(heard)) for n in range(EVERY)]]
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def classes(task: str) -> list[str]:
    return [name.replace("_", " ") for name in next(t for t in DATA["tasks"] if t["name"] == task)["classes"]]


def expect_state(page, photo: str, state: int, donor: str = "", slot: int = 0) -> None:
    """What is shown are the numbers of this state: every class of both tasks, the answers and the switches."""
    for task in ("aesthetics", "emotion"):
        now = probabilities(photo, task, donor)[state]
        card = page.locator(f'[data-slot="{slot}"] [data-task="{task}"]')
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


def smallest(photo: str, task: str, donor: str = "") -> list[int]:
    answers = probabilities(photo, task, donor).argmax(1)
    turned = [n for n in range(EVERY) if answers[n] != answers[0]]
    fewest = min((n.bit_count() for n in turned), default=0)
    return [n for n in turned if n.bit_count() == fewest]


def fewest(photo: str) -> int:
    """Of the cuts that turn any answer; 0: none do."""
    sizes = [sets[0].bit_count() for sets in (smallest(photo, task) for task in ("aesthetics", "emotion")) if sets]
    return min(sizes, default=0)


NAMES = [photo["name"] for photo in DATA["photos"]]
FIRST = min(NAMES, key=lambda name: fewest(name) or 99)
"""What the page opens on: the first photo whose answer turns by the fewest cuts."""
PHOTOS = ".strip:not(.givers) button"


def choose(page, photo: str) -> None:
    page.locator(f'{PHOTOS}[title="{photo}"]').click()


@pytest.fixture
def page(open_page):
    page = open_page(offline=True)
    page.goto(f"{FILE.as_uri()}#{NETWORK}")
    return page


def test_photographs_come_first_and_drawn_scenes_are_a_choice_away(open_page):
    """It opens on a photograph whose answer one cut turns, and says how many one turns and how many two."""
    page = open_page(offline=True)
    page.goto(FILE.as_uri())
    names = page.locator(PHOTOS).evaluate_all("all => all.map(one => one.title)")
    assert names == [photo["name"] for photo in PAGES["photographs"]["photos"]]
    assert re.match(r"\d+ photos? turns? by one cut", page.locator(".offers").inner_text())
    sayings = []
    for task in ("aesthetics", "emotion"):
        page.locator(f".flip-{task}").click()
        sayings.append(page.locator(".say").inner_text())
    assert any(said.startswith("One cut turns") for said in sayings), sayings
    for photo in PAGES["photographs"]["photos"]:
        choose(page, photo["name"])
        said = page.locator('[data-slot="0"] figcaption').inner_text()
        assert ("Far from the training data" in said) == photo["unusual"] and photo["credit"] in said
    page.locator(".runs select").select_option("drawn scenes")
    expect_state(page, FIRST, 0)
    assert NETWORK in page.evaluate("location.hash")
    page.locator(".runs select").select_option("photographs")
    assert page.locator(PHOTOS).count() == len(names) and "network" not in page.evaluate("location.hash")


def test_a_click_cuts_a_stream_and_both_answers_change(page):
    expect_state(page, FIRST, 0)
    page.locator(f'[data-stream="{STREAMS[0]}"] circle').click()
    expect_state(page, FIRST, 1)
    page.locator(f'[data-stream="{STREAMS[3]}"] circle').click()
    expect_state(page, FIRST, 1 + 8)
    page.get_by_role("button", name="Close all").click()
    expect_state(page, FIRST, EVERY - 1)
    page.get_by_role("button", name="Open all").click()
    expect_state(page, FIRST, 0)


def test_it_opens_where_the_fewest_cuts_turn_an_answer_and_offers_the_next(page):
    counts = [fewest(name) for name in NAMES]
    assert page.locator(".strip:not(.givers) [aria-pressed=true]").get_attribute("title") == FIRST
    for k in sorted(set(counts) - {0}):
        offer = page.locator(".offer").nth(sorted(set(counts) - {0}).index(k))
        assert offer.inner_text().startswith(str(counts.count(k)))
        seen = set()
        for _ in range(counts.count(k)):
            offer.click()
            seen.add(page.locator(".strip:not(.givers) [aria-pressed=true]").get_attribute("title"))
        assert seen == {name for name, n in zip(NAMES, counts, strict=True) if n == k}
    assert f"{counts.count(0)} of {len(NAMES)} by none" in page.locator(".offers").inner_text()


def test_the_network_shows_what_flows_and_how_much(page):
    """Boxes hold the photo's mean maps; a line is as wide as its share of the ledger, grey within the null."""
    photo = DATA["photos"][1]
    choose(page, photo["name"])
    boxes = page.locator(".network svg image").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert len(boxes) == 2 * DATA["groups"] + bool(DATA["frozen"]) and len(set(boxes)) > DATA["groups"]
    assert all(address.startswith("data:image/png") for address in boxes)
    widths, grey = {}, {}
    for stream, name in zip(DATA["switches"], STREAMS, strict=True):
        ledger = photo["ledger"][stream["receiver"]]
        row = int(np.argmax(ledger["logits"])) if len(ledger["values"]) > 1 else 0
        p = ledger["layers"].index(stream["layer"])
        share = abs(ledger["values"][row][p]) / np.abs(ledger["values"][row]).sum()
        line = page.locator(f'[data-stream="{name}"] .borrowed')
        widths[name] = float(line.evaluate("one => getComputedStyle(one).strokeWidth").removesuffix("px"))
        assert widths[name] == pytest.approx(1 + 40 * share, abs=0.05)
        bars = DATA["null"].get("tasks", {}).get(stream["receiver"])
        grey[name] = "within" in line.get_attribute("class").split()
        assert grey[name] == bool(bars and bars["low"][row][p] <= ledger["values"][row][p] <= bars["high"][row][p])


def test_the_story_has_ten_sentences_and_links_to_lessons_that_are_there(page):
    steps = page.locator(".story li p")
    assert sum(len(re.findall(r"[.](?= )", text)) for text in steps.all_inner_texts()) == 10
    for link in page.locator(".story a").all():
        assert (FILE.parent / link.get_attribute("href")).is_file()


def test_the_keyboard_does_all_of_it(page):
    names = NAMES
    page.locator(PHOTOS).first.click()
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
        choose(page, photo["name"])
        for task in ("aesthetics", "emotion"):
            page.locator(f".flip-{task}").click()
            sets, said = smallest(photo["name"], task), page.locator(".say").inner_text()
            expect = sets[0] if sets else 0
            off = page.locator(".knob").evaluate_all("all => all.map(one => one.getAttribute('aria-checked'))")
            assert sum(1 << k for k, is_open in enumerate(off) if is_open == "false") == expect
            assert said.startswith("No set of cuts turns" if not sets else "One cut turns"
                                   if expect.bit_count() == 1 else f"{expect.bit_count()} cuts turn")
            counts.append(len(sets))
    assert max(counts) > 0, "some answer turns"
    photo, task = max(((p["name"], t) for p in DATA["photos"] for t in ("aesthetics", "emotion")),
                      key=lambda one: len(smallest(*one)))
    choose(page, photo)
    for expected in (smallest(photo, task) * 2)[: len(smallest(photo, task)) + 1]:
        page.locator(f".flip-{task}").click()
        expect_state(page, photo, expected)


def test_the_address_holds_the_state(page, open_page):
    photo = DATA["photos"][-1]["name"]
    page.locator(PHOTOS).last.click()
    page.locator(f'[data-stream="{STREAMS[3]}"] circle').click()
    page.locator('[data-ledger="emotion"][data-slot="0"] select').select_option(label="fear")
    address = page.evaluate("location.href")
    assert address.endswith(f"#{NETWORK}&photo={quote(photo)}&cut={STREAMS[3]}&emotion=fear")
    other = open_page(offline=True)
    other.goto(address)
    expect_state(other, photo, 8)
    assert other.locator('[data-ledger="emotion"][data-slot="0"] select option:checked').inner_text() == "fear"
    other.goto(FILE.as_uri() + f"#{NETWORK}&photo=scene_none.jpg&cut=9-nothing,<b>x</b>")
    assert "There is no photo scene_none.jpg here" in other.locator(".say").inner_text()
    expect_state(other, FIRST, 0)
    other.goto(FILE.as_uri() + f"#{NETWORK}&photo={quote(photo)}&cut={','.join(STREAMS[:2])}")
    expect_state(other, photo, 3)


def test_the_ledger_adds_up_and_says_so(page):
    for task in ("aesthetics", "emotion"):
        panel = page.locator(f'[data-ledger="{task}"][data-slot="0"]')
        ledger = DATA["photos"][0]["ledger"][task]
        choose(page, NAMES[0])
        for c in range(len(ledger["values"])):
            if len(ledger["values"]) > 1:
                panel.locator("select").select_option(index=c)
            bars = [float(text.replace("−", "-")) for text in panel.locator(".row .value").all_inner_texts()]
            np.testing.assert_allclose(bars, ledger["values"][c], atol=0.0051)
            said = panel.locator(".check").inner_text()
            assert said.startswith("✓") and "The sum holds" in said
            gap = ledger["logits"][c] - ledger["baseline"][c]
            assert f"the difference is {'−' if gap < 0 else '+'}{abs(gap):.2f}" in said
            low, high = (np.array(DATA["null"]["tasks"][task][end][c][1:]) for end in ("low", "high"))
            borrowed = np.array(ledger["values"][c][1:])
            beyond = float((borrowed - borrowed.clip(low, high)).sum())
            assert abs(float(said.split("beyond the null: ")[1].rstrip(".").replace("−", "-")) - beyond) <= 0.0051


def test_a_transplant_gives_the_photo_another_ones_streams(page, open_page):
    """Every donor, some states each; the flip is searched among transplants too; the address keeps it."""
    photo, rng = DATA["photos"][3]["name"], np.random.default_rng(1)
    choose(page, photo)
    page.locator(f'[data-stream="{STREAMS[1]}"] circle').click()
    for donor in DATA["donors"]:
        page.locator(f'.givers button[title="{donor}"]').click()
        state = int(rng.integers(1, EVERY))
        cuts = ",".join(stream for k, stream in enumerate(STREAMS) if state >> k & 1)
        if donor == photo:
            assert page.locator(".turned").count() == 0, "its own maps change nothing"
        else:
            expect_state(page, photo, 2, donor)
            page.evaluate("text => { location.hash = text }",
                          f"{NETWORK}&photo={quote(photo)}&cut={cuts}&from={quote(donor)}")
            page.wait_for_function("name => document.querySelector(`.givers [title='${name}'][aria-pressed=true]`)",
                                   arg=donor)
            expect_state(page, photo, state, donor)
            page.evaluate("text => { location.hash = text }", f"{NETWORK}&photo={quote(photo)}&cut={STREAMS[1]}")
            page.locator(".givers .mean[aria-pressed=true]").wait_for()
    donor = next(name for name in DATA["donors"] if name != photo and smallest(photo, "emotion", name))
    page.locator(f'.givers button[title="{donor}"]').click()
    page.locator(".flip-emotion").click()
    expect_state(page, photo, smallest(photo, "emotion", donor)[0], donor)
    assert re.match(r"(One transplant turns|\d transplants turn) emotion", page.locator(".say").inner_text())
    other = open_page(offline=True)
    other.goto(page.evaluate("location.href"))
    expect_state(other, photo, smallest(photo, "emotion", donor)[0], donor)
    other.get_by_role("button", name="the mean image").click()
    expect_state(other, photo, smallest(photo, "emotion", donor)[0])


def test_two_photos_stand_side_by_side_under_the_same_cuts(page, open_page):
    names = NAMES
    choose(page, names[0])
    page.get_by_role("button", name="Two photos").click()
    choose(page, names[5])
    page.locator(f'[data-stream="{STREAMS[2]}"] circle').click()
    expect_state(page, names[0], 4, slot=0)
    expect_state(page, names[5], 4, slot=1)
    page.locator('[data-slot="0"] .choose').click()
    choose(page, names[7])
    expect_state(page, names[7], 4, slot=0)
    sums = page.locator(".ledgers .card:visible .check").all_inner_texts()
    assert len(sums) == 4 and all(said.startswith("✓") for said in sums)
    other = open_page(offline=True)
    other.goto(page.evaluate("location.href"))
    expect_state(other, names[7], 4, slot=0)
    expect_state(other, names[5], 4, slot=1)
    page.get_by_role("button", name="Two photos").click()
    assert page.locator('[data-slot="1"]:visible').count() == 0


def test_who_guesses_first_sees_no_answer_and_is_judged_by_people(page):
    choose(page, NAMES[0])
    page.get_by_role("button", name="Guess first").click()
    reveal, score = page.locator(".reveal"), page.locator(".score")
    right = {"you": 0, "network": 0}
    for number, photo in enumerate(DATA["photos"][:2]):
        seen = page.locator("main").inner_text()
        assert "%" not in seen and "consensus" not in seen.split("What would")[1] and reveal.is_disabled()
        for task in ("aesthetics", "emotion"):
            page.locator(f'.view [data-task="{task}"] button.name').filter(visible=True).nth(1).click()
            truth = photo["truth"][task].replace("_", " ")
            right["you"] += classes(task)[1] == truth
            right["network"] += classes(task)[probabilities(photo["name"], task)[0].argmax()] == truth
        reveal.click()
        expect_state(page, photo["name"], 0)
        answers = page.locator(".view .told").filter(visible=True).all_inner_texts()
        assert all(said.startswith("You: ") and "People: " in said for said in answers) and len(answers) == 2
        n = 2 * number + 2
        assert f"you {right['you']} of {n}, the network {right['network']} of {n}" in score.inner_text()
        page.get_by_role("button", name="Next photo").click()


def test_other_layers_maps_are_asked_for_while_nothing_else_is(open_page, tmp_path):
    """The script as the notebook's widget starts it, with a kernel that answers when the test says so."""
    photos = [one | {"maps": {}} for one in DATA["photos"]]
    start = 'inspectOne(document.getElementById("inspector"), data, {address: true});'
    text, asking = FILE.read_text(encoding="utf-8"), """
        window.asked = [];
        window.shown = inspectOne(document.getElementById("inspector"), data, {ask: (one) => asked.push(one)});"""
    assert start in text
    data = json.dumps([DATA | {"photos": photos}]).replace("<", "\\u003c")
    place = tmp_path / "asking.html"
    place.write_text(re.sub(r'(id="data">).*?(</script>)', lambda m: m[1] + data + m[2], text, flags=re.S)
                     .replace(start, asking), encoding="utf-8")
    page = open_page()
    page.goto(place.as_uri())
    if page.locator(".where").get_attribute("open") is None:
        page.locator(".where summary").click()
    page.get_by_label("Layer of the maps").select_option(label="layer 1")
    kept = DATA["photos"][0]["maps"]

    def answer() -> tuple:
        """Whichever was asked last; any map stands in for that of a class that the page has none of."""
        question = page.evaluate("asked.at(-1)")
        asked = question["task"], question["target"], question["layer"]
        maps = kept.get("/".join(map(str, asked)), next(iter(kept.values())))
        page.evaluate("answer => shown.receive(answer)", {"run": DATA["run"], "id": question["id"], "maps": maps})
        return asked

    asked = [answer() for _ in range(LAYERS + 1)]
    assert asked[0][0] == "aesthetics" and 1 in [layer for *_, layer in asked[:2]], "what is on view comes first"
    assert {layer for *_, layer in asked[:LAYERS]} == set(range(1, LAYERS + 1))
    assert asked[LAYERS][0] == "emotion" and asked[LAYERS][2] == 1, "then the other task, at the layer on view"
    assert page.evaluate("asked.length") == LAYERS + 1 == len(set(asked)), "nothing was asked twice, nothing further"
    for layer in range(LAYERS, 0, -1):
        page.get_by_label("Layer of the maps").select_option(label=f"layer {layer}")
        assert page.locator(".where .small").first.inner_text().startswith("Red"), "shown at once"


def test_the_maps_are_those_of_the_file(page):
    photo = DATA["photos"][0]
    choose(page, photo["name"])
    for task, rows in (("aesthetics", 1), ("emotion", 8)):
        c = rows > 1 and int(probabilities(photo["name"], task)[0].argmax())
        page.get_by_label("Task of the maps").select_option(label=task)
        for layer in (1, LAYERS):
            page.get_by_label("Layer of the maps").select_option(label=f"layer {layer}")
            captions = page.locator(".maps figure").all_inner_texts()
            for said, one in zip(captions, photo["maps"][f"{task}/{int(c)}/{layer}"], strict=True):
                assert f"{abs(one['sum']):.3f}" in said and f"by {abs(one['effect']):.3f}" in said
            page.wait_for_function("[...document.querySelectorAll('.maps canvas')].every(c => c.height != 150)")
            red, blue = page.locator(".maps canvas").first.evaluate("""canvas => {
                const d = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
                let [red, blue] = [0, 0];
                for (let i = 0; i < d.length; i += 4) { red += d[i] > d[i + 2] + 40; blue += d[i + 2] > d[i] + 40; }
                return [red, blue]; }""")
            assert red + blue > 50, "something is drawn over the grey photo"
    page.locator(".where select:visible").nth(1).select_option(index=(c + 1) % 8)
    assert "lesson 07 computes those of any class" in page.locator(".where").inner_text()


def test_names_are_text_never_markup(open_page, tmp_path):
    evil = "<img src=x onerror=window.hacked=1>"
    data = json.loads(json.dumps(DATA).replace('"awe"', json.dumps(evil)).replace(DATA["photos"][0]["name"], evil))
    data["title"] = data["null"]["note"] = evil
    from aesthemo_lib.inspector.page import html

    (tmp_path / "evil.html").write_text(html([data]), encoding="utf-8")
    page = open_page(offline=True)
    page.goto((tmp_path / "evil.html").as_uri())
    choose_first = page.locator(PHOTOS).first
    choose_first.click()
    page.get_by_role("button", name="Two photos").click()
    page.locator(".flip-emotion").click()
    assert page.locator("main").inner_text().count(evil) > 3
    assert page.evaluate("window.hacked") is None and page.locator('img[src="x"]').count() == 0


@pytest.mark.parametrize(("tasks", "groups", "switched"), [(1, 3, 0), (3, 3, 6), (2, 11, 10)])
def test_networks_of_other_shapes_are_drawn(open_page, tmp_path, tasks, groups, switched):
    """One task, three tasks, ten layers: a row of boxes each, switches for the last layers, and cuts that work."""
    from aesthemo_lib.inspector import page as page_module
    from aesthemo_lib.inspector.subject import Subject

    subject = shaped(Subject(packaged_run()), tasks, groups)
    images = torch.rand(1, 3, 16, 16)
    shown = {"name": "a photo", "image": DATA["photos"][0]["image"], "truth": {}, "credit": "", "unusual": False,
             "logits": {"": subject.answers(images)}, "ledger": subject.ledger(images), "flows": subject.flows(images),
             "maps": {}}
    (tmp_path / "shape.html").write_text(page_module.html([subject.page([shown]) | {"donors": []}]), encoding="utf-8")
    page = open_page(offline=True)
    page.goto((tmp_path / "shape.html").as_uri())
    assert page.locator(".view:visible .card").count() == tasks
    knobs = page.locator(".knob")
    assert knobs.count() == switched
    if tasks > 1:
        assert page.locator(".frame").count() == tasks * groups
        knobs.last.locator("circle").click()
        assert page.locator(".knob.cut").count() == 1 and page.locator(".ledger .row").count() > groups
    else:
        assert "nothing" in page.locator("header").inner_text().lower()


def shaped(subject, tasks: int, groups: int):
    """A network of small convolutions in the place of the subject's own."""
    from types import SimpleNamespace

    from aesthemo_lib.inspector.answers import switches
    from aesthemo_lib.models.backbones import Backbone
    from aesthemo_lib.models.networks import CrossBranch
    from aesthemo_lib.tasks import Task

    def branch():
        convs = nn.ModuleList(nn.Sequential(nn.Conv2d(4 if i else 3, 4, 3, padding=1), nn.ReLU())
                              for i in range(groups))
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        return Backbone("small", convs, head, [4] * groups, (1.0, 1.0, 1.0), "none")

    torch.manual_seed(0)
    known = tuple(Task(name, ("a", "b", "c")) for name in ("aesthetics", "emotion", "mood")[:tasks])
    subject.network = CrossBranch(known, [branch() for _ in known]).eval()
    subject.run = SimpleNamespace(tasks=known, name="made", described=subject.run.described | {"preset": "made"})
    try:
        subject.switches, subject.reason = switches(subject.network), ""
    except ValueError as fault:
        subject.switches, subject.reason = [], str(fault)
    return subject


@pytest.mark.parametrize("network", PAGES)
@pytest.mark.parametrize(("width", "height"), [(1366, 768), (390, 844)])
def test_photo_answers_and_network_are_on_the_first_screen(open_page, pictures, width, height, network):
    page = open_page(width, height, offline=True)
    page.goto(f"{FILE.as_uri()}#network={quote(network)}")
    answers = page.locator(".brief:visible span").all() or page.locator(".view:visible .card .answer").all()
    assert len(answers) == 2
    knobs = page.locator(".knob circle").all()
    for part in (page.locator(".photo:visible"), *answers, page.locator(".network svg"), *knobs):
        box = part.bounding_box()
        assert 0 <= box["y"] <= height - box["height"] and 0 <= box["x"] <= width - box["width"]
    page.screenshot(path=pictures / f"first-{width}-{network.split()[-1]}.png")


@pytest.mark.parametrize(("name", "width", "height", "scheme"), [
    ("desktop", 1280, 900, "light"), ("dark", 1280, 900, "dark"), ("phone", 375, 780, "light"),
    ("projector", 1920, 1080, "light"),
])
def test_it_fits_every_screen(open_page, pictures, name, width, height, scheme):
    page = open_page(width, height, color_scheme=scheme, offline=True)
    page.goto(FILE.as_uri())
    page.locator(".flip-aesthetics").click()
    page.wait_for_function("[...document.querySelectorAll('.maps canvas')].every(c => c.height != 150)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    for box in page.locator(".knob circle").evaluate_all(
        "all => all.map(one => [one.getBoundingClientRect().width, one.getBoundingClientRect().right])"
    ):
        assert box[0] >= 36 and box[1] <= width, "large enough for a finger, and on the screen"
    page.screenshot(path=pictures / f"page-{name}.png", full_page=True)
