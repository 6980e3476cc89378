"""A run that begins with weights that were trained before."""

import dataclasses
from pathlib import Path
from typing import Any

from data_pipelines.errors import UserError
from data_pipelines.tokenizers import Tokenizer
from rins_mm.checkpoint import load_weights, weights
from rins_mm.encoder import load_encoder
from rins_mm.models.adapters import adapter_parameters
from rins_mm.models.siglip import SigLIP

MAY_DIFFER = frozenset({"recursion", "checkpoint_calls", "packing", "drop_path", "patch_dropout"})
"""Settings of a tower under which the same weights give the same vectors at the same calls."""


def begin_with(model: SigLIP, tokenizer: Tokenizer, source: Path) -> None:
    """Copy the weights of a run, checkpoint or export of this project into a fresh model.

    Adapters that the source lacks stay as they are, so that AB gives the source's vectors bit for bit. All else
    must be there, and fit: a UserError names what does not.
    """
    trained = load_encoder(source)
    _check_same("tokenizer", trained.tokenizer.fingerprint, tokenizer.fingerprint, source)
    for name, theirs, ours in (
        ("image", trained.model.image_tower.config, model.image_tower.config),
        ("text", trained.model.text_tower.config, model.text_tower.config),
    ):
        for field in dataclasses.fields(ours):
            if field.name not in MAY_DIFFER:
                values = getattr(theirs, field.name), getattr(ours, field.name)
                _check_same(f"{name}.{field.name}", *values, source)
    fresh = weights(model)
    added = {name: fresh[name] for name in adapter_parameters(model)}
    load_weights(model, added | weights(trained.model), source)


def _check_same(name: str, theirs: Any, ours: Any, source: Path) -> None:
    if theirs != ours:
        raise UserError(
            f"init_from {source} was trained with {name} {theirs!r}, and this run has {ours!r}; "
            "make them the same, or leave out --init-from"
        )
