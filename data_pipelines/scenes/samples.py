"""Samples of scenes: number n of a split is a pure function of (settings, seed, split, n)."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from data_pipelines.scenes.foils import foils_of
from data_pipelines.scenes.grammar import has_usual_length, sentence
from data_pipelines.scenes.lots import Lots
from data_pipelines.scenes.meaning import Meaning, canonical, holds
from data_pipelines.scenes.render import paint, scene_numbers
from data_pipelines.scenes.scene import Scene
from data_pipelines.scenes.siblings import Sibling, drawn_group
from data_pipelines.scenes.world import World
from data_pipelines.shard_writer import Sample

FORMAT_VERSION = 2
"""Other drawing, other words or other lots: another number."""

_WORDINGS = 50
_PAINTED_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class SceneSource:
    """All that decides what a sample is, but for the drawings."""

    world: World
    split: str
    seed: int
    num_siblings: int
    constructions: tuple[str, ...]
    """Empty: all."""


@dataclass(frozen=True, kw_only=True)
class SceneSample:
    """A scene, what is said of it, and what is falsely said of it."""

    number: int
    construction: str
    sibling: Sibling
    caption: str
    foils: tuple[tuple[str, str], ...]
    """Kinds of edits, and texts; in training none."""


def scene_samples(source: SceneSource, numbers: range) -> Iterator[SceneSample]:
    """The samples of these numbers; a range of whole groups is quickest."""
    group_number, samples = -1, []
    for number in numbers:
        if number // source.num_siblings != group_number:
            group_number = number // source.num_siblings
            samples = _group_samples(source, group_number)
        yield samples[number % source.num_siblings]


def shard_samples(
    source: SceneSource, numbers: range, atlas: UInt8[Tensor, "K 2 2 P P"], picture_size: int
) -> Iterator[Sample]:
    """The samples of these numbers as parts of a shard: PNG, JSON and text."""
    for start in range(0, len(numbers), _PAINTED_AT_ONCE):
        samples = list(scene_samples(source, numbers[start : start + _PAINTED_AT_ONCE]))
        scenes = scene_numbers([sample.sibling.scene for sample in samples], source.world.kinds)
        pictures = paint(scenes, atlas, picture_size)
        for sample, picture in zip(samples, pictures, strict=True):
            parts = {
                "json": json.dumps(_record(source, sample)).encode(),
                "txt": sample.caption.encode(),
                "png": _png(picture),
            }
            yield f"{source.split}-{sample.number:09d}", parts


def accidental_truths(source: SceneSource, num_groups: int) -> tuple[float, float]:
    """Of how many pairs of a caption and a picture of another group the caption is true, or unclear."""
    siblings = [
        [sample.sibling for sample in _group_samples(source, number, with_foils=False)]
        for number in range(num_groups)
    ]
    truths = [
        holds(one.meaning, other.scene)
        for number, group in enumerate(siblings)
        for one in group
        for others in siblings[:number] + siblings[number + 1 :]
        for other in others
    ]
    return truths.count(True) / len(truths), truths.count(None) / len(truths)


def _group_samples(
    source: SceneSource, group_number: int, *, with_foils: bool = True
) -> list[SceneSample]:
    lots = Lots("scenes", FORMAT_VERSION, source.seed, source.split, group_number)
    group = drawn_group(lots, source.world, source.split, source.num_siblings, source.constructions)
    wording = _wording(lots, [sibling.meaning for sibling in group.siblings])
    wrong = with_foils and source.split != "train"
    return [
        SceneSample(
            number=group_number * source.num_siblings + place,
            construction=group.construction,
            sibling=sibling,
            caption=sentence(sibling.meaning, wording),
            foils=tuple(foils_of(sibling, wording, lots, source.world, source.split))
            if wrong
            else (),
        )
        for place, sibling in enumerate(group.siblings)
    ]


def _wording(lots: Lots, meanings: Sequence[Meaning]) -> int:
    """One wording for all, in which none is too short or too long, if there is one."""
    for _ in range(_WORDINGS):
        wording = lots.below(2**32)
        if all(has_usual_length(sentence(meaning, wording)) for meaning in meanings):
            break
    return wording


def _record(source: SceneSource, sample: SceneSample) -> dict[str, Any]:
    scene: Scene = sample.sibling.scene
    record: dict[str, Any] = {
        "caption": sample.caption,
        "positive_key": canonical(sample.sibling.meaning),
        "group": f"{source.split} {sample.number // source.num_siblings}",
        "construction": sample.construction,
        "edit": sample.sibling.edit,
        "scene": {
            "things": [thing._asdict() for thing in scene.things],
            "background": scene.background,
        },
    }
    if source.split != "train":
        record["foils"] = [{"kind": kind, "text": text} for kind, text in sample.foils]
    return record


def _png(picture: UInt8[Tensor, "3 S S"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(
        buffer, "PNG", compress_level=1
    )
    return buffer.getvalue()
