"""How the drawn data set ``scenes`` looks: from the factors of one picture to its pixels.

Each factor changes one thing that a network can see, and nothing else: ``light`` the whole picture (every scene is
brought to the same mean luminance first), ``lamp`` a street lamp's glow, ``sharpness`` the blur, ``composition``
horizon, tilt and the subject's place, ``clutter`` crates, signs and wires, ``motif`` and the size of ``mood`` the
family of shapes and how much there is of it. Later pictures of a series show its scene in another frame and light.
"""

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageStat

from .motifs import OVERSAMPLE, STYLES, Pen, Style, View

PLACES = ("hills", "sea", "city", "forest")
MEAN_LUMINANCE = 108.0  # of every scene before light falls on it, of 255
STREAMS = {"view": 1, "motif": 2, "clutter": 3, "lamp": 4}  # each part's own random numbers
HOUR, FRAME = 6, 7  # those of a later picture of a series; 5 is the annotators'
BLOCK, SHORTEST, LENGTHS = 20, 5, 4
FRAME_SIDES = (0.84, 0.95)
"""How much of the scene's width and height the frame of a later picture of a series shows."""
IRON = (34, 34, 40)


def scene_of(number):
    """The number of the picture that first shows this one's scene: its own, except in a series; or an array."""
    block = np.asarray(number) // BLOCK
    first = (block + 1) * BLOCK - SHORTEST - block % LENGTHS
    return np.minimum(number, first)


def picture(factors: Mapping, key: tuple[int, int], size: int = 256,
            omit: tuple[str, ...] = ()) -> tuple[Image.Image, dict[str, Image.Image]]:
    """Draw one scene: the RGB picture, and for each local factor a mask ('L', 255 where it is).

    Args:
        factors: light, lamp, sharpness, composition, clutter, mood (standard normal each), motif and place.
        key: (seed, number of the image), from which all that is random in the drawing follows.
        omit: 'lamp', 'clutter' or both, to leave them out and keep everything else the same.
    """
    streams = _streams(key)
    amount = {name: level(factors[name]) for name in ("light", "lamp", "sharpness", "composition", "clutter")}
    view, style = _view(amount["composition"], factors["place"], streams["view"]), STYLES[factors["motif"]]
    image = _background(style, view, streams["view"], size)
    pen = Pen(size, view.tilt)
    style.draw(pen, streams["motif"], view, 0.55 + 0.45 * math.erf(abs(factors["mood"])))
    pen.put_on(image)
    gain = MEAN_LUMINANCE / max(ImageStat.Stat(image.convert("L")).mean[0], 1.0)
    masks = {name: Image.new("L", (size, size)) for name in ("lamp", "clutter")}
    if "clutter" not in omit:
        masks["clutter"] = _clutter(image, view, amount["clutter"], streams["clutter"])
    later = scene_of(key[1]) != key[1]
    image = _light(image, gain, amount["light"], np.random.default_rng([*key, HOUR]) if later else streams["view"])
    if "lamp" not in omit:
        masks["lamp"] = _lamp(image, view, amount["lamp"], streams["lamp"])
    blur = 3.6 * (1 - amount["sharpness"]) ** 1.2 * size / 256
    image = ImageChops.multiply(_framed(image, key).filter(ImageFilter.GaussianBlur(blur)), _vignette(size))
    wider = ImageFilter.BoxBlur(1.5 * blur)  # what is blurred reaches further
    return image, {name: _framed(mask, key).filter(wider).point([0] * 12 + [255] * 244)
                   for name, mask in masks.items()}


def motif_mask(factors: Mapping, key: tuple[int, int], size: int = 256) -> np.ndarray:
    """(size, size) bool, where the motif of ``picture`` stands (clutter and lamp may stand before it)."""
    streams = _streams(key)
    view = _view(level(factors["composition"]), factors["place"], streams["view"])
    pen = Pen(size, view.tilt)
    STYLES[factors["motif"]].draw(pen, streams["motif"], view, 0.55 + 0.45 * math.erf(abs(factors["mood"])))
    return np.array(_framed(pen.put_on(Image.new("RGB", (size, size))), key)) > 12


def _streams(key: tuple[int, int]) -> dict[str, np.random.Generator]:
    scene = int(scene_of(key[1]))
    return {part: np.random.default_rng([key[0], scene, number]) for part, number in STREAMS.items()}


def _framed(image: Image.Image, key: tuple[int, int]) -> Image.Image:
    """The part of the scene that a picture shows: all of it, except in the later ones of a series."""
    if scene_of(key[1]) == key[1]:
        return image
    rng = np.random.default_rng([*key, FRAME])
    side = rng.uniform(*FRAME_SIDES) * image.width
    left, top = rng.uniform(0, image.width - side, 2)
    return image.resize(image.size, Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))


