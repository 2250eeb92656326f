"""Style transfer before classification: a generator trained on pairs, and one trained without pairs or labels.

The networks and losses, and what of them is the source's, stand in ``networks``. Pairs, which nobody has, answer what
the generator could do; without pairs, photographs of both styles show different things, as the source has it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from aesthemo_lib.data.batches import crop_and_flip, to_device, uniform
from aesthemo_lib.models.inference import fast

from .cameras import radius_squared
from .networks import Patches, Recipe, ResidualGenerator, StyleTransfer, critic_loss, generator_losses

TERMS = ("generators", "cycle", "identity", "adversarial", "discriminators")
"""A history's losses: the generators' whole one, its three parts, and that of discriminators and extractor."""
CPU = torch.device("cpu")


class Pool:
    """Earlier fakes of one style: half of those that the discriminators are shown come from here (Shrivastava 2017)."""

    def __init__(self, size: int, seed: int):
        self.size, self.seed = size, seed
        self.kept: list[Tensor] = []

    def swapped(self, made: Tensor, step: int) -> Tensor:
        """The batch, some of it exchanged for earlier fakes; what is drawn depends on seed and step alone."""
        chance, where = (uniform(self.seed, step, np.arange(len(made)), draw) for draw in (0, 1))
        shown = []
        for one, coin, at in zip(made, chance, where, strict=True):
            if len(self.kept) < self.size:
                self.kept.append(one)
            elif self.size and coin < 0.5:
                place = int(at * self.size)
                self.kept[place], one = one, self.kept[place]
            shown.append(one)
        return torch.stack(shown)


class Training:
    """Model, optimisers and pools of a training without pairs; each step is a function of seed and number."""

    def __init__(self, styles: list[np.ndarray], recipe: Recipe, seed: int):
        if styles[0].shape[1:] != styles[1].shape[1:] or styles[0].shape[1] < recipe.side:
            raise ValueError(f"style: expected photographs of one size, {recipe.side} px or more, got "
                             f"{styles[0].shape[1:]} and {styles[1].shape[1:]}; give larger ones or a smaller side")
        torch.manual_seed(seed)
        self.model = StyleTransfer(recipe).to(memory_format=torch.channels_last)
        self.styles, self.recipe, self.seed = styles, recipe, seed
        adam = {"lr": 0.0, "betas": (recipe.beta1, 0.999), "foreach": True}
        self.optimisers = [torch.optim.Adam(list(parameters), **adam)
                           for parameters in (self.model.generators.parameters(), self.model.critics())]
        self.pools = [Pool(recipe.pool, seed + style) for style in (0, 1)]

    def batch(self, style: int, step: int) -> Patches:
        """Patches of a style, cut and mirrored at random, with their squared radius."""
        return patches(self.styles[style], self.recipe, self.seed, step, 4 * style)

    def step(self, number: int) -> Tensor:
        """One step of the generators, one of extractor and discriminators; returns the losses of ``TERMS``."""
        real = [self.batch(style, number) for style in (0, 1)]
        for optimiser in self.optimisers:
            optimiser.param_groups[0]["lr"] = self.recipe.rate(number)
        self._judged(False)
        with fast(CPU):
            losses, fakes = generator_losses(self.model, real[0], real[1], self.recipe)
        self._descend(0, losses["generators"])
        self._judged(True)
        shown = [pool.swapped(torch.cat([made.detach(), real[1 - style][1]], 1), number)
                 for style, (pool, made) in enumerate(zip(self.pools, fakes, strict=True))]
        with fast(CPU):
            loss = critic_loss(self.model, real, [(one[:, :3], one[:, 3:]) for one in shown])
        self._descend(1, loss)
        return torch.stack([*losses.values(), loss]).detach()

    def _judged(self, learning: bool) -> None:
        for parameter in self.model.critics():
            parameter.requires_grad_(learning)

    def _descend(self, which: int, loss: Tensor) -> None:
        self.optimisers[which].zero_grad(set_to_none=True)
        loss.backward()
        self.optimisers[which].step()



def patches(photos: np.ndarray, recipe: Recipe, seed: int, step: int, draw: int) -> Patches:
    """Patches of some photographs, cut and mirrored at random, with their squared radius.

    Args:
        photos: (N, S, S, 3) uint8.
        seed, step, draw: decide which; equal ones cut equal places out of other photographs of that number and size.
    """
    side, slots = recipe.side, np.arange(recipe.batch)
    row, top, left, flip = (uniform(seed, step, slots, draw + one) for one in range(4))
    places = photos.shape[1] - side + 1
    cut = [torch.from_numpy((u * places).astype(np.int64)) for u in (top, left)] + [torch.from_numpy(flip < 0.5)]
    images = to_device(photos, (row * len(photos)).astype(np.int64), CPU)
    far = torch.from_numpy(radius_squared(photos.shape[1])).float()[..., None].expand(-1, -1, 3)
    middle, unit = torch.full_like(far, 127.5), torch.ones(3)
    place = crop_and_flip(far.expand(len(images), -1, -1, -1), 0 * far, unit / 255, side, *cut)[:, :1]
    return crop_and_flip(images, middle, unit / 2, side, *cut), place


def without_pairs(
    first: np.ndarray, second: np.ndarray, recipe: Recipe, seed: int = 0,
    score: Callable[[ResidualGenerator], float] | None = None,
) -> tuple[ResidualGenerator, list[dict]]:
    """Train on photographs of two styles, no two of which need show the same; no label takes part.

    Args:
        first, second: (N, S, S, 3) uint8 of each style.
        recipe: how.
        seed: of weights, patches and pools.
        score: rates the generator of the second style every ``recipe.every`` steps; the best one is returned, by
            default the last.

    Returns:
        the generator, and the history: step, the mean losses of ``TERMS`` since the row before, and the score.

    Raises:
        ValueError: photographs smaller than a patch, or of unequal size.
        FloatingPointError: a loss is not finite.
    """
    training, history = Training([first, second], recipe, seed), list[dict]()
    best: ResidualGenerator = training.model.generators[1]
    sums = torch.zeros(len(TERMS))
    for number in range(recipe.steps):
        sums += training.step(number)
        if (number + 1) % recipe.every and number + 1 < recipe.steps:
            continue
        if not sums.isfinite().all():
            raise FloatingPointError(f"a loss of the style transfer is not finite by step {number + 1}; "
                                     f"lower learning_rate")
        done = number + 1 - (history[-1]["step"] if history else 0)
        generator = training.model.generators[1]
        row = {"step": number + 1, **dict(zip(TERMS, (sums / done).tolist(), strict=True))}
        history.append(row | {"score": score(generator) if score else float(number)})
        if history[-1]["score"] == max(row["score"] for row in history):
            best = copy.deepcopy(generator)
        sums = torch.zeros_like(sums)
    return best, history


def with_pairs(first: np.ndarray, second: np.ndarray, recipe: Recipe, seed: int = 0) -> ResidualGenerator:
    """Train a generator on pairs by their mean absolute difference: what could be learnt if the truth were known.

    Args:
        first, second: (N, S, S, 3) uint8, the same scenes in both styles.
        recipe: side, batch, steps and rate; no discriminator and no cycle takes part.
    """
    torch.manual_seed(seed)
    generator = ResidualGenerator(recipe.width, recipe.blocks).to(memory_format=torch.channels_last)
    search = torch.optim.Adam(generator.parameters())
    for step in range(recipe.steps):
        search.param_groups[0]["lr"] = recipe.rate(step)
        (given, place), (wanted, _) = (patches(photos, recipe, seed, step, 0) for photos in (first, second))
        with fast(CPU):
            loss = functional.l1_loss(generator(given, place), wanted)
        search.zero_grad()
        loss.backward()
        search.step()
    return generator


@torch.inference_mode()
def translated(generator: ResidualGenerator, photos: np.ndarray, batch: int = 32) -> np.ndarray:
    """Whole photographs through a generator.

    Args:
        photos: (N, S, S, 3) uint8.

    Returns:
        (N, S, S, 3) uint8, rounded and cut off at 0 and 255.
    """
    device, translation = next(generator.parameters()).device, np.empty_like(photos)
    place = torch.from_numpy(radius_squared(photos.shape[1])).float().to(device)[None, None]
    for start in range(0, len(photos), batch):
        rows = np.arange(start, min(start + batch, len(photos)))
        images = to_device(photos, rows, device).permute(0, 3, 1, 2) / 127.5 - 1
        with fast(device):
            made = generator(images, place.expand(len(rows), -1, -1, -1))
        made = ((made.float() + 1) * 127.5).round().clamp(0, 255).permute(0, 2, 3, 1)
        translation[rows] = made.to(torch.uint8).cpu().numpy()
    return translation
