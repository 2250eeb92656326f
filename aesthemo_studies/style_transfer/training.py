"""Style transfer before classification: photographs of one camera made to look like another's, without labels.

The networks and losses, and what of them is the source's, stand in ``networks``: here they are trained, kept and
used. A classifier that saw images of the second style only is then given translated ones (``style_study``).

A trained style is a folder like a run's: ``config.json``, ``history.csv``, ``model.safetensors``, ``timing.json``, and
in ``samples`` what the translation looked like on the way. Resume state lies beside it.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from aesthemo_lib import plots
from aesthemo_lib.data.batches import crop_and_flip, to_device, uniform
from aesthemo_lib.data.images import pixels_sha256
from aesthemo_lib.device import pick_device, set_threads
from aesthemo_lib.files import (
    PATIENCE,
    atomic_folder,
    digest,
    file_lock,
    read_json,
    read_tensors,
    show_progress,
    write_json,
)
from aesthemo_lib.models.inference import fast
from aesthemo_lib.training.fit import Diverged
from aesthemo_lib.training.resume import contiguous, write_history
from aesthemo_studies.style_transfer.networks import (
    Patches,
    Recipe,
    ResidualGenerator,
    StyleTransfer,
    critic_loss,
    generator_losses,
)

from .cameras import radius_squared

TERMS = ("generators", "cycle", "identity", "adversarial", "discriminators")
"""A history's losses: the generators' whole one, its three parts, and that of discriminators and extractor."""


# --- the training


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


class _Training:
    """Model, optimisers and pools; each step is a function of seed and number, so that a resumed one draws the same."""

    def __init__(self, styles: list[np.ndarray], recipe: Recipe, seed: int, device: torch.device):
        torch.manual_seed(seed)
        self.model = StyleTransfer(recipe).to(device, memory_format=torch.channels_last)
        self.styles, self.recipe, self.seed, self.device = styles, recipe, seed, device
        adam = {"lr": 0.0, "betas": (recipe.beta1, 0.999), "foreach": True}
        self.optimisers = [torch.optim.Adam(list(parameters), **adam)
                           for parameters in (self.model.generators.parameters(), self.model.critics())]
        self.pools = [Pool(recipe.pool, seed + style) for style in (0, 1)]

    def batch(self, style: int, step: int) -> Patches:
        """Patches of a style, cut and mirrored at random, with their squared radius."""
        pixels, side, slots = self.styles[style], self.recipe.side, np.arange(self.recipe.batch)
        row, top, left, flip = (uniform(self.seed, step, slots, 4 * style + draw) for draw in range(4))
        places = pixels.shape[1] - side + 1
        cut = [torch.from_numpy((u * places).astype(np.int64)).to(self.device) for u in (top, left)]
        cut.append(torch.from_numpy(flip < 0.5).to(self.device))
        images = to_device(pixels, (row * len(pixels)).astype(np.int64), self.device)
        far = torch.from_numpy(radius_squared(pixels.shape[1])).float().to(self.device)[..., None].expand(-1, -1, 3)
        middle, unit = torch.full_like(far, 127.5), torch.ones(3, device=self.device)
        place = crop_and_flip(far.expand(len(images), -1, -1, -1), 0 * far, unit / 255, side, *cut)[:, :1]
        return crop_and_flip(images, middle, unit / 2, side, *cut), place

    def step(self, number: int) -> Tensor:
        """One step of the generators, one of extractor and discriminators; returns the losses of ``TERMS``."""
        real = [self.batch(style, number) for style in (0, 1)]
        for optimiser in self.optimisers:
            optimiser.param_groups[0]["lr"] = self.recipe.rate(number)
        self._judged(False)
        with fast(self.device):
            losses, fakes = generator_losses(self.model, real[0], real[1], self.recipe)
        self._descend(0, losses["generators"])
        self._judged(True)
        shown = [pool.swapped(torch.cat([made.detach(), real[1 - style][1]], 1), number)
                 for style, (pool, made) in enumerate(zip(self.pools, fakes, strict=True))]
        with fast(self.device):
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

    def save(self, folder: Path, step: int, history: list[dict]) -> None:
        """The state after a step, whole or not at all; then the one before is dropped."""
        moments = {f"{o}.{i}.{key}": value for o, optimiser in enumerate(self.optimisers)
                   for i, parameter in enumerate(optimiser.param_groups[0]["params"])
                   for key, value in optimiser.state[parameter].items()}
        pools = {str(style): torch.stack(pool.kept) for style, pool in enumerate(self.pools) if pool.kept}
        target = folder / f"step-{step}"
        with atomic_folder(target) as whole:
            for name, tensors in {"model": self.model.state_dict(), "moments": moments, "pools": pools}.items():
                save_file(contiguous(tensors), whole / f"{name}.safetensors")
            write_json(whole / "history.json", history)
        for old in folder.glob("step-*"):
            if old != target:
                shutil.rmtree(old, ignore_errors=True)

    def resume(self, folder: Path) -> tuple[int, list[dict]]:
        """Go back to the newest whole state: the number of finished steps, and the history."""
        whole = max(folder.glob("step-*"), key=lambda path: int(path.name.split("-")[1]), default=None)
        if whole is None:
            return 0, []
        try:
            self.model.load_state_dict(read_tensors(whole / "model.safetensors"))
            for name, value in read_tensors(whole / "moments.safetensors").items():
                o, i, key = name.split(".")
                parameter = self.optimisers[int(o)].param_groups[0]["params"][int(i)]
                like = value if key == "step" else torch.empty_like(parameter)  # device and layout are the parameter's
                self.optimisers[int(o)].state[parameter][key] = like.copy_(value)
            for style, kept in read_tensors(whole / "pools.safetensors").items():
                self.pools[int(style)].kept = list(kept.to(self.device, memory_format=torch.channels_last))
            return int(whole.name.split("-")[1]), read_json(whole / "history.json")
        except (ValueError, OSError, RuntimeError, LookupError) as fault:
            reason = " ".join(str(fault).split())[:300]
            raise ValueError(f"{whole} is damaged, or of another version ({reason}); delete {folder} to train from the "
                             f"start") from fault


def train_style(
    first: np.ndarray, second: np.ndarray, folder: Path, recipe: Recipe, seed: int = 0, device: str | None = None,
    after: Callable[[dict, Path], None] | None = None,
) -> Style:
    """Train on photographs of two styles, no two of which need show the same; a finished training is returned.

    One that was cut off goes on from its last state and ends with the same bits (on one machine, CPU, one thread).

    Args:
        first, second: (N, S, S, 3) uint8 of each style.
        folder: where the trained style goes.
        recipe: how.
        seed: of weights, patches and the pools.
        device: see ``device.pick_device``.
        after: called every ``recipe.every`` steps with the newest row of the history and the newest sample, a PNG.

    Raises:
        ValueError: photographs smaller than a patch, or of unequal size.
        Diverged: a loss is not finite.
    """
    set_threads()
    if first.shape[1:] != second.shape[1:] or first.shape[1] < recipe.side:
        raise ValueError(f"style: expected photographs of one size, {recipe.side} px or more, got {first.shape[1:]} "
                         f"and {second.shape[1:]}; give larger ones or a smaller side")
    told = {"recipe": asdict(recipe), "seed": seed, "first": pixels_sha256(first), "second": pixels_sha256(second)}
    states = folder.with_name(folder.name + ".resume")
    with file_lock(folder.with_name(folder.name + ".lock"), f"training in {folder}", PATIENCE):
        with contextlib.suppress(FileNotFoundError, ValueError):
            if Style(folder).hash == digest(told):
                return Style(folder)
        training = _Training([first, second], recipe, seed, pick_device(device))
        began, state = time.perf_counter(), states / digest(told)[:16]
        history = _train(training, state, after)
        with atomic_folder(folder) as whole:
            write_json(whole / "config.json", {"hash": digest(told), "config": told})
            write_json(whole / "timing.json", {"seconds": time.perf_counter() - began})
            write_history(whole / "history.csv", history)
            save_file(contiguous(training.model.generators.state_dict()), whole / "model.safetensors")
            shutil.copytree(state / "samples", whole / "samples")
        shutil.rmtree(states, ignore_errors=True)
    return Style(folder)


def _train(training: _Training, state: Path, after) -> list[dict]:
    recipe, shown = training.recipe, [photos[:6] for photos in training.styles]
    done, history = training.resume(state)
    sums = torch.zeros(len(TERMS), device=training.device)
    with tqdm(total=recipe.steps, initial=done, desc="style", unit="step", disable=not show_progress(),
              leave=False) as bar:
        for number in range(done, recipe.steps):
            sums += training.step(number)
            bar.update()
            if (number + 1) % recipe.every and number + 1 < recipe.steps:
                continue
            means = (sums / (number + 1 - done)).tolist()
            if not all(map(math.isfinite, means)):
                raise Diverged(f"a loss of the style transfer is not finite by step {number + 1}; lower learning_rate")
            history.append({"step": number + 1, **dict(zip(TERMS, means, strict=True))})
            bar.set_postfix_str(f"cycle {means[1]:.3f}")
            sample = state / "samples" / f"step-{number + 1:06}.png"
            plots.save(sample_figure(training.model.generators, shown), sample)
            training.save(state, number + 1, history)
            sums, done = torch.zeros_like(sums), number + 1
            if after:
                after(history[-1], sample)
    return history


class Style:
    """A trained style transfer, read from its folder.

    Raises:
        FileNotFoundError: the folder holds none.
        ValueError: what it holds can't be read.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        if not (self.folder / "config.json").exists():
            raise FileNotFoundError(f"{self.folder} holds no trained style (no config.json); train one first")
        content = read_json(self.folder / "config.json")
        self.hash, self.recipe = content["hash"], Recipe(**content["config"]["recipe"])
        self.seconds = read_json(self.folder / "timing.json")["seconds"]

    def history(self) -> pd.DataFrame:
        """Mean losses, one row every ``recipe.every`` steps."""
        return pd.read_csv(self.folder / "history.csv", encoding="utf-8")

    def samples(self) -> list[Path]:
        """What it looked like on the way, oldest first."""
        return sorted((self.folder / "samples").glob("*.png"))

    def translate(self, photos: np.ndarray, to: int = 1, device: str | None = None) -> np.ndarray:
        """(N, S, S, 3) uint8 photographs of any size in the other style (1: the second), as uint8."""
        model = StyleTransfer(self.recipe)
        model.generators.load_state_dict(read_tensors(self.folder / "model.safetensors"))
        model.generators.to(pick_device(device), memory_format=torch.channels_last)
        return translated(model.generators[to], photos)


