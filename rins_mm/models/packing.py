"""Captions of different lengths, laid out as rows of equal length."""

import torch
from jaxtyping import Bool, Int32, Int64
from torch import Tensor


def pad_right(
    tokens: Int32[Tensor, " T"], offsets: Int32[Tensor, " O"], *, length: int, pad_token: int
) -> Int64[Tensor, "B length"]:
    """Each caption at the start of its row, then `pad_token`: what SigLIP's own weights expect."""
    ids, _ = _lay_out(tokens, offsets, length=length, pad_token=pad_token, from_the_end=False)
    return ids


def pad_left(
    tokens: Int32[Tensor, " T"], offsets: Int32[Tensor, " O"], *, length: int, pad_token: int
) -> tuple[Int64[Tensor, "B length"], Bool[Tensor, "B length"]]:
    """Each caption at the end of its row, so that all end tokens stand in the last column; and which are real."""
    return _lay_out(tokens, offsets, length=length, pad_token=pad_token, from_the_end=True)


def _lay_out(
    tokens: Tensor, offsets: Tensor, *, length: int, pad_token: int, from_the_end: bool
) -> tuple[Tensor, Tensor]:
    starts, lengths = offsets[:-1].long(), offsets.diff().long()
    column = torch.arange(length, device=tokens.device)
    place = column - (length - lengths)[:, None] if from_the_end else column.expand(len(starts), -1)
    real = (place >= 0) & (place < lengths[:, None])
    ids = tokens[torch.where(real, starts[:, None] + place, 0)].long()
    return torch.where(real, ids, pad_token), real
