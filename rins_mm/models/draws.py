"""Which calls of a signature run in a training step: a pure function of (seed, step)."""

from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

from data_pipelines.hashing import stable_hash
from rins_mm.models.latent_rounds import latent_rounds, mean_rounds_up_to
from rins_mm.models.signatures import Calls, Path, Signature, expand, parse

CORE = "B"
"""The group that latent thinking repeats."""


@dataclass(frozen=True, kw_only=True)
class RecursionConfig:
    """How the blocks of a tower are repeated."""

    signature: str = "AB"
    """Order in which the groups of blocks run: AB is the plain tower, A^3B (or AAAB) is RINS with 3 rounds,
    (A^3B)_2 builds A and B by A^3B once more."""
    split: tuple[int, ...] = ()
    """Blocks in each group; none: equal groups."""
    skip_probability: float = 0.0
    """Chance (p_s) that a call which is neither the first nor the last is skipped in a training step; in a
    signature with a degree, at each level."""
    skip_probabilities: tuple[float, ...] = ()
    """The same for each call of the expanded signature by itself, the first and the last included; a group of
    which every call may be skipped keeps its last one. None: skip_probability holds."""
    patterns: tuple[str, ...] = ()
    """Signatures of which each training step draws one; none: calls are skipped instead."""
    pattern_probabilities: tuple[float, ...] = ()
    """Their probabilities."""
    adapter: Literal["none", "linear", "lora", "scale"] = "none"
    """What the rounds of a repeated group do not share. linear: x + W(norm(x)), W starting at zero; lora: a
    change of low rank to each linear layer, starting at zero; scale: a factor on each element, starting at 1."""
    adapter_place: Literal["between_rounds", "before_next_group", "after_stack"] = (
        "before_next_group"
    )
    """linear and scale only: before a round; after the last of several rounds; or after all groups."""
    adapter_index: Literal["rounds_run", "round"] = "rounds_run"
    """After the last round, rounds_run: one adapter, that of the number of rounds that ran; round: those of all
    these rounds, one after the other."""
    adapter_norm: bool = True
    """linear only: whether x is normalised (LayerNorm without parameters) before W."""
    adapter_rank: int = 8
    """lora only: its rank."""
    adapter_first_round: int = 2
    """The first round that has an adapter; 2 leaves AB the plain tower."""
    kind: Literal["signature", "latent"] = "signature"
    """latent: latent recurrent thinking (arXiv 2502.05171). A signature AB^rC names the prelude A, the core B and
    the coda C; each round of the core is given the prelude's output again, and r is the mean number of rounds."""
    latent_sigma: float = 0.5
    """latent only: spread of the logarithm of the rate of the Poisson law; 0: a plain Poisson law."""
    latent_gradient_rounds: int = 8
    """latent only: how many of the last rounds have gradients; earlier ones cost a forward pass alone."""


def draw_calls(config: RecursionConfig, *, tower: str, seed: int, step: int) -> Calls:
    """The calls of one training step: a pure function of its arguments, so equal on every rank."""
    if config.patterns:
        return _draw_pattern(config, _uniform("pattern", tower, seed, step))
    if config.kind == "latent":
        uniforms = (_uniform("latent", tower, seed, step, number) for number in range(2))
        rounds = latent_rounds(_latent_mean(config), config.latent_sigma, uniforms)
        return ("A", *([CORE] * rounds), "C")
    signature, chances = _levels(config)
    if not any(chances):
        return expand(config.signature)

    def kept(path: Path) -> list[int]:
        return [
            index
            for index, chance in enumerate(chances)
            # What is certain needs no number; millions of steps are replayed before a run.
            if chance == 0.0 or _uniform("skip", tower, seed, step, *path, index) >= chance
        ]

    return signature.unfold(kept)


def _latent_mean(config: RecursionConfig) -> int:
    return expand(config.signature).count(CORE)


def rounds_without_gradient(config: RecursionConfig, calls: Calls) -> int:
    """How many of the first rounds of the core a training step runs forward alone."""
    if config.kind != "latent":
        return 0
    return max(0, calls.count(CORE) - config.latent_gradient_rounds)


def expected_rounds_without_gradient(config: RecursionConfig) -> float:
    """The same in the mean over the draws."""
    if config.kind != "latent":
        return 0.0
    mean = _latent_mean(config)
    return mean - mean_rounds_up_to(mean, config.latent_sigma, config.latent_gradient_rounds)


