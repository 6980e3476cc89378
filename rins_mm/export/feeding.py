"""How graphs of tensors are fed: settings as JSON, and the tokenizer in two forms."""

import json
from pathlib import Path

from rins_mm.encoder import SigLIPEncoder
from rins_mm.export.fast_tokenizer import fast_tokenizer, sentencepiece_of
from rins_mm.export.job import ExportJob

FORMAT_VERSION = 1
"""Of the settings; `eval.onnx_model` reads them."""


def write_feeding(job: ExportJob, folder: Path, settings_name: str) -> None:
    """Write the settings, this project's tokenizer, and `fast_tokenizer.json`, which truncates and pads.

    Raises UserError for a tokenizer that others cannot read.
    """
    encoder = job.encoder
    image, text = encoder.model.image_tower.config, encoder.model.text_tower.config
    is_masked = text.padding == "masked"
    settings = {
        "format_version": FORMAT_VERSION,
        "image": {
            "input": "pixels",
            "output": "vectors",
            "size": image.image_size,
            "mean": list(image.mean),
            "std": list(image.std),
        },
        "text": {
            "input": "ids",
            "mask": "mask" if is_masked else None,
            "output": "vectors",
            "context_length": text.context_length,
        },
    }
    _write_fast_tokenizer(encoder, folder / "fast_tokenizer.json", is_masked=is_masked)
    (folder / settings_name).write_text(json.dumps(settings, indent=2) + "\n")
    encoder.tokenizer.save(folder)


def _write_fast_tokenizer(encoder: SigLIPEncoder, path: Path, *, is_masked: bool) -> None:
    """For the library `tokenizers`: rows end with the end token, and are padded as the tower wants them."""
    context_length = encoder.model.text_tower.config.context_length
    fast = fast_tokenizer(sentencepiece_of(encoder.tokenizer))
    fast.enable_truncation(context_length)
    pad = encoder.tokenizer.pad_token
    fast.enable_padding(
        direction="right",
        pad_id=pad,
        pad_token=fast.id_to_token(pad),
        # What is masked costs time and changes nothing: the longest row of a batch is enough.
        length=None if is_masked else context_length,
    )
    fast.save(str(path))
