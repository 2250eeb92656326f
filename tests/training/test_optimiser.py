"""The fused optimisers give the bits of the plain ones, however gradients lie, and whenever they come."""

import pytest
import torch

from aesthemo_lib.training.optimiser import load_state_tensors, optimiser, state_tensors

CHANNELS_LAST, PLAIN = torch.channels_last, torch.contiguous_format


def trained(make, layout: torch.memory_format, of_gradients: torch.memory_format, late: bool) -> list:
    """Four steps on two weights, the second of which may get its first gradient in the third."""
    dice = torch.Generator().manual_seed(0)
    shapes = [(8, 4, 3, 3), (16, 8, 1, 1)]
    drawn = [[torch.randn(shape, generator=dice) for shape in shapes] for _ in range(5)]
    weights = [torch.nn.Parameter(values.clone(memory_format=layout)) for values in drawn[0]]
    chosen = make([{"params": weights, "lr": 0.1}])
    for step, gradients in enumerate(drawn[1:]):
        for i, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
            gone = late and i == 1 and step < 2
            weight.grad = None if gone else gradient.clone(memory_format=of_gradients)
        chosen.step()
    return weights


PLAIN_ONES = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.0, momentum=0.9, weight_decay=5e-4, foreach=False),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.0, weight_decay=5e-4, foreach=False),
}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("of_gradients", [PLAIN, CHANNELS_LAST])
@pytest.mark.parametrize("layout", [PLAIN, CHANNELS_LAST])
@pytest.mark.parametrize("kind", PLAIN_ONES)
def test_fused_steps_are_the_plain_ones(kind, layout, of_gradients, late):
    def fused(groups):
        return optimiser(kind, groups, momentum=0.9, weight_decay=5e-4)

    expected, actual = (trained(make, layout, of_gradients, late) for make in (PLAIN_ONES[kind], fused))
    for a, b in zip(expected, actual, strict=True):
        assert a.stride() == b.stride()
        torch.testing.assert_close(a, b, rtol=0, atol=0 if kind == "sgd" else 1e-6)


@pytest.mark.parametrize("kind", PLAIN_ONES)
def test_a_state_that_is_put_back_goes_on_with_the_same_bits(kind):
    def weight(values):
        return torch.nn.Parameter(values.clone(memory_format=CHANNELS_LAST))

    start, gradients = torch.randn(4, 3, 2, 2), [torch.randn(4, 3, 2, 2) for _ in range(3)]
    one, other = weight(start), weight(start)
    makers = [optimiser(kind, [{"params": [w], "lr": 0.1}], 0.9, 1e-2) for w in (one, other)]
    for gradient in gradients[:2]:
        one.grad = gradient.clone(memory_format=CHANNELS_LAST)
        makers[0].step()
    other.data.copy_(one.data)
    load_state_tensors(makers[1], {name: value.contiguous() for name, value in state_tensors(makers[0]).items()})
    for w, made in zip((one, other), makers, strict=True):
        w.grad = gradients[2].clone(memory_format=CHANNELS_LAST)
        made.step()
    assert torch.equal(one, other)
