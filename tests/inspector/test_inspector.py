"""The inspector's numbers against live forward passes with hooks, and the committed page against its sources."""

import base64
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf
from torch import nn

from aesthemo_lib import prediction
from aesthemo_lib.attribution.cuts import cut
from aesthemo_lib.attribution.ledger import trunk_ledger
from aesthemo_lib.attribution.maps import integrated_gradients
from aesthemo_lib.evaluation.metrics import softmax
from aesthemo_lib.files import project_folder, read_json
from aesthemo_lib.inspector import (
    answers as answers_module,
    familiar,
    page as page_html,
    samples,
    session as session_module,
    subject as subject_module,
    widget as widget_module,
)
from aesthemo_lib.models.backbones import Backbone
from aesthemo_lib.models.inference import image_batches
from aesthemo_lib.models.networks import CrossBranch
from aesthemo_lib.prediction import Predictor
from aesthemo_lib.tasks import PATENT_TASKS
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import Config, train
from aesthemo_studies import inspector_page as page_module
from bench.inspector import inspector_speed, opening

PAGE = Path(__file__).resolve().parents[2] / "figures" / "inspector.html"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return train(Config(preset="smoke"), tmp_path_factory.mktemp("inspector é") / "runs")


def contained(page: str) -> list[dict]:
    """The data of a page, as its script reads it: one for each network."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.S)
    return json.loads(text)


def numbers(packed: str, classes: int) -> np.ndarray:
    """(rows, classes) float32."""
    return np.frombuffer(base64.b64decode(packed), "<f4").reshape(-1, classes)


def stored(page: dict, photo: dict, task: str, state: int, donor: str = "") -> np.ndarray:
    """(classes,) the logits of a state, found without the script's rule for where it lies: by counting."""
    entry = next(t for t in page["tasks"] if t["name"] == task)
    last = max(s["layer"] for s in page["switches"])
    heard = [k for k, s in enumerate(page["switches"]) if s["layer"] < last or s["receiver"] == task]
    row = sum((state >> k & 1) << place for place, k in enumerate(heard))
    actual = numbers(photo["logits"][donor][task], len(entry["classes"]))
    assert len(actual) == 2 ** len(heard)
    return actual[row]


def live(subject: subject_module.Subject, images: torch.Tensor, state: int, donor: torch.Tensor | None) -> dict:
    """A plain forward pass with the state's streams replaced by hooks: cut, or by those of a single other photo."""
    which = [stream for k, stream in enumerate(subject.switches) if state >> k & 1]
    how, other = ("mean", torch.zeros_like(images)) if donor is None else ("resample", donor)
    with torch.no_grad(), cut(subject.network, which, how, other):
        return subject.network(images)


def test_what_a_page_holds_of_a_photo_are_the_networks_own_answers(run, tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "PAGE_SCENES", 4)
    written = page_module.write_page({"mine": run.folder}, tmp_path / "page é.html")
    (page,) = contained(written.read_text(encoding="utf-8"))
    assert page["run"] == "mine" and {photo["credit"] for photo in page["photos"]} == {"Drawn scene"}
    subject = subject_module.Subject(run.folder)
    path, truth = subject.test_photos(1)[0]
    shown, images = page["photos"][0], subject.images(path)
    assert (shown["name"], shown["truth"]) == (path.name, truth)
    first = run.predictions().iloc[0]
    assert (path.name, truth["aesthetics"]) == (first["image"], first["true_aesthetics"])
    expected, ledgers = Predictor(run).answers([path]).probabilities, trunk_ledger(subject.network, images)
    for task in page["tasks"]:
        name = task["name"]
        answer = softmax(stored(page, shown, name, 0)[None])[0]  # in float32, where predict may take bfloat16
        np.testing.assert_allclose(answer, expected[name][0], atol=5e-3)
        ledger = shown["ledger"][name]
        assert ledger["players"] == ["own", "borrowed at 1", "borrowed at 2"]
        assert ledger["sources"] == [name, *[{"aesthetics": "emotion", "emotion": "aesthetics"}[name]] * 2]
        whole = ledgers[name].values[0]
        np.testing.assert_allclose(ledger["values"], whole if len(whole) > 2 else whole[1:] - whole[:1], atol=2e-6)
        row = answer.argmax() if len(whole) > 2 else 0
        for layer in (1, 2):
            own, borrowed = shown["maps"][f"{name}/{row}/{layer}"]
            assert (own["source"], borrowed["source"]) == (name, ledger["sources"][1])
            actual = answers_module.stream_maps(subject.network, images, name, int(answer.argmax()), layer)
            for one, kept in ((actual[layer, name, m["source"]], m) for m in (own, borrowed)):
                cells = np.frombuffer(base64.b64decode(kept["cells"]), "i1").reshape(kept["size"]) * kept["scale"]
                np.testing.assert_allclose(cells, one.cells[0], atol=kept["scale"])
                assert kept["effect"] == pytest.approx(one.effect[0]) and len(kept["channels"]) == 5
                assert kept["channels"][0][1] == pytest.approx(one.channels[0][kept["channels"][0][0]], abs=1e-4)


