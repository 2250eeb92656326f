"""Files and servers that mean harm: nothing in them is run, and nothing is written where it does not belong."""

import ast
import csv
import hashlib
import io
import os
import pickle
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from aesthemo_lib.data.images import load_pixels
from aesthemo_lib.data.readers import download, iae, oasis, read
from aesthemo_lib.files import digest, read_tensors
from aesthemo_lib.models.networks import build
from aesthemo_lib.tasks import Task
from aesthemo_lib.training.runs import Config, train

PROJECT = Path(__file__).resolve().parents[2]
SOURCES = [PROJECT / "run.py", *sorted((PROJECT / "aesthemo_lib").rglob("*.py"))]
SOURCES += sorted((PROJECT / "course").glob("*.py"))


class Trap:
    """An object whose unpickling leaves a file."""

    def __init__(self, mark: Path):
        self.mark = str(mark)

    def __reduce__(self):
        return open, (self.mark, "wb")


def sprung(mark: Path, data: bytes) -> None:
    """The trap works: whoever unpickles it falls into it."""
    pickle.loads(data).close()
    assert mark.exists()
    mark.unlink()


# --- files that could run code


@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "weights.safetensors", "weights.bin"])
def test_weights_that_hold_a_pickle_are_refused(tmp_path, name):
    mark, file = tmp_path / "sprung", tmp_path / name
    torch.save({"classifier.weight": Trap(mark)}, file)
    if not name.endswith(".safetensors"):
        torch.load(file, weights_only=False)["classifier.weight"].close()
        assert mark.exists()
        mark.unlink()
    with pytest.raises(ValueError, match="can't be read as tensors alone"):
        build("shared_bottom", (Task("a", ("x", "y")),), "efficientnet_lite0", str(file))
    assert not mark.exists()


def test_a_state_or_run_that_holds_a_pickle_is_refused(tmp_path):
    mark, file = tmp_path / "sprung", tmp_path / "model.safetensors"
    file.write_bytes(pickle.dumps(Trap(mark)))
    sprung(mark, file.read_bytes())
    with pytest.raises(ValueError, match="model.safetensors is damaged, or no safetensors file"):
        read_tensors(file)
    assert not mark.exists()


def test_a_cache_that_holds_objects_is_made_anew(tmp_path, colours_root):
    """A .npy of Python objects is a pickle. Pixels are mapped as bytes, so what lies there is never interpreted."""
    images = read("csv", colours_root)
    load_pixels(images, 16, folder=tmp_path)
    (file,) = (tmp_path / "pixels").glob("*.npy")
    good, mark, out = file.read_bytes(), tmp_path / "sprung", io.BytesIO()
    np.save(out, np.array([Trap(mark)] * 60, dtype=object), allow_pickle=True)
    np.load(io.BytesIO(out.getvalue()), allow_pickle=True)
    mark.unlink()
    file.write_bytes(out.getvalue().ljust(len(good), b"\0"))
    load_pixels(images, 16, folder=tmp_path)
    assert file.read_bytes() == good and not mark.exists()