def most_rounds(config: RecursionConfig) -> dict[str, int]:
    """The groups that run more than once in some training step, and how often they run at most.

    Of a latent tower's core, which has no bound, the mean is said.
    """
    sequences = [expand(signature) for signature in (config.signature, *config.patterns)]
    counts = {
        letter: max(calls.count(letter) for calls in sequences)
        for letter in sorted(set(sequences[0]))
    }
    if config.kind == "latent":
        return {CORE: counts[CORE]}
    return {letter: count for letter, count in counts.items() if count > 1}


def _draw_pattern(config: RecursionConfig, uniform: float) -> Calls:
    total = 0.0
    for pattern, probability in zip(config.patterns, config.pattern_probabilities, strict=True):
        total += probability
        if uniform < total:
            return expand(pattern)
    # The probabilities add up to a little less than 1.
    return expand(config.patterns[-1])


@cache
def _levels(config: RecursionConfig) -> tuple[Signature, tuple[float, ...]]:
    """What is drawn, and the chance that a call of one of its levels is skipped."""
    signature = parse(config.signature)
    if config.skip_probabilities:
        flat = signature.unfold()
        given = config.skip_probabilities
        certain = {call for call, chance in zip(flat, given, strict=True) if chance == 0}
        last = {call: index for index, call in enumerate(flat) if call not in certain}
        return Signature(calls=flat), tuple(
            0.0 if last.get(call) == index else given[index] for index, call in enumerate(flat)
        )
    optional = optional_calls(signature.calls)
    return signature, tuple(
        config.skip_probability if index in optional else 0.0
        for index in range(len(signature.calls))
    )


def optional_calls(calls: Calls) -> tuple[int, ...]:
    """Positions of the calls that training may skip.

    The first and the last call always run (arXiv 2502.07503, Figure 5), and a letter whose calls could
    all be skipped keeps its last one.
    """
    kept = {0, len(calls) - 1}
    for letter in set(calls):
        positions = [index for index, call in enumerate(calls) if call == letter]
        if not kept & set(positions):
            kept.add(positions[-1])
    return tuple(index for index in range(len(calls)) if index not in kept)


def _uniform(*key: object) -> float:
    return (stable_hash(*key) % 2**53) / 2**53


def expected_calls(config: RecursionConfig) -> dict[str, float]:
    """How often each group runs in a training step, in the mean over the draws."""
    inner: dict[str, float] = {}
    if config.patterns:
        for pattern, probability in zip(config.patterns, config.pattern_probabilities, strict=True):
            for call in expand(pattern):
                inner[call] = inner.get(call, 0.0) + probability
        return inner
    if config.kind == "latent":
        return {"A": 1.0, CORE: float(_latent_mean(config)), "C": 1.0}
    signature, chances = _levels(config)
    for call, chance in zip(signature.calls, chances, strict=True):
        inner[call] = inner.get(call, 0.0) + 1.0 - chance
    # Levels are drawn independently: an innermost group runs as often as the product says.
    counts = [1.0]
    for _ in range(signature.degree):
        counts = [outer * inner[letter] for outer in counts for letter in sorted(inner)]
    return dict(zip(sorted(set(expand(config.signature))), counts, strict=True))


def reachable_signatures(config: RecursionConfig) -> list[str]:
    """The signature and its shallower forms with fewer rounds, shortest first: AB, AAB, AAAB for A^3B.

    With a degree all levels lose as many rounds; of patterns each is its own form; the rounds of a latent
    tower are halved again and again.
    """
    signature = parse(config.signature)
    if config.kind == "latent":
        rounds = _latent_mean(config)
        halvings = {rounds >> shift for shift in range(rounds.bit_length())}
        forms = {f"A{CORE * number}C" for number in halvings}
    elif config.patterns:
        forms = {"".join(expand(pattern)) for pattern in (*config.patterns, config.signature)}
    else:
        optional = optional_calls(signature.calls)
        forms = set()
        for count in range(len(optional) + 1):
            kept = [index for index in range(len(signature.calls)) if index not in optional[:count]]
            forms.add("".join(signature.unfold(partial(_always, kept))))
    return sorted(forms, key=lambda form: (len(form), form))


def _always(kept: list[int], _: Path) -> list[int]:
    return kept
