"""Streams, captum at their hook points, baselines and cuts, against gradients and forward passes worked out apart."""

import copy

import numpy as np
import pytest
import torch
from captum.attr import LayerGradientXActivation, LayerIntegratedGradients
from torch import nn

from aesthemo_lib import attribution
from aesthemo_lib.attribution.baselines import baseline
from aesthemo_lib.attribution.cuts import cut
from aesthemo_lib.attribution.maps import one_task, stream_map
from aesthemo_lib.attribution.streams import Stream, hook_point, record, streams
from aesthemo_lib.data.batches import resize
from aesthemo_lib.evaluation.metrics import softmax, task_metrics
from aesthemo_lib.models.fusion import HookPoint
from aesthemo_lib.models.inference import image_batches, predict_logits
from aesthemo_lib.models.networks import METHODS, build
from aesthemo_lib.tasks import PATENT_TASKS
from aesthemo_studies.attribution_checks.ledgers import channel_means, cut_table

AESTHETICS_BORROWS = Stream(1, "aesthetics", "emotion")


def network_of(method: str = "cross_branch", **options) -> nn.Module:
    """A small network whose logits differ enough to be explained."""
    variant = {"variant": "random"} if method == "cross_branch" else {}
    network = build(method, PATENT_TASKS, "tiny", "none", seed=3, **variant, **options)
    with torch.no_grad():
        for _, head in network.parts():
            if isinstance(head[-1], nn.Linear):
                head[-1].weight.mul_(100)
    return network.eval()


@pytest.fixture
def network() -> nn.Module:
    return network_of()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def with_flow(network: nn.Module, images: torch.Tensor, stream: Stream, flow: torch.Tensor) -> dict:
    """Logits with one stream's map given, by the layer's own convolutions alone: no hook point, no hook."""
    names = [task.name for task in network.tasks]
    maps = [images] * len(names)
    for i, exchange in enumerate(network.exchanges):
        maps = [branch.groups[i](x) for branch, x in zip(network.branches, maps, strict=True)]
        given = [list(maps) for _ in names]
        if stream.layer == i + 1:
            given[names.index(stream.receiver)][names.index(stream.source)] = flow
        maps = [conv(torch.cat(x, 1)) for conv, x in zip(exchange.convs, given, strict=True)]
    return network.onward(len(network.exchanges), maps)


def test_a_hook_changes_neither_function_nor_gradient(network, images):
    plain = {name: values.clone() for name, values in network(images).items()}
    sum(values.square().sum() for values in plain.values()).backward()
    gradients = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    seen = record(network, streams(network), images)
    assert len(seen) == 8
    handle = hook_point(network, AESTHETICS_BORROWS).register_forward_hook(lambda *_: None)
    again = network(images)
    sum(values.square().sum() for values in again.values()).backward()
    handle.remove()
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    for before, parameter in zip(gradients, network.parameters(), strict=True):
        assert torch.allclose(before, parameter.grad, rtol=1e-5, atol=1e-6)


def test_training_never_passes_through_a_hook_point(network, images, monkeypatch):
    monkeypatch.setattr(HookPoint, "forward", lambda *_: pytest.fail("a hook point ran in a training step"))
    stacked = []
    monkeypatch.setattr(torch, "cat", lambda x, dim=0, cat=torch.cat: stacked.append(len(x)) or cat(x, dim))
    network.train()
    network(images)["emotion"].sum().backward()
    assert stacked == [2, 2]  # one stack a layer, as without hook points
    assert all("hook_points" not in key for key in network.state_dict())
    assert not any("hook_points" in name for name, _ in network.named_parameters())


def test_gradient_at_a_hook_point_is_that_of_one_stream_alone(network, images):
    flow = record(network, [AESTHETICS_BORROWS], images)[AESTHETICS_BORROWS].requires_grad_()
    logit = with_flow(network, images, AESTHETICS_BORROWS, flow)["aesthetics"][:, 1]
    true = torch.autograd.grad(logit.sum(), flow)[0] * flow

    def at_the_port():
        place = hook_point(network, AESTHETICS_BORROWS)
        return LayerGradientXActivation(one_task(network, "aesthetics"), place).attribute(images, target=1)

    assert torch.allclose(at_the_port(), true, rtol=1e-4, atol=1e-6)
    for row in network.exchanges[0].hook_points:  # why they copy: handing on the tensor itself mixes the receivers
        for place in row:
            place.forward = lambda x: x
    assert not torch.allclose(at_the_port(), true, rtol=1e-1, atol=1e-3)


