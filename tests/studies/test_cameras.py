"""The simulated cameras, against values worked out by hand and scikit-image."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from aesthemo_studies.style_transfer.cameras import (
    CAMERAS,
    Camera,
    develop,
    from_light,
    radius_squared,
    seen,
    shoot,
    to_light,
)

PLAIN = Camera((1.0, 1.0, 1.0))


def test_the_curve_is_srgbs():
    color = pytest.importorskip("skimage.color")
    values = np.linspace(0, 1, 101)
    luminance = color.rgb2xyz(np.repeat(values[:, None], 3, axis=1)[None])[0, :, 1]
    assert np.allclose(to_light(values), luminance, atol=1e-6)
    assert np.allclose(from_light(to_light(values)), values, atol=1e-7)


def test_a_pixel_by_hand():
    """Light .2, .4, .1: exposure .5 and gains 2, 1, 4 make .2, .2, .2 of it, which no matrix changes."""
    light = np.array([0.2, 0.4, 0.1]).reshape(1, 1, 3).repeat(3, 0).repeat(3, 1)
    camera = Camera((2.0, 1.0, 4.0), exposure=0.5, crosstalk=0.3, vignetting=0.5, contrast=0.4, black=0.1)
    encoded = 1.055 * 0.2 ** (1 / 2.4) - 0.055  # .4845
    curved = 0.6 * encoded + 0.4 * (3 * encoded**2 - 2 * encoded**3)
    assert np.allclose(develop(light, camera)[1, 1], 0.1 + 0.9 * curved)
    in_the_corner = 1.055 * 0.1 ** (1 / 2.4) - 0.055  # half of the light is lost there
    curved = 0.6 * in_the_corner + 0.4 * (3 * in_the_corner**2 - 2 * in_the_corner**3)
    assert np.allclose(develop(light, camera)[0, 2], 0.1 + 0.9 * curved)


def test_the_matrix_by_hand():
    """Of red .9 and green .3, crosstalk .3 takes .3 and gives back a third of the sum's, .12."""
    camera = replace(PLAIN, crosstalk=0.3)
    assert np.allclose(to_light(develop(np.array([[[0.9, 0.3, 0.0]]]), camera)), [0.63 + 0.12, 0.21 + 0.12, 0.12])
    for one in CAMERAS.values():
        assert np.allclose(one.matrix.sum(axis=1), 1), "grey stays grey"


def test_noise_has_the_variance_that_it_says():
    camera, light = replace(PLAIN, shot=0.01, read=0.02), np.full((200, 200, 3), 0.25)
    noisy = to_light(develop(light, camera, np.random.default_rng(0).standard_normal(light.shape)))
    assert np.isclose(noisy.std(), np.sqrt(0.01 * 0.25 + 0.02**2), rtol=0.02)
    assert np.isclose(noisy.mean(), 0.25, atol=1e-3)


def test_the_radius_is_one_in_the_corners_of_any_size():
    for side in (4, 7):
        actual = radius_squared(side)
        assert np.allclose(actual[[0, 0, -1, -1], [0, -1, 0, -1]], 1) and actual.min() < 0.13
        assert np.allclose(actual, actual[::-1, ::-1]) and np.allclose(actual, actual.T)


def test_a_file_is_a_jpeg_of_the_makers_quality_and_its_noise_the_seeds():
    photo = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    noisy = replace(PLAIN, read=0.05)
    assert shoot(photo, noisy, (1, 2)) == shoot(photo, noisy, (1, 2)) != shoot(photo, noisy, (1, 3))
    assert len(shoot(photo, replace(PLAIN, quality=30))) < len(shoot(photo, replace(PLAIN, quality=95)))
    smooth = np.asarray(Image.linear_gradient("L").resize((32, 32)).convert("RGB"))
    assert np.abs(seen(shoot(smooth, PLAIN)).astype(int) - smooth).max() <= 3, "a plain camera changes nothing"


def test_the_two_cameras_differ_in_all_that_is_asked_for():
    first, second = (vars(camera) for camera in CAMERAS.values())
    assert {name for name in first if first[name] == second[name]} <= {"read"}, "nothing else is shared"
