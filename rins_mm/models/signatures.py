"""The language of signatures: which groups of a tower's blocks run, how often, and in which order.

A signature such as "A^3B" names the groups of blocks in the order of their calls (RINS,
arXiv 2502.07503, section 2): the blocks of a tower are cut into groups A, B, …, and "AAAB" runs
A three times on its own output, then B. "AB" is the plain tower. The blocks of a group are the same
parameters at every call.

A degree nests a signature in itself: in "(A^3B)_2" the two groups of A^3B are each built by A^3B once
more, from groups of their own. Blocks are cut into the innermost groups, here four, and the calls are
AAAB three times, then CCCD.
"""

import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from data_pipelines.errors import UserError

Calls = tuple[str, ...]
"""The letters of a signature, one per call, in order."""

Path = tuple[int, ...]
"""A call at one level of a nested signature: its position there, after those of the calls around it."""

MAX_CHARACTERS = 1_000
MAX_CALLS = 256
MAX_NESTING = 16
LETTERS = string.ascii_uppercase


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A signature as it was read: the calls of one level, and how many levels there are."""

    calls: Calls
    degree: int = 1

    def unfold(self, kept: Callable[[Path], Iterable[int]] | None = None) -> Calls:
        """The innermost calls. `kept` says which positions run inside of the call at a path; None: all."""
        return self._unfold(kept or (lambda _: range(len(self.calls))), (), 0)

    def _unfold(self, kept: Callable[[Path], Iterable[int]], path: Path, first: int) -> Calls:
        """`first` is the number of the first innermost group inside of this path."""
        letters = sorted(set(self.calls))
        groups_each = len(letters) ** (self.degree - 1 - len(path))
        calls: Calls = ()
        for position in kept(path):
            group = first + letters.index(self.calls[position]) * groups_each
            if len(path) == self.degree - 1:
                calls += (LETTERS[group],)
            else:
                calls += self._unfold(kept, (*path, position), group)
        return calls


# Bounded, since requests and recorded files may name any number of signatures.
@lru_cache(maxsize=1_024)
def expand(signature: str) -> Calls:
    """The calls of a signature: "A^3B", "A3B" and "AAAB" all give ("A", "A", "A", "B").

    Letters may carry a count, and groups in parentheses may be repeated: "(AB)^2" is "ABAB". A degree
    stands behind parentheses around the whole: "(AAB)_2" is "AABAABCCD".
    """
    return parse(signature).unfold()


def parse(signature: str) -> Signature:
    """The calls of one level, and the degree. Raises UserError with the place of what cannot be read."""
    if len(signature) > MAX_CHARACTERS:
        raise UserError(
            f"the signature {signature[:40]!r}… has {len(signature):,} characters, more than "
            f"{MAX_CHARACTERS:,}; write it shorter, like A^3B"
        )
    body, degree = _read_degree(signature)
    calls, end = _expand_sequence(body, 0, nesting=0)
    letters = sorted(set(calls))
    if not calls or letters != list(LETTERS[: len(letters)]):
        raise _unreadable(signature, end, "the letters must be A, or A and B, or A, B and C, …")
    if len(calls) ** degree > MAX_CALLS:
        raise _unreadable(signature, end, f"more than {MAX_CALLS} calls")
    if len(letters) ** degree > len(LETTERS):
        raise _unreadable(signature, end, f"more than {len(LETTERS)} groups")
    return Signature(calls=tuple(calls), degree=degree)


def _read_degree(signature: str) -> tuple[str, int]:
    """What is nested, and how deep: ("(A^3B)", 2) for "(A^3B)_2"."""
    body, mark, number = signature.partition("_")
    if not mark:
        return signature, 1
    position = len(body)
    if not (body.startswith("(") and _closing(body) == len(body) - 1):
        raise _unreadable(
            signature, position, "a degree must stand behind parentheses around the whole signature"
        )
    # As with counts: zeros before it say nothing, and four digits exceed the bound already.
    degree = int(number.lstrip("0")[:4] or "0") if number.isascii() and number.isdigit() else 0
    if not 1 <= degree <= MAX_NESTING:
        raise _unreadable(
            signature, position + 1, f"a degree from 1 to {MAX_NESTING} must follow '_'"
        )
    return body, degree


def _closing(body: str) -> int:
    """Where the parenthesis that opens `body` closes; -1 where it does not."""
    depth = 0
    for position, symbol in enumerate(body):
        depth += (symbol == "(") - (symbol == ")")
        if depth == 0:
            return position
    return -1


def _expand_sequence(signature: str, position: int, *, nesting: int) -> tuple[list[str], int]:
    if nesting > MAX_NESTING:
        raise _unreadable(signature, position, f"parentheses more than {MAX_NESTING} deep")
    calls: list[str] = []
    while position < len(signature):
        symbol = signature[position]
        if symbol in LETTERS:
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
        "write it like AB, A^3B, AAAB, (AB)^2 or (A^3B)_2"
    )


def group_sizes(signature: str, depth: int, split: Sequence[int] = ()) -> dict[str, int]:
    """Number of blocks in each group: those of `split`, or else `depth` blocks cut equally.

    Where nothing is repeated the cut changes nothing, so there an uneven one is allowed (27 = 13 + 14).
    """
    calls = expand(signature)
    letters = sorted(set(calls))
    if split:
        return _given_sizes(signature, letters, depth, split)
    size, rest = divmod(max(depth, 0), len(letters))
    if size and (rest == 0 or len(calls) == len(letters)):
        return dict.fromkeys(letters, size) | {letters[-1]: size + rest}
    lower, upper = size * len(letters), (size + 1) * len(letters)
    nearest = f"{lower} or {upper}" if lower else f"{upper}"
    raise UserError(
        f"a depth of {depth} blocks cannot be cut into the {len(letters)} equal groups of the "
        f"signature {signature!r}: give a split; or the nearest depth that can is {nearest}"
    )


def _given_sizes(
    signature: str, letters: Sequence[str], depth: int, split: Sequence[int]
) -> dict[str, int]:
    if len(split) != len(letters) or min(split) < 1 or sum(split) != depth:
        raise UserError(
            f"the split {' '.join(map(str, split))} does not cut {depth} blocks into the {len(letters)} groups "
            f"{' '.join(letters)} of the signature {signature!r}; give {len(letters)} sizes of at least 1 "
            f"whose sum is {depth}"
        )
    return dict(zip(letters, split, strict=True))
