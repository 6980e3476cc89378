"""Many tasks for one encoder, each at every depth of both towers, in one pass over its data.

Axes: N pictures.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from data_pipelines.errors import UserError
from eval import compositional, probe, retrieval, zero_shot
from eval.batch_check import refuse_batch_dependence
from eval.embed import NOTHING_KEPT, EmbeddedPictures
from eval.encoder import DEFAULT_VARIANT, DualEncoder
from eval.feature_store import FeatureStore, prompt_fingerprint
from eval.measured import Measured
from eval.ranks import Ranks, current_ranks, require_same
from eval.task_features import (
    Encoding,
    by_cause,
    embed_picture_set,
    embed_task_texts,
    picture_sets_of,
    prompts_of,
    tell_what_was_done_before,
    usable_pictures,
)
from eval.task_kinds import CompositionalTask, ProbeTask, RetrievalTask, Task, ZeroShotTask
from eval.tasks import NO_FOLDERS, names_of, open_task

MEASURES: dict[type[Task], Callable[..., Measured]] = {
    ZeroShotTask: zero_shot.measure,
    RetrievalTask: retrieval.measure,
    CompositionalTask: compositional.measure,
    ProbeTask: probe.measure,
}
"""How each kind of task is measured, once its vectors are there."""

CLIP_BENCHMARK_TASKS: dict[type[Task], str] = {
    ZeroShotTask: "zeroshot_classification",
    RetrievalTask: "zeroshot_retrieval",
    CompositionalTask: "image_caption_selection",
    ProbeTask: "linear_probe",
}
"""What CLIP_benchmark calls each kind of task."""


def run_suite(
    encoder: DualEncoder,
    task_names: Sequence[str],
    text_variants: Sequence[str] = (DEFAULT_VARIANT,),
    image_variants: Sequence[str] = (DEFAULT_VARIANT,),
    *,
    data: Path | None = None,
    data_folders: Mapping[str, Path] = NO_FOLDERS,
    ranks: Ranks | None = None,
    batch_size: int = 1,
    work: FeatureStore = NOTHING_KEPT,
    cache: FeatureStore = NOTHING_KEPT,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """`measure_tasks` of the tasks with these names. `data` is the folder for tasks that need one, and
    `data_folders` names another for single tasks.

    Raises UserError, before anything is computed, for unknown tasks and missing data.
    """
    return measure_tasks(
        encoder,
        open_tasks(task_names, data, data_folders),
        text_variants,
        image_variants,
        ranks=ranks,
        batch_size=batch_size,
        work=work,
        cache=cache,
        progress=progress,
    )


def open_tasks(
    names: Sequence[str], data: Path | None, data_folders: Mapping[str, Path] = NO_FOLDERS
) -> list[Task]:
    """The tasks of these names, each once, and one for each language where a set has several.

    Raises UserError for unknown names and missing data.
    """
    meant = [single for name in names for single in names_of(name, data_folders.get(name, data))]
    return [open_task(name, data, data_folders) for name in dict.fromkeys(meant)]


def measure_tasks(
    encoder: DualEncoder,
    tasks: Sequence[Task],
    text_variants: Sequence[str] = (DEFAULT_VARIANT,),
    image_variants: Sequence[str] = (DEFAULT_VARIANT,),
    *,
    ranks: Ranks | None = None,
    batch_size: int = 1,
    work: FeatureStore = NOTHING_KEPT,
    cache: FeatureStore = NOTHING_KEPT,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """One result per task, image variant and text variant, in this order, the same on every rank but
    for `seconds`.

    A result has CLIP_benchmark's keys (dataset, model, pretrained, task, language, metrics) and beside
    them name, variant (of the text encoder), image_variant, what else `Measured` has, num_pictures,
    num_classes or num_texts or num_questions, skipped (what was left out, by cause), rule, notes,
    data_fingerprint, prompt_fingerprint, encoder_fingerprint, and the seconds of the task so far.
    Every process calls this with the same arguments; `ranks` are taken from torch.distributed when
    not given. `batch_size` is how many blocks of 64 items the encoder is given at once; what its calls
    gave is kept in `work`, and vectors of classes are kept in `cache`, for an evaluation to come.
    """
    if not tasks or not text_variants or not image_variants:
        raise UserError("nothing to evaluate: name at least one task and one variant")
    encoding = Encoding(
        encoder=encoder,
        text_variants=list(dict.fromkeys(text_variants)),
        image_variants=list(dict.fromkeys(image_variants)),
        ranks=ranks or current_ranks(),
        batch_size=batch_size,
        work=work,
        cache=cache,
        progress=progress,
    )
    prompts = [prompt_fingerprint(prompts_of(task)) for task in tasks]
    seen = [pictures.fingerprint for task in tasks for pictures in picture_sets_of(task)]
    require_same("the encoder", [encoder.fingerprint], encoding.ranks)
    require_same("the data of the tasks", [*seen, *prompts], encoding.ranks)
    if any(prompts_of(task) for task in tasks):
        refuse_batch_dependence(encoder, encoding.text_variants)
    embedded: dict[str, EmbeddedPictures] = {}
    results = []
    for number, (task, prompt) in enumerate(zip(tasks, prompts, strict=True)):
        results += _measure(encoding, task, prompt, embedded)
        still_wanted = {
            p.fingerprint for later in tasks[number + 1 :] for p in picture_sets_of(later)
        }
        embedded = {key: embedded[key] for key in embedded.keys() & still_wanted}
    return results


def _measure(
    encoding: Encoding, task: Task, prompts: str, embedded: dict[str, EmbeddedPictures]
) -> list[dict[str, Any]]:
    """The results of one task; the pictures that `embedded` lacks are added to it."""
    started = time.perf_counter()
    before = encoding.work.num_loaded, encoding.cache.num_loaded
    for pictures in picture_sets_of(task):
        if pictures.fingerprint not in embedded:
            embedded[pictures.fingerprint] = embed_picture_set(encoding, task.name, pictures)
    causes = embedded[task.pictures.fingerprint].causes | task.missing
    task = replace(task, missing=causes)
    if isinstance(task, ProbeTask):
        unread = embedded[task.train_pictures.fingerprint].causes
        task = replace(task, train_missing=unread | task.train_missing)
    usable = usable_pictures(task.name, task.pictures.num_pictures, causes)
    measured = list(_each_pair(encoding, task, usable, embedded))
    tell_what_was_done_before(encoding, task.name, *before)
    facts = {
        "num_pictures": int(usable.sum()),
        **_counts(task, usable),
        "rule": task.rule,
        "data_fingerprint": task.pictures.fingerprint,
        "prompt_fingerprint": prompts,
        "encoder_fingerprint": encoding.encoder.fingerprint,
        "seconds": round(time.perf_counter() - started, 3),
    }
    return [
        {
            **_names(encoding.encoder, task, *variants),
            **asdict(numbers),
            **facts,
            "notes": [*task.notes, *numbers.notes],
        }
        for variants, numbers in measured
    ]


def _each_pair(
    encoding: Encoding,
    task: Task,
    usable: Bool[Tensor, " N"],
    embedded: Mapping[str, EmbeddedPictures],
) -> Iterator[tuple[tuple[str, str], Measured]]:
    """The pairs (image variant, text variant), and what a task comes to at each.

    A probe compares pictures with pictures: no text variant makes a difference to it.
    """
    features = embedded[task.pictures.fingerprint].features
    texts = embed_task_texts(encoding, task)
    measure = MEASURES[type(task)]
    for image_variant, pictures in features.items():
        compared = (
            {DEFAULT_VARIANT: embedded[task.train_pictures.fingerprint].features[image_variant]}
            if isinstance(task, ProbeTask)
            else texts
        )
        for variant, rows in compared.items():
            encoding.ranks.leave_when_asked()
            measured = measure(task, pictures, rows, usable=usable, ranks=encoding.ranks)
            yield (image_variant, variant), measured


def _counts(task: Task, usable: Bool[Tensor, " N"]) -> dict[str, Any]:
    """How much is asked, and by cause how much is left out."""
    skipped = by_cause(task.missing)
    if isinstance(task, ZeroShotTask | ProbeTask):
        if isinstance(task, ProbeTask):
            unread = by_cause(task.train_missing)
            skipped |= {f"to learn from: {cause}": number for cause, number in unread.items()}
        return {"num_classes": len(task.class_names), "skipped": skipped}
    if isinstance(task, RetrievalTask):
        num_texts = int(retrieval.texts_asked(task, usable).sum())
        if lost := len(task.texts) - num_texts:
            skipped["text without a usable picture"] = lost
        return {"num_texts": num_texts, "skipped": skipped}
    assert isinstance(task, CompositionalTask)
    num_questions = len(compositional.asked(task, usable))
    if lost := len(task.questions) - num_questions:
        skipped["question without all its pictures"] = lost
    return {"num_questions": num_questions, "skipped": skipped}


def _names(encoder: DualEncoder, task: Task, image_variant: str, variant: str) -> dict[str, str]:
    return {
        "dataset": task.dataset,
        "model": encoder.name,
        "pretrained": encoder.fingerprint,
        "task": CLIP_BENCHMARK_TASKS[type(task)],
        "language": task.language,
        "name": task.name,
        "variant": variant,
        "image_variant": image_variant,
    }
