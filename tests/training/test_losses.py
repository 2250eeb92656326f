"""The joint loss against the patent's formulae, written out."""

import math

import pytest
import torch

from aesthemo_lib.tasks import PATENT_TASKS
from aesthemo_lib.training.losses import joint_loss, task_losses


def patents_aesthetics_loss(probability_high, high):
    """[0059] La = -y log p - (1-y) log(1-p), averaged."""
    terms = [-math.log(p) if y else -math.log(1 - p) for p, y in zip(probability_high, high, strict=True)]
    return sum(terms) / len(terms)


def patents_emotion_loss(probabilities, emotions):
    """[0060] Le = -sum over the eight of y_e log p_e, averaged."""
    return sum(-math.log(row[y]) for row, y in zip(probabilities, emotions, strict=True)) / len(emotions)


def test_the_loss_is_the_patents():
    torch.manual_seed(0)
    logits = {"aesthetics": torch.randn(6, 2), "emotion": torch.randn(6, 8)}
    labels = {"aesthetics": torch.tensor([0, 1, 1, 0, 1, 0]), "emotion": torch.tensor([7, 0, 3, 3, 2, 5])}
    losses = task_losses(logits, labels)
    high = logits["aesthetics"].softmax(1)[:, 1].tolist()
    expected_a = patents_aesthetics_loss(high, labels["aesthetics"].tolist())
    expected_e = patents_emotion_loss(logits["emotion"].softmax(1).tolist(), labels["emotion"].tolist())
    assert losses["aesthetics"].item() == pytest.approx(expected_a, rel=1e-5)
    assert losses["emotion"].item() == pytest.approx(expected_e, rel=1e-5)
    assert joint_loss(losses, PATENT_TASKS).item() == pytest.approx(expected_a + expected_e / 4, rel=1e-5)


def test_unlabelled_images_neither_count_nor_teach():
    logits = torch.randn(4, 2, requires_grad=True)
    loss = task_losses({"aesthetics": logits}, {"aesthetics": torch.tensor([1, -1, 0, -1])})["aesthetics"]
    expected = patents_aesthetics_loss(logits[[0, 2]].softmax(1)[:, 1].tolist(), [1, 0])
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert logits.grad[[1, 3]].abs().sum() == 0 and logits.grad[[0, 2]].abs().sum() > 0


def test_a_batch_without_labels_is_no_error():
    logits = torch.randn(3, 8, requires_grad=True)
    loss = task_losses({"emotion": logits}, {"emotion": torch.full((3,), -1)})["emotion"]
    loss.backward()
    assert loss.item() == 0 and logits.grad.abs().sum() == 0


def test_a_distribution_costs_what_its_votes_cost_on_average():
    """Of an image with five votes, the mean of five hard losses; rows of zeros neither count nor teach."""
    logits = torch.randn(3, 8, requires_grad=True)
    votes = torch.tensor([[2, 0, 0, 1, 0, 2, 0, 0], [0] * 8, [0, 0, 5, 0, 0, 0, 0, 0]])
    shares = votes / votes.sum(1, keepdim=True).clamp(min=1)
    loss = task_losses({"emotion": logits}, {"emotion": shares})["emotion"]
    p = logits.detach().softmax(1).tolist()
    first = patents_emotion_loss([p[0]] * 5, [0, 0, 3, 5, 5])
    assert loss.item() == pytest.approx((first + patents_emotion_loss([p[2]], [2])) / 2, rel=1e-5)
    loss.backward()
    assert logits.grad[1].abs().sum() == 0 and logits.grad[0].abs().sum() > 0
    nobody = task_losses({"emotion": logits}, {"emotion": torch.zeros(3, 8)})["emotion"]
    assert nobody.item() == 0


def test_one_vote_an_image_is_the_label():
    logits, labels = torch.randn(5, 2), torch.tensor([0, 1, -1, 1, 0])
    shares = torch.eye(3)[labels][:, :2]  # -1 is the last row, without a vote
    hard, soft = (task_losses({"a": logits}, {"a": target})["a"] for target in (labels, shares))
    assert soft.item() == pytest.approx(hard.item(), rel=1e-6)
