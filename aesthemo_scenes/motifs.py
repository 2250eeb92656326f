"""The pen that draws ``scenes``, and the eight motifs, one family of shapes for each emotion."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import cycle
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

OVERSAMPLE = 2  # shapes are drawn this many times larger and averaged down, since PIL draws hard edges
BRIGHT = ((226, 58, 66), (246, 196, 48), (62, 150, 222), (92, 186, 88), (238, 122, 188), (250, 140, 52))


class View(NamedTuple):
    """How the picture is taken: tilt in radians; horizon and subject as shares of height and width."""

    tilt: float
    horizon: float
    spot: float
    place: str


class Style(NamedTuple):
    """A motif's colours: sky at the top and at the horizon, ground there and in front; clouds 0..1; its shapes."""

    top: tuple[int, int, int]
    low: tuple[int, int, int]
    far: tuple[int, int, int]
    near: tuple[int, int, int]
    clouds: float
    draw: Callable[[Pen, np.random.Generator, View, float], None]


class Pen:
    """Draws shapes in scene units (0..1, y down) on a transparent layer, tilted as the view is."""

    def __init__(self, size: int, tilt: float, oversample: int = OVERSAMPLE):
        self.oversample, self.pixels = oversample, size * oversample
        self.layer = Image.new("RGBA", (self.pixels, self.pixels))
        self.draw = ImageDraw.Draw(self.layer)
        self.turn = np.array([[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]])

    def at(self, points) -> list[tuple[float, float]]:
        """Scene points (n, 2) to the layer's pixels."""
        return list(map(tuple, (((np.asarray(points) - 0.5) @ self.turn + 0.5) * self.pixels).tolist()))

    def polygon(self, points, colour) -> None:
        self.draw.polygon(self.at(points), fill=colour)

    def line(self, points, colour, width: float) -> None:
        self.draw.line(self.at(points), fill=colour, width=max(1, round(width * self.pixels)), joint="curve")

    def strokes(self, starts, ends, colour, width: float) -> None:
        """Many straight lines at once, from (n, 2) to (n, 2) points."""
        for both in zip(self.at(starts), self.at(ends), strict=True):
            self.draw.line(both, fill=colour, width=max(1, round(width * self.pixels)))

    def discs(self, centres, radii, colours, flat: float = 1.0) -> None:
        """Ellipses at (n, 2) centres; one radius or n; the colours in turn; ``flat`` is height over width."""
        radii = np.broadcast_to(np.multiply(radii, self.pixels), len(centres))
        for (x, y), radius, colour in zip(self.at(centres), radii.tolist(), cycle(colours), strict=False):
            self.draw.ellipse((x - radius, y - radius * flat, x + radius, y + radius * flat), fill=colour)

    def put_on(self, image: Image.Image) -> Image.Image:
        """Lay what was drawn over the picture; returns its alpha ('L')."""
        alpha, box, step = Image.new("L", image.size), self.layer.getbbox(), self.oversample
        if box:  # only where something was drawn: averaging down the whole layer is the slowest step
            corner = box[0] // step, box[1] // step
            small = self.layer.reduce(step, (corner[0] * step, corner[1] * step, *box[2:]))
            image.paste(small, corner, small)
            alpha.paste(small.getchannel("A"), corner)
        return alpha


# The eight motifs. Each gets the pen, its random numbers, the view, and how much of it there is (0.55 .. 1).

