"""Numbers of each round of a step, for the log."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from rins_mm.models.draws import most_rounds
from rins_mm.models.round_probe import RoundProbe
from rins_mm.models.siglip import SigLIP


@contextmanager
def observed_rounds(model: SigLIP, *, wanted: bool) -> Iterator[dict[str, Tensor]]:
    """Around the passes of a step, where wanted: at its end the numbers of each recursive tower are in the answer.

    They are of the last pass: with micro-batches, of the last one.
    """
    numbers: dict[str, Tensor] = {}
    towers = (
        ("image", model.image_tower.stack, model.image_tower.config),
        ("text", model.text_tower.blocks, model.text_tower.config),
    )
    stacks = [
        (name, stack, RoundProbe())
        for name, stack, config in towers
        if wanted and stack is not None and most_rounds(config.recursion)
    ]
    for _, stack, probe in stacks:
        stack.probe = probe
    try:
        yield numbers
        for name, _, probe in stacks:
            numbers |= {f"{name}_{key}": value for key, value in probe.numbers().items()}
    finally:
        for _, stack, _ in stacks:
            stack.probe = None