def level(z: float) -> float:
    """A standard normal factor as its quantile, 0..1."""
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def _view(composition: float, place: str, rng: np.random.Generator) -> View:
    side, off = rng.choice([-1.0, 1.0], 2)
    wrong, wobble = 1 - composition, rng.normal(0, 0.01, 3)
    tilt, horizon = side * math.radians(15) * wrong + wobble[0], 0.64 - 0.14 * wrong + wobble[1]
    spot = 0.5 + off * (0.17 + 0.25 * wrong) + wobble[2]
    return View(float(tilt), float(horizon), float(spot), place)  # numpy's own floats would turn arrays to float64


@lru_cache(maxsize=4)
def _textures(size: int) -> tuple[np.ndarray, ...]:
    """Filtered noise of zero mean and unit deviation: clouds, grain of the ground, water. (2 size, 2 size) each."""
    rng, rate = np.random.default_rng(7), 2 * size
    made = []
    for stretch, slope in ((2.0, 1.7), (2.5, 1.0), (9.0, 1.3)):
        radius = np.hypot(np.fft.rfftfreq(rate)[None] * rate * stretch, np.fft.fftfreq(rate)[:, None] * rate) + 3
        noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((rate, rate))) * radius**-slope)
        made.append(((noise - noise.mean()) / noise.std()).astype(np.float32))
    return tuple(made)


@lru_cache(maxsize=4)
def _vignette(size: int) -> Image.Image:
    x = np.linspace(-1, 1, size)
    return Image.fromarray((255 - 41 * (x[:, None] ** 2 + x[None] ** 2) ** 1.2).astype(np.uint8)).convert("RGB")


@lru_cache(maxsize=8)
def _halo(width: int) -> Image.Image:
    """A round glow, 255 in the middle and 0 at the rim."""
    x = np.linspace(-1, 1, width)
    return Image.fromarray((255 * np.clip(1 - np.hypot(x[:, None], x[None]), 0, 1) ** 1.3).astype(np.uint8))


def _glow(image: Image.Image, centre, radius: float, colour, strength: float) -> Image.Image:
    """Blend a round glow into the picture (centre and radius in pixels); returns its alpha."""
    alpha, width = Image.new("L", image.size), max(2, round(2 * radius))
    left, top = round(centre[0] - radius), round(centre[1] - radius)
    halo = _halo(width).point([round(value * strength) for value in range(256)])
    image.paste(colour, (left, top, left + width, top + width), halo)
    alpha.paste(halo, (left, top))
    return alpha


def _background(style: Style, view: View, rng: np.random.Generator, size: int) -> Image.Image:
    """Sky, ground and the far silhouettes of the place."""
    cloud, grain, water = (_crop(texture, size, rng) for texture in _textures(size))
    x = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    y = x[:, None] * math.cos(view.tilt) - x[None] * math.sin(view.tilt) + 0.5  # scene height of each pixel
    front = np.clip((y - view.horizon) / (1 - view.horizon), 0, 1)
    shade = np.where(y < view.horizon, np.clip(y, 0, 1) * (127 / view.horizon), 128 + 127 * front)
    shade = Image.fromarray(shade.astype(np.uint8))
    image = Image.merge("RGB", [shade.point(curve) for curve in _gradients(style).tolist()])
    rough = (water * 20 if view.place == "sea" else grain * 17) * (0.45 + 0.8 * front)
    rough = np.where(y < view.horizon, np.clip(cloud, -1.2, 2.2) * (34 * style.clouds), rough)
    rough = Image.fromarray(np.clip(rough + 128, 0, 255).astype(np.uint8)).convert("RGB")
    image = ImageChops.add(image, rough, offset=-128)
    pen = Pen(size, view.tilt, oversample=1)
    for row, height in enumerate((_profile(view.place, rng), _profile(view.place, rng) * 0.6)):
        haze = np.multiply(style.low, 0.62 - 0.2 * row) + np.multiply(style.far, 0.3)  # the far row is paler
        top = np.stack([np.linspace(-0.3, 1.3, len(height)), view.horizon - height], axis=1)
        pen.polygon([(-0.3, view.horizon + 0.01), *top, (1.3, view.horizon + 0.01)], tuple(haze.astype(int)))
    pen.put_on(image)
    return image.filter(ImageFilter.BoxBlur(0.8 * size / 256))  # what is far away is a little soft


