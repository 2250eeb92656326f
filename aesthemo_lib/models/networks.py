"""The networks, all with one interface: ``network(images) -> {task name: logits}``.

Images are (B, 3, H, W) float tensors as ``data.batches`` makes them; logits are (B, C) by task name.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..files import read_json, read_tensors
from ..tasks import Task
from .appearance import ColourTexture
from .backbones import Backbone, Network, backbone
from .fusion import CrossBranchLayer, CrossStitchUnit, NDDRLayer
from .inference import evaluating
from .sequence import TaskSequence


class Branches(Network):
    """T parallel branches, one per task, each of n conv groups and a head, with nothing between them.

    Args:
        tasks, backbones: T tasks, and T branches in their order, which the network takes over.
        shared: the first so many conv groups are one trunk for all tasks (the first backbone's).
    """

    def __init__(self, tasks: tuple[Task, ...], backbones: Sequence[Backbone], shared: int = 0):
        super().__init__(tasks, backbones)
        self.trunk = nn.Sequential(*backbones[0].groups[:shared])
        for branch in backbones:
            branch.groups = branch.groups[shared:]
        self.branches = nn.ModuleList(backbones)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) to {task name: (B, C)}."""
        return self.after_frozen(self.frozen(images))

    def after_frozen(self, maps: Tensor) -> dict[str, Tensor]:
        """From what the frozen groups put out (the images themselves, if there are none) to the logits."""
        return self.onward(0, [self.trunk(maps)] * len(self.tasks))

    def onward(self, start: int, maps: list[Tensor]) -> dict[str, Tensor]:
        """From what enters the branches' groups number ``start`` (from 0), one map per task, to the logits."""
        for i in range(start, len(self.branches[0].groups)):
            maps = self.exchange(i, [branch.groups[i](x) for branch, x in zip(self.branches, maps, strict=True)])
        return {task.name: branch.head(x) for task, branch, x in zip(self.tasks, self.branches, maps, strict=True)}

    def exchange(self, i: int, maps: list[Tensor]) -> list[Tensor]:
        """What happens between the branches after their i-th group (from 0): here nothing."""
        return maps

    def parts(self) -> list[tuple[list[nn.Module], nn.Sequential]]:
        return [([*self.trunk, *branch.groups], branch.head) for branch in self.branches]


class Independent(Branches):
    """One network per task, each trained by itself: the honest reference."""

    def single_task(self, i: int) -> Branches:
        """Task i's network by itself, with loss weight 1. It shares its parameters with this one."""
        single = Branches((replace(self.tasks[i], loss_weight=1.0),), [self.branches[i]])
        single.frozen = self.frozen
        return single


class Exchanging(Branches):
    """Branches with an exchange layer after each of the first n-1 conv groups (claim 2).

    ``layer`` makes the i-th (from 1) for K channels. With ``after_last`` there is a further one between the last group
    and the fully connected layers; [0048] leaves it open. The patent has two branches.
    """

    def __init__(
        self, tasks: tuple[Task, ...], backbones: Sequence[Backbone], layer: Callable[[int, int], nn.Module],
        after_last: bool,
    ):
        super().__init__(tasks, backbones)
        own = self.channels[len(self.trunk):]  # the branches' groups
        layers = len(own) if after_last else len(own) - 1
        self.exchanges = nn.ModuleList(layer(i, channels) for i, channels in enumerate(own[:layers], 1))

    def exchange(self, i: int, maps: list[Tensor]) -> list[Tensor]:
        return self.exchanges[i](maps) if i < len(self.exchanges) else maps

    def exchange_parameters(self) -> Iterator[nn.Parameter]:
        return self.exchanges.parameters()


class CrossBranch(Exchanging):
    """The patent's network.

    Args:
        init, alpha, beta, own_twice: of the cross-branch layers, see ``CrossBranchLayer``.
        after_last: see ``Exchanging``.
        without: links that are left out, each (layer from 1, receiving task, source task).

    Raises:
        ValueError: a link that the network does not have.
    """

    def __init__(
        self, tasks: tuple[Task, ...], backbones: Sequence[Backbone], *,
        init: str = "diagonal", alpha: float = 0.9, beta: float = 0.1, after_last: bool = False,
        own_twice: bool = False, without: Sequence[tuple[int, str, str]] = (),
    ):
        names = [task.name for task in tasks]
        known = [[i, t, s] for i in range(1, len(backbones[0].groups) + after_last)
                 for t in names for s in names if t != s]
        for link in without:
            if list(link) not in known:
                raise ValueError(f"without: no link {list(link)}; the network's links, as [layer, receiver, source], "
                                 f"are {', '.join(map(str, known))}")

        def layer(i: int, channels: int) -> CrossBranchLayer:
            left_out = [(names.index(t), names.index(s)) for at, t, s in without if at == i]
            return CrossBranchLayer(len(tasks), channels, init, alpha, beta, own_twice, left_out)

        super().__init__(tasks, backbones, layer, after_last)


class CrossStitch(Exchanging):
    """Cross-stitch networks (Misra et al. 2016) at the patent's places; see ``CrossStitchUnit``."""

    def __init__(
        self, tasks: tuple[Task, ...], backbones: Sequence[Backbone], *,
        alpha: float = 0.9, beta: float = 0.1, after_last: bool = False,
    ):
        super().__init__(tasks, backbones, lambda _, k: CrossStitchUnit(len(tasks), k, alpha, beta), after_last)


class NDDR(Exchanging):
    """NDDR-CNN (Gao et al. 2019) at the patent's places; see ``NDDRLayer``."""

    def __init__(
        self, tasks: tuple[Task, ...], backbones: Sequence[Backbone], *,
        alpha: float = 0.9, beta: float = 0.1, after_last: bool = False,
    ):
        super().__init__(tasks, backbones, lambda _, k: NDDRLayer(len(tasks), k, alpha, beta), after_last)


class SharedBottom(Branches):
    """Hard sharing [0049]: the first ``depth`` conv groups are one trunk for all tasks, the rest one branch per task.

    Args:
        depth: 1..n; by default all n groups, so that each task has only a head of its own.
    """

    def __init__(self, tasks: tuple[Task, ...], backbones: Sequence[Backbone], *, depth: int | None = None):
        groups = len(backbones[0].groups)
        depth = groups if depth is None else depth
        if not 1 <= depth <= groups:
            raise ValueError(f"depth: {backbones[0].name} has {groups} conv groups; expected 1..{groups}, got {depth}")
        super().__init__(tasks, backbones, depth)
        self.register_load_state_dict_pre_hook(_as_groups_and_head)


def _as_groups_and_head(network: SharedBottom, state: dict[str, Tensor], prefix: str, *_) -> None:
    """Read weights of earlier versions, which numbered a branch's groups and its head in one row."""
    rest = len(network.branches[0].groups)
    for key in [key for key in state if key.startswith(f"{prefix}branches.")]:
        branch, number, name = key.removeprefix(f"{prefix}branches.").split(".", 2)
        if number.isdigit():
            part = f"groups.{number}" if int(number) < rest else "head"
            state[f"{prefix}branches.{branch}.{part}.{name}"] = state.pop(key)


class LinearProbe(SharedBottom):
    """The pretrained network as it is, with one linear layer per task, which ``training.probe`` fits."""

    def __init__(self, tasks: tuple[Task, ...], backbones: Sequence[Backbone]):
        super().__init__(tasks, backbones)


METHODS: dict[str, type[Network]] = {
    "cross_branch": CrossBranch, "independent": Independent, "shared_bottom": SharedBottom,
    "cross_stitch": CrossStitch, "nddr": NDDR, "bilstm": TaskSequence, "colour_texture": ColourTexture,
    "linear_probe": LinearProbe,
}
SAME = 0.01
"""Branches of a trained network whose frozen groups differ by less than this, relative to their norm, share one copy:
in the bundled network for photographs it is .0006, and the AUCs on OASIS move by .0004."""
VARIANTS = {"cross_branch": ("diagonal", "random", "default")}
"""A method's variants; for ``cross_branch`` they are the initialisation of its cross-branch layers."""


def build(
    method: str, tasks: tuple[Task, ...], name: str, weights: str = "imagenet",
    variant: str | None = None, seed: int = 0, frozen: int = 0, **options,
) -> Network:
    """A network by its method's name, its random parts drawn from ``seed``.

    Args:
        method, tasks: one of ``METHODS``, and T tasks.
        name, weights: of every branch, see ``backbones.backbone``; or the folder of a finished run as weights, where
            branches start from those of their tasks (without last layers), exchanges from those of the same method.
        variant: one of ``VARIANTS[method]``.
        frozen: so many of the first conv groups stay as they are, one copy for all branches, which begin behind them.
        options: the method's own, such as ``depth``, ``alpha`` or ``after_last``.

    Raises:
        ValueError: an unknown method, variant or option; or so many frozen groups that no exchange is left.
    """
    options = checked_options(method, variant, options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        run = Path(weights) / "config.json"
        backbones = [backbone(name, len(task.classes), "none" if run.is_file() else weights) for task in tasks]
        trained = _take_over(backbones, tasks, run.parent) if run.is_file() else None
        trunk = _cut_off(method, backbones, frozen, options) if frozen else None
        network = METHODS[method](tasks, backbones, **options)
        if isinstance(trained, Exchanging) and type(trained) is type(network):
            gone = frozen - len(trained.frozen)  # layers that lie among frozen groups, where there are none
            for mine, theirs in zip(network.exchanges[max(-gone, 0):], trained.exchanges[max(gone, 0):], strict=False):
                mine.load_state_dict(theirs.state_dict())
    if trunk is not None:
        network.frozen = trunk.requires_grad_(False)
    return network


def _take_over(backbones: Sequence[Backbone], tasks: tuple[Task, ...], run: Path) -> Network | None:
    """Start branches where a run ended (its task's, or the first); returns its network, if that has these tasks."""
    config = read_json(run / "config.json")["config"]
    known = tuple(Task(t["name"], tuple(t["classes"]), t["loss_weight"]) for t in config["tasks"])
    settings = config["settings"]
    trained = build(config["method"], known, settings["backbone"], "none", config["variant"],
                    frozen=settings.get("frozen_groups", 0), **config["options"])
    if not isinstance(trained, Branches) or settings["backbone"] != backbones[0].name:
        raise ValueError(f"weights: {run} holds {config['method']} on {settings['backbone']}; expected branches of "
                         f"{backbones[0].name}, as cross_branch, independent or shared_bottom have")
    state = read_tensors(run / "model.safetensors")
    state.pop("mean_image")
    trained.load_state_dict(state)
    names = [task.name for task in known]
    for task, branch in zip(tasks, backbones, strict=True):
        groups, head = trained.parts()[names.index(task.name) if task.name in names else 0]
        old, new = [*trained.frozen, *groups, *head[:-1]], [*branch.groups, *branch.head[:-1]]
        for mine, theirs in zip(new, old, strict=True):
            mine.load_state_dict(theirs.state_dict())
        branch.weights = f"run {run.name}"
    return trained if names == [task.name for task in tasks] else None


def _cut_off(method: str, backbones: Sequence[Backbone], frozen: int, options: dict) -> nn.Sequential:
    """Take the first groups off all branches; returns those of the first branch, which serve the others as well."""
    groups = len(backbones[0].groups)
    if not hasattr(METHODS[method], "after_frozen"):
        raise ValueError(f"frozen_groups: method {method!r} reads the pixels themselves; use frozen_groups=0")
    live = groups - 1 - frozen + bool(options.get("after_last"))
    if frozen >= groups or (issubclass(METHODS[method], Exchanging) and live < 1):
        raise ValueError(
            f"frozen_groups={frozen}: {backbones[0].name} has {groups} groups. Behind frozen groups all branches hold "
            f"the same maps, so an exchange there borrows nothing; an exchange after a trained group must be left "
            f"(freeze at most {groups - 2 + bool(options.get('after_last'))}, or exchange after the last group too)")
    trunk = nn.Sequential(*list(backbones[0].groups)[:frozen])
    first = _numbers(trunk)
    for branch in backbones:
        mine = _numbers(nn.Sequential(*list(branch.groups)[:frozen]))
        if branch.weights != "random" and (mine - first).norm() > SAME * first.norm():
            raise ValueError(
                f"frozen_groups={frozen}: the branches start from different weights ({branch.weights}), so no one copy "
                f"of their first groups serves all; use frozen_groups=0")
        branch.groups, branch.channels = branch.groups[frozen:], branch.channels[frozen:]
    return trunk


def _numbers(module: nn.Module) -> Tensor:
    return torch.cat([value.flatten().float() for value in module.state_dict().values()])


def checked_options(method: str, variant: str | None, options: dict) -> dict:
    """A method's options with the variant among them; a ValueError names what the method doesn't know."""
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; choose one of {', '.join(METHODS)}")
    variants = VARIANTS.get(method, ())
    if variant is not None and variant not in variants:
        raise ValueError(f"method {method!r} has no variant {variant!r}; its variants: {', '.join(variants) or 'none'}")
    known = inspect.getfullargspec(METHODS[method]).kwonlyargs
    if unknown := set(options) - set(known):
        raise ValueError(f"method {method!r} has no option {sorted(unknown)[0]!r}; "
                         f"its options: {', '.join(known) or 'none'}")
    return options | ({"init": variant} if variant else {})


def count_parameters(network: nn.Module) -> int:
    """All trainable numbers of a network."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def count_multiplies(network: nn.Module, side: int) -> int:
    """Multiply-adds of one (1, 3, side, side) image in convolutions and fully connected layers."""
    from torch.utils.flop_counter import FlopCounterMode

    device = next(network.parameters()).device
    with evaluating(network), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, side, side, device=device))
    return counter.get_total_flops() // 2  # a multiply-add counts as two operations there


def map_shapes(network: Network, side: int) -> list[tuple[int, int, int]]:
    """The (K, H, W) of each conv group's maps for (3, side, side) images, without computing anything."""
    shapes: list[tuple[int, int, int]] = []
    state = {name: value.to("meta") for name, value in (*network.named_parameters(), *network.named_buffers())}
    with ExitStack() as stack, evaluating(network):
        for group in (*network.frozen, *network.parts()[0][0]):
            hook = group.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
            stack.callback(hook.remove)
        torch.func.functional_call(network, state, torch.empty(1, 3, side, side, device="meta"))
    return shapes
