"""The inspector's numbers against live forward passes with hooks, and the committed page against its sources."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aesthemo_lib import inspector
from aesthemo_lib.attribution import cut
from aesthemo_lib.evaluation import softmax
from aesthemo_lib.models.networks import METHODS, VARIANTS, build
from aesthemo_lib.prediction import Predictor
from aesthemo_lib.tasks import PATENT_TASKS, Task
from aesthemo_lib.training.runs import Config, train

PAGE = Path(__file__).resolve().parents[1] / "figures" / "inspector.html"
EXCHANGING = [method for method in METHODS if method not in ("independent", "shared_bottom")]


def live(network, images, state: int) -> dict:
    """A plain forward pass with the state's streams replaced by hooks, one by one."""
    which = [stream for k, stream in enumerate(inspector.switches(network)) if state >> k & 1]
    with torch.no_grad(), cut(network, which, "mean", torch.zeros_like(images[:1])):
        return network(images)


def lively(network) -> torch.nn.Module:
    """Untrained, but with weights and statistics that let everything through, so that each cut shows."""
    torch.manual_seed(0)
    for name, values in network.state_dict().items():
        if "exchanges" in name or name.endswith("head.6.weight"):
            values.copy_(torch.rand(values.shape) if "var" in name else torch.randn(values.shape) * 0.5)
    return network.eval()


@pytest.mark.parametrize("method", EXCHANGING)
def test_every_state_is_that_of_a_live_pass(method):
    network = lively(build(method, PATENT_TASKS, "tiny", "none", VARIANTS.get(method, (None,))[0]))
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    found = inspector.cut_logits(network, images)
    assert len(inspector.switches(network)) == 4
    for state in range(16):
        for task, logits in live(network, images, state).items():
            assert found[task].shape == (16, 3, logits.shape[1])
            torch.testing.assert_close(found[task][state], logits, rtol=1e-4, atol=1e-4 * float(found[task].std()))
    for values in found.values():
        # With the last layer cut only the own first one matters (2 states), else both branches' first ones do (2 x 2).
        assert len({tuple(row.flatten().tolist()) for row in values}) == 6


def test_three_tasks_share_the_same_code(monkeypatch):
    tasks = (*PATENT_TASKS, Task("mood", ("dull", "bright")))
    network = lively(build("cross_branch", tasks, "tiny", "none", "random"))
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with pytest.raises(ValueError, match="borrows 12 streams.*at most 10"):
        inspector.cut_logits(network, images)
    monkeypatch.setattr(inspector, "MOST_SWITCHES", 12)
    found = inspector.cut_logits(network, images)
    for state in np.random.default_rng(0).integers(0, 4096, 12):
        for task, logits in live(network, images, int(state)).items():
            torch.testing.assert_close(found[task][state], logits, rtol=1e-4, atol=1e-4 * float(found[task].std()))


# --- a run, its page and its widget


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspector é")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AESTHEMO_DATA", str(folder / "data"))
        yield train(Config(preset="smoke"), folder / "runs")


