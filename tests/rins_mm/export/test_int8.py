"""Weights in eight bits: a quarter of the bytes, vectors nearly the same, and the same in any company."""

import exported
import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from data_pipelines.errors import UserError
from rins_mm.export.formats import ExportJob
from rins_mm.export.graphs import graphs_of
from rins_mm.export.int8 import by_rows, in_blocks, quantise
from rins_mm.export.onnx import onnx_graph, write_onnx_int8
from rins_mm.export.onnx_weights import weight_bytes

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


def test_a_graph_of_eight_bits_is_small_near_and_the_same_in_any_company():
    encoder = exported.encoder()
    graph = graphs_of(encoder, "AAB")["text"]
    model = onnx_graph(graph, "text")
    whole = weight_bytes(model)
    quantise(model)
    assert weight_bytes(model) < 0.35 * whole
    kinds = {node.op_type for node in model.graph.node}
    # Those of activations alone, in attention, stay as they are.
    assert "MatMulNBits" in kinds
    session = onnxruntime.InferenceSession(model.SerializeToString())
    rows = np.random.default_rng(0).integers(4, 3000, size=(9, 16))
    mask = (np.arange(16) < np.arange(4, 13)[:, None]).astype(np.int64)
    (together,) = session.run(None, {"ids": rows, "mask": mask})
    for number in range(len(rows)):
        alone = {"ids": rows[number : number + 1], "mask": mask[number : number + 1]}
        np.testing.assert_allclose(session.run(None, alone)[0][0], together[number], atol=1e-6)
    with torch.no_grad():
        expected = graph(torch.from_numpy(rows), torch.from_numpy(mask))
    differs = np.abs(together - expected.numpy()).max()
    assert 1e-5 < differs < 3e-2


def test_a_form_of_numbers_beside_eight_bits_is_refused(tmp_path):
    job = ExportJob(encoder=exported.encoder(), text_signature="AB", dtype="bf16")
    with pytest.raises(UserError, match=r"--dtype bf16 says nothing.*leave it out"):
        write_onnx_int8(job, tmp_path)