def test_integrated_gradients_at_a_borrowed_port_are_the_patch_effect(network, images):
    for stream in (s for s in streams(network) if s.borrowed):
        result = stream_map(network, images, stream, "aesthetics", 1, steps=64)
        at_zero = record(network, [stream], torch.zeros_like(images))[stream]
        patched = with_flow(network, images, stream, at_zero)
        effect = (network(images)["aesthetics"] - patched["aesthetics"])[:, 1].detach().numpy()
        assert np.allclose(result.effect, effect, atol=1e-5)
        assert np.abs(result.residual).max() <= 0.03 * np.abs(effect).max()
        assert np.allclose(result.residual, result.cells.sum((1, 2)) - effect, atol=1e-5)
        assert result.at(32).shape == (3, 32, 32) and result.channels.shape == (3, 8 * stream.layer)


@pytest.mark.filterwarnings("ignore:Multiple layers provided")  # hook points of one layer don't depend on one another
def test_all_ports_of_a_layer_together_are_complete(network, images):
    network, images = network.double(), images.double()
    places = [hook_point(network, s) for s in streams(network) if s.layer == 1]
    forward = one_task(network, "emotion")
    parts = LayerIntegratedGradients(forward, places).attribute(
        images, torch.zeros_like(images), target=4, n_steps=400, internal_batch_size=300
    )
    total = sum(part.flatten(1).sum(1) for part in parts)
    with torch.no_grad():
        assert torch.allclose(total, (forward(images) - forward(torch.zeros_like(images)))[:, 4], rtol=2e-3, atol=2e-3)


def test_the_other_branchs_streams_at_the_last_layer_have_an_empty_map(network, images):
    for method in attribution.STREAM_MAPS:
        result = stream_map(network, images, Stream(2, "emotion", "aesthetics"), "aesthetics", 1, method)
        assert not result.cells.any() and not result.effect.any() and not result.at(32).any()


def test_grad_cam_by_its_formula(network, images):
    flow = record(network, [AESTHETICS_BORROWS], images)[AESTHETICS_BORROWS].requires_grad_()
    logit = with_flow(network, images, AESTHETICS_BORROWS, flow)["emotion"][:, 2]
    gradient = torch.autograd.grad(logit.sum(), flow)[0]
    cam = (gradient.mean((2, 3), keepdim=True) * flow).sum(1).detach()
    result = stream_map(network, images, AESTHETICS_BORROWS, "emotion", 2, "grad_cam")
    assert np.allclose(result.cells, cam, atol=1e-5) and (result.cells < 0).any()
    without = with_flow(network, images, AESTHETICS_BORROWS, torch.zeros_like(flow))["emotion"][:, 2]
    assert np.allclose(result.effect, (logit - without).detach(), atol=1e-5)


def test_ablation_sets_one_patch_after_another_to_the_baseline(network, images):
    other = images.flip(0)[:1]
    result = stream_map(network, images, AESTHETICS_BORROWS, "aesthetics", 0, "ablation", baseline=other, grid=2)
    flow, blank = (record(network, [AESTHETICS_BORROWS], x)[AESTHETICS_BORROWS] for x in (images, other))
    with torch.no_grad():
        for row in range(2):
            for column in range(2):
                patch = np.s_[:, :, 8 * row:8 * row + 8, 8 * column:8 * column + 8]
                changed = flow.clone()
                changed[patch] = blank[patch]
                patched = with_flow(network, images, AESTHETICS_BORROWS, changed)
                effect = (network(images)["aesthetics"] - patched["aesthetics"])[:, 0]
                assert np.allclose(result.cells[patch[0], patch[2], patch[3]].sum((1, 2)), effect, atol=1e-5)


def test_a_map_is_averaged_over_several_baselines(network, images):
    several = baseline("set", images, others=images[1:])
    result = stream_map(network, images[:1], AESTHETICS_BORROWS, "emotion", 0, baseline=several)
    apart = [stream_map(network, images[:1], AESTHETICS_BORROWS, "emotion", 0, baseline=x[None]) for x in images[1:]]
    assert np.allclose(result.cells, np.mean([part.cells for part in apart], 0), atol=1e-6)
    assert np.allclose(result.effect, np.mean([part.effect for part in apart], 0), atol=1e-6)
    assert all(np.abs(part.residual) < 0.02 * np.abs(part.cells).sum() for part in apart)


