"""Does the image tower not profit from recursion? At equal FLOPs, and at equal samples beside it.

Make the data first (docs/studies/README.md has the commands): what the text study asks of the words is asked of the
pictures here. Signs in the picture stand for what a thing does, one after the other, and the caption tells its end.
"""

from dataclasses import replace

from configs import study_confirmatory as confirmatory
from rins_mm.study.design import Arm, PositiveControl, Scale, StudyConfig

DATA = "runs/data/signs"
"""Scenes of the construction `signs` alone."""

CAPTION_TOKENS = 14.82
"""Mean length of the captions of that data in the tokens of these recipes."""

LEARNING_RATES = (1e-3, *confirmatory.LEARNING_RATES)
"""One more than the text's study has: of its three the least was the best for two arms."""

MEAN_POOLED = "vit_base_patch16_siglip_gap_224"
"""Attention pooling is a layer of its own: with it two blocks do as well as four (docs/studies/README.md, pilots)."""


def study(scale: Scale = "cpu", data: str = DATA) -> StudyConfig:
    """Plain, recursive, and a control of the data.

    Exploratory: recursion that is given as many samples, and unshared depth at equal FLOPs, with as many seeds as the
    others: the claim at equal FLOPs can only be read beside them.
    """
    plain = confirmatory.base(scale, data)
    plain = replace(plain, image=replace(plain.image, name=MEAN_POOLED))
    recursive = confirmatory.in_image(plain, confirmatory.THREE_ROUNDS)
    assert plain.image.depth is not None
    deep = replace(plain, image=replace(plain.image, depth=2 * plain.image.depth))
    return confirmatory.of_scenes(
        name="vision_rins",
        purpose="Does repeating the first half of the image tower bring nothing that would matter?",
        arms=(
            Arm(name="AB", config=plain),
            Arm(name="image-AAAB", config=recursive, control="AB"),
            confirmatory.control_of_data("image-deep-samples", deep),
            Arm(
                name="image-AAAB-samples",
                config=recursive,
                role="exploratory",
                control="AB",
                match="samples",
                tuned_as="image-AAAB",
            ),
            Arm(
                name="image-deep",
                config=deep,
                role="exploratory",
                control="AB",
                tuned_as="image-deep-samples",
            ),
        ),
        claims=(
            confirmatory.claim(
                "Recursion in the image tower does not profit", "image-AAAB", "no_gain", "image"
            ),
        ),
        positive_control=PositiveControl(tower="image", arm="image-deep-samples", control="AB"),
        scale=scale,
        data=data,
        caption_tokens=CAPTION_TOKENS,
        notes=(
            "Matching whole-model FLOPs costs recursion in the image tower far more samples than in the text "
            "tower; read the differences at equal samples beside it.",
        ),
        learning_rates=LEARNING_RATES,
        # No more than the study has: as many as the other arms.
        exploratory_seeds=10,
    )
