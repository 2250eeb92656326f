"""The OASIS download against a server on this machine that can lie, break off and fail."""

import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import unquote

import pytest

from aesthemo_lib.data.readers import download

FILES = {
    "OASIS.csv": b"a table", "images/Lake 1.jpg": b"water" * 50000, "images/War 2.jpg": b"ruins",
    "images/Nude man 3.jpg": b"a man", "OASISdata.mat": b"ratings", "means_per_image.csv": b"means",
}
CALM = set(FILES) - {"images/Nude man 3.jpg"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append(self.path)
        name = next((name for name in FILES if unquote(self.path).endswith(f"/{name}")), None)
        fault = self.server.faults.get(name, [])
        fault = fault.pop(0) if fault else "good"
        if name is None or fault == "missing":
            return self.send_error(404)
        body = b"something else" if fault == "wrong" else FILES[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "truncated" else body)
        if fault == "truncated":
            self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "checksums", lambda: {n: hashlib.sha256(b).hexdigest() for n, b in FILES.items()})
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=lambda seconds: None))  # between tries
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.faults = [], {}
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_fetches_what_is_published(server, tmp_path):
    root = tmp_path / "mes données"
    assert download.fetch(root, server=server.url) == root
    assert contents(root) == {name: FILES[name] for name in CALM}
    assert f"/{download.AFFECT}/images/Lake%201.jpg" in server.asked
    assert f"/{download.BEAUTY}/OASISdata.mat" in server.asked
    if os.name == "posix":
        assert all(path.stat().st_mode & 0o044 for path in root.rglob("*.jpg"))


def test_sensitive_themes_come_when_asked(server, tmp_path):
    download.fetch(tmp_path, sensitive=True, server=server.url)
    assert contents(tmp_path) == FILES


def test_resumes_and_replaces_what_is_wrong(server, tmp_path):
    download.fetch(tmp_path, server=server.url)
    server.asked.clear()
    download.fetch(tmp_path, server=server.url)
    assert server.asked == []
    (tmp_path / "images" / "Lake 1.jpg").write_bytes(b"half")
    (tmp_path / "OASIS.csv").unlink()
    download.fetch(tmp_path, server=server.url)
    assert sorted(path.rsplit("/", 1)[1] for path in server.asked) == ["Lake%201.jpg", "OASIS.csv"]
    assert contents(tmp_path) == {name: FILES[name] for name in CALM}


@pytest.mark.parametrize(("fault", "reason"), [
    ("wrong", "does not match the known hash"), ("truncated", "IncompleteRead|broken"), ("missing", "404"),
])
def test_a_fault_is_one_line_and_leaves_nothing_half_written(server, tmp_path, fault, reason):
    server.faults["images/Lake 1.jpg"] = [fault] * 9
    with pytest.raises(RuntimeError, match=reason) as error:
        download.fetch(tmp_path, server=server.url)
    message = str(error.value)
    assert message.startswith("images/Lake 1.jpg: could not be downloaded from http://") and "\n" not in message
    assert "images/Lake 1.jpg" not in contents(tmp_path)
    assert all(FILES[name] == body for name, body in contents(tmp_path).items())  # no temporary file either
    server.faults.clear()
    download.fetch(tmp_path, server=server.url)  # and calling again completes it
    assert contents(tmp_path) == {name: FILES[name] for name in CALM}


@pytest.mark.parametrize("fault", ["wrong", "truncated", "missing"])
def test_a_passing_fault_is_tried_again(server, tmp_path, fault):
    server.faults["images/War 2.jpg"] = [fault, fault]
    download.fetch(tmp_path, server=server.url)
    assert (tmp_path / "images" / "War 2.jpg").read_bytes() == FILES["images/War 2.jpg"]
    assert sum(path.endswith("War%202.jpg") for path in server.asked) == 3


def test_a_failure_keeps_the_file_that_was_there(server, tmp_path):
    download.fetch(tmp_path, server=server.url)
    (tmp_path / "OASIS.csv").write_bytes(b"my own notes")
    server.faults["OASIS.csv"] = ["wrong"] * 9
    with pytest.raises(RuntimeError, match="OASIS.csv"):
        download.fetch(tmp_path, server=server.url)
    assert (tmp_path / "OASIS.csv").read_bytes() == b"my own notes"


def test_no_server_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=lambda seconds: None))  # between tries
    with pytest.raises(RuntimeError, match="could not be downloaded from http://127.0.0.1:9/") as error:
        download.fetch(tmp_path, server="http://127.0.0.1:9")
    assert "\n" not in str(error.value) and contents(tmp_path) == {}


def test_the_list_of_checksums():
    sums = download.checksums()
    assert len(sums) == 903 and all(len(sha) == 64 for sha in sums.values())
    header = [line for line in download._CHECKSUMS.read_text(encoding="utf-8").splitlines() if line.startswith("# git")]
    for place, line in zip((download.AFFECT, download.BEAUTY), header, strict=True):
        repository, commit = place.rsplit("/", 1)
        assert repository in line and commit in line
    assert sum(name in header[1] for name in download.BEAUTY_FILES) == 2
    stems = [download.theme_stem(name.rpartition("/")[2].removesuffix(".jpg")) for name in sums]
    assert sum(stem in download.SENSITIVE_THEMES for stem in stems) == 86


def test_the_photographs_beside_the_checkout_are_those_of_the_list(oasis_root):
    sums = download.checksums()
    for path in sorted((oasis_root / "images").iterdir())[::25]:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sums[f"images/{path.name}"]
