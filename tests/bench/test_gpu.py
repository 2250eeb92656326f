"""What must hold on a GPU, each against the same on the processor. DEVICE=cuda runs these tests, DEVICE=cpu tries them.
"""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from aesthemo_lib import distributed
from aesthemo_lib.data.batches import TrainingBatches, resize
from aesthemo_lib.device import fast_precision, pick_device
from aesthemo_lib.models import inference
from aesthemo_lib.models.inference import fast, predict_logits
from aesthemo_lib.models.networks import build
from aesthemo_lib.tasks import PATENT_TASKS
from aesthemo_lib.training import fit as loop
from aesthemo_lib.training.fit import Data, Settings, fit

pytestmark = pytest.mark.skipif("DEVICE" not in os.environ, reason="run with DEVICE=cuda, by bench/gpu.sh")
CPU = torch.device("cpu")
SETTINGS = Settings("tiny", "none", resize=20, crop=16, batch=8, epochs=3, patience=3, learning_rate=0.02)
"""Without batch statistics and dropout, so that a device changes nothing but the order of sums."""
NEAR = {"rel": 2e-3, "abs": 2e-3}


@pytest.fixture
def device() -> torch.device:
    return pick_device(os.environ["DEVICE"])


@pytest.fixture
def precise(monkeypatch):
    """float32, TF32 left out: what remains is the order of sums."""
    for module in (loop, inference):
        monkeypatch.setattr(module, "fast_precision", lambda device: torch.float32)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def data(n: int = 48) -> Data:
    rng = np.random.default_rng(0)
    labels = {"aesthetics": np.arange(n) % 2, "emotion": np.where(np.arange(n) % 5 == 4, -1, np.arange(n) % 8)}
    pixels = rng.integers(0, 100, (n, 20, 20, 3), dtype=np.uint8)
    pixels[labels["aesthetics"] == 1] += 120
    return Data(pixels, pixels.mean(axis=0).astype(np.float32), labels, np.arange(n - 8), np.arange(n - 8, n))


def network():
    return build("cross_branch", PATENT_TASKS, "tiny", "none", "diagonal")


def losses(device: torch.device, **settings) -> list[float]:
    history = fit(network(), data(), replace(SETTINGS, **settings), 1, device)
    return [row[name] for row in history for name in ("train_loss", "validation_loss")]


def test_the_device_is_the_one_asked_for_and_its_precision_is_fast(device):
    precision = fast_precision(device)
    assert device.type == os.environ["DEVICE"].partition(":")[0]
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        assert precision == torch.bfloat16
    layer, images = nn.Conv2d(3, 4, 3).to(device), torch.ones(1, 3, 8, 8, device=device)
    with fast(device):
        assert layer(images).dtype == precision


def test_crops_are_those_of_the_processor(device):
    d = data()
    made = [list(TrainingBatches(d.pixels, d.train, d.mean, (0.5,) * 3, 16, 8, 1, at).epoch(2)) for at in (CPU, device)]
    for (rows, images), (same, got) in zip(*made, strict=True):
        assert np.array_equal(rows, same)
        torch.testing.assert_close(got.cpu(), images, rtol=1e-6, atol=1e-6)


def test_training_has_the_losses_of_the_processor(device, precise):
    assert losses(device) == pytest.approx(losses(CPU), **NEAR)


def test_the_fast_precision_stays_near_them(device):
    assert losses(device) == pytest.approx(losses(CPU), rel=0.1)


def test_checkpoints_and_parts_of_a_batch_change_no_loss(device, precise):
    plain = losses(device)
    assert losses(device, checkpoint=True) == pytest.approx(plain, **NEAR)
    assert losses(device, accumulate=2) == pytest.approx(plain, **NEAR)


def test_a_compiled_network_trains_the_same(device, precise, monkeypatch):
    if device.type == "cpu":
        monkeypatch.setattr(loop, "COMPILER", "eager")  # a compiler takes minutes there
    assert losses(device, compile=True, batch=40) == pytest.approx(losses(device, batch=40), **NEAR)


def test_a_group_of_one_process_trains_the_same(device, precise, monkeypatch, tmp_path):
    plain = losses(device)
    torch.distributed.init_process_group(distributed.BACKENDS[device.type], init_method=f"file://{tmp_path}/meet",
                                         rank=0, world_size=1)
    try:
        monkeypatch.setattr(distributed, "_group", torch.distributed.new_group())
        assert losses(device) == pytest.approx(plain, **NEAR)
    finally:
        torch.distributed.destroy_process_group()


def test_resizing_differs_from_the_processors_by_a_grey_level_at_most(device):
    rng = np.random.default_rng(0)
    pixels, mean = torch.from_numpy(rng.integers(0, 256, (4, 72, 72, 3), dtype=np.uint8)), torch.zeros(72, 72, 3)
    made = [resize(pixels.to(at), mean.to(at), torch.full((3,), 1 / 255, device=at), 64).cpu() for at in (CPU, device)]
    assert (made[0] - made[1]).abs().max() <= 1.01


@pytest.mark.parametrize(("name", "side"), [("efficientnet_lite0", 64), ("vgg16", 64)])
def test_answers_are_those_of_the_processor(name, side, device, precise):
    rng = np.random.default_rng(0)
    pixels, mean = rng.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8), np.full((64, 64, 3), 128, np.float32)
    net = build("cross_branch", PATENT_TASKS, name, "none", "diagonal").eval()
    expected = predict_logits(net, pixels, np.arange(4), mean, side, CPU, exact=True)
    got = predict_logits(net.to(device), pixels, np.arange(4), mean, side, device, exact=True)
    for task, values in expected.items():
        np.testing.assert_allclose(got[task], values, rtol=1e-2, atol=1e-3 * np.abs(values).max() + 1e-6)
