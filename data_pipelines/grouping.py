"""Members of a shard to samples, by WebDataset's rule: neighbours that share a key are a sample.

The key is the name up to the first dot of its last component, folders included; the rest is the
part type. `cats/7.seg.png` so has the key `cats/7` and the part type `seg.png`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from data_pipelines.errors import UserError
from data_pipelines.tar import Member, TarEnd

PICTURE_PARTS = ("webp", "jpg", "jpeg", "png")
CAPTION_PARTS = ("json", "txt")
PART_TYPES = PICTURE_PARTS + CAPTION_PARTS
MAX_CAUSES = 30
"""Part types beyond this many are counted together: a shard may invent as many as it has members."""


def group_members(members: Iterator[Member], skipped: Counter[str]) -> Iterator["SampleMembers"]:
    """The samples of a shard in order; `skipped` counts what belongs to none or has another type.

    A part type that a sample already has begins a new sample with the same key.
    """
    sample = SampleMembers(key=b"", parts={})
    for member in members:
        key, kind = key_and_kind(member.name)
        if not key:
            skipped["no key and part type"] += 1
            continue
        if key != sample.key or kind in sample.parts:
            if key == sample.key:
                skipped["key met twice"] += 1
            if sample.parts:
                yield sample
            sample = SampleMembers(key=key, parts={})
        if kind in PART_TYPES:
            sample.parts[kind] = member
        else:
            cause = f"other part: {kind[:16]}"
            many = len(skipped) >= MAX_CAUSES and cause not in skipped
            skipped["other part: …" if many else cause] += 1
    if sample.parts:
        yield sample


def key_and_kind(name: bytes) -> tuple[bytes, str]:
    """The key and the part type in a member's name; both are empty where it has not both."""
    folder, slash, last = name.rpartition(b"/")
    stem, dot, kind = last.partition(b".")
    if not stem or not dot:
        return b"", ""
    return folder + slash + stem, kind.lower().decode("utf-8", "backslashreplace")


def require_usable(shard: str, samples: Sequence["SampleMembers"], skipped: Counter[str]) -> None:
    """Raise a UserError that says what was found and expected when not one sample can be used."""
    if any(sample.has_picture and sample.has_caption for sample in samples):
        return
    kinds = {kind for sample in samples for kind in sample.parts}
    others = {cause.split(": ")[1] for cause in skipped if cause.startswith("other part")}
    found = ", ".join(sorted(kinds | others)[:12]) or "none"
    wanted = f"expected one of {' '.join(PICTURE_PARTS)} and one of {' '.join(CAPTION_PARTS)}"
    if not samples:
        raise UserError(f"{shard} holds no samples; found parts: {found}; {wanted}")
    if not any(sample.has_picture for sample in samples):
        missing = "a picture"
    elif not any(sample.has_caption for sample in samples):
        missing = "a caption"
    else:
        missing = "both a picture and a caption; are the parts of a sample neighbours with one name"
    raise UserError(
        f"{shard}: of its {len(samples)} samples none has {missing} (first key "
        f"{key_as_text(samples[0].key)!r}); found parts: {found}; {wanted}"
    )


def key_as_text(key: bytes) -> str:
    """A key for messages; what is not UTF-8 is shown as escapes."""
    return key.decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleMembers:
    """The parts of one sample, by part type."""

    key: bytes
    parts: dict[str, Member]

    @property
    def has_picture(self) -> bool:
        """Whether there is a part that can be decoded to pixels."""
        return any(kind in self.parts for kind in PICTURE_PARTS)

    @property
    def has_caption(self) -> bool:
        """Whether there is a part that captions are read from."""
        return any(kind in self.parts for kind in CAPTION_PARTS)

    def may_go_on(self, end: TarEnd, example: "SampleMembers") -> bool:
        """Whether parts of this sample, the last one of its shard, may be missing behind its end.

        Without an end marker, a cut exactly between two members can only be told by what `example`
        has and this sample has not.
        """
        if end.closed:
            return False
        if end.torn_name:
            return key_and_kind(end.torn_name)[0] == self.key
        if example.has_picture and not self.has_picture:
            return True
        return any(kind in example.parts and kind not in self.parts for kind in CAPTION_PARTS)