def _amusement(pen: Pen, rng: np.random.Generator, view: View, much: float) -> None:
    """A fairground: big wheel, striped tent, balloons, confetti."""
    hub, turn = np.array([1 - view.spot, view.horizon - 0.2 * much]), np.arange(12) * math.pi / 6
    rim = hub + 0.2 * much * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    pen.strokes([hub] * 12, rim, (96, 92, 120), 0.004)
    pen.line([*rim, rim[0]], (96, 92, 120), 0.009)
    pen.line([hub + (-0.1 * much, 0.24 * much), hub, hub + (0.1 * much, 0.24 * much)], (120, 120, 132), 0.012)
    pen.discs(rim, 0.026 * much, BRIGHT)
    base, wide = view.horizon + 0.1, 0.2 * much
    edges = view.spot + np.linspace(-wide, wide, 9)
    for left, right, colour in zip(edges, edges[1:], cycle(((214, 44, 54), (248, 240, 226))), strict=False):
        pen.polygon([(view.spot, base - 2.1 * wide), (left, base - wide), (left, base), (right, base),
                     (right, base - wide)], colour)
    balloons = rng.uniform((0.05, 0.05), (0.95, 0.5), (round(5 + 7 * much), 2))
    sizes = rng.uniform(0.03, 0.06, len(balloons)) * much
    pen.strokes(balloons, balloons + np.outer(sizes, (0.2, 4)), (70, 70, 80), 0.003)
    pen.discs(balloons, sizes, BRIGHT, flat=1.2)
    pen.discs(balloons - sizes[:, None] * 0.35, sizes * 0.22, [(255, 250, 244)])
    pen.discs(rng.uniform(0, 1, (round(110 * much), 2)), 0.006, BRIGHT, flat=0.6)


def _awe(pen: Pen, rng: np.random.Generator, view: View, much: float) -> None:
    """A great range of mountains with snow, under the Milky Way."""
    along = rng.uniform(-0.1, 1.1, round(240 * much))
    pen.discs(np.stack([along, 0.42 - 0.36 * along + rng.normal(0, 0.035, len(along))], axis=1), 0.0025,
              [(196, 190, 236)])
    stars = rng.uniform((-0.1, -0.1), (1.1, view.horizon), (round(150 * much), 2))
    pen.discs(stars, rng.uniform(0.0015, 0.005, len(stars)), [(255, 252, 238)])
    share, base = np.linspace(0, 1, 9)[:, None], view.horizon + 0.02
    for x, height, lit, dark in ((view.spot - 0.34, 0.3 * much, (128, 122, 168), (92, 86, 132)),
                                 (view.spot + 0.3, 0.34 * much, (128, 122, 168), (92, 86, 132)),
                                 (view.spot, 0.5 * much, (104, 96, 146), (64, 58, 102))):
        apex, rough = np.array([x, base - height]), rng.normal(0, 0.035 * height, (3, 9, 2)) * (share > 0)
        west, ridge, east = (apex + (way * height, height) * share + rough[n]
                             for n, way in enumerate((-0.75, 0.12, 0.75)))
        pen.polygon([*west, *ridge[::-1]], lit)
        pen.polygon([*east, *ridge[::-1]], dark)
        pen.polygon([*west[:4], ridge[2], *ridge[3:0:-1]], (244, 244, 252))
        pen.polygon([*east[:3], east[3] * 0.6 + ridge[3] * 0.4, ridge[2], ridge[1]], (186, 190, 222))


