"""The confirmatory study: recursion in either tower, and no regret, against one plain control, on scenes.

Make the data first (docs/studies/README.md has the commands: seven kinds of things; in half of the captions one thing
does several things in order, the others name all things with their colours).
Everything here was decided before the first run; the other studies of scenes are parts of it or go on from it.
"""

from dataclasses import replace

from configs import scenes
from rins_mm.config import EvaluationConfig, TrainConfig
from rins_mm.models.draws import RecursionConfig
from rins_mm.study.design import (
    HELD_OUT_LOSS,
    Arm,
    Claim,
    Endpoint,
    HeldOut,
    PositiveControl,
    Scale,
    StudyConfig,
    Tower,
    Tuning,
)
from rins_mm.study.statistics import ClaimKind

TASK = "compositional:scenes"
"""The hard negatives of the test split."""

ACCURACY_DELTA = 0.02
"""Two questions of a hundred: less than that nobody would pay several rounds for."""

CAPTION_TOKENS = 25.07
"""Mean length of the captions of that data in the tokens of these recipes."""

BLOCKS = 2
"""Of each tower on a CPU core: A and B are one block each, the least that can be told apart."""

WIDTH = 64
"""Of each tower on a CPU core: there a deeper text tower gains by being deeper (docs/studies/README.md, pilots)."""

PAIRS = 300_000
"""Of the plain arm on a CPU core."""

THREE_ROUNDS = RecursionConfig(signature="A^3B")
# Stochastic RINS with light linear adapters (arXiv 2502.07503, section 4).
DRAWN_ROUNDS = RecursionConfig(signature="A^3B", skip_probability=0.5, adapter="linear")


def base(scale: Scale = "cpu", data: str = "runs/data/scenes", blocks: int = BLOCKS) -> TrainConfig:
    """The plain arm, AB in both towers, measured while it trains; `blocks`: of each tower on a CPU core."""
    if scale == "gpu":
        plain = scenes.config(
            width=256, text_depth=8, image_depth=8, pairs=2_000_000, batch_size=1024, data=data
        )
    else:
        plain = scenes.config(
            width=WIDTH,
            text_depth=blocks,
            image_depth=blocks,
            pairs=PAIRS,
            batch_size=128,
            data=data,
        )
    return evaluated(plain, "AB", data=data)


def evaluated(plain: TrainConfig, *depths: str, data: str = "runs/data/scenes") -> TrainConfig:
    """The configuration with the points of its learning curve measured at these depths only."""
    evaluation = EvaluationConfig(tasks=(TASK,), text_signatures=depths, data=data)
    return replace(plain, evaluation=evaluation)


def in_text(plain: TrainConfig, recursion: RecursionConfig, *depths: str) -> TrainConfig:
    """The configuration with a recursive text tower."""
    evaluation = replace(plain.evaluation, text_signatures=depths)
    return replace(plain, text=replace(plain.text, recursion=recursion), evaluation=evaluation)


def in_image(plain: TrainConfig, recursion: RecursionConfig) -> TrainConfig:
    """The configuration with a recursive image tower."""
    return replace(plain, image=replace(plain.image, recursion=recursion))


def arms_of(plain: TrainConfig) -> tuple[Arm, ...]:
    """Five arms, and three controls of the data."""
    assert plain.image.depth is not None
    deep_text = replace(plain, text=replace(plain.text, depth=2 * plain.text.depth))
    deep_image = replace(plain, image=replace(plain.image, depth=2 * plain.image.depth))
    bag = replace(plain, tokenizer=replace(plain.tokenizer, canonicalize="bag_of_words"))

    def control(name: str, config: TrainConfig, tuned_as: str = "") -> Arm:
        return Arm(
            name=name,
            config=config,
            control="AB",
            role="control",
            match="samples",
            tuned_as=tuned_as,
        )

    return (
        Arm(name="AB", config=plain),
        Arm(
            name="text-AAAB",
            config=in_text(plain, THREE_ROUNDS, "AAAB"),
            control="AB",
            dial=("AB", "AAB", "AAAAB", "AAAAAB"),
        ),
        Arm(
            name="text-AAAB-drawn",
            config=in_text(plain, DRAWN_ROUNDS, "AB", "AAAB"),
            control="AB",
            dial=("AAAAB", "AAAAAB"),
        ),
        Arm(name="image-AAAB", config=in_image(plain, THREE_ROUNDS), control="AB"),
        # As many calls as text-AAAB, none of them shared.
        Arm(name="text-deep", config=deep_text, control="AB"),
        control("text-deep-samples", deep_text, tuned_as="text-deep"),
        control("image-deep-samples", deep_image),
        control("bag-of-words", bag, tuned_as="AB"),
    )


