"""The model that an evaluation is about, and the depths at which it is measured."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_pipelines.errors import UserError
from eval.encoder import DEFAULT_VARIANT, DualEncoder
from eval.model_names import is_named, load_named
from rins_mm.encoder import SigLIPEncoder, load_encoder
from rins_mm.models.draws import reachable_signatures
from rins_mm.models.signatures import expand

LIBRARIES = {
    "open_clip": ("open_clip_torch",),
    "hf": ("transformers",),
    "sentence_transformers": ("sentence-transformers", "transformers"),
    "onnx": ("onnxruntime",),
}
"""The packages that run models with such names."""


@dataclass(frozen=True, kw_only=True)
class EvaluatedModel:
    """An encoder with what it is asked at."""

    encoder: DualEncoder
    text_variants: list[str] = field(default_factory=lambda: [DEFAULT_VARIANT])
    image_variants: list[str] = field(default_factory=lambda: [DEFAULT_VARIANT])
    facts: dict[str, Any] = field(default_factory=dict)
    """What is to be known of it beside its name and fingerprint."""


def open_model(
    model: str, *, text_signatures: Sequence[str], image_signatures: Sequence[str], device: str
) -> EvaluatedModel:
    """The model of a run, a checkpoint or an export at these depths, or another's by its name.

    Without signatures: all depths that the text tower was trained at, and the trained one of the image
    tower. Raises UserError for depths that a model does not have; others' models have one.
    """
    if is_named(model) and not os.path.exists(model):
        if named := [*text_signatures, *image_signatures]:
            raise UserError(
                f"{model} has one depth and cannot run {named[0]!r}; leave out --text-signatures and "
                "--image-signatures, which are for models of this project"
            )
        # First of all, since it says in words which package is missing.
        theirs = load_named(model, device)
        versions = {name: version(name) for name in LIBRARIES[model.partition(":")[0]]}
        return EvaluatedModel(encoder=theirs, facts={"library": versions})
    ours = load_encoder(Path(model), device=device)
    return EvaluatedModel(
        encoder=ours.as_dual_encoder(),
        text_variants=_text_variants(text_signatures, ours),
        image_variants=_image_variants(image_signatures, ours),
        facts={
            "trained_signature": ours.signature,
            "trained_image_signature": ours.image_signature,
        },
    )


def _text_variants(named: Sequence[str], encoder: SigLIPEncoder) -> list[str]:
    tower = encoder.model.text_tower
    signatures = list(named) or reachable_signatures(tower.config.recursion)
    for signature in signatures:
        tower.blocks.check(expand(signature))
    return signatures


def _image_variants(named: Sequence[str], encoder: SigLIPEncoder) -> list[str]:
    signatures = list(named) or [encoder.image_signature]
    for signature in signatures:
        encoder.model.image_tower.check(expand(signature))
    return signatures