def test_the_boxes_show_the_mean_of_what_leaves_their_group(run):
    subject = subject_module.Subject(run.folder)
    images = subject.images(subject.test_photos(1)[0][0])
    maps = [images] * 2
    flows = subject.flows(images)
    assert flows[""] == [] and len(flows["emotion"]) == len(subject.network.branches[0].groups)
    with torch.no_grad():
        for i in range(len(flows["emotion"])):
            sent = [branch.groups[i](x) for branch, x in zip(subject.network.branches, maps, strict=True)]
            mean = sent[1][0].mean(dim=0).numpy()
            shown = flows["emotion"][i]
            cells = np.frombuffer(base64.b64decode(shown["cells"]), "u1").reshape(shown["size"])
            assert cells.max() == 255 or mean.max() == mean.min()
            if list(mean.shape) == shown["size"]:
                expected = (mean - mean.min()) / max(mean.max() - mean.min(), 1e-12) * 255
                np.testing.assert_allclose(cells, expected, atol=0.51)
            maps = subject.network.exchange(i, sent)


def test_a_photograph_is_far_from_drawn_scenes_and_a_held_out_scene_is_not(run, tmp_path):
    subject = subject_module.Subject(run.folder)
    held_out = [path for path, _ in subject.test_photos(99)]
    assert np.mean([subject.unusual(subject.images(path)) for path in held_out]) <= 0.25
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    Image.new("RGB", (300, 200), "white").save(tmp_path / "white.png")
    assert all(subject.unusual(subject.images(tmp_path / name)) for name in ("noise.png", "white.png"))


def test_the_distance_is_mahalanobis_with_a_shrunk_covariance_and_its_limit_a_twentieth_of_the_other_half():
    random = torch.Generator().manual_seed(0)
    values = torch.randn(120, 6, generator=random) @ torch.randn(6, 6, generator=random) + 3
    known, fitted = familiar.learnt(values), LedoitWolf().fit(values[::2].numpy())
    expected = [mahalanobis(x, fitted.location_, fitted.precision_) for x in values.numpy()]
    np.testing.assert_allclose(familiar.distances(known, values), expected, rtol=5e-3)  # it is kept in float16
    assert float(known["limit"]) == pytest.approx(np.quantile(expected[1::2], 0.95), rel=5e-3)


def test_the_bundled_network_for_photographs_knows_noise_and_keeps_what_was_measured():
    """``results/familiar.json`` has all of it; here a part of it again."""
    subject, rng = subject_module.Subject(prediction.packaged_run("photographs")), np.random.default_rng(1)
    side = subject.run.settings.resize
    pixels = rng.integers(0, 256, (4, side, side, 3), dtype=np.uint8)
    (noise,) = image_batches(subject.network, pixels, range(4), subject.predictor.mean, side)
    assert all(subject.unusual(image[None]) for image in noise)
    measured = read_json(project_folder() / "results" / "familiar.json")
    assert measured["photographs of PARA's official test"]["flagged"] < 0.1
    assert measured["white noise"]["flagged"] == 1


def test_large_maps_are_summed_not_thinned():
    from aesthemo_lib.attribution.maps import SignedMap

    cells = np.arange(70 * 65, dtype=float).reshape(70, 65)
    shown = subject_module._shown("x", SignedMap(cells[None], np.array([1.0])))
    small = np.frombuffer(base64.b64decode(shown["cells"]), "i1").reshape(shown["size"]) * shown["scale"]
    assert shown["size"] == (24, 22) and small[0, 0] == pytest.approx(cells[:3, :3].sum(), abs=shown["scale"])
    assert small.sum() == pytest.approx(cells.sum(), rel=0.01) and shown["sum"] == cells.sum()


