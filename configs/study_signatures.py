"""A sweep over ways to repeat blocks of the text tower at equal FLOPs: exploratory, no verdict."""

from configs import study_confirmatory as confirmatory
from rins_mm.models.draws import RecursionConfig
from rins_mm.study.design import HELD_OUT_LOSS, Arm, HeldOut, Scale, StudyConfig

SIGNATURES = {
    "AAB": "A^2B", "AAAB": "A^3B", "AAAAB": "A^4B", "ABB": "AB^2", "ABBB": "AB^3", "ABAB": "(AB)^2",
    "ABABAB": "(AB)^3", "AABB": "A^2B^2", "AAABBB": "A^3B^3", "ABA": "ABA", "ABAAB": "ABAAB",
    "AABAB": "AABAB", "AAB_2": "(A^2B)_2", "AAAB_2": "(A^3B)_2", "ABB_2": "(AB^2)_2", "ABAB_2": "(ABAB)_2",
    "AABCD": "A^2BCD", "AAABCD": "A^3BCD", "ABBCD": "AB^2CD", "ABCCD": "ABC^2D", "ABCDD": "ABCD^2",
    "ABCBCD": "A(BC)^2D", "ABBBCD": "AB^3CD", "ABCBD": "ABCBD", "ABABCD": "(AB)^2CD", "AABBCCDD": "A^2B^2C^2D^2",
}  # fmt: skip
"""Names of arms, and signatures of two or four groups (of four blocks, or of eight)."""

SKIP_PROBABILITIES = (0.0, 0.5)

BLOCKS = 4
"""Of each tower on a CPU core: the signatures divide them by up to four."""


def study(scale: Scale = "cpu", data: str = confirmatory.DATA) -> StudyConfig:
    """Every signature with all its rounds, and with rounds that are skipped half the time: 53 arms with AB."""
    plain = confirmatory.base(scale, data, BLOCKS)
    arms = [
        Arm(
            name=name if chance == 0 else f"{name}-{chance:g}",
            config=confirmatory.in_text(
                plain, RecursionConfig(signature=signature, skip_probability=chance)
            ),
            role="exploratory",
            control="AB",
        )
        for chance in SKIP_PROBABILITIES
        for name, signature in SIGNATURES.items()
    ]
    return StudyConfig(
        name="signatures",
        purpose="Which ways of repeating blocks of the text tower are worth a study of their own?",
        arms=(Arm(name="AB", config=plain), *arms),
        tasks=(confirmatory.TASK,),
        endpoints=(confirmatory.ACCURACY, HELD_OUT_LOSS),
        held_out=HeldOut(shards=(f"{data}/test/*.tar",)),
        caption_tokens=confirmatory.CAPTION_TOKENS,
        seeds=2,
        exploratory_seeds=1,
        notes=(
            "Exploratory: of fifty arms some come out on top by luck. The learning rate is that of AB, "
            "tuned for none of them.",
        ),
    )
