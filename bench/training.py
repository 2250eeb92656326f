"""The real fit loop next to the bare step, the best matrix product and a plain loop."""

from __future__ import annotations

import ctypes
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from aesthemo_lib.device import fast_precision, keep_freed_memory
from aesthemo_lib.models.inference import fast
from aesthemo_lib.models.networks import build
from aesthemo_lib.models.quick_cpu import quick_cpu
from aesthemo_lib.tasks import PATENT_TASKS
from aesthemo_lib.training.config import PRESETS, Settings
from aesthemo_lib.training.fit import Data, fit
from aesthemo_lib.training.optimiser import optimiser as fused_optimiser

from .child import Job
from .measure import MATRIX, STREAMED, matrix_product, metered, now, seconds
from .photos import draw_photos

RATE = 1e-5


@dataclass(frozen=True)
class Race:
    """What is run in turn: ``rounds`` times ``steps`` steps of each."""

    settings: Settings
    steps: int
    rounds: int
    device: torch.device

    def network(self) -> nn.Module:
        """A pair as it is trained."""
        built = build("cross_branch", PATENT_TASKS, self.settings.backbone, self.settings.weights, "diagonal",
                      frozen=self.settings.frozen_groups)
        return built.to(self.device, memory_format=torch.channels_last)

    def data(self, folder: Path) -> Data:
        """Random pixels in a file that is mapped, as a cache is; one image more, for validation."""
        count, side = self.steps * self.settings.batch + 1, self.settings.resize
        pixels = np.memmap(folder / f"pixels-{self.settings.batch}", np.uint8, "w+", shape=(count, side, side, 3))
        dice = np.random.default_rng(0)
        for image in pixels:
            image[:] = dice.integers(0, 256, image.shape, dtype=np.uint8)
        labels = {task.name: np.arange(count) % len(task.classes) for task in PATENT_TASKS}
        return Data(pixels, np.full((side, side, 3), 128, np.float32), labels, np.arange(count - 1),
                    np.array([count - 1]))


def race(job: Job, backbone: str, batch: int, steps: int, rounds: int) -> Race:
    """The sizes of a race: those of the presets, or tiny ones. Last layers start at random: a probe is no step."""
    sizes = {"vgg16": PRESETS["paper"], "efficientnet_lite0": PRESETS["teach"]}
    settings = replace(sizes[backbone], weights="none", batch=batch, learning_rate=RATE, probe_start=False,
                       frozen_groups=0)
    if job.small:
        steps, rounds = 2, 2
        settings = replace(settings, backbone="tiny", resize=36, crop=32, batch=4)
    return Race(replace(settings, epochs=rounds + 1, patience=rounds + 1), steps, rounds, job.device)


def fit_in_turn(this: Race, network: nn.Module, data: Data, others: dict[str, Callable]) -> dict[str, np.ndarray]:
    """Seconds of each epoch's steps in ``fit``, and of other works between them; a first round of all is not counted.

    An epoch's steps, from the first loading to the last line of the log, end where validation begins.
    """
    times, begun = defaultdict(list), []

    def ends(module: nn.Module, _) -> None:
        if begun and not module.training:
            times["fit"].append(now(this.device) - begun.pop())

    def after_epoch(_) -> None:
        for name, work in others.items():
            times[name].append(seconds(work, this.device))
        begun.append(now(this.device))

    handle = network.branches[0].groups[0].register_forward_pre_hook(ends)  # with frozen groups, what comes after them
    try:
        fit(network, data, this.settings, 0, this.device, after_epoch=after_epoch)
    finally:
        handle.remove()
    return {name: np.array(values[-this.rounds:]) for name, values in times.items()}


