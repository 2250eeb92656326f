"""Style transfer: its losses and steps against a plain rewrite, its rivals, and what pairs and no pairs teach."""

import copy
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn

from aesthemo_studies.cells import STUDIES
from aesthemo_studies.style_transfer import colour_matching, study as style_study, training as style_transfer
from aesthemo_studies.style_transfer.cameras import radius_squared
from aesthemo_studies.style_transfer.networks import Recipe, StyleTransfer, critic_loss, generator_losses
from aesthemo_studies.style_transfer.training import Pool, Training, translated, with_pairs, without_pairs

SMALL = Recipe(side=16, batch=2, steps=6, width=4, blocks=1, every=3, pool=3)


@pytest.fixture
def styles():
    """Two unlike styles of unlike pictures: the second is darker and bluer."""
    rng = np.random.default_rng(0)
    first = rng.integers(60, 256, (7, 24, 24, 3), dtype=np.uint8)
    second = (rng.integers(60, 256, (5, 24, 24, 3)) * [0.5, 0.6, 0.9]).astype(np.uint8)
    return first, second


def shaken(recipe: Recipe) -> StyleTransfer:
    """A model whose generators do change something."""
    torch.manual_seed(1)
    model = StyleTransfer(recipe)
    for generator in model.generators:
        nn.init.normal_(generator.last.weight, std=0.1)
    return model


def patches(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, 16, 16, generator=rng) * 2 - 1, torch.rand(2, 1, 16, 16, generator=rng)


# --- the losses and a step, written once more


def plain_generators(model, x1, p1, x2, p2, recipe):
    to_first, to_second = model.generators
    look = lambda d, x, p: model.discriminators[d](model.extractor(torch.cat([x, p], 1)))  # noqa: E731
    fake2, fake1 = to_second(x1, p1), to_first(x2, p2)
    cycle = (to_first(fake2, p1) - x1).abs().mean() + (to_second(fake1, p2) - x2).abs().mean()
    identity = (to_second(x2, p2) - x2).abs().mean() + (to_first(x1, p1) - x1).abs().mean()
    adversarial = ((look(1, fake2, p1) - 1) ** 2).mean() + ((look(0, fake1, p2) - 1) ** 2).mean()
    return adversarial + recipe.cycle * cycle + recipe.cycle * recipe.identity * identity, fake1, fake2


def plain_critics(model, real1, real2, fake1, fake2):
    look = lambda d, x: model.discriminators[d](model.extractor(x))  # noqa: E731
    each = [((look(0, real1) - 1) ** 2).mean() + (look(0, fake1) ** 2).mean(),
            ((look(1, real2) - 1) ** 2).mean() + (look(1, fake2) ** 2).mean()]
    return 0.5 * (each[0] + each[1])


def test_the_losses_are_the_written_ones():
    model, first, second = shaken(SMALL), patches(2), patches(3)
    losses, fakes = generator_losses(model, first, second, SMALL)
    total, fake1, fake2 = plain_generators(model, *first, *second, SMALL)
    torch.testing.assert_close(losses["generators"], total)
    torch.testing.assert_close(fakes[0], fake1)
    torch.testing.assert_close(fakes[1], fake2)
    assert losses["cycle"] > 0.01 and losses["identity"] > 0.01
    actual = critic_loss(model, [first, second], [(fake1, second[1]), (fake2, first[1])])
    joined = [torch.cat(pair, 1) for pair in (first, second, (fake1, second[1]), (fake2, first[1]))]
    torch.testing.assert_close(actual, plain_critics(model, *joined))


