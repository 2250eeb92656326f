"""What an interrupted training resumes from: its state after each epoch, in a folder next to the run."""

import math
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from ..files import atomic_folder, read_json, read_tensors, write_json
from .optimiser import load_state_tensors, state_tensors


def contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors takes them: on the CPU, in plain layout; those that are so already are not copied."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def save_state(folder: Path, epoch: int, loop: Any, better: bool, history: list[dict]) -> None:
    """Write the state after an epoch, whole or not at all, then drop the one before.

    ``loop``: of ``training.fit``; ``better``: this epoch's weights are the best so far, not those in the state before.
    """
    target = folder / f"epoch-{epoch}"
    with atomic_folder(target) as whole:
        save_file(contiguous(loop.network.state_dict()), whole / "model.safetensors")
        save_file(contiguous(loop.aggregation.state_dict()), whole / "aggregation.safetensors")
        before = newest(folder)
        if better or before is None:
            save_file(contiguous(loop.tested()), whole / "best.safetensors")
        else:
            shutil.copyfile(before / "best.safetensors", whole / "best.safetensors")
        save_file(contiguous(state_tensors(loop.optimiser)), whole / "optimiser.safetensors")
        save_file(contiguous(loop.average), whole / "average.safetensors")
        write_json(whole / "scaler.json", loop.scaler.state_dict())
        write_json(whole / "history.json", [{k: None if v != v else v for k, v in row.items()} for row in history])
    for old in folder.glob("epoch-*"):
        if old != target:
            shutil.rmtree(old, ignore_errors=True)


def newest(folder: Path) -> Path | None:
    """The newest whole state, None if there is none."""
    return max(folder.glob("epoch-*"), key=lambda path: int(path.name.split("-")[1]), default=None)


def best_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of the best epoch so far, from the newest state."""
    state = newest(folder)
    return read_tensors(state / "best.safetensors") if state else {}


def resume(folder: Path, loop: Any) -> list[dict]:
    """Put the newest whole state back into network, aggregation and optimiser; an empty history if there is none."""
    state = newest(folder)
    if state is None:
        return []
    try:
        return _read_state(state, loop)
    except (ValueError, OSError, RuntimeError, LookupError) as fault:
        reason = " ".join(str(fault).split())[:300]
        raise ValueError(f"{state} is damaged, or of another version ({reason}); delete {folder} to train from the "
                         f"start") from fault


def _read_state(state: Path, loop: Any) -> list[dict]:
    loop.network.load_state_dict(read_tensors(state / "model.safetensors"))
    if loop.aggregation.state_dict():
        loop.aggregation.load_state_dict(read_tensors(state / "aggregation.safetensors"))
    load_state_tensors(loop.optimiser, read_tensors(state / "optimiser.safetensors"))
    for name, value in read_tensors(state / "average.safetensors").items():
        loop.average[name].copy_(value)
    if (state / "scaler.json").exists():
        loop.scaler.load_state_dict(read_json(state / "scaler.json"))
    read_tensors(state / "best.safetensors")  # damage is reported now, not when the training ends
    return [{k: math.nan if v is None else v for k, v in row.items()} for row in read_json(state / "history.json")]
