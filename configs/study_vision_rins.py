"""Does the image tower not profit from recursion? At equal FLOPs, and at equal samples beside it."""

from dataclasses import replace

from configs import study_confirmatory as confirmatory
from rins_mm.study.design import Arm, Scale, StudyConfig


def study(scale: Scale = "cpu", data: str = "runs/data/scenes") -> StudyConfig:
    """The image arms of the confirmatory study; and recursion that is given as many samples, exploratory."""
    part = confirmatory.part(
        confirmatory.study(scale, data),
        "vision_rins",
        "Does repeating the first half of the image tower bring nothing that would matter?",
        ("AB", "image-AAAB", "image-deep-samples"),
    )
    plain = confirmatory.base(scale, data)
    samples = Arm(
        name="image-AAAB-samples",
        config=confirmatory.in_image(plain, confirmatory.THREE_ROUNDS),
        role="exploratory",
        control="AB",
        match="samples",
    )
    return replace(part, arms=(*part.arms, samples))
