"""All states of closed streams against live passes with hooks, and the quick maps against captum's."""

import numpy as np
import pytest
import torch

from aesthemo_lib.attribution.cuts import cut
from aesthemo_lib.attribution.maps import stream_map
from aesthemo_lib.inspector import answers
from aesthemo_lib.models.networks import METHODS, VARIANTS, Exchanging, build
from aesthemo_lib.tasks import PATENT_TASKS, Task

EXCHANGING = [method for method, network in METHODS.items() if issubclass(network, Exchanging)]
TASKS3 = (*PATENT_TASKS, Task("mood", ("dull", "bright")))


def live(network, images, state: int, donor=None) -> dict:
    """A plain forward pass with the state's streams replaced by hooks, one by one: cut, or of a single other photo."""
    which = [stream for k, stream in enumerate(answers.switches(network)) if state >> k & 1]
    how, other = ("mean", torch.zeros_like(images[:1])) if donor is None else ("resample", donor)
    with torch.no_grad(), cut(network, which, how, other):
        return network(images)


def lively(network) -> torch.nn.Module:
    """Untrained, but with weights and statistics that let everything through, so that each cut shows."""
    torch.manual_seed(0)
    for name, values in network.state_dict().items():
        if "exchanges" in name or name.endswith("head.6.weight"):
            values.copy_(torch.rand(values.shape) if "var" in name else torch.randn(values.shape) * 0.5)
    return network.eval()


def drawn(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("method", EXCHANGING)
@pytest.mark.parametrize("donor", [None, drawn(1, 9)], ids=["cut", "transplant"])
def test_every_state_is_that_of_a_live_pass(method, donor):
    network, images = lively(build(method, PATENT_TASKS, "tiny", "none", VARIANTS.get(method, (None,))[0])), drawn(3, 1)
    actual = answers.all_logits(network, images, donor)
    assert len(answers.switches(network)) == 4
    for state in range(16):
        for task, logits in live(network, images, state, donor).items():
            assert actual[task].shape == (16, 3, logits.shape[1])
            torch.testing.assert_close(actual[task][state], logits, rtol=1e-4, atol=1e-4 * float(actual[task].std()))
    for task, values in actual.items():
        # With the last layer closed only the own first one matters (2 states), else both branches' first ones do (4).
        assert len({tuple(row.flatten().tolist()) for row in values}) == 6
        kept = answers.distinct(network, task)
        assert len(kept) == 8
        for state in range(16):
            assert torch.equal(values[state], values[state & ~answers.idle(network, task)])
            assert (state & ~answers.idle(network, task)) in kept


def test_a_photo_that_is_its_own_donor_changes_nothing():
    network, image = lively(build("cross_branch", PATENT_TASKS, "tiny", "none", "random")), drawn(1, 3)
    for values in answers.all_logits(network, image, image).values():
        torch.testing.assert_close(values, values[:1].expand_as(values), rtol=1e-4, atol=1e-4)


def test_three_tasks_share_the_same_code(monkeypatch):
    network, image = lively(build("cross_branch", TASKS3, "tiny", "none", "random")), drawn(1, 2)
    assert {s.layer for s in answers.switches(network)} == {2} and len(answers.switches(network)) == 6, "of 12 streams"
    for task, logits in live(network, image, 37).items():
        torch.testing.assert_close(answers.all_logits(network, image)[task][37], logits, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(answers, "MOST_SWITCHES", 12)
    actual = answers.all_logits(network, image)
    for state in np.random.default_rng(0).integers(0, 4096, 12):
        for task, logits in live(network, image, int(state)).items():
            torch.testing.assert_close(actual[task][state], logits, rtol=1e-4, atol=1e-4 * float(actual[task].std()))
            torch.testing.assert_close(actual[task][state & ~answers.idle(network, task)], actual[task][state])


def test_a_map_of_two_classes_explains_their_difference():
    network, image = lively(build("cross_branch", PATENT_TASKS, "tiny", "none", "random")), drawn(1, 4)
    first, second = (answers.stream_maps(network, image, "aesthetics", target, 1) for target in (0, 1))
    cut_off = live(network, image, 1)["aesthetics"] - live(network, image, 0)["aesthetics"]
    (borrowed,) = (stream for stream in first if stream.borrowed)
    expected = pytest.approx(float(cut_off[0, 0] - cut_off[0, 1]), abs=1e-4)
    assert first[borrowed].effect == second[borrowed].effect == expected


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("tasks", [PATENT_TASKS, TASKS3], ids=["two", "three"])
def test_a_quick_map_is_captums(tasks, layer, monkeypatch):
    network, image = lively(build("cross_branch", tasks, "tiny", "none", "random")), drawn(1, 4)
    actual = answers.stream_maps(network, image, "emotion", 5, layer)
    monkeypatch.setattr(answers, "STEPS", {False: 200, True: 200})
    patient = answers.stream_maps(network, image, "emotion", 5, layer)
    assert {(s.receiver, s.layer) for s in actual} == {("emotion", layer)} and len(actual) == len(tasks)
    for stream, quick in actual.items():
        slow = stream_map(network, image, stream, "emotion", 5, steps=200)
        np.testing.assert_allclose(quick.effect, slow.effect, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(patient[stream].cells, slow.cells, atol=0.01 * np.abs(slow.cells).max())
        np.testing.assert_allclose(patient[stream].channels, slow.channels, atol=0.01 * np.abs(slow.channels).max())
        assert np.corrcoef(quick.cells.ravel(), slow.cells.ravel())[0, 1] > 0.9  # this network is far from linear
