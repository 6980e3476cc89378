"""EfficientNet as one widely copied implementation names its weights (_conv_stem, _blocks.0, …), under timm's names."""

import re
from collections.abc import Mapping

from torch import Tensor

from rins_mm.weights.names import renamed

MARK = "_conv_stem.weight"
"""A name that such checkpoints have, and timm's have not."""

OUTSIDE = (
    (r"_conv_stem\.", "conv_stem."),
    (r"_bn0\.", "bn1."),
    (r"_conv_head\.", "conv_head."),
    (r"_bn1\.", "bn2."),
    (r"_fc\.", "classifier."),
)
WIDENING = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip
"""Parts of a block that widens its vectors first."""
PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Parts of one that does not."""


def timm_names(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under timm's names, which count blocks anew in each stage."""
    stages = _stages(theirs)
    found: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        block = re.fullmatch(r"_blocks\.(\d+)\.([^.]+)\.(.+)", name)
        if block is None or int(block[1]) not in stages:
            found.update(renamed({name: tensor}, OUTSIDE))
            continue
        number, part, ending = int(block[1]), block[2], block[3]
        parts = WIDENING if f"_blocks.{number}._expand_conv.weight" in theirs else PLAIN
        found[f"blocks.{stages[number]}.{parts.get(part, part)}.{ending}"] = tensor
    return found


def _stages(theirs: Mapping[str, Tensor]) -> dict[int, str]:
    """The stage and the place in it of each block: a stage begins where the number of channels changes."""
    found: dict[int, str] = {}
    stage, place, before = -1, 0, -1
    while (weight := theirs.get(f"_blocks.{len(found)}._project_conv.weight")) is not None:
        channels = weight.shape[0]
        stage, place = (stage, place + 1) if channels == before else (stage + 1, 0)
        found[len(found)] = f"{stage}.{place}"
        before = channels
    return found
