"""Simulated camera models: one scene as two cameras would have kept it, so that a translation's truth is known.

From a published photograph, which stands for the scene, to the file that a camera writes:

1. undo sRGB's curve: light that adds up, 0..1;
2. the lens blurs, and darkens the corners (vignetting, a parabola in the radius);
3. the sensor adds noise, whose variance has a part that grows with the light (shot) and one that doesn't (read);
4. exposure and white balance multiply the channels, a colour matrix mixes them (its rows sum to 1: grey stays grey);
5. sRGB's curve again, then the maker's tone curve: contrast about the middle, and blacks that may be lifted;
6. 8 bits, and a JPEG of the maker's quality.

The numbers of the two cameras are ours. They were chosen on training and validation photographs of OASIS' split 0, so
that a network that saw the second camera alone does visibly worse on the first; no test photograph was looked at.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter


@dataclass(frozen=True)
class Camera:
    """A camera model.

    Args:
        white_balance: gains of red, green and blue.
        exposure: gain of all three.
        crosstalk: what each channel gets of the mean of the three: 0 keeps colours, 1 makes grey, below 0 is vivid.
        blur: of the lens, the standard deviation of a Gaussian in pixels.
        vignetting: share of the light that is lost in the corners.
        shot, read: noise; variance of light x is shot * x + read^2.
        contrast: 0 leaves sRGB's curve, 1 is the full S-curve 3x^2 - 2x^3.
        black: where the darkest value ends up, 0..1.
        quality: of the JPEG, 1..95.
    """

    white_balance: tuple[float, float, float]
    exposure: float = 1.0
    crosstalk: float = 0.0
    blur: float = 0.0
    vignetting: float = 0.0
    shot: float = 0.0
    read: float = 0.0
    contrast: float = 0.0
    black: float = 0.0
    quality: int = 95

    @property
    def matrix(self) -> np.ndarray:
        """The (3, 3) colour matrix, which multiplies columns of red, green and blue light."""
        return (1 - self.crosstalk) * np.eye(3) + self.crosstalk / 3


FIRST = Camera((1.8, 1.0, 0.25), exposure=0.5, crosstalk=0.3, blur=1.5, vignetting=0.6, shot=0.002, read=0.002,
               contrast=-0.6, black=0.2, quality=85)
"""An old phone under lamplight that it takes for daylight: warm, dim, pale, out of focus, dark in the corners."""
SECOND = Camera((0.97, 1.0, 1.06), crosstalk=-0.2, vignetting=0.1, shot=0.0005, read=0.002, contrast=0.4, quality=92)
"""A good camera: slightly cool, vivid, with contrast."""
CAMERAS = {"first": FIRST, "second": SECOND}


def to_light(values: np.ndarray) -> np.ndarray:
    """sRGB values in 0..1 to linear light (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def from_light(light: np.ndarray) -> np.ndarray:
    """Linear light in 0..1 to sRGB values."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)


def radius_squared(side: int) -> np.ndarray:
    """How far each pixel of a square picture is from its centre, squared: (S, S), 1 in the corners."""
    along = np.linspace(-1, 1, side) ** 2
    return (along[:, None] + along) / 2


def develop(light: np.ndarray, camera: Camera, noise: np.ndarray | None = None) -> np.ndarray:
    """Steps 2 to 5: from the scene's light to values in 0..1.

    Args:
        light: (S, S, 3) linear, 0..1.
        noise: (S, S, 3) standard normal numbers; None: without noise.

    Returns:
        (S, S, 3).
    """
    if camera.blur:
        light = gaussian_filter(light, (camera.blur, camera.blur, 0))
    light = light * (1 - camera.vignetting * radius_squared(len(light)))[..., None]
    if noise is not None:
        light = light + np.sqrt(camera.shot * light + camera.read**2) * noise
    light = (light * (camera.exposure * np.array(camera.white_balance))) @ camera.matrix.T
    values = from_light(light.clip(0, 1))
    values = (1 - camera.contrast) * values + camera.contrast * values**2 * (3 - 2 * values)
    return camera.black + (1 - camera.black) * values


def shoot(photo: np.ndarray, camera: Camera, seed: tuple[int, ...] = (0,)) -> bytes:
    """The JPEG file that a camera keeps of a scene.

    Args:
        photo: (S, S, 3) uint8, the scene.
        camera: which.
        seed: of the sensor's noise, such as (seed, camera, photograph): equal ones give equal bytes.
    """
    noise = np.random.default_rng(seed).standard_normal(photo.shape)
    values = develop(to_light(photo / 255), camera, noise)
    file = io.BytesIO()
    Image.fromarray((255 * values).round().clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=camera.quality)
    return file.getvalue()


def seen(file: bytes) -> np.ndarray:
    """The pixels of a picture file, (S, S, 3) uint8."""
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image.convert("RGB"))
