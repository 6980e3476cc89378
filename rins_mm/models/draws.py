"""Which calls of a signature run in a training step: a pure function of (seed, step)."""

import math
from dataclasses import dataclass
from functools import partial

from data_pipelines.errors import UserError
from data_pipelines.hashing import stable_hash
from rins_mm.models.signatures import Calls, Path, Signature, expand, parse


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


def draw_calls(config: RecursionConfig, *, tower: str, seed: int, step: int) -> Calls:
    """The calls of one training step: a pure function of its arguments, so equal on every rank."""
    if config.patterns:
        return _draw_pattern(config, _uniform("pattern", tower, seed, step))
    signature, chances = _levels(config)

    def kept(path: Path) -> list[int]:
        return [
            index
            for index, chance in enumerate(chances)
            if _uniform("skip", tower, seed, step, *path, index) >= chance
        ]

    return signature.unfold(kept)


def _draw_pattern(config: RecursionConfig, uniform: float) -> Calls:
    total = 0.0
    for pattern, probability in zip(config.patterns, config.pattern_probabilities, strict=True):
        total += probability
        if uniform < total:
            return expand(pattern)
    # The probabilities add up to a little less than 1.
    return expand(config.patterns[-1])


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

    With a degree all levels lose as many rounds; of patterns each is its own form.
    """
    signature = parse(config.signature)
    if config.patterns:
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


def check_recursion(tower: str, recursion: RecursionConfig) -> None:
    """Refuse what cannot be drawn: a UserError names the setting, its value and the mend."""
    calls = expand(recursion.signature)
    name = f"{tower}.recursion"
    chances = (recursion.skip_probability, *recursion.skip_probabilities)
    if not all(0.0 <= chance <= 1.0 for chance in chances):
        setting = "skip_probabilities" if recursion.skip_probabilities else "skip_probability"
        raise UserError(
            f"{name}.{setting} is {getattr(recursion, setting)}; probabilities lie in [0, 1]"
        )
    num_chances = len(recursion.skip_probabilities)
    if num_chances not in (0, len(calls)):
        raise UserError(
            f"{name}.skip_probabilities has {num_chances} numbers for the {len(calls)} calls "
            f"{''.join(calls)} of {recursion.signature!r}; give one for each call"
        )
    ways = (recursion.skip_probability > 0, num_chances > 0, len(recursion.patterns) > 0)
    if sum(ways) > 1:
        raise UserError(
            f"{name} sets more than one of skip_probability, skip_probabilities and patterns; choose one"
        )
    weights = recursion.pattern_probabilities
    if len(weights) != len(recursion.patterns):
        raise UserError(
            f"{name} has {len(recursion.patterns)} patterns and {len(weights)} pattern_probabilities; "
            "give one for each"
        )
    if weights and not (min(weights) >= 0 and math.isclose(sum(weights), 1.0, abs_tol=1e-6)):
        raise UserError(
            f"{name}.pattern_probabilities are {weights}, whose sum is {sum(weights):g}; it must be 1"
        )
    for pattern in recursion.patterns:
        if set(expand(pattern)) != set(calls):
            raise UserError(
                f"{name}.patterns has {pattern!r}, which does not run the same groups as the signature "
                f"{recursion.signature!r}; each pattern must call {' '.join(sorted(set(calls)))}"
            )