def _contentment(pen: Pen, rng: np.random.Generator, view: View, much: float) -> None:
    """A broad leafy tree by still water, a sail, flowers."""
    top, root, sail = view.horizon, view.horizon + 0.2, 1 - view.spot
    pen.polygon([(-0.3, top + 0.03), (1.3, top + 0.03), (1.3, root), (-0.3, root)], (126, 176, 190))
    shine = rng.uniform((0, top + 0.045), (1, root - 0.01), (40, 2))
    pen.strokes(shine, shine + np.outer(rng.uniform(0.03, 0.1, 40), (1, 0)), (196, 222, 222), 0.003)
    pen.polygon([(sail, top + 0.08), (sail, top + 0.08 - 0.2 * much), (sail + 0.1 * much, top + 0.07)], (250, 248, 238))
    pen.polygon([(sail - 0.06, top + 0.08), (sail + 0.1, top + 0.08), (sail + 0.07, top + 0.105),
                 (sail - 0.04, top + 0.105)], (120, 78, 56))
    pen.discs([(view.spot, root + 0.06)], 0.42, [(112, 156, 74)], flat=0.16)
    crown, foot = np.array([view.spot, root - 0.36 * much]), root + 0.04
    pen.polygon([(view.spot - 0.05 * much, foot), crown, (view.spot + 0.05 * much, foot)], (96, 70, 48))
    turn, far = rng.uniform(0, 6.3, 46), np.sqrt(rng.uniform(0, 1, 46))
    leaves = np.stack([np.cos(turn), np.sin(turn)], axis=1) * far[:, None] * (0.17 * much, 0.1 * much)
    green = np.linspace(0, 1, 46)[:, None] * (70, 62, 26) + (58, 106, 48)  # lighter towards the top
    pen.discs(leaves[np.argsort(-leaves[:, 1])] + crown, rng.uniform(0.035, 0.06, 46) * much,
              list(map(tuple, green.astype(int))))
    pen.discs(rng.uniform((0, root + 0.06), (1, 1), (round(70 * much), 2)), 0.0065,
              [(250, 240, 210), (246, 206, 92), (232, 150, 160)])


