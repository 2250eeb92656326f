"""The backbones' layers as they run here, against torch's and timm's own."""

import copy
from contextlib import contextmanager, nullcontext

import pytest
import timm
import torch
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.nn.functional import conv2d, pad

from aesthemo_lib.models import quick_cpu as page
from aesthemo_lib.models.backbones import backbone
from aesthemo_lib.models.networks import build
from aesthemo_lib.models.quick_cpu import Depthwise, quick_cpu
from aesthemo_lib.tasks import PATENT_TASKS


def set_norms(network: nn.Module) -> nn.Module:
    """Statistics and factors as a trained network has them: none of them 0 or 1."""
    dice = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for values, low in ((module.weight, 0.5), (module.bias, -1), (module.running_mean, -1),
                                (module.running_var, 0.5)):
                values.data.copy_(low + torch.rand(values.shape, generator=dice))
    return network


def pieces(network: nn.Module) -> nn.Module:
    """The stem and four blocks of a timm network: padded and depthwise convolutions of all kinds that there are."""
    blocks = network.blocks
    return nn.Sequential(network.conv_stem, network.bn1, blocks[0], blocks[1], blocks[2][:1], blocks[5][:1])


@contextmanager
def no_normalisation():
    """Within this block a batch normalisation that computes anything is an error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.functional, "batch_norm", lambda *_, **__: pytest.fail("a normalisation was not folded"))
        yield


def slopes(network: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    x = x.clone().requires_grad_()
    out = network(x)
    network.zero_grad()
    out.square().mean().backward()
    return out.detach(), {"x": x.grad} | {name: value.grad.clone() for name, value in network.named_parameters()}


@pytest.mark.parametrize("side", [32, 35])
def test_kept_statistics_are_taken_into_the_kernels_and_all_gradients_stay_the_same(side):
    plain = set_norms(pieces(timm.create_model("tf_efficientnet_lite0"))[:4]).double().eval()
    x = torch.randn(2, 3, side, side, dtype=torch.float64)
    out, expected = slopes(plain, x)
    with quick_cpu(plain), no_normalisation():
        again, actual = slopes(plain, x)
    torch.testing.assert_close(again, out, rtol=1e-9, atol=1e-9)
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-7, atol=1e-10, msg=name)


def test_statistics_of_the_batch_are_left_alone():
    """In training mode nothing is folded: the batch's own mean and variance count, and the running ones move."""
    plain = set_norms(pieces(timm.create_model("tf_efficientnet_lite0"))[:4]).double().train()
    mine = copy.deepcopy(plain)
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    out, expected = slopes(plain, x)
    with quick_cpu(mine):
        again, actual = slopes(mine, x)
    torch.testing.assert_close(again, out)
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-6, atol=1e-9, msg=name)
    for name, value in plain.state_dict().items():
        assert torch.equal(mine.state_dict()[name], value), name


def test_a_bias_before_the_normalisation_counts():
    """torchvision's VGG with batch normalisation has both."""
    plain = set_norms(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())).double().eval()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    expected = plain(x)
    with quick_cpu(plain), no_normalisation():
        torch.testing.assert_close(plain(x), expected)


@pytest.mark.parametrize(("name", "norms"), [("efficientnet_lite0", 49), ("vgg11_bn", 8)])
def test_all_normalisations_of_a_backbone_are_folded_and_come_back(name, norms):
    branch = backbone(name, 2, "none").eval()
    assert sum(isinstance(m, nn.BatchNorm2d) for m in branch.modules()) == norms
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        plain = branch(images)
        with quick_cpu(branch):
            with no_normalisation(), quick_cpu(branch):  # one within another, as validation is within training
                torch.testing.assert_close(branch(images), plain, rtol=1e-3, atol=1e-5)
            with no_normalisation():
                branch(images)
        assert torch.equal(branch(images), plain)
    assert not any("forward" in vars(m) for m in branch.modules())


def test_one_setting_turns_it_off(monkeypatch):
    monkeypatch.setenv(page.SWITCH, "0")
    branch = backbone("vgg11_bn", 2, "none")
    with quick_cpu(branch):
        assert not any("forward" in vars(m) for m in branch.modules())


def test_layers_that_it_does_not_know_are_left_alone():
    class Standardised(nn.Conv2d):
        def forward(self, x):
            return super()._conv_forward(x, self.weight - self.weight.mean(), self.bias)

    torch.manual_seed(0)
    kinds = (nn.Sequential(Standardised(3, 4, 3), nn.BatchNorm2d(4)), nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(),
             nn.BatchNorm2d(4)), nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)),
             nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)))
    x = torch.randn(2, 3, 8, 8)
    for network in kinds:
        plain = set_norms(network).eval()(x) if network[-1].affine and network[-1].track_running_stats else network(x)
        with quick_cpu(network):
            torch.testing.assert_close(network(x), plain)


def test_exchange_layers_keep_their_normalisation():
    network, images = build("nddr", PATENT_TASKS, "tiny", "none").eval(), torch.randn(2, 3, 32, 32)
    plain = network(images)["emotion"]
    with quick_cpu(network):
        assert torch.equal(network(images)["emotion"], plain)


