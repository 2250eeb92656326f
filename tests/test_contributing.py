"""CONTRIBUTING.md's four ways to extend the house run as they stand there, and do what they say."""

import re
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from test_house import FLOORS, PROJECT, READING_PATH

from aesthemo_lib.attribution.ledger import trunk_ledger
from aesthemo_lib.data import readers
from aesthemo_lib.models import backbones, networks
from aesthemo_lib.tasks import PATENT_TASKS
from aesthemo_lib.training.runs import Config, train

TEXT = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SNIPPETS = dict(re.findall(r"<!-- run: (.*?) -->\n```python\n(.*?)```", TEXT, flags=re.DOTALL))


def run(snippet: str, name: str) -> ModuleType:
    """A snippet as a module."""
    module = ModuleType(name)
    exec(compile(SNIPPETS[snippet], f"CONTRIBUTING.md, {snippet}", "exec"), module.__dict__)
    return module


def test_each_way_is_about_twenty_lines():
    assert set(SNIPPETS) == {"a data set", "a backbone", "a method", "a study"}
    for name, code in SNIPPETS.items():
        assert len([line for line in code.splitlines() if line.strip()]) <= 22, name


def test_the_house_names_what_is_there_in_the_order_of_the_floors():
    (house,) = re.findall(r"```text\n(.*?)```", TEXT, flags=re.DOTALL)
    rows = [line.split("|")[1] for line in house.splitlines() if "|" in line]
    rows = [re.findall(r"[a-z_]{2,}", row.replace("__", "")) for row in rows]
    named = [name for row in reversed(rows) for name in row]
    there = {path.stem for path in PROJECT.rglob("*") if ".venv" not in path.parts}
    assert len(named) >= 25 and set(named) <= there, set(named) - there
    level = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}
    levels = [level[name] for name in named if name in level]
    assert levels == sorted(levels) and set(level) - set(named) == set()


def test_the_reading_path_is_the_one_that_is_measured():
    (path,) = re.findall(r"the \*reading path\*\): (.*?)\.\n\n", TEXT, flags=re.DOTALL)
    parts = [part.split("/") for part in re.findall(r"`([a-z_/]+)`", path)]
    assert [part[-1] for part in parts] == [name.split("/")[1] for name in READING_PATH]


@pytest.fixture
def stars(tmp_path, monkeypatch):
    """A folder in the layout that the reader is for, and the reader in its place."""
    rng, lines = np.random.default_rng(0), ["photo;person;stars"]
    for i in range(40):
        bright = i % 2
        pixels = rng.normal(80 + 90 * bright, 20, (36, 36, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"größe {i:02}.png")
        anna, ben = (4, 5) if bright else (1, 2 if i else 3)
        lines += [f"größe {i:02}.png;anna;{anna}", f"größe {i:02}.png;ben;{ben}"]
    (tmp_path / "stars.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    name = "aesthemo_lib.data.readers.stars"
    monkeypatch.setitem(sys.modules, name, run("a data set", name))
    monkeypatch.setitem(readers.READERS, "stars", "stars")
    return tmp_path


def test_a_data_set_is_read_and_trained_on(stars, tmp_path_factory):
    images = readers.read("stars", stars)
    np.testing.assert_array_equal(images.votes["aesthetics"][:3], [[1.5, 0.5], [0, 2], [2, 0]])
    assert [path.name for path in images.paths[:2]] == ["größe 00.png", "größe 01.png"]
    strict = readers.read("stars", stars, middle=4.5)
    np.testing.assert_array_equal(strict.votes["aesthetics"][1], [1, 1])  # 4 is low now, 5 still high
    config = Config("stars", "shared_bottom", preset="smoke", settings={"epochs": 1})
    finished = train(config, tmp_path_factory.mktemp("runs"), stars)
    assert finished.metrics["aesthetics"]["n"] == 10 and 0 < images.one_rater_accuracy("aesthetics") <= 1


def test_a_backbone_is_the_network_that_it_splits(monkeypatch):
    monkeypatch.setattr(backbones, "BUILDERS", dict(backbones.BUILDERS))  # what is added is gone afterwards
    module = run("a backbone", "alexnet")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        branch = backbones.backbone("alexnet", 3, "none")
        torch.manual_seed(0)
        whole = module.torchvision.models.alexnet(num_classes=3)
    maps, channels = torch.rand(2, 3, 64, 64), []
    expected = whole.eval()(maps)
    for group in branch.groups.eval():
        maps = group(maps)
        channels.append(maps.shape[1])
    assert channels == branch.channels and maps.shape[-1] == 1
    torch.testing.assert_close(branch.head.eval()(maps), expected)
    joint = networks.build("cross_branch", PATENT_TASKS, "alexnet", "none", "diagonal")
    assert joint(torch.rand(2, 3, 64, 64))["emotion"].shape == (2, 8) and len(joint.exchanges) == 2


def test_a_method_is_its_formula_and_can_be_explained(colours_root, tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "METHODS", dict(networks.METHODS))
    module = run("a method", "gated")
    layer, maps = module.GatedLayer(3, 2), [torch.rand(1, 2, 4, 4) for _ in range(3)]
    for mixed, own in zip(layer(maps), maps, strict=True):
        assert torch.equal(mixed, own)  # shut at the start
    torch.nn.init.constant_(layer.gates, 0.5)
    torch.testing.assert_close(layer(maps)[1], maps[1] + 0.25 * (maps[0] + maps[2]))
    finished = train(Config("csv", "gated", preset="smoke", settings={"epochs": 1}), tmp_path, colours_root)
    network, _ = finished.network("cpu")
    assert any(gate.abs().max() > 0 for gate in network.exchange_parameters())
    for ledger in trunk_ledger(network, torch.rand(2, 3, 32, 32)).values():
        assert len(ledger.players) == 3 and ledger.residual().max() < 1e-4


def test_a_study_of_ones_own_is_run_and_gathered(tmp_path, monkeypatch):
    module = run("a study", "epochs_study")
    monkeypatch.setattr(module, "train", lambda config, out, root, redo: SimpleNamespace(
        metrics={"emotion": {"accuracy": config.settings["epochs"] / 4}}))
    study = module.study(tmp_path, preset="smoke")
    study.run(at_once=1)
    table = study.gather()
    assert table["accuracy"].tolist() == [0.25, 0.5, 1.0] * 3 and table["split"].tolist() == [0] * 3 + [1] * 3 + [2] * 3
