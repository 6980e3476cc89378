"""Learning-rate schedules as pure functions of the number of samples seen."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate rises and falls. Lengths are in samples, so that they outlive a change of batch size."""

    shape: Literal["cosine", "rsqrt"] = "cosine"
    """cosine: to zero at the end; rsqrt: slow decay after the warm-up, then a linear cooldown (big_vision)."""
    warmup_samples: int = 0
    """Linear rise from zero, in samples."""
    cooldown_samples: int = 0
    """rsqrt only: linear fall to zero over the last samples."""
    timescale_samples: int = 10_000 * 16_384
    """rsqrt only: samples after the warm-up at which the rate has fallen to 1/sqrt(2)."""


def learning_rate_factor(
    config: ScheduleConfig, *, samples_seen: float, total_samples: int
) -> float:
    """The share of the peak learning rate, in [0, 1], after `samples_seen` of `total_samples`."""
    warmup = min(1.0, samples_seen / config.warmup_samples) if config.warmup_samples else 1.0
    past_warmup = max(0.0, samples_seen - config.warmup_samples)
    if config.shape == "cosine":
        progress = min(1.0, past_warmup / max(1.0, total_samples - config.warmup_samples))
        return warmup * 0.5 * (1.0 + math.cos(math.pi * progress))
    decay = 1.0 / math.sqrt(1.0 + past_warmup / config.timescale_samples)
    left = max(0.0, total_samples - samples_seen)
    cooldown = min(1.0, left / config.cooldown_samples) if config.cooldown_samples else 1.0
    return warmup * decay * cooldown
