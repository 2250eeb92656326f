"""A finished run small enough to commit: its weights in half precision, with a card.

``aesthemo_lib/bundled`` holds two: ``photographs``, trained on PARA, with which ``aesthemo predict`` answers, and
``scenes``, for the lessons that need known causes. Each is a run folder like any other, without its notebook; that of
photographs has no predictions, since those hold the labels of other people's pictures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from aesthemo_lib.data.batches import resize, to_device
from aesthemo_lib.files import atomic_folder
from aesthemo_lib.inspector.familiar import STATISTICS
from aesthemo_lib.models.inference import evaluating
from aesthemo_lib.prediction import BUNDLED
from aesthemo_lib.training.run import Run, training_command
from aesthemo_lib.training.runs import Config, prepare

from .familiar import statistics
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


def pack(run: Run | Path | str, out: Path | str | None = None, root: Path | None = None,
         foreign: dict[str, float] | None = None) -> Path:
    """Write a run anew with its weight matrices in float16, and a card that says what it is.

    Vectors (biases, and the statistics of batch normalisation, which float16 can't hold) and the mean image stay as
    they are.

    Args:
        run: a finished run trained on scenes or PARA, or its folder.
        out: the new folder, by default its place in ``BUNDLED``; what stands there is replaced.
        root: the data's folder. Both precisions answer its test images, and are compared.
        foreign: for the card, AUCs on photographs of another set, by what is predicted there.

    Returns:
        out.

    Raises:
        ValueError: the data's terms don't let it be passed on, the file is larger than ``MOST_BYTES``, or a logit
            moves by more than ``MOST_OFF``.
    """
    run = run if isinstance(run, Run) else Run(run)
    data = run.described["data"]
    if data not in CARDS:
        raise ValueError(f"{run.folder} was trained on {data}, and what is learnt from other people's photographs is "
                         f"passed on under their terms only; pack a run trained on {' or '.join(CARDS)}")
    out = Path(out) if out else BUNDLED / CARDS[data][0]
    with atomic_folder(out) as temporary:
        record = copy_small(run.folder, temporary)
        if data != "scenes":
            (temporary / "predictions.csv").unlink()
            save_file(statistics(run, root), temporary / STATISTICS)
        save_file(halved(load_file(run.folder / "model.safetensors")), temporary / "model.safetensors")
        size, off = (temporary / "model.safetensors").stat().st_size, largest_difference(run, Run(temporary), root)
        if size > MOST_BYTES:
            raise ValueError(f"packed, {run.folder} takes {size / 1e6:.1f} MB; the most is {MOST_BYTES / 1e6:.0f} MB")
        if not off <= MOST_OFF:
            raise ValueError(f"in half precision a logit of {run.folder} moves by {off:.3f}; the most is {MOST_OFF}")
        text = card(run, record["weights"], size, off, foreign or {})
        (temporary / "README.md").write_text(text, encoding="utf-8", newline="\n")
    return out


def halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a network with its float32 matrices as float16; safetensors' form of the rest is kept."""
    return {name: values.half() if values.ndim > 1 and values.is_floating_point() and name != "mean_image" else values
            for name, values in state.items()}


def largest_difference(one: Run, other: Run, root: Path | None = None, count: int = COMPARED) -> float:
    """How far apart two runs' logits are at most, in float32, over up to ``count`` test images of the first one."""
    described = one.described
    sides = {"resize": one.settings.resize, "crop": one.settings.crop}
    same = {key: described[key] for key in ("data", "method", "variant", "preset", "split", "seed", "data_options")}
    config = Config(settings=sides, **same)
    prepared, logits = prepare(config, root), []
    for run in (one, other):
        network, mean = run.network("cpu")
        pixels = to_device(prepared.pixels, prepared.split.test[:count], torch.device("cpu"))
        images = resize(pixels, torch.as_tensor(mean), torch.tensor(network.std), run.settings.crop)
        with evaluating(network), torch.inference_mode():
            logits.append(torch.cat(list(network(images).values()), dim=1).numpy())
    return float(np.abs(logits[0] - logits[1]).max())


CARDS = {
    "scenes": ("scenes", """trained only on drawn scenes""", """Scenes drawn by a program, whose labels follow known
rules. Since ImageNet it has seen no photograph, so what it says of photographs shows how the method answers; it is no
judgement of them, and none of people.""", """The scenes are drawn; nobody else has rights in them."""),
    "para": ("photographs", """trained on 25,336 photographs of PARA's official training set (2,836 more for
validation; the 48 with a copy in its test set left out; Yang et al., CVPR 2022)""",
        """What 438 people in one study thought of some thirty thousand photographs
from the web: *high* is a mean score above 3 of 5; *positive* is a majority of votes for amusement, excitement,
contentment or awe, against neutral and negative ones.

**What it can't do.** It has not seen paintings, screenshots or drawings, and the taste that it learnt is that of its
raters. Faces and bodies move its answer, so it is no judge of people. It sees squares: the aspect ratio is lost.""",
        """PARA is for research and learning, and
is not to be sold or passed on; no photograph, rating or prediction of it is here, only weights, and how
the means of its channels scatter over 768 photographs (`familiar.safetensors`), by which the inspector
says that a photo lies far from them: `results/familiar.json` has which do. Use them for research and learning too."""),
}
"""By data set: the folder in ``BUNDLED``, what it was trained on, what it knows, and the terms."""


def card(run: Run, weights: str, size: int, off: float, foreign: dict[str, float]) -> str:
    """What someone who finds the folder should know, in Markdown."""
    config, made, test = run.described, run.environment, next(iter(run.metrics.values()))["n"]
    _, trained, knows, terms = CARDS[config["data"]]
    rows = "\n".join(
        f"| {name} | {m['accuracy']:.3f} | {m['majority_accuracy']:.3f} | {m['balanced_accuracy']:.3f} | "
        f"{m['auc']:.3f} | {m['log_loss']:.3f} |" for name, m in run.metrics.items()
    )
    place = "/".join(["runs", *run.folder.parts[-4:]])
    commands = f"    {training_command(config)}\n    python -m aesthemo_studies pack {place}"
    if config["data"] == "para":
        commands = "    python -m aesthemo_studies photographs --root <PARA's folder> --oasis <OASIS' folder>"
    elsewhere = "".join(f"\n- {what}: AUC {value:.3f}" for what, value in foreign.items())
    elsewhere = f"\nOn photographs of a set that it never saw (OASIS, `results/photographs.json`):\n{elsewhere}\n"
    return f"""# A trained network to start from: {run.name}, preset {config["preset"]}

**What it is.** A branch for each task ({run.settings.backbone}), with layers between them that exchange maps;
{trained}, at {run.settings.crop} px. The weight matrices are kept in float16 ({size / 1e6:.1f} MB): over
{COMPARED} test images no logit is further than {off:.3f} from the network's in full precision.

**What it knows.** {knows}

**How good it is** on the {test} test images of split {config["split"]}, in full precision. One split and one seed, so
without an interval:

| task | accuracy | always the most frequent class | balanced accuracy | AUC | log-loss |
|---|---|---|---|---|---|
{rows}
{elsewhere if foreign else ""}
**How it was made**, with torch {made["torch"]} and Python {made["python"]} on {made["system"]} ({made["device"]}):

{commands}

**Terms.** Apache-2.0, as the project. The weights that the branches started from:
{LICENCES.get(weights, LICENCES["tf_efficientnet_lite0"])}. {terms} The method is the subject of patent application
CN109978074A.

The other files in this folder are those of the run in full precision.
"""
