"""The run that comes with the project: half precision against full precision, and what its card says."""

import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score

from aesthemo_lib import prediction
from aesthemo_lib.cli import main
from aesthemo_lib.data.readers import read
from aesthemo_lib.files import project_folder, read_json, write_json
from aesthemo_lib.prediction import Predictor
from aesthemo_lib.training.run import Run
from aesthemo_lib.training.runs import Config, open_data, train
from aesthemo_studies import pack


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(Config(preset="smoke"), tmp_path_factory.mktemp("packed é") / "runs")


def test_a_packed_run_answers_as_the_one_in_full_precision(run, tmp_path):
    packed = Run(pack.pack(run, tmp_path / "packed é"))
    sizes = [(r.folder / "model.safetensors").stat().st_size for r in (run, packed)]
    assert sizes[1] < 0.7 * sizes[0]
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole, half = (r.network("cpu")[0](images) for r in (run, packed))
    for task in whole:
        assert half[task].dtype == torch.float32 and not torch.equal(whole[task], half[task])
        torch.testing.assert_close(half[task], whole[task], rtol=0, atol=2e-3 * float(whole[task].abs().max()))
    assert packed.metrics == run.metrics and packed.hash == run.hash
    np.testing.assert_array_equal(packed.network("cpu")[1], run.network("cpu")[1])
    text = (packed.folder / "README.md").read_text(encoding="utf-8")
    assert f"{run.metrics['emotion']['auc']:.3f}" in text and "only on drawn scenes" in text
    assert str(run.folder.parents[3]) not in text + (packed.folder / "config.json").read_text(encoding="utf-8")


def test_what_may_not_be_passed_on_or_changes_too_much_is_refused_and_leaves_nothing(run, tmp_path, monkeypatch):
    out = tmp_path / "packed"
    other = shutil.copytree(run.folder, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    name = next(n for n, values in weights.items() if n.startswith("branches.0.groups.0") and values.ndim == 4)
    save_file(weights | {name: weights[name] * 1e6}, other / "model.safetensors")  # beyond float16: infinite
    with pytest.raises(ValueError, match="half precision a logit of .* moves by"):
        pack.pack(other, out)
    monkeypatch.setattr(pack, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="packed, .* takes .* MB; the most is"):
        pack.pack(run, out)
    record = {"hash": run.hash, "config": run.described | {"data": "oasis"}, "environment": {}, "deviations": []}
    write_json(other / "config.json", record)
    with pytest.raises(ValueError, match="trained on oasis.*pack a run trained on scenes"):
        pack.pack(other, out)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


# --- those that are committed


def test_the_committed_weights_give_the_committed_predictions(tmp_path_factory):
    """predictions.csv was written in full precision, before packing; only the weights were rounded since."""
    run = prediction.packaged_run()
    assert (run.folder / "model.safetensors").stat().st_size <= pack.MOST_BYTES
    config = run.described
    assert (config["data"], config["preset"], run.name) == ("scenes", "teach", "cross_branch.diagonal")
    images, table = open_data(Config()), run.predictions().iloc[:16]
    assert images.fingerprint() == config["images"], "the scenes are drawn otherwise now: train and pack it anew"
    paths = dict(zip(images.names, images.paths, strict=True))
    answers = Predictor(run, "cpu").answers([paths[name] for name in table["image"]]).probabilities
    for task in run.tasks:
        columns = [f"{task.name}_{name}" for name in task.classes]
        # It was bfloat16 that answered then, where there was any, so a probability may differ by some hundredths.
        off = np.abs(answers[task.name] - table[columns].to_numpy())
        assert off.mean() < 0.01 and off.max() < 0.1


@pytest.mark.parametrize("name, words", [
    ("scenes", ["drawn scenes", "python -m aesthemo_studies pack runs/scenes/cross_branch.diagonal/teach/split0-seed"]),
    ("photographs", ["PARA", "python -m aesthemo_studies photographs", "research and", "can't do", "OASIS"]),
])
def test_the_card_says_what_stands_beside_it(name, words):
    run = prediction.packaged_run(name)
    text = (run.folder / "README.md").read_text(encoding="utf-8")
    for task, m in run.metrics.items():
        assert f"| {task} | {m['accuracy']:.3f} | {m['majority_accuracy']:.3f} |" in text
    for word in ("Apache-2.0", "EfficientNet-Lite0", "float16", *words):
        assert word in text
    size = (run.folder / "model.safetensors").stat().st_size
    assert f"({size / 1e6:.1f} MB)" in text
    (off,) = re.findall(r"no logit is further than ([0-9.]+)", text)
    assert 0 < float(off) <= pack.MOST_OFF


def test_the_network_for_photographs_holds_nobodys_truth_and_is_the_last_stage_of_the_record():
    run = prediction.packaged_run("photographs")
    assert {path.name for path in run.folder.iterdir()} == {
        "README.md", "config.json", "familiar.safetensors", "history.csv", "metrics.json", "model.safetensors",
        "timing.json"}
    known = {name: tuple(values.shape) for name, values in load_file(run.folder / "familiar.safetensors").items()}
    assert known == {"centre": (384,), "whitening": (384, 384), "limit": ()}, "of channels, and no photograph"
    record = read_json(project_folder() / "results" / "photographs.json")
    assert record["stages"][-1]["test"] == run.metrics and run.metrics["aesthetics"]["n"] == 3000
    for what in ("beauty", "valence"):
        assert f"AUC {record['oasis'][what]:.3f}" in (run.folder / "README.md").read_text(encoding="utf-8")


def test_it_orders_beauty_on_photographs_that_it_never_saw(oasis_root):
    """A quarter of the photographs of the record, all of which gave the AUC that the card tells."""
    images = read("oasis", oasis_root)
    rows = np.arange(0, len(images), 4)
    high = Predictor(prediction.packaged_run("photographs")).predict([images.paths[row] for row in rows])
    truth = images.labels("aesthetics")[rows]
    auc = roc_auc_score(truth[truth >= 0], high["aesthetics_high"][truth >= 0])
    record = read_json(project_folder() / "results" / "photographs.json")["oasis"]
    assert auc == pytest.approx(record["beauty"], abs=0.07)
    assert auc > 0.72


def test_predict_without_a_run_takes_it_and_says_so(tmp_path, capsys):
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "own é.png")
    assert main(["predict", str(tmp_path / "own é.png"), "--csv", str(tmp_path / "a.csv")]) == 0
    said = capsys.readouterr()
    assert "25,336 photographs of PARA" in said.err and "own é.png" in said.out
    assert main(["predict", str(prediction.BUNDLED / "photographs"), str(tmp_path / "own é.png"),
                 "--csv", str(tmp_path / "b.csv")]) == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
