"""The formats in which encoders are exported."""

from rins_mm.export.hugging_face import HUGGING_FACE
from rins_mm.export.job import Dtype, ExportJob, Format
from rins_mm.export.native import NATIVE
from rins_mm.export.onnx import ONNX, ONNX_INT8
from rins_mm.export.open_clip import OPEN_CLIP
from rins_mm.export.pt2 import PT2
from rins_mm.export.sentence_transformers import SENTENCE_TRANSFORMERS
from rins_mm.export.timm import TIMM

FORMATS: dict[str, Format] = {
    "native": NATIVE,
    "hf": HUGGING_FACE,
    "open_clip": OPEN_CLIP,
    "sentence_transformers": SENTENCE_TRANSFORMERS,
    "onnx": ONNX,
    "onnx_int8": ONNX_INT8,
    "pt2": PT2,
    "timm": TIMM,
}
"""By the names that --formats takes."""

__all__ = ["FORMATS", "Dtype", "ExportJob", "Format"]
