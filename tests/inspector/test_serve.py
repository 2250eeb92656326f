"""The inspector alone, over HTTP: who has the token gets the page and the network's answers, others get nothing."""

import json
import subprocess
import sys
from http.server import ThreadingHTTPServer
from threading import Thread
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from aesthemo_lib.inspector.serve import handler
from aesthemo_lib.inspector.session import Session
from aesthemo_lib.training.config import Config
from aesthemo_lib.training.runs import train


@pytest.fixture(scope="module")
def session(tmp_path_factory, colours_root) -> Session:
    run = train(Config(data="csv", preset="smoke"), tmp_path_factory.mktemp("runs"), colours_root)
    return Session(run.folder, root=colours_root, count=2)


@pytest.fixture(scope="module")
def address(session):
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(session, "token")) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_page_and_its_answers_are_the_sessions(session, address):
    page = urlopen(f"{address}/token/").read().decode()
    assert "connect-src 'self'" in page and "http://" not in page.replace('"http://www.w3.org/2000/svg"', "")
    assert str(session.subject.run.folder.parents[3]) not in page
    first, second = session.paths
    question = {"run": session.name, "id": 1, "what": "answers", "name": first, "donor": "", "image": None}
    for asked in (question, question | {"donor": second}):
        assert json.load(urlopen(f"{address}/token/ask", json.dumps(asked).encode())) == session.answer(asked)
    lost = json.load(urlopen(f"{address}/token/ask", json.dumps(question | {"image": "data:,none"}).encode()))
    assert "not an image" in lost["problem"]


def test_the_page_is_served_before_a_photo_is_judged_and_without_slow_imports():
    """What made it slow: torchvision's import of torch's compiler (five CPU-seconds), matplotlib, captum, SciPy."""
    script = """if True:
        import sys
        from aesthemo_lib.inspector import session, subject
        from aesthemo_lib.inspector.serve import handler
        from aesthemo_lib.prediction import packaged_run
        judged = []
        subject.Subject.answers = lambda *_: judged.append(1)
        opened = session.Session(packaged_run("photographs").folder)
        handler(opened, "token")
        slow = {"torch._dynamo", "torchvision", "timm", "matplotlib", "captum", "scipy", "sklearn", "anywidget"}
        print(len(opened.page["photos"]), judged, sorted(slow & {*sys.modules}))
    """
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True).stdout
    assert said.split(maxsplit=1) == ["7", "[] []\n"]


@pytest.mark.parametrize(("path", "data"), [("/", None), ("/another/", None), ("/ask", b"{}"), ("/another/ask", b"{}")])
def test_a_stranger_without_the_token_gets_nothing(address, path, data):
    with pytest.raises(HTTPError) as refused:
        urlopen(address + path, data)
    assert refused.value.code == 403
