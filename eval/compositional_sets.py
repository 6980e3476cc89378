"""Captions and foils as others publish them, and a layout of our own.

compositional:aro:FILE           visual_genome_relation.json or visual_genome_attribution.json of ARO
                                 (arXiv 2210.01936), pictures below --data
compositional:sugarcrepe:PATH    one of SugarCrepe's files (arXiv 2306.14610) or the folder of all
                                 seven, pictures (COCO's val2017) below --data
compositional:winoground:FOLDER  examples.jsonl and images/ of Winoground (arXiv 2204.03162)
compositional:scenes             the split test of the scenes in --data (data_pipelines.prepare.scenes);
                                 compositional:scenes:SPLIT, such as combinations or concepts
compositional:SHARDS             samples whose json has "caption" and
                                 "foils": [{"kind": "swap attribute", "text": "..."}]
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipelines.errors import UserError
from eval.caption_files import field_of, read_caption_lines, read_captions, shown
from eval.listed_pictures import ListedPicture, listed_pictures
from eval.outside_files import named_path
from eval.picture_sets import PictureSet, shard_pictures
from eval.task_kinds import Choice, CompositionalTask, Pairing
from eval.texts import cause_against, left_out_notes, number_of

SUGARCREPE_KINDS = (
    "add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj",
)  # fmt: skip
CHOICE_RULE = (
    "A question shows a picture and asks for its caption among that and foils; it is right when the "
    "caption scores above every foil. Ties count as misses."
)
PAIRING_RULE = (
    "A pairing has two pictures and two captions. text_score: each picture scores higher with its "
    "own caption. image_score: each caption scores higher with its own picture. group_score: both. "
    "Ties count as misses."
)
SAME_AS_CAPTION = "a foil equals the caption"


def aro_choices(name: str, spec: str, data: Path | None) -> CompositionalTask:
    """The true and the false caption of a part of a picture: compositional:aro:FILE.

    The kind is the relation, or both attributes. `data` is the folder of the pictures.
    """
    file, folder = _file_and_pictures(name, spec, data)
    items = read_captions(file)
    if not isinstance(items, list):
        raise UserError(f"{file} is {shown(items)}, not a list; is it one of ARO's two files?")
    found = []
    for number, item in enumerate(items):
        where = f"{file}, item {number:,}"
        left, top, width, height = (
            field_of(item, f"bbox_{side}", int, where) for side in ("x", "y", "w", "h")
        )
        picture = ListedPicture(
            field_of(item, "image_path", str, where), (left, top, width, height)
        )
        caption = field_of(item, "true_caption", str, where)
        foil = field_of(item, "false_caption", str, where)
        found.append((picture, caption, foil, _aro_kind(item, where)))
    return _one_foil_each(name, file.stem, folder, found)


def sugarcrepe_choices(name: str, spec: str, data: Path | None) -> CompositionalTask:
    """A caption and one foil per item: compositional:sugarcrepe:PATH. The kind is the file's name.

    PATH is a file or the folder of the seven; `data` is the folder of the pictures.
    """
    path, folder = _file_and_pictures(name, spec, data)
    files = [path]
    if path.is_dir():
        files = [path / f"{kind}.json" for kind in SUGARCREPE_KINDS]
    found = []
    for file in files:
        items = read_captions(file)
        if not isinstance(items, dict):
            raise UserError(f"{file} is {shown(items)}, not an object; is it one of SugarCrepe's?")
        for number, item in items.items():
            where = f"{file}, item {shown(number)}"
            picture = ListedPicture(field_of(item, "filename", str, where))
            caption = field_of(item, "caption", str, where)
            foil = field_of(item, "negative_caption", str, where)
            found.append((picture, caption, foil, file.stem))
    dataset = "sugarcrepe" if path.is_dir() else f"sugarcrepe-{path.stem}"
    return _one_foil_each(name, dataset, folder, found)


def winoground_pairings(name: str, spec: str, data: Path | None) -> CompositionalTask:
    """Two pictures and two captions per line: compositional:winoground:FOLDER.

    FOLDER/examples.jsonl names them, the pictures are FOLDER/images/NAME.png, and the kind is the
    collapsed tag.
    """
    folder = named_path(spec, data)
    texts: dict[str, int] = {}
    left_out: Counter[str] = Counter()
    numbers: dict[ListedPicture, int] = {}
    pairings = []
    for where, item in read_caption_lines(folder / "examples.jsonl"):
        names = [field_of(item, f"image_{side}", str, where) for side in (0, 1)]
        captions = [field_of(item, f"caption_{side}", str, where) for side in (0, 1)]
        kind = field_of(item, "collapsed_tag", str, where) if "collapsed_tag" in item else "all"
        cause = _cause_against(captions[0], captions[1:])
        if cause is not None:
            left_out[cause] += 1
            continue
        files = [ListedPicture(n if Path(n).suffix else f"{n}.png") for n in names]
        first, second = (numbers.setdefault(file, len(numbers)) for file in files)
        one, other = (number_of(caption, texts) for caption in captions)
        pairings.append(Pairing(pictures=(first, second), texts=(one, other), kind=kind))
    pictures, missing = listed_pictures(folder / "images", list(numbers))
    return CompositionalTask(
        name=name,
        dataset="winoground",
        pictures=pictures,
        missing=missing,
        notes=left_out_notes("questions", left_out),
        texts=list(texts),
        questions=list(pairings),
        rule=PAIRING_RULE,
    )


def shard_choices(name: str, spec: str, data: Path | None) -> CompositionalTask:
    """A user's own shards, compositional:SHARDS: for each sample one question per kind of its foils.

    The json of a sample has "caption" and "foils", a list of {"kind": ..., "text": ...}. Samples
    without are missing: "no caption", "no foils", "bad foils".
    """
    return _of_shards(name, spec, spec)


def scene_choices(name: str, spec: str, data: Path | None) -> CompositionalTask:
    """The scenes of a split below `data`, as data_pipelines.prepare.scenes writes them."""
    if data is None:
        raise UserError(
            f"{name} needs --data FOLDER, where the splits of data_pipelines.prepare.scenes lie"
        )
    return _of_shards(name, f"scenes-{spec}", str(data / spec / "*.tar"))


def _of_shards(name: str, dataset: str, shards: str) -> CompositionalTask:
    pictures, records, missing = shard_pictures([shards])
    texts: dict[str, int] = {}
    left_out: Counter[str] = Counter()
    questions = []
    for number, record in records.items():
        foils = _foils_by_kind(record.get("foils"))
        if isinstance(foils, str) or cause_against(record.get("caption")):
            missing[number] = foils if isinstance(foils, str) else "no caption"
            continue
        for kind, wrong in foils.items():
            cause = _cause_against(record["caption"], wrong)
            if cause is not None:
                left_out[cause] += 1
                continue
            right = number_of(record["caption"], texts)
            numbers = tuple(dict.fromkeys(number_of(foil, texts) for foil in wrong))
            questions.append(Choice(picture=number, right=(right,), wrong=numbers, kind=kind))
    return _choices(name, dataset, pictures, missing, texts, questions, left_out)


def _file_and_pictures(name: str, spec: str, data: Path | None) -> tuple[Path, Path]:
    path = named_path(spec, data)
    if data is None:
        raise UserError(f"{name} needs --data FOLDER, where the pictures of {path.name} lie")
    return path, data


def _aro_kind(item: dict[str, Any], where: str) -> str:
    if "relation_name" in item:
        return field_of(item, "relation_name", str, where)
    attributes = field_of(item, "attributes", list, where)
    return "_".join(str(attribute) for attribute in attributes)


def _one_foil_each(
    name: str, dataset: str, folder: Path, found: Sequence[tuple[ListedPicture, str, str, str]]
) -> CompositionalTask:
    """The task of (picture, caption, foil, kind) each; a picture that comes often is one picture."""
    texts: dict[str, int] = {}
    left_out: Counter[str] = Counter()
    numbers: dict[ListedPicture, int] = {}
    questions = []
    for picture, caption, foil, kind in found:
        cause = _cause_against(caption, [foil])
        if cause is not None:
            left_out[cause] += 1
            continue
        right, wrong = number_of(caption, texts), number_of(foil, texts)
        number = numbers.setdefault(picture, len(numbers))
        questions.append(Choice(picture=number, right=(right,), wrong=(wrong,), kind=kind))
    pictures, missing = listed_pictures(folder, list(numbers))
    return _choices(name, dataset, pictures, missing, texts, questions, left_out)


def _choices(
    name: str,
    dataset: str,
    pictures: PictureSet,
    missing: dict[int, str],
    texts: dict[str, int],
    questions: Sequence[Choice],
    left_out: Counter[str],
) -> CompositionalTask:
    return CompositionalTask(
        name=name,
        dataset=dataset,
        pictures=pictures,
        missing=missing,
        notes=left_out_notes("questions", left_out),
        texts=list(texts),
        questions=list(questions),
        rule=CHOICE_RULE,
    )


def _foils_by_kind(foils: Any) -> dict[str, list[str]] | str:
    """The texts of each kind, or why there are none."""
    if not isinstance(foils, list) or not foils:
        return "bad foils" if foils else "no foils"
    by_kind: dict[str, list[str]] = {}
    for foil in foils:
        if not isinstance(foil, dict) or cause_against(foil.get("text")):
            return "bad foils"
        if not isinstance(foil.get("kind"), str):
            return "bad foils"
        by_kind.setdefault(foil["kind"], []).append(foil["text"])
    return by_kind


def _cause_against(caption: str, foils: Sequence[str]) -> str | None:
    """Why a question cannot be asked; None where it can."""
    causes = [cause_against(text) for text in (caption, *foils)]
    if any(foil.strip() == caption.strip() for foil in foils):
        causes.append(SAME_AS_CAPTION)
    return next((cause for cause in causes if cause is not None), None)
