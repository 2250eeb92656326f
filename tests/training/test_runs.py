"""Run folders: what is in them, that they are never half-written, and that equal runs are equal."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics

from aesthemo_lib.training import runs
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import Config, RunExists, train

CONTRACT = {"config.json", "history.csv", "metrics.json", "timing.json", "predictions.csv", "model.safetensors"}
SMOKE = {"data": "csv", "preset": "smoke"}


@pytest.fixture(scope="module")
def run(colours_root, tmp_path_factory) -> Run:
    return train(Config(**SMOKE, settings={"epochs": 8, "patience": 8}), tmp_path_factory.mktemp("runs"), colours_root)


def test_a_run_folder_keeps_the_contract(run):
    assert {path.name for path in run.folder.iterdir()} == CONTRACT
    assert run.folder.parts[-4:] == ("csv", "cross_branch.diagonal", "smoke", "split0-seed0")
    content = json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))
    assert set(content) == {"tasks", "data", "method", "variant", "preset", "split", "seed", "threads",
                            "precision"}
    for values in content["tasks"].values():
        assert set(values) == {"accuracy", "balanced_accuracy", "macro_f1", "auc", "log_loss", "confusion", "n",
                               "majority_accuracy"}
    assert [path.name for path in run.folder.parent.iterdir() if not path.name.endswith(".lock")] == ["split0-seed0"]


def test_metrics_are_scikit_learns_of_the_predictions(run):
    table = run.predictions()
    for task in run.tasks:
        rows = table[table[f"true_{task.name}"] != ""]
        truth, guess = rows[f"true_{task.name}"], rows[task.name]
        got = run.metrics[task.name]
        assert got["n"] == len(rows)
        assert got["accuracy"] == pytest.approx(metrics.accuracy_score(truth, guess))
        assert got["confusion"] == metrics.confusion_matrix(truth, guess, labels=list(task.classes)).tolist()


def test_it_learns_what_the_pictures_show(run):
    assert run.metrics["aesthetics"]["accuracy"] > 0.9 > run.metrics["aesthetics"]["majority_accuracy"]


def test_the_saved_network_gives_the_saved_predictions(run, colours_root):
    from aesthemo_lib.prediction import Predictor

    table = run.predictions()
    again = Predictor(run).predict([colours_root / name for name in table["image"]])
    for task in run.tasks:
        for name in task.classes:
            column = f"{task.name}_{name}"
            np.testing.assert_allclose(again[column], table[column].astype(float), atol=2e-2)  # bfloat16, other batches


def test_equal_runs_have_equal_bytes(run, colours_root, tmp_path):
    again = train(Config(**SMOKE, settings={"epochs": 8, "patience": 8}), tmp_path, colours_root)
    for name in CONTRACT - {"timing.json"}:
        assert (again.folder / name).read_bytes() == (run.folder / name).read_bytes(), name


def test_a_finished_run_is_returned_and_another_configuration_refused(colours_root, tmp_path, monkeypatch):
    first = train(Config(**SMOKE), tmp_path, colours_root)
    stamp = (first.folder / "model.safetensors").stat().st_mtime_ns
    assert train(Config(**SMOKE), tmp_path, colours_root).hash == first.hash
    assert (first.folder / "model.safetensors").stat().st_mtime_ns == stamp
    other = Config(**SMOKE, settings={"learning_rate": 0.03})
    with pytest.raises(RunExists, match=r"\(it differs in settings.learning_rate: 0.005 there, 0.03 asked\)"):
        train(other, tmp_path, colours_root)
    assert train(other, tmp_path, colours_root, redo=True).hash != first.hash


def test_independent_is_single_task_trainings_with_weight_one(colours_root, tmp_path):
    """Its emotion branch is what a network trained on emotion alone becomes."""
    from aesthemo_lib.training.fit import Data, fit

    config = Config(**SMOKE, method="independent")
    run = train(config, tmp_path, colours_root)
    prepared = runs.prepare(config, colours_root)
    network = runs.build_network(config, prepared.images.tasks)
    single = network.single_task(1)
    labels = {"emotion": prepared.images.labels("emotion")}
    data = Data(prepared.pixels, prepared.mean, labels, prepared.split.train, prepared.split.validation)
    history = fit(single, data, config.training_settings(), 0, torch.device("cpu"))
    trained = run.network("cpu")[0].branches[1].state_dict()
    assert all(torch.equal(trained[name], value) for name, value in single.branches[0].state_dict().items())
    table = run.history()
    of_emotion = table[table["network"] == "emotion"]
    assert of_emotion["train_loss"].tolist() == pytest.approx([row["train_loss"] for row in history])
    assert (of_emotion["train_loss"] == of_emotion["train_loss_emotion"]).all()


@pytest.mark.parametrize("method", ["independent", "shared_bottom"])
def test_other_methods_leave_the_same_folder(method, colours_root, tmp_path):
    run = train(Config(**SMOKE, method=method), tmp_path, colours_root)
    assert {path.name for path in run.folder.iterdir()} == CONTRACT and run.folder.parts[-3] == method


@pytest.mark.parametrize(("given", "says"), [
    ({"data": "cifar"}, "data: unknown 'cifar'; choose one of scenes, oasis"),
    ({"preset": "fast"}, "preset: unknown 'fast'; choose one of smoke, teach, paper"),
    ({"seed": -1}, "seed: expected a whole number of 0 or more, got -1"),
    ({"settings": {"lr": 1}}, "settings: unknown 'lr'; choose one of backbone"),
    ({"settings": {"epochs": "3"}}, "settings: epochs: expected int, got '3'"),
    ({"settings": {"learning_rate": float("nan")}}, "learning_rate: expected float, got nan"),
    ({"settings": {"crop": 900}}, "expected 1 <= crop <= resize"),
    ({"method": "independent", "variant": "random"}, "has no variant 'random'"),
])
def test_bad_parameters_are_refused_before_work_starts(given, says):
    with pytest.raises(ValueError, match=says):
        Config(**given)


def test_loss_weights_reach_the_loss_and_unknown_ones_are_refused(colours_root, tmp_path):
    run = train(Config(**SMOKE, loss_weights={"emotion": 2.0}), tmp_path, colours_root)
    row = run.history().iloc[0]
    assert row["train_loss"] == pytest.approx(row["train_loss_aesthetics"] + 2 * row["train_loss_emotion"], rel=1e-5)
    with pytest.raises(ValueError, match="loss weights for unknown tasks"):
        train(Config(**SMOKE, loss_weights={"joy": 1}), tmp_path, colours_root)


def test_paper_refuses_a_backbone_outside_claim_3(colours_root):
    config = Config(data="csv", preset="paper", settings={"backbone": "vgg11", "weights": "none"})
    with torch.device("meta"), pytest.raises(ValueError, match=r"vgg11.*claim 3.*Use vgg13, vgg16 or vgg19"):
        runs.build_network(config, runs.open_data(config, colours_root).tasks)


def test_paper_runs_one_step_on_the_cpu(colours_root):
    """VGG16 pair at 224 with weights=none: one batch of two images; the loss starts at log C."""
    import math

    from aesthemo_lib.training.fit import Data, _Loop

    config = Config(data="csv", preset="paper", settings={"weights": "none", "batch": 2})
    prepared = runs.prepare(config, colours_root)
    network, settings = runs.build_network(config, prepared.images.tasks), config.training_settings()
    assert settings.backbone == "vgg16" and (settings.resize, settings.crop) == (256, 224)
    assert config.variant == "random"
    cpu, rows = torch.device("cpu"), prepared.split.train[:2]
    labels = {t.name: prepared.images.labels(t.name) for t in prepared.images.tasks}
    row = _Loop(network, settings, Data(prepared.pixels, prepared.mean, labels, rows, rows), 0, cpu, "").train(0)
    assert row["train_loss_aesthetics"] == pytest.approx(math.log(2), abs=0.05)
    assert row["train_loss_emotion"] == pytest.approx(math.log(3), abs=0.05)
    assert row["train_loss"] == pytest.approx(row["train_loss_aesthetics"] + row["train_loss_emotion"] / 4, rel=1e-5)


def test_predictions_hold_validation_and_test_images_of_the_split(run, colours_root):
    images = runs.open_data(Config(**SMOKE), colours_root)
    split = images.split(0)
    table = pd.read_csv(run.folder / "predictions.csv")
    for part in ("validation", "test"):
        assert table[table["part"] == part]["image"].tolist() == [images.paths[r].name for r in getattr(split, part)]


def test_soft_labels_are_the_votes(tmp_path):
    """The first loss that is reported is the cross-entropy with the votes, not with the consensus."""
    losses = []
    for labels in ({}, {"soft": True}):
        config = Config(data="scenes", preset="smoke", settings={"learning_rate": 0.0}, labels=labels,
                        data_options={"images": 60})
        run = train(config, tmp_path / str(len(losses)), tmp_path / "scenes")
        losses.append(run.history()["validation_loss_aesthetics"].iloc[0])
    images = runs.open_data(config, tmp_path / "scenes")
    table = run.predictions("validation")
    rows = images.split(0).validation
    p = table[["aesthetics_low", "aesthetics_high"]].to_numpy()
    votes = images.votes["aesthetics"][rows]
    assert losses[1] == pytest.approx(-(votes / votes.sum(1, keepdims=True) * np.log(p)).sum(1).mean(), rel=1e-3)
    label = images.labels("aesthetics")[rows]
    assert losses[0] == pytest.approx(-np.log(p[np.arange(len(rows)), label]).mean(), rel=1e-3)


def test_branches_start_where_a_finished_run_ended(colours_root, tmp_path):
    """From a shared trunk into two branches: with a diagonal start the pair's features are the trunk's own."""
    common = {"data": "csv", "preset": "smoke"}
    trunk = train(Config(**common, method="shared_bottom"), tmp_path, colours_root)
    settings = {"weights": str(trunk.folder), "learning_rate": 0.0, "epochs": 1, "probe_start": True}
    pair = train(Config(**common, method="cross_branch", settings=settings), tmp_path, colours_root)
    old, new = trunk.network("cpu")[0], pair.network("cpu")[0]
    for branch in new.branches:
        for mine, theirs in zip(branch.groups, old.trunk, strict=True):
            for a, b in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True):
                assert torch.equal(a, b)
    assert pair.described["settings"]["weights"] == f"run {trunk.hash[:12]}"
    with pytest.raises(ValueError, match="weights: .* holds shared_bottom on tiny; expected branches of efficientnet"):
        train(Config(**common, settings=settings | {"backbone": "efficientnet_lite0"}), tmp_path / "b", colours_root)

