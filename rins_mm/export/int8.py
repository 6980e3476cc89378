"""Weights of an ONNX graph in eight bits, for serving on a CPU.

Matrices that activations are multiplied by become whole numbers from -127 to 127 with one factor for each
32 of them; activations are rounded to eight bits on the way, 32 at a time too. So a vector depends on
nothing that stands beside it in a batch. (onnxruntime's dynamic quantisation takes one factor from the
whole batch: a caption's vector would change with its company.) Other large weights, such as tables of
embeddings and convolutions, are stored with one factor for each row, and computed with in float32.
"""

import numpy as np
from jaxtyping import Float, Float32, UInt8
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from rins_mm.export.onnx_weights import replace_initializers

BLOCK = 32
"""Weights of one column that share a factor."""
ZERO = 128
"""The stored number that stands for zero."""
MICROSOFT = "com.microsoft"
COMPUTE_IN_INT8 = 4
"""The `accuracy_level` of MatMulNBits at which products are of whole numbers."""
NOTHING = 1e-30
"""Smaller weights become zero: a factor for them would be no normal number."""
LEAST_WEIGHTS = 4096
"""Smaller tensors are not worth a rounding."""


def quantise(model: ModelProto) -> None:
    """Replace the large float32 weights of a graph."""
    large = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT
        and len(tensor.dims) >= 2
        and np.prod(tensor.dims) >= LEAST_WEIGHTS
    }
    places: dict[str, set[tuple[str, int]]] = {name: set() for name in large}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name in large:
                places[name].add((node.op_type, place))
    products = {
        name
        for name, read in places.items()
        if read == {("MatMul", 1)} and large[name].ndim == 2 and len(large[name]) % BLOCK == 0
    }
    tables = {name for name, read in places.items() if read == {("Gather", 0)}}
    kept = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name not in large}
    for name, numbers in large.items():
        stored, scales = in_blocks(numbers) if name in products else by_rows(numbers)
        for kind, values in (("int8", stored), ("scales", scales)):
            kept[f"{name}_{kind}"] = numpy_helper.from_array(values, f"{name}_{kind}")
    replace_initializers(model, kept)
    # Nobody but a runtime's own constant folding needs these: they run once, when a graph is loaded.
    nodes = [
        node
        for name in large.keys() - products - tables
        for node in _widen(name, f"{name}_int8", f"{name}_scales", name)
    ]
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in products:
            nodes.append(_product(node, *large[node.input[1]].shape))
        elif node.op_type == "Gather" and node.input[0] in tables:
            nodes += _look_up(node)
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    if products:
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def in_blocks(
    matrix: Float[np.ndarray, "K M"],
) -> tuple[UInt8[np.ndarray, "M blocks 32"], Float32[np.ndarray, "M blocks"]]:
    """The columns of a matrix as whole numbers around 128, and the factor of each block of a column."""
    stored, scales = _rounded(matrix.T.reshape(matrix.shape[1], -1, BLOCK), axes=(2,))
    return stored, scales[..., 0]


def by_rows(
    weights: Float[np.ndarray, "rows *rest"],
) -> tuple[UInt8[np.ndarray, "rows *rest"], Float32[np.ndarray, "rows *ones"]]:
    """Weights as whole numbers around 128, and the factor of each row, that is, of the first axis."""
    return _rounded(weights, axes=tuple(range(1, weights.ndim)))


def _rounded(numbers: np.ndarray, *, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers of which the greatest along these axes is 127, before 128 is added, and the factors."""
    largest = np.abs(numbers).max(axis=axes, keepdims=True)
    scales = np.where(largest < NOTHING, 1, largest / 127).astype(np.float32)
    return (np.rint(numbers / scales) + ZERO).astype(np.uint8), scales


def _product(node: NodeProto, inner: int, outer: int) -> NodeProto:
    """The product of what a node multiplied by its matrix."""
    activations, matrix = node.input
    return helper.make_node(
        "MatMulNBits",
        [activations, f"{matrix}_int8", f"{matrix}_scales"],
        list(node.output),
        domain=MICROSOFT,
        K=inner,
        N=outer,
        bits=8,
        block_size=BLOCK,
        accuracy_level=COMPUTE_IN_INT8,
    )


def _look_up(node: NodeProto) -> list[NodeProto]:
    """Rows of a table and their factors, multiplied."""
    (table, places), own = node.input, node.output[0]
    return [
        helper.make_node("Gather", [f"{table}_int8", places], [f"{own}_rows"], axis=0),
        helper.make_node("Gather", [f"{table}_scales", places], [f"{own}_factors"], axis=0),
        *_widen(own, f"{own}_rows", f"{own}_factors", own),
    ]


def _widen(prefix: str, stored: str, scales: str, out: str) -> list[NodeProto]:
    """Stored whole numbers as the float32 numbers that they stand for."""
    return [
        helper.make_node("Constant", [], [f"{prefix}_zero"], value_float=float(ZERO)),
        helper.make_node("Cast", [stored], [f"{prefix}_wide"], to=TensorProto.FLOAT),
        helper.make_node("Sub", [f"{prefix}_wide", f"{prefix}_zero"], [f"{prefix}_centred"]),
        helper.make_node("Mul", [f"{prefix}_centred", scales], [out]),
    ]
