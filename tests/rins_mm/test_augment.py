from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rins_mm.augment import NONE, AugmentationConfig, augment

EVERYTHING = AugmentationConfig(
    max_rotation_degrees=12.0, min_scale=0.8, max_scale=1.15, max_shift=0.08, flip=True,
    brightness=0.2, contrast=0.2, saturation=0.3,
)  # fmt: skip


def pictures(number=4, side=12, seed=0):
    return torch.rand(number, 3, side, side, generator=torch.Generator().manual_seed(seed))


def seeds(*numbers):
    return torch.tensor(numbers, dtype=torch.int64)


def splitmix64(seed, count):
    """The count-th output of splitmix64, in Python's unbounded integers, as a number in [0, 1)."""
    mask = 2**64 - 1
    z = (seed + count * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return ((z ^ (z >> 31)) >> 40) / 2**24


BRIGHTNESS_IS_DRAWN_AFTER = 4
"""Rotation, scale and two shifts."""


def drawn_brightness(row_seeds):
    """What a grey picture of 1/4 becomes at a brightness range of 1, as numbers in [0, 1)."""
    images = torch.full((len(row_seeds), 3, 2, 2), 0.25)
    return augment(images, row_seeds, AugmentationConfig(brightness=1.0))[:, 0, 0, 0] * 2


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5))
def test_draws_are_splitmix64_of_the_row_seed(numbers):
    expected = [splitmix64(number, BRIGHTNESS_IS_DRAWN_AFTER + 1) for number in numbers]
    torch.testing.assert_close(
        drawn_brightness(seeds(*numbers)), torch.tensor(expected), rtol=0, atol=1e-6
    )


def test_draws_are_uniform_over_rows():
    draws = drawn_brightness(torch.arange(20_000)).double()
    # Standard errors are 0.002 and 0.0005.
    assert abs(draws.mean() - 0.5) < 0.008
    assert abs(draws.var() - 1 / 12) < 0.002
    counts = torch.histc(draws, bins=10, min=0, max=1)
    assert ((counts - 2000) ** 2 / 2000).sum() < 27.9


def test_zero_ranges_leave_every_bit():
    images = pictures()
    assert augment(images, seeds(1, 2, 3, 4), NONE) is images


def test_ranges_of_almost_nothing_change_almost_nothing():
    images = pictures()
    nearly = AugmentationConfig(
        max_rotation_degrees=1e-6, min_scale=1.0, max_scale=1.0, max_shift=1e-8,
        brightness=1e-7, contrast=1e-7, saturation=1e-7,
    )  # fmt: skip
    torch.testing.assert_close(
        augment(images, seeds(1, 2, 3, 4), nearly), images, rtol=0, atol=1e-5
    )


def test_the_outcome_is_a_function_of_pictures_seeds_and_ranges():
    images, rows = pictures(), seeds(5, 6, -7, 8)
    kept = images.clone()
    torch.manual_seed(0)
    one = augment(images, rows, EVERYTHING)
    torch.manual_seed(1)
    assert torch.equal(augment(images, rows, EVERYTHING), one)
    assert torch.equal(images, kept)
    assert not torch.allclose(augment(images, rows + 1, EVERYTHING), one)
    assert not torch.allclose(augment(images, rows, replace(EVERYTHING, contrast=0.5)), one)


@settings(max_examples=20)
@given(st.permutations(range(6)), st.integers(1, 6))
def test_a_row_does_not_feel_the_batch_it_comes_in(order, number):
    images, rows = pictures(6), torch.arange(100, 106)
    whole = augment(images, rows, EVERYTHING)
    chosen = torch.tensor(order[:number])
    torch.testing.assert_close(
        augment(images[chosen], rows[chosen], EVERYTHING), whole[chosen], rtol=0, atol=1e-6
    )


def test_values_stay_in_range_and_equal_pictures_become_different_ones():
    images = pictures(1).expand(5, -1, -1, -1)
    changed = augment(images, torch.arange(5), replace(EVERYTHING, brightness=1.0))
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert torch.pdist(changed.flatten(1)).min() > 0.1


def area(image):
    return image[0].sum().item()