def test_an_hdf5_file_of_objects_or_of_links_to_other_files_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    mark, secret = tmp_path / "sprung", tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["image"] = np.zeros((2, 4, 4, 3), np.uint8)
    for number, image in enumerate((np.void(pickle.dumps(Trap(mark))), h5py.ExternalLink(str(secret), "image"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        with h5py.File(folder / "final_aes_emo.h5", "w") as file:
            file["image"] = image
            file["aes"], file["emo"] = np.eye(2)[[0, 1]], np.eye(8)[[0, 1]]
        with pytest.raises(ValueError, match="final_aes_emo.h5: 'image' is not an array of its own"):
            iae.read(folder)
    assert not mark.exists()


def test_a_matlab_file_that_is_none_is_named(tmp_path):
    from scipy.io import savemat

    mark = tmp_path / "sprung"
    for name, data in (("pickle.mat", pickle.dumps(Trap(mark))), ("empty.mat", b""), ("cut.mat", None)):
        file = tmp_path / name
        if data is None:
            savemat(file, {"subjID": np.arange(50.0), "item": np.arange(50.0), "beauty": np.arange(50.0)})
            data = file.read_bytes()[:400]
        file.write_bytes(data)
        with pytest.raises(ValueError, match=f"{name}: not a whole MATLAB file") as caught:
            oasis._ratings(file, pd.Series([1, 2, 3]))
        assert "\n" not in str(caught.value)
    objects = tmp_path / "objects.mat"
    savemat(objects, {name: np.array([{"a": 1}, "x"], dtype=object) for name in ("subjID", "item", "beauty")})
    with pytest.raises(ValueError, match="objects.mat: expected the variables subjID, item, beauty, numbers"):
        oasis._ratings(objects, pd.Series([1, 2, 3]))
    assert not mark.exists()


FORBIDDEN = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle", "zipfile", "tarfile"}


def test_no_source_unpickles_evaluates_or_unpacks():
    """Nothing is unpacked, so no archive can lead out of its folder; tensors and arrays are read as such alone."""
    unsafe_places = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name.split(".")[0] for a in node.names] if isinstance(node, ast.Import) else []
            names += [(node.module or "").split(".")[0]] if isinstance(node, ast.ImportFrom) and not node.level else []
            unsafe_places += [f"{path.name}: imports {name}" for name in FORBIDDEN.intersection(names)]
            if isinstance(node, ast.Call):
                called, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
                unsafe = called in ("eval", "exec") or called.endswith(("read_pickle", "unpack_archive", "extractall"))
                unsafe |= called == "torch.load" and given.get("weights_only") != "True"
                unsafe |= given.get("allow_pickle") == "True" or called == "yaml.load"
                unsafe_places += [f"{path.name}:{node.lineno}: {called}"] * unsafe
    assert not unsafe_places


# --- servers


class Liar(BaseHTTPRequestHandler):
    """Serves one file, and lies about it as ``server.lie`` says."""

    protocol_version = "HTTP/1.1"
    body = b"a table"

    def do_GET(self):
        lie = self.server.lie
        place = {"loop": self.path, "local file": "file:///etc/passwd"}.get(lie)
        self.send_response(302 if place else 200)
        if place:
            self.send_header("Location", place)
        length = {"long": 10 * len(self.body), "short": 3}.get(lie, 0 if place else len(self.body))
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if lie == "stall":
            self.wfile.write(self.body[:2])
            self.wfile.flush()
            self.server.waited_for = not self.server.released.wait(300)
        elif not place:
            self.wfile.write(self.body)
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def liar(monkeypatch):
    monkeypatch.setattr(download, "checksums", lambda: {"OASIS.csv": hashlib.sha256(Liar.body).hexdigest()})
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setattr(download, "TIMEOUT", 300)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    server.lie, server.released, server.waited_for = "", threading.Event(), False
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("lie", ["long", "short", "stall", "loop", "local file"])
def test_a_server_that_lies_costs_a_line_and_some_seconds(liar, tmp_path, lie, monkeypatch):
    """Longer or shorter than said, silent in the middle, or leading round and round: named, and nothing is kept."""
    liar.lie = lie
    monkeypatch.setattr(download, "TIMEOUT", 0.3 if lie == "stall" else 300)
    with pytest.raises(RuntimeError, match="^OASIS.csv: could not be downloaded from http://127") as caught:
        download.fetch(tmp_path, server=liar.url)
    assert "\n" not in str(caught.value) and not liar.waited_for
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    liar.lie = ""
    monkeypatch.setattr(download, "TIMEOUT", 300)
    assert (download.fetch(tmp_path, server=liar.url) / "OASIS.csv").read_bytes() == Liar.body


# --- names that are code to somebody


MARKUP = "<img src=x onerror=alert(1)>"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such file names")
def test_markup_in_class_and_file_names_stays_text(tmp_path):
    """Through a run into its tables and, by way of the inspector's page, into a browser (see tests/browser)."""
    with (tmp_path / "labels.csv").open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["path", "emotion"])
        for i in range(24):
            name = f"{i}<script>.png"
            Image.new("RGB", (40, 40), (10 * i, 0, 200 * (i % 2))).save(tmp_path / name)
            rows.writerow([name, (MARKUP, "</script><b>")[i % 2]])
    run = train(Config(data="csv", method="shared_bottom", preset="smoke", settings={"epochs": 1}), tmp_path / "runs",
                tmp_path)
    assert run.tasks[0].classes == ("</script><b>", MARKUP)
    assert set(run.predictions()["emotion"]) <= {MARKUP, "</script><b>"}
    assert digest(run.described) == run.hash


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are no text")
def test_a_class_name_that_is_no_text_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected text"):
        Task("emotion", ("awe", os.fsdecode(b"\xff")))
