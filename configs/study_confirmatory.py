"""The confirmatory study: recursion in the text tower, all rounds and drawn ones, and no regret, on chains of changes.

Make the data first (docs/studies/README.md has the commands): one thing does several things in order, and the picture
shows what has become of it. The claim about the image tower needs pictures that are hard, and is decided by
study_vision_rins. Everything here was decided before the first run; the other studies of scenes go on from it.
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

ACCURACY = Endpoint(task=TASK, metric="accuracy")

DATA = "runs/data/changes"
"""Scenes of the construction `changes` alone."""

ACCURACY_DELTA = 0.02
"""Two questions of a hundred: less than that nobody would pay several rounds for."""

CAPTION_TOKENS = 27.21
"""Mean length of the captions of that data in the tokens of these recipes."""

BLOCKS = 2
"""Of each tower on a CPU core: A and B are one block each, the least that can be told apart."""

WIDTH = 64
"""Of each tower on a CPU core: there a deeper text tower gains by being deeper (docs/studies/README.md, pilots)."""

PAIRS = 150_000
"""Of the plain arm on a CPU core: neither all of the long captions are understood by then, nor none."""

LEARNING_RATES = (2e-3, 4e-3, 8e-3)
TUNING_SHARE = 1.0
"""Of a run: half the length chose a rate for plain that was 2.7 points worse in the end, in one pilot."""

THREE_ROUNDS = RecursionConfig(signature="A^3B")
# Stochastic RINS with light linear adapters (arXiv 2502.07503, section 4).
DRAWN_ROUNDS = RecursionConfig(signature="A^3B", skip_probability=0.5, adapter="linear")


def base(scale: Scale = "cpu", data: str = DATA, blocks: int = BLOCKS) -> TrainConfig:
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


def evaluated(plain: TrainConfig, *depths: str, data: str = DATA) -> TrainConfig:
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
    """Four arms, and two controls of the data."""
    deep = replace(plain, text=replace(plain.text, depth=2 * plain.text.depth))
    bag = replace(plain, tokenizer=replace(plain.tokenizer, canonicalize="bag_of_words"))
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
        # As many calls as text-AAAB, none of them shared.
        Arm(name="text-deep", config=deep, control="AB"),
        control_of_data("text-deep-samples", deep),
        control_of_data("bag-of-words", bag, tuned_as="AB"),
    )


def control_of_data(name: str, config: TrainConfig, tuned_as: str = "") -> Arm:
    """An arm that sees as many samples as the plain one, to show what the data can tell."""
    return Arm(
        name=name, config=config, control="AB", role="control", match="samples", tuned_as=tuned_as
    )


def claim(name: str, arm: str, kind: ClaimKind, tower: Tower, variant: str = "") -> Claim:
    """What is to be decided of an arm, by its accuracy on the hard negatives."""
    return Claim(
        name=name,
        arm=arm,
        control="AB",
        kind=kind,
        delta=ACCURACY_DELTA,
        tower=tower,
        endpoint=ACCURACY,
        variant=variant,
    )


def study(scale: Scale = "cpu", data: str = DATA, blocks: int = BLOCKS) -> StudyConfig:
    """Four arms, two controls of the data, three claims."""
    return of_scenes(
        name="confirmatory",
        purpose=(
            "Does repeating the first half of the text tower help at equal training FLOPs, does it with rounds "
            "drawn at random, and do those cost nothing when recursion is off afterwards?"
        ),
        arms=arms_of(base(scale, data, blocks)),
        claims=(
            claim("Recursion in the text tower helps", "text-AAAB", "gain", "text"),
            claim("Drawn rounds in the text tower help", "text-AAAB-drawn", "gain", "text"),
            claim("Drawn rounds cost nothing at AB", "text-AAAB-drawn", "no_regret", "text", "AB"),
        ),
        positive_control=PositiveControl(tower="text", arm="text-deep-samples", control="AB"),
        scale=scale,
        data=data,
        caption_tokens=CAPTION_TOKENS,
        notes=(
            "The bag of words sees the words of a caption in alphabetical order. A foil with the same words is the "
            "same text to it, and a tie counts as wrong: on such foils it scores next to 0, below chance.",
        ),
    )


def of_scenes(
    *,
    name: str,
    purpose: str,
    arms: tuple[Arm, ...],
    claims: tuple[Claim, ...],
    positive_control: PositiveControl,
    scale: Scale,
    data: str,
    caption_tokens: float,
    notes: tuple[str, ...] = (),
    learning_rates: tuple[float, ...] = LEARNING_RATES,
    exploratory_seeds: int = 2,
) -> StudyConfig:
    """A study on scenes, with the endpoints, the seeds and the search for learning rates that all of them have."""
    return StudyConfig(
        name=name,
        purpose=purpose,
        arms=arms,
        claims=claims,
        positive_controls=(positive_control,),
        tasks=(TASK,),
        endpoints=(ACCURACY, HELD_OUT_LOSS),
        held_out=HeldOut(shards=(f"{data}/test/*.tar",)),
        caption_tokens=caption_tokens,
        seeds=8 if scale == "cpu" else 10,
        # More than four: a control that fails for want of seeds would leave everything undecided.
        control_seeds=6,
        exploratory_seeds=exploratory_seeds,
        tuning=Tuning(
            learning_rates=learning_rates,
            held_out=HeldOut(shards=(f"{data}/val/*.tar",)),
            share=TUNING_SHARE,
        ),
        notes=(
            "Scenes are synthetic, 32 pixels wide, with few kinds of things: nothing here is shown for "
            "photographs, for other sizes, or for longer training.",
            *notes,
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
