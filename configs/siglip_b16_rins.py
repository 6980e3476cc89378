"""SigLIP B/16 whose first six of twelve text blocks run three times (RINS, arXiv 2502.07503)."""

from configs import siglip_b16
from rins_mm.config import TrainConfig
from rins_mm.models.draws import RecursionConfig


def config(skip_probability: float = 0.5) -> TrainConfig:
    """The baseline with the text signature A^3B; optional rounds are skipped with the given chance (p_s)."""
    recursion = RecursionConfig(signature="A^3B", skip_probability=skip_probability)
    return siglip_b16.config(recursion, run_dir="runs/siglip_b16_rins")