def test_steps_are_those_of_a_plain_loop(styles, monkeypatch):
    """The generators learn from their loss alone, extractor and discriminators from theirs; Adam and rates as told."""
    monkeypatch.setattr(style_transfer, "fast", lambda device: nullcontext())
    recipe = replace(SMALL, pool=0, steps=4)
    training = Training(list(styles), recipe, 5)
    model = copy.deepcopy(training.model)
    mine = [list(model.generators.parameters()), list(model.extractor.parameters())
            + list(model.discriminators.parameters())]
    adam = [torch.optim.Adam(part, lr=5e-4, betas=(0.5, 0.999)) for part in mine]
    for number, rate in enumerate((5e-4, 5e-4, 5e-4, 2.5e-4)):
        (x1, p1), (x2, p2) = training.batch(0, number), training.batch(1, number)
        training.step(number)
        total, fake1, fake2 = plain_generators(model, x1, p1, x2, p2, recipe)
        gradients = [torch.autograd.grad(total, mine[0])]
        shown = (torch.cat([x1, p1], 1), torch.cat([x2, p2], 1), torch.cat([fake1, p2], 1).detach(),
                 torch.cat([fake2, p1], 1).detach())
        adam[0].param_groups[0]["lr"] = adam[1].param_groups[0]["lr"] = rate
        for part, optimiser, slopes in zip(mine, adam, (gradients[0], None), strict=True):
            slopes = slopes or torch.autograd.grad(plain_critics(model, *shown), part)
            for parameter, slope in zip(part, slopes, strict=True):
                parameter.grad = slope
            optimiser.step()
    before = StyleTransfer(recipe)
    for (name, value), other in zip(model.named_parameters(), training.model.parameters(), strict=True):
        torch.testing.assert_close(other, value, rtol=1e-3, atol=2e-6, msg=name)
    assert all(not torch.equal(a, b) for a, b in zip(before.parameters(), training.model.parameters(), strict=True))


def test_a_patch_knows_where_it_was_cut():
    """Photographs whose colours say the row and the column, cut and mirrored: the squared radius fits them."""
    along = np.arange(24, dtype=np.uint8)
    photo = np.stack([np.repeat(along[:, None], 24, 1), np.repeat(along[None], 24, 0), np.zeros((24, 24), np.uint8)], 2)
    training = Training([photo[None], photo[None]], replace(SMALL, batch=9), 0)
    images, place = training.batch(1, 4)
    row, column = ((images[:, i] + 1) * 127.5 for i in (0, 1))
    expected = radius_squared(24)[row.round().long().numpy(), column.round().long().numpy()]
    assert np.allclose(place[:, 0].numpy(), expected, atol=1e-6)
    assert len({float(r[0, 0]) for r in row}) > 3, "they are cut at several places"
    assert {bool(c[0, 0] < c[0, 1]) for c in column} == {True, False}, "some are mirrored"


def test_the_pool_shows_earlier_fakes_in_half_of_the_cases():
    pool, shown = Pool(50, seed=0), []
    for step in range(100):
        made = torch.arange(8.0).view(8, 1) + 8 * step
        shown.append(pool.swapped(made, step))
        if step < 6:
            assert torch.equal(shown[-1], made), "until it is full"
    late = torch.stack(shown[10:]).flatten(1)
    new = late >= 8 * torch.arange(10, 100)[:, None]
    assert 0.4 < float(new.float().mean()) < 0.6
    assert late[~new].unique().numel() == (~new).sum(), "each earlier one is shown once"


# --- what is learnt


def test_it_learns_a_change_of_colour_without_pairs(styles):
    """The truth of the first style's photographs in the second is known, and translation comes nearer to it."""
    recipe, truth = replace(SMALL, steps=50, learning_rate=1e-3, every=50, batch=4), styles[0] * [0.5, 0.6, 0.9]
    error = lambda photos: np.abs(photos - truth).mean()  # noqa: E731
    generator, history = without_pairs(*styles, recipe)
    assert error(translated(generator, styles[0])) < 0.7 * error(styles[0])
    assert [row["step"] for row in history] == [50] and history[0]["cycle"] > 0