def square(side=40, half=5):
    image = torch.zeros(1, 3, side, side)
    middle = slice(side // 2 - half, side // 2 + half)
    image[:, :, middle, middle] = 1.0
    return image


@pytest.mark.parametrize("scale", [0.5, 1.5, 2.0])
def test_a_scale_of_two_shows_things_twice_as_large(scale):
    config = AugmentationConfig(min_scale=scale, max_scale=scale)
    changed = augment(square(), seeds(3), config)[0]
    assert area(changed) == pytest.approx(area(square()[0]) * scale**2, rel=0.05)


def test_a_shift_moves_by_up_to_its_share_of_the_side():
    changed = augment(
        square().expand(200, -1, -1, -1), torch.arange(200), AugmentationConfig(max_shift=0.25)
    )
    weights = torch.arange(40.0)
    column = (changed[:, 0].sum(1) * weights).sum(1) / changed[:, 0].sum((1, 2)) - 19.5
    row = (changed[:, 0].sum(2) * weights).sum(1) / changed[:, 0].sum((1, 2)) - 19.5
    for moved in (column, row):
        assert 9 < moved.max() < 10.1
        assert -10.1 < moved.min() < -9
    # The two axes are drawn apart.
    assert torch.corrcoef(torch.stack((column, row)))[0, 1].abs() < 0.2


def test_a_rotation_turns_about_the_middle_and_keeps_sizes():
    config = AugmentationConfig(max_rotation_degrees=45.0)
    images = square(half=6).expand(100, -1, -1, -1).clone()
    images[:, :, 20:, :] = 0.0
    changed = augment(images, torch.arange(100), config)[:, 0]
    totals = changed.sum((1, 2))
    torch.testing.assert_close(totals, images[:, 0].sum((1, 2)), rtol=0.05, atol=0)
    weights = torch.arange(40.0) - 19.5
    x = (changed.sum(1) * weights).sum(1) / totals
    y = (changed.sum(2) * weights).sum(1) / totals
    angles = torch.rad2deg(torch.atan2(x, -y))
    torch.testing.assert_close((x**2 + y**2).sqrt(), torch.full((100,), 3.0), rtol=0.05, atol=0)
    assert 40 < angles.max() < 46
    assert -46 < angles.min() < -40


def test_a_flip_mirrors_every_second_picture_left_to_right():
    images = pictures(1).expand(400, -1, -1, -1)
    changed = augment(images, torch.arange(400), AugmentationConfig(flip=True))
    same = ((changed - images).abs().amax((1, 2, 3)) < 1e-4).sum().item()
    mirrored = ((changed - images.flip(-1)).abs().amax((1, 2, 3)) < 1e-4).sum().item()
    assert same + mirrored == 400
    assert 160 < mirrored < 240


def test_brightness_is_a_factor_on_all_pixels():
    images = 0.1 + pictures(50) * 0.5
    factors = augment(images, torch.arange(50), AugmentationConfig(brightness=0.4)) / images
    first = factors[:, :1, :1, :1]
    torch.testing.assert_close(factors, first.expand_as(factors), rtol=1e-3, atol=1e-3)
    assert 0.6 < first.min() < 0.65
    assert 1.35 < first.max() < 1.4


def test_contrast_keeps_the_mean_grey_and_saturation_the_grey_of_every_pixel():
    images = 0.4 + 0.2 * pictures(30)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]

    def grey(batch):
        return (batch * weights).sum(1)

    by_contrast = augment(images, torch.arange(30), AugmentationConfig(contrast=0.5))
    torch.testing.assert_close(
        grey(by_contrast).mean((1, 2)), grey(images).mean((1, 2)), rtol=0, atol=1e-5
    )
    ratio = grey(by_contrast).std((1, 2)) / grey(images).std((1, 2))
    assert ratio.min() > 0.49
    assert ratio.max() < 1.51
    assert ratio.std() > 0.2
    by_saturation = augment(images, torch.arange(30), AugmentationConfig(saturation=0.5))
    torch.testing.assert_close(grey(by_saturation), grey(images), rtol=0, atol=1e-5)
    assert (by_saturation - images).abs().max() > 0.01