def claims_by(accuracy: Endpoint) -> tuple[Claim, ...]:
    """What is to be decided, and by how much."""

    def claim(name: str, arm: str, kind: ClaimKind, tower: Tower, variant: str = "") -> Claim:
        return Claim(
            name=name,
            arm=arm,
            control="AB",
            kind=kind,
            delta=ACCURACY_DELTA,
            tower=tower,
            endpoint=accuracy,
            variant=variant,
        )

    return (
        claim("Recursion in the text tower helps", "text-AAAB", "gain", "text"),
        claim("Drawn rounds in the text tower help", "text-AAAB-drawn", "gain", "text"),
        claim("Drawn rounds cost nothing at AB", "text-AAAB-drawn", "no_regret", "text", "AB"),
        claim("Recursion in the image tower does not profit", "image-AAAB", "no_gain", "image"),
    )


def study(
    scale: Scale = "cpu", data: str = "runs/data/scenes", blocks: int = BLOCKS
) -> StudyConfig:
    """Five arms, three controls of the data, four claims."""
    accuracy = Endpoint(task=TASK, metric="accuracy")
    return StudyConfig(
        name="confirmatory",
        purpose=(
            "Does repeating the first half of a tower help at equal training FLOPs: of the text tower, of the "
            "image tower, and with rounds drawn at random and recursion off afterwards?"
        ),
        arms=arms_of(base(scale, data, blocks)),
        claims=claims_by(accuracy),
        positive_controls=(
            PositiveControl(tower="text", arm="text-deep-samples", control="AB"),
            PositiveControl(tower="image", arm="image-deep-samples", control="AB"),
        ),
        tasks=(TASK,),
        endpoints=(accuracy, HELD_OUT_LOSS),
        held_out=HeldOut(shards=(f"{data}/test/*.tar",)),
        caption_tokens=CAPTION_TOKENS,
        seeds=8 if scale == "cpu" else 10,
        tuning=Tuning(
            learning_rates=(1e-3, 2e-3, 4e-3),
            held_out=HeldOut(shards=(f"{data}/val/*.tar",)),
            # Before much is learned all rates look the same.
            share=1 / 3,
        ),
        notes=(
            "Scenes are synthetic, 32 pixels wide, with few kinds of things: nothing here is shown for "
            "photographs, for other sizes, or for longer training.",
            "The bag of words sees the words of a caption in alphabetical order. A foil with the same words is the "
            "same text to it, and a tie counts as wrong: on such foils it scores 0, below chance.",
            "Matching whole-model FLOPs costs recursion in the image tower far more samples than in the text "
            "tower; read the differences at equal samples beside it.",
        ),
    )


def part(whole: StudyConfig, name: str, purpose: str, arms: tuple[str, ...]) -> StudyConfig:
    """A study of some of the arms, with the claims and the controls that are about them alone."""
    kept = tuple(
        # Without the arm that it is tuned as, it has a search of its own.
        arm if arm.tuned_as in arms else replace(arm, tuned_as="")
        for arm in whole.arms
        if arm.name in arms
    )
    return replace(
        whole,
        name=name,
        purpose=purpose,
        arms=kept,
        claims=tuple(claim for claim in whole.claims if claim.arm in arms),
        positive_controls=tuple(one for one in whole.positive_controls if one.arm in arms),
    )
