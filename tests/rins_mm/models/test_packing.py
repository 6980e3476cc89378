import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rins_mm.models.packing import lay_out, pack, pad_left, pad_right

captions = st.lists(st.lists(st.integers(2, 99), min_size=1, max_size=9), min_size=1, max_size=6)


def packed(rows):
    tokens = torch.tensor([token for row in rows for token in row], dtype=torch.int32)
    offsets = torch.tensor([0, *map(len, rows)]).cumsum(0).int()
    return tokens, offsets


def joined(lengths):
    return torch.cat((torch.zeros(1), lengths.cumsum(0))).int()


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


@given(captions, st.integers(9, 20))
def test_every_caption_stands_whole_in_a_packed_row_and_sees_itself_alone(rows, context_length):
    tokens, offsets = packed(rows)
    packing = pack(offsets, context_length=context_length, width=32)
    ids, positions, mask, last = lay_out(
        tokens, offsets, packing, context_length=context_length, pad_token=1
    )
    assert ids.shape == (packing.num_rows, packing.row_length)
    owners = torch.full(ids.shape, -1)
    for number, row in enumerate(rows):
        line, begin = divmod(int(packing.first[number]), packing.row_length)
        place = slice(begin, begin + len(row))
        assert ids[line, place].tolist() == row
        assert positions[line, place].tolist() == list(range(context_length))[-len(row) :]
        assert last[number] == line * packing.row_length + begin + len(row) - 1
        assert (owners[line, place] == -1).all()
        owners[line, place] = number
    assert (ids[owners == -1] == 1).all()
    assert mask.equal((owners[:, :, None] == owners[:, None, :])[:, None])


@pytest.mark.parametrize("mean", [5, 9, 20, 40])
def test_packed_rows_of_a_large_batch_hold_almost_no_padding(mean):
    generator = torch.Generator().manual_seed(mean)
    spread = torch.randn(256, generator=generator).mul(0.5).exp()
    lengths = (mean * spread).round().clamp(1, 64).int()
    packing = pack(joined(lengths), context_length=64, width=768)
    assert packing.num_rows * packing.row_length < 1.05 * lengths.sum()


@pytest.mark.parametrize("lengths", [[7] * 5, [40] * 20, [64] * 3, [1], [1] * 100])
def test_equal_captions_are_packed_without_any_padding(lengths):
    packing = pack(joined(torch.tensor(lengths)), context_length=64, width=256)
    assert packing.num_rows * packing.row_length == sum(lengths)
