"""The shadow behind the ledgers: whose it is, and that it is the spread of what the null's networks say."""

import numpy as np
import pytest

from aesthemo_lib.attribution.ledger import trunk_ledger
from aesthemo_lib.files import read_json, write_json
from aesthemo_lib.inspector import null
from aesthemo_lib.models.inference import image_batches
from aesthemo_lib.models.networks import build
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import Config, prepare, train
from aesthemo_studies import null_bars


@pytest.fixture(scope="module")
def run(colours_root, tmp_path_factory) -> Run:
    return train(Config(data="csv", preset="smoke"), tmp_path_factory.mktemp("runs"), colours_root)


def test_the_shadow_is_the_spread_of_the_nulls_own_ledgers(run, colours_root, tmp_path):
    out = tmp_path / "bars.json"
    write_json(out, {"networks": [{**dict.fromkeys(null_bars.KIND, "other"), "tasks": {}, "note": "stays"}]})
    null_bars.write_null(run, tmp_path / "null", 2, colours_root, out)
    kept, made = read_json(out)["networks"]
    assert kept["note"] == "stays" and made["data"] == "csv" and "2 networks a task" in made["note"]
    values = []
    for seed in (0, 1):
        config = Config(data="csv", preset="smoke", seed=seed, labels={"permute": ["emotion"]})
        (folder,) = (tmp_path / "null" / "without-emotion").rglob(f"split0-seed{seed}")
        again = Run(folder)
        assert again.described["labels"] == {"permute": ["emotion"]}
        prepared = prepare(config, colours_root)
        network, mean = again.network()
        (images,) = image_batches(network, prepared.pixels, prepared.split.test, mean, 32, batch=999)
        values.append(np.diff(trunk_ledger(network, images)["aesthetics"].values, axis=1))
    values = np.sort(np.concatenate(values), axis=0)  # (N, 1, P)
    low, high = (np.array(made["tasks"]["aesthetics"][side]) for side in ("low", "high"))
    assert (low[:, 0] == 0).all() and (high[:, 0] == 0).all(), "the own bar has no shadow"
    inside = (values >= low - 1e-4) & (values <= high + 1e-4)
    share = inside[:, :, 1:].mean(axis=0)
    assert (np.abs(share - 0.9) <= 3 / len(values)).all(), share


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
    assert "has none for" in null.null_bars(run, 3)["note"], "of another number of layers"
    write_json(tmp_path / null.NULL, {"networks": []})
    assert "has none for cross_branch.diagonal, smoke, csv" in null.null_bars(run, 2)["note"]
