"""Recursion: which groups of a tower's blocks run, how often, and in which order.

A signature such as "A^3B" names the groups of blocks in the order of their calls (RINS,
arXiv 2502.07503, section 2): the blocks of a tower are cut into equal groups A, B, …, and "AAAB" runs
A three times on its own output, then B. "AB" is the plain tower. The blocks of a group are the same
parameters at every call.

    python -m rins_mm.models.recursion "A^3B" --depth 12
"""

import string
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from data_pipelines.errors import UserError, run_command
from data_pipelines.hashing import stable_hash

Calls = tuple[str, ...]
"""The letters of a signature, one per call, in order."""

MAX_CALLS = 256
MAX_NESTING = 16


@dataclass(frozen=True, kw_only=True)
class RecursionConfig:
    """How the blocks of a tower are repeated."""

    signature: str = "AB"
    """Order in which the equal groups of blocks run; AB is the plain tower, A^3B (or AAAB) is RINS with 3 rounds."""
    skip_probability: float = 0.0
    """Chance (p_s) that a call which is neither the first nor the last is skipped in a training step."""


def expand(signature: str) -> Calls:
    """The calls of a signature: "A^3B", "A3B" and "AAAB" all give ("A", "A", "A", "B").

    Letters may carry a count, and groups in parentheses may be repeated: "(AB)^2" is "ABAB".
    """
    calls, end = _expand_sequence(signature, 0, nesting=0)
    letters = sorted(set(calls))
    if not calls or letters != list(string.ascii_uppercase[: len(letters)]):
        raise _unreadable(signature, end, "the letters must be A, or A and B, or A, B and C, …")
    return tuple(calls)


def _expand_sequence(signature: str, position: int, *, nesting: int) -> tuple[list[str], int]:
    if nesting > MAX_NESTING:
        raise _unreadable(signature, position, f"parentheses more than {MAX_NESTING} deep")
    calls: list[str] = []
    while position < len(signature):
        symbol = signature[position]
        if symbol in string.ascii_uppercase:
            part, position = [symbol], position + 1
        elif symbol == "(":
            part, position = _expand_sequence(signature, position + 1, nesting=nesting + 1)
        elif symbol == ")" and nesting and calls:
            return calls, position + 1
        else:
            raise _unreadable(signature, position, f"{symbol!r} was not expected")
        count, position = _read_count(signature, position)
        if len(calls) + count * len(part) > MAX_CALLS:
            raise _unreadable(signature, position, f"more than {MAX_CALLS} calls")
        calls += part * count
    if nesting:
        raise _unreadable(signature, position, "a parenthesis is not closed")
    return calls, position


def _read_count(signature: str, position: int) -> tuple[int, int]:
    """The repeat count at this position (1 where there is none) and the position after it."""
    start = position + 1 if signature[position : position + 1] == "^" else position
    end = start
    while end < len(signature) and signature[end] in string.digits:
        end += 1
    if end == start:
        if start != position:
            raise _unreadable(signature, position, "a number must follow '^'")
        return 1, position
    # Four digits exceed the bound on calls already: a longer number is not worth converting.
    count = int(signature[start:end].lstrip("0")[:4] or "0")
    if count == 0:
        raise _unreadable(signature, start, "a count of 0 would remove the group")
    return count, end


def _unreadable(signature: str, position: int, reason: str) -> UserError:
    return UserError(
        f"cannot read the signature {signature!r} at character {position + 1}: {reason}; "
        "write it like AB, A^3B, AAAB or (AB)^2"
    )