def test_no_text_becomes_markup():
    evil = "</script><script>alert(1)</script>"
    page = {"title": evil, "photos": [{"name": evil}], "tasks": [{"name": evil, "classes": [evil]}]}
    written = page_html.html([page])
    assert written.count("<script") == 2 and written.count("</script") == 2 and contained(written) == [page]
    assert "innerHTML" not in subject_module.SCRIPT and "insertAdjacentHTML" not in subject_module.SCRIPT


def test_other_photographs_are_not_put_into_a_page(run, tmp_path, monkeypatch):
    described = run.described | {"data": "oasis"}
    other = property(lambda self: described, lambda self, read: None)
    monkeypatch.setattr(subject_module.Run, "described", other, raising=False)
    with pytest.raises(ValueError, match="trained on oasis, whose photographs may not"):
        page_module.write_page({"": run.folder}, tmp_path / "page_module.html")
    assert not (tmp_path / "page_module.html").exists()


# --- the widget


@pytest.fixture
def widget(run, monkeypatch):
    sent = []
    monkeypatch.setattr(widget_module.Inspector, "send", lambda self, content, buffers=None: sent.append(content))
    made = widget_module.Inspector([run.folder], count=3)
    made.sent = sent
    return made


def test_each_question_that_one_waits_for_is_timed(run):
    actual = inspector_speed(run.folder, photos=1).set_index("question")
    assert list(actual.index) == ["first view", "first view of an own photo", "transplant", "maps at layer 1",
                                  "maps at layer 2", "all ledgers"]
    assert opening(run.folder) > 0, "the command has answered with the page"
    assert (actual["seconds"] > 0).all() and (actual["slowest"] >= actual["seconds"]).all()
    assert list(actual["most"]) == [2.0, 2.0, 0.3, 0.3, 0.3, 0.3]
    assert actual.loc["first view", "kilobytes"] > actual.loc["transplant", "kilobytes"], "the ledger comes with it"


def ask(widget, name: str, what: str = "answers", image: str | None = None, **more) -> dict:
    """What comes back for one question."""
    question = {"run": widget.run, "id": 7, "what": what, "name": name, "image": image, "donor": ""} | more
    widget._asked(widget, question, [])
    assert widget.sent[-1]["id"] == 7 and "image" not in widget.sent[-1]
    return widget.sent[-1]


