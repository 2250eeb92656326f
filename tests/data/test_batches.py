"""Crops, flips and mean subtraction against torchvision and a plain loop."""

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as tv
from hypothesis import given, settings, strategies as st

from aesthemo_lib.data.batches import TrainingBatches, crop_and_flip, resize, uniform

CPU = torch.device("cpu")
STD = (0.229, 0.224, 0.225)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)


def batches(pixels, size=4, seed=0, crop=12, rows=None):
    rows = np.arange(len(pixels)) if rows is None else rows
    mean = pixels.mean(axis=0).astype(np.float32)
    return TrainingBatches(pixels, rows, mean, STD, crop, size, seed, CPU)


def test_crop_flip_and_mean_are_those_of_a_plain_loop(pixels):
    rng = np.random.default_rng(1)
    top, left = rng.integers(0, 5, 20), rng.integers(0, 5, 20)
    flip = rng.random(20) < 0.5
    mean = pixels.mean(axis=0).astype(np.float32)
    got = crop_and_flip(
        torch.from_numpy(pixels), torch.from_numpy(mean), torch.tensor(STD), 12,
        torch.from_numpy(top), torch.from_numpy(left), torch.from_numpy(flip),
    )
    for i in range(20):  # [0056]: the mean is subtracted from the whole, then it is cropped
        whole = torch.from_numpy((pixels[i] - mean) / 255 / np.array(STD, np.float32)).permute(2, 0, 1)
        expected = tv.crop(whole, int(top[i]), int(left[i]), 12, 12)
        expected = tv.hflip(expected) if flip[i] else expected
        torch.testing.assert_close(got[i], expected, rtol=1e-4, atol=1e-5)
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_the_fast_ways_of_a_cpu_give_the_bits_of_the_plain_ones(pixels):
    dice, std, images = np.random.default_rng(2), torch.tensor(STD), torch.from_numpy(pixels)
    mean = torch.from_numpy(pixels.mean(axis=0, dtype=np.float32))
    top, left = (torch.from_numpy(dice.integers(0, 5, 20)) for _ in range(2))
    flip = torch.from_numpy(dice.random(20) < 0.5)
    whole = (images - mean) / (255 * std)  # (20, 16, 16, 3)
    cut = [image[y:y + 12, x:x + 12] for image, y, x in zip(whole, top, left, strict=True)]
    plain = torch.stack([image.flip(1) if mirrored else image for image, mirrored in zip(cut, flip, strict=True)])
    assert torch.equal(crop_and_flip(images, mean, std, 12, top, left, flip), plain.permute(0, 3, 1, 2))
    got = resize(images, mean, std, 16)
    torch.testing.assert_close(got, whole.permute(0, 3, 1, 2))
    assert got.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("side", [12, 16, 21])
def test_prediction_resizes_image_and_mean_alike(pixels, side):
    """The plain form in float32; a picture in whole grey levels is a level away from it at most."""
    mean = pixels.mean(axis=0).astype(np.float32)
    got = resize(torch.from_numpy(pixels), torch.from_numpy(mean), torch.tensor(STD), side)
    image = tv.resize(torch.from_numpy(pixels).permute(0, 3, 1, 2).float(), [side, side], antialias=True)
    shrunk_mean = tv.resize(torch.from_numpy(mean).permute(2, 0, 1), [side, side], antialias=True)
    level = 255 * torch.tensor(STD).view(3, 1, 1)
    off = (got - (image - shrunk_mean) / level).abs() * level
    assert off.max() < 1.1 and off.mean() < 0.4
    assert got.is_contiguous(memory_format=torch.channels_last)
    # what is left once the mean is added again are whole levels, to the bit of a resized picture
    levels = got * level + shrunk_mean
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=2e-3)


@given(seed=st.integers(0, 2**31), epoch=st.integers(0, 1000), size=st.integers(1, 25))
@settings(max_examples=30, deadline=None)
def test_what_an_image_looks_like_depends_on_seed_epoch_and_image_alone(seed, epoch, size):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    one, other = batches(pixels, 20, seed), batches(pixels, size, seed)
    first = {row: image for rows, images in one.epoch(epoch) for row, image in zip(rows, images, strict=True)}
    seen = []
    for rows, images in other.epoch(epoch):
        for row, image in zip(rows, images, strict=True):
            assert torch.equal(image, first[row])
            seen.append(row)
    assert seen == list(first)  # the order does not depend on the batch size either
    assert sorted(seen) == list(range(20))


def test_epochs_and_seeds_differ(pixels):
    looks = [torch.cat([images for _, images in batches(pixels, seed=s).epoch(e)]) for s, e in ((0, 0), (0, 1), (1, 0))]
    assert not torch.equal(looks[0], looks[1]) and not torch.equal(looks[0], looks[2])


def test_the_draws_are_uniform_and_independent():
    """Every position and both mirrorings come with equal probability; neighbours are not correlated."""
    images = np.arange(50_000)
    draws = np.stack([uniform(7, epoch, images, draw) for epoch in (0, 1) for draw in range(4)])
    assert (draws >= 0).all() and (draws < 1).all()
    counts = np.stack([np.bincount((row * 33).astype(int), minlength=33) for row in draws])
    chi2 = ((counts - 50_000 / 33) ** 2 / (50_000 / 33)).sum(axis=1)
    assert (chi2 < 73).all()  # 32 degrees of freedom, p = 5e-5
    correlation = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlation).max() < 0.02
    assert abs(np.corrcoef(draws[0][:-1], draws[0][1:])[0, 1]) < 0.02


def test_every_position_is_reached(pixels):
    b = batches(pixels, seed=3)
    tops = {int(uniform(3, epoch, np.arange(20), 1)[i] * 5) for epoch in range(20) for i in range(20)}
    assert tops == set(range(b.pixels.shape[1] - b.crop + 1))
