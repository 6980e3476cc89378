"""A folder that sentence-transformers reads for texts and pictures: `SentenceTransformer("FOLDER")`.

It is the folder of the format hf with a few files more. They pin the padding: the library pads to the
longest string of a batch unless it is told otherwise, and SigLIP's positions do not bear that.
"""

import json
from pathlib import Path

from rins_mm.export.hugging_face import write_hugging_face
from rins_mm.export.job import ExportJob, Format

SNIPPET = """from sentence_transformers import SentenceTransformer

model = SentenceTransformer("FOLDER")
text_vectors = model.encode(captions)
image_vectors = model.encode([picture])"""

MODULES = {
    "": "sentence_transformers.base.modules.transformer.Transformer",
    "1_Normalize": "sentence_transformers.base.modules.normalize.Normalize",
}
"""Classes of the library by the folders of their settings."""


def write_sentence_transformers(job: ExportJob, folder: Path) -> None:
    """What the format hf has, and how its vectors are made. UserError: a tower that it cannot express."""
    write_hugging_face(job, folder)
    text = {
        "padding": "max_length",
        "max_length": job.encoder.model.text_tower.config.context_length,
        "truncation": True,
    }
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": kind}
        for number, (path, kind) in enumerate(MODULES.items())
    ]
    transformer = {
        "transformer_task": "feature-extraction",
        "modality_config": {
            kind: {"method": f"get_{kind}_features", "method_output_name": "pooler_output"}
            for kind in ("text", "image")
        },
        "module_output_name": "sentence_embedding",
        "processing_kwargs": {"text": text},
    }
    model = {
        "model_type": "SentenceTransformer",
        "prompts": {"query": "", "document": ""},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    }
    for name, described in {
        "modules.json": modules,
        "sentence_bert_config.json": transformer,
        "config_sentence_transformers.json": model,
    }.items():
        (folder / name).write_text(json.dumps(described, indent=2) + "\n")
    normalize = folder / "1_Normalize"
    normalize.mkdir()
    (normalize / "config.json").write_text("{}\n")


SENTENCE_TRANSFORMERS = Format(
    write=write_sentence_transformers,
    library="sentence-transformers",
    snippet=SNIPPET,
    extra="export",
)
