import torch
from hypothesis import given
from hypothesis import strategies as st

from rins_mm.models.packing import pad_left, pad_right

captions = st.lists(st.lists(st.integers(2, 99), min_size=1, max_size=9), min_size=1, max_size=6)


def packed(rows):
    tokens = torch.tensor([token for row in rows for token in row], dtype=torch.int32)
    offsets = torch.tensor([0, *map(len, rows)]).cumsum(0).int()
    return tokens, offsets


@given(captions, st.integers(0, 3))
def test_rows_padded_right_begin_with_their_caption(rows, spare):
    length = max(map(len, rows)) + spare
    ids = pad_right(*packed(rows), length=length, pad_token=1)
    assert ids.tolist() == [row + [1] * (length - len(row)) for row in rows]


@given(captions, st.integers(0, 3))
def test_rows_padded_left_end_with_their_caption_and_say_what_is_real(rows, spare):
    length = max(map(len, rows)) + spare
    ids, real = pad_left(*packed(rows), length=length, pad_token=1)
    assert ids.tolist() == [[1] * (length - len(row)) + row for row in rows]
    assert real.tolist() == [[False] * (length - len(row)) + [True] * len(row) for row in rows]
