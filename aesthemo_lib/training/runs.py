"""A run: one method trained on one split with one seed, kept in a folder from which everything later reads.

``runs/<data>/<method>[.<variant>]/<preset>/split<j>-seed<k>/`` holds

=====================  ==========================================================================
config.json            what was asked for, its hash, and where it ran
history.csv            losses and accuracies, one row per epoch
metrics.json           the test set's metrics by task
timing.json            seconds, images per second: not in metrics.json, so that equal runs agree
predictions.csv        truth and probabilities of each training, validation and test image
model.safetensors      the weights of the best epoch, and the training images' mean
tensorboard/           its event files, when asked for by the setting ``log``
03_train.ipynb         the executed notebook, when a notebook made the run
=====================  ==========================================================================

What an interrupted training resumes from is next to it, in ``<folder>.resume``. A run that was kept for
its results (``kept_runs``) has no weights, and reads as any other until they are asked for.
"""

import contextlib
import logging
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import nn

from .. import __version__, distributed
from ..data import readers
from ..data.images import load_pixels, mean_image, pixel_digests
from ..data.table import AnnotatedImages, Split
from ..device import fast_precision, pick_device, set_threads
from ..evaluation.metrics import majority_class, prediction_table, softmax, task_metrics
from ..files import BUNDLED, PATIENCE, atomic_folder, digest, file_lock, write_json, write_table
from ..models.inference import predict_logits
from ..models.networks import build
from ..tasks import Task, with_loss_weights
from . import labels as label
from .config import SCENES, Config, Settings
from .fit import Data, fit
from .resume import contiguous
from .run import WEIGHTS, Run, stored_hash

LOG = "tensorboard"
LATER = ("aggregation", "accumulate", "checkpoint", "compile", "optimiser", "probe_start", "group_decay",
         "averaging", "vote_targets", "frozen_groups", "views")
"""Settings that came after the first runs: described only where they are not what those had."""


class RunExists(ValueError):
    """A run folder holds a run of another configuration."""


def open_data(config: Config, root: Path | None = None) -> AnnotatedImages:
    """The data set of a run, in its folder ``root``, its tasks with the run's loss weights (see ``weighed``)."""
    options = dict(config.data_options)
    if config.data == "scenes":
        options.setdefault("images", SCENES[config.preset])
    images = readers.read(config.data, root, **options)
    return replace(images, tasks=weighed(config, images.tasks))


def weighed(config: Config, tasks: tuple[Task, ...]) -> tuple[Task, ...]:
    """Tasks with a run's loss weights: the patent's with preset paper; else alike, so that methods are compared."""
    alike = {} if config.preset == "paper" else {task.name: 1.0 for task in tasks}
    return with_loss_weights(tasks, alike | config.loss_weights)


@dataclass(frozen=True)
class Prepared:
    """What a training reads: images with their pixels, a split and the mean image of its training part."""

    images: AnnotatedImages
    pixels: np.ndarray
    split: Split
    mean: np.ndarray


def prepare(config: Config, root: Path | None = None, on_bad_image: str = "error") -> Prepared:
    """Open a run's data, decode what is not cached, split, and take the training part's mean image."""
    images, pixels = load_pixels(open_data(config, root), config.training_settings().resize, on_bad_image)
    split = images.split(config.split)
    return Prepared(images, pixels, split, mean_image(pixels, split.train))


def build_network(config: Config, tasks: tuple[Task, ...]) -> nn.Module:
    """The untrained network of a run; a ValueError refuses ``paper`` with a backbone outside the patent's claim 3."""
    settings = config.training_settings()
    network = build(
        config.method, tasks, settings.backbone, _start(settings.weights), config.variant, config.seed,
        settings.frozen_groups, **config.options
    )
    deviations = network.deviations
    if config.preset == "paper" and deviations:
        raise ValueError(f"backbone {settings.backbone!r} is not the patent's: {'; '.join(deviations)}. "
                         f"Use vgg13, vgg16 or vgg19 with preset paper")
    return network


