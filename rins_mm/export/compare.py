"""A library's answers beside golden ones: what is equal, by how much the rest differs, and what is too much."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from rins_mm.export.formats import FORMATS
from rins_mm.export.parity import Parity

TOLERANCES = {"fp32": 1e-5, "fp16": 5e-3, "bf16": 2e-2}
"""Most that an element of a unit vector may differ, by the form of the stored weights.

Rounding alone moves the worst of 1,000 vectors of 32 elements by 2e-3 and 9e-3; longer ones by less.
"""
MOST_MEAN_LEVELS = 0.5
"""Of 255, in the mean over all pixels, where two filters round differently; a wrong crop makes tens."""
TOP = 10

Rows = tuple[Sequence[int], Tensor]
"""Numbers of items, and a vector for each."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a library gave; None, or nothing, for what its format does not know."""

    token_ids: list[list[int]] | None
    left_alone: list[bool] | None
    own_pixels: Tensor | None
    own_picture_vectors: Tensor | None
    text_vectors: Mapping[int, Rows]
    """By batch size."""
    picture_vectors: Mapping[int, Rows]
    own_packages: list[str]
    """Packages of this project that its process had imported."""


class Findings:
    """What was found, as words, and what of it is a fault."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.faults: list[str] = []

    def say(self, words: str, *, fault: bool) -> None:
        """Note a finding."""
        (self.faults if fault else self.said).append(words)


def compare(name: str, parity: Parity, answers: Answers) -> tuple[list[str], list[str]]:
    """A line of what was found, and the faults."""
    found = Findings()
    tolerance = FORMATS[name].tolerance or TOLERANCES[str(parity.facts["dtype"])]
    if name != "native" and answers.own_packages:
        found.say(f"the child process imported {', '.join(answers.own_packages)}", fault=True)
    if odd := _misshapen(parity, answers):
        found.say(f"the answers for {odd} are not one for each, of the golden width", fault=True)
        return [], found.faults
    same = _compare_ids(parity, answers, found)
    if answers.own_pixels is not None:
        _compare_pixels(parity, answers.own_pixels, FORMATS[name].resizes_as_we_do, found)
    if answers.text_vectors:
        _compare_vectors(
            "captions", parity.text_vectors, answers.text_vectors, tolerance, same, found
        )
    everything = [True] * len(parity.pixels)
    if answers.picture_vectors:
        golden = parity.picture_vectors
        _compare_vectors("pictures", golden, answers.picture_vectors, tolerance, everything, found)
    if answers.text_vectors and answers.picture_vectors:
        _compare_order(parity, answers, same, tolerance, found)
    if not FORMATS[name].resizes_as_we_do and answers.own_picture_vectors is not None:
        differs = _most(parity.picture_vectors, answers.own_picture_vectors)
        found.say(f"pictures prepared by {name}: vectors differ by {differs:.1e}", fault=False)
    facts = parity.facts
    title = f"{name} ({facts['dtype']}, text {facts['text_signature']}, image {facts['image_signature']})"
    return [f"{title}: " + "; ".join(found.said)], found.faults


def _misshapen(parity: Parity, answers: Answers) -> str:
    """The first answer that cannot be laid beside the golden ones; empty for none."""
    for name in ("token_ids", "left_alone"):
        rows = getattr(answers, name)
        if rows is not None and len(rows) != len(parity.strings):
            return name
    own = answers.own_picture_vectors
    if own is not None and own.shape != parity.picture_vectors.shape:
        return "own_picture_vectors"
    for name in ("text_vectors", "picture_vectors"):
        width = getattr(parity, name).shape[1]
        for numbers, rows in getattr(answers, name).values():
            if rows.shape != (len(numbers), width):
                return name
    return ""


def _compare_ids(parity: Parity, answers: Answers, found: Findings) -> list[bool]:
    """For each string whether its ids are equal; where the library was given ids, all are."""
    if answers.token_ids is None:
        return [True] * len(parity.strings)
    same = [list(a) == list(b) for a, b in zip(parity.token_ids, answers.token_ids, strict=True)]
    alone = answers.left_alone or [True] * len(same)
    unequal = [
        string
        for string, is_same, is_alone in zip(parity.strings, same, alone, strict=True)
        if is_alone and not is_same
    ]
    if unequal:
        found.say(
            f"the ids of {len(unequal)} strings differ, such as {unequal[0][:40]!r}", fault=True
        )
    words = f"ids of {sum(same)} of {len(same)} strings equal"
    if not all(alone):
        words += f" ({alone.count(False)} are changed by the library before its tokenizer)"
    found.say(words, fault=False)
    return same


def _compare_pixels(parity: Parity, own: Tensor, must_be_equal: bool, found: Findings) -> None:
    mean, std = (torch.tensor(parity.facts[key])[:, None, None] for key in ("mean", "std"))
    if own.shape != parity.pixels.shape:
        found.say(f"pixels have the shape {list(own.shape)}", fault=True)
        return
    levels = (own * std + mean) * 255
    away = (levels - parity.pixels.float()).abs().flatten(1)
    # What normalising and undoing it costs in fp32 is far below a tenth of a level.
    num_equal = int((away.amax(dim=1) < 0.1).sum())
    words, mean_away = f"pixels of {num_equal} of {len(own)} pictures equal", float(away.mean())
    if num_equal < len(own):
        words += f", the others within {float(away.max()):.0f} levels (mean {mean_away:.2f})"
    is_fault = num_equal < len(own) if must_be_equal else mean_away > MOST_MEAN_LEVELS
    # A number that is none is no small one.
    found.say(words, fault=is_fault or not float(away.max()) <= 255)


def _compare_vectors(
    what: str,
    golden: Float[Tensor, "N E"],
    vectors: Mapping[int, Rows],
    tolerance: float,
    same: Sequence[bool],
    found: Findings,
) -> None:
    parts, most = [], []
    for size, (numbers, rows) in sorted(vectors.items()):
        kept = [place for place, number in enumerate(numbers) if same[number]]
        differs = _most(golden[[numbers[place] for place in kept]], rows[kept])
        most.append(differs)
        parts.append(f"{differs:.1e} at batch {size} ({len(kept)})")
    found.say(
        f"{what} differ by {', '.join(parts)}, and may by {tolerance:.0e}",
        # A number that is none is no small one.
        fault=not all(differs <= tolerance for differs in most),
    )


def _most(golden: Tensor, rows: Tensor) -> float:
    # Where nothing can be compared, nothing is shown to be equal.
    if not len(rows):
        return float("inf")
    return float((golden - normalize(rows.double(), dim=-1)).abs().max())


def _compare_order(
    parity: Parity, answers: Answers, same: Sequence[bool], tolerance: float, found: Findings
) -> None:
    """The ten nearest pictures of each caption must be the same, wherever scores are told apart."""
    numbers, texts = answers.text_vectors[max(answers.text_vectors)]
    kept = [place for place, number in enumerate(numbers) if same[number]]
    _, pictures = answers.picture_vectors[max(answers.picture_vectors)]
    golden = parity.text_vectors[[numbers[place] for place in kept]] @ parity.picture_vectors.T
    theirs = normalize(texts[kept].double(), dim=-1) @ normalize(pictures.double(), dim=-1).T
    wrong = disordered(golden, theirs, gap=2 * tolerance)
    found.say(
        f"the top {TOP} of {wrong} of {len(kept)} queries differ"
        if wrong
        else f"top {TOP} of {len(kept)} queries equal",
        fault=wrong > 0,
    )


def disordered(
    golden: Float[Tensor, "Q M"], theirs: Float[Tensor, "Q M"], *, gap: float, top: int = TOP
) -> int:
    """Queries among whose first `top` places one is taken by what should stand lower by more than `gap`."""
    order = golden.argsort(dim=1, descending=True)[:, :top]
    wrong = torch.zeros(len(golden), dtype=torch.bool)
    for place in order.T:
        column = place[:, None]
        clearly_lower = golden < golden.gather(1, column) - gap
        best_of_lower = theirs.masked_fill(~clearly_lower, -torch.inf).amax(dim=1, keepdim=True)
        wrong |= (best_of_lower > theirs.gather(1, column))[:, 0]
    return int(wrong.sum())