def address(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def test_the_widget_answers_for_its_own_photos_uploads_and_transplants(widget, tmp_path):
    assert [photo.get("logits") for photo in widget.page["photos"]] == [None] * 3
    subject, (first, second, _) = widget.subject, list(widget.paths)
    images = {name: subject.images(widget.paths[name]) for name in (first, second)}
    actual = ask(widget, first)
    assert actual["logits"] == subject.answers(images[first]) and actual["ledger"] == subject.ledger(images[first])
    actual = ask(widget, first, donor=second)
    for state in (1, 6, 15):
        for task, logits in live(subject, images[first], state, images[second]).items():
            got = stored(widget.page, {"logits": {second: actual["logits"]}}, task, state, second)
            np.testing.assert_allclose(got, logits[0].numpy(), rtol=1e-4, atol=1e-5)
    Image.new("RGB", (60, 30), "red").save(tmp_path / "own.png")
    own = subject.images(tmp_path / "own.png")
    actual = ask(widget, "<b>mine</b> é.png", image=address(tmp_path / "own.png"))
    assert actual["name"] == "<b>mine</b> é.png" and actual["logits"] == subject.answers(own)
    actual = ask(widget, first, donor="mine", donor_image=address(tmp_path / "own.png"))
    assert actual["logits"] == subject.answers(images[first], own) and "donor_image" not in actual
    actual = ask(widget, first, "map", task="emotion", target=2, layer=1)
    assert actual["maps"] == subject.map(images[first], "emotion", 2, 1)


def test_the_widget_says_what_it_cannot_do_and_drops_stale_questions(widget, run, tmp_path, monkeypatch):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert ask(widget, "bad.jpg", image=address(tmp_path / "bad.png"))["problem"] == (
        "bad.jpg: not an image that can be read")
    name = next(iter(widget.paths))
    before = len(widget.sent)
    widget._asked(widget, {"run": "another", "name": name, "what": "answers"}, [])
    assert len(widget.sent) == before
    monkeypatch.setattr(subject_module.Subject, "ledger", lambda *_: 1 / 0)
    said = ask(widget, name)["problem"]
    assert said.startswith(f"{name}: the network failed on it (ZeroDivisionError)") and "Traceback" not in said
    gone = tmp_path / "gone"
    widget.folders["gone"] = gone
    widget.run = "gone"
    assert "holds no finished run" in widget.page["problem"] and str(tmp_path) not in widget.page["problem"]
    with pytest.raises(ValueError, match="no runs were given"):
        widget_module.Inspector([])


def test_no_path_of_this_machine_reaches_the_browser(widget, run):
    sent = json.dumps([widget.page, widget.runs, widget.run, ask(widget, next(iter(widget.paths)))])
    assert str(run.folder.parents[4]) not in sent and os.environ["AESTHEMO_DATA"] not in sent
    assert widget.runs == ["scenes/cross_branch.diagonal/smoke/split0-seed0"]


def test_a_network_that_borrows_nothing_says_why_and_shows_its_pixels(run, tmp_path):
    apart = train(Config(preset="smoke", method="independent", settings={"epochs": 1}), tmp_path)
    subject = subject_module.Subject(apart)
    page = subject.page([])
    assert page["switches"] == [] and "no cross-branch layers, so nothing is borrowed" in page["reason"]
    path, _ = subject.test_photos(1)[0]
    images = subject.images(path)
    assert subject.ledger(images) is None
    for task, logits in subject.network(images).items():
        got = numbers(subject.answers(images)[task], logits.shape[1])
        np.testing.assert_allclose(got, logits.detach().numpy(), rtol=1e-5, atol=1e-6)
    (shown,) = subject.map(images, "emotion", 3, 0)
    assert subject.flows(images) is None
    slow = integrated_gradients(subject.network, images, "emotion", 3, steps=64)
    assert shown["source"] == "pixels" and shown["effect"] == pytest.approx(slow.effect[0], abs=1e-5)
    assert shown["sum"] == pytest.approx(slow.cells.sum(), abs=0.1 * abs(slow.effect[0]) + 1e-3)
    with pytest.raises(ValueError, match="nothing is borrowed"):
        page_module.write_page({"": apart.folder}, tmp_path / "page_module.html")


def branch_of(groups: int, classes: int) -> Backbone:
    convs = nn.ModuleList(nn.Sequential(nn.Conv2d(4 if i else 3, 4, 3, padding=1), nn.ReLU()) for i in range(groups))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))
    return Backbone("small", convs, head, [4] * groups, (1.0, 1.0, 1.0), "none")


def test_ten_layers_have_fewer_switches(run):
    """A network of another shape than the run's, in its place."""
    torch.manual_seed(0)
    subject = subject_module.Subject(run.folder)
    subject.network = CrossBranch(PATENT_TASKS, [branch_of(11, 2), branch_of(11, 8)]).eval()
    subject.switches = answers_module.switches(subject.network)
    images, page = torch.randn(1, 3, 16, 16), subject.page([])
    assert (page["layers"], len(page["edges"]), len(page["switches"])) == (10, 20, 10)
    assert {s["layer"] for s in page["switches"]} == set(range(6, 11)) and "20 streams; the last 10" in page["note"]
    assert len(subject.flows(images)["emotion"]) == len(subject.ledger(images)["emotion"]["players"]) == 11
    shown = {"logits": {"": subject.answers(images)}}
    for state in (0, 5, 700):
        for task, expected in live(subject, images, state, None).items():
            np.testing.assert_allclose(stored(page, shown, task, state), expected[0].numpy(), rtol=1e-4, atol=1e-4)


# --- the committed page


