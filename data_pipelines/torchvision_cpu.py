"""Make `import torchvision` work where torch is a CPU build and torchvision's operators are a CUDA build.

The wheels of torchvision for Linux are linked against CUDA. Beside a CPU build of torch their compiled
library does not load, and the import then fails because it registers shapes for two operators that do
not exist. Declaring those two schemas first is enough for everything that this project, timm and
open_clip use (transforms, layers); nms and torchvision's own decoders stay unavailable.

Import this module before timm, open_clip or torchvision. Where torch has CUDA, or the compiled library
loads, it does nothing.
"""

import ctypes
import importlib.util
from pathlib import Path

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _operators_load() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    libraries = sorted(Path(spec.origin).parent.glob("_C*.so"))
    if not libraries:
        return False
    try:
        ctypes.CDLL(str(libraries[0]))
    except OSError:
        return False
    return True


def _declare_operators() -> torch.library.Library | None:
    if torch.version.cuda is not None or _operators_load():
        return None
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + _SCHEMA)
    return library


# The library object owns the declarations: they vanish when it is collected.
library = _declare_operators()
