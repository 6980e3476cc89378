"""Answers of an index in the form that python -m rins_mm.search prints and draws. Axes: Q queries."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError
from data_pipelines.words import printable
from eval.encoder import DEFAULT_VARIANT
from rins_mm.gallery import Gallery, PictureFile
from rins_mm.index.accelerate import open_accelerator, search_with
from rins_mm.index.commands import SearchIndexCommand, open_own_model
from rins_mm.index.opened import Index
from rins_mm.index.search import picture_query, search, text_query
from rins_mm.search import Found, Match

GREY = np.full((64, 64, 3), 128, dtype=np.uint8)
"""Shown in the place of a picture that is not there any more."""


def queries_of(
    command: SearchIndexCommand, index: Index
) -> tuple[list[str], Float32[Tensor, "Q E"]]:
    """What is looked for, in words and as vectors. Raises UserError where it is nothing."""
    if not (command.query or command.picture or command.like):
        raise UserError(
            'there is nothing to look for; add --query "WORDS", --picture FILE or --like NUMBER'
        )
    if command.minus and not command.query:
        raise UserError('--minus takes words away from a query in words; add --query "WORDS"')
    names = [f"like {number}: {index.row(number)['name']}" for number in command.like]
    vectors = [index.vector(number) for number in command.like]
    if command.query or command.picture:
        encoder = open_own_model(index, command.model)
        signature = command.text_signature or index.facts.model.text_signature
        for words in dict.fromkeys(command.query):
            names.append(words + "".join(f" − {minus}" for minus in command.minus))  # noqa: RUF001
            vectors.append(
                text_query(
                    encoder,
                    words,
                    command.minus,
                    signature=signature,
                    minus_weight=command.minus_weight,
                )
            )
        for path in command.picture:
            names.append(f"like {path}")
            image_signature = index.facts.model.image_signature
            vectors.append(picture_query(encoder, path, signature=image_signature))
    return names, torch.cat(vectors)


def answer(command: SearchIndexCommand, index: Index) -> Found:
    """The best pictures for each query; the numbers of pictures are those of the index."""
    names, vectors = queries_of(command, index)
    if command.accelerator == "exact" or command.where:
        scores, numbers = search(index, vectors, command.top_k, command.where)
    else:
        accelerator = open_accelerator(index, command.accelerator)
        scores, numbers = search_with(index, accelerator, vectors, command.top_k)
    return Found(answers=_matches(names, scores, numbers), bad={})


def _matches(
    names: Sequence[str], scores: Float32[Tensor, "Q k"], numbers: Int64[Tensor, "Q k"]
) -> Mapping[str, list[Match]]:
    rows = zip(names, scores.tolist(), numbers.tolist(), strict=True)
    return {
        name: [
            Match(rank=place, score=score, number=number)
            for place, (score, number) in enumerate(zip(best, found, strict=True), 1)
        ]
        for name, best, found in rows
    }


def as_gallery(index: Index) -> Gallery:
    """An index as pictures to show: their names begin with their numbers, which --like and remove take."""

    def read(number: int) -> np.ndarray:
        try:
            return index.picture(number)
        except BadSample:
            return GREY

    def label(number: int) -> str:
        row = index.row(number)
        return printable(row["label"] or row["caption"])

    return Gallery(
        num_pictures=index.num_pictures,
        file=lambda number: PictureFile(index.picture_file(number), label(number), ""),
        read=read,
        name=lambda number: printable(f"{number} {index.row(number)['name']}"),
        label=label,
        fingerprint=lambda: index.facts.model.fingerprint,
        unreadable={},
    )


def depth_in_words(command: SearchIndexCommand, index: Index) -> str:
    """The variant of the text encoder that was asked."""
    signature = command.text_signature or index.facts.model.text_signature
    return "its own" if signature == DEFAULT_VARIANT else signature