def test_the_state_with_the_best_score_is_returned(styles):
    seen = []
    generator, history = without_pairs(
        *styles, SMALL, score=lambda one: seen.append(one.last.weight.detach().clone()) or -len(seen))
    assert [(row["step"], row["score"]) for row in history] == [(3, -1), (6, -2)]
    assert torch.equal(generator.last.weight, seen[0]) and not torch.equal(seen[0], seen[1])


def test_pairs_are_cut_alike_and_teach_the_change(styles):
    recipe, first = replace(SMALL, steps=40, learning_rate=4e-3, batch=4), styles[0]
    second = (first * [0.5, 0.6, 0.9]).astype(np.uint8)
    one, other = (style_transfer.patches(photos, recipe, 3, 7, 0) for photos in (first, second))
    assert torch.equal(one[1], other[1])
    assert torch.allclose((other[0] + 1) * 127.5, ((one[0] + 1) * 127.5) * torch.tensor([0.5, 0.6, 0.9])[:, None, None],
                          atol=1.01)
    made = translated(with_pairs(first, second, recipe), first)
    assert np.abs(made - second.astype(float)).mean() < 0.5 * np.abs(first - second.astype(float)).mean()


def test_photographs_of_any_size_are_translated_and_cut_off_at_white():
    generator = shaken(SMALL).generators[1]
    nn.init.zeros_(generator.last.weight)
    nn.init.constant_(generator.last.bias, 0.5)  # 63.75 of 255
    photos = np.array([0, 100, 250], np.uint8).reshape(3, 1, 1, 1) * np.ones((3, 18, 18, 3), np.uint8)
    assert translated(generator, photos, batch=2)[:, 0, 0, 0].tolist() == [64, 164, 255]


def test_what_does_not_fit_is_refused(styles):
    with pytest.raises(ValueError, match="photographs of one size, 48 px or more"):
        without_pairs(*styles, replace(SMALL, side=48))
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        without_pairs(*styles, replace(SMALL, steps=9, learning_rate=1e20))
    with pytest.raises(ValueError, match="recipe: batch: expected a number"):
        replace(SMALL, batch=0)


# --- the rivals


def test_a_lookup_table_by_hand():
    """First style: values 10, 20, 30, 40 in equal parts; second: 100 and 200. Ranks decide, the same for all photos."""
    first = np.array([10, 20, 30, 40], np.uint8).reshape(1, 2, 2, 1).repeat(3, 3)
    second = np.array([100, 100, 200, 200], np.uint8).reshape(1, 2, 2, 1).repeat(3, 3)
    actual = colour_matching.looked_up(first, first, second)
    # quantile .5 is 100 and 1 is 200; below .5 there is nothing but 100, and .75 lies half-way
    assert actual[0, :, :, 0].tolist() == [[100, 100], [150, 200]]
    dark = np.full((1, 2, 2, 3), 25, np.uint8)
    assert colour_matching.looked_up(dark, first, second)[0, 0, 0, 0] == 125, "between two known values"


def test_a_matrix_brings_mean_and_covariance_over():
    rng = np.random.default_rng(0)
    first = rng.integers(90, 160, (3, 20, 20, 3)).astype(np.uint8)
    second = (rng.integers(60, 190, (3, 20, 20, 3)) @ np.array([[0.6, 0.2, 0.1], [0.3, 0.6, 0.1], [0, 0.2, 0.7]])
              ).astype(np.uint8)
    actual = colour_matching.mixed(first, first, second)
    pixels = [photos.reshape(-1, 3).astype(float) for photos in (first, second, actual)]
    assert np.allclose(pixels[2].mean(axis=0), pixels[1].mean(axis=0), atol=0.5)
    assert np.allclose(np.cov(pixels[2].T), np.cov(pixels[1].T), rtol=0.03, atol=3)
    a, b = (np.cov(x.T) for x in pixels[:2])
    root = sqrtm(a).real
    matrix = np.linalg.inv(root) @ sqrtm(root @ b @ root).real @ np.linalg.inv(root)
    by_hand = (pixels[0] - pixels[0].mean(axis=0)) @ matrix + pixels[1].mean(axis=0)
    assert np.abs(by_hand - pixels[2]).max() <= 0.51


