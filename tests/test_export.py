"""Exported networks, used as another program would: by what network.json says, and nothing of this library."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from aesthemo_lib import cli, export
from aesthemo_lib.prediction import Predictor, packaged_run
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import Config, train


@pytest.fixture(scope="module")
def run(colours_root, tmp_path_factory) -> Run:
    config = Config(data="csv", preset="smoke", settings={"epochs": 1})
    return train(config, tmp_path_factory.mktemp("runs"), colours_root)


def as_described(described: dict, paths) -> np.ndarray:
    """Photographs as network.json asks for them, by Pillow: (N, 3, s, s) float32."""
    assert described["input"]["channels"] == ["red", "green", "blue"] and described["input"]["range"] == [0, 255]
    stretched = []
    for path in paths:
        image = Image.open(path).convert("RGB")
        for side in (described["resize"], described["crop"]):
            image = image.resize((side, side), Image.Resampling.BILINEAR)
        stretched.append(np.asarray(image, dtype=np.float32).transpose(2, 0, 1))
    pixels = np.stack(stretched)
    assert list(pixels.shape[1:]) == described["input"]["shape"][1:]
    return pixels


def check_answers(logits, described: dict, table, tolerance: float) -> None:
    """Logits by task against what ``predict`` tabled of the same photographs."""
    for (task, of_task), values in zip(described["outputs"].items(), logits, strict=True):
        shares = np.exp(values - values.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        for number, label in enumerate(of_task["classes"]):
            np.testing.assert_allclose(shares[:, number], table[f"{task}_{label}"], atol=tolerance)


def test_a_run_becomes_a_program_and_onnx_that_answer_as_it_does(run, colours_root, tmp_path, capsys):
    runtime = pytest.importorskip("onnxruntime", reason="needs the packages of requirements-test.lock")
    pytest.importorskip("onnxscript", reason="needs the packages of requirements-test.lock")
    out = tmp_path / "für andere"
    assert cli.main(["export", str(run.folder), "--out", str(out)]) == 0
    names = ["network.pt2", "network.onnx", "network.json"]
    assert capsys.readouterr().out.splitlines()[-3:] == [str(out / name) for name in names]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    described = json.loads((out / "network.json").read_text(encoding="utf-8"))
    assert described["run"]["hash"] == run.hash and described["std"] == [0.5, 0.5, 0.5]
    paths = sorted(colours_root.glob("*.png"))[:5]
    pixels, table = as_described(described, paths), Predictor(run).predict(paths)
    program = torch.export.load(out / "network.pt2").module()
    session = runtime.InferenceSession(out / "network.onnx")
    assert [i.name for i in session.get_inputs()] == ["pixels"]
    for count in (1, 5):  # of any batch size
        part, expected = pixels[:count], table[:count]
        check_answers([v.detach().numpy() for v in program(torch.from_numpy(part))], described, expected, 1e-3)
        check_answers(session.run(list(described["outputs"]), {"pixels": part}), described, expected, 1e-3)


def test_the_bundled_network_without_onnxs_packages_is_a_program_and_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    assert cli.main(["export", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err == "aesthemo: without ONNX; for that: pip install onnxscript onnxruntime\n"
    described = json.loads((tmp_path / "out" / "network.json").read_text(encoding="utf-8"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["network.json", "network.pt2"]
    noise = np.random.default_rng(1).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    pixels = as_described(described, [tmp_path / "noise.png"])
    program = torch.export.load(tmp_path / "out" / "network.pt2").module()
    table = Predictor(packaged_run("photographs")).predict([tmp_path / "noise.png"])
    check_answers([v.detach().numpy() for v in program(torch.from_numpy(pixels))], described, table, 1e-4)


def test_a_network_that_answers_otherwise_than_its_run_is_not_written(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    write = export._write_program
    monkeypatch.setattr(export, "_write_program", lambda *given: [values + 2e-4 for values in write(*given)])
    assert cli.main(["export", str(run.folder), "--out", str(tmp_path / "out")]) != 0
    said = capsys.readouterr().err
    assert "network.pt2 was not written: its logits differ" in said and said.count("\n") == 1
    assert not list((tmp_path / "out").iterdir())
