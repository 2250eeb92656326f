"""Colour and texture: each number against scikit-image or plain numpy, and the network that reads them."""

import numpy as np
import pytest
import torch

from aesthemo_lib.models import appearance
from aesthemo_lib.models.networks import build
from aesthemo_lib.tasks import PATENT_TASKS


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """(2, 3, 48, 40) in 0..1 with smooth parts, noise and hard edges."""
    rng, ramp = np.random.default_rng(0), np.linspace(0, 1, 40)
    photos = 0.3 * rng.random((2, 3, 48, 40)) + 0.7 * ramp
    photos[1, :, 10:30, 5:20] = (np.array([0.02, 0.9, 0.4]))[:, None, None]
    return photos.astype(np.float32)


def test_lab_is_scikit_images(photos):
    color = pytest.importorskip("skimage.color")
    reference = [color.rgb2lab(photo.transpose(1, 2, 0)).transpose(2, 0, 1) for photo in photos]
    assert np.allclose(appearance.lab(torch.tensor(photos)), reference, atol=1e-3)


def test_gabor_energies_are_scikit_images(photos):
    filters, half = pytest.importorskip("skimage.filters"), appearance.ORIENTATIONS
    bank = appearance.gabor_bank()[:, 0].numpy()
    energy = appearance.gabor_energy(torch.tensor(photos[:, :1]), appearance.gabor_bank())
    for i in range(half):
        angle = {"theta": i * np.pi / half, "frequency": appearance.FREQUENCY}
        kernel = filters.gabor_kernel(**angle)  # of a diagonal one it keeps the middle alone
        cut = slice(7 - len(kernel) // 2, 8 + len(kernel) // 2)
        assert np.allclose((bank[i] + 1j * bank[i + half])[cut, cut], kernel, atol=1e-7)
        reference = np.hypot(*filters.gabor(photos[0, 0], mode="mirror", **angle))
        assert np.allclose(energy[0, i], reference, atol=1e-4 if len(kernel) == 15 else 5e-3)


def test_colour_numbers_by_hand(photos):
    pixels = appearance.lab(torch.tensor(photos))
    actual = appearance.colour(pixels).numpy()
    assert actual.shape == (2, appearance.COLOUR)
    for photo, row in zip(pixels.numpy().astype(np.float64), actual, strict=True):
        for channel, (values, (low, high)) in enumerate(zip(photo, appearance.RANGES, strict=True)):
            variance = values.std()
            moments = values.mean(), variance, ((values - values.mean()) ** 3).mean() / (variance**2 + 1)
            assert row[channel:9:3] == pytest.approx(moments, rel=1e-3, abs=1e-3)
            counts = np.zeros(appearance.BINS)
            for value in values.ravel():  # each pixel is shared by the two bins whose middles it lies between
                place = min(max((value - low) / (high - low) * 8 - 0.5, 0), 7)
                counts[int(place)] += 1 - place % 1
                counts[min(int(place) + 1, 7)] += place % 1
            assert row[9 + channel::3] == pytest.approx(counts / values.size, abs=1e-4)


def test_texture_sees_stripes_at_their_angle_and_scale():
    y, x = np.mgrid[:64, :64]
    bank, kinds = appearance.gabor_bank(), {}
    for angle in range(4):
        for scale in range(appearance.SCALES):
            along = x * np.cos(angle * np.pi / 4) + y * np.sin(angle * np.pi / 4)
            stripes = 0.5 + 0.4 * np.sin(2 * np.pi * along * appearance.FREQUENCY / 2**scale)
            numbers = appearance.texture(torch.tensor(stripes[None, None], dtype=torch.float32), bank)[0]
            means = numbers.reshape(appearance.SCALES, 2, 4)[:, 0]
            kinds[angle, scale] = np.unravel_index(int(means.argmax()), means.shape)
    assert all(actual == (scale, angle) for (angle, scale), actual in kinds.items())


def test_plain_pictures_have_a_gradient_and_small_ones_are_refused():
    look, plain = appearance.Appearance((0.5, 0.5, 0.5)), torch.zeros(1, 3, 40, 40, requires_grad=True)
    assert torch.isfinite(torch.autograd.grad(look(plain).sum(), plain)[0]).all()
    with pytest.raises(ValueError, match=r"32 px or more, got \(24, 40\)"):
        look(torch.zeros(1, 3, 24, 40))


def test_the_improved_cnn_is_the_unimproved_one_and_the_descriptors():
    """Each task's logits from parts: the independent network's features and its own reading of colour and texture."""
    network = build("colour_texture", PATENT_TASKS, "tiny", "none", seed=0, width=5).eval()
    plain = build("independent", PATENT_TASKS, "tiny", "none", seed=0).eval()
    for mine, theirs in zip(network.networks, plain.branches, strict=True):
        state = {name: value for name, value in mine.head[:-1].state_dict().items()}
        theirs.head[:-1].load_state_dict(state)
        theirs.groups.load_state_dict(mine.groups.state_dict())
    images = torch.randn(3, 3, 40, 40)
    with torch.no_grad():
        actual = network(images)
        for i, task in enumerate(PATENT_TASKS):
            part, maps = network.single_task(i), images
            for group in plain.branches[i].groups:
                maps = group(maps)
            features = plain.branches[i].head[:-1](maps)
            weight, bias = part.head[-1].weight, part.head[-1].bias
            looks = part.described(part.appearance(images))
            expected = features @ weight[:, :-5].T + looks @ weight[:, -5:].T + bias
            assert torch.allclose(actual[task.name], expected, atol=1e-5)
            assert torch.equal(part(images)[task.name], actual[task.name]) and part.tasks[0].loss_weight == 1
    fresh = sum(parameter.numel() for parameter in network.fresh_parameters())
    d = appearance.COLOUR + appearance.TEXTURE
    assert fresh == 2 * (d * 5 + 5) + (64 + 5 + 1) * (2 + 8)


def test_the_pixels_colours_are_put_back():
    """What a network sees lacks the mean image; with the stand-in as mean the descriptors are those of the pixels."""
    pixels, std = torch.rand(2, 3, 40, 40), torch.tensor((0.5, 0.4, 0.3))[:, None, None]
    seen = (pixels - torch.tensor(appearance.MEAN)[:, None, None]) / std
    look = appearance.Appearance((0.5, 0.4, 0.3))
    assert torch.allclose(look(seen)[:, :appearance.COLOUR], appearance.colour(appearance.lab(pixels)), atol=1e-2)