def train(
    config: Config, out: Path | str = "runs", root: Path | str | None = None, redo: bool = False,
    device: str | None = None, after_epoch: Callable[[dict], None] | None = None, on_bad_image: str = "error",
) -> Run:
    """Train, evaluate and write a run; a finished one of the same configuration and pixels is returned as it is.

    Where photographs have changed under their names, the run is trained anew, and a log line says so. An
    interrupted training resumes from its last whole epoch and ends with the same bits.

    Args:
        out, root: the folder of all runs, and the data's.
        redo: replace a run of another configuration instead of refusing.
        device: 'cpu', 'cuda' or 'mps'; see ``device.pick_device``.
        after_epoch: called with each new history row.
        on_bad_image: 'error' or 'skip', see ``data.images.load_pixels``.

    Raises:
        RunExists: the folder holds a run of another configuration.
    """
    folder, threads, place = config.folder(Path(out)), set_threads(), pick_device(device)
    prepared = prepare(config, None if root is None else Path(root), on_bad_image)
    described, pixels = describe(config, prepared.images), pixel_digests(prepared.pixels)
    seen = dict(zip(prepared.images.names, pixels, strict=True))
    _name_leaks(prepared, pixels)
    states = folder.with_name(folder.name + ".resume")
    with distributed.together(place), _claimed(folder, described, seen, redo, place) as finished:
        if not finished:
            began = time.perf_counter()
            network = build_network(config, prepared.images.tasks)
            state = states / digest([described, pixels])[:16]
            history = _fit(network, config, prepared, place, state, after_epoch)
            trained = time.perf_counter()
            table, metrics = _evaluate(network, prepared, config.training_settings().crop, seen)
            timing = {"training_seconds": trained - began, "evaluation_seconds": time.perf_counter() - trained}
            if distributed.rank() == 0:
                with atomic_folder(folder) as whole:
                    write_table(whole / "predictions.csv", table)
                    if (state / LOG).exists():
                        shutil.copytree(state / LOG, whole / LOG)
                    _write(whole, config, described, network, prepared, history, metrics, timing, threads, root)
        if distributed.rank() == 0:  # or a run may have been killed before it had cleared them away
            shutil.rmtree(states, ignore_errors=True)
        distributed.broadcast(True, place)  # nobody leaves before the run is there
    return Run(folder)


def _name_leaks(prepared: Prepared, pixels: list[str]) -> None:
    """Say which test images are pixel by pixel those of other parts: copies with other bytes, which no group holds."""
    images, split = prepared.images, prepared.split
    known = {pixels[row]: images.names[row] for row in (*split.train, *split.validation)}
    leaks = [f"{images.names[row]} = {known[pixels[row]]}" for row in split.test if pixels[row] in known]
    if leaks:
        logging.getLogger(__name__).warning("%s: %d test images have the pixels of others that are trained or selected "
                                            "on, %s ..; put each pair into a group", images.name, len(leaks), leaks[0])


@contextlib.contextmanager
def _claimed(folder: Path, described: dict, seen: dict[str, str], redo: bool, device: torch.device) -> Iterator[bool]:
    """Hold a run folder against other trainings; yields whether it holds this very run already.

    The first of several processes does so for all. If it refuses, it ends, and the others with it.
    """
    if distributed.rank():
        yield distributed.broadcast(None, device)
        return
    with file_lock(folder.with_name(folder.name + ".lock"), f"training in {folder}", PATIENCE):
        same = stored_hash(folder) == digest(described)
        if not same and (folder / "metrics.json").exists() and not redo:
            raise RunExists(f"{folder} holds a run of another configuration or version "
                            f"({_difference(folder, described)}); train into another --out, delete the folder, or ask "
                            f"to redo it")
        if changed := changed_images(folder, seen) if same else []:
            logging.getLogger(__name__).warning(
                "%s: %d photographs have changed since it was trained, such as %s; training anew", folder, len(changed),
                changed[0])
            same = False
        yield distributed.broadcast(same and (folder / WEIGHTS).exists(), device)


def changed_images(folder: Path, seen: dict[str, str]) -> list[str]:
    """The images whose pixels (``seen``: their digests by name) are not those that a finished run was made with."""
    if not (file := folder / "predictions.csv").exists():
        return []
    with contextlib.suppress(KeyError, ValueError):
        table = pd.read_csv(file, encoding="utf-8", dtype=str, keep_default_na=False)
        known = dict(zip(table["image"], table["pixels"], strict=True))
        if file.read_bytes().endswith(b"\n"):
            return [name for name, pixels in seen.items() if known.get(name) != pixels]
    return list(seen)  # the table is damaged


def _start(weights: str) -> str:
    """The place of weights; 'photographs' is the bundled network for photographs."""
    return str(BUNDLED / weights) if weights == "photographs" else weights


def describe(config: Config, images: AnnotatedImages) -> dict:
    """All that decides a run's result, as JSON: its hash is the run's identity."""
    settings = asdict(config.training_settings())
    start = Path(_start(settings["weights"]))
    known = stored_hash(start) if (start / "metrics.json").is_file() else None
    settings["weights"] = start.name if known is None else f"run {known[:12]}"
    for choice in fields(Settings):  # as runs that are older than the choice are described
        if choice.name == "log" or choice.name in LATER and settings[choice.name] == choice.default:
            del settings[choice.name]
    return {
        "data": config.data, "method": config.method, "variant": config.variant, "preset": config.preset,
        "split": config.split, "seed": config.seed,
        "settings": settings,
        "options": config.options, "data_options": config.data_options, "images": images.fingerprint(),
        "tasks": [{"name": t.name, "classes": list(t.classes), "loss_weight": t.loss_weight} for t in images.tasks],
    } | ({"labels": config.labels} if config.labels else {})


