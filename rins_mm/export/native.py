"""The project's own format: unique tensors once as safetensors, JSON, tokenizer. Nothing is pickled."""

import dataclasses
import json
from pathlib import Path

from rins_mm.checkpoint import save_tensors, weights, write_manifest
from rins_mm.encoder import NATIVE_FORMAT_VERSION, SigLIPEncoder
from rins_mm.export.job import ExportJob, Format
from rins_mm.export.whole_folder import new_folder

SNIPPET = """import rins_mm

encoder = rins_mm.load("FOLDER")
image_vectors = encoder.encode_images([picture])
text_vectors = encoder.encode_texts(captions)"""


def write_native(encoder: SigLIPEncoder, out: Path, *, overwrite: bool = False) -> None:
    """Write the folder that `rins_mm.load` reads, and no more; a damaged file is noticed there by its hash.

    With `overwrite` an earlier export is replaced; anything else that stands there is a UserError.
    """
    with new_folder(out, overwrite=overwrite) as folder:
        fill_native(ExportJob(encoder=encoder, text_signature=encoder.signature), folder)
        write_manifest(folder, {"fingerprint": encoder.fingerprint})


def fill_native(job: ExportJob, folder: Path) -> None:
    """Weights, description and tokenizer, at all depths."""
    encoder = job.encoder
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
    save_tensors(job.as_stored(weights(encoder.model)), folder / "model.safetensors")
    (folder / "encoder.json").write_text(json.dumps(description, indent=2) + "\n")
    encoder.tokenizer.save(folder)


NATIVE = Format(write=fill_native, library="rins_mm", snippet=SNIPPET, expresses_recursion=True)