def group_sizes(signature: str, depth: int) -> dict[str, int]:
    """Number of blocks in each group when `depth` blocks are cut equally.

    Where nothing is repeated the cut changes nothing, so there an uneven one is allowed (27 = 13 + 14).
    """
    calls = expand(signature)
    letters = sorted(set(calls))
    size, rest = divmod(max(depth, 0), len(letters))
    if size and (rest == 0 or len(calls) == len(letters)):
        return dict.fromkeys(letters, size) | {letters[-1]: size + rest}
    lower, upper = size * len(letters), (size + 1) * len(letters)
    nearest = f"{lower} or {upper}" if lower else f"{upper}"
    raise UserError(
        f"a depth of {depth} blocks cannot be cut into the {len(letters)} equal groups of the "
        f"signature {signature!r}; the nearest depth that can is {nearest}"
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


def draw_calls(config: RecursionConfig, *, tower: str, seed: int, step: int) -> Calls:
    """The calls of one training step: a pure function of its arguments, so equal on every rank."""
    calls = expand(config.signature)
    skipped = {
        index
        for index in optional_calls(calls)
        if _uniform("skip", tower, seed, step, index) < config.skip_probability
    }
    return tuple(call for index, call in enumerate(calls) if index not in skipped)


def _uniform(*key: object) -> float:
    return (stable_hash(*key) % 2**53) / 2**53


def reachable_signatures(config: RecursionConfig) -> list[str]:
    """The signature and its shallower forms with fewer rounds, shortest first: AB, AAB, AAAB for A^3B."""
    calls = expand(config.signature)
    optional = optional_calls(calls)
    forms = {
        "".join(call for index, call in enumerate(calls) if index not in optional[:count])
        for count in range(len(optional) + 1)
    }
    return sorted(forms, key=len)


class RecursiveStack(nn.Sequential):
    """The blocks of a tower, registered once and named 0 … depth-1, run in the order of `calls`.

    A drop-in for the `blocks` of a timm model: calling it, or iterating over it, follows `calls`. With
    `checkpoint_calls` each call of a group keeps only its input, and runs again in the backward pass.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], signature: str, *, checkpoint_calls: bool = False
    ) -> None:
        super().__init__(*blocks)
        self.checkpoint_calls = checkpoint_calls
        sizes = group_sizes(signature, len(blocks))
        ends = dict(zip(sizes, accumulate(sizes.values()), strict=True))
        self.groups = {
            letter: range(ends[letter] - sizes[letter], ends[letter]) for letter in sizes
        }
        self.calls: Calls = tuple(self.groups)
        self._remembered: dict[Calls, Tensor] | None = None

    def check(self, calls: Calls) -> None:
        """Refuse calls of groups that this tower does not have."""
        if unknown := sorted(set(calls) - self.groups.keys()):
            raise UserError(
                f"the tower has the groups {' '.join(self.groups)} but {''.join(calls)!r} calls "
                f"{' '.join(unknown)}; use these letters only"
            )

    def group(self, letter: str) -> list[nn.Module]:
        """The blocks of one group."""
        return [self[index] for index in self.groups[letter]]

    def run_group(self, letter: str, x: Tensor, *arguments: Any, **settings: Any) -> Tensor:
        """One call: the blocks of a group one after the other, each with the same further arguments."""

        def run(x: Tensor) -> Tensor:
            for block in self.group(letter):
                x = block(x, *arguments, **settings)
            return x

        if self.checkpoint_calls and torch.is_grad_enabled():
            # What a block draws (stochastic depth) is drawn again, the same.
            return checkpoint(run, x, use_reentrant=False)
        return run(x)

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Around several passes over one input at different `calls`: what they share runs once.

        For evaluation alone: what training would draw for each pass is drawn once.
        """
        self._remembered = {}
        try:
            yield
        finally:
            self._remembered = None

    def _run_or_remember(
        self,
        calls: Calls,
        block: nn.Module,
        ends_call: bool,
        x: Tensor,
        *rest: Any,
        **settings: Any,
    ) -> Tensor:
        """One block of the last of these calls; the outcome of all of them where it is known already."""
        assert self._remembered is not None
        if calls in self._remembered:
            # The further blocks of this call are given it, and give it back.
            return self._remembered[calls]
        x = block(x, *rest, **settings)
        if ends_call:
            self._remembered[calls] = x
        return x

    def __iter__(self) -> Iterator[Any]:
        if self._remembered is not None:
            return (
                partial(self._run_or_remember, self.calls[:end], block, block is group[-1])
                for end in range(1, len(self.calls) + 1)
                for group in [self.group(self.calls[end - 1])]
                for block in group
            )
        if self.checkpoint_calls:
            return (partial(self.run_group, letter) for letter in self.calls)
        return (block for letter in self.calls for block in self.group(letter))


State = TypeVar("State")


def run_shared(
    run_group: Callable[[str, State], State], start: State, variants: Sequence[Calls]
) -> list[State]:
    """The outcome of each sequence of calls; what several have in common from the start runs once.

    AB, AAB and AAAB together cost three runs of A and three of B.
    """
    outcomes: dict[int, State] = {index: start for index, calls in enumerate(variants) if not calls}
    for letter in dict.fromkeys(calls[0] for calls in variants if calls):
        members = [index for index, calls in enumerate(variants) if calls and calls[0] == letter]
        rests = [variants[index][1:] for index in members]
        branch = run_shared(run_group, run_group(letter, start), rests)
        outcomes.update(zip(members, branch, strict=True))
    return [outcomes[index] for index in range(len(variants))]


def main(argv: list[str]) -> None:
    """Print what a signature means for a tower of a given depth."""
    if len(argv) != 3 or argv[1] != "--depth" or not argv[2].isdecimal():
        raise UserError(
            f"cannot read {' '.join(argv)!r}; write: python -m rins_mm.models.recursion SIGNATURE --depth BLOCKS"
        )
    signature, depth = argv[0], int(argv[2])
    sizes, calls = group_sizes(signature, depth), expand(signature)
    print(f"calls         {' '.join(calls)}")
    print(
        "groups        " + ", ".join(f"{letter}: {size} blocks" for letter, size in sizes.items())
    )
    print(f"unique blocks {depth}")
    print(f"block runs    {sum(sizes[letter] for letter in calls)}")


if __name__ == "__main__":
    run_command(main)
