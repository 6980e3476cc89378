"""Does an encoder give a string one vector, whatever stands beside it? The padding of many does not."""

from collections.abc import Sequence

from data_pipelines.errors import UserError
from eval.embed import BLOCK
from eval.encoder import DualEncoder

SHORT = "a photo of a cat"
LONG = "a long description of everything that can be seen, from left to right: " * 2
LARGEST_DISTANCE = 0.05
"""Between unit vectors: in bfloat16 another shape of batch moves them by up to a fifth of this."""


def refuse_batch_dependence(encoder: DualEncoder, variants: Sequence[str]) -> None:
    """Raise UserError where a short string beside long ones is another vector than among its like.

    Padded to the longest string of a batch, SigLIP's models fall to a few per cent, and nothing else
    tells.
    """
    among_its_like = encoder.encode_texts([SHORT] * BLOCK, variants)
    beside_long_ones = encoder.encode_texts([SHORT] + [LONG] * (BLOCK - 1), variants)
    for variant in variants:
        distance = float((among_its_like[variant][0] - beside_long_ones[variant][0]).norm())
        # So written that a distance that is no number is refused too.
        if not distance <= LARGEST_DISTANCE:
            raise UserError(
                f"the encoder {encoder.name} gives {SHORT!r} another vector beside longer strings "
                f"than without them ({distance:.2f} apart); pad all strings to one fixed length, or "
                "mask the padding, as the model was trained"
            )
