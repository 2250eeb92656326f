"""A finished run for other programs: a ``torch.export`` program and ONNX, with what their input has to be."""

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from . import __version__
from .data.batches import resize
from .files import atomic, write_json
from .models.inference import predict_logits
from .training.run import Run

TOLERANCE = 1e-4
"""The most by which a logit of an exported network may differ from the run's."""


class FromGreyLevels(nn.Module):
    """A run's network with its mean image and scale: (B, 3, s, s) float32 in 0..255 to the tasks' (B, C) logits."""

    def __init__(self, network: nn.Module, mean: np.ndarray, side: int):
        super().__init__()
        std, black = torch.tensor(network.std), torch.zeros(1, *mean.shape, dtype=torch.uint8)
        self.network = network
        self.register_buffer("black", resize(black, torch.as_tensor(mean), std, side).contiguous())  # (1, 3, s, s)
        self.register_buffer("scale", 1 / (255 * std[:, None, None]))

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network(pixels * self.scale + self.black).values())


def export(run: Run, out: Path) -> list[Path]:
    """Write ``network.pt2``, ``network.onnx`` where onnxscript and onnxruntime are installed, and ``network.json``.

    Each takes batches of any size, and is compared with the run before it gets its name.

    Raises:
        RuntimeError: what was written does not give the run's answers.
    """
    network, mean = run.network("cpu")
    network.to(memory_format=torch.contiguous_format)
    side, names = run.settings.crop, [task.name for task in run.tasks]
    images = np.random.default_rng(0).normal(mean, 60, (3, *mean.shape)).clip(0, 255).astype(np.uint8)
    expected = predict_logits(network, images, np.arange(3), mean, side, torch.device("cpu"), exact=True)
    plain = resize(torch.from_numpy(images), torch.zeros(mean.shape), torch.full((3,), 1 / 255), side).contiguous()
    writers: dict[str, Callable] = {"network.pt2": _write_program}
    if find_spec("onnxscript") and find_spec("onnxruntime"):
        writers["network.onnx"] = _write_onnx
    differences: dict[str, float] = {}
    with ExitStack() as stack, warnings.catch_warnings(action="ignore"):  # advice to those who wrote the network
        program = torch.export.export(FromGreyLevels(network, mean, side).eval(), (plain[:2],),
                                      dynamic_shapes=({0: torch.export.Dim("batch")},))
        for name, write in writers.items():
            answers = zip(names, write(program, stack.enter_context(atomic(out / name)), plain, names), strict=True)
            differences[name] = max(float(np.abs(logits - expected[task]).max()) for task, logits in answers)
            if not differences[name] <= TOLERANCE:
                raise RuntimeError(f"{name} was not written: its logits differ from those of {run.folder} by "
                                   f"{differences[name]:.2g}, and {TOLERANCE} is allowed")
    write_json(out / "network.json", _description(run, network, differences))
    return [out / name for name in (*writers, "network.json")]


def _write_program(program, file: Path, pixels: Tensor, names: list[str]) -> list[np.ndarray]:
    torch.export.save(program, file)
    with torch.inference_mode():
        return [answer.numpy() for answer in torch.export.load(file).module()(pixels)]


def _write_onnx(program, file: Path, pixels: Tensor, names: list[str]) -> list[np.ndarray]:
    import onnxruntime

    torch.onnx.export(program, f=file, dynamo=True, input_names=["pixels"], output_names=names, external_data=False,
                      verbose=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(names, {"pixels": pixels.numpy()})


def _description(run: Run, network: nn.Module, differences: dict[str, float]) -> dict:
    """What ``network.json`` holds: enough to use the network without this library."""
    full, crop = run.settings.resize, run.settings.crop
    return {
        "run": {"method": run.name, "data": run.described["data"], "hash": run.hash, "aesthemo_lib": __version__},
        "input": {"name": "pixels", "shape": ["batch", 3, crop, crop], "type": "float32", "range": [0, 255],
                  "channels": ["red", "green", "blue"]},
        "preprocessing": "decode as upright sRGB, transparency over white; stretch to resize x resize pixels, bilinear "
        "with antialiasing, rounded to whole grey levels; resize the whole to crop x crop in the same way",
        "resize": full, "crop": crop,
        "within the network": "subtracts the training images' mean image, divides by 255 and by std",
        "std": list(network.std), "precision": "float32",
        "outputs": {task.name: {"classes": list(task.classes), "values": "logits; softmax makes them probabilities"}
                    for task in run.tasks},
        "largest difference of a logit from the run's": differences,
    }
