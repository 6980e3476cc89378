"""Weights under our names onto a model: what matches, what is resized, what is left, and what begins anew."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from data_pipelines.errors import UserError
from rins_mm.models.adapters import adapter_parameters
from rins_mm.models.siglip import SigLIP
from rins_mm.weights.names import IMAGE, TEXT

PREFIXES = {"model": "", "image": "image_tower.", "text": TEXT}
"""Where the names of what each setting of init stands for begin."""
NAMED = 3
"""So many names stand in a line; the report has them all."""


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """What became of the weights of one source."""

    part: str
    """model, image or text."""
    source: str
    matched: int
    """Tensors that were copied as they are."""
    resized: dict[str, tuple[list[int], list[int]]] = field(default_factory=dict)
    """Positions that were interpolated: their shapes there, and here."""
    left: list[str] = field(default_factory=list)
    """Names of the source that the model has no place for."""
    began_anew: list[str] = field(default_factory=list)
    """Names of the model that the source has no weights for."""

    def line(self) -> str:
        """The report in one line."""
        resized = [f"{n} from {old} to {new}" for n, (old, new) in sorted(self.resized.items())]
        return (
            f"init.{self.part} {self.source}: {self.matched} tensors matched; resized {_some(resized)}; "
            f"left {_some(self.left)}; began anew {_some(self.began_anew)}"
        )


def fit(
    model: SigLIP,
    theirs: Mapping[str, Tensor],
    *,
    part: str,
    source: str,
    strict: bool,
    may_be_left: Collection[str] = (),
) -> tuple[dict[str, Tensor], FitReport]:
    """The weights of one part of a model from others under its names, and a report.

    `strict` refuses names without a counterpart on either side, and shapes that differ; then only
    adapters begin anew, and only what `may_be_left` is left. Otherwise both begin anew, or are left.
    Raises UserError for numbers that are not finite, whether strict or not.
    """
    prefix = PREFIXES[part]
    own = {name: t for name, t in model.state_dict().items() if name.startswith(prefix)}
    towers = ("image_tower.", TEXT, "logit_")
    offered = {
        name: tensor.reshape(own[name].shape) if _is_number(name, tensor, own) else tensor
        for name, tensor in theirs.items()
        if name.startswith(prefix) or not name.startswith(towers)
    }
    fitted, resized, misfits = {}, {}, []
    for name in own.keys() & offered.keys():
        tensor = offered[name]
        if tensor.shape != own[name].shape and _are_positions(name, tensor, own[name]):
            tensor = _resized(model, name, tensor, own[name])
            if tensor.shape == own[name].shape:
                resized[name] = (list(offered[name].shape), list(own[name].shape))
        if tensor.shape == own[name].shape:
            fitted[name] = tensor
        else:
            misfits.append(f"{name} {list(tensor.shape)} there and {list(own[name].shape)} here")
    report = FitReport(
        part=part,
        source=source,
        matched=len(fitted) - len(resized),
        resized=resized,
        left=sorted(offered.keys() - fitted.keys()),
        began_anew=sorted(own.keys() - fitted.keys()),
    )
    if strict:
        adapters = adapter_parameters(model)
        missing = [name for name in report.began_anew if name not in adapters]
        unknown = [name for name in report.left if name not in own and name not in may_be_left]
        _refuse(report, missing, unknown, sorted(misfits))
    _require_finite(report, fitted, own)
    return fitted, report


def _refuse(report: FitReport, missing: list[str], unknown: list[str], misfits: list[str]) -> None:
    """Raise UserError for what strict loading does not allow."""
    if missing or unknown:
        raise UserError(
            f"init.{report.part} {report.source} does not fit: {len(missing)} of the model's tensors are missing or of "
            f"another shape ({_some(misfits or missing)}), {len(unknown)} of its own have no place "
            f"({_some(unknown)}); give the towers its sizes, or take what fits with --init.no-strict"
        )


def _require_finite(
    report: FitReport, fitted: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> None:
    """Raise UserError for weights that are not finite, or will not be in the kind of numbers of the model."""
    counts = {
        name: tensor.numel() - int(tensor.to(own[name].dtype).isfinite().sum())
        for name, tensor in sorted(fitted.items())
    }
    damaged = [f"{count:,} of {name}" for name, count in counts.items() if count]
    if damaged:
        raise UserError(
            f"init.{report.part} {report.source}: {sum(counts.values()):,} of its numbers are not finite "
            f"({_some(damaged)}); use another copy, or weights from before they were lost"
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more if names else "none"


def _is_number(name: str, tensor: Tensor, own: Mapping[str, Tensor]) -> bool:
    """Whether it is the scale or the bias, which some keep without an axis."""
    return name.startswith("logit_") and name in own and tensor.numel() == own[name].numel()


def _are_positions(name: str, tensor: Tensor, own: Tensor) -> bool:
    is_position = name in (f"{IMAGE}pos_embed", f"{TEXT}positions")
    is_of_kind = tensor.ndim == own.ndim and tensor.shape[-1:] == own.shape[-1:]
    return is_position and is_of_kind and tensor.shape[:-2] == own.shape[:-2] and tensor.numel() > 0


def _resized(model: SigLIP, name: str, tensor: Tensor, own: Tensor) -> Tensor:
    if name == f"{TEXT}positions":
        rows = tensor.float().T[None]
        return F.interpolate(rows, size=own.shape[0], mode="linear")[0].T
    backbone = model.image_tower.backbone
    no_position = getattr(backbone, "no_embed_class", False)
    num_prefix = 0 if no_position else int(getattr(backbone, "num_prefix_tokens", 0))
    num_places = tensor.shape[1] - num_prefix
    if num_places < 1 or math.isqrt(num_places) ** 2 != num_places:
        return tensor
    with torch.no_grad():
        return resample_abs_pos_embed(
            tensor.float(),
            new_size=list(backbone.patch_embed.grid_size),
            num_prefix_tokens=num_prefix,
        )
