"""ONNX as a format: both encoders as graphs, in the form that `eval.onnx_model` reads."""

from pathlib import Path

from data_pipelines.errors import UserError
from rins_mm.export.job import ExportJob, Format

SNIPPET = """import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image
from tokenizers import Tokenizer

folder = Path("FOLDER")
settings = json.loads((folder / "onnx.json").read_text())
image_graph = onnxruntime.InferenceSession(folder / "image.onnx")
size, mean, std = (settings["image"][name] for name in ("size", "mean", "std"))
levels = np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
pixels = ((levels / 255 - np.float32(mean)) / np.float32(std)).transpose(2, 0, 1)[None]
image_vectors = image_graph.run(None, {"pixels": pixels})[0]

text_graph = onnxruntime.InferenceSession(folder / "text.onnx")
rows = Tokenizer.from_file(str(folder / "fast_tokenizer.json")).encode_batch(captions)
inputs = {"ids": np.array([row.ids for row in rows], dtype=np.int64)}
if settings["text"]["mask"]:
    inputs["mask"] = np.array([row.attention_mask for row in rows], dtype=np.int64)
text_vectors = text_graph.run(None, inputs)[0]"""


def write_onnx(job: ExportJob, folder: Path) -> None:
    """Write image.onnx, text.onnx, onnx.json and the tokenizer. UserError: a tower cannot be written so."""
    # An extra: only those who ask for ONNX need it.
    from rins_mm.export.onnx_graphs import write_graphs

    write_graphs(job, folder, int8=False)


def write_onnx_int8(job: ExportJob, folder: Path) -> None:
    """The same with weights in eight bits."""
    if job.dtype != "fp32":
        raise UserError(
            f"onnx_int8 keeps weights in eight bits, so that --dtype {job.dtype} says nothing of them; "
            "leave it out"
        )
    from rins_mm.export.onnx_graphs import write_graphs

    write_graphs(job, folder, int8=True)


ONNX = Format(
    write=write_onnx,
    library="onnxruntime",
    snippet=SNIPPET,
    extra="export",
    expresses_recursion=True,
    resizes_as_we_do=False,
)
ONNX_INT8 = Format(
    write=write_onnx_int8,
    library="onnxruntime",
    snippet=SNIPPET,
    extra="export",
    expresses_recursion=True,
    tolerance=3e-2,
    resizes_as_we_do=False,
)