def contained(page: str) -> dict:
    """The data of a page, as its script reads it."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.S)
    return json.loads(text)


def table(page: dict, photo: dict, task: str) -> np.ndarray:
    """(states, classes) float32."""
    classes = len(next(t for t in page["tasks"] if t["name"] == task)["classes"])
    return np.frombuffer(base64.b64decode(photo["logits"][task]), "<f4").reshape(-1, classes)


def test_fifty_random_states_of_a_page_equal_live_passes(run, tmp_path):
    page = contained(inspector.write_page(run.folder, tmp_path / "page é.html").read_text(encoding="utf-8"))
    subject = inspector.Subject(run.folder)
    paths = {path.name: path for path, _ in subject.test_photos(inspector.PAGE_SCENES)}
    scenes = [photo for photo in page["photos"] if photo["name"] in paths]
    assert len(scenes) == inspector.PAGE_SCENES and len(page["photos"]) == 24
    assert {photo["name"] for photo in page["photos"]} - set(paths) == set(inspector.LIBRARY_PHOTOS)
    rng = np.random.default_rng(0)
    for _ in range(50):
        photo, state = scenes[rng.integers(len(scenes))], int(rng.integers(2 ** len(page["switches"])))
        for task, logits in live(subject.network, subject.images(paths[photo["name"]]), state).items():
            stored = table(page, photo, task)[state]
            np.testing.assert_allclose(stored, logits[0].numpy(), rtol=1e-4, atol=1e-5)


def test_uncut_answers_are_those_of_aesthemo_predict_and_the_ledger_adds_up(run):
    subject = inspector.Subject(run)
    path, truth = subject.test_photos(1)[0]
    page = subject.page([inspector.photo(path, truth) | subject.answers(path)])
    shown, expected = page["photos"][0], Predictor(run).probabilities([path])
    for task in page["tasks"]:
        name = task["name"]
        stored = softmax(table(page, shown, name))[0]  # in float32, where predict may take bfloat16
        np.testing.assert_allclose(stored, expected[name][0], atol=5e-3)
        ledger = shown["ledger"][name]
        assert ledger["players"] == ["own", "borrowed at 1", "borrowed at 2"]
        assert ledger["sources"] == [name, *[{"aesthetics": "emotion", "emotion": "aesthetics"}[name]] * 2]
        gap = np.subtract(ledger["logits"], ledger["baseline"])
        np.testing.assert_allclose(np.sum(ledger["values"], axis=1), gap, atol=1e-5)
    first = run.predictions().iloc[0]
    assert (shown["name"], truth["aesthetics"]) == (first["image"], first["true_aesthetics"])


def test_no_text_becomes_markup(run):
    evil = "</script><script>alert(1)</script>"
    page = {"title": evil, "photos": [{"name": evil}]}
    written = inspector.html(page)
    assert written.count("<script") == 2 and written.count("</script") == 2 and contained(written) == page
    assert "innerHTML" not in inspector.SCRIPT and "insertAdjacentHTML" not in inspector.SCRIPT


def test_other_photographs_are_not_put_into_a_page(run, tmp_path, monkeypatch):
    told = run.described | {"data": "oasis"}
    other = property(lambda self: told, lambda self, read: None)
    monkeypatch.setattr(inspector.Run, "described", other, raising=False)
    with pytest.raises(ValueError, match="trained on oasis, whose photographs may not"):
        inspector.write_page(run.folder, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@pytest.fixture
def widget(run, monkeypatch):
    sent = []
    monkeypatch.setattr(inspector.Inspector, "send", lambda self, content, buffers=None: sent.append(content))
    made = inspector.Inspector([run.folder], count=2)
    made.sent = sent
    return made


def test_the_widget_answers_for_its_own_photos_and_for_uploads(widget, tmp_path):
    first = widget.page["photos"][0]
    assert "logits" not in first and len(widget.page["photos"]) == 2
    widget._asked(widget, {"run": widget.run, "name": first["name"], "image": None}, [])
    path = widget.paths[first["name"]]
    assert widget.sent[-1]["logits"] == widget.subject.answers(path)["logits"]
    Image.new("RGB", (60, 30), "red").save(tmp_path / "own.png")
    address = "data:image/png;base64," + base64.b64encode((tmp_path / "own.png").read_bytes()).decode()
    widget._asked(widget, {"run": widget.run, "name": "mine é.png", "image": address}, [])
    assert widget.sent[-1]["name"] == "mine é.png" and widget.sent[-1]["image"] is None
    assert widget.sent[-1]["ledger"] == widget.subject.answers(tmp_path / "own.png")["ledger"]


def test_the_widget_says_what_it_cannot_do_and_drops_stale_questions(widget, run, tmp_path):
    address = "data:image/jpeg;base64," + base64.b64encode(b"no picture").decode()
    widget._asked(widget, {"run": widget.run, "name": "bad.jpg", "image": address}, [])
    assert widget.sent[-1]["problem"] == "bad.jpg: not an image that can be read"
    before = len(widget.sent)
    widget._asked(widget, {"run": "another", "name": "bad.jpg", "image": address}, [])
    assert len(widget.sent) == before
    widget.run = str(tmp_path)
    assert "holds no finished run" in widget.page["problem"]
    with pytest.raises(ValueError, match="no runs were given"):
        inspector.Inspector([])


# --- the committed page


def test_the_committed_page_is_made_from_the_files_that_stand_here():
    text = PAGE.read_text(encoding="utf-8")
    assert inspector.SCRIPT in text and inspector.STYLE in text, "run 'aesthemo inspector-page RUN' again"
    assert len(text.encode()) <= 3e6
    page = contained(text)
    assert text == inspector.html(page)
    assert (len(page["photos"]), len(page["switches"]), page["groups"]) == (24, 8, 5)
    for photo in page["photos"]:
        for task in page["tasks"]:
            values = table(page, photo, task["name"])
            assert values.shape == (256, len(task["classes"])) and np.isfinite(values).all()
            np.testing.assert_allclose(values[0], photo["ledger"][task["name"]]["logits"], rtol=1e-3, atol=1e-3)
    credited = [photo for photo in page["photos"] if photo["name"] in inspector.LIBRARY_PHOTOS]
    assert len(credited) == 2 and all("CC BY 2.0" in photo["credit"] for photo in credited)


def test_the_committed_page_asks_no_network_for_anything():
    text = PAGE.read_text(encoding="utf-8").replace('"http://www.w3.org/2000/svg"', "")
    assert "default-src 'none'" in text
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|url\(|fetch\(|import\(""", text)