def same(x, weight, bias, stride):
    """The convolution as TensorFlow pads it, by torch's own."""
    size = weight.shape[-1]
    before, after = (size // 2,) * 2 if stride == 1 else ((size - 3) // 2, (size - 3) // 2 + 1)
    return conv2d(pad(x, (before, after) * 2), weight, bias, stride, groups=len(weight))


@given(size=st.sampled_from([3, 5]), stride=st.sampled_from([1, 2]), height=st.integers(1, 4), width=st.integers(1, 4),
       biased=st.booleans(), channels=st.integers(2, 5))
@settings(max_examples=30, deadline=None)
def test_depthwise_gradients_are_torchs(size, stride, height, width, biased, channels):
    torch.manual_seed(size * stride * height)
    inputs = [torch.randn(2, channels, 2 * height, 2 * width), torch.randn(channels, 1, size, size)]
    inputs += [torch.randn(channels)] if biased else []
    inputs = [values.double().requires_grad_() for values in inputs]
    x, weight, bias = *inputs[:2], inputs[2] if biased else None
    mine, torchs = Depthwise.apply(x, weight, bias, stride), same(x, weight, bias, stride)
    assert torch.equal(mine, torchs)
    slope = torch.randn_like(mine)
    for actual, expected in zip(torch.autograd.grad(mine, inputs, slope), torch.autograd.grad(torchs, inputs, slope),
                                strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_slopes_have_slopes(stride):
    """Some attributions and balances of losses take a gradient's gradient."""
    inputs = [torch.randn(1, 2, 4, 4), torch.randn(2, 1, 5, 5), torch.randn(2)]
    inputs = [values.double().requires_grad_() for values in inputs]
    assert torch.autograd.gradgradcheck(lambda *values: Depthwise.apply(*values, stride), inputs)


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (5, 1), (3, 2), (5, 2)])
def test_a_depthwise_layer_trains_in_bfloat16_as_exactly_as_that_is(size, stride):
    """Beside float32 of the same rounded numbers: gradients differ by rounding alone, and have the parameters' type."""
    torch.manual_seed(0)
    block = timm.layers.create_conv2d(16, 16, size, stride=stride, depthwise=True, padding="same")
    holder = nn.Sequential(block)
    x = torch.randn(8, 16, 24, 24).bfloat16().contiguous(memory_format=torch.channels_last)
    block.weight.data = block.weight.data.bfloat16().float()
    exact = x.float().requires_grad_()
    expected = same(exact, block.weight, None, stride)
    slope = torch.randn_like(expected).bfloat16()
    by_x, by_weight = torch.autograd.grad(expected, (exact, block.weight), slope.float())
    mine = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16), quick_cpu(holder):
        out = holder(mine)
    assert "Depthwise" in type(out.grad_fn).__name__
    out.backward(slope)
    assert mine.grad.dtype == torch.bfloat16 and block.weight.grad.dtype == torch.float32
    for actual, true in ((out, expected), (mine.grad, by_x), (block.weight.grad, by_weight)):
        assert (actual.float() - true).abs().max() < 2**-7 * true.abs().max()


def test_what_depthwise_does_not_know_is_left_to_torch():
    """Odd sides at stride 2, padding of another kind, 7x7 kernels: the same numbers by torch's own ways."""
    for layer, side in ((timm.layers.create_conv2d(4, 4, 3, stride=2, depthwise=True, padding="same"), 9),
                        (nn.Conv2d(4, 4, 3, 2, 1, groups=4), 8), (nn.Conv2d(4, 4, 7, 1, 3, groups=4), 8),
                        (nn.Conv2d(4, 8, 3, 1, 1, groups=4), 8)):
        holder, x = nn.Sequential(layer), torch.randn(2, 4, side, side, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16):
            expected = holder(x)
            with quick_cpu(holder):
                mine = holder(x)
        assert torch.equal(mine, expected) and "Depthwise" not in type(mine.grad_fn).__name__


def test_max_pooling_keeps_no_places_and_gives_the_same_gradient():
    """torch's own keeps eight bytes for each cell; ties, which rectified maps have in plenty, go to the same cell."""
    x, kept = torch.randint(0, 3, (2, 4, 9, 9)).float(), []
    for context in (nullcontext, quick_cpu):
        mine, held, pool = x.clone().requires_grad_(), [], nn.Sequential(nn.MaxPool2d(2))
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda t, held=held: held.append(t) or t, lambda t: t)
        with hooks, context(pool):
            pooled = pool(mine)
        (pooled * torch.arange(pooled.numel()).view_as(pooled)).sum().backward()
        kept.append((pooled, mine.grad, any(t.dtype == torch.int64 and t.numel() > 1 for t in held)))
    (plain, slope, places), (thrifty, again, none) = kept
    assert torch.equal(plain, thrifty) and torch.equal(slope, again) and places and not none


def test_large_fully_connected_layers_train_in_float32_on_a_processor(monkeypatch):
    """Their product is float32's of the rounded maps; small layers, and a mere prediction, are left to autocast."""
    head = backbone("tiny", 8, "none").head  # 128 x 64 weights, then 64 x 64
    large, x = next(layer for layer in head if isinstance(layer, nn.Linear)), torch.randn(3, 128).bfloat16()
    exact = x.float() @ large.weight.T + large.bias
    rounded = nn.functional.linear(x, large.weight.bfloat16(), large.bias.bfloat16())
    for threshold, trained in ((10_000, rounded), (5_000, exact.bfloat16())):
        monkeypatch.setattr(page, "LARGE", threshold)
        with torch.autocast("cpu", torch.bfloat16), quick_cpu(head):
            assert torch.equal(large(x), trained)
            with torch.no_grad():
                assert torch.equal(large(x), rounded)
