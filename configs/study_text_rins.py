"""Does repeating the first half of the text tower help at equal FLOPs? With the other ways to spend them."""

from dataclasses import replace

from configs import study_confirmatory as confirmatory
from rins_mm.models.draws import RecursionConfig
from rins_mm.study.design import Arm, Scale, StudyConfig

EXPLORATORY = {
    "text-AAB": RecursionConfig(signature="AAB"),
    "text-ABBB": RecursionConfig(signature="AB^3"),
    "text-ABAB": RecursionConfig(signature="(AB)^2"),
    "text-AABB": RecursionConfig(signature="A^2B^2"),
    "text-AAAB-early": RecursionConfig(signature="A^3B", split=(1, 3)),
    "text-AAAB-late": RecursionConfig(signature="A^3B", split=(3, 1)),
    # Latent recurrent thinking, which the paper compares with.
    "text-latent": RecursionConfig(kind="latent", signature="AB^3C", split=(1, 2, 1)),
}
"""One or two seeds each, no verdict: what repeats, and where the tower is cut."""

BLOCKS = 4
"""Of each tower on a CPU core: the signatures divide them by up to four."""


def study(scale: Scale = "cpu", data: str = confirmatory.DATA) -> StudyConfig:
    """The text arms of the confirmatory study, and exploratory signatures."""
    part = confirmatory.part(
        confirmatory.study(scale, data, BLOCKS),
        "text_rins",
        "Does repeating the first half of the text tower help at equal training FLOPs?",
        ("AB", "text-AAAB", "text-deep", "text-deep-samples", "bag-of-words"),
    )
    plain = confirmatory.base(scale, data, BLOCKS)
    arms = [
        Arm(
            name=name,
            config=confirmatory.in_text(plain, recursion_of(recursion, plain.text.depth)),
            role="exploratory",
            control="AB",
        )
        for name, recursion in EXPLORATORY.items()
    ]
    return replace(part, arms=(*part.arms, *arms))


def recursion_of(recursion: RecursionConfig, depth: int) -> RecursionConfig:
    """The same with its split, which is given for four blocks, stretched to `depth` blocks."""
    return replace(recursion, split=tuple(size * depth // 4 for size in recursion.split))
