"""The formats in which encoders are exported."""

from rins_mm.export.hugging_face import HUGGING_FACE
from rins_mm.export.job import Dtype, ExportJob, Format
from rins_mm.export.native import NATIVE
from rins_mm.export.open_clip import OPEN_CLIP
from rins_mm.export.timm import TIMM

FORMATS: dict[str, Format] = {
    "native": NATIVE,
    "hf": HUGGING_FACE,
    "open_clip": OPEN_CLIP,
    "timm": TIMM,
}
"""By the names that --formats takes."""

__all__ = ["FORMATS", "Dtype", "ExportJob", "Format"]