def _crop(texture: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    top, left = rng.integers(0, size, 2)
    return texture[top:top + size, left:left + size][:, ::rng.choice([-1, 1])]


def _gradients(style: Style) -> np.ndarray:
    """(3, 256) levels of red, green and blue: 0..127 from the top of the sky to the horizon, 128..255 the ground."""
    share = np.linspace(0, 1, 128)
    sky, ground = (np.outer(first, 1 - bent) + np.outer(second, bent) for first, second, bent in
                   ((style.top, style.low, share**1.3), (style.far, style.near, share)))
    return np.concatenate([sky, ground], axis=1).astype(int)


def _profile(place: str, rng: np.random.Generator) -> np.ndarray:
    """Heights over the horizon, from left to right."""
    if place == "city":
        return np.repeat(rng.uniform(0.02, 0.2, 28), 2)[1:-1]
    if place == "forest":
        return np.outer(rng.uniform(0.05, 0.11, 45), (1, 0.45)).ravel()
    waves = sum(0.6**n * np.sin((n + 1) * np.linspace(0, 6.3, 60) + rng.uniform(0, 6.3)) for n in range(4))
    return np.asarray(0.07 + 0.045 * waves if place == "hills" else np.clip(0.018 + 0.02 * waves, 0, 0.1))


def _light(image: Image.Image, gain: float, light: float, rng: np.random.Generator) -> Image.Image:
    """Exposure and colour of the light over the whole picture, and the sun's glow, by the factor ``light``."""
    curve = []
    for tint in (0.84 + 0.32 * light, 0.98 + 0.03 * light, 1.2 - 0.44 * light):
        value = np.arange(256) / 255 * gain * 0.45 * 4.0**light * tint
        curve += (255 * value / (1 + value**3) ** (1 / 3)).astype(int).tolist()  # highlights roll off as on film
    image, size = image.point(curve), image.width
    _glow(image, (rng.uniform(0, size), 0.15 * size), 0.6 * size, (255, 226, 160), 0.45 * light)
    return image


def _lamp(image: Image.Image, view: View, lamp: float, rng: np.random.Generator) -> Image.Image:
    """A street lamp anywhere along the ground; its colour is the factor. Returns its soft mask."""
    x, y = rng.uniform(0.12, 0.88), rng.uniform(0.3, 0.5)
    cold, warm = np.array([(86, 62, 168), (128, 104, 196)]), np.array([(255, 190, 60), (255, 246, 205)])
    glow, core = map(tuple, (cold + (warm - cold) * lamp).astype(int).tolist())
    pen = Pen(image.width, view.tilt)
    pen.line([(x, y), (x, 0.93)], IRON, 0.014)
    pen.polygon([(x - 0.03, 0.95), (x - 0.012, 0.88), (x + 0.012, 0.88), (x + 0.03, 0.95)], IRON)
    pen.polygon([(x - 0.05, y - 0.045), (x, y - 0.1), (x + 0.05, y - 0.045)], IRON)
    pen.polygon([(x - 0.042, y - 0.045), (x + 0.042, y - 0.045), (x + 0.026, y + 0.045), (x - 0.026, y + 0.045)], core)
    pen.line([(x - 0.034, y), (x + 0.034, y)], IRON, 0.006)
    alpha = _glow(image, np.divide(pen.at([(x, y)])[0], OVERSAMPLE), 0.2 * image.width, glow, 0.9)
    return ImageChops.lighter(alpha, pen.put_on(image))


def _clutter(image: Image.Image, view: View, clutter: float, rng: np.random.Generator) -> Image.Image:
    """Wires, crates and signs in no order; their number is the factor. Returns their mask."""
    pen, x = Pen(image.width, view.tilt), np.linspace(-0.2, 1.2, 12)
    for left, right in rng.uniform(0.02, 0.4, (round(5 * clutter), 2)):
        pen.line(np.stack([x, left + (right - left) * x + 0.1 * (x - 0.5) ** 2], axis=1), IRON, 0.007)
    for at, down, sign in rng.uniform((0.02, view.horizon + 0.04, 0), (0.98, 0.97, 1), (round(20 * clutter), 3)):
        wide, high, lean = rng.uniform((0.025, 0.025, -0.015), (0.06, 0.06, 0.015)) * (1 + down - view.horizon)
        colour = rng.integers(40, 220, 3)
        for left, shade in ((-wide, 1.0), (0.3 * wide, 0.7)):  # the front and the side in the shade
            pen.polygon([(at + left, down), (at + wide, down), (at + wide + lean, down - 2 * high),
                         (at + left + lean, down - 2 * high)], tuple((colour * shade).astype(int)))
        if sign < 0.3:
            pen.line([(at, down), (at + lean, down - 5 * high)], (70, 70, 74), 0.008)
            pen.discs([(at + lean, down - 5 * high)], 0.8 * wide, [tuple(colour)])
    return pen.put_on(image)