def step_of(network: nn.Module, settings: Settings, images: Tensor, precise: bool = False) -> Callable[..., None]:
    """The bare step: forward, backward and optimiser on one batch in memory.

    Args:
        images: (B, 3, s, s); the frozen groups' maps of them are taken once, as the fit loop has them.
        precise: in float32, from the images in each step, as a plain loop computes.
    """
    labels = {t.name: torch.arange(len(images), device=images.device) % len(t.classes) for t in network.tasks}
    groups = [{"params": [p for p in network.parameters() if p.requires_grad], "lr": RATE}]
    decay = settings.weight_decay
    if not precise:
        optimiser = fused_optimiser(settings.optimiser, groups, settings.momentum, decay)
        images = maps_of(network, images)
    elif settings.optimiser == "adamw":
        optimiser = torch.optim.AdamW(groups, lr=RATE, weight_decay=decay)
    else:
        optimiser = torch.optim.SGD(groups, lr=RATE, momentum=settings.momentum, weight_decay=decay)

    def step(images: Tensor = images) -> None:
        network.train()
        network.frozen.eval()
        for module in network.modules() if settings.keep_statistics else ():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        if precise:
            logits = network(images)
        else:
            with fast(images.device), quick_cpu(network):
                logits = network.after_frozen(images)
        loss = sum(task.loss_weight * nn.functional.cross_entropy(logits[task.name].float(), labels[task.name])
                   for task in network.tasks)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def maps_of(network: nn.Module, images: Tensor) -> Tensor:
    """What the frozen groups make of images (B, 3, s, s), as ``training.frozen`` computes it."""
    with torch.inference_mode(), fast(images.device), quick_cpu(network.frozen):
        maps = network.frozen.eval()(images)
    return maps.float().clone(memory_format=torch.channels_last)


def batch_of(this: Race) -> Tensor:
    """A batch in memory."""
    side = this.settings.crop
    images = torch.randn(this.settings.batch, 3, side, side, device=this.device)
    return images.contiguous(memory_format=torch.channels_last)


def vgg16(job: Job) -> Iterator[tuple]:
    """The pair of the patent."""
    precision, side = fast_precision(job.device), 256 if job.small else MATRIX
    slow = job.device.type == "cpu" and precision == torch.float32
    steps, rounds = (40, 3) if job.device.type == "cuda" else (1, 2) if slow else (2, 2)
    this = race(job, "vgg16", 8 if slow else 16, steps, rounds)
    network = this.network()
    step = step_of(network, this.settings, batch_of(this))
    times = fit_in_turn(this, network, this.data(job.folder), {
        "step": lambda: [step() for _ in range(this.steps)], "product": matrix_product(job.device, precision, side)})
    yield "vgg16_images", this.steps * this.settings.batch / times["fit"], {}
    yield "matrix_peak", 2e-12 * side**3 / times["product"], {}
    yield from (("vgg16_memory", [most], {}) for most in graphics_memory(job.device))
    meter = metered(step, job.device, (precision,), side, 2**20 if job.small else STREAMED)
    yield "vgg16_loop", times["step"] / times["fit"], {"profile": meter.table()}
    done = meter.total.operations * this.steps / times["fit"]  # operations a second
    yield "vgg16_peak", done / (2 * side**3 / times["product"].min()), {"profile": meter.table()}


def graphics_memory(device: torch.device) -> Iterator[float]:
    """The most GB that was allocated on a GPU since this process began; nothing on a processor."""
    if device.type == "cuda":
        yield torch.cuda.max_memory_allocated(device) / 1e9


def lite0(job: Job) -> Iterator[tuple]:
    """The pair of the lessons as a GPU trains it: every group, from cached pixels."""
    this = race(job, "efficientnet_lite0", 64, 40 if job.device.type == "cuda" else 2, 3)
    network = this.network()
    step = step_of(network, this.settings, batch_of(this))
    times = fit_in_turn(this, network, this.data(job.folder), {"step": lambda: [step() for _ in range(this.steps)]})
    yield "lite0_images", this.steps * this.settings.batch / times["fit"], {}
    yield "lite0_loop", times["step"] / times["fit"], {"profile": spelt(times)}
    yield from (("lite0_memory", [most], {}) for most in graphics_memory(job.device))


