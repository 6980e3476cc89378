"""CC12M with a text tower that runs its first half up to three times."""

from configs import cc12m_plain
from rins_mm.config import TrainConfig
from rins_mm.models.draws import RecursionConfig


def config(skip_probability: float = 0.5) -> TrainConfig:
    """The recursive arm of the pair: cc12m_plain with the text signature A^3B."""
    recursion = RecursionConfig(signature="A^3B", skip_probability=skip_probability)
    return cc12m_plain.config(recursion, run_dir="runs/cc12m_rins")
