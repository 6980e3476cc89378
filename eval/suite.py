"""Many tasks for one encoder: pictures are embedded once for all variants and all tasks that share them.

Axes: N pictures, E the shared embedding.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from data_pipelines.errors import UserError
from eval import retrieval, zero_shot
from eval.class_texts import class_features, sentences_of
from eval.embed import EmbeddedPictures, embed_pictures, embed_texts
from eval.encoder import DualEncoder
from eval.measured import Measured
from eval.ranks import Ranks, current_ranks, require_same
from eval.task_kinds import RetrievalTask, ZeroShotTask
from eval.tasks import open_task


def run_suite(
    encoder: DualEncoder,
    task_names: Sequence[str],
    variants: Sequence[str],
    *,
    data: Path | None = None,
    ranks: Ranks | None = None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """One result per task and variant, in their order, the same on every rank.

    A result has CLIP_benchmark's keys (dataset, model, pretrained, task, language, metrics) and beside
    them name, variant, the fields of `Measured`, num_pictures, num_classes or num_texts, skipped
    (pictures left out, by cause), rule, notes, data_fingerprint and encoder_fingerprint. `data` is
    the folder for tasks that need one. Every process calls this with the same arguments; `ranks` are
    taken from torch.distributed when not given.

    Raises UserError, before anything is computed, for unknown tasks and missing data.
    """
    if not task_names or not variants:
        raise UserError("nothing to evaluate: name at least one task and one variant")
    ranks = ranks or current_ranks()
    variants = list(dict.fromkeys(variants))
    tasks = [open_task(name, data) for name in dict.fromkeys(task_names)]
    fingerprints = [task.pictures.fingerprint for task in tasks]
    require_same("the encoder", [encoder.fingerprint], ranks)
    require_same("the data of the tasks", fingerprints, ranks)
    results = []
    embedded: dict[str, EmbeddedPictures] = {}
    for task, fingerprint in zip(tasks, fingerprints, strict=True):
        if fingerprint not in embedded:
            embedded[fingerprint] = embed_pictures(
                encoder,
                task.pictures.read,
                task.pictures.num_pictures,
                ranks,
                label=f"{task.name}: pictures" if progress else None,
            )
        label = f"{task.name}: texts" if progress else None
        pictures = embedded[fingerprint]
        if isinstance(task, ZeroShotTask):
            results += _zero_shot(encoder, task, pictures, variants, ranks, label)
        else:
            results += _retrieval(encoder, task, pictures, variants, ranks, label)
    return results


def _zero_shot(
    encoder: DualEncoder,
    task: ZeroShotTask,
    embedded: EmbeddedPictures,
    variants: Sequence[str],
    ranks: Ranks,
    label: str | None,
) -> list[dict[str, Any]]:
    usable, skipped = _usable(task, embedded)
    vectors = class_features(encoder, sentences_of(task), variants, ranks, label=label)
    counts = {
        "num_pictures": int(usable.sum()),
        "num_classes": len(task.class_names),
        "skipped": skipped,
    }
    results = []
    for variant in variants:
        measured = zero_shot.measure(
            task, embedded.features, vectors[variant], usable=usable, ranks=ranks
        )
        results.append(_result(encoder, task, variant, measured, counts))
    return results


def _retrieval(
    encoder: DualEncoder,
    task: RetrievalTask,
    embedded: EmbeddedPictures,
    variants: Sequence[str],
    ranks: Ranks,
    label: str | None,
) -> list[dict[str, Any]]:
    usable, skipped = _usable(task, embedded)
    num_texts = int(retrieval.texts_asked(task, usable).sum())
    num_lost = len(task.texts) - num_texts
    vectors = embed_texts(encoder, task.texts, variants, ranks, label)
    counts = {
        "num_pictures": int(usable.sum()),
        "num_texts": num_texts,
        "skipped": skipped | ({"text without a usable picture": num_lost} if num_lost else {}),
    }
    results = []
    for variant in variants:
        measured = retrieval.measure(
            task, embedded.features, vectors[variant], usable=usable, ranks=ranks
        )
        results.append(_result(encoder, task, variant, measured, counts))
    return results


def _usable(
    task: ZeroShotTask | RetrievalTask, embedded: EmbeddedPictures
) -> tuple[Bool[Tensor, " N"], dict[str, int]]:
    """Which pictures count, and how many do not, by cause. Raises UserError when none does."""
    causes = embedded.causes | task.missing
    skipped = dict(Counter(causes.values()).most_common())
    if len(causes) == task.pictures.num_pictures:
        raise UserError(
            f"{task.name}: none of its {len(causes):,} pictures can be used ({skipped}); "
            "look at the data"
        )
    usable = embedded.usable.clone()
    usable[list(task.missing)] = False
    return usable, skipped


def _result(
    encoder: DualEncoder,
    task: ZeroShotTask | RetrievalTask,
    variant: str,
    measured: Measured,
    counts: dict[str, Any],
) -> dict[str, Any]:
    is_zero_shot = isinstance(task, ZeroShotTask)
    return {
        "dataset": task.dataset,
        "model": encoder.name,
        "pretrained": encoder.fingerprint,
        "task": "zeroshot_classification" if is_zero_shot else "zeroshot_retrieval",
        "metrics": measured.metrics,
        "language": "en",
        "name": task.name,
        "variant": variant,
        **{field.name: getattr(measured, field.name) for field in fields(measured)},
        **counts,
        "rule": task.rule,
        "notes": list(task.notes),
        "data_fingerprint": task.pictures.fingerprint,
        "encoder_fingerprint": encoder.fingerprint,
    }