def teach(job: Job) -> Iterator[tuple]:
    """The pair of the lessons, its first groups frozen, beside the bare step and the plain loop, and its roofline."""
    this = race(job, "efficientnet_lite0", 32, 3, 2)
    preset = PRESETS["teach"]
    this = replace(this, settings=replace(this.settings, frozen_groups=1 if job.small else preset.frozen_groups))
    network, images = this.network(), batch_of(this)
    step = step_of(network, this.settings, images)
    times = fit_in_turn(this, network, this.data(job.folder), {
        "step": lambda: [step() for _ in range(this.steps)], "plain": plain_loop(this, job.folder),
        "frozen groups": lambda: [maps_of(network, images) for _ in range(this.steps)],
    })
    yield "teach_loop", times["step"] / times["fit"], {"profile": spelt(times)}
    passes = (preset.views + 1) / preset.epochs  # the maps of each view, and of the whole images, once a training
    yield "teach_plain", times["plain"] / (times["fit"] + passes * times["frozen groups"]), {"profile": spelt(times)}
    yield "teach_images", this.steps * this.settings.batch / times["fit"], {}
    precisions = dict.fromkeys((fast_precision(job.device), torch.float32))
    meter = metered(step, job.device, precisions, 256 if job.small else 2048, 2**20 if job.small else STREAMED)
    total = meter.total
    peaks = " and ".join(f"{value / 1e9:.0f} GFLOP/s in {str(name)[6:]}" for name, value in meter.peaks.items())
    lost = sorted(meter.costs.items(), key=lambda entry: entry[1].floor - entry[1].seconds)[:4]
    losses = ", ".join(f"{name} ({(cost.seconds - cost.floor) / total.seconds:.0%})" for name, cost in lost)
    lines = (f"A matrix product reaches {peaks}, the memory {meter.bandwidth / 1e9:.0f} GB/s: an operation that does "
            f"fewer than {max(meter.peaks.values()) / meter.bandwidth:.0f} calculations a byte waits for the memory. "
            f"The step does {total.operations / total.bytes:.0f} a byte. If each operation ran at the roofline, the "
            f"step would take {total.floor / total.seconds:.0%} of its time. Most of the rest is lost in {losses}:")
    yield "teach_roofline", [total.floor / total.seconds], {"profile": [lines, "", *meter.table()]}


def spelt(times: dict[str, np.ndarray]) -> list[str]:
    """Times as lines of Markdown."""
    return [f"- {name}: {', '.join(f'{value:.3g}' for value in values)} s" for name, values in times.items()]


class Files(torch.utils.data.Dataset):
    """What much training code has: each photograph is opened, decoded, cropped and scaled whenever it is asked for."""

    def __init__(self, paths: list[Path], settings: Settings):
        from torchvision import transforms

        self.paths = paths
        self.transform = transforms.Compose([
            transforms.Resize((settings.resize, settings.resize)), transforms.RandomCrop(settings.crop),
            transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3),
        ])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Tensor:
        return self.transform(Image.open(self.paths[number]).convert("RGB"))


def plain_loop(this: Race, folder: Path) -> Callable[[], None]:
    """A work: as many steps in float32 and in torch's own layout, from files, with the allocator as it is by itself."""
    count = this.steps * this.settings.batch
    photos = Files(draw_photos(folder / "photos", count, 8 if count < 50 else 32), this.settings)
    network = replace(this, device=torch.device("cpu")).network().to(memory_format=torch.contiguous_format)
    blank = torch.zeros(this.settings.batch, 3, this.settings.crop, this.settings.crop, device=this.device)
    step = step_of(network.to(this.device), this.settings, blank, precise=True)

    def epoch() -> None:
        usual_allocator()
        for images in torch.utils.data.DataLoader(photos, this.settings.batch, shuffle=True):
            step(images.to(this.device))
        keep_freed_memory()

    return epoch


def usual_allocator() -> None:
    """Undo ``device.keep_freed_memory``: the bounds that glibc arrives at by itself once a large block was freed."""
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):
            mallopt = ctypes.CDLL("libc.so.6").mallopt
            mallopt(-3, 32 * 2**20)
            mallopt(-1, 64 * 2**20)
