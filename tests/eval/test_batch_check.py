"""Whoever's model it is: strings that are padded to the longest beside them are refused before anything is scored."""

import pytest
import torch

from data_pipelines.errors import UserError
from eval.encoder import as_dual_encoder
from eval.suite import run_suite

CONTEXT = 32


class Padded:
    """Words and places, added up over the whole row, padding included: as SigLIP's towers do it."""

    def __init__(self, width: int | None):
        self.width = width
        generator = torch.Generator().manual_seed(0)
        self.words = torch.randn(100, 16, generator=generator)
        self.places = torch.randn(CONTEXT, 16, generator=generator)

    def encode_images(self, pictures):
        return torch.ones(len(pictures), 16)

    def encode_texts(self, strings):
        rows = [[1 + len(word) for word in string.split()][:CONTEXT] for string in strings]
        width = self.width or max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        return (self.words[ids] + self.places[:width]).tanh().sum(dim=1)


def test_a_model_that_pads_to_the_longest_string_is_refused(shard):
    model = as_dual_encoder(Padded(None), name="mine", fingerprint="1")
    with pytest.raises(UserError, match="the encoder mine gives 'a photo of a cat' another vector"):
        run_suite(model, [f"retrieval:{shard}"], progress=False)


def test_one_that_pads_to_its_context_is_not(shard):
    model = as_dual_encoder(Padded(CONTEXT), name="mine", fingerprint="1")
    (result,) = run_suite(model, [f"retrieval:{shard}"], progress=False)
    assert result["encoder_fingerprint"] == "1"
