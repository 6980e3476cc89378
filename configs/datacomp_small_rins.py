"""DataComp's small scale with a text tower that runs its first half up to three times."""

from configs import datacomp_small_plain
from rins_mm.config import TrainConfig
from rins_mm.models.draws import RecursionConfig


def config(skip_probability: float = 0.5) -> TrainConfig:
    """The recursive arm of the pair: datacomp_small_plain with the text signature A^3B."""
    recursion = RecursionConfig(signature="A^3B", skip_probability=skip_probability)
    return datacomp_small_plain.config(recursion, run_dir="runs/datacomp_small_rins")
