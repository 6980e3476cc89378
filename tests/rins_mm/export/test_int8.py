"""Weights in eight bits are off by half a step of their block or row; test_graphs.py has whole graphs."""

import exported
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from data_pipelines.errors import UserError
from rins_mm.export.formats import ExportJob
from rins_mm.export.int8 import by_rows, in_blocks
from rins_mm.export.onnx import write_onnx_int8

NUMBERS = st.floats(-100, 100, width=32)


@given(arrays.arrays(np.float32, (64, 3), elements=NUMBERS))
def test_a_block_is_off_by_half_a_step_of_its_own_at_most(matrix):
    stored, scales = in_blocks(matrix)
    assert stored.shape == (3, 2, 32) and scales.shape == (3, 2)
    numbers = (stored.astype(np.float32) - 128) * scales[..., None]
    back = numbers.reshape(3, 64).T
    step = np.abs(matrix.T.reshape(3, 2, 32)).max(axis=2) / 127
    away = np.abs(back - matrix).T.reshape(3, 2, 32).max(axis=2)
    assert (away <= step * 0.501 + 1e-30).all()


@given(arrays.arrays(np.float32, (5, 2, 3), elements=NUMBERS))
def test_a_row_of_any_shape_is_off_by_half_a_step_at_most(weights):
    stored, scales = by_rows(weights)
    back = (stored.astype(np.float32) - 128) * scales
    largest = np.abs(weights).max(axis=(1, 2), keepdims=True)
    assert (np.abs(back - weights) <= largest / 127 * 0.501 + 1e-30).all()


def test_a_form_of_numbers_beside_eight_bits_is_refused(tmp_path):
    job = ExportJob(encoder=exported.encoder(), text_signature="AB", dtype="bf16")
    with pytest.raises(UserError, match=r"--dtype bf16 says nothing.*leave it out"):
        write_onnx_int8(job, tmp_path)
