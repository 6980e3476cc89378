"""Which samples a global batch held, in sixteen letters: the same at any number of ranks.

Axes: W ranks, B slots of a rank.
"""

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from data_pipelines.hashing import stable_hash


def hashes_of(sample_keys: Sequence[str]) -> Int64[Tensor, " B"]:
    """A number for each sample key."""
    return torch.tensor([stable_hash(key) for key in sample_keys], dtype=torch.int64)


def digest_of(hashes: Int64[Tensor, "W B"], batch_size: int) -> str:
    """The digest of a global batch from its ranks' hashes; it depends on the order of the samples too."""
    # Rank r holds slots r, r + W, …; what only fills an uneven share stands at the end.
    in_order = hashes.T.flatten()[:batch_size]
    encoded = in_order.numpy().astype("<i8").tobytes()
    return hashlib.blake2b(encoded, digest_size=8).hexdigest()
