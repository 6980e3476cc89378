"""Do rounds that were drawn at random cost nothing when recursion is off afterwards? A grid of p_s beside it."""

from dataclasses import replace

from configs import study_confirmatory as confirmatory
from rins_mm.models.draws import RecursionConfig
from rins_mm.study.design import Arm, Scale, StudyConfig

EXPLORATORY_CHANCES = (0.25, 0.8)


def study(scale: Scale = "cpu", data: str = "runs/data/scenes") -> StudyConfig:
    """The drawn arm of the confirmatory study at AB, and other chances, exploratory."""
    part = confirmatory.part(
        confirmatory.study(scale, data),
        "no_regret",
        "Does training with rounds drawn at random cost nothing at AB, where recursion is off?",
        ("AB", "text-AAAB-drawn", "text-deep-samples"),
    )
    plain = confirmatory.base(scale, data)
    arms = [
        Arm(
            name=f"text-AAAB-{chance:g}",
            config=confirmatory.in_text(
                plain, RecursionConfig(signature="A^3B", skip_probability=chance), "AB", "AAAB"
            ),
            role="exploratory",
            control="AB",
        )
        for chance in EXPLORATORY_CHANCES
    ]
    claims = tuple(claim for claim in part.claims if claim.kind == "no_regret")
    return replace(part, arms=(*part.arms, *arms), claims=claims)