@torch.inference_mode()
def translated(generator: ResidualGenerator, photos: np.ndarray, batch: int = 32) -> np.ndarray:
    """Whole photographs through a generator.

    Args:
        photos: (N, S, S, 3) uint8.

    Returns:
        (N, S, S, 3) uint8, rounded and cut off at 0 and 255.
    """
    device, found = next(generator.parameters()).device, np.empty_like(photos)
    place = torch.from_numpy(radius_squared(photos.shape[1])).float().to(device)[None, None]
    for start in range(0, len(photos), batch):
        rows = np.arange(start, min(start + batch, len(photos)))
        images = to_device(photos, rows, device).permute(0, 3, 1, 2) / 127.5 - 1
        with fast(device):
            made = generator(images, place.expand(len(rows), -1, -1, -1))
        made = ((made.float() + 1) * 127.5).round().clamp(0, 255).permute(0, 2, 3, 1)
        found[rows] = made.to(torch.uint8).cpu().numpy()
    return found


def sample_figure(generators: nn.ModuleList, shown: list[np.ndarray]):
    """Some photographs of each style, and below each what its generator makes of it."""
    rows = [shown[0], translated(generators[1], shown[0]), shown[1], translated(generators[0], shown[1])]
    names = ("first style", "made second", "second style", "made first")
    titles = [name if not i else "" for name, photos in zip(names, rows, strict=True) for i in range(len(photos))]
    return plots.photo_grid([photo for photos in rows for photo in photos], titles, columns=len(shown[0]))
