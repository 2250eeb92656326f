"""Style transfer: its losses and steps against a plain rewrite, and what it promises of resuming."""

import copy
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from aesthemo_lib.files import read_tensors
from aesthemo_lib.training.fit import Diverged
from aesthemo_studies.style_transfer import training as style_transfer
from aesthemo_studies.style_transfer.cameras import radius_squared
from aesthemo_studies.style_transfer.networks import Recipe, StyleTransfer, critic_loss, generator_losses
from aesthemo_studies.style_transfer.training import Pool, Style, train_style, translated

SMALL = Recipe(side=16, batch=2, steps=6, width=4, blocks=1, every=3, pool=3)


@pytest.fixture(autouse=True)
def quick_samples(monkeypatch, request):
    """Real samples take half a second each; one test looks at them."""
    if "bits" not in request.node.name:
        monkeypatch.setattr(style_transfer, "sample_figure", lambda *_: Figure((1, 1)))


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
    found = critic_loss(model, [first, second], [(fake1, second[1]), (fake2, first[1])])
    joined = [torch.cat(pair, 1) for pair in (first, second, (fake1, second[1]), (fake2, first[1]))]
    torch.testing.assert_close(found, plain_critics(model, *joined))


def test_steps_are_those_of_a_plain_loop(styles, monkeypatch):
    """The generators learn from their loss alone, extractor and discriminators from theirs; Adam and rates as told."""
    monkeypatch.setattr(style_transfer, "fast", lambda device: nullcontext())
    recipe = replace(SMALL, pool=0, steps=4)
    training = style_transfer._Training(list(styles), recipe, 5, torch.device("cpu"))
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
    training = style_transfer._Training([photo[None], photo[None]], replace(SMALL, batch=9), 0, torch.device("cpu"))
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


# --- the training as a whole


def stop_at(monkeypatch, number):
    step = style_transfer._Training.step

    def stopping(self, n):
        if n == number:
            raise KeyboardInterrupt
        return step(self, n)

    monkeypatch.setattr(style_transfer._Training, "step", stopping)


def test_a_training_that_was_cut_off_ends_with_the_same_bits(styles, tmp_path, monkeypatch):
    folder = tmp_path / "stil é"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, 5)
        train_style(*styles, folder, SMALL)
    assert not folder.exists() and list((tmp_path / "stil é.resume").glob("*/step-3"))
    seen = []
    resumed = train_style(*styles, folder, SMALL, after=lambda row, sample: seen.append((row["step"], sample.exists())))
    assert seen == [(6, True)], "it went on, and did not begin anew"
    straight = train_style(*styles, tmp_path / "straight", SMALL)
    one, other = (read_tensors(style.folder / "model.safetensors") for style in (resumed, straight))
    assert all(torch.equal(one[name], other[name]) for name in other)
    pd.testing.assert_frame_equal(resumed.history(), straight.history())
    assert [path.name for path in resumed.samples()] == ["step-000003.png", "step-000006.png"]
    assert not (tmp_path / "stil é.resume").exists()


def test_what_is_finished_is_kept_and_what_has_changed_is_trained_anew(styles, tmp_path, monkeypatch):
    folder = tmp_path / "style"
    first = train_style(*styles, folder, replace(SMALL, steps=2))
    other = train_style(*styles, folder, replace(SMALL, steps=3))
    assert first.hash != other.hash and Style(folder).recipe.steps == 3
    stop_at(monkeypatch, 0)
    assert train_style(*styles, folder, replace(SMALL, steps=3)).hash == other.hash
    with pytest.raises(KeyboardInterrupt):
        train_style(styles[0], styles[1][::-1], folder, replace(SMALL, steps=3))


def test_a_damaged_state_and_a_loss_that_explodes_are_told(styles, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, 4)
        train_style(*styles, tmp_path / "style", SMALL)
    state = next((tmp_path / "style.resume").glob("*/step-3"))
    (state / "moments.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"step-3.* is damaged.*delete"):
        train_style(*styles, tmp_path / "style", SMALL)
    with pytest.raises(Diverged, match="lower learning_rate"):
        train_style(*styles, tmp_path / "other", replace(SMALL, steps=9, learning_rate=1e20))


def test_it_learns_a_change_of_colour(styles, tmp_path):
    """The truth of the first style's photographs in the second is known, and translation comes nearer to it."""
    recipe = replace(SMALL, steps=50, learning_rate=1e-3, every=50, batch=4)
    style = train_style(*styles, tmp_path / "style", recipe)
    truth = styles[0] * [0.5, 0.6, 0.9]
    error = [np.abs(photos - truth).mean() for photos in (styles[0], style.translate(styles[0], device="cpu"))]
    assert error[1] < 0.7 * error[0]


def test_photographs_of_any_size_are_translated_and_cut_off_at_white():
    generator = shaken(SMALL).generators[1]
    nn.init.zeros_(generator.last.weight)
    nn.init.constant_(generator.last.bias, 0.5)  # 63.75 of 255
    photos = np.array([0, 100, 250], np.uint8).reshape(3, 1, 1, 1) * np.ones((3, 18, 18, 3), np.uint8)
    assert translated(generator, photos, batch=2)[:, 0, 0, 0].tolist() == [64, 164, 255]


def test_what_does_not_fit_is_refused(styles, tmp_path):
    with pytest.raises(ValueError, match="photographs of one size, 48 px or more"):
        train_style(*styles, tmp_path / "style", replace(SMALL, side=48))
    with pytest.raises(ValueError, match="recipe: batch: expected a number"):
        replace(SMALL, batch=0)
    with pytest.raises(ValueError, match="recipe: beta1"):
        Recipe(beta1=1.0)
    with pytest.raises(FileNotFoundError, match="no trained style"):
        Style(tmp_path)
