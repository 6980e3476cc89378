"""The model card: README.md of an exported folder."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from eval.encoder import DEFAULT_VARIANT
from eval.words import short
from rins_mm.export.formats import FORMATS, ExportJob
from rins_mm.export.unrolled import growth
from rins_mm.models.signatures import expand

METRICS = (
    "acc1", "acc5", "image_retrieval_recall@1", "image_retrieval_recall@5",
    "text_retrieval_recall@1", "text_retrieval_recall@5",
)  # fmt: skip
"""Of an evaluation, those that the card shows where a task has them."""


_MARKS = re.compile(r"([\\`\[\]<>|&])")


def _words(text: object) -> str:
    """Words from a run or an evaluation, in one line in which Markdown finds no link, picture, code or HTML."""
    return _MARKS.sub(r"\\\1", short(text, 2000))


def write_card(name: str, job: ExportJob, folder: Path) -> None:
    """What the folder is, how it was trained, what it scores at each depth, and how it is read."""
    (folder / "README.md").write_text("\n".join(_lines(name, job)).rstrip() + "\n")


def snippet_of(card: str) -> str:
    """The Python of a card."""
    return card.split("```python\n", 1)[1].split("\n```", 1)[0]


def _lines(name: str, job: ExportJob) -> Iterator[str]:
    yield from (
        "---",
        f"license: {job.license or 'unknown'}",
        f"library_name: {FORMATS[name].library}",
    )
    yield from (
        "pipeline_tag: zero-shot-image-classification",
        "tags: [siglip, image-text]",
        "---",
        "",
    )
    yield f"# {_words(job.encoder.name)}"
    yield ""
    yield (
        "Two encoders of one space: pictures and captions become unit vectors, and what belongs together is near. "
        "Trained with SigLIP's sigmoid loss by rins_mm, whose towers may run groups of blocks several times."
    )
    yield ""
    yield from _towers(name, job)
    yield "## Use"
    yield ""
    yield f"FOLDER is this folder. `{FORMATS[name].library}` reads it without further code:"
    yield ""
    yield "```python"
    yield from FORMATS[name].snippet.splitlines()
    yield "```"
    yield ""
    yield "## Training"
    yield ""
    yield from (
        f"- {key}: {_words(value)}" for key, value in {"source": job.source, **job.training}.items()
    )
    yield ""
    yield "## Evaluation"
    yield ""
    yield from _evaluation(job)
    yield ""
    yield "## Licence and limits"
    yield ""
    yield f"Licence of the weights: {job.license or 'none was stated; ask who trained them'}."
    yield (
        "The encoders know what their training pictures and captions showed, with the errors and prejudices "
        "of these; scores are for ranking, and no probabilities of other data."
    )
    yield ""
    yield (
        "`parity.json` and `parity.safetensors` hold golden captions, ids, pixels and vectors, and `MANIFEST.json` "
        "a hash of every file; `python -m rins_mm.export verify FOLDER` compares them again."
    )


def _towers(name: str, job: ExportJob) -> Iterator[str]:
    encoder, model = job.encoder, job.encoder.model
    image, text = model.image_tower.config, model.text_tower.config
    yield "| | image | text |"
    yield "| --- | --- | --- |"
    yield f"| tower | {image.name} | transformer, {text.padding} padding |"
    yield f"| input | {image.image_size} x {image.image_size} pixels | {text.context_length} tokens |"
    yield f"| depth (signature) | {encoder.image_signature} | {job.text_signature} |"
    yield f"| trained at | {encoder.image_signature} | {encoder.signature} |"
    yield f"| unique parameters | {_size(model.image_tower)} | {_size(model.text_tower)} |"
    yield ""
    yield f"Vectors have {model.image_tower.embedding_width} elements; weights are stored in {job.dtype}."
    if not FORMATS[name].expresses_recursion and (unrolled := growth(job, FORMATS[name].towers)):
        yield f"What runs several times is {unrolled}."
    if FORMATS[name].towers == ("image",):
        yield "This folder holds the image encoder alone."
    yield ""


def _evaluation(job: ExportJob) -> Iterator[str]:
    rows = [(result, shown) for result in job.evaluations if (shown := _shown(result))]
    if not rows:
        yield "None was recorded when this was exported."
        return
    names = [name for name in METRICS if any(name in shown for _, shown in rows)]
    yield "| task | text depth | " + " | ".join(names) + " |"
    yield "| --- | --- |" + " ---: |" * len(names)
    for result, shown in rows:
        cells = [f"{100 * shown[name]:.1f}" if name in shown else "" for name in names]
        yield f"| {_words(result['name'])} | {_depth(result, job)} | " + " | ".join(cells) + " |"
    yield ""
    yield "Percent, measured before the export on the encoder that it is compared with."


def _depth(result: Mapping[str, Any], job: ExportJob) -> str:
    depth = str(result["variant"])
    is_this = depth != DEFAULT_VARIANT and expand(depth) == expand(job.text_signature)
    return f"**{_words(depth)}** (exported)" if is_this else _words(depth)


def _shown(result: Mapping[str, Any]) -> dict[str, float]:
    return {name: result["metrics"][name] for name in METRICS if name in result["metrics"]}


def _size(module: Any) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()):,}"
