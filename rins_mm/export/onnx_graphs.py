"""Both encoders as ONNX graphs: rounds written out, weights once. Needs the extra `export`."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from torch import nn

from data_pipelines.errors import UserError
from rins_mm.export.feeding import write_feeding
from rins_mm.export.graphs import ImageGraph, TextGraph, graphs_of, trace, unique_bytes
from rins_mm.export.int8 import quantise
from rins_mm.export.job import ExportJob
from rins_mm.export.onnx_weights import forget_origins, store_once, store_rounded, weight_bytes

OPSET = 20
"""The first that has GELU."""
MAX_BYTES = 2 * 10**9
"""Of one file: protobuf holds no more than 2 GiB."""
MOST_GROWTH = 1.02
"""Of stored weights over the unique ones."""


def write_graphs(job: ExportJob, folder: Path, *, int8: bool) -> None:
    """Write image.onnx, text.onnx, onnx.json and the tokenizer. UserError: a tower cannot be written so."""
    graphs = graphs_of(job.encoder, job.text_signature)
    for name, graph in graphs.items():
        model = onnx_graph(graph, name)
        if int8:
            quantise(model)
        elif job.dtype != "fp32":
            store_rounded(model, job.dtype)
        model.producer_name, model.producer_version = "rins_mm", ""
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
    write_feeding(job, folder, "onnx.json")


def onnx_graph(graph: ImageGraph | TextGraph, name: str) -> onnx.ModelProto:
    """A tower as an ONNX graph in float32 whose weights are stored once.

    Raises UserError for a tower that is too large for one file or has an operation that ONNX has not.
    """
    _refuse_large(graph, name)
    program = trace(graph, name)
    try:
        with _quiet():
            exported = torch.onnx.export(
                program,
                (),
                dynamo=True,
                input_names=list(graph.examples),
                output_names=["vectors"],
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:
        reason = str(error).strip().splitlines() or [""]
        raise UserError(
            f"torch.onnx cannot write the {name} tower: {type(error).__name__}: {reason[0]}; "
            "export the format pt2 or native"
        ) from error
    assert exported is not None
    model = exported.model_proto
    forget_origins(model)
    store_once(model)
    _name_axes(model, list(graph.examples))
    stored, unique = weight_bytes(model), unique_bytes(graph)
    if stored > MOST_GROWTH * unique:
        raise UserError(
            f"the {name} graph stores {stored:,} bytes of weights for {unique:,} unique ones; "
            "export the format pt2 or native"
        )
    onnx.checker.check_model(model)
    return model


def _refuse_large(graph: nn.Module, name: str) -> None:
    if (size := unique_bytes(graph)) > MAX_BYTES:
        raise UserError(
            f"the {name} tower has {size / 1e9:.1f} GB of weights in fp32, and one ONNX file holds "
            f"{MAX_BYTES / 1e9:.0f} GB; export the format pt2, hf or native"
        )


def _name_axes(model: onnx.ModelProto, inputs: list[str]) -> None:
    """Call the free axes batch and length."""
    axes = ("batch", "length")
    for value in (*model.graph.input, *model.graph.output):
        for place, axis in enumerate(value.type.tensor_type.shape.dim):
            if axis.dim_param:
                axis.dim_param = axes[place]


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's warnings and log lines speak of itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
