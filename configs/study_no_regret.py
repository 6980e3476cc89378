"""Do rounds that were drawn at random cost nothing when recursion is off afterwards? A grid of p_s beside it."""

from dataclasses import replace
from typing import Literal

from configs import study_confirmatory as confirmatory
from rins_mm.models.draws import RecursionConfig
from rins_mm.study.design import Arm, Scale, StudyConfig

CHANCES = (0.25, 0.5, 0.8)
ADAPTERS: tuple[Literal["none", "linear", "lora"], ...] = ("none", "linear", "lora")


def study(scale: Scale = "cpu", data: str = confirmatory.DATA) -> StudyConfig:
    """The drawn arm of the confirmatory study at AB, and other chances, exploratory."""
    part = confirmatory.part(
        confirmatory.study(scale, data),
        "no_regret",
        "Does training with rounds drawn at random cost nothing at AB, where recursion is off?",
        ("AB", "text-AAAB-drawn", "text-deep-samples"),
    )
    plain = confirmatory.base(scale, data)
    grid = {
        f"text-AAAB-{chance:g}-{adapter}": RecursionConfig(
            signature="A^3B", skip_probability=chance, adapter=adapter
        )
        for chance in CHANCES
        for adapter in ADAPTERS
    }
    arms = [
        Arm(
            name=name,
            config=confirmatory.in_text(plain, recursion, "AB", "AAAB"),
            role="exploratory",
            control="AB",
        )
        for name, recursion in grid.items()
        if recursion != confirmatory.DRAWN_ROUNDS
    ]
    claims = tuple(claim for claim in part.claims if claim.kind == "no_regret")
    return replace(part, arms=(*part.arms, *arms), claims=claims)
