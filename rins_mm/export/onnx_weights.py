"""How the weights of an ONNX graph are stored: equal ones once, and in fewer bits if asked.

Graphs compute in float32 whatever their weights are stored in; runtimes widen stored weights when they
load a graph.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

ONNX_DTYPES = {"bf16": TensorProto.BFLOAT16, "fp16": TensorProto.FLOAT16}


def weight_bytes(model: ModelProto) -> int:
    """What all initializers of a graph take."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def store_once(model: ModelProto) -> None:
    """Merge initializers with equal content; a matrix that is only read transposed is stored so.

    The exporter makes a transposed constant at each place that reads a small weight, so that a block which
    runs three times would be stored three times; a large one it leaves to be transposed in every run.
    """
    _transpose_now(model)
    kept: dict[bytes, str] = {}
    renamed: dict[str, str] = {}
    initializers = {}
    for tensor in model.graph.initializer:
        # Some constants come in fields of their own rather than as bytes.
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
        digest = hashlib.sha256(repr((tensor.data_type, list(tensor.dims))).encode())
        digest.update(tensor.raw_data)
        renamed[tensor.name] = kept.setdefault(digest.digest(), tensor.name)
        initializers[tensor.name] = tensor
    replace_initializers(model, {name: initializers[name] for name in kept.values()})
    rename_inputs(model, renamed)


def _transpose_now(model: ModelProto) -> None:
    """Compute what nodes make of initializers by swapping their two axes."""
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    swaps = [
        node
        for node in model.graph.node
        if node.op_type == "Transpose"
        and node.input[0] in initializers
        and helper.get_node_attr_value(node, "perm") == [1, 0]
    ]
    for node in swaps:
        swapped = np.ascontiguousarray(numpy_helper.to_array(initializers[node.input[0]]).T)
        initializers[node.output[0]] = numpy_helper.from_array(swapped, node.output[0])
        model.graph.node.remove(node)
    read = {name for node in model.graph.node for name in node.input}
    replace_initializers(
        model, {name: tensor for name, tensor in initializers.items() if name in read}
    )


def replace_initializers(model: ModelProto, initializers: Mapping[str, TensorProto]) -> None:
    """Let these be all the initializers of the graph."""
    tensors = list(initializers.values())
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)


def rename_inputs(model: ModelProto, renamed: Mapping[str, str]) -> None:
    """Let nodes read other values than they did."""
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)


def store_rounded(model: ModelProto, dtype: str) -> None:
    """Keep matrices in bf16 or fp16, each followed by one cast to float32."""
    kept, casts, renamed = {}, [], {}
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) >= 2:
            wide, stored = numpy_helper.to_array(tensor), f"{tensor.name}_{dtype}"
            numbers = wide.astype(helper.tensor_dtype_to_np_dtype(ONNX_DTYPES[dtype]))
            kept[stored] = numpy_helper.from_array(numbers, stored)
            renamed[tensor.name] = f"{stored}_widened"
            casts.append(
                helper.make_node("Cast", [stored], [renamed[tensor.name]], to=TensorProto.FLOAT)
            )
        else:
            kept[tensor.name] = tensor
    replace_initializers(model, kept)
    rename_inputs(model, renamed)
    insert_first(model, casts)


def insert_first(model: ModelProto, nodes: list[onnx.NodeProto]) -> None:
    """Put nodes before all others; a graph lists what computes a value before what reads it."""
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])


def forget_origins(model: ModelProto) -> None:
    """Remove what the exporter noted of this project's sources: names of modules, files and lines."""
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    del model.graph.value_info[:]
