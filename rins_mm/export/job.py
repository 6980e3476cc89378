"""What is exported, and what a format is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from rins_mm.encoder import SigLIPEncoder

Dtype = Literal["fp32", "bf16", "fp16"]

DTYPES: dict[Dtype, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


@dataclass(frozen=True, kw_only=True)
class ExportJob:
    """An encoder at the depth that is exported."""

    encoder: SigLIPEncoder
    text_signature: str
    """The depth of the text tower; the image tower is exported at its trained one."""
    dtype: Dtype = "fp32"
    """Of the weights as they are written."""
    source: str = ""
    """What the encoder was loaded from, as it is told in the model card."""
    training: Mapping[str, str] = field(default_factory=dict)
    """How it was trained, in words, for the model card."""
    evaluations: Sequence[Mapping[str, Any]] = ()
    """The results of an eval.json."""
    license: str = ""
    """Name of the licence of the weights; empty: none was stated."""

    @property
    def torch_dtype(self) -> torch.dtype:
        """Of the weights as they are written."""
        return DTYPES[self.dtype]

    def as_stored(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors in the form in which they are written; counters stay whole numbers."""
        return {
            name: (tensor.to(self.torch_dtype) if tensor.is_floating_point() else tensor)
            .detach()
            .cpu()
            .contiguous()
            for name, tensor in tensors.items()
        }


@dataclass(frozen=True, kw_only=True)
class Format:
    """One form in which encoders are written.

    What reads it is `consumers/NAME.py`, which imports the consumer's library and nothing of this
    project: see `consumers/run.py` for what it must offer.
    """

    write: Callable[[ExportJob, Path], None]
    """Fills an empty folder. UserError: this format cannot express the encoder."""
    library: str
    """What reads it, as its users call it."""
    snippet: str
    """Python that reads it, with FOLDER for the folder; tests run it. Of a PIL `picture` in RGB and a list
    `captions` it makes the unit vectors `image_vectors` and `text_vectors`, or those that the format has."""
    extra: str = ""
    """The extra of rins_mm with the packages that writing and verifying need; empty: none."""
    towers: tuple[Literal["image", "text"], ...] = ("image", "text")
    """Those that it holds."""
    expresses_recursion: bool = False
    """Whether shared blocks are stored once; else they are repeated as plain layers."""
    tolerance: float | None = None
    """Most that an element of a unit vector may differ; None: what the form of the numbers allows."""
    runs_what_it_holds: bool = False
    """Whether its library unpickles or evaluates parts of a file, so that a crafted one could do anything."""
    resizes_as_we_do: bool = True
    """Whether pixels must be equal. Pillow's filter (open_clip, timm) rounds otherwise than torch's."""
