"""Ablation of streams (our *cuts*): zero, mean and resample ablation, and from one photo activation patching."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from .streams import Stream, hook_point, record, replaced

CUTS = ("zero", "mean", "resample")


@contextmanager
def cut(
    network: nn.Module, which: Stream | Sequence[Stream], how: str = "zero", reference: Tensor | None = None,
    seed: int = 0,
) -> Iterator[nn.Module]:
    """Within this block, some streams carry nothing of the image at hand, and the network answers without them.

    Args:
        how: 'zero' ablation; 'mean' ablation (the reference photos' mean map); 'resample' ablation (the maps of one
            reference photo, drawn anew for each image, the same for all streams; with a single reference photo this is
            activation patching, our *transplant*).
        reference: (R, 3, s, s) for 'mean' and 'resample'.
        seed: of the draws.
    """
    if how not in CUTS:
        raise ValueError(f"how: unknown {how!r}; choose one of {', '.join(CUTS)}")
    if how != "zero" and reference is None:
        raise ValueError(f"how={how!r} needs reference: photos whose maps stand in for the image's own")
    which = [which] if isinstance(which, Stream) else list(which)
    kept = {} if how == "zero" else record(network, which, reference)
    rng, donors = np.random.default_rng(seed), []

    def draw(module, args):
        donors[:] = [torch.from_numpy(rng.integers(0, len(reference), len(args[0]))).to(reference.device)]

    def instead(stream):
        if how == "zero":
            return torch.zeros_like
        if how == "mean":
            return lambda x: kept[stream].mean(0, keepdim=True).expand_as(x)
        return lambda x: kept[stream][donors[0]]

    with ExitStack() as stack:
        if how == "resample":
            stack.callback(network.register_forward_pre_hook(draw).remove)
        for stream in which:
            stack.enter_context(replaced(hook_point(network, stream), instead(stream)))
        yield network