def committed() -> dict[str, dict]:
    """What figures/inspector.html holds, by network."""
    return {page["run"]: page for page in contained(PAGE.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("name", page_module.BUNDLED)
def test_random_states_of_the_committed_page_equal_live_passes(name):
    """Of its photographs and scenes, with streams cut or transplanted, by the networks that come with the project."""
    page, rng = committed()[name], np.random.default_rng(0)
    subject = subject_module.Subject(prediction.packaged_run(page_module.BUNDLED[name]))
    paths = {path.name: path for path, *_ in subject.photos(page_module.PAGE_SCENES)}
    assert list(paths) == [photo["name"] for photo in page["photos"]]
    images = {name: subject.images(path) for name, path in paths.items()}
    for number in range(10):
        photo, state = page["photos"][rng.integers(len(paths))], int(rng.integers(2 ** len(page["switches"])))
        donor = str(rng.choice([one for one in page["donors"] if one != photo["name"]])) if number % 2 else ""
        with torch.inference_mode():
            actual = live(subject, images[photo["name"]], state, images.get(donor))
        for task, logits in actual.items():
            np.testing.assert_allclose(stored(page, photo, task, state, donor), logits[0].numpy(), atol=2e-3)


def test_the_committed_page_is_made_from_the_files_that_stand_here():
    text = PAGE.read_text(encoding="utf-8")
    command = "python -m aesthemo_studies inspector-page"
    assert subject_module.SCRIPT in text and subject_module.STYLE in text, f"run '{command}' again"
    assert len(text.encode()) <= 3e6 and text == page_html.html(contained(text))
    pages = committed()
    assert list(pages) == list(page_module.BUNDLED) and len(pages["drawn scenes"]["photos"]) == page_module.PAGE_SCENES
    credits = {photo["name"]: photo["credit"] for photo in pages["photographs"]["photos"]}
    assert list(credits) == [Path(name).name for name in samples.SAMPLES]
    assert all(terms in credit for terms, credit in zip(samples.SAMPLES.values(), credits.values(), strict=True))
    for name, page in pages.items():
        bundled = subject_module.Subject(prediction.packaged_run(page_module.BUNDLED[name])).page([])
        assert bundled | {key: page[key] for key in ("photos", "donors", "run")} == page
        assert page["null"]["tasks"], "every ledger has a null"
        check_photos(page)


def check_photos(page: dict) -> None:
    """Each photo has all answers and the maps of the network's own, and they agree with the ledger."""
    states, layers = 2 ** len(page["switches"]), range(1, page["layers"] + 1)
    assert len(page["donors"]) > 1
    for photo in page["photos"]:
        assert set(photo["logits"]) == {"", *page["donors"]} - {photo["name"]}
        for task in page["tasks"]:
            name, ledger = task["name"], photo["ledger"][task["name"]]
            for donor in photo["logits"]:
                values = numbers(photo["logits"][donor][name], len(task["classes"]))
                assert values.shape == (states >> task["idle"].bit_count(), len(task["classes"]))
                assert np.isfinite(values).all()
                first = values[0] if len(values[0]) > 2 else np.diff(values[0])
                np.testing.assert_allclose(first, ledger["logits"], rtol=1e-3, atol=1e-3)
            assert {f"{name}/{int(np.argmax(ledger['logits']))}/{i}" for i in layers} <= set(photo["maps"])


def test_ones_own_photographs_come_first_and_equal_names_stay_apart(run, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (40, 40), {"a": "red", "b": "blue"}[folder]).save(tmp_path / folder / "one.png")
    session = session_module.Session(run.folder, count=2, own=prediction.photographs([str(tmp_path)]))
    assert list(session.paths)[:2] == ["one.png", "one.png (2)"] and len(session.page["photos"]) == 4
    question = {"what": "answers", "donor": "", "image": None}
    red, blue = (session.answer(question | {"name": name})["logits"] for name in list(session.paths)[:2])
    assert red == session.subject.answers(session.subject.images(tmp_path / "a" / "one.png")) != blue


def test_the_sample_photographs_have_the_licences_that_their_packages_state():
    """scikit-image says it where each photograph is loaded, scikit-learn in a file next to its two."""
    fetchers = Path(samples.find_spec("skimage").origin).parent / "data" / "_fetchers.py"
    code = " ".join(fetchers.read_text(encoding="utf-8").split())
    for name, words in {"coffee": "CC0 by the photographer (Rachel Michetti)",
                        "chelsea": "CC0 by the photographer (Stefan van der Walt)",
                        "rocket": "captured by SpaceX and `released in the public domain",
                        "clock": "Released into the public domain by the photographer (Stefan van der Walt)",
                        "hubble_deep_field": "captured by NASA and `may be freely used in the public domain"}.items():
        assert words in code[code.index(f"def {name}()"):][:900], name
    readme = next(path for path, *_ in samples.samples() if path.name == "china.jpg").with_name("README.txt")
    assert "creativecommons.org/licenses/by/2.0" in readme.read_text(encoding="utf-8")


def test_the_committed_page_asks_no_network_for_anything():
    text = PAGE.read_text(encoding="utf-8").replace('"http://www.w3.org/2000/svg"', "")
    assert "default-src 'none'" in text
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|url\(|fetch\(|import\(""", text)
