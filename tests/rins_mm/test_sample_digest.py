"""The digest of a global batch knows its samples and their order, and nothing of ranks."""

import pytest
import torch

from rins_mm.sample_digest import digest_of, hashes_of

KEYS = [f"some-{number // 8:05d}.tar:{number}" for number in range(32)]


def digest_at(world_size: int, keys: list[str]) -> str:
    """The digest of a global batch that is dealt to so many ranks, slot by slot."""
    per_rank = -(-len(keys) // world_size)
    shares = []
    for rank in range(world_size):
        share = keys[rank::world_size]
        shares.append(hashes_of(share + [""] * (per_rank - len(share))))
    return digest_of(torch.stack(shares), len(keys))


@pytest.mark.parametrize("world_size", [2, 3, 4, 5, 32, 40])
def test_it_is_the_same_at_any_number_of_ranks(world_size: int) -> None:
    assert digest_at(world_size, KEYS) == digest_at(1, KEYS)


def test_another_sample_another_order_and_a_missing_sample_change_it() -> None:
    others = [[*KEYS[:-1], "other"], [KEYS[1], KEYS[0], *KEYS[2:]], KEYS[:-1]]
    digests = {digest_at(2, keys) for keys in [KEYS, *others]}
    assert len(digests) == 4


def test_it_does_not_change_from_one_version_to_the_next() -> None:
    assert digest_at(1, KEYS) == "cac81907be3bf7c3"