def _difference(folder: Path, new: dict) -> str:
    try:
        old = Run(folder).described
    except (FileNotFoundError, ValueError) as fault:
        return str(fault)
    old, new = _flat(old), _flat(new)
    names = [name for name in new | old if old.get(name) != new.get(name)]
    return "it differs in " + ", ".join(
        f"{n}: {old.get(n)!r} there, {new.get(n)!r} asked" if len(repr(new.get(n))) < 40 else n for n in names
    )


def _flat(described: dict) -> dict:
    """The entries of inner dictionaries under names such as 'settings.epochs'."""
    inner = {f"{n}.{key}": v for n, part in described.items() if isinstance(part, dict) for key, v in part.items()}
    return {n: part for n, part in described.items() if not isinstance(part, dict)} | inner


def _labels(config: Config, prepared: Prepared) -> tuple[dict[str, np.ndarray], np.ndarray]:
    return label.training_labels(prepared.images, prepared.split, config.labels, config.seed)


def _fit(network, config: Config, prepared: Prepared, device, resume: Path, after_epoch) -> list[dict]:
    """Train all of a method's networks; with ``single_task`` it has one per task, each with its own best epoch."""
    images, settings = prepared.images, config.training_settings()
    labels, train_rows = _labels(config, prepared)
    by_votes = config.labels.get("soft", settings.vote_targets)
    soft = label.targets(images, prepared.split, config.labels, config.seed) if by_votes else {}
    data = Data(prepared.pixels, prepared.mean, labels, train_rows, prepared.split.validation, soft, images.groups)
    parts = {"joint": network}
    if hasattr(network, "single_task"):
        parts = {task.name: network.single_task(i) for i, task in enumerate(images.tasks)}
    history = []
    for name, part in parts.items():
        title = f"{config.name} {config.data} split {config.split}" + (f" ({name})" if len(parts) > 1 else "")
        tell = partial(_log, resume / LOG / name, after_epoch) if settings.log else after_epoch
        rows = fit(part, data, settings, config.seed, device, resume / name, title, tell)
        history += [{"network": name, **row} for row in rows]
    return history


def _log(folder: Path, after_epoch, row: dict) -> None:
    """Write a row of the history as TensorBoard's events, to a file of its own, then call ``after_epoch``."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for name in row.keys() - {"epoch"}:
            writer.add_scalar(name, row[name], row["epoch"])
    if after_epoch:
        after_epoch(row)


def _write(folder, config, described, network, prepared: Prepared, history, metrics, timing, threads, root) -> None:
    """Write the rest of the folder (an empty one that will take its place)."""
    device = next(network.parameters()).device
    precision = str(fast_precision(device)).removeprefix("torch.")
    write_json(folder / "config.json", {
        "hash": digest(described), "config": described,
        "weights": network.weights, "deviations": network.deviations,
        "root": None if root is None else str(root),
        "environment": {"aesthemo_lib": __version__, "torch": torch.__version__, "python": platform.python_version(),
                        "system": platform.system(), "device": device.type, "threads": threads, "precision": precision},
    })
    write_json(folder / "metrics.json", {
        "tasks": metrics, "data": config.data, "method": config.method, "variant": config.variant,
        "preset": config.preset, "split": config.split, "seed": config.seed, "threads": threads,
        "precision": precision,
    })
    speed = len(history) * len(_labels(config, prepared)[1]) / timing["training_seconds"]
    write_json(folder / "timing.json", timing | {"images_per_second": speed, "processes": distributed.size()})
    write_table(folder / "history.csv", pd.DataFrame(history))
    save_file(contiguous(network.state_dict()) | {"mean_image": torch.from_numpy(prepared.mean)}, folder / WEIGHTS)


def _evaluate(network: nn.Module, prepared: Prepared, side: int, seen: dict[str, str]) -> tuple[pd.DataFrame, dict]:
    images, split = prepared.images, prepared.split
    rows = np.concatenate([split.train, split.validation, split.test])
    device = next(network.parameters()).device
    logits = predict_logits(network, prepared.pixels, rows, prepared.mean, side, device)
    probabilities = {name: softmax(values) for name, values in logits.items()}
    truth = {task.name: images.labels(task.name) for task in images.tasks}
    test = slice(len(rows) - len(split.test), None)
    metrics = {
        name: task_metrics(truth[name][split.test], values[test], majority_class(truth[name][split.train]))
        for name, values in probabilities.items()
    }
    part = np.repeat(split._fields, [len(rows_of_part) for rows_of_part in split])
    names = {t.name: np.array([*t.classes, ""], dtype=object) for t in images.tasks}
    image = [images.names[row] for row in rows]
    table = prediction_table(
        images.tasks, probabilities, image=image, group=images.groups[rows], part=part,
        pixels=[seen[name] for name in image], **{f"true_{name}": names[name][truth[name][rows]] for name in truth},
    )
    return table, metrics
