"""The fused SGD gives the bits of the plain one, however gradients lie, and whenever they come."""

import pytest
import torch

from aesthemo_lib.training.optimiser import sgd

CHANNELS_LAST, PLAIN = torch.channels_last, torch.contiguous_format


def trained(make, layout: torch.memory_format, of_gradients: torch.memory_format, late: bool) -> list:
    """Four steps on two weights, the second of which may get its first gradient in the third."""
    dice = torch.Generator().manual_seed(0)
    shapes = [(8, 4, 3, 3), (16, 8, 1, 1)]
    drawn = [[torch.randn(shape, generator=dice) for shape in shapes] for _ in range(5)]
    weights = [torch.nn.Parameter(values.clone(memory_format=layout)) for values in drawn[0]]
    optimiser = make([{"params": weights, "lr": 0.1}])
    for step, gradients in enumerate(drawn[1:]):
        for i, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
            gone = late and i == 1 and step < 2
            weight.grad = None if gone else gradient.clone(memory_format=of_gradients)
        optimiser.step()
    return weights


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("of_gradients", [PLAIN, CHANNELS_LAST])
@pytest.mark.parametrize("layout", [PLAIN, CHANNELS_LAST])
def test_fused_steps_are_the_plain_ones(layout, of_gradients, late):
    def plain(groups):
        return torch.optim.SGD(groups, lr=0.0, momentum=0.9, weight_decay=5e-4, foreach=False)

    def fused(groups):
        return sgd(groups, momentum=0.9, weight_decay=5e-4)

    expected, found = (trained(make, layout, of_gradients, late) for make in (plain, fused))
    assert all(torch.equal(a, b) and a.stride() == b.stride() for a, b in zip(expected, found, strict=True))
