"""The protocol on IAE: the whole path on a small set in IAE's layout, the counted cost, and the form of its file."""

import copy
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aesthemo_lib.data import readers
from aesthemo_lib.evaluation import comparison
from aesthemo_lib.training import run as runs_run, runs
from aesthemo_lib.training.config import Config
from aesthemo_studies import iae_protocol, reproduce
from aesthemo_studies.__main__ import main

PROJECT = Path(__file__).resolve().parents[2]
METHODS = ["cross_branch.diagonal", "independent"]


@pytest.fixture(scope="module")
def iae(tmp_path_factory) -> Path:
    """64 squares in the layout of IAE's package: bright ones are high, a coloured stripe's height is the emotion."""
    h5py = pytest.importorskip("h5py")
    root, rng = tmp_path_factory.mktemp("IAE é"), np.random.default_rng(0)
    (root / "images").mkdir()
    high, emotion = np.arange(64) % 2, np.arange(64) // 2 % 8
    for n in range(64):
        pixels = rng.normal(80 + 80 * high[n], 20, (40, 40, 3))
        pixels[5 * emotion[n]:5 * emotion[n] + 5] = 250 * (np.arange(3) == emotion[n] % 3)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / "images" / str(n), format="PNG")
    part = np.repeat(["train", "val", "test"], [32, 16, 16])
    for name in ("train", "val", "test"):
        for short, labels in (("aes", high), ("emo", emotion)):
            lines = [f"{n} {labels[n]}" for n in np.flatnonzero(part == name)]
            (root / f"{name}_{short}_list.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    scores = np.where(high[:, None] == 1, 7, 4) + 3 * rng.integers(-1, 2, (64, 10)) * (np.arange(10) < 4)
    with h5py.File(root / "scores.h5", "w") as file:
        file["score"] = np.c_[scores, scores.sum(axis=1)].astype(np.float32)
    return root


@pytest.fixture(scope="module")
def rehearsal(iae, tmp_path_factory) -> Path:
    """``reproduce`` itself with preset smoke; each training runs in this process instead of a notebook's kernel."""
    out = tmp_path_factory.mktemp("runs é")

    def train(parameters: dict, folder: Path) -> Path:
        words = {name: parameters[name] for name in ("data", "method", "preset", "split", "seed")}
        run = runs.train(Config(variant=parameters["variant"] or None, **words), out, parameters["root"], redo=True)
        (run.folder / "03_train.ipynb").write_text("{}", encoding="utf-8")
        return run.folder

    with pytest.MonkeyPatch.context() as patch:  # two of the methods, to save time
        patch.setattr(reproduce, "OTHER_METHODS", (("independent", ""), ("cross_branch", "diagonal")))
        patch.setattr(reproduce, "READING_NOTEBOOKS", ())
        patch.setattr(reproduce, "FIRST_NOTEBOOKS", ())
        patch.setattr(reproduce, "execute_training", train)
        reproduce.reproduce("iae", iae, "smoke", out)
    return out / "iae"


def test_an_official_split_is_run_with_several_seeds(rehearsal, iae):
    rows = comparison.collect(rehearsal, "smoke")
    assert set(zip(rows["method"], rows["split"], rows["seed"], strict=True)) == {
        (method, 0, seed) for method in METHODS for seed in range(3)}
    tested = set((iae / "test_aes_list.txt").read_text(encoding="utf-8").split()[::2])
    for path in rehearsal.rglob("metrics.json"):
        assert set(runs_run.Run(path.parent).predictions()["image"].astype(str)) == tested
    one, other = (runs_run.Run(rehearsal / "independent" / "smoke" / f"split0-seed{seed}") for seed in (0, 1))
    assert one.metrics != other.metrics, "another seed must be another training"


def test_drawn_splits_are_still_runs_of_their_own():
    configs = reproduce.planned("oasis", "teach", fixed=False)
    assert {(config.split, config.seed) for config in configs} == {(0, 0), (1, 1), (2, 2)}
    assert len(configs) == 3 * len(reproduce.OTHER_METHODS)


def test_runs_fill_the_protocol(rehearsal, iae, tmp_path, capsys):
    file = tmp_path / "iae.json"
    assert main(["iae-protocol", str(rehearsal), "--preset", "smoke", "--json", str(file)]) == 0
    assert "partly run, 6 of 12 runs" in capsys.readouterr().out
    kept = iae_protocol.read(file)
    assert [(row["method"], row["seed"]) for row in kept["rows"]] == [(m, seed) for m in METHODS for seed in range(3)]
    row, folder = kept["rows"][5], rehearsal / "independent" / "smoke" / "split0-seed2"
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["tasks"]
    assert row["tasks"]["emotion"]["auc"] == metrics["emotion"]["auc"] and row["tasks"]["aesthetics"]["n"] == 16
    assert row["hashes"]["images"] == readers.read("iae", iae).fingerprint()
    assert row["hashes"]["model"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert row["environment"]["device"] == "cpu" and len(row["environment"]["commit"]) == 40


def test_a_table_of_the_official_split_has_no_overlap_of_splits(rehearsal):
    rows = comparison.collect(rehearsal, "smoke")
    lines = comparison.markdown_table(rows).splitlines()
    line = next(line for line in lines if line.startswith("| aesthetics | cross"))
    values = rows[(rows["method"] == "cross_branch.diagonal") & (rows["task"] == "aesthetics")]["log_loss"]
    half = 4.302653 * values.std() / 3**0.5  # three seeds are three draws on one split: nothing is shared but the split
    assert f"{values.mean():.3f} ({values.mean() - half:.3f}".replace("0.", ".") in line


def test_a_run_that_is_not_the_protocols_is_refused(rehearsal):
    run = runs_run.Run(rehearsal / "independent" / "smoke" / "split0-seed0")
    with pytest.raises(ValueError, match="preset is 'smoke', not 'paper'; .*settings.epochs is 2, not 30"):
        iae_protocol.row(run)
    for name, value in (("seed", 7), ("split", 1), ("settings", run.described["settings"] | {"epochs": 3})):
        other = copy.copy(run)
        other.described = run.described | {name: value}
        with pytest.raises(ValueError, match="not in the protocol|split is 1, not 0|settings.epochs is 3, not 2"):
            iae_protocol.row(other, "smoke")


# --- the committed file


def test_the_committed_protocol_is_the_one_that_would_be_run():
    kept, now = iae_protocol.read(PROJECT / "results" / "iae.json"), iae_protocol.content()
    for part in ("protocol", "expected", "command", "fill"):
        assert kept[part] == now[part], f"stale in {part}: run 'python -m aesthemo_studies iae-protocol'"
    assert kept["rows"] or kept["status"] == "not yet run"
    assert kept["protocol"]["settings"]["backbone"] == "vgg16" and kept["protocol"]["loss_weights"]["emotion"] == 0.25


def test_the_cost_is_counted():
    """VGG16 at 224 px, twice, with 2 and 8 classes: against torchvision's figures and plain sums."""
    cost = iae_protocol.expected()["methods"]["independent"]
    # torchvision states 15.47 G and 138,357,544 parameters, of which 4097 x 1000 are the layer that is replaced
    assert cost["million_parameters"] == pytest.approx((2 * (138_357_544 - 4_097_000) + 4097 * 10) / 1e6, abs=1e-3)
    assert cost["million_multiplies_an_image"] == pytest.approx(2 * 15_470, rel=1e-3)
    assert cost["gpu_hours"] == pytest.approx(2 * 2 * 15.466e9 * 22086 * 91 / 40e12 / 3600, rel=1e-3)
    # conv and ReLU put out the same, each pool a quarter of it: (side, channels, convs) of the five groups
    maps = [(224, 64, 2), (112, 128, 2), (56, 256, 3), (28, 512, 3), (14, 512, 3)]
    outputs = sum(side**2 * k * (2 * convs + 0.25) for side, k, convs in maps)
    outputs += 25088 * 2 + 4096 * 6  # average pool and flatten; two layers with ReLU and dropout
    assert cost["gpu_memory_gb"] == round((20 * 268.562e6 + 4 * 32 * (2 * outputs + 10)) / 1e9, 1)


EXAMPLE = {
    "method": "cross_branch.random", "split": 0, "seed": 1, "epochs": 14, "training_seconds": 2710.5,
    "tasks": {task: {"auc": 0.8, "log_loss": 0.6, "balanced_accuracy": 0.7, "accuracy": 0.75,
                     "majority_accuracy": 0.58, "n": 3000, "spearman": None} for task in ("aesthetics", "emotion")},
    "environment": {"aesthemo_lib": "0.1.0", "torch": "2.14.1", "python": "3.11.2", "system": "Linux", "device": "cuda",
                    "commit": None},
    "hashes": dict.fromkeys(("config", "images", "predictions", "model"), "0" * 64),
}


@pytest.fixture(scope="module")
def empty() -> dict:
    return iae_protocol.read(PROJECT / "results" / "iae.json") | {"rows": [], "status": "not yet run"}


def test_a_filled_example_is_taken(empty):
    assert iae_protocol.checked(empty | {"rows": [EXAMPLE], "status": "partly run"})["rows"] == [EXAMPLE]
    names = [(method, seed) for method in empty["protocol"]["methods"] for seed in (0, 1, 2)]
    full = [EXAMPLE | {"method": method, "seed": seed} for method, seed in names]
    iae_protocol.checked(empty | {"rows": full, "status": "complete"})


@pytest.mark.parametrize(("place", "value", "says"), [
    (("seed",), 3, "cross_branch.random with seed 3 is not in the protocol"),
    (("method",), "nddr", "nddr with seed 1 is not in the protocol"),
    (("split",), 1, r"rows\[0\].split: 0 was expected"),
    (("tasks", "emotion", "auc"), 1.2, r"rows\[0\].tasks.emotion.auc: 1.2 is greater than the maximum"),
    (("tasks", "emotion", "log_loss"), None, None),
    (("tasks", "emotion", "log_loss"), float("nan"), "a number is not finite"),
    (("tasks", "emotion"), {}, "'auc' is a required property"),
    (("tasks", "arousal"), {}, "arousal"),
    (("hashes", "model"), "abc", r"hashes.model: 'abc' does not match"),
    (("environment", "torch"), 2, r"environment.torch: 2 is not of type"),
    (("environment",), {}, "'aesthemo_lib' is a required property"),
    (("training_seconds",), 0, "training_seconds: 0 is less than or equal to the minimum"),
    (("note",), "mine", "'note' was unexpected"),
])
def test_wrong_rows_are_refused(empty, place, value, says):
    row = copy.deepcopy(EXAMPLE)
    target = row
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    record = empty | {"rows": [row], "status": "partly run"}
    if says is None:
        iae_protocol.checked(record)
        return
    with pytest.raises(ValueError, match=says) as fault:
        iae_protocol.checked(record, "results/iae.json")
    assert "\n" not in str(fault.value) and str(fault.value).startswith("results/iae.json: $")


def test_status_and_rows_must_fit(empty):
    other = EXAMPLE | {"seed": 2, "hashes": EXAMPLE["hashes"] | {"images": "1" * 64}}
    for rows, status, says in (([EXAMPLE], "complete", "expected 'partly run'"), ([], "complete", "'not yet run'"),
                               ([EXAMPLE, EXAMPLE], "partly run", "stands there more than once"),
                               ([EXAMPLE, other], "partly run", "different images"), ([], "soon", "is not one of")):
        with pytest.raises(ValueError, match=says):
            iae_protocol.checked(empty | {"rows": rows, "status": status})


def test_no_runs_is_one_line(tmp_path, capsys):
    assert main(["iae-protocol", str(tmp_path), "--json", str(tmp_path / "iae.json")]) == 1
    assert "holds no finished run" in capsys.readouterr().err and os.listdir(tmp_path) == []
