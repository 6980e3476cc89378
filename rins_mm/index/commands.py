"""The command lines of python -m rins_mm.index, and the models that they name."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import tyro

from data_pipelines.errors import UserError
from eval.encoder import DEFAULT_VARIANT, DualEncoder
from rins_mm.distributed import local_device
from rins_mm.evaluated_model import open_model
from rins_mm.index.accelerate import KINDS
from rins_mm.index.layout import IndexedModel
from rins_mm.index.opened import Index, require_model

Folder = Annotated[Path, tyro.conf.Positional]


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """How pictures become vectors."""

    batch_size: int = 1
    """Blocks of 64 pictures that the model is given at once. Only the last bits of vectors depend on it."""
    num_threads: int = 1
    """CPU threads per rank."""
    timeout_seconds: float = 3600.0
    """A rank that hears nothing from the others for this long gives up."""
    overwrite: bool = False
    """Replace the index if it exists; for add, forget an unfinished addition of other pictures."""


@dataclass(frozen=True, kw_only=True)
class BuildCommand:
    """Make an index of pictures, alone or under torchrun. Killed, the same command goes on."""

    model: Annotated[str, tyro.conf.Positional]
    """A run (its newest checkpoint), one checkpoint's folder, or an export; or another's model, such as
    open_clip:ViT-B-16-SigLIP:WEIGHTS, hf:FOLDER, sentence_transformers:FOLDER or onnx:FOLDER."""
    pictures: str
    """Folder of JPEG, PNG or WebP files, with all folders in it; or shards, such as emoji:test or
    FOLDER/part-{000..013}.tar."""
    out: Path
    """Folder to write."""
    image_signature: str | None = None
    """Depth of the image tower; None: the one it was trained with."""
    text_signature: str | None = None
    """Depth of the text tower for queries that name none; None: the one it was trained with."""
    pictures_per_shard: int = 4096
    """What a rank makes in one go, and what a killed build makes again."""
    embedding: Annotated[Embedding, tyro.conf.arg(name="")] = field(default_factory=Embedding)


@dataclass(frozen=True, kw_only=True)
class AddCommand:
    """Add pictures to an index; those that are in it already (byte for byte) are passed over."""

    index: Folder
    """Folder of the index."""
    pictures: str
    """Folder of pictures, or shards."""
    model: str | None = None
    """The model that the index was built with; None: where it lay then."""
    embedding: Annotated[Embedding, tyro.conf.arg(name="")] = field(default_factory=Embedding)


@dataclass(frozen=True, kw_only=True)
class RemoveCommand:
    """Take pictures out of an index: they are not found any more. Their vectors stay on the disk."""

    index: Folder
    """Folder of the index."""
    numbers: tuple[int, ...] = ()
    """Numbers of pictures, as search prints them."""
    where: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A condition such as "label=apple" or "name~holiday/"; of several, all must be met."""


@dataclass(frozen=True, kw_only=True)
class VerifyCommand:
    """Read everything in an index and compare it with its hashes."""

    index: Folder
    """Folder of the index."""
    with_pictures: bool = False
    """Also read all pictures from their sources and compare their hashes."""
    pictures: tuple[str, ...] = ()
    """Where the sources are now, in their order, if not where they were."""


@dataclass(frozen=True, kw_only=True)
class SearchIndexCommand:
    """Find pictures by words, by a picture, or by both together."""

    index: Folder
    """Folder of the index."""
    query: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """What to look for, in words; may be given several times."""
    minus: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """What to keep away from, in words, in every query; may be given several times."""
    minus_weight: float = 0.5
    """How much of the words of --minus is taken away from a query."""
    picture: tuple[Path, ...] = ()
    """Pictures to find others like."""
    like: tuple[int, ...] = ()
    """Numbers of pictures of the index to find others like; this needs no model."""
    where: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A condition that pictures must meet, such as "width>=512", "label=apple" or "name~holiday"; of
    several, all."""
    top_k: int = 10
    """How many pictures to show for each query."""
    model: str | None = None
    """The model that the index was built with; None: where it lay then."""
    text_signature: str | None = None
    """Depth of the text tower for these queries, such as AB or AAB; None: what the index says."""
    accelerator: KINDS = "exact"
    """exact: compare with every picture. faiss, faiss-pq, usearch: with the likely ones; built from the
    vectors on first use. With --where the search is always exact."""
    html: Path | None = None
    """Also write the answers, with small copies of the pictures, as a page that needs nothing beside it."""
    pictures: tuple[str, ...] = ()
    """Where the sources are now, in their order, if not where they were."""
    overwrite: bool = False
    """Replace the page if it exists."""
    num_threads: int = 0
    """CPU threads; 0: as many as torch chooses."""


@dataclass(frozen=True, kw_only=True)
class DuplicatesCommand:
    """Find groups of pictures that look alike, by comparing every picture with every other."""

    index: Folder
    """Folder of the index."""
    threshold: float = 0.98
    """Least cosine of two pictures that look alike."""
    show: int = 20
    """How many groups to print."""
    json: Path | None = None
    """Also write all groups to this file."""
    overwrite: bool = False
    """Replace the file if it exists."""
    num_threads: int = 0
    """CPU threads; 0: as many as torch chooses."""


def set_threads(num_threads: int, *, least: int = 0) -> None:
    """Let torch use so many; 0: as many as it chooses. Raises UserError for numbers that mean nothing."""
    if num_threads < least:
        raise UserError(f"num_threads is {num_threads}; it must be at least {least}")
    if num_threads:
        torch.set_num_threads(num_threads)


def open_builder(
    model: str, image_signature: str | None, text_signature: str | None
) -> tuple[DualEncoder, IndexedModel]:
    """The model that a new index is built with, and what the index says of it."""
    opened = open_model(
        model,
        text_signatures=_named(text_signature),
        image_signatures=_named(image_signature),
        device=str(local_device()),
    )
    text = text_signature or str(opened.facts.get("trained_signature", DEFAULT_VARIANT))
    return opened.encoder, IndexedModel(
        name=opened.encoder.name,
        fingerprint=opened.encoder.fingerprint,
        path=str(Path(model).resolve()) if os.path.exists(model) else model,
        image_signature=opened.image_variants[0],
        text_signature=text,
    )


def open_own_model(index: Index, model: str | None) -> DualEncoder:
    """The model of an index: the named one, or the one where it lay.

    Raises UserError where it is another model.
    """
    recorded = index.facts.model
    # A folder from elsewhere may name any path. Only folders are looked for unasked, and those of
    # this project hold nothing but tensors and JSON.
    if model is None and not os.path.isdir(recorded.path):
        raise UserError(
            f"{index.folder} was built with the model {recorded.name}, which is not at "
            f"{recorded.path!r} any more or is not of this project; name it with --model"
        )
    # At whatever depth: whether it is the right model shall be said before whether it has a depth.
    opened = open_model(
        model or recorded.path,
        text_signatures=(),
        image_signatures=(),
        device=str(local_device()),
    )
    require_model(index, opened.encoder)
    return opened.encoder


def _named(signature: str | None) -> Sequence[str]:
    return () if signature is None else (signature,)
