"""Numbers at the edge: what is done is defined, and equal seeds give equal bytes."""

from dataclasses import replace

import killing
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import log_loss

from aesthemo_lib.attribution.ledger import trunk_ledger
from aesthemo_lib.attribution.maps import STREAM_MAPS, integrated_gradients, stream_map
from aesthemo_lib.attribution.streams import streams
from aesthemo_lib.evaluation.metrics import softmax, task_metrics
from aesthemo_lib.models.networks import build
from aesthemo_lib.plots.attribution import signed_maps
from aesthemo_lib.plots.style import png
from aesthemo_lib.tasks import PATENT_TASKS
from aesthemo_lib.training.fit import Data, Diverged, Settings, fit
from aesthemo_lib.training.runs import Config, train

CPU = torch.device("cpu")
SETTINGS = Settings("tiny", "none", resize=20, crop=16, batch=8, epochs=1, patience=1, learning_rate=0.01)


def data(pixels=None, n=24) -> Data:
    """Noise, or the given pixels; the mean image is that of the training rows."""
    if pixels is None:
        pixels = np.random.default_rng(0).integers(0, 255, (n, 20, 20, 3), dtype=np.uint8)
    rows = np.arange(n)
    labels = {"aesthetics": rows % 2, "emotion": rows % 8}
    return Data(pixels, pixels[:16].mean(axis=0).astype(np.float32), labels, rows[:16], rows[16:])


def network(method="cross_branch"):
    return build(method, PATENT_TASKS, "tiny", "none", "diagonal" if method == "cross_branch" else None)


def test_nan_that_comes_in_stops_the_training_at_once():
    """Pixels are bytes and can't be NaN; a mean image or weights from a file can."""
    broken = data()
    broken.mean[3, 3] = np.nan
    with pytest.raises(Diverged, match="the training loss became nan in epoch 1 .*check the images and labels"):
        fit(network(), broken, SETTINGS, 0, CPU)
    net = network()
    next(iter(net.parameters())).data[0] = float("nan")
    with pytest.raises(Diverged, match="became nan in epoch 1"):
        fit(net, data(), SETTINGS, 0, CPU)


def test_an_exploding_loss_leaves_the_last_good_state(tmp_path):
    """The learning rate is right for the first epochs and then far too large: what was kept is from before."""
    good = fit(network(), data(), replace(SETTINGS, epochs=2, patience=2), 0, CPU, tmp_path)
    with pytest.raises(Diverged, match=r"the (training|validation) loss (became|is).*lower learning_rate"):
        fit(network(), data(), replace(SETTINGS, epochs=6, patience=6, learning_rate=1e9), 0, CPU, tmp_path)
    (state,) = tmp_path.glob("epoch-*")
    assert len(good) == 2 and state.name == "epoch-2"


def test_denormals_are_numbers():
    """Weights of 1e-40 neither slow a step beyond measure nor make it NaN, and extreme logits have finite scores."""
    net = network()
    for parameter in net.parameters():
        parameter.data.fill_(1e-40)
    (row,) = fit(net, data(), SETTINGS, 0, CPU)
    assert np.isfinite(row["train_loss"]) and all(torch.isfinite(p).all() for p in net.parameters())
    logits = np.array([[0.0, -1e4], [0.0, 1e4], [1e-310, 0.0], [-745.0, 0.0]])
    probabilities = softmax(logits)
    assert np.isfinite(probabilities).all() and probabilities.sum(axis=1) == pytest.approx(1)
    truth = np.array([1, 1, 0, 0])
    metrics = task_metrics(truth, probabilities, 0)
    assert np.isfinite(metrics["log_loss"])
    assert metrics["log_loss"] == pytest.approx(log_loss(truth, probabilities, labels=[0, 1]), rel=1e-6)


@pytest.mark.parametrize("value", [0, 255])
def test_images_without_any_contrast_are_learnt_from_without_a_fault(value):
    """Every image the same flat colour: the network sees zeros, and can only say how frequent each class is."""
    flat = np.full((24, 20, 20, 3), value, np.uint8)
    (row,) = fit(network(), data(flat), SETTINGS, 0, CPU)
    assert np.isfinite(row["train_loss"]) and np.isfinite(row["validation_loss"])


def test_a_task_without_labels_in_a_batch_moves_nothing_of_it():
    """Its loss is 0 with a gradient of 0; the branch moves only by what the other task asks, and by weight decay."""
    unlabelled = data()
    unlabelled.labels["emotion"][:] = -1
    net = network("independent").single_task(1)
    before = [p.detach().clone() for p in net.parameters()]
    (row,) = fit(net, unlabelled, replace(SETTINGS, weight_decay=0.0), 0, CPU)
    assert row["train_loss"] == row["train_loss_emotion"] == 0
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_an_attribution_that_is_zero_everywhere_is_a_map_and_a_figure():
    """A network whose head ignores its input: maps are zero, not NaN, and are drawn without a warning."""
    net = network().eval()
    for branch in net.branches:
        torch.nn.init.zeros_(branch.head[-1].weight)
    images = torch.randn(2, 3, 16, 16)
    first = streams(net)[0]
    maps = [stream_map(net, images, first, "aesthetics", 1, method, steps=4, grid=4) for method in STREAM_MAPS]
    maps.append(integrated_gradients(net, images, "aesthetics", 1, steps=4))
    for one in maps:
        assert not one.cells.any() and not one.effect.any() and not one.residual.any()
    figure = signed_maps(np.zeros((16, 16, 3)), {str(i): one.at(16)[0] for i, one in enumerate(maps)})
    assert png(figure).startswith(b"\x89PNG")
    assert all(not part.values.any() for part in trunk_ledger(net, images).values())


def train_again(out: str, root: str) -> None:
    """A job: the run of the test."""
    train(Config(data="csv", preset="smoke", seed=7), out, root)


def test_the_same_seed_twice_in_one_process_and_in_two(colours_root, tmp_path, monkeypatch):
    """A notebook and the command line are compared in test_killed.py, where kernels run anyway."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    runs = [train(Config(data="csv", preset="smoke", seed=7), tmp_path / str(i), colours_root) for i in range(2)]
    killing.finish(train_again, str(tmp_path / "other"), str(colours_root))
    (other,) = (tmp_path / "other").rglob("split0-seed7")
    for name in ("metrics.json", "model.safetensors", "history.csv", "predictions.csv"):
        first, second = ((run.folder / name).read_bytes() for run in runs)
        assert first == second == (other / name).read_bytes(), name
    assert train(Config(data="csv", preset="smoke", seed=8), tmp_path / "8", colours_root).metrics != runs[0].metrics


def test_a_constant_photograph_among_others(tmp_path):
    """One white page among photographs is an image like any other, in training, prediction and evaluation."""
    from aesthemo_lib.data.images import decode

    Image.new("L", (300, 200), 255).save(tmp_path / "white.png")
    pixels = data().pixels.copy()
    pixels[3] = decode(tmp_path / "white.png", 20)
    assert (pixels[3] == 255).all() and np.isfinite(fit(network(), data(pixels), SETTINGS, 0, CPU)[0]["train_loss"])
