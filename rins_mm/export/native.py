"""The project's own format: unique tensors once as safetensors, JSON, tokenizer. Nothing is pickled."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

from data_pipelines.errors import UserError
from rins_mm.checkpoint import save_tensors, weights, write_manifest
from rins_mm.encoder import NATIVE_FORMAT_VERSION, SigLIPEncoder


def write_native(encoder: SigLIPEncoder, out: Path, *, overwrite: bool = False) -> None:
    """Write the folder that `rins_mm.load` reads; a damaged file is noticed there by its hash.

    With `overwrite` an earlier export is replaced; anything else that stands there is a UserError.
    """
    out = out.resolve()
    if out.exists() and not overwrite:
        raise UserError(f"{out} exists already; add --overwrite or choose another --out")
    if out.exists() and not (out / "encoder.json").is_file():
        raise UserError(f"{out} is no export, so it is not replaced; choose another --out")
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    description = {
        "format_version": NATIVE_FORMAT_VERSION,
        "name": encoder.name,
        "signature": encoder.signature,
        "embedding_width": encoder.model.image_tower.embedding_width,
        "preprocessing": {
            "resize": "straight to the square, bicubic, antialiased",
            "size": encoder.model.image_tower.config.image_size,
            "mean": encoder.model.image_tower.config.mean,
            "std": encoder.model.image_tower.config.std,
        },
        "image": dataclasses.asdict(encoder.model.image_tower.config),
        "text": dataclasses.asdict(encoder.model.text_tower.config),
    }
    try:
        save_tensors(weights(encoder.model), partial / "model.safetensors")
        (partial / "encoder.json").write_text(json.dumps(description, indent=2) + "\n")
        encoder.tokenizer.save(partial)
        write_manifest(partial, {"fingerprint": encoder.fingerprint})
        if out.exists():
            shutil.rmtree(out)
        os.rename(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