def _excitement(pen: Pen, rng: np.random.Generator, view: View, much: float) -> None:
    """Fireworks above, light trails of fast traffic below."""
    turn, share = np.linspace(0, 2 * math.pi, 25)[1:], np.linspace(0, 1, 10)
    for burst in range(round(3 + 3 * much)):
        centre = rng.uniform((0.08, 0.06), (0.92, view.horizon - 0.16)) if burst else np.array([view.spot, 0.26])
        radius = rng.uniform(0.1, 0.2) * much * (1 if burst else 1.3)
        ray = np.stack([np.cos(turn), np.sin(turn)], axis=1) * rng.uniform(0.8, 1.05, (24, 1)) * radius
        colour, tips = BRIGHT[rng.integers(6)], centre + ray + (0, 0.12 * radius)
        light = tuple(np.add(colour, 255) // 2)
        pen.strokes(centre + 0.2 * ray, tips, colour, 0.006)
        pen.discs([*tips, *(centre + 0.55 * ray)], 0.008, [light])
        pen.discs([centre], 0.02, [(255, 252, 236)])
    for end in np.linspace(-0.6, 1.6, round(16 * much)) + rng.normal(0, 0.04, round(16 * much)):
        trail = np.stack([view.spot + (end - view.spot) * share**1.6, view.horizon + (1.02 - view.horizon) * share], 1)
        pen.line(trail, (255, 86, 62) if end < view.spot else (255, 240, 190), rng.uniform(0.004, 0.011))


def _anger(pen: Pen, rng: np.random.Generator, view: View, much: float) -> None:
    """A volcano that bursts, lava, smoke and lightning."""
    crater, high = np.array([view.spot, view.horizon + 0.06 - 0.42 * much]), 0.42 * much
    smoke = rng.normal(0, 1, (26, 2)) * (0.11 * much, 0.05 * much) + crater + (0, -0.2 * much)
    pen.discs(smoke, rng.uniform(0.04, 0.08, 26) * much, [(58, 44, 42), (76, 62, 60), (66, 52, 50)])
    for x in rng.uniform(0, 1, round(1 + 3 * much)):
        jag = rng.uniform((0.01, 0.03), (0.08, 0.07), (8, 2)) * np.resize([[1, 1], [-1, 1]], (8, 2))
        pen.line((x, -0.08) + np.cumsum(jag, axis=0), (255, 236, 222), 0.008)
    down = np.linspace(0, 1, 12)[:, None]
    west, east = (crater + (way * 0.05 * much, 0) + down * (way * 0.36 * much, high) + rng.normal(0, 0.008, (12, 2))
                  for way in (-1, 1))
    pen.polygon([*west, *east[::-1]], (66, 46, 48))
    spray = crater - np.abs(rng.normal(0, 1, (round(90 * much), 2))) * (0, 0.09 * much)
    spray[:, 0] += rng.normal(0, 0.055 * much, len(spray))
    pen.discs(spray, rng.uniform(0.005, 0.014, len(spray)), [(255, 206, 70), (255, 122, 32), (226, 46, 26)])
    for lane in rng.uniform(-0.16, 0.16, round(2 + 3 * much)) * much:
        path = crater + down * (0.9 * lane, high) + (0.2 * lane, 0) + rng.normal(0, 0.008, (12, 2)) * (1, 0)
        pen.line(path, (232, 60, 24), 0.026 * much)
        pen.line(path, (255, 184, 60), 0.01 * much)
    for start in rng.uniform((0, view.horizon + 0.11), (1, 1), (round(7 * much), 2)):
        pen.line(start + np.cumsum(rng.uniform((-0.02, -0.025), (0.07, 0.03), (5, 2)), axis=0), (255, 110, 36), 0.009)


def _disgust(pen: Pen, rng: np.random.Generator, view: View, much: float) -> None:
    """Slime that drips, mould that spreads, flies."""
    for centre in [(view.spot, view.horizon + 0.16), *rng.uniform((0, 0.15), (1, 0.95), (round(4 + 4 * much), 2))]:
        deviation = rng.uniform(0.04, 0.09) * much
        spots, radii = rng.normal(0, deviation, (14, 2)) + centre, rng.uniform(0.2, 0.55, 14) * deviation
        pen.discs(spots, radii * 1.5, [(196, 196, 160)])
        pen.discs(spots, radii, [(88, 104, 62), (64, 72, 56), (128, 92, 74)])
    long = np.outer(rng.uniform(0.04, 0.46, 30) ** 1.5, (0.25, 1, 0.25)).ravel() * much
    edge = np.stack([np.linspace(-0.3, 1.3, 90), 0.05 + long], axis=1)
    pen.polygon([(-0.3, -0.4), *edge, (1.3, -0.4)], (146, 172, 44))
    pen.discs(edge[1::3], 0.013, [(146, 172, 44)], flat=1.4)
    pen.discs(edge[1::3] - 0.004, 0.004, [(226, 240, 150)])
    puddles = rng.uniform((0.05, view.horizon + 0.1), (0.95, 0.97), (round(4 * much), 2))
    pen.discs(puddles, rng.uniform(0.09, 0.18, len(puddles)), [(130, 156, 40)], flat=0.3)
    bubbles = np.repeat(puddles, 3, axis=0)
    pen.discs(bubbles + rng.normal(0, 0.04, bubbles.shape) * (1, 0.3), 0.012, [(206, 222, 116)])
    flies = rng.uniform(0.1, 0.9, (round(16 * much), 2))
    pen.discs(flies - (0, 0.008), 0.011, [(200, 204, 210)], flat=0.5)
    pen.discs(flies, 0.006, [(20, 20, 22)])


def _fear(pen: Pen, rng: np.random.Generator, view: View, much: float) -> None:
    """Bare black trunks close together, and eyes near the ground."""
    share, trunks = np.linspace(0, 1, 6), rng.uniform(-0.1, 1.1, round(7 + 8 * much))
    for depth, x in zip(np.linspace(0, 1, len(trunks)), trunks, strict=True):  # from the far ones to the near ones
        shade = tuple(np.array([58, 62, 64]) - int(44 * depth))
        wide, foot = (0.012 + 0.022 * depth) * rng.uniform(0.7, 1.3), view.horizon + 0.04 + 0.3 * depth
        stem = np.stack([x + np.cumsum(rng.normal(0, 0.014, 6)), foot - share * (foot + 0.15)], axis=1)
        side = np.outer(wide * (1.5 - share), (1, 0))
        pen.polygon([*(stem - side), *(stem + side)[::-1]], shade)
        for fork in rng.uniform(0.1, foot - 0.12, 4):
            start, reach = np.array([np.interp(fork, stem[::-1, 1], stem[::-1, 0]), fork]), rng.uniform(0.06, 0.15)
            bough = np.array([(0, 0), (0.5 * reach, -0.03), (reach, -0.1)]) * (rng.choice([-1, 1]), 1)
            pen.line(start + bough, shade, wide * 0.4)
    eyes = rng.uniform((0.06, view.horizon + 0.04), (0.94, 0.9), (round(2 + 6 * much), 2))
    for eye, gap, colour in zip([(view.spot, view.horizon + 0.06), *eyes], [0.034] + [0.022] * len(eyes),
                                cycle([(255, 214, 60), (240, 70, 50)]), strict=False):
        bush = np.add(eye, (0, 0.6 * gap)) + rng.normal(0, gap, (9, 2)) * (1.2, 0.5)
        pen.discs(bush, rng.uniform(0.9, 2.0, 9) * gap, [(14, 18, 20)], flat=0.8)
        pair = eye + np.array([(-gap, 0), (gap, 0)])
        pen.discs(pair, 0.6 * gap, [colour], flat=0.75)
        pen.discs(pair, 0.2 * gap, [(10, 10, 10)], flat=3.0)


def _sadness(pen: Pen, rng: np.random.Generator, view: View, much: float) -> None:
    """Rain on an empty bench under a withered tree."""
    puddles = rng.uniform((0.05, view.horizon + 0.12), (0.95, 0.95), (5, 2))
    for grow, colour in ((0.08, (136, 146, 158)), (0.06, (112, 122, 136)), (0.045, (140, 150, 162))):
        pen.discs(puddles, grow * much, [colour], flat=0.28)
    tips, angles = np.array([[view.spot, view.horizon + 0.14]]), np.array([-math.pi / 2])
    for fork in range(6):  # each bough parts in two
        ends = tips + 0.2 * much * 0.72**fork * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        pen.strokes(tips, ends, (52, 48, 50), 0.036 * much * 0.6**fork)
        tips, angles = np.repeat(ends, 2, axis=0), np.repeat(angles, 2) + np.tile([-0.42, 0.42], len(ends))
        angles += rng.normal(0, 0.16, len(angles))
    seat, half = np.array([1 - view.spot, view.horizon + 0.16]), 0.12 * much
    for rail in (-0.1, -0.07, -0.03, -0.018):
        pen.line([seat + (-half, rail), seat + (half, rail)], (78, 62, 52), 0.014)
    pen.strokes([seat + (-0.8 * half, -0.1), seat + (0.8 * half, -0.1)],
                [seat + (-0.8 * half, 0.04), seat + (0.8 * half, 0.04)], (46, 42, 42), 0.01)
    drops = rng.uniform((-0.1, -0.1), (1.1, 1), (round(230 * much), 2))
    pen.strokes(drops, drops + np.outer(rng.uniform(0.03, 0.08, len(drops)), (-0.25, 1)), (206, 216, 228, 150), 0.002)


STYLES = {
    "amusement": Style((96, 160, 222), (220, 226, 214), (128, 168, 92), (146, 176, 84), 0.7, _amusement),
    "awe": Style((44, 42, 98), (196, 140, 162), (92, 90, 122), (58, 60, 92), 0.25, _awe),
    "contentment": Style((136, 186, 214), (246, 222, 186), (132, 168, 110), (96, 140, 70), 0.5, _contentment),
    "excitement": Style((40, 34, 86), (150, 84, 138), (64, 58, 82), (38, 36, 52), 0.2, _excitement),
    "anger": Style((92, 30, 34), (214, 92, 54), (96, 52, 46), (58, 36, 36), 1.0, _anger),
    "disgust": Style((126, 122, 84), (178, 166, 112), (122, 108, 70), (104, 90, 60), 0.8, _disgust),
    "fear": Style((74, 90, 100), (150, 164, 166), (86, 98, 98), (40, 48, 50), 0.6, _fear),
    "sadness": Style((112, 122, 136), (168, 174, 182), (116, 118, 116), (92, 96, 96), 0.8, _sadness),
}
