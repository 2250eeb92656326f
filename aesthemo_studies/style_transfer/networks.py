r"""The networks that turn one style of photographs into another and back, and their losses.

CN111753908A (US 2021/0406586 A1), as far as its text was available to us: two residual generators, one feature
extractor and two discriminators. A generator makes the residual that turns one style into the other, of convolutions
and poolings, and the residual is added to the image. A cycle loss updates the generators, an adversarial loss updates
all; no label takes part.

**Ours** is the rest: all numbers (``Recipe``), the layers, the losses' exact form, and the reading that the extractor
is what both discriminators look through. As CycleGAN (Zhu et al. 2017) has it: least squares for real and false, an
identity loss, a pool of earlier fakes, Adam with beta 0.5. Unlike CycleGAN, no layer normalises, since a style's
brightness and colour are just what instance normalisation removes; the last layer starts at zero, so that the training
starts from "leave it as it is"; and beside the colours all networks see how far a pixel is from the picture's centre,
for a lens darkens corners and a patch does not know where it was cut.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Recipe:
    """How a style is trained. **None of these numbers is in the text available to us**; those marked * are CycleGAN's.
    """

    side: int = 64  # of the patches, pixels
    batch: int = 4  # patches of each style a step
    steps: int = 600
    learning_rate: float = 5e-4  # in the second half it falls to zero along a line *
    beta1: float = 0.5  # *
    cycle: float = 2.0  # CycleGAN's is 10: from generators that change nothing, that weight lets them learn nothing
    identity: float = 0.5  # *, times the cycle's weight
    pool: int = 50  # *, earlier fakes of each style
    width: int = 16  # channels at full size, twice as many at half
    blocks: int = 1  # residual blocks at half size
    every: int = 200  # steps between two rows of the history

    def __post_init__(self):
        for name, value in asdict(self).items():
            least = 0 if name in ("cycle", "identity", "pool", "blocks") else 8 if name == "side" else 1e-9
            if not least <= value < math.inf or name == "beta1" and value >= 1:
                raise ValueError(f"recipe: {name}: expected a number of {least:g} or more, got {value!r}")

    def rate(self, step: int) -> float:
        """The learning rate at a step, from 0."""
        return self.learning_rate * min(1.0, 2 * (self.steps - step) / self.steps)


PAIRED = Recipe(side=48, batch=8, steps=400, learning_rate=2e-3)
UNPAIRED = Recipe(side=32, steps=5000, every=500)
"""The study's. Chosen on the pilot's collection 90."""


# --- the networks


class ResidualGenerator(nn.Module):
    """What turns a style into another: the image plus a residual, made at full and at half size.

    A pixel's residual depends on what is near it, about 20 pixels wide: with a second pooling the generators brightened
    and darkened whole regions, as no camera does.

    Args:
        width: channels at full size.
        blocks: residual blocks at half size.
    """

    def __init__(self, width: int, blocks: int):
        super().__init__()
        self.fine, self.coarse = _conv(4, width), _conv(width, 2 * width)
        self.blocks = nn.ModuleList(
            nn.Sequential(_conv(2 * width, 2 * width), nn.ReLU(), _conv(2 * width, 2 * width)) for _ in range(blocks))
        self.up, self.mix, self.last = _conv(2 * width, width), _conv(width, width), _conv(width, 3)
        for start in (self.last.weight, self.last.bias):
            nn.init.zeros_(start)

    def residual(self, images: Tensor, place: Tensor) -> Tensor:
        """(B, 3, h, w) images in -1..1 and their (B, 1, h, w) squared radius to the (B, 3, h, w) residual."""
        fine = self.fine(torch.cat([images, place], 1)).relu()  # (B, W, h, w)
        coarse = self.coarse(F.avg_pool2d(fine, 2)).relu()  # (B, 2W, h/2, w/2)
        for block in self.blocks:
            coarse = coarse + block(coarse)
        up = F.interpolate(self.up(coarse), fine.shape[-2:], mode="bilinear")
        return self.last(self.mix((fine + up).relu()).relu())

    def forward(self, images: Tensor, place: Tensor) -> Tensor:
        """x + r, of the images' shape."""
        return images + self.residual(images, place)


def _conv(of: int, to: int) -> nn.Conv2d:
    return nn.Conv2d(of, to, 3, padding=1)


class StyleTransfer(nn.Module):
    """Two generators; an extractor through which two discriminators look, each at the style it knows."""

    def __init__(self, recipe: Recipe):
        super().__init__()
        width = 2 * recipe.width
        self.generators = nn.ModuleList(ResidualGenerator(recipe.width, recipe.blocks) for _ in range(2))
        self.extractor = nn.Sequential(nn.Conv2d(4, width, 4, 2, 1), nn.LeakyReLU(0.2),
                                       nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2))
        self.discriminators = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * width, 4 * width, 4, 2, 1), nn.LeakyReLU(0.2),
                          nn.Conv2d(4 * width, 1, 4, 1, 1)) for _ in range(2))

    def translate(self, to: int, images: Tensor, place: Tensor) -> Tensor:
        """Images made to look like style ``to`` (0 the first, 1 the second)."""
        return self.generators[to](images, place)

    def judge(self, style: int, images: Tensor, place: Tensor) -> Tensor:
        """How much images look like a style, for each patch that the discriminator sees: 1 real, 0 made."""
        return self.discriminators[style](self.extractor(torch.cat([images, place], 1))).float()

    def critics(self) -> list[nn.Parameter]:
        """The parameters of extractor and discriminators."""
        return list(chain(self.extractor.parameters(), self.discriminators.parameters()))


# --- the losses

Patches = tuple[Tensor, Tensor]
"""Images (B, 3, s, s) in -1..1, and the squared radius (B, 1, s, s) of their pixels."""


def generator_losses(model: StyleTransfer, first: Patches, second: Patches, recipe: Recipe) -> tuple[dict, list]:
    """Equations 10.2 to 10.4: what the generators minimise, and its parts.

    Returns:
        the losses by name (generators, the whole; cycle, identity, adversarial), and the fakes [first style, second].
    """
    real, place = (first[0], second[0]), (first[1], second[1])
    zero, fakes = real[0].new_zeros(()), [real[0]] * 2
    cycle, identity, adversarial = zero, zero, zero
    for to, of in ((1, 0), (0, 1)):
        both = model.translate(to, torch.cat([real[of], real[to]]), torch.cat([place[of], place[to]]))
        made, same = both.split([len(real[of]), len(real[to])])
        cycle = cycle + F.l1_loss(model.translate(of, made, place[of]), real[of])
        identity = identity + F.l1_loss(same, real[to])
        adversarial = adversarial + (model.judge(to, made, place[of]) - 1).square().mean()
        fakes[to] = made
    total = adversarial + recipe.cycle * (cycle + recipe.identity * identity)
    return {"generators": total, "cycle": cycle, "identity": identity, "adversarial": adversarial}, fakes


def critic_loss(model: StyleTransfer, real: list[Patches], made: list[Patches]) -> Tensor:
    """Equation 10.5: what extractor and discriminators minimise; one entry a style."""
    losses = [(model.judge(style, *real[style]) - 1).square().mean() + model.judge(style, *made[style]).square().mean()
              for style in (0, 1)]
    return torch.stack(losses).sum() / 2
