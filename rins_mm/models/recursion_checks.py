"""What a recursion must keep to."""

import math

from data_pipelines.errors import UserError
from rins_mm.models.draws import CORE, RecursionConfig, most_rounds
from rins_mm.models.signatures import MAX_CALLS, expand


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
    _check_adapter(name, recursion)
    if recursion.kind == "latent":
        _check_latent(name, recursion)


def _check_adapter(name: str, recursion: RecursionConfig) -> None:
    if recursion.adapter_first_round not in (1, 2):
        raise UserError(
            f"{name}.adapter_first_round is {recursion.adapter_first_round}; it must be 2, or 1 to adapt "
            "the first round too"
        )
    if recursion.adapter_rank < 1:
        raise UserError(f"{name}.adapter_rank is {recursion.adapter_rank}; it must be at least 1")
    if recursion.adapter != "none" and not most_rounds(recursion):
        raise UserError(
            f"{name}.adapter is {recursion.adapter!r}, but the signature {recursion.signature!r} repeats no "
            "group; leave the adapter out, or choose a signature such as A^3B"
        )


def _check_latent(name: str, recursion: RecursionConfig) -> None:
    calls = expand(recursion.signature)
    if calls != ("A", *([CORE] * calls.count(CORE)), "C"):
        raise UserError(
            f"{name}.signature is {recursion.signature!r}, but latent thinking has a prelude, a core and a "
            "coda; write it like AB^8C"
        )
    if calls.count(CORE) > MAX_CALLS // 4:
        raise UserError(
            f"{name}.signature has {calls.count(CORE)} rounds in the mean, and draws may be several times as "
            f"long; choose at most {MAX_CALLS // 4}"
        )
    if recursion.latent_gradient_rounds < 1:
        raise UserError(
            f"{name}.latent_gradient_rounds is {recursion.latent_gradient_rounds}; it must be at least 1"
        )
    if not 0.0 <= recursion.latent_sigma <= 2.0:
        raise UserError(f"{name}.latent_sigma is {recursion.latent_sigma}; it must lie in [0, 2]")
    others = (recursion.skip_probability, recursion.skip_probabilities, recursion.patterns)
    if any(others) or recursion.adapter != "none":
        raise UserError(
            f"{name}.kind is latent, which draws rounds in its own way and injects the prelude's output; "
            "leave out skip probabilities, patterns and adapter"
        )
