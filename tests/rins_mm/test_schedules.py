import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rins_mm.schedules import ScheduleConfig, learning_rate_factor

shapes = st.sampled_from(["cosine", "rsqrt"])


@st.composite
def schedules(draw):
    total = draw(st.integers(1, 10**9))
    warmup = draw(st.integers(0, total))
    cooldown = draw(st.integers(0, total - warmup))
    config = ScheduleConfig(
        shape=draw(shapes),
        warmup_samples=warmup,
        cooldown_samples=cooldown,
        timescale_samples=draw(st.integers(1, 10**9)),
    )
    return config, total


def in_steps(config, step, total, batch_size):
    """big_vision's formulas, in steps of a batch size that divides all lengths."""
    warmup, cooldown = config.warmup_samples // batch_size, config.cooldown_samples // batch_size
    rate = 1.0
    if config.shape == "cosine":
        progress = (step - warmup) / (total - warmup)
        rate *= (1 + math.cos(math.pi * min(max(progress, 0), 1))) / 2
    elif step >= warmup:
        rate /= math.sqrt(1 + (step - warmup) / (config.timescale_samples // batch_size))
    if warmup:
        rate *= min(1, step / warmup)
    if cooldown and config.shape == "rsqrt":
        rate *= min(1, (total - step) / cooldown)
    return rate


@pytest.mark.parametrize("shape", ["cosine", "rsqrt"])
@pytest.mark.parametrize(("warmup", "cooldown"), [(0, 0), (10, 0), (0, 20), (10, 20), (40, 60)])
def test_a_schedule_in_samples_is_big_visions_in_steps(shape, warmup, cooldown):
    size = 32
    config = ScheduleConfig(
        shape=shape,
        warmup_samples=warmup * size,
        cooldown_samples=cooldown * size,
        timescale_samples=15 * size,
    )
    for step in range(101):
        factor = learning_rate_factor(
            config, samples_seen=float(step * size), total_samples=100 * size
        )
        assert factor == pytest.approx(in_steps(config, step, 100, size), rel=1e-12, abs=1e-12)


@given(schedules(), st.floats(0, 1))
def test_a_factor_is_a_share(schedule, progress):
    config, total = schedule
    factor = learning_rate_factor(config, samples_seen=progress * total, total_samples=total)
    assert 0.0 <= factor <= 1.0


@given(schedules(), st.floats(0, 1), st.floats(0, 1))
def test_the_rate_rises_in_the_warmup_and_never_after_it(schedule, one, two):
    config, total = schedule
    early, late = sorted((one, two))

    def factor(samples):
        return learning_rate_factor(config, samples_seen=float(samples), total_samples=total)

    warmup, rest = config.warmup_samples, total - config.warmup_samples
    assert factor(early * warmup) <= factor(late * warmup) + 1e-12
    assert factor(warmup + early * rest) >= factor(warmup + late * rest) - 1e-12


@given(schedules())
def test_the_ends_of_a_schedule(schedule):
    config, total = schedule

    def factor(samples):
        return learning_rate_factor(config, samples_seen=float(samples), total_samples=total)

    if config.warmup_samples:
        assert factor(0) == 0.0
    if config.warmup_samples < total:
        assert factor(config.warmup_samples) == pytest.approx(1.0)
        if config.cooldown_samples or config.shape == "cosine":
            assert factor(total) == pytest.approx(0.0, abs=1e-9)
    assert factor(3 * total) <= factor(total) + 1e-12


def test_the_timescale_is_where_the_rate_has_fallen_to_the_root_of_a_half():
    config = ScheduleConfig(shape="rsqrt", warmup_samples=100, timescale_samples=400)
    factor = learning_rate_factor(config, samples_seen=500.0, total_samples=10_000)
    assert factor == pytest.approx(math.sqrt(0.5))