def test_sharpening_is_as_strong_as_the_second_style_is_sharp():
    sharp = np.random.default_rng(0).integers(60, 190, (2, 32, 32, 3)).astype(np.uint8)
    soft = colour_matching.gaussian_filter(sharp.astype(float), (0, 1, 1, 0)).astype(np.uint8)
    actual = colour_matching.sharpened(soft, soft, sharp)
    error = lambda photos: np.abs(photos.astype(float) - sharp).mean()  # noqa: E731
    assert error(actual) < 0.95 * error(soft)
    assert np.array_equal(colour_matching.sharpened(soft, soft, soft), soft)


def test_no_table_is_nearer_than_the_best():
    rng = np.random.default_rng(0)
    photos = rng.integers(0, 50, (2, 16, 16, 3)).astype(np.uint8)
    truth = (photos * 3 + rng.integers(0, 60, photos.shape)).astype(np.uint8)
    error = lambda made: ((made.astype(float) - truth) ** 2).mean()  # noqa: E731
    best = error(colour_matching.best_table(photos, truth))
    assert best < error((3 * photos + 30).astype(np.uint8)) and best < error(colour_matching.looked_up(
        photos, photos, truth))
    assert error(colour_matching.best_table(photos, (3 * photos).astype(np.uint8)) + 0.0) >= 0
    assert np.array_equal(colour_matching.best_table(photos, 3 * photos), 3 * photos)


def test_likeness_by_its_formula():
    rng = np.random.default_rng(0)
    truth = rng.integers(20, 230, (2, 16, 16, 3), dtype=np.uint8)
    photos = (truth + rng.integers(-9, 10, truth.shape)).astype(np.uint8)
    actual = colour_matching.likeness(photos, truth)
    error = ((photos.astype(float) - truth) ** 2).mean(axis=(1, 2, 3))
    assert np.allclose(actual["psnr"], 10 * np.log10(255**2 / error))


# --- the study


def test_no_scene_is_in_two_parts_and_both_cameras_take_it_alike():
    sizes = {"first": 3, "train": 4, "validation": 2, "test": 2}
    taken = style_study.take(5, sizes, dose=0.5)
    assert {part: len(photos) for part, photos in taken.first.items()} == sizes
    assert {part: len(labels) for part, labels in taken.labels["emotion"].items()} == sizes
    grey = [np.concatenate(list(style.values())).mean(axis=3).reshape(11, -1) for style in (taken.first, taken.second)]
    alike = np.corrcoef(*grey)[:11, 11:]
    assert (alike.argmax(axis=1) == np.arange(11)).all(), "each is most like the other camera's of the same scene"
    flat = np.concatenate(list(taken.second.values())).reshape(11, -1)
    assert len(np.unique(flat, axis=0)) == 11


def test_halfway_is_the_mean_of_both_ends_in_each_collection():
    rows = pd.DataFrame({"collection": [0, 0, 0, 1, 1, 1], "contender": ["in_style", "lookup", "untouched"] * 2,
                         "auc_emotion": [0.8, 0.1, 0.6, 0.7, 0.1, 0.6]})
    actual = style_study.with_halfway(rows)
    assert np.allclose(actual[actual["contender"] == "halfway"]["auc_emotion"], [0.7, 0.65]) and len(actual) == 8


def test_the_committed_verdicts_follow_from_the_committed_rows():
    rows, kept = (pd.read_csv(STUDIES / name) for name in ("style_transfer.csv", "style_transfer.verdicts.csv"))
    again = style_study.verdicts(rows)
    both = again.merge(kept, on=["measure", "contender", "reference"], suffixes=("", "_kept"))
    assert len(both) == len(kept) == len(again)
    assert np.allclose(both[["mean", "low", "high"]], both[["mean_kept", "low_kept", "high_kept"]], atol=1e-4)
    assert (rows["contender"] == "best_table").sum() >= 4
