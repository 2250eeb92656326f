"""What each part of ``models.quick_cpu`` saves: ``python -m bench.quick_cpu [--rounds 5]``.

With ``ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2`` a processor with more stands in for one with AVX2 in float32.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import numpy as np
import torch

from aesthemo_lib.device import fast_precision, set_threads
from aesthemo_lib.models import quick_cpu as page
from aesthemo_lib.models.inference import evaluating
from aesthemo_lib.models.networks import Network, build
from aesthemo_lib.tasks import PATENT_TASKS

SIDE, BATCH = 128, 32
PARTS: dict[str, dict[str, Callable]] = {
    "nothing": {"_quicker": lambda _: ()}, "folding": {"_has_slow_gradients": lambda *_: False},
    "depthwise gradients": {"pairwise": lambda _: ()}, "both": {},
}
"""By name what is put out of action in that page."""


@contextmanager
def only(part: str, network: Network) -> Iterator[None]:
    """The network with one part of the page."""
    with ExitStack() as stack:
        for name, instead in PARTS[part].items():
            stack.enter_context(patch.object(page, name, instead))
        stack.enter_context(page.quick_cpu(network))
        yield


def works(network: Network, precision: torch.dtype) -> dict[str, Callable[[], None]]:
    """A training step with kept statistics, without the optimiser, and a prediction."""
    images = torch.randn(BATCH, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)

    def forward() -> dict[str, torch.Tensor]:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            return network(images)

    def step() -> None:
        torch.stack([logits.float().square().mean() for logits in forward().values()]).sum().backward()
        network.zero_grad()

    return {"training step": step, "prediction": torch.inference_mode()(forward)}


def main() -> None:
    """Alternate the parts, and print the medians of their CPU time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    set_threads(1)
    precision = fast_precision(torch.device("cpu"))
    network = build("cross_branch", PATENT_TASKS, "efficientnet_lite0", "imagenet", "diagonal")
    network.to(memory_format=torch.channels_last)
    for name, work in works(network, precision).items():
        seconds: dict[str, list[float]] = {part: [] for part in PARTS}
        for _ in range(asked.rounds + 1):
            for part, times in seconds.items():
                with only(part, network), evaluating(network):
                    began = time.process_time()
                    work()
                    times.append(time.process_time() - began)
        medians = {part: float(np.median(times[1:])) for part, times in seconds.items()}  # the first only warms up
        for part, median in medians.items():
            print(f"{name}, {precision}, {part}: {median:.2f} s, {median / medians['nothing']:.2f} of nothing")


if __name__ == "__main__":
    main()