def test_channels_and_what_excites_them(network, images):
    result = stream_map(network, images, AESTHETICS_BORROWS, "aesthetics", 1)
    order, values = attribution.top_channels(result, 3)
    mean = result.channels.mean(0)
    assert np.allclose(values, mean[order]) and np.abs(mean).max() == abs(values[0])
    assert np.allclose(result.channels.sum(1), result.cells.sum((1, 2)))
    with pytest.raises(ValueError, match="integrated gradients"):
        attribution.top_channels(stream_map(network, images, AESTHETICS_BORROWS, "aesthetics", 1, "grad_cam"))
    activity = channel_means(network, [images[:2], images[2:]], AESTHETICS_BORROWS)
    assert np.allclose(activity, network.branches[1].groups[0](images).mean((2, 3)).detach(), atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_plain_integrated_gradients_work_for_every_method(method, images):
    network = network_of(method)
    result = attribution.integrated_gradients(network, images, "emotion", 3, steps=128)
    change = (network(images)["emotion"] - network(torch.zeros_like(images))["emotion"])[:, 3].detach().numpy()
    assert np.allclose(result.effect, change, atol=1e-5)
    assert np.abs(result.residual).max() < 0.03 * np.abs(change).max()
    assert result.cells.shape == (3, 32, 32)


@pytest.mark.parametrize("method", ["independent", "shared_bottom"])
def test_networks_without_streams_say_what_one_has_instead(method, images):
    network = network_of(method)
    for call in (lambda: streams(network), lambda: stream_map(network, images, AESTHETICS_BORROWS, "emotion", 0)):
        with pytest.raises(ValueError, match="nothing is borrowed.*integrated_gradients"):
            call()


def test_what_is_unknown_is_refused_with_what_is_known(network, images):
    with pytest.raises(ValueError, match="no stream 'emotion to aesthetics at 3'.*'emotion to aesthetics at 2'"):
        hook_point(network, Stream(3, "aesthetics", "emotion"))
    with pytest.raises(ValueError, match="unknown task 'beauty'.*aesthetics, emotion"):
        one_task(network, "beauty")
    with pytest.raises(ValueError, match="unknown baseline 'white'.*blur"):
        baseline("white", images)
    with pytest.raises(ValueError, match="needs others"):
        baseline("photo", images)
    with pytest.raises(ValueError, match="needs mean and std"):
        baseline("blur", images)
    with pytest.raises(ValueError, match="expected .*3, 32, 32"):
        stream_map(network, images, AESTHETICS_BORROWS, "emotion", 0, baseline=torch.zeros(2, 3, 32, 32))
    with pytest.raises(ValueError, match="needs reference"), cut(network, AESTHETICS_BORROWS, "mean"):
        pass


def test_baselines_are_the_pixels_that_they_are_named_after():
    rng = np.random.default_rng(0)
    pixels, mean = rng.integers(0, 255, (2, 40, 40, 3), dtype=np.uint8), rng.uniform(0, 255, (40, 40, 3)).astype("f4")
    std = (0.5, 0.4, 0.3)

    def seen(values):
        return resize(torch.from_numpy(values), torch.from_numpy(mean), torch.tensor(std), 32)

    images = seen(pixels)
    assert torch.equal(baseline("mean", images), torch.zeros(1, 1, 3, 32, 32))
    black = baseline("black", images, mean, std)
    assert torch.allclose(black[0], seen(np.zeros_like(pixels[:1])), atol=1e-5)
    blurred = baseline("blur", images, mean, std)
    assert blurred.shape == (1, 2, 3, 32, 32)
    light = (blurred - black)[0] * torch.tensor(std)[:, None, None] * 255
    sharp = (images - black[0]) * torch.tensor(std)[:, None, None] * 255
    assert torch.allclose(light.mean((2, 3)), sharp.mean((2, 3)), rtol=0.05)  # as bright, and smoother
    assert light.diff(dim=3).abs().mean() < 0.1 * sharp.diff(dim=3).abs().mean()
    plain = seen(np.full_like(pixels[:1], 80))
    assert torch.allclose(baseline("blur", plain, mean, std)[0], plain, atol=1e-4)


def test_cutting_to_zero_is_a_network_without_these_weights(network, images):
    which = [AESTHETICS_BORROWS, Stream(2, "emotion", "aesthetics")]
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.exchanges[0].convs[0].weight[:, 8:] = 0  # what aesthetics takes from emotion's 8 channels
        other.exchanges[1].convs[1].weight[:, :16] = 0
    before = network(images)
    with cut(network, which):
        during = network(images)
    for name, values in other(images).items():
        assert torch.allclose(during[name], values, atol=1e-5) and not torch.allclose(before[name], values, atol=1e-2)
    with pytest.raises(RuntimeError, match="stop"), cut(network, which):
        raise RuntimeError("stop")
    assert all(torch.equal(values, before[name]) for name, values in network(images).items())


def test_cutting_to_the_mean_and_to_another_photo(network, images):
    flow = record(network, [AESTHETICS_BORROWS], images)[AESTHETICS_BORROWS]
    with cut(network, AESTHETICS_BORROWS, "mean", images):
        during = network(images)["aesthetics"]
    mean = flow.mean(0, keepdim=True).expand_as(flow)
    assert torch.allclose(during, with_flow(network, images, AESTHETICS_BORROWS, mean)["aesthetics"], atol=1e-5)
    with cut(network, AESTHETICS_BORROWS, "resample", images[2:]):  # one reference: a transplant
        during = network(images)["aesthetics"]
    transplanted = with_flow(network, images, AESTHETICS_BORROWS, flow[[2, 2, 2]])["aesthetics"]
    assert torch.allclose(during, transplanted, atol=1e-5)
    assert torch.allclose(during[2], network(images)["aesthetics"][2], atol=1e-5)  # its own, so nothing changed

    def resampled(seed, size):
        with cut(network, [AESTHETICS_BORROWS], "resample", images, seed):
            return torch.cat([network(part)["emotion"] for part in images.repeat(5, 1, 1, 1).split(size)])

    assert torch.allclose(resampled(0, 15), resampled(0, 4), atol=1e-5)  # whatever the batches
    assert not torch.allclose(resampled(0, 15), resampled(1, 15))


def test_a_table_of_cuts_over_a_set(network):
    rng = np.random.default_rng(1)
    pixels, rows = rng.integers(0, 255, (20, 36, 36, 3), dtype=np.uint8), np.arange(2, 18)
    mean = pixels.mean(0).astype("f4")
    truth = {"aesthetics": rng.integers(0, 2, 16), "emotion": rng.integers(-1, 8, 16)}
    table = cut_table(network, pixels, rows, truth, mean, 32, {"all": [s for s in streams(network) if s.borrowed]})
    assert list(table["cut"]) == ["nothing", "nothing", "all", "all"]
    for exchange in network.exchanges:
        channels = exchange.channels
        with torch.no_grad():
            exchange.convs[0].weight[:, channels:] = 0
            exchange.convs[1].weight[:, :channels] = 0
    logits = predict_logits(network, pixels, rows, mean, 32, torch.device("cpu"))
    for _, row in table[table["cut"] == "all"].iterrows():
        known = truth[row["task"]]
        expected = task_metrics(known, softmax(logits[row["task"]]), 0)
        assert row["confusion"] == expected["confusion"] and row["n"] == (known >= 0).sum()
        assert row["log_loss"] == pytest.approx(expected["log_loss"], rel=2e-2)
    assert (table["changed"][:2] == 0).all() and table["changed"][2:].max() > 0


def test_batches_hold_what_prediction_sees(network):
    pixels = np.random.default_rng(0).integers(0, 255, (9, 36, 36, 3), dtype=np.uint8)
    mean, rows = pixels.mean(0).astype("f4"), np.array([8, 1, 5, 0, 2])
    batches = list(image_batches(network, pixels, rows, mean, 32, batch=2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    with torch.no_grad():
        logits = torch.cat([network(batch)["emotion"] for batch in batches])
    whole = predict_logits(network, pixels, rows, mean, 32, torch.device("cpu"))["emotion"]
    assert np.allclose(logits, whole, rtol=0.05, atol=0.1)  # prediction may round to bfloat16
