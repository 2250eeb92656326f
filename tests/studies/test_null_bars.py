"""The shadow behind the ledgers: whose it is, and that it is the spread of what the null's networks say."""

import numpy as np
import pytest

from aesthemo_lib.attribution.ledger import Ledger, layer_ledger, trunk_ledger
from aesthemo_lib.attribution.streams import Stream
from aesthemo_lib.files import read_json, write_json
from aesthemo_lib.inspector import null
from aesthemo_lib.models.inference import image_batches
from aesthemo_lib.models.networks import build
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import Config, prepare, train
from aesthemo_studies import null_bars
from aesthemo_studies.attribution_checks import ledgers as checks


@pytest.fixture(scope="module")
def run(colours_root, tmp_path_factory) -> Run:
    return train(Config(data="csv", preset="smoke"), tmp_path_factory.mktemp("runs"), colours_root)


def test_the_shadow_is_the_spread_of_the_nulls_own_ledgers(run, colours_root, tmp_path):
    out = tmp_path / "bars.json"
    write_json(out, {"networks": [{**dict.fromkeys(null_bars.KIND, "other"), "tasks": {}, "note": "stays"}]})
    null_bars.write_null(run, tmp_path / "null", 2, colours_root, out)
    kept, made = read_json(out)["networks"]
    assert kept["note"] == "stays" and made["data"] == "csv" and "2 networks a task" in made["note"]
    values, layers, means = [], [], []
    for seed in (0, 1):
        config = Config(data="csv", preset="smoke", seed=seed, labels={"permute": ["emotion"]})
        (folder,) = (tmp_path / "null" / "without-emotion").rglob(f"split0-seed{seed}")
        again = Run(folder)
        assert again.described["labels"] == {"permute": ["emotion"]}
        prepared = prepare(config, colours_root)
        network, mean = again.network()
        (images,) = image_batches(network, prepared.pixels, prepared.split.test, mean, 32, batch=999)
        ledger = trunk_ledger(network, images)["aesthetics"]
        values.append(np.diff(ledger.values, axis=1))
        layers.append(np.diff(layer_ledger(network, images)[2, "aesthetics"].values, axis=1))
        answers = np.stack([of[c] for of, c in zip(ledger.values, ledger.logits.argmax(1), strict=True)])
        half = 1.6449 * np.sqrt(answers.var(axis=0, ddof=1) / 24)
        means.append(np.stack([answers.mean(axis=0) - half, answers.mean(axis=0) + half]))
    values = np.sort(np.concatenate(values), axis=0)  # (N, 1, P)
    low, high = (np.array(made["tasks"]["aesthetics"][side]) for side in ("low", "high"))
    assert (low[:, 0] == 0).all() and (high[:, 0] == 0).all(), "the own bar has no shadow"
    inside = (values >= low - 1e-4) & (values <= high + 1e-4)
    share = inside[:, :, 1:].mean(axis=0)
    assert (np.abs(share - 0.9) <= 3 / len(values)).all(), share
    for side, quantile, extreme in (("low", 0.05, np.min), ("high", 0.95, np.max)):
        bars = np.quantile(np.concatenate(layers), quantile, axis=0)
        bars[:, 0] = 0
        np.testing.assert_allclose(made["layer 2"]["aesthetics"][side], bars, atol=1e-4)
        np.testing.assert_allclose(made["means"]["aesthetics"][side], extreme(means, axis=(0, 1)), atol=1e-4)
    assert set(made) == {*null_bars.KIND, "tasks", "means", "layer 1", "layer 2", "note"}


def test_what_lies_beyond_counts_what_is_borrowed_and_nothing_else():
    """One image whose own stream, borrowed one and both ways via the other branch lie 1, 2, 4 and 8 beyond."""
    streams = [Stream(1, "emotion", "emotion"), Stream(1, "emotion", "aesthetics"),
               Stream(1, "aesthetics", "aesthetics"), Stream(1, "aesthetics", "emotion")]
    values = np.zeros((1, 2, 4))
    values[0, 1] = 2, 3, 5, 9
    ledger = Ledger("emotion", tuple("abcd"), tuple(streams), values, values.sum(2), np.zeros((1, 2)))
    bars = {"low": [[-1] * 4], "high": [[1] * 4]}
    assert null.beyond(ledger, bars) == 2
    assert checks.beyond_null(ledger, bars, ("sad", "happy")) == (
        "emotion, happy minus sad: borrowed +3.00; +2.00 of it lies beyond the null")


def test_the_cheaper_null_has_the_other_branch_as_it_was_before_its_training(run, colours_root, tmp_path):
    null_bars.write_null(run, tmp_path, 0, colours_root, tmp_path / "bars.json", null="untrained")
    (made,) = read_json(tmp_path / "bars.json")["networks"]
    assert "the other branch as it was before its training" in made["note"]
    (network, mean), start = run.network(), build("cross_branch", run.tasks, "tiny", "none", "diagonal").state_dict()
    network.load_state_dict({name: start[name] if name.startswith("branches.1.") else values
                             for name, values in network.state_dict().items()})
    prepared = prepare(Config(data="csv", preset="smoke"), colours_root)
    (images,) = image_batches(network, prepared.pixels, prepared.split.test, mean, 32, batch=999)
    values = np.diff(trunk_ledger(network, images)["aesthetics"].values, axis=1)
    for side, share in (("low", 0.05), ("high", 0.95)):
        bars = np.array(made["tasks"]["aesthetics"][side])
        np.testing.assert_allclose(bars[:, 1:], np.quantile(values, share, axis=0)[:, 1:], atol=1e-4)


def test_it_stands_behind_its_own_kind_of_run_alone(run, tmp_path, monkeypatch):
    monkeypatch.setattr(null, "project_folder", lambda: tmp_path)
    assert null.null_bars(run, 2)["note"].startswith(f"No null stands behind the bars: {null.NULL} has none for")
    kind = {key: run.described[key] for key in null.KIND}
    bars = {"low": [[-1.0, 0.0]], "high": [[1.0, 0.0]]}
    write_json(tmp_path / null.NULL, {"networks": [
        kind | {"preset": "paper", "tasks": {}, "note": "other"}, kind | {"tasks": {"emotion": bars}, "note": "so"}
    ]})
    assert null.null_bars(run, 2) == {"tasks": {"emotion": bars}, "note": "so"}
    assert set(null.null_bars(run, 2, "layer 1")) == {"note"}, "of trunk ledgers only"
    assert "has none for" in null.null_bars(run, 3)["note"], "of another number of layers"
    write_json(tmp_path / null.NULL, {"networks": []})
    assert "has none for cross_branch.diagonal, smoke, csv" in null.null_bars(run, 2)["note"]
