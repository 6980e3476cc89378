"""Captions of different lengths, laid out as rows of equal length: one to a row, or as many as fit.

Axes: B captions, T tokens of them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int32, Int64
from torch import Tensor

ATTENTION_WEIGHT = 4
"""How much longer an operation of attention takes than one of a linear layer, roughly, on a CPU."""


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Where the captions of a batch stand in rows that hold several of them, none of it on a device yet."""

    num_rows: int
    row_length: int
    first: Int64[Tensor, " B"]
    """The place of each caption's first token, counted through all rows."""


def pack(offsets: Int32[Tensor, " O"], *, context_length: int, width: int) -> Packing:
    """Rows with little room left over; only their ends are padding.

    Rows are as long as the longest caption, or once or twice the context, whichever costs a tower of this
    width least: longer ones fill up better, but attention grows with them. `offsets` are on the CPU.
    """
    lengths = offsets.diff().long()
    counts = torch.bincount(lengths).tolist()
    total, longest = int(offsets[-1]), len(counts) - 1
    choices = dict.fromkeys(
        max(longest, min(total, length)) for length in (context_length, 2 * context_length, longest)
    )
    filled = {length: _fill_rows(counts, length) for length in choices}

    def cost(length: int) -> int:
        num_rows = sum(times for _, times in filled[length])
        return num_rows * length * (6 * width + ATTENTION_WEIGHT * length)

    best = min(choices, key=cost)
    places: list[list[Tensor]] = [[] for _ in counts]
    num_rows = 0
    for row, times in filled[best]:
        starts = torch.arange(num_rows, num_rows + times) * best
        for length in row:
            places[length].append(starts)
            starts = starts + length
        num_rows += times
    first = torch.empty_like(lengths)
    # Equal captions take the places of their length in order.
    first[lengths.argsort(stable=True)] = torch.cat([part for parts in places for part in parts])
    return Packing(num_rows=num_rows, row_length=best, first=first)


def _fill_rows(counts: Sequence[int], row_length: int) -> list[tuple[list[int], int]]:
    """Lengths of the captions in a row, and how many such rows: each time the longest that still fits.

    `counts[n]` captions have n tokens. Equal rows are made at once: the time does not grow with the batch.
    """
    left = list(counts)
    rows: list[tuple[list[int], int]] = []
    longest = len(left) - 1
    while True:
        while longest and not left[longest]:
            longest -= 1
        if not longest:
            return rows
        row: list[int] = []
        room, length, times = row_length, longest, max(left)
        while length := min(length, room):
            number = min(left[length], room // length)
            if number:
                row += [length] * number
                room -= length * number
                times = min(times, left[length] // number)
            length -= 1
        for length in set(row):
            left[length] -= times * row.count(length)
        rows.append((row, times))


def lay_out(
    tokens: Int32[Tensor, " T"],
    offsets: Int32[Tensor, " O"],
    packing: Packing,
    *,
    context_length: int,
    pad_token: int,
) -> tuple[
    Int64[Tensor, "rows length"],
    Int64[Tensor, "rows length"],
    Bool[Tensor, "rows 1 length length"],
    Int64[Tensor, " B"],
]:
    """The rows' token ids, their positions (counted from the end of the context), who sees whom, and each
    caption's last place, counted through all rows.

    A caption sees itself alone. What is padding sees padding, so that no row of a softmax is empty.
    """
    device = tokens.device
    lengths = offsets.diff().long().to(device, non_blocking=True)
    first = packing.first.to(device, non_blocking=True)
    starts = offsets[:-1].long().to(device, non_blocking=True)
    numbers = torch.arange(len(lengths), device=device)
    # Told the size of its answer, this does not make the host wait for the device.
    owner = numbers.repeat_interleave(lengths, output_size=len(tokens))
    index = torch.arange(len(tokens), device=device) - starts[owner]
    places = first[owner] + index
    shape = packing.num_rows, packing.row_length

    def scatter(values: Tensor, filling: int) -> Tensor:
        return values.new_full((shape[0] * shape[1],), filling).scatter(0, places, values)

    owners = scatter(owner, -1).view(shape)
    return (
        scatter(tokens.long(), pad_token).view(shape),
        scatter(context_length - lengths[owner] + index, 0).view(shape),
        (owners[:, :, None] == owners[:, None, :])[:, None],
        first + lengths - 1,
    )


def pad_right(
    tokens: Int32[Tensor, " T"], offsets: Int32[Tensor, " O"], *, length: int, pad_token: int
) -> Int64[Tensor, "B length"]:
    """Each caption at the start of its row, then `pad_token`: what SigLIP's own weights expect."""
    ids, _ = _pad(tokens, offsets, length=length, pad_token=pad_token, from_the_end=False)
    return ids


def pad_left(
    tokens: Int32[Tensor, " T"], offsets: Int32[Tensor, " O"], *, length: int, pad_token: int
) -> tuple[Int64[Tensor, "B length"], Bool[Tensor, "B length"]]:
    """Each caption at the end of its row, so that all end tokens stand in the last column; and which are real."""
    return _pad(tokens, offsets, length=length, pad_token=pad_token, from_the_end=True)


def _pad(
    tokens: Tensor, offsets: Tensor, *, length: int, pad_token: int, from_the_end: bool
) -> tuple[Tensor, Tensor]:
    offsets = offsets.to(tokens.device, non_blocking=True)
    starts, lengths = offsets[:-1].long(), offsets.diff().long()
    column = torch.arange(length, device=tokens.device)
    place = column - (length - lengths)[:, None] if from_the_end else column.expand(len(starts), -1)
    real = (place >= 0) & (place < lengths[:, None])
    ids = tokens[torch.where(real, starts[:, None] + place, 0)].long()
    return torch.where(real, ids, pad_token), real
