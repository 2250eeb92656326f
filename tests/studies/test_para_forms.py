"""Last layers for PARA's forms of the emotion: what they read, who is tested, and the kept table."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from aesthemo_lib.data import readers
from aesthemo_lib.data.readers import para
from aesthemo_lib.models.inference import predict_logits
from aesthemo_lib.models.networks import build
from aesthemo_studies import para_forms

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """PARA's layout: of 60 and 40 pictures a third is felt as amusing, a third as sad, and a third leaves all cold."""
    root, votes = tmp_path_factory.mktemp("para"), [{"amusement": 9}, {"sadness": 9}, {"neutral": 9, "sadness": 2}]
    (root / "annotation").mkdir()
    (root / "imgs" / "session1").mkdir(parents=True)
    for part, names in (("Train", range(60)), ("Test", range(60, 100))):
        rows = []
        for i in names:
            Image.new("RGB", (8, 8), (i, 0, 0)).save(root / "imgs" / "session1" / f"iaa_pub{i}_.png")
            rows.append({"imageName": f"iaa_pub{i}_.png", "sessionId": "session1", "aestheticScore_mean": 2 + i % 2 * 2,
                         **{f"imgEmotion_{name}": votes[i % 3].get(name, 0) for name in para.EMOTIONS}})
        pd.DataFrame(rows).to_csv(root / "annotation" / f"PARA-Giaa{part}.csv", index=False)
    return root


def test_a_form_is_learnt_and_tested_where_it_has_labels(root):
    images = readers.read("para", root, emotion="felt")
    kind = np.array([int(name.split("pub")[1].split("_")[0]) % 3 for name in images.names])
    x = np.random.default_rng(0).normal(size=(len(images), 6)) + np.eye(3)[kind] @ np.eye(3, 6)
    row = para_forms.answers("imagenet", "felt", "emotion", images, x)
    split = images.split(0)
    train, test = (rows[kind[rows] < 2] for rows in (split.train, split.test))
    assert (row["train"], row["test"], row["classes"]) == (len(train), len(test), 7) and 25 <= len(test) <= 27
    scale = StandardScaler().fit(x[train])
    best = max((roc_auc_score(kind[test], LogisticRegression(C=c).fit(scale.transform(x[train]), kind[train])
                              .decision_function(scale.transform(x[test]))), c) for c in 10.0 ** np.arange(-5, 2))
    assert row["auc"] == pytest.approx(best[0], abs=0.05) and row["auc_low"] < row["auc"] < row["auc_high"]
    assert row["majority_accuracy"] == pytest.approx(
        (kind[test] == np.bincount(kind[train]).argmax()).mean(), abs=1e-6)
    everyone = para_forms.answers("imagenet", "eight", "emotion", readers.read("para", root, emotion="eight"), x)
    assert (everyone["test"], everyone["train"], everyone["classes"]) == (40, len(split.train), 8)


@pytest.mark.parametrize("method", ["linear_probe", "cross_branch"])
def test_what_enters_the_last_layers_makes_the_logits(root, method, monkeypatch):
    monkeypatch.setattr(para_forms, "SIDE", 32)
    monkeypatch.setattr(para_forms, "CHUNK", 3)
    images = readers.read("para", root)
    pixels = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    network, mean = build(method, images.tasks, "tiny", "none"), np.full((32, 32, 3), 128, np.float32)
    logits = predict_logits(network, pixels, np.arange(7), mean, 32, torch.device("cpu"))
    last = {name: (layer.weight.detach().numpy(), layer.bias.detach().numpy())
            for name, layer in network.last_layers().items()}
    for name, x in para_forms.last_inputs(network, pixels, mean).items():
        np.testing.assert_allclose(x @ last[name][0].T + last[name][1], logits[name], atol=0.02)


def test_whole_networks_are_trained_on_each_form(root, tmp_path, monkeypatch):
    small = {"backbone": "tiny", "weights": "none", "resize": 8, "crop": 8, "batch": 20, "learning_rate": 0.01}
    monkeypatch.setattr(para_forms, "TRAINING", para_forms.TRAINING | small)
    study = para_forms.trainings(tmp_path, root)
    study.run(1)
    rows = study.gather().set_index(["form", "task"])
    assert list(rows.index) == [(form, task) for form in para.FORMS for task in ("aesthetics", "emotion")]
    assert rows["classes"].tolist() == [2, 2, 2, 8, 2, 7] or list(para.FORMS) != ["positive", "eight", "felt"]
    assert set(rows["start"]) == {para_forms.WHOLE} and rows["auc"].between(0, 1).all()
    felt = rows.loc["felt", "emotion"]
    assert 25 <= felt["test"] <= 27 and felt["train"] < rows.loc["eight", "emotion"]["train"]


def test_the_kept_table_is_what_the_text_shows():
    table = pd.read_csv(PROJECT / "results" / "para_forms.csv")
    text = (PROJECT / "results" / "README.md").read_text(encoding="utf-8")
    assert para_forms.markdown(table) in text
    assert list(table.groupby("start").size()) == [6, 4, 4] and set(table["test"].iloc[:3]) == {3000}


def test_what_the_text_says_of_the_forms_is_in_the_table():
    table = pd.read_csv(PROJECT / "results" / "para_forms.csv").fillna({"form": ""})
    whole = table[table["start"] == para_forms.WHOLE].set_index(["task", "form"])
    table = table[table["start"] != para_forms.WHOLE].set_index(["form", "start"])
    text = " ".join((PROJECT / "results" / "README.md").read_text(encoding="utf-8").split())

    def shown(column: str, start: str, forms: tuple = ("eight", "felt"), minus: str = "") -> list[str]:
        values = [table[column][form, start] - (table[column][form, minus] if minus else 0) for form in forms]
        return [f"{value:.3f}".removeprefix("0") for value in values]

    gain = " and ".join(shown("auc", "photographs", ("", "positive"), "imagenet"))
    assert f"{gain} of AUC ahead of the probe" in text
    ours, theirs = (" and ".join(shown("auc", start)) for start in ("photographs", "imagenet"))
    assert f"({ours} where ImageNet's features give {theirs})" in text
    pairs = zip(shown("log_loss", "photographs"), shown("log_loss", "imagenet"), strict=True)
    assert f"log-loss higher ({', '.join(f'{ours} against {theirs}' for ours, theirs in pairs)})" in text
    trained = [f"{whole['auc']['emotion', form]:.3f}".removeprefix("0") for form in para.FORMS]
    assert f"Trained on the form itself, all layers give {', '.join(trained[:-1])} and {trained[-1]}" in text
    fewer, more = whole["train"]["aesthetics", "eight"], table["train"]["eight", "imagenet"]
    assert f"These learnt from {fewer:,} photographs, the others from {more:,}" in text
    beside = [f"{whole['auc']['aesthetics', form]:.3f}".removeprefix("0") for form in para.FORMS]
    assert f"aesthetics, trained with each of them, {min(beside)} to {max(beside)}" in text
