"""A finished run small enough to commit: its weights in half precision, with a card.

``aesthemo_lib/bundled`` holds one, trained on drawn scenes, so that ``aesthemo predict`` and every lesson can start at
once. It is a run folder like any other, without its notebook.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from aesthemo_lib.data.batches import resize, to_device
from aesthemo_lib.models.inference import evaluating
from aesthemo_lib.prediction import PACKED
from aesthemo_lib.training.run import Run, training_command
from aesthemo_lib.training.runs import Config, prepare

from .kept_runs import copy_small

MOST_BYTES = 16 * 10**6
MOST_OFF = 0.05
"""By how much half precision may move a logit: a probability then moves by at most 0.0125."""
COMPARED = 64
"""Test images on which the two precisions are compared."""
LICENCES = {
    "tf_efficientnet_lite0": "Google's EfficientNet-Lite0 for ImageNet, Apache-2.0",
    "IMAGENET1K_V1": "torchvision's, BSD-3-Clause",
    "random": "none: every weight started at random",
}
"""The terms of the weights that a branch started from."""




def pack(run: Run | Path | str, out: Path | str, root: Path | None = None) -> Path:
    """Write a run anew with its weight matrices in float16, and a card that says what it is.

    Vectors (biases, and the statistics of batch normalisation, which float16 can't hold) and the mean image stay as
    they are.

    Args:
        run: a finished run trained on scenes, or its folder.
        out: the new folder; what stands there is replaced.
        root: the scenes' folder. Both precisions answer its test images, and are compared.

    Returns:
        out.

    Raises:
        ValueError: the data's terms don't let it be passed on, the file is larger than ``MOST_BYTES``, or a logit
            moves by more than ``MOST_OFF``.
    """
    run, out = run if isinstance(run, Run) else Run(run), Path(out)
    if run.described["data"] != "scenes":
        raise ValueError(f"{run.folder} was trained on {run.described['data']}, and what is learnt from other people's "
                         f"photographs is passed on under their terms only; pack a run trained on scenes")
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        told = copy_small(run.folder, temporary)
        save_file(halved(load_file(run.folder / "model.safetensors")), temporary / "model.safetensors")
        size, off = (temporary / "model.safetensors").stat().st_size, largest_difference(run, Run(temporary), root)
        if size > MOST_BYTES:
            raise ValueError(f"packed, {run.folder} takes {size / 1e6:.1f} MB; the most is {MOST_BYTES / 1e6:.0f} MB")
        if not off <= MOST_OFF:
            raise ValueError(f"in half precision a logit of {run.folder} moves by {off:.3f}; the most is {MOST_OFF}")
        text = card(run, told["weights"], size, off)
        (temporary / "README.md").write_text(text, encoding="utf-8", newline="\n")
        shutil.rmtree(out, ignore_errors=True)
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a network with its float32 matrices as float16; safetensors' form of the rest is kept."""
    return {name: values.half() if values.ndim > 1 and values.is_floating_point() and name != "mean_image" else values
            for name, values in state.items()}


def largest_difference(one: Run, other: Run, root: Path | None = None, count: int = COMPARED) -> float:
    """How far apart two runs' logits are at most, in float32, over up to ``count`` test images of the first one."""
    told = one.described
    config = Config(data=told["data"], method=told["method"], variant=told["variant"], preset=told["preset"],
                    split=told["split"], seed=told["seed"], data_options=told["data_options"])
    prepared, found = prepare(config, root), []
    for run in (one, other):
        network, mean = run.network("cpu")
        pixels = to_device(prepared.pixels, prepared.split.test[:count], torch.device("cpu"))
        images = resize(pixels, torch.as_tensor(mean), torch.tensor(network.std), run.settings.crop)
        with evaluating(network), torch.inference_mode():
            found.append(torch.cat(list(network(images).values()), dim=1).numpy())
    return float(np.abs(found[0] - found[1]).max())


def card(run: Run, weights: str, size: int, off: float) -> str:
    """What whoever finds the folder should know, in Markdown."""
    told, made, test = run.described, run.environment, next(iter(run.metrics.values()))["n"]
    place = "/".join(["runs", *run.folder.parts[-4:]])
    rows = "\n".join(
        f"| {name} | {m['accuracy']:.3f} | {m['majority_accuracy']:.3f} | {m['balanced_accuracy']:.3f} | "
        f"{m['auc']:.3f} | {m['log_loss']:.3f} |" for name, m in run.metrics.items()
    )
    return f"""# A trained network to start from: {run.name}, preset {told["preset"]}

**What it is.** A branch for each task ({run.settings.backbone}), with layers between them that exchange maps; trained
on drawn scenes alone, at {run.settings.crop} px. The weight matrices are kept in float16 ({size / 1e6:.1f} MB): over
{COMPARED} test scenes no logit is further than {off:.3f} from the network's in full precision.

**What it knows.** Scenes drawn by a program, whose labels follow known rules. Since ImageNet it has seen no photograph,
so what it says of photographs shows how the method answers; it is no judgement of them, and none of people.

**How good it is** on the {test} test scenes of split {told["split"]}, in full precision. One split and one seed, so
without an interval:

| task | accuracy | always the most frequent class | balanced accuracy | AUC | log-loss |
|---|---|---|---|---|---|
{rows}

**How it was made**, with torch {made["torch"]} and Python {made["python"]} on {made["system"]} ({made["device"]}):

    {training_command(told)}
    python -m aesthemo_studies pack {place} --out {PACKED}

**Terms.** Apache-2.0, as the project. The weights that the branches started from: {LICENCES.get(weights, weights)}.
The scenes are drawn; nobody else has rights in them. The method is the subject of patent application CN109978074A.

The other files beside this one are those of the run in full precision.
"""
